"""The public views of a snapshot: their columns, types and meaning. docs/views.md is written from here.

A view only ever gains columns; one that changes its meaning gets a new name. Every view is a folder of Parquet files
with the same columns. NULL is absent: ``probe_gaps`` or ``case_failures`` may say why. Times are UTC.
"""

from dataclasses import dataclass

VIEWS_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: its type is DuckDB's name of it."""

    name: str
    type: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A view: what one row of it is, and its columns in order."""

    name: str
    one_row: str
    columns: tuple[Column, ...]


def _columns(text: str) -> tuple[Column, ...]:
    """Return a column per line of ``name | type | meaning``."""
    lines = filter(None, map(str.strip, text.splitlines()))
    parts = [[part.strip() for part in line.split("|")] for line in lines]
    return tuple(Column(name=name, type=kind, meaning=meaning) for name, kind, meaning in parts)


def _estimate(name: str, meaning: str) -> str:
    """Return the three columns of a value with its interval."""
    return "\n".join(
        f"{name}{suffix} | DOUBLE | {text}"
        for suffix, text in (("", meaning), ("_low", "lower end of its interval"), ("_high", "upper end"))
    )


_RUN_KEYS = """
run_id | VARCHAR | the run
run_number | BIGINT | the run's number in this snapshot: join by it, which is faster than by run_id
device_id | VARCHAR | the device that ran it
source | VARCHAR | native: weighed in by the agent; browser; external: somebody's published figures
"""

DEVICES = View(
    name="devices",
    one_row="a device, described by its newest run",
    columns=_columns(
        """
        device_id | VARCHAR | random, made at the first start of the agent; of an external device a hash of its name
        source | VARCHAR | native: weighed in by the agent; browser; external: somebody's published figures
        run_id | VARCHAR | its newest run, newest by the device's own count
        run_number | BIGINT | this run's number in this snapshot: join by it, which is faster than by run_id
        run_count | BIGINT | how often it ran
        last_receive_time | TIMESTAMP | when the newest run arrived
        hardware_id | VARCHAR | its row in `hardware`; NULL for an external device
        name | VARCHAR | the processor's model, or how the source calls an external device
        form_factor | VARCHAR | desktop, laptop, phone, ...
        os_family | VARCHAR | linux, windows, macos, android, ...
        os_version | VARCHAR | as the system tells it
        cpu_model | VARCHAR | processor
        cpu_architecture | VARCHAR | x86_64, arm64, ...
        physical_core_count | INTEGER | cores
        logical_core_count | INTEGER | hardware threads
        memory_total_bytes | BIGINT | main memory
        memory_available_bytes | BIGINT | of it free when the newest run began
        read_bandwidth_bytes_per_second | DOUBLE | main memory's, measured; never from a data sheet
        storage_free_bytes | BIGINT | where models would be kept
        accelerator_kind | VARCHAR | of the largest accelerator: gpu, integrated_gpu, npu; none: looked, and found none
        accelerator_model | VARCHAR | its name
        accelerator_memory_bytes | BIGINT | its own memory; NULL where it shares main memory
        disturbed | BOOLEAN | whether something casts doubt on the newest run
        chrome_built_in_ai | BOOLEAN | would Chrome's built-in model be offered? NULL where a fact is missing
        copilot_plus_pc | BOOLEAN | is it a Copilot+ PC? NULL where a fact is missing
        android_performance_class | INTEGER | Android media performance class, 0 for none; NULL elsewhere or not known
        gate_gaps | VARCHAR[] | why a gate is NULL, or on what its answer rests
        gates_version | VARCHAR | version of the rules of the gates
        """
    ),
)

RUNS = View(
    name="runs",
    one_row="one execution of a suite on a device, as the aggregator stored it",
    columns=_columns(
        """
        run_id | VARCHAR | UUIDv7
        run_number | BIGINT | its number in this snapshot, from 1 in the order of arrival
        device_id | VARCHAR | the device that ran it
        sequence | BIGINT | the device's own count of its runs
        receive_time | TIMESTAMP | by the aggregator's clock
        observe_time | TIMESTAMP | by the device's clock
        elapsed_seconds | DOUBLE | how long it took
        source | VARCHAR | native, browser or external
        schema_version | INTEGER | of the contract
        agent_version | VARCHAR | program that ran it
        consent_version | INTEGER | what its holder agreed to
        suite | VARCHAR | quick, standard, ...
        suite_version | INTEGER | version of the suite
        suite_sha256 | VARCHAR | of its data
        hardware_id | VARCHAR | its row in `hardware`
        attempt_count | INTEGER | how often it was sent
        send_time | TIMESTAMP | when it was sent last
        spool_dropped_count | BIGINT | runs that this device has lost so far
        spool_quarantined_count | BIGINT | runs that this device could not read back so far
        memory_available_bytes | BIGINT | free when it began
        read_bandwidth_bytes_per_second | DOUBLE | of main memory, all threads
        single_thread_read_bandwidth_bytes_per_second | DOUBLE | of main memory, one thread
        storage_free_bytes | BIGINT | where models would be kept
        accelerator_memory_available_bytes | BIGINT[] | in the order of the accelerators in `hardware`
        before | STRUCT | conditions before it
        after | STRUCT | conditions after it
        run_sha256 | VARCHAR | of its bytes as they came
        """
    ),
)

MEASUREMENTS = View(
    name="measurements",
    one_row="one phase at one length within a case of a run",
    columns=_columns(
        _RUN_KEYS
        + """
        ord | INTEGER | its place in the run
        model | VARCHAR | name of the architecture; of an external row the model
        kind | VARCHAR | layer_probe: some layers were run; full_model: all; external: published by somebody
        scheme | VARCHAR | how weights are stored and multiplied; of an external row its quantization
        runtime | VARCHAR | onnxruntime, or what the source names
        requested_execution_provider | VARCHAR | asked for
        execution_provider | VARCHAR | the one that ran
        threads | INTEGER | threads of the processor
        phase | VARCHAR | prefill or decode
        token_count | INTEGER | tokens in one step
        context_depth | INTEGER | tokens in the KV cache before it
        sample_count | INTEGER | timed repetitions of the layers, or of the full model
        median_seconds | DOUBLE | median of these: of a layer probe the time of its layers, else of the whole model
        tokens_per_second | DOUBLE | of a full model; NULL for a layer probe, whose rate is an estimate
        peak_memory_bytes | BIGINT | of the measuring process
        output_correlation | DOUBLE | with the outputs of the processor
        output_relative_rms | DOUBLE | difference from these outputs
        probe_layers | INTEGER | layers that were run
        short_probe_layers | INTEGER | layers of the shorter probe
        head_columns | INTEGER | columns of the output head that were run
        layers_graph_sha256 | VARCHAR | of the graph
        short_layers_graph_sha256 | VARCHAR | of the graph
        head_graph_sha256 | VARCHAR | of the graph
        architecture | STRUCT | the whole shape; NULL for an external row
        """
    ),
)

ESTIMATES = View(
    name="estimates",
    one_row="what one reference model takes and gives on a device, by one run",
    columns=_columns(
        _RUN_KEYS
        + """
        size_class | VARCHAR | class that the model stands for
        architecture | VARCHAR | the reference model
        architecture_kind | VARCHAR | decoder or encoder
        scheme | VARCHAR | how weights are stored and multiplied
        execution_provider | VARCHAR | back end
        runtime | VARCHAR | onnxruntime, or what the source names
        threads | INTEGER | threads of the processor; NULL where not told
        """
        + _estimate("decode_tokens_per_second", "rate of one token after another; NULL for an encoder or where unknown")
        + "\n"
        + _estimate("prefill_tokens_per_second", "rate over the prompt")
        + "\n"
        + _estimate("time_to_first_token_seconds", "for the prompt of the reference workload; NULL for an encoder")
        + "\n"
        + _estimate("latency_seconds", "of one input of an encoder; NULL for a decoder")
        + """
        memory_bytes | BIGINT | in use while it runs
        memory_available_bytes | BIGINT | free in the memory that the execution provider uses; NULL where not known
        download_bytes | BIGINT | what a user downloads
        bytes_read_per_token | BIGINT | weights that each decoded token reads; NULL where not known
        basis | VARCHAR | measured, layer_probe, interpolated, formula or neighbours
        counts | BOOLEAN | false for a program on the processor that plays a GPU: it never counts in a tier
        notes | VARCHAR[] | what a reader of these figures should know
        prompt_tokens | INTEGER | workload: prompt of the time to first token
        decode_context_depth | INTEGER | workload: tokens in the KV cache of the decode rate
        memory_context_tokens | INTEGER | workload: context of the memory
        encoder_tokens | INTEGER | workload: input of an encoder
        interval_probability | DOUBLE | how often the intervals should hold
        formula_version | VARCHAR | version of the formulas
        """
    ),
)

VERDICTS = View(
    name="verdicts",
    one_row="an estimate held against limits",
    columns=_columns(
        _RUN_KEYS
        + """
        size_class | VARCHAR | class that the model stands for
        architecture | VARCHAR | the reference model
        architecture_kind | VARCHAR | decoder or encoder
        scheme | VARCHAR | how weights are stored and multiplied
        execution_provider | VARCHAR | back end
        counts | BOOLEAN | whether it may count in a tier
        verdict | VARCHAR | comfortable, usable, too_slow or does_not_fit
        comfortable_probability | DOUBLE | that it is comfortable, as the intervals tell
        usable_probability | DOUBLE | that it is usable or better
        reasons | VARCHAR[] | what keeps it from being comfortable, then the notes of the estimate
        limits_version | VARCHAR | version of the limits
        formula_version | VARCHAR | version of the formulas
        """
    ),
)

TIERS = View(
    name="tiers",
    one_row="a device under one version of the limits, by its newest run",
    columns=_columns(
        """
        device_id | VARCHAR | the device
        run_id | VARCHAR | its newest run
        run_number | BIGINT | this run's number in this snapshot
        source | VARCHAR | native, browser or external
        tier | VARCHAR | the largest size class with a comfortable decoder; NULL where none is, or was judged
        tier_probability | DOUBLE | that this class is comfortable; NULL without a tier
        usable_tier | VARCHAR | the largest size class with a decoder that is usable or better
        scheme | VARCHAR | with which the tier is reached
        execution_provider | VARCHAR | on which the tier is reached
        limited_by | VARCHAR | what it runs out of first: memory, bandwidth or compute; NULL where nothing is judged
        limits_version | VARCHAR | version of the limits
        formula_version | VARCHAR | version of the formulas
        """
    ),
)

PLAUSIBILITY = View(
    name="plausibility",
    one_row="a measurement of the agent that is not simply plausible",
    columns=_columns(
        _RUN_KEYS
        + """
        ord | INTEGER | the measurement's place in the run
        plausibility | VARCHAR | exceeds_bandwidth, bandwidth_missing, sample_invalid, clock_suspect or unchecked
        counts | BOOLEAN | false where it is left out of estimates, verdicts and tiers; true where it is only unchecked
        plausibility_version | VARCHAR | version of the rules
        """
    ),
)

VIEWS = (DEVICES, RUNS, MEASUREMENTS, ESTIMATES, VERDICTS, TIERS, PLAUSIBILITY)
# Facts that stand behind the views, also in every snapshot; their columns are those of the store (docs/store.md).
FACTS = ("hardware", "series", "case_failures", "probe_gaps")
TABLES = (*(view.name for view in VIEWS), *FACTS)
# What weighin concludes from the facts: made anew where a formula, limits or a view changed.
JUDGEMENTS = ("devices", "estimates", "verdicts", "tiers", "plausibility")

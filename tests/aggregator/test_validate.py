"""Each rule of the contract, and the name under which a run is told that it broke it."""

from collections.abc import Callable

import example_runs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin.v1 import device_pb2, measurement_pb2, run_pb2
from weighin_aggregator.intake.validate import violations
from weighin_aggregator.limits import DEFAULT_LIMITS

Change = Callable[[run_pb2.Run], object]
KNOWN = "must be a known value"
SHORT_PROBE = "short_probe_layers: must be at least 0 and below probe_layers"
SHORT_HASH = "short_layers_graph_sha256: must be 32 bytes or empty"
NAN = float("nan")


def found(change: Change) -> list[str]:
    run = example_runs.example_run()
    change(run)
    return violations(run, DEFAULT_LIMITS)


def set_to(path: str, value: object) -> Change:
    """A change of one field; a list is entered by its index, as in ``measurements.0.series``."""

    def change(run: run_pb2.Run) -> None:
        *parents, name = path.split(".")
        message: object = run
        for parent in parents:
            message = message[int(parent)] if parent.isdigit() else getattr(message, parent)  # type: ignore[index]
        setattr(message, name, value)

    return change


def cleared(name: str) -> Change:
    return lambda run: run.ClearField(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("machine", [example_runs.LAPTOP, example_runs.SMALL_BOARD])
@pytest.mark.parametrize("seed", range(5))
def test_an_example_run_keeps_every_rule(seed: int, machine: example_runs.Machine) -> None:
    assert violations(example_runs.example_run(seed, machine), DEFAULT_LIMITS) == []


@pytest.mark.parametrize("name", ["observe_time", "elapsed", "device"])
def test_what_every_run_has_must_be_present(name: str) -> None:
    assert found(cleared(name)) == [f"{name}: must be present"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("device.form_factor", device_pb2.FORM_FACTOR_UNSPECIFIED),
        ("device.execution_providers.0.adapter", "llvmpipe (LLVM 15.0.6, 256 bits)"),
        ("device.execution_providers.0.adapter", "ANGLE (Intel, Mesa Intel(R) UHD Graphics 620, OpenGL 4.6): 1.3.239"),
        ("failures.0.reason", measurement_pb2.CASE_FAILURE_REASON_NO_DEVICE),
        ("measurements.0.output_correlation", -1.0),
        ("measurements.0.output_relative_rms", 0.0),
        ("measurements.0.case.short_probe_layers", 5),
        ("measurements.0.case.short_layers_graph_sha256", bytes(32)),
        ("measurements.0.case.architecture.sliding_window", 1),
        ("measurements.0.case.architecture.global_layer_interval", 1),
        ("measurements.0.series.1.part", measurement_pb2.SERIES_PART_SHORT_LAYERS),
        ("measurements.0.series.1.part", measurement_pb2.SERIES_PART_FULL_MODEL_TWIN),
    ],
)
def test_what_a_field_may_hold_is_taken(path: str, value: object) -> None:
    assert found(set_to(path, value)) == []


@pytest.mark.parametrize("name", ["before", "after", "probe_gaps", "failures"])
def test_what_a_run_may_lack_may_be_absent(name: str) -> None:
    assert found(cleared(name)) == []


def test_a_device_of_which_nothing_could_be_read_is_valid() -> None:
    assert found(lambda run: run.device.Clear()) == []


def test_a_run_in_which_every_case_failed_is_valid() -> None:
    assert found(cleared("measurements")) == []


def test_a_run_of_nothing_at_all_is_not() -> None:
    def empty(run: run_pb2.Run) -> None:
        del run.measurements[:]
        del run.failures[:]

    assert found(empty) == ["measurements: must not be empty when there are no failures"]


@pytest.mark.parametrize(
    ("path", "value", "violation"),
    [
        ("source", 0, f"source: {KNOWN}"),
        ("source", 99, f"source: {KNOWN}"),
        ("observe_time.seconds", 1 << 60, "observe_time: must be a valid timestamp"),
        ("elapsed.seconds", -1, "elapsed: must be a valid duration of at least 0 seconds"),
        ("agent_version", "", "agent_version: must not be empty"),
        ("suite_version", 0, "suite_version: must be at least 1"),
        ("suite_sha256", b"short", "suite_sha256: must be 32 bytes"),
        ("before.foreign_cpu_share", 1.5, "before.foreign_cpu_share: must be from 0 to 1"),
        ("after.steal_cpu_share", NAN, "after.steal_cpu_share: must be from 0 to 1"),
        ("after.power_source", 9, f"after.power_source: {KNOWN}"),
        ("before.temperature_celsius", NAN, "before.temperature_celsius: must be finite"),
        ("before.frequency_hertz", 0, "before.frequency_hertz: must be at least 1"),
        ("before.canary.matrix_flops", 0.0, "before.canary.matrix_flops: must be finite and above 0"),
        ("device.cpu.physical_core_count", 0, "device.cpu.physical_core_count: must be at least 1"),
        ("device.cpu.vendor", "", "device.cpu.vendor: must not be empty"),
        ("device.cpu.caches.0.kind", 0, f"device.cpu.caches[0].kind: {KNOWN}"),
        ("device.cpu.caches.1.size_bytes", 0, "device.cpu.caches[1].size_bytes: must be at least 1"),
        ("device.cpu.caches.1.size_bytes", 1 << 62, f"device.cpu.caches[1].size_bytes: must be at most {1 << 36}"),
        ("device.cpu.caches.0.instance_count", 1 << 30, "device.cpu.caches[0].instance_count: must be at most 65536"),
        ("device.memory.total_bytes", 0, "device.memory.total_bytes: must be at least 1"),
        (
            "device.memory.read_bandwidth_bytes_per_second",
            float("inf"),
            "device.memory.read_bandwidth_bytes_per_second: must be finite and above 0",
        ),
        ("device.storage.free_bytes", -1, "device.storage.free_bytes: must be at least 0"),
        ("device.operating_system.family", "", "device.operating_system.family: must not be empty"),
        ("device.form_factor", 99, f"device.form_factor: {KNOWN}"),
        ("device.virtualization.kind", 0, f"device.virtualization.kind: {KNOWN}"),
        ("device.accelerators.0.kind", 0, f"device.accelerators[0].kind: {KNOWN}"),
        ("device.runtime_versions.onnx", "", "device.runtime_versions.onnx: must not be empty"),
        (
            "device.execution_providers.0.reason",
            "why",
            "device.execution_providers[0].reason: must be empty when the execution provider is measured",
        ),
        (
            "device.execution_providers.1.reason",
            "",
            "device.execution_providers[1].reason: must say why the execution provider is not measured",
        ),
        ("device.execution_providers.0.adapter", "", "device.execution_providers[0].adapter: must not be empty"),
        (
            "device.execution_providers.0.adapter",
            "x" * 257,
            "device.execution_providers[0].adapter: must have at most 256 bytes",
        ),
        ("probe_gaps.0.fact", "", "probe_gaps[0].fact: must not be empty"),
        ("probe_gaps.0.reason", 0, f"probe_gaps[0].reason: {KNOWN}"),
        ("probe_gaps.0.detail", "two\nlines", "probe_gaps[0].detail: may only hold printable ASCII"),
        ("failures.0.reason", 0, f"failures[0].reason: {KNOWN}"),
        ("failures.0.case.threads", 0, "failures[0].case.threads: must be at least 1"),
        ("measurements.2.phase", 0, f"measurements[2].phase: {KNOWN}"),
        ("measurements.2.token_count", 2, "measurements[2].token_count: must be 1 in decode"),
        ("measurements.0.context_depth", 7, "measurements[0].context_depth: must be 0 in prefill"),
        ("measurements.0.peak_memory_bytes", 0, "measurements[0].peak_memory_bytes: must be at least 1"),
        ("measurements.0.execution_provider", "", "measurements[0].execution_provider: must not be empty"),
        ("measurements.0.case.scheme", 0, f"measurements[0].case.scheme: {KNOWN}"),
        ("measurements.0.case.architecture.kind", 0, f"measurements[0].case.architecture.kind: {KNOWN}"),
        ("measurements.0.case.architecture.hidden", 0, "measurements[0].case.architecture.hidden: must be at least 1"),
        ("failures.0.case.short_layers_graph_sha256", b"x", f"failures[0].case.{SHORT_HASH}"),
        ("failures.0.case.short_probe_layers", 2, f"failures[0].case.{SHORT_PROBE}"),
        ("measurements.0.output_correlation", 1.5, "measurements[0].output_correlation: must be from -1 to 1"),
        ("measurements.0.output_correlation", NAN, "measurements[0].output_correlation: must be from -1 to 1"),
        (
            "measurements.0.output_relative_rms",
            -0.1,
            "measurements[0].output_relative_rms: must be finite and at least 0",
        ),
        (
            "measurements.0.output_relative_rms",
            float("inf"),
            "measurements[0].output_relative_rms: must be finite and at least 0",
        ),
        (
            "measurements.0.case.architecture.feed_forward",
            0,
            f"measurements[0].case.architecture.feed_forward: {KNOWN}",
        ),
        (
            "measurements.0.case.architecture.sliding_window",
            0,
            "measurements[0].case.architecture.sliding_window: must be at least 1",
        ),
        (
            "failures.0.case.architecture.global_layer_interval",
            0,
            "failures[0].case.architecture.global_layer_interval: must be at least 1",
        ),
        ("measurements.0.case.short_probe_layers", 6, f"measurements[0].case.{SHORT_PROBE}"),
        ("measurements.0.case.short_probe_layers", -1, f"measurements[0].case.{SHORT_PROBE}"),
        ("measurements.0.case.short_layers_graph_sha256", b"x", f"measurements[0].case.{SHORT_HASH}"),
        (
            "measurements.0.case.probe_layers",
            7,
            "measurements[0].case.probe_layers: must be at least 1 and at most the layers of the architecture",
        ),
        (
            "measurements.2.case.head_columns",
            1 << 20,
            "measurements[2].case.head_columns: must be at least 0 and at most the vocabulary of the architecture",
        ),
        ("measurements.0.case.layers_graph_sha256", b"", "measurements[0].case.layers_graph_sha256: must be 32 bytes"),
        (
            "measurements.0.case.head_graph_sha256",
            b"x",
            "measurements[0].case.head_graph_sha256: must be 32 bytes or empty",
        ),
        ("measurements.0.series.1.part", 0, f"measurements[0].series[1].part: {KNOWN}"),
        ("measurements.0.series.1.round", -1, "measurements[0].series[1].round: must be at least 0"),
        ("measurements.0.series.1.phase", 5, f"measurements[0].series[1].phase: {KNOWN}"),
        ("measurements.0.series.1.token_count", 0, "measurements[0].series[1].token_count: must be at least 1"),
        ("measurements.0.series.1.context_depth", -1, "measurements[0].series[1].context_depth: must be at least 0"),
        ("measurements.0.series.1.clock", 0, f"measurements[0].series[1].clock: {KNOWN}"),
        (
            "measurements.0.series.1.clock",
            measurement_pb2.CLOCK_KIND_THREAD_CPU,
            "measurements[0].series[1].clock: must be the wall clock when a case has more than one thread",
        ),
        (
            "measurements.0.series.1.foreign_cpu_share",
            -0.1,
            "measurements[0].series[1].foreign_cpu_share: must be from 0 to 1",
        ),
    ],
)
def test_a_broken_rule_is_named_with_its_field(path: str, value: object, violation: str) -> None:
    assert found(set_to(path, value)) == [violation]


def test_lists_that_are_too_long_are_named_before_anything_inside_them() -> None:
    def fill(run: run_pb2.Run) -> None:
        run.source = run_pb2.SOURCE_UNSPECIFIED
        run.device.accelerators.extend([device_pb2.Accelerator()] * 17)
        run.measurements.extend([measurement_pb2.Measurement()] * 1_024)

    assert found(fill) == [
        "measurements: must have at most 1024 entries",
        "device.accelerators: must have at most 16 entries",
    ]


@pytest.mark.parametrize(("samples", "refused"), [(65_536, False), (65_537, True)])
def test_the_number_of_samples_is_bounded_exactly(samples: int, refused: bool) -> None:
    def fill(run: run_pb2.Run) -> None:
        del run.measurements[1:]
        del run.measurements[0].series[1:]
        run.measurements[0].series[0].sample_seconds[:] = [0.1] * samples

    assert bool(found(fill)) is refused


@pytest.mark.parametrize(
    "name",
    [
        "AMD Ryzen 7 7840HS w/ Radeon 780M Graphics",
        "Intel(R) Core(TM) i7-8550U CPU @ 1.80GHz",
        "Intel(R) Pentium(R) CPU G3258@3.20GHz",
        "Apple M2 Pro",
        "Cortex-A76 + Cortex-A55",
        "x" * 128,
    ],
)
def test_names_of_real_processors_pass(name: str) -> None:
    assert found(set_to("device.cpu.model", name)) == []


@pytest.mark.parametrize(
    "name",
    [
        "x" * 129,
        "<b>",
        "a;b",
        "über",
        "line\n",
        "CPU of 00-1A-2B-3C-4D-5E",
        "123e4567-e89b-12d3-a456-426614174000",
        "SN PF3ABCDE12345678",
        "SN 12345678901234",
        "board 0123456789ab",
        "CPU of alice@alices-laptop",
        "CPU in /home/alice/src",
        "/dev",
        "CPU at 192.168.1.7",
    ],
)
def test_free_text_that_is_long_strange_or_tells_one_machine_from_another_does_not(name: str) -> None:
    (violation,) = found(set_to("device.cpu.model", name))
    assert violation.startswith("device.cpu.model: ")
    assert name not in violation


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("device.accelerators.0.driver_version", "31.0.101.4502"),
        ("device.accelerators.0.driver_version", "10.18.10.241"),
        ("device.operating_system.version", "10.0.19.45"),
        ("device.operating_system.kernel", "6.8.0-45-generic"),
        ("device.operating_system.kernel", "5.15.153.1-microsoft-standard-WSL2"),
        ("device.operating_system.name", "Debian GNU/Linux"),
        ("device.runtime_versions.onnxruntime", "1.31.0.dev20251021001"),
        ("agent_version", "0.1.1.1"),
    ],
)
def test_versions_of_four_parts_and_other_real_texts_pass(path: str, text: str) -> None:
    assert found(set_to(path, text)) == []


@pytest.mark.parametrize("kernel", ["alice@alices-laptop", "5.15 /home/alice/src", "5.15-PF3ABCDE12345678"])
def test_a_version_may_not_name_a_machine_or_its_user(kernel: str) -> None:
    assert len(found(set_to("device.operating_system.kernel", kernel))) == 1


@pytest.mark.parametrize(
    "detail",
    [
        "exit code -9; see 4:33",
        "",
        "x" * 256,
        "read and/or write: n/a, 20 GB/s",
        "needs 123456789012345 bytes",
        "sum 5.1.2.3.4, driver 535.54.3.1",
        "at 0x00007f12ab34cd56 in QGemm4BitKernelAvx512",
        "needs about 3.5 GiB, 2.0 GiB may be used",
    ],
)
def test_a_line_for_a_person_may_be_any_printable_ascii(detail: str) -> None:
    assert found(set_to("failures.0.detail", detail)) == []


@pytest.mark.parametrize(
    "detail",
    [
        "x" * 257,
        "\u00fcber",
        "\x1b[31m",
        "on 00:1a:2b:3c:4d:5e",
        "/home/alice/secret on alices-laptop",
        "cannot read '/home/alice/secret'",
        "file=/etc/machine-id",
        "C:\\Users\\alice",
        "~/src",
        "from 192.168.1.7.",
        "by alice@alices-laptop",
        "board PF3ABCDE12345678",
    ],
)
def test_a_line_for_a_person_may_not_be_long_or_strange_or_name_a_machine(detail: str) -> None:
    assert len(found(set_to("failures.0.detail", detail))) == 1


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_no_sample_is_ever_refused(samples: list[float]) -> None:
    def fill(run: run_pb2.Run) -> None:
        run.measurements[0].series[0].sample_seconds[:] = samples

    assert found(fill) == []

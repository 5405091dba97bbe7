"""Realistic runs for tests: what the quick suite would send from a machine of a stated speed.

Timings follow from the machine's memory bandwidth and arithmetic rate plus a few percent of seeded noise, so that a
faster example machine gives a faster run and one seed always gives the same run.
"""

import hashlib
import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from weighin.v1 import device_pb2, measurement_pb2, run_pb2, services_pb2

OBSERVE_TIME_SECONDS = 1_770_000_000  # 2026-02-02 02:40:00 UTC
DEVICE_ID = "0b6f1c1e-6a51-4d0c-9d7e-2f4f5a7c9b10"
OTHER_DEVICE_ID = "f3c0a6f4-2b35-4a43-8c8a-8d5f0c1e7a22"

_GIB = 1 << 30
_ROUNDS = 6
_DECODE_SAMPLES = 8
_PREFILL_SAMPLES = 3
_CALL_SECONDS = 30e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A reference architecture, the scheme it is measured in, and the part of it that runs."""

    name: str
    kind: measurement_pb2.ArchitectureKind.ValueType
    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied_embeddings: bool
    scheme: measurement_pb2.Scheme.ValueType
    probe_layers: int
    head_columns: int

    @property
    def is_decoder(self) -> bool:
        return self.kind == measurement_pb2.ARCHITECTURE_KIND_DECODER

    @property
    def feed_forward(self) -> measurement_pb2.FeedForward.ValueType:
        return measurement_pb2.FEED_FORWARD_SWIGLU if self.is_decoder else measurement_pb2.FEED_FORWARD_GELU

    @property
    def layer_weights(self) -> int:
        keys = self.kv_heads * self.head_dim
        attention = 2 * self.hidden * self.heads * self.head_dim + 2 * self.hidden * keys
        return attention + (3 if self.is_decoder else 2) * self.hidden * self.ffn


ENCODER = measurement_pb2.ARCHITECTURE_KIND_ENCODER
DECODER = measurement_pb2.ARCHITECTURE_KIND_DECODER
INT4 = measurement_pb2.SCHEME_INT4_BLOCK32
INT8 = measurement_pb2.SCHEME_INT8_DYNAMIC


def _shape(
    name: str, kind: measurement_pb2.ArchitectureKind.ValueType, numbers: tuple[int, ...], tied: bool, *ran: int
) -> Shape:
    layers, hidden, ffn, heads, kv_heads, head_dim, vocab = numbers
    return Shape(
        name=name,
        kind=kind,
        layers=layers,
        hidden=hidden,
        ffn=ffn,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=vocab,
        tied_embeddings=tied,
        scheme=INT8 if kind == ENCODER else INT4,
        probe_layers=ran[0],
        head_columns=ran[1],
    )


SHAPES = (
    _shape("DistilBERT", ENCODER, (6, 768, 3072, 12, 12, 64, 30522), True, 6, 0),
    _shape("SmolLM2-135M", DECODER, (30, 576, 1536, 9, 3, 64, 49152), True, 22, 49152),
    _shape("Qwen2.5-0.5B", DECODER, (24, 896, 4864, 14, 2, 64, 151936), True, 5, 57344),
    _shape("Llama-3.2-1B", DECODER, (16, 2048, 8192, 32, 8, 64, 128256), True, 2, 25600),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What an example run is measured on; change a field to get another device of a fleet."""

    cpu_model: str = "AMD Ryzen 7 7840HS w/ Radeon 780M Graphics"
    core_count: int = 8
    read_bandwidth_bytes_per_second: float = 40e9
    multiply_adds_per_second: float = 200e9
    memory_total_bytes: int = 32 * _GIB
    memory_available_bytes: int = 20 * _GIB
    accelerator_model: str | None = "AMD Radeon 780M Graphics"
    form_factor: device_pb2.FormFactor.ValueType = device_pb2.FORM_FACTOR_LAPTOP


LAPTOP = Machine()
SMALL_BOARD = Machine(
    cpu_model="Cortex-A76",
    core_count=4,
    read_bandwidth_bytes_per_second=9e9,
    multiply_adds_per_second=25e9,
    memory_total_bytes=4 * _GIB,
    memory_available_bytes=3 * _GIB,
    accelerator_model=None,
    form_factor=device_pb2.FORM_FACTOR_SINGLE_BOARD,
)


def example_run(seed: int = 1, machine: Machine = LAPTOP) -> run_pb2.Run:
    """A valid run of the quick suite: four cases, their measurements with all series, one failure and one probe gap."""
    noise = random.Random(seed)
    run = run_pb2.Run(
        schema_version=2,
        source=run_pb2.SOURCE_NATIVE,
        agent_version="0.1.0",
        consent_version=1,
        suite="quick",
        suite_version=1,
        suite_sha256=hashlib.sha256(b"quick 1").digest(),
        device=_device(machine),
        before=_conditions(machine, noise),
        after=_conditions(machine, noise),
    )
    run.observe_time.FromSeconds(OBSERVE_TIME_SECONDS + seed)
    run.elapsed.FromMilliseconds(41_500)
    run.probe_gaps.add(
        fact="conditions.temperature_celsius",
        reason=device_pb2.PROBE_GAP_REASON_NOT_OFFERED,
        detail="the system lists no processor sensor",
    )
    for shape in SHAPES:
        run.measurements.extend(_measurements(shape, machine, noise))
    run.failures.add(
        case=_case(SHAPES[3], threads=1),
        reason=measurement_pb2.CASE_FAILURE_REASON_TIMED_OUT,
        detail="no answer within 60 s",
    )
    return run


def anchored_run(factor: float) -> run_pb2.Run:
    """``example_run`` with the full model of the smallest decoder, so many times as slow as its layers let expect."""
    run = example_run(1)
    shape = SHAPES[1]
    noise = random.Random(7)
    probes = [one for one in run.measurements if one.case.architecture.name == shape.name]
    for probe in probes:
        anchor = run.measurements.add()
        anchor.CopyFrom(probe)
        anchor.case.probe_layers, anchor.case.head_columns = shape.layers, shape.vocab
        del anchor.series[:]
        weights = shape.layers * shape.layer_weights
        head = _seconds(shape.vocab * shape.hidden, 1, shape.scheme, LAPTOP)
        # The cost of a call is in every series: of the layers it counts L/m times, of the whole head once.
        call = (shape.layers / shape.probe_layers - 1) * _CALL_SECONDS
        seconds = factor * (_seconds(weights, probe.token_count, shape.scheme, LAPTOP) + call + head)
        for series in probe.series:
            if series.part == measurement_pb2.SERIES_PART_LAYERS:
                added = anchor.series.add()
                added.CopyFrom(series)
                added.part = measurement_pb2.SERIES_PART_FULL_MODEL
                added.sample_seconds[:] = [seconds * noise.uniform(1.0, 1.06) for _ in series.sample_seconds]
    return run


def uuid7(unix_milliseconds: int, number: int) -> str:
    """A UUIDv7 in lower case, made from a time and a number instead of chance."""
    value = unix_milliseconds << 80 | 7 << 76 | 2 << 62 | number & ((1 << 62) - 1)
    return str(uuid.UUID(int=value))


def run_id(seed: int) -> str:
    """The run_id that belongs to ``example_run(seed)``."""
    return uuid7(OBSERVE_TIME_SECONDS * 1000, seed)


def envelope(run: run_pb2.Run | bytes, run_id: str, sequence: int = 1) -> services_pb2.RunEnvelope:
    """A run on its way, with the hash of its bytes; ``run`` may be bytes that are no run at all."""
    data = run if isinstance(run, bytes) else run.SerializeToString()
    return services_pb2.RunEnvelope(
        run_id=run_id, run=data, run_sha256=hashlib.sha256(data).digest(), sequence=sequence
    )


def example_envelope(seed: int = 1, machine: Machine = LAPTOP) -> services_pb2.RunEnvelope:
    """``example_run(seed)`` on its way, with its own run_id and sequence."""
    return envelope(example_run(seed, machine), run_id(seed), sequence=max(seed, 1))


def request(envelopes: Iterable[services_pb2.RunEnvelope]) -> services_pb2.SubmitRunsRequest:
    """One call with the given envelopes."""
    message = services_pb2.SubmitRunsRequest(envelopes=envelopes)
    message.send_time.FromSeconds(OBSERVE_TIME_SECONDS + 60)
    return message


def _device(machine: Machine) -> device_pb2.Device:
    device = device_pb2.Device(
        cpu=device_pb2.Cpu(
            model=machine.cpu_model,
            vendor="AuthenticAMD",
            architecture="x86_64",
            physical_core_count=machine.core_count,
            logical_core_count=2 * machine.core_count,
            instruction_sets=["avx", "avx2", "avx512_vnni", "fma"],
            caches=[
                device_pb2.Cache(
                    level=1, kind=device_pb2.CACHE_KIND_DATA, size_bytes=32 << 10, instance_count=machine.core_count
                ),
                device_pb2.Cache(level=3, kind=device_pb2.CACHE_KIND_UNIFIED, size_bytes=16 << 20, instance_count=1),
            ],
            max_frequency_hertz=5_137_000_000,
        ),
        memory=device_pb2.Memory(
            total_bytes=machine.memory_total_bytes,
            available_bytes=machine.memory_available_bytes,
            read_bandwidth_bytes_per_second=machine.read_bandwidth_bytes_per_second,
            single_thread_read_bandwidth_bytes_per_second=machine.read_bandwidth_bytes_per_second / 2,
        ),
        storage=device_pb2.Storage(free_bytes=3000 * (64 << 20)),
        operating_system=device_pb2.OperatingSystem(
            family="linux", name="Debian GNU/Linux", version="12", kernel="6.1.0-18-amd64"
        ),
        virtualization=device_pb2.Virtualization(kind=device_pb2.VIRTUALIZATION_KIND_NONE),
        execution_providers=[
            device_pb2.ExecutionProvider(name="cpu", measured=True),
            device_pb2.ExecutionProvider(name="azure", measured=False, reason="runs on a remote service"),
        ],
        runtime_versions=device_pb2.RuntimeVersions(
            python="CPython 3.11.7", onnxruntime="1.31.0", onnx="1.23.0", numpy="2.4.6"
        ),
        form_factor=machine.form_factor,
    )
    if machine.accelerator_model is not None:
        device.accelerators.add(
            kind=device_pb2.ACCELERATOR_KIND_GPU,
            vendor="AMD",
            model=machine.accelerator_model,
            driver_version="6.1.0",
            shares_main_memory=True,
        )
    return device


def _conditions(machine: Machine, noise: random.Random) -> run_pb2.Conditions:
    return run_pb2.Conditions(
        memory_available_bytes=machine.memory_available_bytes,
        foreign_cpu_share=noise.uniform(0, 0.02),
        steal_cpu_share=0.0,
        power_source=run_pb2.POWER_SOURCE_MAINS,
        frequency_hertz=4_200_000_000,
        canary=run_pb2.Canary(
            matrix_flops=2 * machine.multiply_adds_per_second,
            read_bytes_per_second=machine.read_bandwidth_bytes_per_second,
        ),
    )


def _case(shape: Shape, threads: int) -> measurement_pb2.Case:
    return measurement_pb2.Case(
        architecture=measurement_pb2.Architecture(
            name=shape.name,
            kind=shape.kind,
            layers=shape.layers,
            hidden=shape.hidden,
            ffn=shape.ffn,
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            vocab=shape.vocab,
            tied_embeddings=shape.tied_embeddings,
            feed_forward=shape.feed_forward,
        ),
        scheme=shape.scheme,
        execution_provider="cpu",
        threads=threads,
        probe_layers=shape.probe_layers,
        head_columns=shape.head_columns,
        layers_graph_sha256=hashlib.sha256(f"layers of {shape.name}".encode()).digest(),
        head_graph_sha256=hashlib.sha256(f"head of {shape.name}".encode()).digest() if shape.is_decoder else b"",
    )


def _measurements(shape: Shape, machine: Machine, noise: random.Random) -> list[measurement_pb2.Measurement]:
    if not shape.is_decoder:
        return [_measurement(shape, machine, noise, measurement_pb2.PHASE_PREFILL, length, 0) for length in (32, 128)]
    return [
        *(_measurement(shape, machine, noise, measurement_pb2.PHASE_DECODE, 1, depth) for depth in (16, 960)),
        *(_measurement(shape, machine, noise, measurement_pb2.PHASE_PREFILL, length, 0) for length in (32, 128, 512)),
    ]


def _measurement(
    shape: Shape,
    machine: Machine,
    noise: random.Random,
    phase: measurement_pb2.Phase.ValueType,
    token_count: int,
    context_depth: int,
) -> measurement_pb2.Measurement:
    measurement = measurement_pb2.Measurement(
        case=_case(shape, threads=machine.core_count),
        execution_provider="cpu",
        phase=phase,
        token_count=token_count,
        context_depth=context_depth,
        peak_memory_bytes=230 << 20,
    )
    samples = _DECODE_SAMPLES if phase == measurement_pb2.PHASE_DECODE else _PREFILL_SAMPLES
    parts = [(measurement_pb2.SERIES_PART_LAYERS, shape.probe_layers * shape.layer_weights, token_count)]
    if shape.head_columns:
        # Only the last token of a prompt needs the head, so a head slice always processes one token.
        parts.append((measurement_pb2.SERIES_PART_HEAD, shape.head_columns * shape.hidden, 1))
    for round_number in range(_ROUNDS):
        for part, weights, tokens in parts:
            seconds = _seconds(weights, tokens, shape.scheme, machine)
            measurement.series.add(
                part=part,
                round=round_number,
                phase=phase,
                token_count=tokens,
                context_depth=context_depth,
                clock=measurement_pb2.CLOCK_KIND_WALL,
                sample_seconds=[seconds * noise.uniform(1.0, 1.06) for _ in range(samples)],
                foreign_cpu_share=noise.uniform(0, 0.02),
            )
    return measurement


def _seconds(weights: int, tokens: int, scheme: measurement_pb2.Scheme.ValueType, machine: Machine) -> float:
    """The slower of reading the weights once and multiplying them with every token, plus the cost of a call."""
    bytes_per_weight = 0.625 if scheme == INT4 else 1.0
    read = weights * bytes_per_weight / (0.8 * machine.read_bandwidth_bytes_per_second)
    return max(read, weights * tokens / machine.multiply_adds_per_second) + _CALL_SECONDS

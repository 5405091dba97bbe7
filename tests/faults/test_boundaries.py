"""Compression bombs, deep nesting, and messages at a bound, one below and one above: the documented answer to each."""

from collections.abc import Callable, Iterator
from pathlib import Path

import aggregator_process
import example_runs
import grpc
import psutil
import pytest
from aggregator_process import Client, new_run_id, outcomes, refusal

from weighin.v1 import measurement_pb2, run_pb2, services_pb2
from weighin_aggregator.limits import DEFAULT_LIMITS

STORED = [("STORED", "")]
INVALID = [("REJECTED", "FIELD_INVALID")]
# An unknown group within an unknown group: field 100 begins, field 100 ends.
GROUP_START, GROUP_END = b"\xa3\x06", b"\xa4\x06"
# What protobuf itself follows.
NESTING = 100


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("boundaries")
    with aggregator_process.serving(folder / "data", folder / "log") as server:
        yield server.address


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with aggregator_process.client(address) as client:
        yield client


def small_run() -> run_pb2.Run:
    run = example_runs.example_run()
    del run.measurements[1:]
    del run.measurements[0].series[1:]
    return run


def with_measurements(count: int) -> run_pb2.Run:
    run = small_run()
    run.measurements.extend([run.measurements[0]] * (count - 1))
    return run


def with_samples(count: int) -> run_pb2.Run:
    """In two series of several, so that no bound on one of them is met first; zeroes are facts and travel packed."""
    run = small_run()
    series = run.measurements[0].series
    series[0].sample_seconds[:] = [0.0] * (count // 2)
    series.add().CopyFrom(series[0])
    series[1].sample_seconds[:] = [0.0] * (count - count // 2)
    return run


def with_failures(count: int) -> run_pb2.Run:
    run = small_run()
    failure = run.failures[0]
    failure.detail = ""
    failure.case.ClearField("layers_graph_sha256")
    failure.case.ClearField("head_graph_sha256")
    run.failures.extend([failure] * (count - 1))
    return run


def with_accelerators(count: int) -> run_pb2.Run:
    run = small_run()
    run.device.accelerators.extend([run.device.accelerators[0]] * (count - 1))
    return run


def with_model(characters: int) -> run_pb2.Run:
    run = small_run()
    run.device.cpu.model = "x" * characters
    return run


def with_detail(characters: int) -> run_pb2.Run:
    run = small_run()
    run.failures[0].detail = "x" * characters
    return run


BOUNDS: dict[str, tuple[Callable[[int], run_pb2.Run], int]] = {
    "measurements": (with_measurements, DEFAULT_LIMITS.measurements),
    "samples": (with_samples, DEFAULT_LIMITS.samples),
    "failures": (with_failures, DEFAULT_LIMITS.failures),
    "accelerators": (with_accelerators, DEFAULT_LIMITS.accelerators),
    "free text": (with_model, DEFAULT_LIMITS.free_text_characters),
    "detail": (with_detail, DEFAULT_LIMITS.detail_bytes),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_run_at_a_bound_is_stored_and_one_above_it_is_rejected(client: Client, name: str) -> None:
    make, bound = BOUNDS[name]
    for count, expected in ((bound - 1, STORED), (bound, STORED), (bound + 1, INVALID)):
        run = make(count)
        # A run that no call can carry meets another bound, with the same answer.
        wanted = INVALID if run.ByteSize() > DEFAULT_LIMITS.run_bytes else expected
        assert outcomes(client.submit(example_runs.envelope(run, new_run_id()))) == wanted, count


def padded(run: run_pb2.Run, size_bytes: int) -> bytes:
    """A run of this size: an unknown field makes up what it lacks."""
    data = run.SerializeToString()
    missing = size_bytes - len(data)
    # Tag 100 of wire type 2, then the length in three bytes whatever it is.
    length = missing - 5
    return data + b"\xa2\x06" + bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14]) + bytes(length)


@pytest.mark.parametrize("above", [-1, 0, 1])
def test_bytes_of_a_run_up_to_the_bound_are_read_and_one_more_is_not(client: Client, above: int) -> None:
    run = padded(small_run(), DEFAULT_LIMITS.run_bytes + above)
    assert len(run) == DEFAULT_LIMITS.run_bytes + above
    expected = INVALID if above > 0 else [("REJECTED", "UNKNOWN_FIELD")]
    assert outcomes(client.submit(example_runs.envelope(run, new_run_id()))) == expected


@pytest.mark.parametrize("above", [-1, 0, 1])
def test_a_call_up_to_the_bound_is_answered_and_one_byte_more_is_refused_without_a_wait(
    client: Client, above: int
) -> None:
    wanted = DEFAULT_LIMITS.request_bytes + above
    run = padded(small_run(), DEFAULT_LIMITS.run_bytes)
    envelopes = [example_runs.envelope(run, new_run_id()) for _ in range(wanted // (len(run) + 1_000))]
    request = example_runs.request(envelopes).SerializeToString()
    # A last envelope without a valid id makes up the size: its tag and length, and those of its run.
    rest = wanted - len(request)
    inner = rest - 4 - 4
    filler = b"\x12" + bytes([inner & 127 | 128, inner >> 7 & 127 | 128, inner >> 14]) + bytes(inner)
    size = len(filler)
    field = services_pb2.SubmitRunsRequest.DESCRIPTOR.fields_by_name["envelopes"].number << 3 | 2
    request += bytes([field, size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + filler
    assert len(request) == wanted
    if above > 0:
        with pytest.raises(grpc.RpcError) as caught:
            client.send(request)
        assert refusal(caught.value) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "", None)
        return
    answers = outcomes(client.send(request).results)
    assert answers == [("REJECTED", "UNKNOWN_FIELD")] * len(envelopes) + [("REJECTED", "RUN_ID_INVALID")]


@pytest.mark.parametrize("above", [-1, 0, 1])
def test_envelopes_up_to_the_bound_are_stored_and_one_more_refuses_the_call(client: Client, above: int) -> None:
    count = DEFAULT_LIMITS.envelopes + above
    envelopes = [example_runs.envelope(small_run(), new_run_id()) for _ in range(count)]
    if above > 0:
        with pytest.raises(grpc.RpcError) as caught:
            client.submit(*envelopes)
        assert refusal(caught.value) == (grpc.StatusCode.INVALID_ARGUMENT, "TOO_MANY_RUNS", None)
        return
    assert outcomes(client.submit(*envelopes)) == STORED * count


@pytest.mark.parametrize("above", [-1, 0, 1])
def test_nesting_is_followed_to_the_bound_and_malformed_beyond_it(client: Client, above: int) -> None:
    depth = NESTING + above
    run = small_run().SerializeToString() + GROUP_START * depth + GROUP_END * depth
    expected = [("REJECTED", "MALFORMED_RUN" if above > 0 else "UNKNOWN_FIELD")]
    assert outcomes(client.submit(example_runs.envelope(run, new_run_id()))) == expected


def test_nesting_as_deep_as_a_run_may_be_long_is_malformed(client: Client) -> None:
    run = GROUP_START * (DEFAULT_LIMITS.run_bytes // 2)
    assert outcomes(client.submit(example_runs.envelope(run, new_run_id()))) == [("REJECTED", "MALFORMED_RUN")]


def test_a_compression_bomb_is_refused_without_being_unpacked(tmp_path: Path) -> None:
    with aggregator_process.serving(tmp_path / "data", tmp_path / "log") as server:
        process = psutil.Process(server.process.pid)
        with grpc.insecure_channel(server.address, compression=grpc.Compression.Gzip) as channel:
            packing = Client(channel)
            before_bytes = process.memory_info().rss
            for size_bytes in (1_000, 100 << 20):
                with pytest.raises(grpc.RpcError) as caught:
                    packing.send(bytes(size_bytes))
                assert refusal(caught.value) == (grpc.StatusCode.UNIMPLEMENTED, "", None)
            assert process.memory_info().rss - before_bytes < 50 << 20
        with aggregator_process.client(server.address) as client:
            assert list(client.send(b"").results) == []


def test_metadata_over_its_bound_is_refused_and_the_connection_lives(client: Client) -> None:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = client.channel.unary_unary(aggregator_process.SUBMIT_RUNS)
    device = ("weighin-device-id", example_runs.DEVICE_ID)
    assert call(b"", metadata=(device, ("x", "y" * (DEFAULT_LIMITS.metadata_bytes // 2))), timeout=30) == b""
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", metadata=(device, ("x", "y" * (2 * DEFAULT_LIMITS.metadata_bytes))), timeout=30)
    assert refusal(caught.value)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert call(b"", metadata=(device,), timeout=30) == b""


def test_an_enum_and_a_count_at_the_ends_of_their_types_are_rejected(client: Client) -> None:
    for number in (-1, 99, (1 << 31) - 1):
        run = small_run()
        run.measurements[0].phase = measurement_pb2.Phase.ValueType(number)
        assert outcomes(client.submit(example_runs.envelope(run, new_run_id()))) == INVALID
    for count in (0, -1, -(1 << 31)):
        run = small_run()
        run.measurements[0].token_count = count
        assert outcomes(client.submit(example_runs.envelope(run, new_run_id()))) == INVALID

"""What a device is answered, over a real channel, by a real server process."""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import aggregator_process
import example_runs
import grpc
import pyarrow as pa
import pytest
from aggregator_process import Client, new_run_id, outcomes, refusal

from weighin.v1 import run_pb2, services_pb2, services_pb2_grpc
from weighin_aggregator.intake import columns, validate_device
from weighin_aggregator.serve.assembly import Config
from weighin_aggregator.serve.ports import Endpoint
from weighin_aggregator.serve.server import running

STORED, DUPLICATE = ("STORED", ""), ("DUPLICATE", "")
RUN_BYTES = 256 << 10


def envelope(run: run_pb2.Run | bytes | None = None, run_id: str | None = None) -> services_pb2.RunEnvelope:
    return example_runs.envelope(example_runs.example_run() if run is None else run, run_id or new_run_id())


def changed(change: Callable[[run_pb2.Run], object]) -> run_pb2.Run:
    run = example_runs.example_run()
    change(run)
    return run


def test_a_valid_run_is_stored_and_the_same_run_again_is_a_duplicate(client: Client) -> None:
    sent = envelope()
    assert outcomes(client.submit(sent)) == [STORED]
    assert outcomes(client.submit(sent)) == [DUPLICATE]


def test_results_come_in_the_order_of_the_envelopes_and_one_bad_run_does_not_sink_the_others(client: Client) -> None:
    sent = [envelope(), envelope(b"\xff\xff"), envelope(), envelope(run_id="x")]
    results = client.submit(*sent)
    assert [result.run_id for result in results] == [item.run_id for item in sent]
    assert outcomes(results) == [STORED, ("REJECTED", "MALFORMED_RUN"), STORED, ("REJECTED", "RUN_ID_INVALID")]


def test_no_envelope_is_a_heartbeat(client: Client) -> None:
    assert client.submit() == []


def test_a_used_run_id_with_other_bytes_is_rejected_and_the_first_run_stays(client: Client) -> None:
    first = envelope()
    other = envelope(example_runs.example_run(2), first.run_id)
    assert outcomes(client.submit(first)) == [STORED]
    assert outcomes(client.submit(other)) == [("REJECTED", "RUN_ID_REUSED")]
    assert outcomes(client.submit(first)) == [DUPLICATE]


def test_a_used_run_id_from_another_device_is_rejected(client: Client) -> None:
    sent = envelope()
    assert outcomes(client.submit(sent)) == [STORED]
    assert outcomes(client.submit(sent, device_id=example_runs.OTHER_DEVICE_ID)) == [("REJECTED", "RUN_ID_REUSED")]


def test_old_and_new_runs_in_one_call_are_told_apart(client: Client) -> None:
    old = envelope()
    client.submit(old)
    assert outcomes(client.submit(envelope(), old, envelope())) == [STORED, DUPLICATE, STORED]


def test_a_run_id_twice_in_one_call_is_stored_once_and_refused_once(client: Client) -> None:
    sent = envelope()
    assert outcomes(client.submit(sent, sent)) == [STORED, ("REJECTED", "RUN_ID_INVALID")]


@pytest.mark.parametrize(
    "run_id", ["", "x", "019C1C38-A400-7000-8000-00000000000A", "019c1c38a4007000800000000000000a", "{" + "0" * 100]
)
def test_a_run_id_that_is_no_lower_case_uuid_is_rejected_and_never_answered_longer_than_a_uuid(
    client: Client, run_id: str
) -> None:
    results = client.submit(example_runs.envelope(example_runs.example_run(), run_id))
    assert outcomes(results) == [("REJECTED", "RUN_ID_INVALID")]
    assert len(results[0].run_id) <= 36


def test_bytes_that_arrive_damaged_are_asked_for_again(client: Client) -> None:
    sent = envelope()
    sent.run_sha256 = hashlib.sha256(b"other").digest()
    assert outcomes(client.submit(sent)) == [("RETRY", "CHECKSUM_MISMATCH")]


def test_a_missing_checksum_is_a_wrong_one(client: Client) -> None:
    sent = envelope()
    sent.ClearField("run_sha256")
    assert outcomes(client.submit(sent)) == [("RETRY", "CHECKSUM_MISMATCH")]


@pytest.mark.parametrize("run", [b"\xff\xff", b"\x2a\x02\xff\xfe", b"\x52\x7f"], ids=["tag", "UTF-8", "length"])
def test_a_run_that_does_not_decode_is_rejected(client: Client, run: bytes) -> None:
    assert outcomes(client.submit(envelope(run))) == [("REJECTED", "MALFORMED_RUN")]


def test_broken_rules_are_named_by_field_and_the_input_is_not_repeated(client: Client) -> None:
    def break_rules(run: run_pb2.Run) -> None:
        run.suite = "<script>"
        del run.measurements[3].series[0].sample_seconds[:]

    (result,) = client.submit(envelope(changed(break_rules)))
    assert outcomes([result]) == [("REJECTED", "FIELD_INVALID")]
    assert list(result.field_violations) == [
        "suite: may only hold letters, digits, spaces and ( ) @ . + / _ -",
        "measurements[3].series[0].sample_seconds: must not be empty",
    ]


def test_at_most_ten_violations_are_named(client: Client) -> None:
    def break_rules(run: run_pb2.Run) -> None:
        for measurement in run.measurements:
            measurement.token_count = 0

    (result,) = client.submit(envelope(changed(break_rules)))
    assert len(result.field_violations) == 10


def test_the_fields_of_the_envelope_have_rules_too(client: Client) -> None:
    sent = envelope()
    sent.sequence, sent.attempt_count = 0, -1
    (result,) = client.submit(sent)
    assert list(result.field_violations) == ["sequence: must be at least 1", "attempt_count: must be at least 0"]


def test_a_field_that_the_contract_does_not_have_is_rejected(client: Client) -> None:
    unknown = example_runs.example_run().SerializeToString() + b"\xf8\x3f\x01"  # field 1023, varint 1
    assert outcomes(client.submit(envelope(unknown))) == [("REJECTED", "UNKNOWN_FIELD")]


def test_an_unknown_field_deep_inside_is_found(client: Client) -> None:
    def hide(run: run_pb2.Run) -> None:
        run.measurements[0].series[0].MergeFromString(b"\xf8\x3f\x01")

    assert outcomes(client.submit(envelope(changed(hide)))) == [("REJECTED", "UNKNOWN_FIELD")]


def test_a_run_of_a_newer_contract_waits_for_a_newer_server(client: Client) -> None:
    newer = changed(lambda run: setattr(run, "schema_version", 3))
    newer.MergeFromString(b"\xf8\x3f\x01")
    assert outcomes(client.submit(envelope(newer))) == [("RETRY", "SCHEMA_TOO_NEW")]


def test_a_run_of_the_first_contract_is_still_taken(client: Client) -> None:
    """Agents may have such runs in their spools, which say nothing of feed-forward blocks."""

    def first(run: run_pb2.Run) -> None:
        run.schema_version = 1
        for case in (*(one.case for one in run.measurements), *(one.case for one in run.failures)):
            case.architecture.ClearField("feed_forward")

    assert outcomes(client.submit(envelope(changed(first)))) == [("STORED", "")]


@pytest.mark.parametrize("sample", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_sample_is_a_fact_and_is_stored(client: Client, sample: float) -> None:
    def spoil(run: run_pb2.Run) -> None:
        run.measurements[0].series[0].sample_seconds[1] = sample

    assert outcomes(client.submit(envelope(changed(spoil)))) == [STORED]


def test_a_clock_that_is_years_off_is_a_fact_and_is_stored(client: Client) -> None:
    assert outcomes(client.submit(envelope(changed(lambda run: run.observe_time.FromSeconds(0))))) == [STORED]


def test_a_run_of_the_largest_size_is_checked_and_one_byte_more_is_refused(client: Client) -> None:
    largest, too_large = client.submit(envelope(bytes(RUN_BYTES)), envelope(bytes(RUN_BYTES + 1)))
    assert largest.reason == "MALFORMED_RUN"
    assert list(too_large.field_violations) == [f"run: must have at most {RUN_BYTES} bytes"]


@pytest.fixture
def client_of_a_gap_in_the_rules(monkeypatch: pytest.MonkeyPatch, data: Path) -> Iterator[Client]:
    """A client of a server in this process that takes a cache of any size."""
    monkeypatch.setattr(validate_device, "at_most", lambda *_: iter(()))
    started, stop = Future[str](), threading.Event()

    async def serve() -> None:
        async with running(Config(data=data, run=Endpoint(host="127.0.0.1", port=0))) as server:
            started.set_result(server.run_address)
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        with aggregator_process.client(started.result(30)) as client:
            yield client
    finally:
        stop.set()
        thread.join(30)


@pytest.mark.parametrize("spoil", ["caches", "rows"])
def test_a_run_that_passes_the_rules_but_fits_no_table_is_rejected_alone(
    client_of_a_gap_in_the_rules: Client, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    """Such a run would fail its call at every attempt, and nothing behind it would ever arrive."""

    def outgrow_the_column(run: run_pb2.Run) -> None:
        run.device.cpu.caches[1].size_bytes = 1 << 62
        run.device.cpu.caches[1].instance_count = 4

    sent = [envelope(), envelope(changed(outgrow_the_column)), envelope()]
    if spoil == "rows":  # What DuckDB itself refuses.
        wide = columns.HARDWARE.field(8).with_type(pa.float64())
        monkeypatch.setattr(columns, "HARDWARE", columns.HARDWARE.set(8, wide))
    results = client_of_a_gap_in_the_rules.submit(*sent)
    assert outcomes(results) == [STORED, ("REJECTED", "NOT_STORABLE"), STORED]
    assert outcomes(client_of_a_gap_in_the_rules.submit(sent[0], sent[2])) == [DUPLICATE, DUPLICATE]


def test_a_call_that_misstates_its_own_time_loses_no_run(client: Client) -> None:
    request = example_runs.request([envelope()])
    request.send_time.seconds = 1 << 62
    request.spool_dropped_count = -1
    assert outcomes(list(client.send(request.SerializeToString()).results)) == [STORED]


def refused(send: Callable[[], object]) -> tuple[grpc.StatusCode, str, float | None]:
    with pytest.raises(grpc.RpcError) as caught:
        send()
    return refusal(caught.value)


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x12\x05ab", b"\x0a\x02\x08"])
def test_a_request_that_does_not_decode_is_refused_with_a_reason(client: Client, data: bytes) -> None:
    assert refused(lambda: client.send(data)) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST", None)


def test_a_hundred_runs_are_taken_and_one_more_is_refused(client: Client) -> None:
    # Runs that are refused one by one keep this test quick: only their number matters.
    empty = [services_pb2.RunEnvelope() for _ in range(101)]
    assert len(client.submit(*empty[:100])) == 100
    assert refused(lambda: client.submit(*empty)) == (grpc.StatusCode.INVALID_ARGUMENT, "TOO_MANY_RUNS", None)


def test_a_message_over_the_cap_is_refused_without_a_time_to_try_again(client: Client) -> None:
    code, reason, seconds = refused(lambda: client.send(b"\x12" + bytes(5 << 20)))
    assert (code, reason, seconds) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "", None)


@pytest.mark.parametrize("device_id", [None, "", "me", example_runs.DEVICE_ID.upper()])
def test_a_call_that_names_no_device_is_refused_before_it_is_decoded(client: Client, device_id: str | None) -> None:
    answer = refused(lambda: client.send(b"\xff", device_id))
    assert answer == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID", None)


def test_a_call_that_names_two_devices_is_refused(client: Client) -> None:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = client.channel.unary_unary(aggregator_process.SUBMIT_RUNS)
    both = tuple(("weighin-device-id", name) for name in (example_runs.DEVICE_ID, example_runs.OTHER_DEVICE_ID))
    answer = refused(lambda: call(b"", metadata=both, timeout=aggregator_process.CALL_SECONDS))
    assert answer == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID", None)


def test_one_run_without_consent_refuses_the_whole_call_and_nothing_is_stored(client: Client) -> None:
    sent = envelope()
    without = envelope(changed(lambda run: setattr(run, "consent_version", 0)))
    answer = refused(lambda: client.submit(sent, without))
    assert answer == (grpc.StatusCode.FAILED_PRECONDITION, "CONSENT_REQUIRED", None)
    assert outcomes(client.submit(sent)) == [STORED]


def test_what_a_plain_server_does_not_have_is_answered_unimplemented(client: Client) -> None:
    metadata = (("weighin-device-id", example_runs.DEVICE_ID),)
    runs = services_pb2_grpc.RunServiceStub(client.channel)
    enrollment = services_pb2_grpc.EnrollmentServiceStub(client.channel)
    query = services_pb2_grpc.QueryServiceStub(client.channel)
    for call in (
        lambda: runs.RenewCredential(services_pb2.RenewCredentialRequest(), metadata=metadata),
        lambda: enrollment.Enroll(services_pb2.EnrollRequest()),
        lambda: list(query.Query(services_pb2.QueryRequest(sql="SELECT 1"))),
    ):
        assert refused(call)[0] == grpc.StatusCode.UNIMPLEMENTED

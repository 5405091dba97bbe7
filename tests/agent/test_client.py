import threading
from pathlib import Path

import grpc
import pytest
from google.rpc import status_pb2  # type: ignore[import-untyped]
from scripted_aggregator import deaf_address, failure, outcomes, scripted_aggregator, store_all
from spooled import add_runs, open_spool

from weighin.v1 import services_pb2
from weighin_agent.errors import (
    AggregatorAwayError,
    DeliveryError,
    DeviceRefusedError,
    UnacceptableRequestError,
    UsageError,
)
from weighin_agent.fleet.address import parse_loopback_address
from weighin_agent.fleet.client import AggregatorClient, Outcome

DEVICE_ID = "0b6f1c1e-6a51-4d0c-9d7e-2f4f5a7c9b10"


class BareStatus(grpc.Status):
    """A status with any trailing metadata, as a proxy in between may send it."""

    def __init__(self, code: grpc.StatusCode, details: str, metadata: tuple[tuple[str, bytes], ...]) -> None:
        self.code = code
        self.details = details
        self.trailing_metadata = metadata


@pytest.fixture
def request_of_two(tmp_path: Path) -> services_pb2.SubmitRunsRequest:
    spool = open_spool(tmp_path)
    return services_pb2.SubmitRunsRequest(envelopes=[spool.read(entry) for entry in add_runs(spool, 2)])


def error_of(answer: grpc.Status, request: services_pb2.SubmitRunsRequest) -> DeliveryError:
    """What the client raises when a real server answers so."""
    with (
        scripted_aggregator(lambda _request: answer) as aggregator,
        AggregatorClient(aggregator.address, device_id=DEVICE_ID) as client,
        pytest.raises(DeliveryError) as raised,
    ):
        client.submit(request)
    assert "\n" not in str(raised.value)
    assert aggregator.address in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("127.0.0.1:8443", "127.0.0.1:8443"),
        ("localhost:1", "127.0.0.1:1"),
        ("[::1]:65535", "[::1]:65535"),
        (" 127.1.2.3:80 ", "127.1.2.3:80"),
    ],
)
def test_addresses_of_this_machine_are_taken(given: str, written: str) -> None:
    assert parse_loopback_address(given) == written


@pytest.mark.parametrize(
    "address",
    ["192.168.1.2:8443", "example.org:443", "0.0.0.0:80", "localhost.example.org:80", "[fe80::1]:80", "10.0.0.1:1"],
)
def test_plain_text_to_any_other_machine_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="not on this machine"):
        AggregatorClient(address, device_id=DEVICE_ID)


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1", ":80", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:x", "unix:/tmp/x"]
)
def test_what_is_no_address_is_refused_with_an_example_of_one(address: str) -> None:
    with pytest.raises(UsageError, match="for example") as refused:
        parse_loopback_address(address)
    assert refused.value.exit_code == 2


def test_each_answer_comes_back_under_its_run_id_and_the_call_names_the_device(
    request_of_two: services_pb2.SubmitRunsRequest,
) -> None:
    with (
        scripted_aggregator() as aggregator,
        AggregatorClient(aggregator.address, device_id=DEVICE_ID) as client,
    ):
        answers = client.submit(request_of_two)
        assert [answer.run_id for answer in answers] == [envelope.run_id for envelope in request_of_two.envelopes]
        assert {answer.outcome for answer in answers} == {Outcome.STORED}
        assert aggregator.requests == [request_of_two]
        assert aggregator.metadata[0]["weighin-device-id"] == DEVICE_ID


def test_an_outcome_that_this_agent_does_not_know_is_a_retry(request_of_two: services_pb2.SubmitRunsRequest) -> None:
    with (
        scripted_aggregator(lambda request: outcomes(request, services_pb2.OUTCOME_UNSPECIFIED)) as aggregator,
        AggregatorClient(aggregator.address, device_id=DEVICE_ID) as client,
    ):
        assert {answer.outcome for answer in client.submit(request_of_two)} == {Outcome.RETRY}


def test_texts_of_the_aggregator_cannot_play_tricks_on_a_terminal(
    request_of_two: services_pb2.SubmitRunsRequest,
) -> None:
    nasty = outcomes(request_of_two, services_pb2.OUTCOME_REJECTED, "\x1b[2Jgone", ["a\x1b]0;b\n", "c" * 9_000])
    with (
        scripted_aggregator(lambda _request: nasty) as aggregator,
        AggregatorClient(aggregator.address, device_id=DEVICE_ID) as client,
    ):
        answer = client.submit(request_of_two)[0]
    assert answer.reason is None
    assert answer.detail.isprintable()
    assert len(answer.detail) <= 500


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
    ],
)
def test_a_fault_of_the_aggregator_or_of_the_way_there_may_be_gone_later(
    code: grpc.StatusCode, request_of_two: services_pb2.SubmitRunsRequest
) -> None:
    error = error_of(failure(code), request_of_two)
    assert isinstance(error, AggregatorAwayError)
    assert (error.reason, error.retry_after_seconds) == (code.name, None)


def test_reason_and_delay_are_read_from_the_details(request_of_two: services_pb2.SubmitRunsRequest) -> None:
    error = error_of(failure(grpc.StatusCode.UNAVAILABLE, "OVERLOADED", 7.5), request_of_two)
    assert isinstance(error, AggregatorAwayError)
    assert (error.reason, error.retry_after_seconds) == ("OVERLOADED", 7.5)


@pytest.mark.parametrize("details", [b"\xff\xff", status_pb2.Status(code=13, message="other").SerializeToString()])
def test_details_that_are_garbage_or_contradict_the_status_are_not_believed(
    details: bytes, request_of_two: services_pb2.SubmitRunsRequest
) -> None:
    answer = BareStatus(grpc.StatusCode.UNAVAILABLE, "no", (("grpc-status-details-bin", details),))
    error = error_of(answer, request_of_two)
    assert isinstance(error, AggregatorAwayError)
    assert (error.reason, error.retry_after_seconds) == ("UNAVAILABLE", None)


def test_a_quota_is_a_delay_and_not_an_oversized_call(request_of_two: services_pb2.SubmitRunsRequest) -> None:
    error = error_of(failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", 60), request_of_two)
    assert isinstance(error, AggregatorAwayError)
    assert error.reason == "QUOTA_EXCEEDED"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID"),
        (grpc.StatusCode.PERMISSION_DENIED, "DEVICE_REVOKED"),
        (grpc.StatusCode.FAILED_PRECONDITION, "CONSENT_REQUIRED"),
    ],
)
def test_a_refusal_of_the_device_carries_its_reason(
    code: grpc.StatusCode, reason: str, request_of_two: services_pb2.SubmitRunsRequest
) -> None:
    error = error_of(failure(code, reason), request_of_two)
    assert isinstance(error, DeviceRefusedError)
    assert error.reason == reason


def test_a_malformed_call_may_do_in_smaller_pieces(request_of_two: services_pb2.SubmitRunsRequest) -> None:
    error = error_of(failure(grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST"), request_of_two)
    assert isinstance(error, UnacceptableRequestError)


def test_what_the_grpc_library_itself_finds_too_large_may_do_in_smaller_pieces(
    request_of_two: services_pb2.SubmitRunsRequest,
) -> None:
    with (
        scripted_aggregator(max_request_bytes=100) as aggregator,
        AggregatorClient(aggregator.address, device_id=DEVICE_ID) as client,
        pytest.raises(UnacceptableRequestError),
    ):
        client.submit(request_of_two)
    assert aggregator.requests == []


def test_nobody_at_the_address_is_told_by_the_address(request_of_two: services_pb2.SubmitRunsRequest) -> None:
    address = deaf_address()
    with AggregatorClient(address, device_id=DEVICE_ID) as client:
        with pytest.raises(AggregatorAwayError, match=f"{address} is not reachable"):
            client.submit(request_of_two)
        with pytest.raises(AggregatorAwayError, match=f"{address} is not reachable"):
            client.check_health()


def test_an_aggregator_that_does_not_answer_costs_no_more_than_the_deadline(
    request_of_two: services_pb2.SubmitRunsRequest,
) -> None:
    over = threading.Event()

    def silent(request: services_pb2.SubmitRunsRequest) -> services_pb2.SubmitRunsResponse:
        over.wait(timeout=30)
        return store_all(request)

    with (
        scripted_aggregator(silent) as aggregator,
        AggregatorClient(aggregator.address, device_id=DEVICE_ID) as client,
    ):
        with pytest.raises(AggregatorAwayError) as raised:
            client.submit(request_of_two, deadline_seconds=0.2)
        over.set()
    assert raised.value.reason == "DEADLINE_EXCEEDED"


def test_health_tells_whether_runs_are_taken_now() -> None:
    with (
        scripted_aggregator() as aggregator,
        AggregatorClient(aggregator.address, device_id=DEVICE_ID) as client,
    ):
        client.check_health()
        aggregator.set_serving(False)
        with pytest.raises(AggregatorAwayError, match="not taking runs now"):
            client.check_health()


def test_a_proxy_of_the_environment_is_not_used_for_plain_text(
    request_of_two: services_pb2.SubmitRunsRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{deaf_address()}")
    monkeypatch.setenv("no_proxy", "")
    with (
        scripted_aggregator() as aggregator,
        AggregatorClient(aggregator.address, device_id=DEVICE_ID) as client,
    ):
        assert client.submit(request_of_two)

"""Whatever is sent, the answer is one of the contract: never INTERNAL, never UNKNOWN, never silence."""

import random

import example_runs
import grpc
from aggregator_process import Client, new_run_id, refusal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weighin.v1 import services_pb2

# The client is one for all examples of a test: only its answers matter.
patient = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
ANSWERS = {
    grpc.StatusCode.INVALID_ARGUMENT: {"MALFORMED_REQUEST", "TOO_MANY_RUNS"},
    grpc.StatusCode.FAILED_PRECONDITION: {"CONSENT_REQUIRED"},
}
VALID = example_runs.example_run().SerializeToString()


def answer(client: Client, data: bytes) -> list[services_pb2.RunResult]:
    try:
        return list(client.send(data).results)
    except grpc.RpcError as error:
        code, reason, _ = refusal(error)
        assert reason in ANSWERS[code]
        return []


@patient
@given(st.binary(max_size=2_000))
def test_random_bytes_as_a_request_get_an_answer_of_the_contract(client: Client, data: bytes) -> None:
    answer(client, data)


@patient
@given(st.binary(max_size=2_000))
def test_random_bytes_as_a_run_get_an_answer_of_the_contract(client: Client, run: bytes) -> None:
    request = example_runs.request([example_runs.envelope(run, new_run_id())])
    for result in answer(client, request.SerializeToString()):
        assert result.outcome in {services_pb2.OUTCOME_REJECTED, services_pb2.OUTCOME_RETRY}


@patient
@given(st.integers(0, 1 << 32), st.integers(1, 8))
def test_a_valid_run_with_bytes_changed_gets_an_answer_of_the_contract(client: Client, seed: int, changes: int) -> None:
    chance = random.Random(seed)
    run = bytearray(VALID)
    for _ in range(changes):
        position = chance.randrange(len(run))
        match chance.randrange(3):
            case 0:
                run[position] = chance.randrange(256)
            case 1:
                del run[position : position + chance.randrange(1, 8)]
            case _:
                run[position:position] = chance.randbytes(chance.randrange(1, 8))
    request = example_runs.request([example_runs.envelope(bytes(run), new_run_id())])
    for result in answer(client, request.SerializeToString()):
        assert result.outcome != services_pb2.OUTCOME_UNSPECIFIED


@patient
@given(st.integers(0, 10_000))
def test_a_run_nested_deeper_than_any_run_is_rejected(client: Client, depth: int) -> None:
    nested = b""
    for _ in range(min(depth, 200)):
        nested = b"\xa3\x06" + nested + b"\xa4\x06"  # An unknown group within an unknown group.
    request = example_runs.request([example_runs.envelope(VALID + nested, new_run_id())])
    answer(client, request.SerializeToString())

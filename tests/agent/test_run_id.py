import uuid

from hypothesis import given
from hypothesis import strategies as st

from weighin_agent.fleet.run_id import create_time_seconds, is_run_id, uuid7


@given(st.integers(0, (1 << 48) - 1), st.binary(min_size=10, max_size=10))
def test_a_run_id_is_a_lower_case_uuid_of_version_7_that_tells_when_it_was_made(
    milliseconds: int, chance: bytes
) -> None:
    run_id = uuid7(lambda: milliseconds / 1000, lambda count: chance[:count])
    parsed = uuid.UUID(run_id)
    assert (str(parsed), parsed.version, parsed.variant) == (run_id, 7, uuid.RFC_4122)
    assert is_run_id(run_id)
    assert abs(round(create_time_seconds(run_id) * 1000) - milliseconds) <= 1


def test_the_layout_is_that_of_the_example_in_rfc_9562() -> None:
    """Appendix A.6: 2022-02-22 19:22:22 UTC, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F."""
    chance = ((0xCC3 << 62) | 0x18C4DC0C0C07398F).to_bytes(10)
    assert uuid7(lambda: 1645557742.000, lambda _count: chance) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_run_ids_made_later_sort_later() -> None:
    assert uuid7(lambda: 1.0, lambda count: b"\xff" * count) < uuid7(lambda: 1.002, lambda count: b"\0" * count)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_clock_that_is_not_set_still_gives_a_run_id(now_seconds: float) -> None:
    assert is_run_id(uuid7(lambda: now_seconds))


def test_what_is_not_a_lower_case_uuidv7_is_no_run_id() -> None:
    good = uuid7()
    for bad in ("", good.upper() + " ", good.replace("-", ""), str(uuid.uuid4()), good + "\n", "../" + good):
        assert not is_run_id(bad)

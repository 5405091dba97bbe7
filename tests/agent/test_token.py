import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighin_agent.errors import UsageError
from weighin_agent.fleet.token import parse_token

DIGEST = "0123456789abcdef" * 4
SECRET = "Sx7_-" + "A" * 38


@pytest.mark.parametrize("address", ["127.0.0.1:50052", "[::1]:443", "fleet.example.org:50052", "a:1"])
def test_a_token_is_read_from_the_right_because_hosts_have_dots(address: str) -> None:
    token = parse_token(f"  wt1.{address}.{DIGEST}.00ff.{SECRET}\n")
    assert (token.address, token.authority_sha256.hex(), token.token_id) == (address, DIGEST, "00ff")
    assert token.text == f"wt1.{address}.{DIGEST}.00ff.{SECRET}"


def test_the_secret_of_a_token_is_in_no_representation_of_it() -> None:
    assert SECRET not in repr(parse_token(f"wt1.a:1.{DIGEST}.00ff.{SECRET}"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"wt2.a:1.{DIGEST}.00ff.{SECRET}",
        f"wt1.a.{DIGEST}.00ff.{SECRET}",
        f"wt1.a:0.{DIGEST}.00ff.{SECRET}",
        f"wt1.a:1.{DIGEST[1:]}.00ff.{SECRET}",
        f"wt1.a:1.{DIGEST}.00ff.{SECRET[1:]}",
        f"wt1.a b:1.{DIGEST}.00ff.{SECRET}",
        f"wt1.a:1.{DIGEST}..{SECRET}",
    ],
)
def test_what_is_no_token_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(UsageError, match="token") as refused:
        parse_token(text)
    assert SECRET[1:] not in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda data: "wt1." + data.decode("latin-1")))
def test_any_text_is_a_token_or_bad_usage(text: str) -> None:
    try:
        token = parse_token(text)
    except UsageError:
        return
    assert len(token.authority_sha256) == 32

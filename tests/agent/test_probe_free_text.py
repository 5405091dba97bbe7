"""What the agent makes of free text from hardware and drivers is what an aggregator takes: a name rejects no run."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weighin_agent.probe.text import clean_processor_name, clean_text
from weighin_aggregator.intake.rules import version
from weighin_aggregator.limits import Limits

PIECES = st.sampled_from(
    [
        *(
            "02:ca:4a:71:e5:7b",
            "ca9a41e5-7b7b-4c4c-8d8d-ca9a41e57b7b",
            "PF3CANARY7X1Q99",
            "/home/someone",
            "C:\\Users\\me",
        ),
        *(
            "someone@host",
            "i7-9750H CPU @ 2.60GHz",
            "GPU@3GHz",
            "w/ Radeon 780M",
            "GNU/Linux",
            "\\\\server\\share",
            "~/x",
        ),
        *("(R)", "é", "\0", "\n", " ", "/", "@", ":", "-", ".", ")", "a", "0", "F"),
    ]
)
TEXTS = st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=8).map("".join))


@given(text=TEXTS)
@example(text="Card of someone@host in /home/someone")
def test_a_name_that_leaves_the_device_breaks_no_rule_of_the_aggregator(text: str) -> None:
    for clean in (clean_text, clean_processor_name):
        cleaned = clean(text)
        assert cleaned is None or not list(version("device.cpu.model", cleaned, Limits()))


@pytest.mark.parametrize(
    "name",
    [
        "AMD Ryzen 7 7840HS w/ Radeon 780M Graphics",
        "Debian GNU/Linux",
        "llvmpipe (LLVM 15.0.6 256 bits)",
        "RTX 4070/PCIe",
    ],
)
def test_names_of_real_parts_stay_as_they_are(name: str) -> None:
    assert clean_text(name) == name


def test_the_clock_of_a_processor_stays() -> None:
    assert (
        clean_processor_name("Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz") == "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz"
    )


def test_a_path_and_an_account_do_not_leave_with_a_name() -> None:
    cleaned = clean_processor_name("Card of someone@host at /home/someone/x and C:\\Users\\someone")
    assert cleaned is not None
    assert "someone" not in cleaned

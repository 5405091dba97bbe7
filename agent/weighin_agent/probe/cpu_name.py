"""The last reader of the processor's name, for what the system's own files do not name."""

from weighin_agent.device import ProbeGapReason
from weighin_agent.probe.child import ask_child
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.text import clean_processor_name

# It takes about a second on a desktop processor.
_TIMEOUT_SECONDS = 10.0


def read_cpu_name(gaps: Gaps, module: str = "weighin_agent.probe.cpuinfo_child") -> str | None:
    """Ask py-cpuinfo, in a child process with a time limit."""
    answer = ask_child(module, _TIMEOUT_SECONDS)
    name = answer.facts.get("model")
    model = clean_processor_name(name) if isinstance(name, str) else None
    return gaps.need(
        "cpu.model",
        model,
        answer.reason or ProbeGapReason.NOT_OFFERED,
        answer.detail or "nothing on this system names the processor",
    )

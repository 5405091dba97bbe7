"""What py-cpuinfo says of the processor, for what the system's own files and commands do not tell."""

from weighin_agent.device import ProbeGapReason
from weighin_agent.probe.cpuinfo import INSTRUCTION_SETS
from weighin_agent.probe.gaps import Gaps
from weighin_agent.probe.system import System
from weighin_agent.probe.text import clean_processor_name

_CHILD = "weighin_agent.probe.cpuinfo_child"
# It takes about a second on a desktop processor.
_TIMEOUT_SECONDS = 10.0


def read_cpu_name(gaps: Gaps, system: System, module: str = _CHILD) -> str | None:
    """Ask for the processor's name, in a child process with a time limit."""
    answer = system.ask_child(module, _TIMEOUT_SECONDS)
    name = answer.facts.get("model")
    model = clean_processor_name(name) if isinstance(name, str) else None
    return gaps.need(
        "cpu.model",
        model,
        answer.reason or ProbeGapReason.NOT_OFFERED,
        answer.detail or "nothing on this system names the processor",
    )


def read_instruction_sets(gaps: Gaps, system: System, module: str = _CHILD) -> tuple[str, ...]:
    """Ask for the instruction sets; the library knows only part of those that decide kernels, and a gap says so."""
    answer = system.ask_child(module, _TIMEOUT_SECONDS)
    found = parse_flags(answer.facts.get("flags"))
    gaps.add(
        "cpu.instruction_sets",
        answer.reason or ProbeGapReason.NOT_OFFERED,
        answer.detail
        or ("AVX-VNNI, AMX and 16-bit floats are not told here" if found else "nothing here tells instruction sets"),
    )
    return found


def parse_flags(flags: object) -> tuple[str, ...]:
    """Name the flags that decide kernels, sorted; the library writes avx512_vnni without the underscore."""
    listed = {flag for flag in flags if isinstance(flag, str)} if isinstance(flags, list) else set()
    if "avx512vnni" in listed:
        listed.add("avx512_vnni")
    return tuple(sorted({ours for theirs, ours in INSTRUCTION_SETS.items() if theirs in listed}))

"""Every fault, and the sizes at which it is injected."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from faults import (
    bad_network,
    crash_points,
    damaged_spools,
    full_disk,
    fuzzer,
    hostile_input,
    kill_agent,
    kill_aggregator,
    lost_replies,
    overload,
)


class Size(StrEnum):
    """``CI`` takes minutes and ``LONG`` hours, all faults together; ``TENTH`` is a tenth of LONG."""

    CI = "ci"
    TENTH = "tenth"
    LONG = "long"


class Figures(Protocol):
    """What a fault counted: a dataclass."""

    @property
    def missed(self) -> tuple[str, ...]:
        """Which bounds were not held; empty when all were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault. ``sizes`` count ``unit``, the second argument of ``inject``.

    ``title``, ``text`` and ``must``, which says in words what ``missed`` of its figures checks, are for the page.
    """

    name: str
    title: str
    text: str
    must: str
    unit: str
    sizes: Mapping[Size, int]
    inject: Callable[[Path, int, random.Random], Figures]


def _sizes(ci: int, long: int) -> Mapping[Size, int]:
    return {Size.CI: ci, Size.TENTH: long // 10, Size.LONG: long}


FAULTS = (
    Fault(
        name="kill-aggregator",
        title="The aggregator is killed",
        text="SIGKILL under 20 devices that keep and deliver runs all the while; then it is started again.",
        must="0 lost, 0 duplicated; SERVING again in less than 3 s (p99)",
        unit="kills",
        sizes=_sizes(20, 200),
        inject=kill_aggregator.inject,
    ),
    Fault(
        name="kill-agent",
        title="The agent is killed",
        text="SIGKILL within half a second: starting, enrolling by a token of one use, keeping and delivering runs.",
        must="every start works, 0 lost, 0 duplicated, and the token suffices",
        unit="kills",
        sizes=_sizes(50, 500),
        inject=kill_agent.inject,
    ),
    Fault(
        name="crash-points",
        title="The aggregator dies at a named point",
        text="Before COMMIT, after it and before anybody is told, inside a checkpoint, and right after a reply.",
        must="each point is hit that often, 0 lost, 0 duplicated",
        unit="deaths at each point",
        sizes=_sizes(1, 50),
        inject=crash_points.inject,
    ),
    Fault(
        name="lost-replies",
        title="Replies are lost",
        text="The line breaks as 30 % of the replies begin to arrive: the server has decided, the device never hears.",
        must="as many rows as runs, and a duplicate for each run that was sent again",
        unit="runs",
        sizes=_sizes(2_000, 50_000),
        inject=lost_replies.inject,
    ),
    Fault(
        name="bad-network",
        title="The network is bad",
        text="Spells of resets, half-open connections, latency and partition between 20 devices and the server.",
        must="0 lost, 0 duplicated, and all that waited arrives within 15 minutes",
        unit="seconds",
        sizes=_sizes(10, 7_200),
        inject=bad_network.inject,
    ),
    Fault(
        name="full-server-disk",
        title="The disk of the aggregator fills up",
        text="A tmpfs without a free byte while devices deliver; every other time the server writes without looking, "
        "every third it is killed and started meanwhile.",
        must="0 lost, health says so, no crash, SERVING again within 60 s",
        unit="rounds",
        sizes=_sizes(3, 100),
        inject=full_disk.inject_server,
    ),
    Fault(
        name="full-agent-disk",
        title="The disk of an agent fills up",
        text="A tmpfs without a free byte: a run is refused, another start delivers what was kept, the disk is freed.",
        must="0 lost, a clear line, every start works, runs are kept again within 60 s",
        unit="rounds",
        sizes=_sizes(3, 100),
        inject=full_disk.inject_agent,
    ),
    Fault(
        name="damaged-spools",
        title="A state folder is damaged",
        text="Bits flipped, files cut, ranges zeroed, in one to three files; then the agent starts in that folder.",
        must="every start works, what is undamaged arrives, each loss is counted",
        unit="state folders",
        sizes=_sizes(100, 1_000),
        inject=damaged_spools.inject,
    ),
    Fault(
        name="hostile-input",
        title="Hostile input",
        text="Runs and requests that no agent would send, at a real server: fields and bytes as they must not be.",
        must="only answers of the contract, nothing over a second, memory within 50 MiB and the store",
        unit="inputs",
        sizes=_sizes(20_000, 200_000),
        inject=hostile_input.inject,
    ),
    Fault(
        name="overload",
        title="Five times as many runs as the aggregator takes",
        text="A cap by setting, and a client that sends by the clock whatever is answered.",
        must="at least 90 % of the cap is acknowledged, 0 lost, only answers of the contract",
        unit="seconds",
        sizes=_sizes(10, 60),
        inject=overload.inject,
    ),
    Fault(
        name="fuzzer",
        title="A coverage-guided fuzzer",
        text="libFuzzer over decoding, validation and store, guided by the branches that inputs reach.",
        must="no exception, nothing over a second, memory within 50 MiB",
        unit="inputs",
        sizes={Size.TENTH: 200_000, Size.LONG: 2_000_000},
        inject=fuzzer.inject,
    ),
)

"""Limits that a container or a service puts on this process (Linux control groups, both versions)."""

from collections.abc import Iterator
from pathlib import Path

from weighin_agent.probe.files import read_line, read_source
from weighin_agent.probe.text import parse_whole_number

_MOUNT = "sys/fs/cgroup"


def parse_cgroup_paths(text: str) -> dict[str, str]:
    """Parse /proc/self/cgroup into the path of every controller; version 2 has one path, under the name ""."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon:
            paths |= dict.fromkeys(controllers.split(","), path.strip())
    return paths


def parse_cpu_max(text: str) -> float | None:
    """Parse version 2's "quota period" in microseconds into a number of processors; None for "max": no limit."""
    quota, _, period = text.strip().partition(" ")
    return _processors(parse_whole_number(quota), parse_whole_number(period))


def parse_statistic(text: str, name: str) -> int:
    """Return one number of a "name number" list such as memory.stat, 0 if it is not there."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return parse_whole_number(value) or 0
    return 0


def cpu_quota_cores(root: Path = Path("/")) -> float | None:
    """Return how many processors' time this process may use, None without a limit. The tightest ancestor counts."""
    quotas = [parse_cpu_max(read_line(folder / "cpu.max")) for folder in _folders(root, "")]
    for folder in _folders(root, "cpu"):
        quota, period = (parse_whole_number(read_line(folder / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
        quotas.append(_processors(quota, period))
    return min((quota for quota in quotas if quota is not None), default=None)


def read_memory_headroom_bytes(root: Path = Path("/")) -> int | None:
    """Return how many bytes more this process may use under its limits, None without a limit.

    File pages that nothing uses any more count as free, as they do in MemAvailable: the kernel drops them first.
    """
    rooms = []
    names = (("", "memory.max", "memory.current"), ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes"))
    for controller, limit_name, usage_name in names:
        for folder in _folders(root, controller):
            limit, usage = (parse_whole_number(read_line(folder / name)) for name in (limit_name, usage_name))
            # Version 1 writes "no limit" as the largest whole number of pages.
            if limit is None or usage is None or limit >= 2**62:
                continue
            statistics = read_source(folder / "memory.stat").text
            idle = parse_statistic(statistics, "inactive_file" if controller == "" else "total_inactive_file")
            rooms.append(max(0, limit - max(0, usage - idle)))
    return min(rooms, default=None)


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folder of this process's group and those of its ancestors, innermost first."""
    path = parse_cgroup_paths(read_source(root / "proc/self/cgroup").text).get(controller)
    if path is None:
        return
    mount = root / _MOUNT / controller
    # Inside a container the path may lead outside of what is mounted: only the mount itself is there then.
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:depth])


def _processors(quota_microseconds: int | None, period_microseconds: int | None) -> float | None:
    if not quota_microseconds or not period_microseconds:
        return None
    return quota_microseconds / period_microseconds

"""Weigh this machine in, end to end: aggregator, agent, snapshot and report, all under one folder.

    python tools/demo.py .demo

Starts an aggregator on the loopback interface, enrols this machine with it, weighs it in, and writes the report. A
second call adds a second run of the same device.
"""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

BIN = Path(sys.executable).parent
STOP_SECONDS = 30


def command(name: str, *arguments: str | Path) -> list[str]:
    """Return the command line of one of weighin's programs."""
    return [str(BIN / name), *map(str, arguments)]


@contextmanager
def serving(data: Path) -> Iterator[str]:
    """Run an aggregator on a free port and yield its address; it is stopped in order at the end."""
    log = data.with_name("aggregator.log")
    with log.open("a") as errors:
        server = subprocess.Popen(
            command("weighin-aggregator", "serve", "--data", data, "--insecure", "--listen", "127.0.0.1:0"),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # Ctrl-C stops the agent first; the aggregator ends after it
        )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        if "listening on " not in line:
            sys.exit(f"demo: the aggregator did not start, see {log}")
        yield line.split()[-1]
    finally:
        server.terminate()
        server.wait(timeout=STOP_SECONDS)


def main(folder: Path) -> int:
    """Run the demo in ``folder`` and return the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    state, data, snapshot, report = (folder / name for name in ("agent", "aggregator", "snapshot", "report"))
    with serving(data) as address:
        # The demo's aggregator is on this machine, so accepting for the user sends nothing anywhere.
        enroll = command("weighin-agent", "enroll", "--insecure", address, "--accept-consent", "1", "--state", state)
        subprocess.run(enroll, check=True, stdout=subprocess.DEVNULL)
        # Exit code 1: some case failed; there is still a card and a report to see.
        weighed = subprocess.run(command("weighin-agent", "run", "--state", state), check=False).returncode
        if weighed not in (0, 1):
            return weighed
        subprocess.run(
            command("weighin-aggregator", "snapshot", "--data", data, "--out", snapshot),
            check=True,
            stdout=subprocess.DEVNULL,
        )
    subprocess.run(
        command("weighin-analysis", "report", "--snapshot", snapshot, "--out", report),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    print(f"\nThe report: {report / 'index.html'}")
    return weighed


def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Let a closed terminal or a polite kill end the demo as Ctrl-C does, the aggregator included."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".demo")))
    except KeyboardInterrupt:
        sys.exit("demo: interrupted")
    except subprocess.CalledProcessError as failed:
        sys.exit(
            f"demo: {Path(failed.cmd[0]).name} {failed.cmd[1]} failed with exit code {failed.returncode}, see above"
        )

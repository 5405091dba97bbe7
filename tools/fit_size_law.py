"""Fit the law of sizes on tests/data/throughput.csv and write it to the analysis: `python tools/fit_size_law.py`."""

import dataclasses
from pathlib import Path

from weighin_analysis.measurement import Phase
from weighin_analysis.public.cells import cells, from_one, from_two, other_runs
from weighin_analysis.public.fit import fit
from weighin_analysis.public.rows import PublicRow, read_rows

ROOT = Path(__file__).parents[1]
LAW_FILE = ROOT / "analysis" / "weighin_analysis" / "data" / "size_law.toml"
ROWS_FILE = ROOT / "tests" / "data" / "throughput.csv"

_HEAD = """\
# How the time of a token depends on the size of a model, and how far single runs stray from that: see
# weighin_analysis/public/predictors.py. Written by tools/fit_size_law.py from tests/data/throughput.csv, whose rows
# name their sources; docs/evaluate.md tells how well it predicts devices that it was not fitted on.
"""


def law_text(rows: tuple[PublicRow, ...]) -> str:
    """Return the data file as it follows from the rows, on the easy subset of each phase."""
    parts = [_HEAD]
    for phase in (Phase.DECODE, Phase.PREFILL):
        runs = other_runs(cells(rows, phase, hard=False)[0])
        law = fit(from_two(runs), from_one(runs))
        fields = "".join(f"{name} = {value}\n" for name, value in dataclasses.asdict(law).items())
        parts.append(f"\n[{phase}]\n{fields}")
    return "".join(parts)


if __name__ == "__main__":
    LAW_FILE.write_text(law_text(read_rows(ROWS_FILE)), encoding="utf-8")
    print(LAW_FILE)

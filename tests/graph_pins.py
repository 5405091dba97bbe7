"""Hashes of the graphs of the standard suite; ``python tests/graph_pins.py`` writes them anew, when one must change."""

import json
import tempfile
from pathlib import Path

from weighin_agent.bench.models import save_head, save_layers
from weighin_agent.bench.weights import make_block, scheme_block
from weighin_analysis.suite import Suite, SuiteCase, load_suite

PINS = Path(__file__).parent / "data" / "graph_pins.json"


def save_case(folder: Path, suite: Suite, case: SuiteCase) -> dict[str, str]:
    """Write the graphs and weights of a case into ``folder``; return the hashes of its graphs by file name."""
    block = scheme_block(make_block(suite.weights), case.scheme)
    context = suite.lengths.max_context_tokens
    shape, scheme = case.architecture, case.scheme
    layer_counts = {"layers.onnx": case.probe_layers, "short_layers.onnx": case.short_probe_layers}
    hashes = {
        name: save_layers(folder / name, shape, scheme, layers=layers, max_context=context, block=block)
        for name, layers in layer_counts.items()
        if layers
    }
    if case.head_columns:
        path = folder / "head.onnx"
        hashes[path.name] = save_head(path, shape, scheme, columns=case.head_columns, block=block)
    return hashes


def main() -> None:
    suite, pins = load_suite("standard"), {}
    for case in suite.cases:
        if case.anchor:  # a full model, by the name of its layer probe
            continue
        with tempfile.TemporaryDirectory() as folder:
            pins[f"{case.architecture.name} {case.scheme}"] = save_case(Path(folder), suite, case)
    PINS.write_text(json.dumps(pins, indent=2) + "\n")


if __name__ == "__main__":
    main()

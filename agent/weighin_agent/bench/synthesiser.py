"""The child process that makes models: `python -m weighin_agent.bench.synthesiser`.

One of it serves a whole run. It is apart from the process that measures, which so stays small: building graphs needs
a library of its own.
"""

from dataclasses import replace

from weighin_agent.bench.channel import answer, answer_failures, requests
from weighin_agent.bench.correctness import save_small_model
from weighin_agent.bench.job import GRAPH_FILES, SMALL_MODEL_FILE, Job, Synthesised, decode_job
from weighin_agent.bench.models import save_full_model, save_head, save_layers
from weighin_agent.bench.weights import make_block, scheme_block
from weighin_analysis.measurement import Case, SeriesPart
from weighin_analysis.suite import CALL_COLUMNS


def main() -> None:
    """Make the models of every job that is asked for."""
    for line in requests():
        with answer_failures():
            answer(Synthesised(case=_synthesise(decode_job(line))))


def _synthesise(job: Job) -> Case:
    """Write the graphs and weights of the case and return it with the graphs' hashes."""
    case, context = job.case, job.lengths.max_context_tokens
    shape, scheme = case.architecture, case.scheme
    block = scheme_block(make_block(job.weights), scheme)
    hashes: dict[SeriesPart, str] = {}
    for part, layers in job.parts.items():
        path = job.folder / GRAPH_FILES[part]
        match part:
            case SeriesPart.FULL_MODEL:
                hashes[part] = save_full_model(path, shape, scheme, max_context=context, block=block)
            case SeriesPart.LAYERS | SeriesPart.SHORT_LAYERS:
                hashes[part] = save_layers(path, shape, scheme, layers=layers, max_context=context, block=block)
            case SeriesPart.HEAD:
                hashes[part] = save_head(path, shape, scheme, columns=case.head_columns, block=block)
            case SeriesPart.CALL:
                save_head(path, shape, scheme, columns=min(CALL_COLUMNS, shape.vocab), block=block)
            case SeriesPart.FULL_MODEL_TWIN:
                continue  # the same file, loaded again
    if case.execution_provider != "cpu":
        save_small_model(job.folder / SMALL_MODEL_FILE, shape, scheme, block=block)
    return replace(
        case,
        layers_graph_sha256=hashes[SeriesPart.LAYERS if job.layer_probe else SeriesPart.FULL_MODEL],
        short_layers_graph_sha256=hashes.get(SeriesPart.SHORT_LAYERS, ""),
        head_graph_sha256=hashes.get(SeriesPart.HEAD, ""),
    )


if __name__ == "__main__":
    main()

"""Load a full model from its file and run it, with numpy and onnxruntime alone; run by bench_memory.py.

    python tools/memory_child.py FULL.onnx CONTEXT_TOKENS PROMPT_TOKENS VOCAB

Binds a KV cache of the whole context, written to the last page, runs one prompt and, for a decoder, a few decode steps.
Then says ``done`` and keeps everything until standard input ends.
"""

import sys

import numpy as np
import onnxruntime as ort

DECODE_STEPS = 16


def main() -> None:
    """Load, bind, run, wait."""
    path, context_tokens, prompt_tokens, vocab = sys.argv[1], *map(int, sys.argv[2:])
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    past = {node.name: node.shape for node in session.get_inputs() if node.name.startswith("past_")}
    cache = {
        name.removeprefix("past_"): ort.OrtValue.ortvalue_from_numpy(
            np.full((1, shape[1], context_tokens, shape[3]), 0.01, np.float32)
        )
        for name, shape in past.items()
    }

    def run(token_count: int, depth: int) -> None:
        binding = session.io_binding()
        # Tokens from all over the vocabulary, as in a text: the rows of the table lie on pages of their own.
        ids = np.random.RandomState(depth).randint(0, vocab, (1, token_count))
        binding.bind_cpu_input("ids", ids.astype(np.int64))
        if cache:
            binding.bind_cpu_input("last_position", np.array([depth + token_count - 1], np.int32))
            binding.bind_cpu_input("total_length", np.array([depth + token_count], np.int32))
        for name, buffer in cache.items():
            binding.bind_ortvalue_input(f"past_{name}", buffer)
            binding.bind_ortvalue_output(name, buffer)
        binding.bind_output("result", "cpu")
        session.run_with_iobinding(binding)

    run(prompt_tokens, 0)
    for step in range(DECODE_STEPS if cache else 0):
        run(1, prompt_tokens + step)
    print("done", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

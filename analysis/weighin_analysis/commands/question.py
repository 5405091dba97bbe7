"""The arguments of every command that asks about a model."""

import argparse

from weighin_analysis.limits import current_limits
from weighin_analysis.sizes.artefact import Format


def add_question(parser: argparse.ArgumentParser) -> None:
    """Add the model and what may be asked of it, here and of a device."""
    tokens = current_limits().memory_context_tokens
    parser.add_argument("model", metavar="MODEL|FILE", help="a name, or an ONNX, GGUF or safetensors file or folder")
    parser.add_argument("--scheme", metavar="S", help="scheme as its format spells it: q4f16, Q4_K_M, int8_dynamic")
    parser.add_argument("--format", type=Format, choices=list(Format), help="format of the files")
    parser.add_argument(
        "--context", type=context_length, metavar="N", help=f"tokens that memory is counted for (default: {tokens})"
    )
    parser.add_argument(
        "--link-mbit", type=_speed, metavar="N", help="speed of the connection, Mbit/s (default: 10 and 100)"
    )
    parser.add_argument(
        "--what-if",
        action="append",
        metavar="TEXT",
        help="a shrinking technique, such as quantize=q4f16, prune-layers=4 or lora=16; may be repeated",
    )


def context_length(text: str) -> int:
    """Read a number of tokens; an argument error says what one is."""
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!a} is not a whole number from 1 to 999999999")
    return int(text)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < 1e9:
        raise argparse.ArgumentTypeError(f"{text!a} is not a speed above 0")
    return speed

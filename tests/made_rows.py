"""Rows of a throughput table, as tests make them."""

from pathlib import Path

from weighin_analysis.public.rows import COLUMNS, PublicRow, parse_rows

THROUGHPUT = Path(__file__).parent / "data" / "throughput.csv"
GOOD = {
    "device": "a phone",
    "device_class": "phone",
    "compute_unit": "cpu",
    "memory_gb": "8",
    "mem_bandwidth_gbps": "67.2",
    "bandwidth_source": "data sheet",
    "runtime": "llama.cpp",
    "backend": "CPU",
    "model": "Llama-3.2-1B",
    "parameters": "1235814400",
    "is_moe": "0",
    "active_parameters": "",
    "quantization": "Q4_0",
    "model_size_bytes": "773025920",
    "size_source": "reported",
    "phase": "decode",
    "test": "tg128",
    "context": "",
    "tokens_per_s": "30.2",
    "confidence": "high",
    "source": "https://example.org",
    "notes": "",
}


def csv_of(**changes: str) -> str:
    """Return a table of one row."""
    row = GOOD | changes
    return ",".join(COLUMNS) + "\n" + ",".join(row[column] for column in COLUMNS) + "\n"


def row_of(**changes: str) -> PublicRow:
    """Return one row, different from the usual one in some columns."""
    return parse_rows(csv_of(**changes), "file.csv")[0]

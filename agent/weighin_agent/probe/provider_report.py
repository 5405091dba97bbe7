"""What the child of an execution provider prints. Imports the runtime: in such children alone."""

import json
import sys

import numpy as np

from weighin_agent.bench.providers import open_provider
from weighin_agent.errors import CaseError


def print_report(name: str) -> None:
    """Print the adapter of a provider, ``{"adapter": ..., "is_software": ...}``, or ``{"problem": ...}``."""
    sys.stdout.write("\n" + json.dumps(_report(name)) + "\n")


def _report(name: str) -> dict[str, object]:
    try:
        provider = open_provider(name)
        provider.tensor(np.ones(1, np.float32))  # a listed device need not open; one that holds a number does
    except CaseError as error:
        return {"problem": str(error)}
    except RuntimeError:  # its text may hold paths
        return {"problem": "its device does not open"}
    adapter = provider.adapter
    return {"adapter": adapter.name if adapter else None, "is_software": adapter is not None and adapter.is_software}

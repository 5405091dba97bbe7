"""A child process for tests: opens the store of a data directory, says so, and holds it until its input ends.

``store_holder.py DATA``
"""

import sys
from pathlib import Path

from weighin_aggregator.store.store import Store

if __name__ == "__main__":
    with Store.open(Path(sys.argv[1])):
        print("open", flush=True)
        sys.stdin.read()

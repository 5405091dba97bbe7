"""The authority of the fleet whose store this is."""

from functools import partial
from pathlib import Path

from weighin_aggregator.identity.authority import Authority
from weighin_aggregator.identity.register import is_authority_trusted
from weighin_aggregator.store.store import Store, utc_now


def authority_of(data: Path, store: Store) -> Authority:
    """Read the authority of a data directory; made where there is none and nobody knows one. Raises AuthorityError."""
    return Authority.open(data, is_trusted=store.transact(partial(is_authority_trusted, now=utc_now())))

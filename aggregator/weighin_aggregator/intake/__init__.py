"""From the bytes of a run to rows: what is read, which rules it must keep, and what it is stored as."""

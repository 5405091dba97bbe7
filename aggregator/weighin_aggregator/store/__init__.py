"""The DuckDB file and everything that keeps it: the one writer, its schema, copies, snapshots and deletion."""

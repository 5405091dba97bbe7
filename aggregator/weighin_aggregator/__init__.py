"""Collects the weigh-ins of a fleet over gRPC into DuckDB; acknowledges only after COMMIT."""

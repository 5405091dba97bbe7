"""The wire contract of weighin."""

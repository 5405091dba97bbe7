"""The commands of weighin-analysis that need no fleet: each returns its text and its exit code, printed by cli.py."""

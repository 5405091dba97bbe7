"""What a model takes in memory while it runs, by runtime, and whether it loads."""

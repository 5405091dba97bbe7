"""A weigh-in that repeats itself: the files that each system's own scheduler wants, and when a start should wait."""

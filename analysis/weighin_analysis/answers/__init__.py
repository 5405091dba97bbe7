"""From what a person asks about a model to the answer: what it is, what it takes, and whether a device runs it."""

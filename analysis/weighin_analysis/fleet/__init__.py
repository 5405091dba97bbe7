"""Judgements over a fleet: the public views of a snapshot, grades under limits, coverage, and what to ship."""

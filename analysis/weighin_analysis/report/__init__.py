"""The report: one self-contained page over a snapshot, for people who decide what to ship."""

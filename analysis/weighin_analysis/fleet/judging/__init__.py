"""The runs of a snapshot judged, and its devices described."""

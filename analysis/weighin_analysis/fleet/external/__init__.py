"""What others published, as rows of a snapshot."""

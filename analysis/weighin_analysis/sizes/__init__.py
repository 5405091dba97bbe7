"""What a model weighs to download: its bytes by file format and scheme."""

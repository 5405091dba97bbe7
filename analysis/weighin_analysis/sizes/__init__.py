"""What a model weighs: bytes to download by format and scheme, memory in use by runtime, and what shrinks them."""

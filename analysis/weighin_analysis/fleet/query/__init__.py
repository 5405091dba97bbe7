"""A snapshot that is open, and what a question to it gives."""

"""Techniques that shrink a model: what each leaves of its shape, and why it changes a cost or does not."""

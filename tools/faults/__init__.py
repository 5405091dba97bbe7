"""Faults made on purpose, and an oracle outside of them: what was promised, held against what is stored.

One module per fault. Each has a function ``inject(folder, size, chance)`` that works in an empty folder, draws its
moments from ``chance``, and returns a frozen value with what it counted and, in ``missed``, which bounds were not held.
The tests in tests/faults/ call them at a small size, `make faults` at a large one (docs/reliability.md).
"""

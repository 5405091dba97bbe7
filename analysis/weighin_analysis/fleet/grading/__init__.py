"""Estimates held against limits: in numpy, and as SQL."""

"""Errors of the analysis.

AnalysisError
├── CatalogError     a name that the catalogue does not hold
├── EstimateError    a measurement that no time can be computed from
└── SnapshotError    a snapshot that is missing, incomplete or of an unknown version
"""


class AnalysisError(Exception):
    """Base of every error that this package raises on purpose; its text is one line for a person."""


class CatalogError(AnalysisError):
    """A name that the catalogue does not hold."""


class EstimateError(AnalysisError):
    """A measurement that no time can be computed from."""


class SnapshotError(AnalysisError):
    """A snapshot that is missing, incomplete or of an unknown version."""

"""Errors of the analysis.

AnalysisError
├── CatalogError     a name that the catalogue does not hold, or a catalogue or configuration that cannot be read
├── EstimateError    a measurement that no time can be computed from
├── LimitsError      limits that are not known, cannot be read or contradict themselves, or ask for other estimates
├── ModelFileError   a model file that is damaged, of another kind, or refers to what is not there
├── PopulationError  a file of a population's shares that cannot be read or contradicts itself
├── PublicDataError  a file of others' measurements that cannot be read, or from which nothing follows
├── QueryError       a query that is no single SELECT, or that DuckDB finds wrong
├── QuestionError    a question about a model that makes no sense
├── RowError         a row of a snapshot that holds what cannot be
├── SizeError        a size that does not follow from what is known of a model
├── SnapshotError    a snapshot that is missing, incomplete or of an unknown version
└── WhatIfError      a what-if that cannot be read, or that a model cannot undergo
"""


class AnalysisError(Exception):
    """Base of every error that this package raises on purpose; its text is one line for a person."""


class CatalogError(AnalysisError):
    """A name that the catalogue does not hold, or a catalogue or configuration that cannot be read."""


class EstimateError(AnalysisError):
    """A measurement that no time can be computed from."""


class LimitsError(AnalysisError):
    """Limits that are not known, cannot be read or contradict themselves, or that ask for other estimates."""


class ModelFileError(AnalysisError):
    """A model file that is damaged, of another kind, or refers to what is not there."""


class PopulationError(AnalysisError):
    """A file of a population's shares that cannot be read or contradicts itself."""


class PublicDataError(AnalysisError):
    """A file of others' measurements that cannot be read, or from which nothing follows."""


class QueryError(AnalysisError):
    """A query that is no single SELECT, that DuckDB finds wrong, or whose answer a missing package would hold."""


class QuestionError(AnalysisError):
    """A question about a model that makes no sense: a path that leads nowhere, a scheme that no format has."""


class RowError(AnalysisError):
    """A row of a snapshot that holds what cannot be: text for a number, a length below zero, nothing where it must."""


class SizeError(AnalysisError):
    """A size that does not follow from what is known of a model, or a scheme that its format does not have."""


class SnapshotError(AnalysisError):
    """A snapshot that is missing, incomplete or of an unknown version."""


class WhatIfError(AnalysisError):
    """A what-if that cannot be read, or that a model cannot undergo."""

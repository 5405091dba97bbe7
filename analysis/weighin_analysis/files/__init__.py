"""What the header of a real model file tells: its tensors, their types, and the model that they are."""

from weighin_analysis.files.inspection import inspect
from weighin_analysis.files.model_file import ModelFile

__all__ = ["ModelFile", "inspect"]

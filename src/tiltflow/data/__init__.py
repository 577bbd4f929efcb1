"""Data in: files become checked arrays with a split; nothing here knows of models."""

from tiltflow.data.dataset import Dataset
from tiltflow.data.dependent import without_dependent
from tiltflow.data.sources import load
from tiltflow.data.splits import Splits, split

__all__ = ["Dataset", "Splits", "load", "split", "without_dependent"]

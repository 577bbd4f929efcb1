"""The version, in the one place that the wheel and the program read."""

__version__ = "0.1.0"

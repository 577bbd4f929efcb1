"""The settings of the small run that tests of the command line share."""

from pathlib import Path

QUICK = ("--config", str(Path(__file__).parent / "small.toml"))

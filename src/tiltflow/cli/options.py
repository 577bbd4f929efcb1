"""The options that commands share, with the words that `--help` shows."""

from typing import Annotated

from cyclopts import Parameter

Seed = Annotated[int, Parameter(help="Of everything random: the same seed, the same numbers.")]
Json = Annotated[
    bool,
    Parameter(negative=(), help="Print one JSON object on standard output, and nothing else."),
]
Overwrite = Annotated[
    bool, Parameter(negative=(), help="Replace what is there, once the new one is finished.")
]

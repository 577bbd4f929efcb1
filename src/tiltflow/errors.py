"""What tiltflow raises when the user, and not the program, has to change something."""

from numbers import Integral


class InputError(ValueError):
    """A wrong input: the value, what was expected, what to do; always one line.

    The command line prints it on standard error and exits with status 2.
    """

    def __init__(self, message: str) -> None:
        """Fold `message` into one line, without what a terminal would obey."""
        line = " ".join(message.split())
        super().__init__("".join(c if c.isprintable() else "\ufffd" for c in line))


class UnsoundModel(InputError):
    """A model whose numbers would mean nothing, such as one with weights that are not finite.

    The command line exits with status 3, as for chains that have not converged.
    """


class Interrupted(Exception):
    """A run that was asked to stop, or whose time is over; its words say how to go on.

    The command line prints them on standard error and exits with status 130.
    """


def at_least_one(settings: object, *names: str) -> None:
    """Raises InputError for the first of the named settings that is below 1."""
    for name in names:
        if not getattr(settings, name) >= 1:
            raise InputError(f"{name} is {getattr(settings, name)}; expected at least 1")


def check_seed(seed: int) -> None:
    """Raises InputError for a seed that random keys cannot be made from."""
    if not (isinstance(seed, Integral) and 0 <= seed < 2**63):
        raise InputError(f"the seed is {seed!r:.60}; expected an integer, 0 to 2^63 - 1")

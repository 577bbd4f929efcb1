"""What tiltflow raises when the user, and not the program, has to change something."""


class InputError(ValueError):
    """A wrong input: the value, what was expected, what to do; always one line.

    The command line prints it on standard error and exits with status 2.
    """

    def __init__(self, message: str) -> None:
        """Fold `message` into one line."""
        super().__init__(" ".join(message.split()))

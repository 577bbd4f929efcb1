"""`python -m tiltflow` is `tiltflow`."""

from tiltflow.cli.main import main

main()

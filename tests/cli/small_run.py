"""The settings of the small run that tests of the command line share."""

QUICK = ("--backbone-steps", "250", "--tilt-steps", "60", "--particles", "256", "--chains", "16")

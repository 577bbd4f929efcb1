"""The colours of the report, once: the same on paper (matplotlib) and on the page (CSS).

A colour means one thing everywhere. Blue, orange and slate keep apart for every common kind of
colour blindness and in grey print; where lines could still be confused they differ in dash too.
"""

DATA = "#3b4252"
"""What was observed: slate."""
BACKBONE = "#4477aa"
"""The flow q that the model starts from: a muted blue."""
TILTED = "#d9742b"
"""The learned model p: a warm orange."""
TILTED_DARK = "#8f4310"
"""One of many orange things, singled out."""
BASELINE = "#8a63a8"
"""A second learner beside the first: a muted violet, always dashed."""
ALARM = "#b3261e"
"""Beyond a limit."""

INK = "#1d2230"
MUTED = "#5d6575"
HAIRLINE = "#b9bfca"
GRID = "#eceef2"
PAPER = "#ffffff"

CSS_VARIABLES = {"backbone": BACKBONE, "ink": INK, "plate": PAPER}
"""What the style sheet takes from here, as custom properties of :root."""

"""The report of a run: its figures and one self-contained page that says whether to trust it."""

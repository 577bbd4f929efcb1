"""One program over many devices, and over many processes that run it side by side."""

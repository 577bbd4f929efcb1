"""From a density of the user's own to draws, its evidence, and a verdict on both."""

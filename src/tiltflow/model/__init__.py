"""The tilted model: its mathematics, its latent chains, and the fitted one that people use."""

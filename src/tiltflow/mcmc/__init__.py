"""Markov kernels on any batched log-density; nothing here knows of backbones or tilts."""

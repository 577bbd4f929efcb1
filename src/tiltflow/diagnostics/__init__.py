"""Whether draws can be trusted: convergence diagnostics, and a verdict in words."""

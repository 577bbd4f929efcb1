"""Draws of chains whose truth is known, in an order that hides which chain a row is of."""

import numpy as np

CHAINS, DRAWS = 50, 20


def autoregressive(seed, correlation, *, chains=CHAINS, draws=DRAWS, dim=3):
    """Rows `[chains * draws, dim]` and their chains: AR(1) from its stationary N(0, I)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(draws, chains, dim))
    for t in range(1, draws):
        x[t] = correlation * x[t - 1] + np.sqrt(1 - correlation**2) * x[t]
    return shuffled(x.reshape(-1, dim), chains, rng)


def two_classes(seed, share, correlation, *, chains=CHAINS, draws=DRAWS):
    """Classes 0 or 1, `[chains * draws]`, the second with `share`, and their chains."""
    rng = np.random.default_rng(seed)
    fresh = (rng.random((draws, chains)) < share).astype(int)
    stays = rng.random((draws, chains)) < correlation
    for t in range(1, draws):
        fresh[t] = np.where(stays[t], fresh[t - 1], fresh[t])
    return shuffled(fresh.ravel(), chains, rng)


def shuffled(rows, chains, rng):
    """Rows of all chains, time after time, in any order, and the chain of each."""
    order = rng.permutation(len(rows))
    return rows[order], order % chains


def true_error(variance, correlation, *, chains=CHAINS, draws=DRAWS):
    """Of the mean over all draws, where `correlation` to the power of the lag is theirs."""
    lags = np.abs(np.subtract.outer(np.arange(draws), np.arange(draws)))
    return np.sqrt(variance * np.mean(correlation**lags) / chains)


def standing(values):
    """The mean of `values`, in its own standard errors."""
    return np.mean(values) / (np.std(values, ddof=1) / np.sqrt(len(values)))

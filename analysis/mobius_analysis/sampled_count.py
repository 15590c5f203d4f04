"""How many requests there were, judged from those that sampling kept."""

from __future__ import annotations

from math import sqrt

from scipy.special import ndtri

from mobius_analysis.intervals import CONFIDENCE, Bounds

__all__ = ["count_bounds"]


def count_bounds(
    measured: int, weight: float, squared: float, confidence: float = CONFIDENCE
) -> Bounds:
    """Estimate a count with its interval: Horvitz and Thompson's sum of weights, Wilson's way of inverting it.

    Each request is kept by itself with the probability 1 / its weight, so the sum of weights has the variance
    N v, with v = (sum of squared weights - sum of weights) / sum of weights. The interval holds every N whose
    estimate the observed one may be, which is what keeps its coverage where few were kept.

    Parameters
    ----------
    measured
        Requests that were kept; there were no fewer.
    weight, squared
        Sum of their weights, and of the squares.

    Returns
    -------
    Bounds
        In requests. Without sampling, all three are ``weight``. It says nothing of how much the count itself
        would vary from hour to hour.
    """
    if weight <= 0:
        return Bounds(0.0)
    excess = max(0.0, squared - weight) / weight
    z = float(ndtri((1 + confidence) / 2))
    shift, reach = z * z * excess / 2, z * sqrt(excess * weight + (z * excess / 2) ** 2)
    return Bounds(weight, max(float(measured), weight + shift - reach), weight + shift + reach)

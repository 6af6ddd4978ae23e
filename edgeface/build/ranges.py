"""How far a tensor's values reach: histograms that grow, and the largest value that INT8 should hold.

A histogram counts |x| in equal bins from 0. When a value lies beyond the last bin, the range doubles and bins are
merged two by two: one pass over the pictures, the same memory however many they are, and never less than half of the
bins in use.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeface.build.scales import LEVELS, Method
from edgeface.values import F64, I64

BINS = 4096  # so that always 2048 are in use
PERCENTILE = 99.99
_STEP = 8  # bins between the ranges that `entropy` tries
_LEAST_RANGE = 1e-9


class Histogram:
    """Of the magnitudes of all values added so far."""

    def __init__(self) -> None:
        self.counts: I64 = np.zeros(BINS, np.int64)
        self.range = 0.0  # upper end of the last bin; 0: nothing but zeros so far
        self.peak = 0.0  # the largest magnitude

    def add(self, values: NDArray[Any]) -> None:
        """Count values of any shape. Raises ValueError when one is not finite."""
        magnitude = np.abs(values, dtype=np.float32).ravel()
        peak = float(np.max(magnitude, initial=0))
        if not np.isfinite(peak):
            raise ValueError("a value is not finite")
        self.peak = max(self.peak, peak)
        if not self.range and peak > 0:
            self.range = max(peak, _LEAST_RANGE)
        while peak > self.range:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)])
            self.range *= 2
        magnitude *= np.float32(BINS / (self.range or 1))
        bins = np.minimum(magnitude.astype(np.intp), BINS - 1)
        self.counts += np.bincount(bins, minlength=BINS)

    def used(self) -> tuple[I64, float]:
        """The counts up to the bin of the peak, and a bin's width."""
        width = (self.range or 1) / BINS
        return self.counts[: min(int(self.peak / width) + 1, BINS)], width


def largest_kept(histogram: Histogram, method: Method, percentile: float = PERCENTILE) -> float:
    """The magnitude that becomes 127; what is larger is clipped to it. 0: all values are 0."""
    if method == "minmax" or histogram.peak == 0:
        return histogram.peak
    counts, width = histogram.used()
    if method == "percentile":
        covered = np.searchsorted(np.cumsum(counts), counts.sum() * (percentile / 100)) + 1
        return min(float(covered) * width, histogram.peak)
    halved: I64 = np.append(counts, np.zeros(len(counts) % 2, np.int64)).reshape(-1, 2).sum(axis=1)
    return min((_entropy_bins(halved) + 0.5) * 2 * width, histogram.peak)  # of 2048 bins, as published


def _entropy_bins(counts: I64) -> float:
    """How many bins to keep so that what 128 levels tell diverges least from what the bins told.

    Szymon Migacz, "8-bit Inference with TensorRT" (GTC 2017): KL(P || Q) with P, the first i bins, what lies beyond
    counted in the last of them, and Q, the same bins averaged over 128 levels; bins that were empty stay so. The first
    bin counts as the second: after a ReLU half of all values are 0, which any scale holds.
    """
    bins = counts.astype(np.float64)
    if len(bins) > 1:
        bins[0] = bins[1]
    levels = LEVELS + 1
    tried = [*range(levels, len(bins), _STEP), len(bins)]
    divergences = [_divergence(bins[:kept], float(bins[kept:].sum()), levels) for kept in tried]
    return float(tried[int(np.argmin(divergences))])


def _divergence(bins: F64, beyond: float, levels: int) -> float:
    """KL(P || Q) for `bins` kept of which `beyond` more values lie outside; infinite where Q lacks what P has."""
    p = bins.copy()
    p[-1] += beyond
    level = np.arange(len(bins)) * levels // len(bins)
    full = bins > 0
    total, number = np.bincount(level, bins, levels), np.bincount(level, full, levels)
    q = np.where(full, (total / np.maximum(number, 1))[level], 0)
    has = p > 0
    if not has.any() or not q[has].all():
        return np.inf
    p_share, q_share = p[has] / p.sum(), q[has] / q.sum()
    return float(np.sum(p_share * np.log(p_share / q_share)))

"""Curves for painting."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeface.values import F64
from training.render.mesh import I32


def smooth_curve(points: NDArray, n: int = 40) -> F64:
    """`n` points [n, 2] along the polyline `points` [k, 2], its corners rounded."""
    at = np.linspace(0, len(points) - 1, n)
    curve = np.stack([np.interp(at, np.arange(len(points)), points[:, k]) for k in range(2)], 1)
    rounded = curve.copy()
    for k in range(2):
        rounded[2:-2, k] = np.convolve(curve[:, k], np.ones(5) / 5, "valid")
    return rounded


def fixed(points: ArrayLike) -> I32:
    """Points as OpenCV's drawing takes them with shift = 4: sixteenths of a pixel."""
    return np.round(np.asarray(points) * 16).astype(np.int32)

"""How far the picture has moved between two frames because the camera did."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeface.values import U8

Spectrum = NDArray[np.complexfloating[Any, Any]]

_REACH = 2  # the peak of a shift between two cells is spread over so many cells around it
_MIN_RESPONSE = 0.3  # of 1: the share of the picture that agrees
_MAX_SHIFT = 0.25  # of the picture


def spectrum(glimpse: U8) -> Spectrum:
    """The Fourier transform [rows, columns // 2 + 1] of a glimpse [rows, columns], faded out to its borders."""
    rows, columns = glimpse.shape
    window = np.hanning(rows)[:, None] * np.hanning(columns)
    transform: Spectrum = np.fft.rfft2((glimpse - glimpse.mean()) * window)
    return transform


def shift(before: Spectrum, now: Spectrum, columns: int) -> tuple[float, float]:
    """By how much of its width and height the picture moved right and down; (0, 0) when that cannot be told.

    Phase correlation (Kuglin and Hines 1975): the transform of a shift has modulus 1, its inverse is a peak at the
    shift. The centroid around the peak tells parts of a cell. What moves for itself makes its own, smaller peak, unless
    the background is blank: a walker before a white wall looks like a moving camera.
    """
    cross = now * before.conj()
    surface = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), s=(len(before), columns))
    size = np.array(surface.shape)
    peak = np.array(np.unravel_index(np.argmax(surface), surface.shape))
    near = np.arange(-_REACH, _REACH + 1)
    patch = np.maximum(surface[np.ix_((peak[0] + near) % size[0], (peak[1] + near) % size[1])], 0)
    response = patch.sum()
    if response < _MIN_RESPONSE:
        return 0.0, 0.0
    centroid = peak + np.array([patch.sum(axis=1) @ near, patch.sum(axis=0) @ near]) / response
    moved = ((centroid + size / 2) % size - size / 2) / size  # the second half of the surface are negative shifts
    if np.abs(moved).max() > _MAX_SHIFT:
        return 0.0, 0.0
    return float(moved[1]), float(moved[0])

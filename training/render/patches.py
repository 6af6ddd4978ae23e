"""Painted patches: noise, pasting with alpha, scaling, relief with light on it."""

from __future__ import annotations

import cv2
import numpy as np

from edgeface.values import F32, U8

Patch = tuple[F32, F32]  # luma and alpha [h, w], both 0..1; luma is not multiplied by alpha

DISPLAY_GAMMA = 2.2  # display values are linear light to the power of 1 / 2.2
_SOLID = 250  # alpha from which a pixel shows nothing of what was behind it


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is even between those of `low` and `high`: sizes."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def noise(rng: np.random.Generator, height: int, width: int, first: int = 2, last: int = 64, fall: float = 1.0) -> F32:
    """Noise [height, width] of mean 0 and deviation 1: octaves of `first` to `last` cells, each `fall` weaker in
    the exponent (0: all alike; 1: halved)."""
    total = np.zeros((height, width), np.float32)
    cells = first
    while cells <= min(last, max(height, width)):
        octave = rng.standard_normal((cells, cells), dtype=np.float32)
        total += cv2.resize(octave, (width, height), interpolation=cv2.INTER_LINEAR) * np.float32(
            (first / cells) ** fall
        )
        cells *= 2
    return (total - total.mean()) / (total.std() + np.float32(1e-6))


def paste(picture: F32, luma: F32, alpha: F32, left: int, top: int) -> tuple[slice, slice] | None:
    """Lays a patch over `picture` in place; the rows and columns it fell on, None when it lies outside."""
    height, width = picture.shape
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(width, left + luma.shape[1]), min(height, top + luma.shape[0])
    if x1 <= x0 or y1 <= y0:
        return None
    under = picture[y0:y1, x0:x1]
    part = slice(y0 - top, y1 - top), slice(x0 - left, x1 - left)
    under += (luma[part] - under) * alpha[part]
    return slice(y0, y1), slice(x0, x1)


def scaled(luma: U8, alpha: U8, width: int, height: int) -> Patch:
    """Stored bytes at another size; edges stay clean, because luma is weighted by alpha when it shrinks."""
    unit = np.float32(1 / 255)
    if width >= luma.shape[1]:
        shade, share = (cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC) for part in (luma, alpha))
        share = cv2.GaussianBlur(share, (0, 0), 0.45 * width / luma.shape[1])  # no stairs along the outline
        return shade * unit, share * unit
    weighted = cv2.multiply(luma, alpha, scale=1 / 255)
    shade, share = (cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA) for part in (weighted, alpha))
    return np.minimum(shade / np.maximum(share, np.float32(1)), np.float32(1)), share * unit


def bled(luma: U8, alpha: U8) -> U8:
    """Edge pixels take the grey of the solid ones beside them, so that no halo of the old background travels along."""
    solid = (alpha >= _SOLID).astype(np.float32)
    spread = max(1.0, luma.shape[0] / 100)
    weight = cv2.GaussianBlur(solid, (0, 0), spread)
    near = cv2.GaussianBlur(luma * solid, (0, 0), spread) / np.maximum(weight, np.float32(1e-4))
    edge = (alpha < _SOLID) & (weight > 1e-3)
    return np.where(edge, np.clip(near, 0, 255), luma).astype(np.uint8)


def coordinates(size: int) -> tuple[F32, F32]:
    """x and y of a square patch's pixel centres, -1..1 from left to right and from top to bottom."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(line, line)
    return x, y


def ellipse(x: F32, y: F32, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0) -> F32:
    """Squared distance from the centre in radii: below 1 inside. `angle` in radians."""
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = (dx * cos + dy * sin) / np.float32(radii[0]), (-dx * sin + dy * cos) / np.float32(radii[1])
    return u * u + v * v


def dome(inside: F32, height: float) -> F32:
    """The relief of an ellipsoid over `inside` (from `ellipse`), 0 outside."""
    return np.sqrt(np.clip(1 - inside, 0, 1)) * np.float32(height)


def cover(inside: F32, size: int, radius: float) -> F32:
    """0..1 with an edge about two pixels wide, of an ellipse of that mean radius on a patch of that size."""
    return np.clip((1 - inside) * np.float32(radius * size / 4) + np.float32(0.5), 0, 1)


def lit(rng: np.random.Generator, relief: F32, albedo: F32, gloss: float = 0.0) -> F32:
    """Display values of a relief (in units of half the patch) under ambient light and one or two lamps (Lambert)."""
    size = relief.shape[0]
    smooth = cv2.GaussianBlur(relief, (0, 0), size / 120)
    slope_x = np.clip(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=size / 16), -4, 4)
    slope_y = np.clip(cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=size / 16), -4, 4)
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    light = np.full_like(relief, rng.uniform(0.15, 0.5)) * (1 - np.float32(rng.uniform(0, 0.3)) * slope_y / length)
    shine = np.zeros_like(relief)
    for _ in range(int(rng.integers(1, 3))):
        lamp = rng.normal((0, -0.5, 0.9), 1)  # mostly from above and from before
        lamp[2] = abs(lamp[2])
        lamp /= np.linalg.norm(lamp)
        facing = np.clip((-lamp[0] * slope_x - lamp[1] * slope_y + lamp[2]) / length, 0, None).astype(np.float32)
        light += np.float32(rng.uniform(0.2, 0.9)) * facing
        shine += facing**12
    hollow = np.clip(cv2.GaussianBlur(smooth, (0, 0), size / 25) - smooth, 0, 0.3)
    linear = albedo * np.clip(light, 0.03, None) * (1 - hollow * np.float32(2)) + np.float32(gloss) * shine
    return np.clip(linear, 0, 1) ** np.float32(1 / DISPLAY_GAMMA)

"""What a camera does to a picture: blur, exposure, noise, compression, fields, infrared light.

Each effect is one function of a picture of display values 0..1 and a generator; `EFFECTS` says in which order they
come and how often. An effect draws from a stream of its own: leaving one out changes nothing in the others, so an
ablation compares the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from edgeface.values import F32, U8
from training.render.patches import DISPLAY_GAMMA

Effect = Callable[[F32, np.random.Generator], F32]


def degrade(picture: F32, rng: np.random.Generator, ingredients: frozenset[str]) -> U8:
    """The bytes a camera would deliver of `picture`: F32 [h, w] or [h, w, 3], display values 0..1; the same shape.

    `ingredients` names the effects that may happen (`INGREDIENTS` is all of them); others of its names are ignored.
    Points and boxes stay where they are: what shifts pixels does so evenly to both sides.
    """
    seeds = rng.integers(2**63, size=len(EFFECTS) + 1)
    for seed, (name, probability, effect) in zip(seeds, EFFECTS, strict=False):
        if name in ingredients:
            own = np.random.default_rng(seed)
            if own.random() < probability:
                picture = effect(picture, own)
    stored: U8 = np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
    if "jpeg" in ingredients:
        own = np.random.default_rng(seeds[-1])
        if own.random() < JPEG_PROBABILITY:
            stored = jpeg(stored, own)
    return stored


def infrared(picture: F32, rng: np.random.Generator) -> F32:
    """A lamp beside the lens: a hot centre, dark corners, low contrast, one channel, noise."""
    if picture.ndim == 3:
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    height, width = picture.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] - np.float32(rng.normal(0, 0.2))
    x = np.linspace(-1, 1, width, dtype=np.float32)[None] - np.float32(rng.normal(0, 0.2))
    falloff = 1 / (1 + np.float32(rng.uniform(0.3, 1.6)) * (x * x + y * y))  # inverse square towards the corners
    lamp = _as_channels(falloff * np.float32(rng.uniform(0.9, 1.5)), picture)
    black = rng.uniform(0, 0.12)
    lit = black + (1 - black) * rng.uniform(0.6, 1.0) * picture * lamp
    return _with_noise(lit, rng, rng.uniform(0.005, 0.03))


def resample(picture: F32, rng: np.random.Generator) -> F32:
    """Stored smaller and enlarged again, as by a digital zoom or a scaled stream."""
    height, width = picture.shape[:2]
    factor = rng.uniform(0.5, 1.0)
    small = (max(8, round(width * factor)), max(8, round(height * factor)))
    enlarge = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST_EXACT)[rng.choice(3, p=[0.5, 0.4, 0.1])]
    return _resized(_resized(picture, small, cv2.INTER_AREA), (width, height), enlarge)


def defocus(picture: F32, rng: np.random.Generator) -> F32:
    """Out of focus: mostly a little (a Gaussian), sometimes the disc of an open lens."""
    if rng.random() < 0.75:
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.4)), np.float32)
    radius = rng.uniform(0.8, 2.6)
    reach = int(np.ceil(radius))
    grid = np.arange(-reach, reach + 1)
    disc = np.clip(radius + 0.5 - np.hypot(grid[:, None], grid[None]), 0, 1).astype(np.float32)
    return np.asarray(cv2.filter2D(picture, -1, disc / disc.sum()), np.float32)


def motion_blur(picture: F32, rng: np.random.Generator) -> F32:
    """The camera or the scene moves evenly while the shutter is open."""
    length, angle = rng.uniform(2, 9), rng.uniform(0, np.pi)
    reach = int(np.ceil(length / 2))
    along = np.linspace(-length / 2, length / 2, 4 * reach + 1)
    kernel = np.zeros((2 * reach + 3, 2 * reach + 3), np.float32)
    for x, y in zip(along * np.cos(angle), along * np.sin(angle), strict=True):
        left, top = int(np.floor(x)), int(np.floor(y))
        right_share, low_share = x - left, y - top
        spot = kernel[top + reach + 1 : top + reach + 3, left + reach + 1 : left + reach + 3]
        spot += np.outer([1 - low_share, low_share], [1 - right_share, right_share])
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), np.float32)


def interlace(picture: F32, rng: np.random.Generator) -> F32:
    """Two fields of a camera that moves sideways: even rows half the way to one side, odd rows to the other."""
    shift = rng.uniform(0.003, 0.012) * picture.shape[1] * rng.choice([-1, 1]) / 2
    fields = picture.copy()
    for field, way in ((0, -shift), (1, shift)):
        moved = cv2.warpAffine(
            picture, np.array([[1, 0, way], [0, 1, 0]]), picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE
        )
        fields[field::2] = moved[field::2]
    return fields


def exposure(picture: F32, rng: np.random.Generator) -> F32:
    """Contrast about the mean, brightness and gamma of another camera."""
    mean = float(picture.mean())
    contrast, level = float(np.exp(rng.normal(0.05, 0.17))), np.clip(mean + rng.normal(0, 0.05), 0.1, 0.75)
    curved = np.clip((picture - mean) * np.float32(contrast) + np.float32(level), 0, 1)
    return np.asarray(cv2.pow(curved, float(np.exp(rng.normal(0, 0.18)))), np.float32)


def over_exposure(picture: F32, rng: np.random.Generator) -> F32:
    """Too much light: highlights clip and bloom a little."""
    most = max(1.1, 0.9 / max(0.01, float(np.median(picture))))  # something stays to be seen
    bright = picture * np.float32(min(most, rng.uniform(1.2, 1.8)))
    bloom = cv2.GaussianBlur(np.clip(bright - 1, 0, 1), (0, 0), rng.uniform(1, 6))
    return np.asarray(bright + bloom * np.float32(rng.uniform(0, 0.8)), np.float32)


def low_light(picture: F32, rng: np.random.Generator) -> F32:
    """Few photons, amplified: shot noise (variance = signal) and read noise in linear light, then often smoothed."""
    photons = float(np.exp(rng.uniform(np.log(80), np.log(1000))))  # at white
    linear = cv2.pow(np.clip(picture, 0, 1), DISPLAY_GAMMA) * np.float32(photons)
    deviation = np.sqrt(linear + np.float32(rng.uniform(0.5, 3) ** 2))
    noisy = linear + deviation * rng.standard_normal(linear.shape, dtype=np.float32)
    gain = rng.uniform(0.3, 1.0) / photons
    seen = np.asarray(cv2.pow(np.clip(noisy * np.float32(gain), 0, 1), 1 / DISPLAY_GAMMA), np.float32)
    if rng.random() < 0.4:  # the camera's own denoiser
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.5, 1.2)), np.float32)
    return seen


def sensor_noise(picture: F32, rng: np.random.Generator) -> F32:
    """Even Gaussian noise of a small deviation."""
    return _with_noise(picture, rng, rng.uniform(0, 0.025) * rng.uniform(0.2, 1))


def banding(picture: F32, rng: np.random.Generator) -> F32:
    """Bands of mains light in a rolling shutter, or a sky of few grey levels."""
    if rng.random() < 0.5:
        levels = np.float32(rng.integers(14, 48))
        return np.asarray(np.round(picture * levels) / levels, np.float32)
    rows = np.arange(picture.shape[0], dtype=np.float32) / picture.shape[0]
    wave = np.sin(2 * np.pi * (rows * rng.uniform(1.5, 12) + rng.random()))
    gain = (1 + rng.uniform(0.04, 0.2) * wave).astype(np.float32)
    return np.asarray(picture * gain.reshape(-1, *[1] * (picture.ndim - 1)), np.float32)


def jpeg(stored: U8, rng: np.random.Generator) -> U8:
    """Compressed and decompressed again."""
    quality = int(rng.integers(30, 96))
    done, data = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"OpenCV cannot compress a picture of shape {stored.shape}")
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if stored.ndim == 2 else cv2.IMREAD_COLOR), np.uint8)


# ingredient, how often, what: in the order in which light, lens, sensor and camera do it
EFFECTS: tuple[tuple[str, float, Effect], ...] = (
    ("infrared", 0.05, infrared),
    ("resample", 0.25, resample),
    ("blur", 0.20, defocus),
    ("motion", 0.07, motion_blur),
    ("interlace", 0.03, interlace),
    ("exposure", 0.70, exposure),
    ("over_exposure", 0.03, over_exposure),
    ("low_light", 0.05, low_light),
    ("noise", 0.50, sensor_noise),
    ("banding", 0.03, banding),
)
JPEG_PROBABILITY = 0.5
INGREDIENTS = frozenset({name for name, _, _ in EFFECTS} | {"jpeg"})


def _with_noise(picture: F32, rng: np.random.Generator, deviation: float) -> F32:
    return picture + np.float32(deviation) * rng.standard_normal(picture.shape, dtype=np.float32)


def _as_channels(plane: F32, picture: F32) -> F32:
    return plane if picture.ndim == 2 else plane[..., None]


def _resized(picture: F32, size: tuple[int, int], interpolation: int) -> F32:
    return np.asarray(cv2.resize(picture, size, interpolation=interpolation), np.float32)

"""Light: panoramas as spherical harmonics, lamps, and the shadows that a head throws on itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from edgeface.values import F32
from training.render.mesh import I32
from training.render.patches import DISPLAY_GAMMA
from training.render.raster import FAR, draw

TURNS = 16  # a panorama lights a face from one of so many directions
LUMA = np.float32([0.299, 0.587, 0.114])
METERED = 0.27  # linear light of the middle of a person, as a camera would have it
SHADOW_SIZE, SHADOW_EXTENT = 128, 44.0  # pixels across, head units across


@dataclass(frozen=True, slots=True)
class Lamp:
    direction: F32  # [3] towards the lamp, unit length
    colour: F32  # [3] linear red, green, blue
    wrap: float  # how far light reaches round an edge: 0 a hard terminator
    shadow: float  # 0: throws none; 1: black ones


@dataclass(frozen=True, slots=True)
class Light:
    ambient: F32  # [9, 3] spherical harmonics of the light that falls on a white surface
    lamps: tuple[Lamp, ...]


def displayed(rng: np.random.Generator, rgb: F32) -> F32:
    """Luma f32 [h, w] of display values, of linear light `rgb` f32 [h, w, 3], at an exposure of the camera's choosing.

    A camera's metering takes half of what the person (all that is not black) is too dark or too bright, and its curve
    has a soft shoulder. The luma of what it delivers is made of display values: these are weighed, not the light.
    """
    person = rgb[rgb.max(axis=2) > 0]
    level = float(np.median(person @ LUMA)) if len(person) else METERED
    gain = np.sqrt(METERED / max(level, 0.02)) * rng.uniform(0.8, 1.25)
    exposed = rgb * np.float32(gain)
    curved = exposed * (1 + exposed / 6) / (1 + 0.55 * exposed)
    return (np.clip(curved, 0, 1.2) ** np.float32(1 / DISPLAY_GAMMA)) @ LUMA


def harmonics(n: F32) -> F32:
    """The nine real spherical harmonics [..., 9] of unit vectors [..., 3] (Ramamoorthi and Hanrahan 2001)."""
    x, y, z = n[..., 0], n[..., 1], n[..., 2]
    return np.stack(
        [
            np.full_like(x, 0.282095),
            0.488603 * y,
            0.488603 * z,
            0.488603 * x,
            1.092548 * x * y,
            1.092548 * y * z,
            0.315392 * (3 * z * z - 1),
            1.092548 * x * z,
            0.546274 * (x * x - y * y),
        ],
        -1,
    )


@lru_cache(maxsize=2)
def panoramas(folder: Path) -> tuple[F32, ...]:
    """The panoramas f32 [256, 512, 3] of hdri.npz, linear light."""
    stored = np.load(folder / "hdri.npz")
    return tuple(np.clip(np.nan_to_num(stored[str(k)].astype(np.float32)), 0, None) for k in range(len(stored.files)))


@lru_cache(maxsize=64)
def surroundings(folder: Path, number: int) -> F32:
    """Harmonics f32 [TURNS, 9, 3] of the light that panorama `number` throws on a white surface; mean level 1."""
    small = cv2.resize(panoramas(folder)[number], (64, 32), interpolation=cv2.INTER_AREA)
    small = np.minimum(small, np.percentile(small, 99.5) * 4)  # the sun is a lamp of its own
    down = (np.arange(32) + 0.5) / 32 * np.pi
    area = np.sin(down)[:, None, None] * (np.pi / 32) * (2 * np.pi / 64)
    fold = (np.array([np.pi] + [2.094395] * 3 + [0.785398] * 5) / np.pi)[:, None]  # the cosine lobe's
    turns = []
    for turn in range(TURNS):
        round_ = ((np.arange(64) + 0.5) / 64 + turn / TURNS) * 2 * np.pi
        to = np.stack(
            [
                np.sin(down)[:, None] * np.sin(round_),
                np.cos(down)[:, None] + 0 * round_,
                np.sin(down)[:, None] * np.cos(round_),
            ],
            -1,
        )
        turns.append(np.einsum("ijc,ijk->kc", small * area, harmonics(to)) * fold)
    found = np.array(turns)
    level = found[:, 0].mean(0) * 0.282095
    grey = level.mean()
    # a camera's white balance takes most of the cast away
    return (found / (level**0.8 * grey**0.2)).astype(np.float32)


def direction(azimuth: float, elevation: float) -> F32:
    """Unit vector f32 [3]: azimuth 0 is the camera's side, positive to the picture's right; radians."""
    return np.float32([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])


def sample(rng: np.random.Generator, folder: Path, *, hdri: bool, shadow: bool, infrared: bool) -> Light:
    """Light as faces meet it: rooms and streets, one to three lamps; an infrared camera brings its own."""
    if infrared:
        lamp = Lamp(
            direction(rng.normal(0, 0.12), rng.normal(0.05, 0.12)),
            np.full(3, rng.uniform(0.5, 1.3), np.float32),
            0.1,
            0,
        )
        return Light(_even(rng, rng.uniform(0.03, 0.25)), (lamp,))
    n, strength = int(rng.integers(1, 4)), 1.0
    if hdri and rng.random() < 0.6:
        turns = surroundings(folder, int(rng.integers(len(panoramas(folder)))))
        ambient = turns[rng.integers(TURNS)] * np.float32(np.exp(rng.normal(-0.1, 0.35)))
        n, strength = int(rng.integers(1, 3)), rng.uniform(0, 1)
    else:
        ambient = _even(rng, rng.uniform(0.1, 0.7))
    lamps = []
    for k in range(n):
        azimuth = rng.uniform(-1.7, 1.7) if k else rng.normal(0, 0.8)
        warmth = np.float32([1 + (w := rng.normal(0, 0.1)), 1, 1 - w])
        colour = warmth * np.float32((rng.uniform(0.3, 1.2) if k == 0 else rng.uniform(0, 0.8)) * strength)
        dark = rng.uniform(0.4, 1) if shadow and k == 0 and rng.random() < 0.75 else 0.0
        lamps.append(Lamp(direction(azimuth, rng.uniform(-0.4, 1.3)), colour, rng.uniform(0, 0.35), dark))
    return Light(ambient, tuple(lamps))


def _even(rng: np.random.Generator, level: float) -> F32:
    """Light of the `level` from all sides, a little more from above, and from one side."""
    ambient = np.zeros((9, 3), np.float32)
    ambient[0] = level / 0.282095
    ambient[1] = level * rng.uniform(-0.1, 0.6) / 0.488603
    ambient[3] = level * rng.uniform(-0.4, 0.4) / 0.488603
    return ambient


def shadows(solids: Sequence[tuple[F32, I32]], lamp: F32, places: F32, softness: float) -> F32:
    """How much f32 [h, w] of each of `places` f32 [h, w, 3] lies in the shadow of `solids`, 0..1.

    `solids` are (vertices f32 [n, 3], faces i32 [m, 3]) in the camera's frame; `softness` in pixels of the shadow map.
    """
    side = np.cross(np.float32([0, 1, 0.01]), lamp)
    side /= np.linalg.norm(side)
    frame = np.stack([side, np.cross(lamp, side), lamp]).astype(np.float32)
    scale = SHADOW_SIZE / SHADOW_EXTENT
    middle = np.float32(SHADOW_SIZE / 2)

    def seen_from_lamp(points: F32) -> F32:
        q = points @ frame.T
        return np.stack([q[..., 0] * scale + middle, middle - q[..., 1] * scale, -q[..., 2]], -1).astype(np.float32)

    depth = np.full((SHADOW_SIZE, SHADOW_SIZE), FAR, np.float32)
    index, weights = np.empty(depth.shape, np.int32), np.empty((*depth.shape, 2), np.float32)
    for vertices, faces in solids:
        draw(seen_from_lamp(vertices), faces, 0, True, depth, index, weights)
    q = seen_from_lamp(places)
    dark = np.zeros(places.shape[:2], np.float32)
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)):
        x, y = q[..., 0] + np.float32(dx * softness - 0.5), q[..., 1] + np.float32(dy * softness - 0.5)
        nearest = cv2.remap(depth, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        dark += q[..., 2] - nearest > 0.7
    return dark / 5

"""Faces that a test draws itself: ellipses with eyes and a mouth, in the shards' format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# a face's points from its middle, in half-sides: five of them make the pattern, the other 75 lie between
_FIVE = np.array([[-0.4, -0.3], [0.4, -0.3], [0.0, 0.1], [-0.3, 0.5], [0.3, 0.5]])


def _paint(picture: NDArray, centre: NDArray, half: float, skin: float) -> None:
    size = picture.shape[0]
    y, x = np.mgrid[:size, :size] + 0.5
    picture[((x - centre[0]) / half) ** 2 + ((y - centre[1]) / half) ** 2 < 1] = skin
    for place in _FIVE:
        dot = centre + place * half
        picture[(x - dot[0]) ** 2 + (y - dot[1]) ** 2 < (0.18 * half) ** 2] = 255 - skin


def faces(count: int, seed: int, size: int = 96) -> dict[str, NDArray]:
    """A shard of faces: one in the middle of each picture, 80 points, the last ten hidden."""
    random = np.random.default_rng(seed)
    picture = np.empty((count, size, size), np.uint8)
    landmarks = np.empty((count, 80, 2), np.float32)
    share = np.linspace(0, 1, 80)[:, None]
    for index in range(count):
        canvas = random.uniform(60, 200) + random.normal(0, 12, (size, size))
        centre, half = size / 2 + random.uniform(-6, 6, 2), random.uniform(20, 32)
        _paint(canvas, centre, half, random.choice([20, 235]))
        picture[index] = canvas.clip(0, 255)
        # from the image-left eye to the image-right mouth corner
        landmarks[index] = centre + (_FIVE[0] + (_FIVE[4] - _FIVE[0]) * share) * half
    visible = np.ones((count, 80), np.uint8)
    visible[:, 70:] = 0
    return {"picture": picture, "landmarks": landmarks, "visible": visible}


def scenes(count: int, seed: int, size: int = 128) -> dict[str, NDArray]:
    """A shard of scenes: none to three faces of 16 to 48 pixels on noise, and now and then one to ignore."""
    random = np.random.default_rng(seed)
    picture = np.empty((count, size, size), np.uint8)
    first, xyxy, keypoints, ignore = [0], [], [], []
    for index in range(count):
        canvas = random.uniform(60, 200) + random.normal(0, 12, (size, size))
        for _ in range(int(random.integers(0, 4))):
            half = random.uniform(8, 24)
            centre = random.uniform(half, size - half, 2)
            if any(np.abs(centre - (box[:2] + box[2:]) / 2).max() < 48 for box in xyxy[first[-1] :]):
                continue
            _paint(canvas, centre, half, random.choice([20, 235]))
            xyxy.append(np.concatenate([centre - half, centre + half]))
            keypoints.append(centre + _FIVE * half)
            ignore.append(random.random() < 0.1)
        first.append(len(xyxy))
        picture[index] = canvas.clip(0, 255)
    return {
        "picture": picture,
        "first": np.array(first, np.int64),
        "xyxy": np.array(xyxy, np.float32).reshape(-1, 4),
        "keypoints": np.array(keypoints, np.float32).reshape(-1, 5, 2),
        "ignore": np.array(ignore, np.uint8),
        "visible": np.ones(len(xyxy), np.float32),
        "pose": np.zeros((len(xyxy), 3), np.float32),
    }


def write(folder: Path, kind: str, shard: dict[str, NDArray], number: int) -> None:
    """A shard where the training looks for it."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{kind}-{number:05d}.npz", **shard)

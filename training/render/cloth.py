"""Woven and printed cloth: plain, striped, checked, dotted, mottled, with print, buttons, a jacket's front."""

from __future__ import annotations

import cv2
import numpy as np

from edgeface.values import F32
from training.render.patches import noise


def cloth(rng: np.random.Generator, size: int) -> F32:
    """Albedo [size, size] of a garment's front, its middle in the middle; it repeats at the borders."""
    ground, other = rng.uniform(0.03, 0.9), rng.uniform(0.03, 0.95)
    weave = np.full((size, size), ground, np.float32)
    pattern = rng.choice(
        ["plain", "rows", "columns", "checks", "dots", "mottled"], p=[0.25, 0.15, 0.12, 0.16, 0.12, 0.2]
    )
    line = np.arange(size)
    if pattern == "rows":
        weave[(line // int(rng.integers(4, 30))) % 2 == 0] = other
    elif pattern == "columns":
        weave[:, (line // int(rng.integers(3, 22))) % 2 == 0] = other
    elif pattern == "checks":
        band = ((line // int(rng.integers(5, 30))) % 2) * np.float32(0.5)
        weave = (ground + (other - ground) * (band[:, None] + band[None])).astype(np.float32)
    elif pattern == "dots":
        even = rng.random() < 0.5
        for _ in range(int(rng.integers(20, 200))):
            centre, radius = rng.integers(0, size, 2), int(rng.integers(3, 22))
            cv2.circle(
                weave,
                tuple(centre.tolist()),
                radius,
                other if even else rng.random(),
                int(rng.choice([-1, -1, 2])),
                cv2.LINE_AA,
            )
    elif pattern == "mottled":
        grain = noise(rng, size, size, 4, 256, rng.uniform(0, 0.8))
        weave = np.clip(grain * np.float32(rng.uniform(0.02, 0.3)) + np.float32(ground), 0.02, 1)
    if rng.random() < 0.3:
        _print(weave, rng)
    if rng.random() < 0.3:
        _jacket(weave, rng, ground)
    if rng.random() < 0.35:
        _buttons(weave, rng, ground)
    return np.clip(cv2.GaussianBlur(weave, (0, 0), rng.uniform(0.3, 1.5)), 0.02, 1)


def _print(weave: F32, rng: np.random.Generator) -> None:
    """Letters or a disc on the chest."""
    middle, size = weave.shape[1] // 2, weave.shape[0]
    ink = np.zeros(weave.shape, np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        if rng.random() < 0.6:
            letters = "".join(rng.choice(list("ABCDEFGHKMNOPRSTUVXYZ0123456789"), rng.integers(1, 6)))
            place = (int(middle + rng.integers(-90, 20)), int(rng.integers(size // 6, size * 2 // 3)))
            cv2.putText(
                ink,
                letters,
                place,
                int(rng.integers(0, 8)),
                rng.uniform(0.6, 2.5),
                255,
                int(rng.integers(1, 7)),
                cv2.LINE_AA,
            )
        else:
            place = (int(middle + rng.integers(-60, 60)), int(rng.integers(size // 5, size // 2)))
            axes = (int(rng.integers(10, 45)), int(rng.integers(10, 45)))
            cv2.ellipse(ink, place, axes, 0, 0, 360, 255, int(rng.choice([-1, 3])), cv2.LINE_AA)
    weave += (np.float32(rng.random()) - weave) * (ink * np.float32(1 / 255))


def _jacket(weave: F32, rng: np.random.Generator, ground: float) -> None:
    """A shirt's triangle, a tie, lapels."""
    middle, wide, low = weave.shape[1] // 2, int(rng.integers(15, 50)), int(rng.integers(120, 300))
    cv2.fillPoly(
        weave, [np.array([[middle - wide, 0], [middle + wide, 0], [middle, low]])], rng.uniform(0.5, 1), cv2.LINE_AA
    )
    if rng.random() < 0.6:
        half = int(rng.integers(4, 13))
        tie = [[middle - 3, 40], [middle + 3, 40], [middle + half, low - 20], [middle, low], [middle - half, low - 20]]
        cv2.fillPoly(weave, [np.array(tie)], rng.uniform(0, 0.9), cv2.LINE_AA)
    for side in (-1, 1):
        edge = [[middle + side * wide, 10], [middle + side * (wide + 18), 110], [middle, low]]
        cv2.polylines(weave, [np.array(edge)], False, ground * 0.5, 2, cv2.LINE_AA)


def _buttons(weave: F32, rng: np.random.Generator, ground: float) -> None:
    middle, grey, radius = weave.shape[1] // 2, rng.random(), int(rng.integers(2, 5))
    cv2.line(weave, (middle, 40), (middle, weave.shape[0] - 1), ground * 0.6, 1)
    for row in range(60, weave.shape[0] - 20, int(rng.integers(20, 45))):
        cv2.circle(weave, (middle, row), radius, grey, -1, cv2.LINE_AA)

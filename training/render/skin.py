"""Paints skin: tones, blemishes, lips, lids, folds, beards and brows on a canvas that is projected onto the face."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from edgeface.values import F32
from training.render import head as heads
from training.render.paint import fixed, smooth_curve
from training.render.patches import noise

SCALE = 20  # canvas pixels in a head unit
LEFT, TOP, WIDTH, HEIGHT = -10, 13, 20 * SCALE, 25 * SCALE
CANVASES = 300  # how many are painted; a face takes one of them
# linear red, green, blue of skin from light to dark: the ends and middle of published skin reflectance charts
TONES = np.float32(
    [[0.72, 0.50, 0.39], [0.57, 0.36, 0.25], [0.40, 0.23, 0.145], [0.22, 0.115, 0.068], [0.085, 0.045, 0.03]]
)
# layers of a canvas
SHADE, RED, BROW, BEARD = 0, 1, 2, 3


def albedo(depth: float) -> F32:
    """Skin's albedo f32 [3], `depth` 0 the lightest to 1 the darkest."""
    at = depth * (len(TONES) - 1)
    return np.float32([np.exp(np.interp(at, range(len(TONES)), np.log(TONES[:, k]))) for k in range(3)])


def on_canvas(places: F32) -> F32:
    """Canvas pixels [n, 2] of head places [n, 2 or 3]."""
    return np.stack([(places[:, 0] - LEFT) * SCALE, (TOP - places[:, 1]) * SCALE], 1)


@lru_cache(maxsize=CANVASES + 8)
def canvas(folder: Path, number: int, bearded: bool) -> F32:
    """Canvas f32 [HEIGHT, WIDTH, 4]: shade (multiplies the albedo), redness, brow and beard (0..1 covered).

    The same `number` is always the same canvas. Painting one takes about 30 ms, so faces share CANVASES of them.
    """
    head = heads.load(folder)
    rng = np.random.default_rng([20_251, number, bearded])
    places = head.base[head.points[:68]]
    marks = on_canvas(places)
    shade = np.exp(noise(rng, HEIGHT, WIDTH, 4, 256, rng.uniform(0.3, 1.0)) * rng.uniform(0.01, 0.07))
    red = np.zeros((HEIGHT, WIDTH), np.float32)
    _cheeks(rng, shade, red, marks)
    _lips(rng, shade, red, marks)
    _lids(rng, shade, marks)
    _nostrils(rng, shade, marks)
    _folds(rng, shade)
    _spots(rng, shade, red)
    beard = _beard(rng, places, marks) if bearded else np.zeros_like(red)
    return np.ascontiguousarray(np.stack([shade, red, _brows(rng, marks), beard], 2))


def _filled(*outlines: F32) -> F32:
    layer = np.zeros((HEIGHT, WIDTH), np.float32)
    for outline in outlines:
        cv2.fillPoly(layer, [fixed(outline)], 1.0, cv2.LINE_AA, 4)
    return layer


def _line(points: F32, thickness: float, softness: float) -> F32:
    layer = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.polylines(layer, [fixed(points)], False, 1.0, int(thickness), cv2.LINE_AA, 4)
    return cv2.GaussianBlur(layer, (0, 0), float(softness))


def _cheeks(rng: np.random.Generator, shade: F32, red: F32, marks: F32) -> None:
    socket, blush = rng.uniform(0, 0.28), rng.uniform(0, 0.6)
    for eye in (36, 42):
        x, y = marks[eye : eye + 6].mean(0)
        layer = np.zeros_like(red)
        axes = (int(rng.uniform(35, 55)), int(rng.uniform(20, 34)))
        cv2.ellipse(layer, (int(x), int(y + rng.uniform(-5, 15))), axes, 0, 0, 360, 1.0, -1)
        shade *= 1 - cv2.GaussianBlur(layer, (0, 0), 12) * socket
        layer[:] = 0
        cv2.circle(layer, (int(x + (x - WIDTH / 2) * 0.4), int(y + 65)), 30, 1.0, -1)
        red += cv2.GaussianBlur(layer, (0, 0), 16) * blush


def _lips(rng: np.random.Generator, shade: F32, red: F32, marks: F32) -> None:
    outline = np.vstack([smooth_curve(marks[48:55], 30), smooth_curve(np.vstack([marks[54:60], marks[48:49]]), 30)])
    lips = cv2.GaussianBlur(_filled(outline), (0, 0), float(rng.uniform(1, 5)))
    shade *= 1 - lips * (rng.uniform(0.02, 0.45) if rng.random() < 0.8 else rng.uniform(-0.25, 0.05))
    red += lips * rng.uniform(0.2, 1.2)
    between = _line(smooth_curve(marks[[48, 60, 61, 62, 63, 64, 54]], 30), rng.integers(2, 5), 0.7)
    shade *= 1 - between * rng.uniform(0.1, 0.7)


def _lids(rng: np.random.Generator, shade: F32, marks: F32) -> None:
    upper, lower, crease = rng.uniform(0.2, 0.85), rng.uniform(0, 0.5), rng.uniform(0, 0.45)
    thick, fold = rng.integers(2, 7), rng.uniform(7, 15)
    for eye in (36, 42):
        lid = marks[eye : eye + 6]
        top, bottom = smooth_curve(lid[[0, 1, 2, 3]], 20), smooth_curve(lid[[3, 4, 5, 0]], 20)
        shade *= 1 - _line(top - np.array([0, 2]), thick, 1.2) * upper
        shade *= 1 - _line(bottom + np.array([0, 2]), rng.integers(1, 4), 1.5) * lower
        shade *= 1 - _line(top - np.array([0, fold]), rng.integers(1, 4), 1.5) * crease
        shade *= 1 - _line(bottom + np.array([0, rng.uniform(10, 22)]), 3, 5) * crease * 0.6  # a bag below the eye


def _nostrils(rng: np.random.Generator, shade: F32, marks: F32) -> None:
    layer = np.zeros((HEIGHT, WIDTH), np.float32)
    for point, aside in ((32, -4), (34, 4)):
        cv2.ellipse(layer, (int(marks[point, 0] + aside), int(marks[point, 1] - 7)), (9, 5), 0, 0, 360, 1.0, -1)
    shade *= 1 - cv2.GaussianBlur(layer, (0, 0), 2.5) * rng.uniform(0.1, 0.8)


def _folds(rng: np.random.Generator, shade: F32) -> None:
    if rng.random() < 0.6:
        for side in (-1, 1):
            fold = np.array([[1.9, 1.0], [2.9, -0.8], [3.5, -2.6], [3.6, -4.0]]) * [side, 1] + rng.normal(
                0, 0.15, (4, 2)
            )
            shade *= 1 - _line(smooth_curve(on_canvas(fold), 24), rng.integers(2, 5), rng.uniform(2, 5)) * rng.uniform(
                0, 0.45
            )
    if rng.random() < 0.4:
        for _ in range(rng.integers(1, 5)):
            wrinkle = np.stack([np.linspace(-4, 4, 9), rng.uniform(7, 9.5) + rng.normal(0, 0.08, 9)], 1)
            shade *= 1 - _line(smooth_curve(on_canvas(wrinkle), 24), 2, 2) * rng.uniform(0, 0.25)
    if rng.random() < 0.25:  # crow's feet
        for side in (-1, 1):
            for tilt in (-0.5, 0.0, 0.5):
                foot = np.array([[5.1, 3.3], [6.2, 3.4 + tilt]]) * [side, 1]
                shade *= 1 - _line(on_canvas(foot), 2, 1.5) * rng.uniform(0, 0.3)


def _spots(rng: np.random.Generator, shade: F32, red: F32) -> None:
    if rng.random() < 0.35:
        layer = np.zeros_like(red)
        for x, y in rng.uniform((90, 90), (310, 420), (int(rng.integers(3, 60)), 2)):
            cv2.circle(
                layer, fixed([x, y]).tolist(), int(rng.uniform(8, 40)), float(rng.uniform(0.2, 1)), -1, cv2.LINE_AA, 4
            )
        shade *= 1 - layer * rng.uniform(0.05, 0.5)
        red += layer * rng.uniform(0, 0.5)


def _beard(rng: np.random.Generator, places: F32, marks: F32) -> F32:
    jaw = places[2:15, :2] * [1.15, 1]
    jaw[4:9, 1] -= 1.5
    upper = [
        [5.2, -1.0],
        [3.9, -2.0],
        [2.6, -1.2],
        [1.4, -1.1],
        [0, -1.4],
        [-1.4, -1.1],
        [-2.6, -1.2],
        [-3.9, -2.0],
        [-5.2, -1.0],
    ]
    goatee = [[-2.8, -1.3], [0, -1.2], [2.8, -1.3], [3.0, -4], [2.4, -8.5], [0, -9.3], [-2.4, -8.5], [-3, -4]]
    moustache = [[-2.9, -2.9], [-2, -1.3], [0, -1.3], [2, -1.3], [2.9, -2.9], [2.2, -2.7], [0, -2.3], [-2.2, -2.7]]
    style = rng.random()
    outline = np.vstack([jaw, upper]) if style < 0.6 else np.array(goatee if style < 0.8 else moustache)
    grown = _filled(on_canvas(outline + rng.normal(0, 0.15, outline.shape)))
    grown = cv2.GaussianBlur(grown, (0, 0), float(rng.uniform(4, 12))) * (1 - _filled(marks[48:60]))
    strands = np.clip(1 + 0.35 * noise(rng, HEIGHT, WIDTH, 64, 256, 0.3), 0.2, 1.4)
    return np.clip(grown * strands * rng.uniform(0.1, 1.0), 0, 1)


def _brows(rng: np.random.Generator, marks: F32) -> F32:
    """Along the mark-up's points, which lie in the upper half of the hair."""
    brows = np.zeros((HEIGHT, WIDTH), np.float32)
    thick, tilt = rng.uniform(4, 15), rng.normal(0, 2)
    lower = rng.uniform(0, 0.5) * thick + rng.uniform(-1, 2)
    for first, outer_first in ((17, True), (22, False)):
        curve = smooth_curve(marks[first : first + 5], 30)
        inward = np.linspace(0, 1, 30) if outer_first else np.linspace(1, 0, 30)
        curve[:, 1] += lower + tilt * (inward - 0.5) * 2
        for j in range(29):
            width = max(1, int(thick * (0.35 + 0.65 * np.clip(inward[j] * 1.6, 0, 1))))
            cv2.line(brows, fixed(curve[j]).tolist(), fixed(curve[j + 1]).tolist(), 1.0, width, cv2.LINE_AA, 4)
    brows = cv2.GaussianBlur(brows, (0, 0), float(rng.uniform(1, 3.5)))
    return np.clip(
        brows * np.clip(1 + 0.4 * noise(rng, HEIGHT, WIDTH, 64, 256, 0.2), 0.2, 1.5) * rng.uniform(0.15, 1), 0, 1
    )

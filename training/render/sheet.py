"""Contact sheets: samples side by side with their labels drawn on them, for a person to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeface.values import U8

_FOUND, _IGNORED, _HIDDEN, _EXTRA = (0, 255, 0), (255, 0, 255), (0, 0, 255), (255, 255, 0)  # blue, green, red


def sheet(samples: Sequence[Any], columns: int = 8, pixels: int = 240) -> U8:
    """Faces, heads or scenes as one picture [h, w, 3]: what is seen green, hidden points red, ignored boxes magenta."""
    tiles = [drawn(one, pixels) for one in samples]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[row : row + columns]) for row in range(0, len(tiles), columns)])


def drawn(one: Any, pixels: int) -> U8:
    """One sample, enlarged or reduced to `pixels`."""
    factor = pixels / one.picture.shape[0]
    grey = cv2.resize(one.picture, (pixels, pixels), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    picture = np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))

    def point(at: NDArray, colour: tuple[int, int, int]) -> None:
        cv2.circle(picture, [int(v * factor * 8) for v in at], 10, colour, -1, cv2.LINE_AA, 3)

    if hasattr(one, "landmarks"):
        for k, (at, seen) in enumerate(zip(one.landmarks, one.visible, strict=True)):
            point(at, (_FOUND if k < 68 else _EXTRA) if seen else _HIDDEN)
        return picture
    ignored = getattr(one, "ignore", np.zeros(1))
    boxes, points = one.xyxy.reshape(-1, 4), one.keypoints.reshape(-1, 5, 2)
    for xyxy, five, ignore in zip(boxes, points, np.broadcast_to(ignored, len(boxes)), strict=True):
        x0, y0, x1, y1 = (int(v * factor * 8) for v in xyxy)
        cv2.rectangle(picture, (x0, y0), (x1, y1), _IGNORED if ignore else _FOUND, 1, cv2.LINE_AA, 3)
        for at in five:
            point(at, _HIDDEN)
    return picture

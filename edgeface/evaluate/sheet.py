"""A contact sheet: faces side by side, worst first, the true points and those of the network drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edgeface.cpu.crop import Cropper
from edgeface.errors import ConfigError
from edgeface.landmark_metrics import points_box
from edgeface.model_card import Input
from edgeface.values import F64, U8, Frame

MOST_FACES = 60
_COLUMNS, _SIDE, _LINE = 6, 240, 18  # pixels of a face, and of the text below it
_ROOM = 1.3  # a face's part of the picture, in longer sides of the box round its points
_TRUE, _PLACED, _BETWEEN, _TEXT, _GROUND = (80, 220, 80), (60, 60, 255), (200, 200, 200), (230, 230, 230), (40, 40, 40)
_INPUT = Input(_SIDE, _SIDE, colour="bgr", padding=_GROUND[0])
_SHIFT = 4  # bits of a pixel that OpenCV draws with


def tile(frame: Frame, truth: F64, placed: F64, caption: str) -> U8:
    """The face with the true points [N, 2] green and the placed ones red; without the latter where they are NaN."""
    points = np.concatenate([truth, placed[np.isfinite(placed).all(axis=1)]])
    (box,) = points_box(points[None])
    side = max(_ROOM * float(np.max(box[2:] - box[:2])), 1.0)
    scale = _SIDE / side
    corner = (box[:2] + box[2:]) / 2 - side / 2
    crop = Cropper(_INPUT, (_SIDE, _SIDE))(frame, np.array([[*corner, *(corner + side)]], np.float32))[0]
    picture = np.full((_SIDE + _LINE, _SIDE, 3), _GROUND, np.uint8)
    picture[:_SIDE] = crop.transpose(1, 2, 0)
    # the middle of pixel i is i + 0.5 in the frame and in the tile
    true_at, placed_at = (((xy - corner) * scale - 0.5) * 2**_SHIFT for xy in (truth, placed))
    for true_point, placed_point in zip(true_at, placed_at, strict=True):
        a = round(true_point[0]), round(true_point[1])
        if np.isfinite(placed_point).all():
            b = round(placed_point[0]), round(placed_point[1])
            cv2.line(picture, a, b, _BETWEEN, 1, cv2.LINE_AA, _SHIFT)
            cv2.circle(picture, b, 2 << _SHIFT, _PLACED, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(picture, a, 2 << _SHIFT, _TRUE, -1, cv2.LINE_AA, _SHIFT)
    cv2.rectangle(picture, (0, _SIDE), (_SIDE, _SIDE + _LINE), _GROUND, -1)
    cv2.putText(picture, caption, (3, _SIDE + _LINE - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.38, _TEXT, 1, cv2.LINE_AA)
    return np.asarray(picture, np.uint8)


def write(path: Path, tiles: Sequence[U8]) -> None:
    """The tiles row by row as a picture of the kind that the suffix says. Raises ConfigError."""
    rows = -(-len(tiles) // _COLUMNS)
    sheet = np.full((rows * (_SIDE + _LINE), _COLUMNS * _SIDE, 3), _GROUND, np.uint8)
    for number, picture in enumerate(tiles):
        row, column = divmod(number, _COLUMNS)
        sheet[row * (_SIDE + _LINE) : (row + 1) * (_SIDE + _LINE), column * _SIDE : (column + 1) * _SIDE] = picture
    try:
        path.write_bytes(cv2.imencode(path.suffix, sheet)[1].tobytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error

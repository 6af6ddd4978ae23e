"""Where a landmark network looks: face boxes -> crops of the frame, by the rule of its card.

A rule takes boxes xyxy [n, 4] in frame pixels, the crop's side in longer sides of the box, and the frame's width and
height; it gives crops [n, 4] in frame pixels, each row from its own box alone. A box that is none (not finite, or not
of positive width and height) gives a row of NaN. `pad` cuts boxes outside the frame too; the others give NaN for them,
and for huge ones a crop that is maybe not finite. `usable` says which rows are worth a look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgeface.values import F32, F64, Bool

FaceCropRule = Callable[[F32, float, tuple[int, int]], F32]  # boxes [n, 4], crop_scale, frame size -> crops [n, 4]

_SMALLEST_PX, _LARGEST_PX = 1.0, 1e5  # sides between which a crop shows something


def pad(xyxy: F32, crop_scale: float, frame_size: tuple[int, int]) -> F32:
    """The square about the box's centre, whole, also where it reaches outside the frame (padding)."""
    with _quiet():
        corner, size = _corner_and_size(xyxy)
        side = _side(size, crop_scale)
        return _crops(corner + (size - side) / 2, side)


def tao(xyxy: F32, crop_scale: float, frame_size: tuple[int, int]) -> F32:
    """The square as TAO's inference cuts it: in whole pixels, shrunk at the frame's right and lower border.

    Corner, size and side are truncated towards 0; a square that begins outside begins at the border instead, with its
    side unchanged, so the face is no longer in its middle. Nothing is ever padded. With `crop_scale` 1 as in NVIDIA's
    tao_tensorflow1_backend, cv/fpenet/inferencer/fpenet_inferencer.py, which has no other.
    """
    with _quiet():
        corner, size = map(np.trunc, _corner_and_size(xyxy))
        side = np.where(_outside(corner, size, frame_size), np.nan, np.trunc(_side(size, crop_scale)))
        begin = np.clip(np.trunc(corner - (side - size) / 2), 0, frame_size)
        room = np.min(frame_size - begin, axis=1, keepdims=True)
        return _crops(begin, np.minimum(side, room))


def deepstream(xyxy: F32, crop_scale: float, frame_size: tuple[int, int]) -> F32:
    """What DeepStream's landmark app asks for: the square, or the box itself (squashed) where the square would cross.

    A box that begins outside the frame on the left or above is first moved to its border, with its size unchanged. The
    app's test of the lower border has a wrong sign and never holds, so there the square stays and reaches outside; so
    it does here, where that is padding. With `crop_scale` 1 as in NVIDIA's deepstream_tao_apps,
    deepstream_faciallandmark_app.cpp, which has no other.
    """
    with _quiet():
        corner, size = _corner_and_size(xyxy)
        side = np.where(_outside(corner, size, frame_size), np.nan, _side(size, crop_scale))
        corner = np.maximum(corner, 0)
        square = _crops(corner + (size - side) / 2, side)
        left, top, right, _ = square.T
        crosses = (left < 0) | (top < 0) | (right > frame_size[0])
        return np.where(crosses[:, None], _crops(corner, size), square)


RULES: Mapping[str, FaceCropRule] = {"pad": pad, "tao": tao, "deepstream": deepstream}  # by a card's `border`


def usable(crops: F32, frame_size: tuple[int, int]) -> Bool:
    """Which rows [n] of `crops` [n, 4] show something: finite, of a sane size, with their middle in the frame."""
    with _quiet():
        size = crops[:, 2:] - crops[:, :2]
        middle = crops[:, :2] + size / 2
    sane = (size > _SMALLEST_PX) & (size < _LARGEST_PX) & (middle >= 0) & (middle < frame_size)
    return np.asarray(sane.all(axis=1))


def _quiet() -> np.errstate:
    """For infinity less infinity, and for boxes as large as float32 goes."""
    return np.errstate(invalid="ignore", over="ignore")


def _corner_and_size(xyxy: F32) -> tuple[F64, F64]:
    """Left top corners and widths and heights of boxes, each [n, 2]."""
    corner = xyxy[:, :2].astype(np.float64)
    return corner, xyxy[:, 2:] - corner


def _side(size: F64, crop_scale: float) -> F64:
    """The square's sides [n, 1] for boxes of `size` [n, 2]; NaN where a box is none."""
    longer, shorter = np.maximum(size[:, :1], size[:, 1:]), np.minimum(size[:, :1], size[:, 1:])
    side: F64 = np.where((shorter > 0) & (longer < np.inf), crop_scale * longer, np.nan)
    return side


def _outside(corner: F64, size: F64, frame_size: tuple[int, int]) -> Bool:
    """Which boxes [n, 1] show nothing of the frame; rules that move boxes would move them to where nobody is."""
    outside: Bool = np.any((corner + size <= 0) | (corner >= frame_size), axis=1, keepdims=True)
    return outside


def _crops(begin: F64, size: F64) -> F32:
    """Crops [n, 4] from their left top corners [n, 2] and sizes [n, 1 or 2]."""
    crops = np.empty((len(begin), 4), np.float32)
    crops[:, :2] = begin
    crops[:, 2:] = begin + size
    return crops

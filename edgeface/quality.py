"""How good the picture of a face is, for subscribers that want only good ones."""

from __future__ import annotations

import numpy as np

from edgeface.boxes import area
from edgeface.values import F32, F64, Quality

_MARGIN = 3 / 16  # of a crop's side: what lies further out is mostly hair, background and padding
_REACH = 9  # pixels of the second blur
_DARKEST, _BRIGHTEST = 5.0, 250.0  # grey levels from which a pixel counts as clipped


def quality(
    xyxy: F32,
    frame_size: tuple[int, int],
    grey: F32,
    landmark_score: F32,
    yaw: F32,
) -> Quality:
    """Quality of n faces.

    xyxy [n, 4] frame pixels, not clipped; frame_size (width, height); grey [n, h, w] 0..255 the crops that the landmark
    network saw, of which blur, brightness and clipped look at the middle five eighths; landmark_score [n, k]; yaw [n].
    """
    rows, columns = (round(side * _MARGIN) for side in grey.shape[1:])
    face = np.ascontiguousarray(grey[:, rows : grey.shape[1] - rows, columns : grey.shape[2] - columns], np.float32)
    whole = area(xyxy)
    inside = area(np.clip(xyxy, 0, np.tile(np.array(frame_size, np.float32), 2)))
    return Quality(
        size_px=np.sqrt(whole),
        blur=blur(face),
        brightness=face.mean(axis=(1, 2)) / np.float32(255),
        clipped=((face <= _DARKEST) | (face >= _BRIGHTEST)).mean(axis=(1, 2), dtype=np.float32),
        landmark_score=landmark_score.mean(axis=1),
        yaw=yaw,
        outside=1 - inside / np.maximum(whole, np.finfo(np.float32).tiny),
    )


def blur(grey: F32) -> F32:
    """Blur [n] of pictures [n, h, w]: 0 sharp .. 1 blurred; one that is blank, or smaller than 10 by 10 pixels, is 1.

    Crete et al. 2007, The Blur Effect: a picture is blurred once more, by the mean of nine pixels along an axis, and
    the share of its differences between neighbours that stays is its blur; the worse axis counts. Neighbours of a mean
    of nine differ by a ninth of the difference between the pixels that enter and leave, so nothing need be filtered.
    Brightness and contrast cancel.
    """
    worst = np.fmax(_blur_along(grey.transpose(1, 0, 2)), _blur_along(grey.transpose(2, 0, 1)))
    return np.nan_to_num(worst, nan=1)


def _blur_along(pictures: F32) -> F32:
    """Blur [n] of pictures [side, n, other side] along their first axis; NaN where nothing changes along it."""
    half = _REACH // 2
    near = np.abs(pictures[half + 1 : -half] - pictures[half : -half - 1])
    far = np.abs(pictures[_REACH:] - pictures[:-_REACH]) / np.float32(_REACH)
    total: F64 = near.sum(axis=(0, 2), dtype=np.float64)
    lost: F64 = np.maximum(near - far, 0).sum(axis=(0, 2), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        left: F32 = (1 - lost / total).astype(np.float32)
    return left

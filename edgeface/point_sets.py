"""What the landmarks of 68, 80 and 104 points are called, how they mirror, and the five keypoints among them.

The order is that of iBUG 68 (Sagonas et al. 2013, 300 Faces in-the-Wild), then FPENet's pupils, ears and extra eye
points. Right and left are the person's: the right eye is on the left of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeface.values import F32, I64

RIGHT_EYE, LEFT_EYE = np.arange(36, 42), np.arange(42, 48)
OUTER_EYE_CORNERS = 36, 45
_NOSE_TIP = 30
_MOUTH_CORNERS = 48, 54

_GROUPS = {
    "chin": range(17),
    "brows": range(17, 27),
    "nose": range(27, 36),
    "eyes": range(36, 48),
    "mouth": range(48, 60),
    "inner_lips": range(60, 68),
    "pupils": range(68, 76),
    "ears": range(76, 80),
    "extra_eye_points": range(80, 104),
}

# new[i] = old[_FLIP[i]], with x mirrored; as in TAO's FPENet data loader
_FLIP = [
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *range(54, 47, -1),
    *range(59, 54, -1),
    *range(64, 59, -1),
    *range(67, 64, -1),
    *(74, 73, 72, 75, 70, 69, 68, 71),
    *(78, 79, 76, 77),
    *(91, 92, 93, 100, 99, 98, 97, 96, 95, 94, 101, 80, 81, 82, 89, 88, 87, 86, 85, 84, 83, 90, 103, 102),
]
NAMED = 68, 80, 104  # numbers of points that have groups, a flip map and keypoints


def groups(count: int) -> Mapping[str, I64]:
    """The indices of each region among `count` points; none unless there are 68, 80 or 104."""
    if count not in NAMED:
        return {}
    return {name: np.array(indices) for name, indices in _GROUPS.items() if indices.stop <= count}


def flip_map(count: int) -> I64:
    """Indices [count] for a mirrored face: point i of it is point flip_map[i] of the original. Raises KeyError."""
    if count not in NAMED:
        raise KeyError(f"no flip map for {count} points; there is one for {NAMED}")
    return np.array(_FLIP[:count])


def five_points(xy: F32) -> F32:
    """The keypoints of detectors [n, 5, 2] from landmarks [n, 68 or more, 2].

    Left-image eye, right-image eye, nose tip, left-image mouth corner, right-image mouth corner; an eye is the mean of
    its six points.
    """
    right, left = xy[:, RIGHT_EYE].mean(axis=1), xy[:, LEFT_EYE].mean(axis=1)
    five: F32 = np.stack([right, left, xy[:, _NOSE_TIP], *(xy[:, corner] for corner in _MOUTH_CORNERS)], axis=1)
    return five

"""How far the eyes are open, from landmarks."""

from __future__ import annotations

import numpy as np

from edgeface.generic_head import POINTS, project
from edgeface.values import F32, F64, Bool

# of each eye's six points, the right eye of the person first
_OUTER, _INNER = np.array([0, 9]), np.array([3, 6])
_UPPER, _LOWER = np.array([[1, 2], [7, 8]]), np.array([[5, 4], [11, 10]])

_EYES: F64 = POINTS[36:48]
_NARROWEST = 0.6  # an eye of which less than this share of its width is seen tells nothing: docs/signals.md

# Aspect ratios of closed and of open eyes over that of the generic head's: medians of rendered faces where the points
# lie on the lids. The default network's shut eyes look a quarter open: docs/signals.md.
CLOSED, OPEN = 0.22, 0.9


def openness(xy: F32, q: F32, position: F32, *, closed: float = CLOSED, opened: float = OPEN) -> F32:
    """Openness [n, 2] of the right and the left eye of n persons: 0 closed, 1 normally open, in between linear.

    From landmarks [n, 68 or more, 2] in the order of iBUG 68, and the faces' poses as edgeface.head_pose gives them:
    q [n, 4] and position [n, 3]. Their camera may be any with square pixels.

        ratio = (|p1 - p5| + |p2 - p4|) / (2 |p0 - p3|)

    is the eye aspect ratio (Soukupova and Cech 2016, Real-Time Eye Blink Detection using Facial Landmarks) of the six
    points p of an eye. It is divided by that of the generic head's eye in the same pose, which a turned head narrows or
    flattens alike, and put between `closed` and `opened`. NaN where the pose or a point of the eye is not known, and
    where the generic head shows less than 0.6 of the eye's width: the far eye from about 38 degrees of yaw, the near
    one from about 67.
    """
    with np.errstate(all="ignore"):
        seen = project(_EYES, q.astype(np.float64), position.astype(np.float64))
        gap, width = gap_and_width(xy[:, 36:48])
        generic_gap, generic_width = gap_and_width(seen)
        ratio = gap / width * (generic_width / generic_gap)
        wide = generic_width * position[:, 2:] > _NARROWEST * gap_and_width(_EYES[None])[1]
    known: Bool = np.isfinite(ratio) & wide
    level = np.clip((ratio - closed) / (opened - closed), 0, 1)
    return np.where(known, level, np.nan).astype(np.float32)


def gap_and_width(points: F32 | F64) -> tuple[F64, F64]:
    """Mean distance of the lids and of the corners, each [n, 2], of points [n, 12, any]."""
    gap = np.sqrt(((points[:, _UPPER] - points[:, _LOWER]) ** 2).sum(axis=-1)).mean(axis=-1, dtype=np.float64)
    width = np.sqrt(((points[:, _OUTER] - points[:, _INNER]) ** 2).sum(axis=-1, dtype=np.float64))
    return gap, width

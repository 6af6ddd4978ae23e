"""A mean head's landmarks in metres, and how a turned head looks from a camera.

The head's axes are those of a camera that looks straight at it: x to the right of the picture, y down, z into the head.
"""

from __future__ import annotations

import numpy as np

from edgeface.values import F64

FIRST = 17  # the jaw (0 to 16) is where the outline is in the picture, not a place on the head

# Points 17 to 67 of iBUG 68. The origin is the mean of the eyes' twelve points; the outer eye corners are 89 mm apart.
# Made by training/make_head.py from the mean of ICT-FaceKit (Li et al. 2020, Learning Formation of Physically-Based
# Face Attributes; MIT License, Copyright (c) 2020 USC Institute for Creative Technologies:
# engines/ICT-FaceKit-LICENSE.txt).
_INNER: F64 = np.array(
    [
        [-0.0599, -0.0142, 0.0165],
        [-0.0504, -0.0224, 0.0020],
        [-0.0388, -0.0234, -0.0069],
        [-0.0258, -0.0214, -0.0123],
        [-0.0117, -0.0167, -0.0138],
        [0.0117, -0.0167, -0.0138],
        [0.0258, -0.0214, -0.0123],
        [0.0388, -0.0234, -0.0069],
        [0.0504, -0.0224, 0.0020],
        [0.0599, -0.0142, 0.0165],
        [0.0000, -0.0030, -0.0151],
        [0.0000, 0.0081, -0.0230],
        [0.0000, 0.0183, -0.0308],
        [0.0000, 0.0304, -0.0385],
        [-0.0147, 0.0403, -0.0213],
        [-0.0073, 0.0442, -0.0211],
        [0.0000, 0.0465, -0.0234],
        [0.0073, 0.0442, -0.0211],
        [0.0147, 0.0403, -0.0213],
        [-0.0446, 0.0001, 0.0062],
        [-0.0387, -0.0043, -0.0014],
        [-0.0278, -0.0049, -0.0031],
        [-0.0184, 0.0019, 0.0003],
        [-0.0273, 0.0036, -0.0019],
        [-0.0386, 0.0037, -0.0001],
        [0.0184, 0.0019, 0.0003],
        [0.0278, -0.0049, -0.0031],
        [0.0387, -0.0043, -0.0014],
        [0.0446, 0.0001, 0.0062],
        [0.0386, 0.0037, -0.0001],
        [0.0273, 0.0036, -0.0019],
        [-0.0253, 0.0696, -0.0096],
        [-0.0170, 0.0622, -0.0200],
        [-0.0073, 0.0586, -0.0251],
        [0.0000, 0.0592, -0.0262],
        [0.0073, 0.0586, -0.0251],
        [0.0170, 0.0622, -0.0200],
        [0.0253, 0.0696, -0.0096],
        [0.0180, 0.0750, -0.0168],
        [0.0103, 0.0774, -0.0217],
        [0.0000, 0.0782, -0.0233],
        [-0.0103, 0.0774, -0.0217],
        [-0.0180, 0.0750, -0.0168],
        [-0.0221, 0.0693, -0.0091],
        [-0.0075, 0.0673, -0.0196],
        [0.0000, 0.0677, -0.0206],
        [0.0075, 0.0673, -0.0196],
        [0.0221, 0.0693, -0.0091],
        [0.0073, 0.0682, -0.0195],
        [0.0000, 0.0684, -0.0203],
        [-0.0073, 0.0682, -0.0195],
    ]
)

POINTS: F64 = np.concatenate([np.full((FIRST, 3), np.nan), _INNER])  # [68, 3], NaN for the jaw


def _less_unit(products: F64) -> F64:
    """Rotation matrices less the unit matrix [n, 9] from the products q_i q_j [n, 4, 4]: linear in these."""
    (xx, xy, xz, xw), (_, yy, yz, yw), (_, _, zz, zw), _ = 2 * products.transpose(1, 2, 0)
    return np.stack([-yy - zz, xy - zw, xz + yw, xy + zw, -xx - zz, yz - xw, xz - yw, yz + xw, -xx - yy], axis=1)


_LESS_UNIT = _less_unit(np.eye(16).reshape(16, 4, 4))  # the same as a matrix: one product instead of thirty small ones


def rotation(q: F64) -> F64:
    """Rotation matrices [n, 3, 3] of unit quaternions [n, 4] (x, y, z, w)."""
    products = (q[:, :, None] * q[:, None]).reshape(-1, 16)
    matrices: F64 = (products @ _LESS_UNIT).reshape(-1, 3, 3) + np.eye(3)
    return matrices


def project(points: F64, q: F64, position: F64) -> F64:
    """Where `points` [k, 3] of n heads are in the picture [n, k, 2], as x / z and y / z of the camera's optical frame.

    q [n, 4] and position [n, 3], metres, are those of edgeface.head_pose.
    """
    placed = points @ rotation(q).transpose(0, 2, 1) + position[:, None]
    seen: F64 = placed[..., :2] / placed[..., 2:]
    return seen

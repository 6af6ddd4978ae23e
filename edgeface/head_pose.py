"""How heads are turned and where they are, from landmarks and a camera.

The camera's optical frame: x to the right of the picture, y down, z forward. The head's axes coincide with the camera's
when the face looks along the optical axis into the camera, upright; then q = (0, 0, 0, 1). q rotates the head's axes
into the camera's, so a point p of the head, in metres from between the eyes, is at R(q) p + position.

    R(q) = Ry(-yaw) Rx(-pitch) Rz(roll)

    Rx(a) = 1      0       0      Ry(a) =  cos a  0  sin a     Rz(a) = cos a  -sin a  0
            0   cos a  -sin a               0      1    0              sin a   cos a  0
            0   sin a   cos a             -sin a   0  cos a              0       0    1

The face looks along -R[:, 2] = (sin yaw cos pitch, -sin pitch, -cos yaw cos pitch). yaw > 0: it turns to the right of
the picture; pitch > 0: it looks up; roll > 0: it leans clockwise in the picture. With q = (x, y, z, w):

    yaw = atan2(-2 (xz + yw), 1 - 2 (xx + yy))     -180 to 180
    pitch = asin(2 (yz - xw))                        -90 to 90
    roll = atan2(2 (xy + zw), 1 - 2 (xx + zz))     -180 to 180

At pitch = +-90 yaw and roll turn about one axis and cannot be told apart; q still holds. Angles are about the camera's
axes: a face beside the optical axis that looks into the camera has the yaw and pitch of that direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edgeface.generic_head import POINTS, rotation
from edgeface.values import F32, F64, I64, Bool, HeadPoses

# Brows, nose and eye corners: docs/signals.md has what other choices give. No point of the mouth, which talks, nor of
# the jaw: those are where the outline is, and go round the head as it turns.
_USED: I64 = np.array([*range(17, 36), 36, 39, 42, 45])
_HEAD: F64 = POINTS[_USED]
_MIDDLE: F64 = _HEAD.mean(axis=0)
_CENTRED: F64 = _HEAD - _MIDDLE
# [k, 3]: a picture [2, k] @ this = two scaled rows of the rotation
_INVERSE: F64 = np.linalg.pinv(_CENTRED).T.astype(np.float64)
_STRAIGHT: F64 = _HEAD[:, :2] / (_HEAD[:, 2:] + 1)  # one metre away
_OUTER_CORNERS_M = float(np.linalg.norm(POINTS[36] - POINTS[45]))

_REFINEMENTS = 2  # a third changes nothing: docs/signals.md
_SMALLEST = 3.0  # pixels between the outer eye corners of a face seen from the front
_WIDEST = 100.0  # x / z or y / z: no flat picture shows what is 89.4 degrees beside the axis
_FLATTEST = 0.5  # a plane squeezed more than this is no face: ratio of the scales along the head's two axes
_WORST_FIT = 0.2  # of the distance of the outer eye corners; the worst of 1,125 rendered faces has 0.13
_NEXT, _LAST = np.array([1, 2, 0]), np.array([2, 0, 1])


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera without distortion: focal lengths and principal point in pixels of the frame.

    (0, 0) is the top-left corner of the top-left pixel: add 0.5 to cx, cy of a calibration whose integers are the
    centres of pixels, as OpenCV's.
    """

    fx: float
    fy: float
    cx: float
    cy: float


def camera_from_fov(width: int, height: int, horizontal_fov_deg: float) -> Camera:
    """A camera that looks through the middle of its frame, with square pixels."""
    focal = width / 2 / math.tan(math.radians(horizontal_fov_deg) / 2)
    return Camera(focal, focal, width / 2, height / 2)


def head_poses(xy: F32, camera: Camera) -> HeadPoses:
    """Poses of n faces from their landmarks [n, 68 or more, 2] in frame pixels, in the order of iBUG 68.

    The generic head is fitted by least squares of the points' distances in the picture: Gauss-Newton from one step of
    POSIT (DeMenthon and Davis 1995, Model-Based Object Pose in 25 Lines of Code). That start is before the camera and
    the only one, as the head is not flat. A face whose points are not finite, lie in one place or on a line, look away
    or are no face has a row of NaN.
    """
    rays: F64 = (xy[:, _USED] - np.array([camera.cx, camera.cy])) / np.array([camera.fx, camera.fy])
    with np.errstate(all="ignore"):
        usable = _looks_like_a_face(rays, _SMALLEST / max(camera.fx, camera.fy))
        rays[~usable] = _STRAIGHT  # so that no equation is singular
        turn, position = _start(rays)
        for _ in range(_REFINEMENTS):
            turn, position = _refine(rays, turn, position)
        off = _see(turn, position)[1] - rays.transpose(0, 2, 1)
        error = np.sqrt((off * off).sum(axis=(1, 2)) / len(_USED)) * position[:, 2] / _OUTER_CORNERS_M
        away = (turn[:, :, 2] * position).sum(axis=1)  # how far into the head the camera's ray goes
        usable &= (error < _WORST_FIT) & (position[:, 2] > _OUTER_CORNERS_M) & (away > 0)
        poses = np.concatenate([quaternions(turn), _angles(turn), position, error[:, None]], axis=1).astype(np.float32)
    poses[~usable] = np.nan
    return HeadPoses(poses[:, :4], poses[:, 4:7], poses[:, 7:10], poses[:, 10])


def angles(q: F64) -> F64:
    """Yaw, pitch and roll [n, 3] in degrees of unit quaternions [n, 4], as this file's head defines them."""
    return _angles(rotation(q))


def _angles(turn: F64) -> F64:
    yaw, roll = np.arctan2(-turn[:, 0, 2], turn[:, 2, 2]), np.arctan2(turn[:, 1, 0], turn[:, 1, 1])
    degrees: F64 = np.degrees(np.stack([yaw, np.arcsin(np.clip(turn[:, 1, 2], -1, 1)), roll], axis=1))
    return degrees


def _looks_like_a_face(rays: F64, smallest: float) -> Bool:
    """Which faces [n] have points that a head could have, by their fit to a far one."""
    scaled = rays.transpose(0, 2, 1) @ _INVERSE
    # singular values a >= b of the two rows: 2ab / (aa + bb) falls with b / a
    (aa, ab), (_, bb) = (scaled @ scaled.transpose(0, 2, 1)).transpose(1, 2, 0)
    size, area = aa + bb, np.sqrt(aa * bb - ab * ab)
    flat = 2 * _FLATTEST / (1 + _FLATTEST**2)
    usable: Bool = (2 * area > size * flat) & (size > 2 * (smallest / _OUTER_CORNERS_M) ** 2)
    usable &= np.max(np.abs(rays), axis=(1, 2)) < _WIDEST
    return usable


def _start(rays: F64) -> tuple[F64, F64]:
    """Rotations [n, 3, 3] and positions [n, 3] by scaled orthography, corrected once for perspective (POSIT)."""
    turn, depth = _scaled_orthography(rays)
    closer = 1 + turn[:, 2] @ _CENTRED.T / depth[:, None]
    rays = rays * closer[:, :, None]
    turn, depth = _scaled_orthography(rays)
    position = np.concatenate([rays.mean(axis=1), np.ones((len(rays), 1))], axis=1) * depth[:, None] - turn @ _MIDDLE
    return turn, position


def _scaled_orthography(rays: F64) -> tuple[F64, F64]:
    """Rotations [n, 3, 3] and depths [n] of the head's middle, as a far camera sees it.

    The first two rows are the orthonormal ones nearest to the fitted: G^-1/2 times these, G being their products, with
    sqrt(G) = (G + sqrt(det G)) / sqrt(trace G + 2 sqrt(det G)), as for any such matrix, two by two.
    """
    rows = rays.transpose(0, 2, 1) @ _INVERSE
    (aa, ab), (_, bb) = (rows @ rows.transpose(0, 2, 1)).transpose(1, 2, 0)
    area = np.sqrt(aa * bb - ab * ab)
    root = np.sqrt(aa + bb + 2 * area)
    adjugate = np.stack([bb + area, -ab, -ab, aa + area], axis=1).reshape(-1, 2, 2)
    turn = np.empty((len(rays), 3, 3))
    turn[:, :2] = adjugate @ rows / (root * area)[:, None, None]
    x, y = turn[:, 0], turn[:, 1]
    turn[:, 2] = x.take(_NEXT, 1) * y.take(_LAST, 1) - x.take(_LAST, 1) * y.take(_NEXT, 1)
    return turn, 2 / root


def _see(turn: F64, position: F64) -> tuple[F64, F64, F64]:
    """The head's points turned [n, 3, k] and in the picture [n, 2, k], and one over their depths [n, 1, k]."""
    arms = turn @ _HEAD.T
    inverse_z = 1 / (arms[:, 2:] + position[:, 2:, None])
    return arms, (arms[:, :2] + position[:, :2, None]) * inverse_z, inverse_z


def _refine(rays: F64, turn: F64, position: F64) -> tuple[F64, F64]:
    """One step of Gauss-Newton. The six unknowns turn the head about its origin and move it."""
    arms, seen, inverse_z = _see(turn, position)
    slope = seen * inverse_z
    arms_z = arms * inverse_z
    n, _, k = arms.shape
    jacobian = np.zeros((n, 6, 2, k))
    np.multiply(arms[:, 1:2], -slope, out=jacobian[:, 0])
    np.multiply(arms[:, :1], slope, out=jacobian[:, 1])
    jacobian[:, 0, 1] -= arms_z[:, 2]
    jacobian[:, 1, 0] += arms_z[:, 2]
    jacobian[:, 2, 0] = -arms_z[:, 1]
    jacobian[:, 2, 1] = arms_z[:, 0]
    jacobian[:, 3, 0] = jacobian[:, 4, 1] = inverse_z[:, 0]
    jacobian[:, 5] = -slope
    flat = jacobian.reshape(n, 6, 2 * k)
    gap = (rays.transpose(0, 2, 1) - seen).reshape(n, 2 * k, 1)
    step = np.linalg.solve(flat @ flat.transpose(0, 2, 1), flat @ gap)[:, :, 0]
    half = np.concatenate([step[:, :3] / 2, np.ones((n, 1))], axis=1)
    return rotation(half / np.sqrt((half * half).sum(axis=1))[:, None]) @ turn, position + step[:, 3:]


def quaternions(turn: F64) -> F64:
    """Unit quaternions [n, 4], w >= 0, of rotation matrices: the best scaled row of four times their outer products."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = turn.transpose(1, 2, 0)
    rows = [
        [1 + xx - yy - zz, xy + yx, xz + zx, zy - yz],
        [xy + yx, 1 - xx + yy - zz, yz + zy, xz - zx],
        [xz + zx, yz + zy, 1 - xx - yy + zz, yx - xy],
        [zy - yz, xz - zx, yx - xy, 1 + xx + yy + zz],
    ]
    outer: F64 = np.array(rows).transpose(2, 0, 1)  # [n, 4, 4]
    best = np.argmax(np.diagonal(outer, axis1=1, axis2=2), axis=1)
    q = outer[np.arange(len(turn)), best]
    unit: F64 = q / (np.linalg.norm(q, axis=1, keepdims=True) * np.where(q[:, 3:] < 0, -1, 1))
    return unit

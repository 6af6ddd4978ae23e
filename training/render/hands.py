"""Hands before, at and beside a face: palm, four fingers, thumb and forearm, bent at their joints."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeface.values import F32, F64
from training.render.mesh import Mesh, colour, join, placed, tube, turn

# A right hand seen from its back: the wrist at the origin, fingers up (+y), the palm to -z, the thumb to -x; in cm.
KNUCKLES = np.array([[-2.9, 8.6, 0.1], [-0.9, 9.1, 0.3], [1.1, 8.7, 0.2], [2.9, 7.7, -0.1]])
BONES = np.array([[4.3, 2.5, 2.0], [4.8, 2.9, 2.1], [4.4, 2.7, 2.1], [3.4, 2.0, 1.8]])
RADIUS = np.array([0.92, 0.95, 0.9, 0.78])
SPREAD = np.array([-1.0, -0.25, 0.5, 1.3])  # how far each finger leans out, in parts of a spread

FLAT, RELAXED, CLAW, FIST, GRIP = (8, 6, 4), (22, 28, 16), (35, 50, 35), (80, 100, 62), (48, 62, 38)


def hand(rng: np.random.Generator, landmarks: F32, skin: F32) -> Mesh:
    """A hand of albedo `skin` [3] in one of the poses that hide or touch a face with `landmarks` [68, 3]."""
    points = np.asarray(landmarks, dtype=np.float64)
    poses: tuple[Callable[..., Mesh], ...] = (
        _on_cheek,
        _under_chin,
        _over_mouth,
        _over_eyes,
        _beside,
        _before,
        _at_brow,
    )
    return poses[rng.choice(7, p=[0.18, 0.12, 0.2, 0.1, 0.14, 0.18, 0.08])](
        rng, points, np.asarray(skin, dtype=np.float64)
    )


def fingers(rng: np.random.Generator, skin: F64, bend: tuple[float, ...], thumb: float, spread: float,
            open_fingers: tuple[int, ...] = ()) -> Mesh:  # fmt: skip
    """A right hand in its own frame (see KNUCKLES) with its forearm.

    `bend` are degrees at a finger's three joints, `thumb` 0 stretched away .. 1 laid over the palm, `spread` degrees
    between neighbouring fingers; `open_fingers` stay stretched.
    """
    back = skin * rng.uniform(0.9, 1.1)
    palm = np.clip(skin * 0.6 + 0.4 * np.maximum(skin, [0.42, 0.28, 0.22]), 0, 1)
    glove = rng.random() < 0.07
    if glove:
        back = palm = colour(rng)
    nails = back if glove else (colour(rng) if rng.random() < 0.15 else np.clip(back * 1.15 + 0.04, 0, 1))
    parts = []
    for finger in range(4):
        angles = np.array(FLAT if finger in open_fingers else bend, dtype=np.float64) * rng.uniform(0.8, 1.15)
        path = _chain(KNUCKLES[finger], BONES[finger], np.cumsum(angles), spread * SPREAD[finger])
        width = RADIUS[finger] * np.array([1.08, 0.98, 1.0, 0.9, 0.92, 0.82, 0.66])
        tint = np.stack([back] * 6 + [nails])
        side = np.array([np.cos(np.radians(spread * SPREAD[finger])), -np.sin(np.radians(spread * SPREAD[finger])), 0])
        parts.append(tube(path, width, tint, 7, across=side, rounded=True))
    away, over = np.array([-0.75, 0.62, -0.22]), np.array([0.45, 0.62, -0.65])
    root = np.array([-2.3, 1.6, -0.6])
    first = _unit(np.array([-0.8, 0.62, -0.35]) * (1 - thumb) + np.array([-0.45, 0.62, -0.65]) * thumb)
    second = _unit(away * (1 - thumb) + over * thumb)
    third = _unit(second + 0.35 * thumb * np.array([0.5, 0.1, -0.2]))
    knots = np.cumsum([root, 4.2 * first, 3.3 * second, 2.4 * third], axis=0)
    path = np.stack([knots[0], (knots[0] + knots[1]) / 2, knots[1], (knots[1] + knots[2]) / 2, knots[2], knots[3]])
    parts.append(tube(path, [1.5, 1.45, 1.1, 1.0, 1.02, 0.72], np.stack([back] * 5 + [nails]), 7,
                      across=_unit(np.cross(first, [0.3, 0.2, -1.0])), rounded=True))  # fmt: skip
    heights = np.array([-1.0, 0.0, 2.0, 4.5, 7.0, 8.6, 9.2])
    shape = np.array([[2.7, 1.9], [2.8, 1.9], [3.5, 1.75], [4.1, 1.55], [4.1, 1.3], [3.9, 1.05], [3.3, 0.8]])
    middle = np.stack([0 * heights - 0.05, heights, 0 * heights], 1)
    parts.append(tube(middle, shape, back, 12, across=(1, 0, 0), rounded=True))
    bulge = np.array([[1.9, 1.5, -0.9], [2.3, 4.5, -0.7], [2.4, 7.4, -0.5], [-1.6, 8.2, -0.5]])
    parts.append(tube(bulge, [1.2, 1.2, 1.0, 0.9], palm, 6, across=(0, 0, 1), rounded=True))
    bare = rng.uniform(0.5, 12) if rng.random() < 0.7 else 30.0
    cloth = colour(rng)
    hem = min(bare, 29.0)
    along = np.sort(np.array([0.5, -3, -7, -12, -18, -26, -hem, -hem - 0.05]))[::-1]
    arm = np.stack(
        [np.interp(-along, [0, 7, 18, 30], wide) for wide in ([2.75, 3.3, 4.4, 4.7], [1.95, 2.8, 4.1, 4.5])], 1
    )
    sleeved = -along > bare
    arm = arm + sleeved[:, None] * rng.uniform(0.3, 1.2)
    tilt = np.radians(rng.uniform(-15, 15))
    lane = np.stack([np.sin(tilt) * (along - 0.5), along, 0.0 * along], 1)
    parts.append(tube(lane, arm, np.where(sleeved[:, None], cloth, back), 10, across=(1, 0, 0)))
    return join(parts, gloss=rng.uniform(0.05, 0.3))


def _unit(vector: F64) -> F64:
    return np.asarray(vector / np.linalg.norm(vector))


def _chain(start: F64, bones: F64, bent: F64, lean: float) -> F64:
    """Seven points of a finger: joints and the middles of its bones; `bent` [3] degrees so far, `lean` sideways."""
    angle, aside = np.radians(bent), np.radians(lean)
    step = np.stack([np.sin(aside) * np.cos(angle), np.cos(aside) * np.cos(angle), -np.sin(angle)], 1) * bones[:, None]
    knots = np.concatenate([start[None], start + np.cumsum(step, axis=0)])
    path = np.empty((7, 3))
    path[::2], path[1::2] = knots, (knots[1:] + knots[:-1]) / 2
    return path


def _put(shape: Mesh, rotation: F64, own: tuple[float, float, float], at: F64, left: bool, size: float) -> Mesh:
    """`shape` with its `own` point at `at`; `left` mirrors the picture of it, `at` stays."""
    mirror = np.diag([-1.0, 1, 1]) if left else np.eye(3)
    rotation = mirror @ rotation @ mirror
    anchor = rotation @ mirror @ (np.array(own) * size)
    return placed(shape, rotation * size, at - anchor, mirror=left)


def _size(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.82, 1.05))


def _near(rng: np.random.Generator, at: F64, spread: float = 0.7) -> F64:
    return np.asarray(at + rng.normal(0, spread, 3) * [1, 1, 0.5])


def _on_cheek(rng: np.random.Generator, face: F64, skin: F64) -> Mesh:
    """The palm on the jaw, the fingers up the cheek."""
    left = rng.random() < 0.5
    bend = (FLAT, RELAXED, RELAXED, CLAW, FIST)[rng.integers(5)]
    shape = fingers(rng, skin, bend, rng.uniform(0, 0.4), rng.uniform(0, 9))
    cheek = face[[3, 4, 48]].mean(0) if left else face[[13, 12, 54]].mean(0)
    sign = -1 if left else 1
    at = _near(rng, cheek + np.array([sign * 2.2, -0.5, 1.2]))
    return _put(shape, turn(x=rng.uniform(-10, 15), y=rng.uniform(35, 70), z=rng.uniform(-15, 25)), (0, 6, -1.6), at,
                left, _size(rng))  # fmt: skip


def _under_chin(rng: np.random.Generator, face: F64, skin: F64) -> Mesh:
    """The chin on the fist, or thumb and forefinger about it."""
    left = rng.random() < 0.5
    held = rng.random() < 0.4
    bend = CLAW if held else FIST
    shape = fingers(rng, skin, bend, 0.1 if held else rng.uniform(0.5, 1), rng.uniform(0, 5), (0,) if held else ())
    at = _near(rng, face[8] + [0, -0.6, 0.4], 0.5)
    return _put(shape, turn(x=rng.uniform(-25, 10), y=rng.uniform(-20, 60), z=rng.uniform(-5, 30)), (0, 9.3, 0), at,
                left, _size(rng))  # fmt: skip


def _over_mouth(rng: np.random.Generator, face: F64, skin: F64) -> Mesh:
    left = rng.random() < 0.5
    bend = (FLAT, RELAXED, CLAW, FIST)[rng.integers(4)]
    shape = fingers(rng, skin, bend, rng.uniform(0, 1), rng.uniform(0, 6))
    mouth = face[48:60].mean(0)
    mouth[2] = face[48:60, 2].max()
    at = _near(rng, mouth + np.array([0, rng.uniform(-1.0, 1.5), 1.6]))
    own = (0, rng.uniform(6, 13), -1.0)
    return _put(
        shape, turn(x=rng.uniform(-10, 10), y=rng.uniform(-5, 20), z=rng.uniform(0, 85)), own, at, left, _size(rng)
    )


def _over_eyes(rng: np.random.Generator, face: F64, skin: F64) -> Mesh:
    left = rng.random() < 0.5
    shape = fingers(rng, skin, (FLAT, RELAXED)[rng.integers(2)], rng.uniform(0, 1), rng.uniform(0, 12))
    eye = face[36:42].mean(0) if left else face[42:48].mean(0)
    at = eye + np.array([0, rng.uniform(-1, 1), 3.2])
    own = (0, rng.uniform(6, 13), -1.0)
    return _put(
        shape, turn(x=rng.uniform(-8, 15), y=rng.uniform(0, 20), z=rng.uniform(0, 75)), own, at, left, _size(rng)
    )


def _beside(rng: np.random.Generator, face: F64, skin: F64) -> Mesh:
    """Waving, showing, pointing beside the face, the palm or the back to the viewer."""
    left = rng.random() < 0.5
    show = ((), (0,), (0, 1), (0, 3), (0, 1, 2), (0, 1, 2, 3))[rng.integers(6)]
    shape = fingers(rng, skin, FIST, rng.uniform(0, 1), rng.uniform(0, 12), show)
    sign = -1 if left else 1
    at = face[30] + [sign * rng.uniform(6, 12), rng.uniform(-8, 5), rng.uniform(-4, 8)]
    yaw = rng.choice([0, 180]) + rng.normal(0, 25)
    return _put(shape, turn(x=rng.uniform(-15, 15), y=yaw, z=rng.uniform(-30, 30)), (0, 8, 0), at, left, _size(rng))


def _before(rng: np.random.Generator, face: F64, skin: F64) -> Mesh:
    """Anywhere between the viewer and the face."""
    left = rng.random() < 0.5
    bend = (FLAT, RELAXED, CLAW, FIST, GRIP)[rng.integers(5)]
    shape = fingers(rng, skin, bend, rng.uniform(0, 1), rng.uniform(0, 12))
    at = face[30] + np.append(rng.normal(0, 5, 2), rng.uniform(5, 22))
    pose = turn(x=rng.uniform(-35, 35), y=rng.uniform(0, 360), z=rng.uniform(-80, 80))
    return _put(shape, pose, (0, 9, 0), at, left, _size(rng))


def _at_brow(rng: np.random.Generator, face: F64, skin: F64) -> Mesh:
    """Shading the eyes, saluting, holding the forehead."""
    left = rng.random() < 0.5
    shape = fingers(rng, skin, (FLAT, RELAXED)[rng.integers(2)], rng.uniform(0, 0.8), rng.uniform(0, 5))
    brow = face[17:27].mean(0)
    at = brow + np.array([0, rng.uniform(0.5, 2.5), rng.uniform(2.2, 3.5)])
    own = (0, rng.uniform(9, 15), -0.8)
    return _put(
        shape, turn(x=rng.uniform(-60, 5), y=rng.uniform(0, 15), z=rng.uniform(55, 95)), own, at, left, _size(rng)
    )

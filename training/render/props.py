"""Things before a face: phones, cups, glasses, microphones, books, cameras, poles, sheets, leaves."""

from __future__ import annotations

import numpy as np

from edgeface.values import F32, F64
from training.render.hands import GRIP, fingers
from training.render.mesh import Mesh, box, colour, join, lathe, lattice, mesh, pattern, placed, tube, turn


def thing(rng: np.random.Generator, landmarks: F32, skin: F32 | None = None) -> Mesh:
    """Something held or standing before a face with `landmarks` [68, 3]; with `skin` [3], what is held shows a hand."""
    face = np.asarray(landmarks, dtype=np.float64)
    kinds = (_phone, _cup, _microphone, _book, _pole, _camera, _sheet)
    what, grip = kinds[rng.choice(7, p=[0.2, 0.2, 0.15, 0.12, 0.13, 0.1, 0.1])](rng, face)
    if skin is None or grip is None:
        return what
    at, pose, left = grip
    shape = fingers(rng, np.asarray(skin, dtype=np.float64), GRIP, rng.uniform(0.2, 0.6), rng.uniform(0, 4))
    mirror = np.diag([-1.0, 1, 1]) if left else np.eye(3)
    pose = mirror @ pose @ mirror
    own = mirror @ np.array([0, 7.5, -3.0])
    return join([what, placed(shape, pose * 0.92, at - pose @ own * 0.92, mirror=left)], what.gloss)


Grip = tuple[F64, F64, bool]  # where the palm lies, its pose as a right hand's, and whether it is a left hand


def _phone(rng: np.random.Generator, face: F64) -> tuple[Mesh, Grip | None]:
    """At an ear, or held up before the face."""
    left = rng.random() < 0.5
    sign = -1 if left else 1
    dye = colour(rng)
    parts = [box([rng.uniform(6.8, 8.2), rng.uniform(14, 16.5), rng.uniform(0.7, 1.2)], dye)]
    lens = tube(np.array([[2.2, 5.5, 0.3], [2.2, 5.5, 0.75]]), [0.7, 0.6], [0.01, 0.01, 0.015], 8, across=(1, 0, 0))
    parts.append(lens)
    if rng.random() < 0.55:
        pose = turn(x=rng.uniform(-10, 10), y=sign * rng.uniform(70, 95), z=sign * rng.uniform(10, 35))
        jaw = face[0 if left else 16]
        at = np.array([sign * (abs(jaw[0]) + rng.uniform(2.0, 2.6)), face[33, 1] + rng.uniform(-0.5, 2), jaw[2] - 0.5])
        grip = (at + np.array([sign * 0.3, -2.5, 0]), turn(y=80, z=rng.uniform(10, 30)), left)
    else:
        pose = turn(x=rng.uniform(-20, 20), y=rng.uniform(-25, 25), z=rng.choice([0, 90]) + rng.normal(0, 12))
        at = face[30] + [rng.normal(0, 4), rng.uniform(-12, 3), rng.uniform(6, 22)]
        grip = (at + np.array([0, -2, 0.3]), turn(y=rng.uniform(-20, 20), z=rng.uniform(0, 25)), left)
    return placed(join(parts, rng.uniform(0.3, 1)), pose, at), grip


def _cup(rng: np.random.Generator, face: F64) -> tuple[Mesh, Grip | None]:
    """A mug, paper cup, drinking glass, bottle or can at the mouth, tilted as much as one drinks."""
    kind = rng.integers(4)
    radius, tall = rng.uniform(3.0, 4.6), rng.uniform(7.5, 13)
    clear, dye = 1.0, colour(rng)
    if kind == 3:
        radius, tall = rng.uniform(2.8, 3.6), rng.uniform(18, 24)
        outline = [0.05, radius, radius, radius, 1.5, 1.3, 1.3, 1.1]
        height = np.array([0, 0.05, 0.3, 0.6, 0.78, 0.85, 1.0, 1.0]) * tall
    else:
        flare = rng.uniform(1.0, 1.35)
        outline = [0.05, radius / flare, radius, radius * 1.02, radius * 0.93, radius * 0.85]
        height = np.array([0, 0, 0.95, 1.0, 1.0, 0.15]) * tall
    if kind >= 2 and rng.random() < 0.7:
        clear, dye = rng.uniform(0.15, 0.5), np.array([0.6, 0.65, 0.65]) * rng.uniform(0.3, 1.2, 3)
    paint = np.stack([dye] * len(outline))
    if clear == 1.0 and rng.random() < 0.5:
        paint[: len(outline) // 2] = colour(rng)
    parts = [lathe(outline, height, paint)]
    if kind == 0:  # a handle
        bow = np.array([[0, 0.8, 0], [2.4, 0.75, 0], [2.9, 0.5, 0], [2.4, 0.25, 0], [0, 0.2, 0]]) * [1, tall, 1]
        bow += [radius * 0.9, 0, 0]
        parts.append(placed(tube(bow, 0.45, dye, 6), turn(y=rng.uniform(0, 360)), np.zeros(3)))
    body = join(parts, rng.uniform(0.2, 1))
    body = Mesh(body.vertices, body.faces, body.albedo, np.full(len(body.faces), clear, np.float32), body.gloss)
    tilt = rng.uniform(-70, -15)  # its opening to the mouth
    pose = turn(x=tilt, y=rng.uniform(-25, 25))
    mouth = face[[51, 57]].mean(0) + np.array([0, -0.3, 0.4])
    rim = pose @ np.array([0, tall, 0 if kind == 3 else -0.95 * radius])  # the near edge, the lower one as it tilts
    if rng.random() < 0.25:  # held lower, not drinking
        mouth, pose = (
            mouth + np.array([rng.normal(0, 2), rng.uniform(-4, 0), rng.uniform(2, 8)]),
            turn(x=rng.uniform(-10, 10)),
        )
        rim = pose @ np.array([0, tall, -radius])
    at = mouth - rim
    left = rng.random() < 0.5
    grip = (at + pose @ np.array([(-1 if left else 1) * radius, tall * 0.45, 0]), turn(y=60, z=80), left)
    return placed(body, pose, at), grip


def _microphone(rng: np.random.Generator, face: F64) -> tuple[Mesh, Grip | None]:
    dark = colour(rng) * 0.4
    radius = rng.uniform(1.8, 3.2) if rng.random() < 0.8 else rng.uniform(3.2, 4.5)
    knots = np.array([1.6, 1.3, 1.1, 0.4, -0.2, -0.5, -7, -17])
    width = np.array([0.05, 0.75, 0.95, 1.0, 0.9, 0.62, 0.5, 0.42])
    foam = np.stack([dark if rng.random() < 0.6 else np.full(3, 0.4)] * 5 + [dark] * 3)
    body = lathe(
        (width * radius)[::-1], (knots * [radius] * np.where(knots > -0.6, 1, 1 / radius))[::-1], foam[::-1], 12
    )
    pose = turn(x=rng.uniform(-80, 10), y=rng.uniform(-60, 60))
    mouth = face[48:60].mean(0)
    at = mouth + np.array([rng.normal(0, 1), rng.uniform(-4, 0), rng.uniform(2.5, 8)])
    left = rng.random() < 0.5
    grip = (at + pose @ np.array([0, -8.0, 0]), turn(y=30, z=60), left)
    return placed(join([body], rng.uniform(0.1, 0.6)), pose, at), grip


def _book(rng: np.random.Generator, face: F64) -> tuple[Mesh, Grip | None]:
    """A book, tablet or sheet of paper held up."""
    size = np.array([rng.uniform(11, 20), rng.uniform(16, 28)])
    u, v = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(0, 1, 7))
    opened = rng.uniform(0.0, 0.5)
    leaf = np.stack([u * size[0], v * size[1], -np.abs(u) * size[0] * opened - 0.4 * np.sin(np.pi * v)], -1)
    cover = mesh(leaf, lattice(7, 9, False), pattern(rng, (u + 1) / 2, v))
    at = face[30] + [rng.normal(0, 3), -size[1] + rng.uniform(-4, 6), rng.uniform(6, 20)]
    pose = turn(x=rng.uniform(-25, 15), y=rng.uniform(-20, 20), z=rng.normal(0, 8))
    left = rng.random() < 0.5
    side = pose @ np.array([(-1 if left else 1) * size[0] * 0.95, size[1] * 0.3, 0.2])
    return placed(join([cover], rng.uniform(0, 0.5)), pose, at), (at + side, turn(z=40), left)


def _pole(rng: np.random.Generator, face: F64) -> tuple[Mesh, Grip | None]:
    """A post, rail, door edge or branch across the picture."""
    width = rng.uniform(0.4, 2.5) if rng.random() < 0.7 else rng.uniform(3, 9)
    t = np.linspace(-1, 1, 7)
    wave = rng.normal(0, 0.6, 7) if rng.random() < 0.3 else np.zeros(7)
    path = np.stack([wave, 45 * t, 0 * t], 1)
    dye, band = colour(rng), colour(rng) if rng.random() < 0.3 else None
    paint = np.stack([dye if band is None or k % 2 else band for k in range(7)])
    body = tube(path, width, paint, 10, across=(1, 0, 0))
    aside = rng.uniform(-9, 9)
    tilt = rng.normal(0, 10) if rng.random() < 0.6 else rng.uniform(-90, 90)
    at = face[30] + turn(z=tilt) @ np.array([aside, 0, rng.uniform(4, 25) + width])
    return placed(join([body], rng.uniform(0, 0.7)), turn(z=tilt), at), None


def _camera(rng: np.random.Generator, face: F64) -> tuple[Mesh, Grip | None]:
    """A camera or field glasses before the eyes."""
    dark = colour(rng) * 0.5
    eyes = np.stack([face[36:42].mean(0), face[42:48].mean(0)])
    left = rng.random() < 0.5
    z = np.array([0.0, rng.uniform(3, 9), rng.uniform(9.2, 12)])
    glass, path = np.full(3, 0.02), np.stack([0 * z, 0 * z, z], 1)
    if rng.random() < 0.35:
        barrels = [tube(np.concatenate([path, path[-1:]]) + np.array([s * 3.1, 0, 0]), [1.6, 2.0, 2.6, 0.02],
                        np.stack([dark, dark, dark, glass]), 10, across=(1, 0, 0)) for s in (-1, 1)]  # fmt: skip
        body = join([*barrels, placed(box([3, 1.5, 4], dark), np.eye(3), [0, 0.4, 3.5])], 0.5)
        at = eyes.mean(0) + np.array([0, 0, 1.6])
    else:
        wide = rng.uniform(2.4, 4.2)
        barrel = tube(np.concatenate([path, path[-1:]]) + np.array([0, -0.5, 0]), [wide, wide, wide, 0.02],
                      np.stack([dark, dark, dark * 1.5, glass]), 12, across=(1, 0, 0))  # fmt: skip
        block = placed(box([rng.uniform(11, 15), rng.uniform(7.5, 10), 4.5], dark), np.eye(3), [0, -0.5, 2.2])
        hump = placed(box([4.5, 2.2, 4], dark), np.eye(3), [0, 4.5, 2.0])
        body = join([block, barrel, hump], rng.uniform(0.2, 0.7))
        at = eyes[0 if left else 1] * [0.6, 1, 1] + [0, -1.5, 3.0]
    pose = turn(x=rng.normal(0, 5), y=rng.normal(0, 6), z=rng.choice([0, 0, 0, 90]) + rng.normal(0, 4))
    side = -1 if left else 1
    return placed(body, pose, at), (at + np.array([side * 5.5, -1, 3.5]), turn(y=45, z=35), left)


def _sheet(rng: np.random.Generator, face: F64) -> tuple[Mesh, Grip | None]:
    """Leaves, a balloon or a ball: round shapes that hide a part of the face."""
    parts = []
    for _ in range(int(rng.integers(1, 6))):
        size = rng.uniform(1.5, 6.0, 3) * [1, 1, rng.choice([0.1, 1.0])]
        angle = np.linspace(-1.5, 1.5, 8)
        ball = lathe(np.cos(angle), np.sin(angle), colour(rng), 10)
        at = face[30] + np.append(rng.normal(0, 7, 2), rng.uniform(5, 18) + size[2])
        parts.append(placed(ball, turn(*rng.uniform(-90, 90, 3)) @ np.diag(size), at))
    return join(parts, rng.uniform(0, 0.6)), None

"""What a person wears on the head: caps, hats, helmets, hoods, scarves, bands and headphones, fitted to that skull."""

from __future__ import annotations

import numpy as np

from edgeface.values import F32, F64
from training.render.mesh import Mesh, colour, join, lathe, lattice, mesh, pattern, placed, tube, turn
from training.render.reach import Reach, around_axis, around_point, stretched

COLUMNS = 36
AROUND = np.arange(COLUMNS) * (2 * np.pi / COLUMNS)  # 0 = +z (the face), to +x


def hat(rng: np.random.Generator, vertices: F32, landmarks: F32) -> Mesh:
    """Something on the head of posed `vertices` [n, 3]; `landmarks` [68, 3] say where its brows and chin are.

    Only beanies and caps worn low reach the brows.
    """
    head = np.asarray(vertices[::3], dtype=np.float64)
    marks = np.asarray(landmarks, dtype=np.float64)
    kinds = (_cap, _brimmed, _beanie, _hard_hat, _hood, _head_scarf, _headphones, _hair_band)
    return kinds[rng.choice(8, p=[0.25, 0.12, 0.18, 0.1, 0.1, 0.1, 0.08, 0.07])](rng, head, marks)


def _seat(head: F64, marks: F64, rise: float, tilt: float) -> tuple[F64, F64, Reach]:
    """Where a hat sits: its rim's centre [3], its frame [3, 3] (y = through the crown) and the skull seen from there.

    The rim crosses the forehead `rise` above the brows and falls backwards by `tilt` degrees.
    """
    brow = marks[17:27, 1].max()
    skull = head[head[:, 1] > brow - 1]
    front, back = skull[:, 2].max(), skull[:, 2].min()
    middle = (front + back) / 2
    centre = np.array([marks[27, 0], brow + rise - np.tan(np.radians(tilt)) * (front - middle), middle])
    frame = turn(x=-tilt)
    local = (head - centre) @ frame
    return centre, frame, around_point(local[local[:, 1] > -4.0])


def _crown(skull: Reach, pad: float, height: float, square: float, rows: int = 8, dent: float = 0.0) -> F64:
    """A crown [rows, COLUMNS, 3] over `skull`: `pad` off it, its top `height` more, `square` 1 round .. 0 a cylinder,
    with a furrow `dent` deep along the top as far as the skull lets it.

    Its profile is a superellipse, with rows at even angles: no triangle near the top spans much of the skull.
    """
    angle = np.linspace(0, np.pi / 2, rows)[:, None]
    c, s = np.abs(np.cos(angle)), np.sin(angle)
    radius = (c ** (2 / square) + s ** (2 / square)) ** (-square / 2)
    side = skull.at(np.zeros((1, COLUMNS)), AROUND[None]) + pad
    top = skull.at(np.array([np.pi / 2 - 0.1]), np.zeros(1)) + height
    level, y = side * radius * c, top * radius * s + 0 * side
    y = y - dent * s**4 * np.exp(-((level * np.sin(AROUND) / 2.5) ** 2))
    # wherever the ideal shape would cut the skull, the skull pushes it out
    direction, distance = np.arctan2(y, np.maximum(level, 1e-9)), np.hypot(level, y)
    need = skull.at(direction, np.broadcast_to(AROUND, direction.shape)) + 0.3
    grow = np.maximum(need / np.maximum(distance, 1e-9), 1.0)
    level, y = level * grow, y * grow
    return np.stack([level * np.sin(AROUND), y, level * np.cos(AROUND)], -1)


def _paint(rng: np.random.Generator, shape: F64) -> F64:
    """Cloth for a crown [rows, COLUMNS, 3]."""
    rows = shape.shape[0]
    return pattern(
        rng, (AROUND / (2 * np.pi))[None] + np.zeros((rows, 1)), np.linspace(0, 1, rows)[:, None] + 0 * AROUND
    )


def _on_head(parts: list[Mesh], centre: F64, frame: F64, gloss: float) -> Mesh:
    return placed(join(parts, gloss), frame, centre)


def _cap(rng: np.random.Generator, head: F64, marks: F64) -> Mesh:
    rise = rng.uniform(-0.2, 0.6) if rng.random() < 0.25 else rng.uniform(0.8, 2.4)
    centre, frame, skull = _seat(head, marks, rise, rng.uniform(4, 14))
    crown = _crown(skull, rng.uniform(0.15, 0.4), rng.uniform(0.3, 1.2), rng.uniform(0.75, 1.0))
    paint = _paint(rng, crown)
    front = np.abs(np.angle(np.exp(1j * AROUND))) < rng.uniform(0.5, 0.9)
    if rng.random() < 0.4:  # front panels of another dye
        paint[:, front] = colour(rng)
    facing = 180.0 if rng.random() < 0.2 else rng.normal(0, 6)
    spread = np.radians(rng.uniform(48, 68))
    along = np.linspace(-spread, spread, 15)[None]
    t = np.linspace(0, 1, 4)[:, None]
    angle = along + np.radians(facing)
    inner = skull.at(np.zeros_like(angle), angle) + 0.2
    length = rng.uniform(4.5, 7.0) * np.sqrt(np.maximum(1 - (along / spread) ** 2, 0))
    ahead = inner + length * t
    droop = (
        np.tan(np.radians(rng.uniform(-4, 20))) * length * t
        + rng.uniform(0.0, 0.3) * (along / spread) ** 2 * length * t
    )
    peak = np.stack([np.sin(angle) * ahead, 0.05 - droop, np.cos(angle) * ahead], -1)
    dye = colour(rng) if rng.random() < 0.5 else paint[0, COLUMNS // 2]
    parts = [mesh(crown, lattice(len(crown), COLUMNS, True), paint), mesh(peak, lattice(4, 15, False)[:, ::-1], dye)]
    return _on_head(parts, centre, frame, rng.uniform(0, 0.2))


def _brim(rng: np.random.Generator, crown: F64, width: F64 | float, droop: float, curl: float, dye: F64) -> Mesh:
    """A brim of `width` all round a `crown`; it falls by `droop` (its slope) and rises by `curl` at the sides."""
    t = np.linspace(0, 1, 4)[:, None]
    out = np.hypot(crown[:1, :, 0], crown[:1, :, 2]) - 0.05 + width * t
    y = -droop * width * t + curl * (np.sin(AROUND) ** 2) * t**2 + rng.uniform(-0.2, 0.2) * t * np.cos(3 * AROUND)
    return mesh(np.stack([np.sin(AROUND) * out, y, np.cos(AROUND) * out], -1), lattice(4, COLUMNS, True)[:, ::-1], dye)


def _brimmed(rng: np.random.Generator, head: F64, marks: F64) -> Mesh:
    centre, frame, skull = _seat(head, marks, rng.uniform(1.0, 2.8), rng.uniform(0, 12))
    dent = rng.uniform(0.3, 1.2) if rng.random() < 0.5 else 0.0
    crown = _crown(skull, rng.uniform(0.2, 0.5), rng.uniform(1.0, 4.5), rng.uniform(0.3, 0.8), rows=10, dent=dent)
    dye = colour(rng)
    paint = np.broadcast_to(dye, crown.shape).copy()
    paint[:2] = colour(rng) if rng.random() < 0.7 else dye  # the ribbon
    brim = _brim(rng, crown, rng.uniform(2.0, 7.0), rng.uniform(-0.1, 0.12), rng.uniform(0, 2.0), dye)
    return _on_head([mesh(crown, lattice(10, COLUMNS, True), paint), brim], centre, frame, rng.uniform(0, 0.15))


def _beanie(rng: np.random.Generator, head: F64, marks: F64) -> Mesh:
    rise = rng.uniform(-0.6, 0.4) if rng.random() < 0.35 else rng.uniform(0.4, 2.5)
    centre, frame, skull = _seat(head, marks, rise, rng.uniform(8, 24))
    pad = rng.uniform(0.25, 0.6)
    height = rng.uniform(0.4, 4.0)
    crown = _crown(skull, pad, height, rng.uniform(0.85, 1.0), rows=10)
    crown = crown * (1 + 0.012 * np.cos(AROUND * 12))[None, :, None]  # knitted ribs
    crown[..., 2] -= height * rng.uniform(0, 0.4) * np.linspace(0, 1, 10)[:, None] ** 2  # the tip hangs back
    paint = _paint(rng, crown)
    parts = [mesh(crown, lattice(10, COLUMNS, True), paint)]
    if rng.random() < 0.6:  # turned up
        rim = crown[0] * [1, 0, 1]
        up = np.array([-0.1, 0.4, 2.0, 2.6])[:, None] * rng.uniform(0.7, 1.3)
        wide = np.array([1.02, 1.07, 1.06, 1.0])[:, None, None]
        cuff = rim[None] * wide + up[..., None] * [0, 1, 0]
        dye = colour(rng) if rng.random() < 0.4 else paint[0, 0]
        parts.append(mesh(cuff, lattice(4, COLUMNS, True), dye))
    if rng.random() < 0.2:
        ball = lathe([0.05, 1.1, 1.6, 1.1, 0.05], [-1.6, -1.0, 0, 1.0, 1.6], colour(rng), 10)
        parts.append(placed(ball, np.eye(3), crown[-1, 0] + [0, 1.0, 0]))
    return _on_head(parts, centre, frame, 0.0)


def _hard_hat(rng: np.random.Generator, head: F64, marks: F64) -> Mesh:
    centre, frame, skull = _seat(head, marks, rng.uniform(1.0, 2.8), rng.uniform(2, 10))
    crown = _crown(skull, rng.uniform(0.7, 1.3), rng.uniform(1.5, 3.0), rng.uniform(0.7, 0.9))
    ridge = np.exp(-((crown[..., 0] / 0.9) ** 2)) * np.linspace(0, 1, 8)[:, None]
    crown = crown * (1 + 0.05 * ridge)[..., None]
    dye = np.array([[0.85, 0.6, 0.02], [0.8, 0.8, 0.8], [0.8, 0.15, 0.02], [0.02, 0.1, 0.5], [0.02, 0.3, 0.08]])
    dye = dye[rng.integers(5)] if rng.random() < 0.8 else colour(rng)
    width = 1.6 + rng.uniform(0.5, 3.0) * np.maximum(np.cos(AROUND), 0) ** 2
    brim = _brim(rng, crown, width[None], rng.uniform(0.1, 0.35), 0.0, dye)
    parts = [mesh(crown, lattice(8, COLUMNS, True), dye), brim]
    if rng.random() < 0.3:  # the chin strap
        chin = (marks[8] + [0, -0.5, -1.5] - centre) @ frame
        side = skull.at(np.zeros(1), np.array([np.pi / 2]))[0] + 0.3
        strap = np.array(
            [[-side, 0, 1], [-side * 0.82, chin[1] * 0.6, 3], chin, [side * 0.82, chin[1] * 0.6, 3], [side, 0, 1]]
        )
        parts.append(tube(strap, [[0.1, 0.35]], colour(rng), 4, across=(0, 0, 1)))
    return _on_head(parts, centre, frame, rng.uniform(0.3, 0.9))


def _opening(rng: np.random.Generator, head: F64, marks: F64, loose: float, folds: float) -> tuple[F64, F64]:
    """Cloth round the head with an opening for the face, [rows, COLUMNS, 3], and the lie of its folds [rows, COLUMNS].

    Its pole points backwards: the rim is a loop before the ears, from the forehead round the cheeks under the chin.
    """
    centre = np.array([marks[27, 0], (marks[8, 1] + marks[19, 1]) / 2 + 1.5, 1.0])
    frame = turn(x=-90)  # local y backwards, local z up
    local = (head[head[:, 1] > marks[8, 1] - 1.5] - centre) @ frame
    skull = around_point(local)
    rows = 11
    t = np.linspace(0, 1, rows)[:, None]
    chin = (1 - np.cos(AROUND)) / 2  # 0 at the forehead, 1 at the chin
    forward = np.radians(rng.uniform(32, 44)) + np.radians(rng.uniform(-4, 10)) * chin
    elevation = -forward + (np.pi / 2 + forward) * t
    reach = skull.at(elevation, np.broadcast_to(AROUND, elevation.shape))
    ring = np.concatenate([reach[:, -6:], reach, reach[:, :6]], axis=1)
    reach = np.asarray(stretched(ring, 12)[:, 6:-6])
    lie = np.sin(AROUND * rng.integers(3, 8) + 4 * t + rng.uniform(0, 6)) * np.sin(np.pi * t)
    reach = reach + loose * np.minimum(1, 0.35 + 2 * t) + folds * lie
    level = reach * np.cos(elevation)
    points = np.stack([level * np.sin(AROUND), reach * np.sin(elevation), level * np.cos(AROUND)], -1)
    return points @ frame.T + centre, lie


def _shawl(rng: np.random.Generator, head: F64, marks: F64, loose: float, top: float) -> tuple[F64, F64]:
    """Cloth from under the chin (`top`) to the shoulders, [rows, COLUMNS, 3], and its folds."""
    rows, back = 7, np.array([0.0, 0.0, 0.5])
    low = marks[8, 1] - 5.5
    reach = around_axis(head - back, low - 1, marks[8, 1] + 1)
    t = np.linspace(0, 1, rows)[:, None]
    y = top + (low - top) * t + 0 * AROUND
    lie = np.sin(AROUND * rng.integers(3, 7) + 6 * t + rng.uniform(0, 6))
    front = np.maximum(np.cos(AROUND), 0)
    radius = np.maximum(
        reach.at(y, np.broadcast_to(AROUND, y.shape)) + 0.5, 6.2 + loose + 2.2 * front * (1 - t) + 2.5 * t
    )
    radius = radius + 0.25 * lie
    return back + np.stack([np.sin(AROUND) * radius, y, np.cos(AROUND) * radius], -1), lie


def _wrapped(rng: np.random.Generator, head: F64, marks: F64, loose: float, folds: float) -> Mesh:
    cloth, lie = _opening(rng, head, marks, loose, folds)
    top = marks[8, 1] + rng.uniform(-0.6, 0.4)
    shawl, low = _shawl(rng, head, marks, loose * 0.5, top)
    paint = _paint(rng, cloth) * (1 + 0.12 * lie)[..., None]
    below = np.broadcast_to(paint[0, 0], shawl.shape) * (1 + 0.15 * low)[..., None]
    parts = [mesh(cloth, lattice(len(cloth), COLUMNS, True), paint)]
    parts.append(mesh(shawl, lattice(len(shawl), COLUMNS, True)[:, ::-1], below))
    return join(parts, gloss=rng.uniform(0, 0.15))


def _hood(rng: np.random.Generator, head: F64, marks: F64) -> Mesh:
    return _wrapped(rng, head, marks, rng.uniform(0.8, 2.0), rng.uniform(0.05, 0.25))


def _head_scarf(rng: np.random.Generator, head: F64, marks: F64) -> Mesh:
    return _wrapped(rng, head, marks, rng.uniform(0.25, 0.6), rng.uniform(0.02, 0.15))


def _over(rng: np.random.Generator, head: F64, marks: F64, pad: float, back: float) -> tuple[F64, F64]:
    """An arch [13, 3] over the head from ear to ear, `pad` off the skull, and the two ears [2, 3]."""
    tall = head[(head[:, 1] > marks[8, 1] + 3) & (head[:, 1] < marks[19, 1] + 1)]
    ears = np.stack([tall[np.argmin(tall[:, 0])], tall[np.argmax(tall[:, 0])]])
    centre = ears.mean(0)
    skull = around_point((head - centre)[head[:, 1] > centre[1]])
    angle = np.linspace(-1.35, 1.35, 13)
    lean = np.radians(back)
    direction = np.stack([np.sin(angle), np.cos(angle) * np.cos(lean), -np.cos(angle) * np.sin(lean)], 1)
    distance = skull.at(np.arcsin(direction[:, 1]), np.arctan2(direction[:, 0], direction[:, 2])) + pad
    return centre + direction * distance[:, None], ears


def _headphones(rng: np.random.Generator, head: F64, marks: F64) -> Mesh:
    arch, ears = _over(rng, head, marks, rng.uniform(0.3, 0.6), rng.uniform(-5, 20))
    dye, pad = colour(rng), colour(rng)
    wide = rng.uniform(0.3, 1.1)
    path = np.concatenate([[ears[0] + [-0.6, 0.6, 0]], arch, [ears[1] + [0.6, 0.6, 0]]])
    parts = [tube(path, [[wide, 0.2]], dye, 6, across=(0, 0, 1))]
    size, thick = rng.uniform(1.9, 3.8), rng.uniform(0.6, 1.6)
    for ear, sign in zip(ears, (-1, 1), strict=True):
        start = ear + np.array([-sign * 1.0, -0.3, 0.3])
        path = start + np.outer([0, 0.45, 0.5, 1.0], [sign * (thick + 1.0), 0, 0])
        radius = np.array([0.95, 1.0, 0.97, 0.8])[:, None] * size * [1.0, 1.15]
        parts.append(tube(path, radius, np.stack([pad, pad, dye, dye]), 12, across=(0, 0, 1), rounded=False))
        lid = path[-1] + [sign * 0.05, 0, 0]
        parts.append(tube(np.stack([path[-1], lid]), np.stack([radius[-1], [0.02, 0.02]]), dye, 12, across=(0, 0, 1)))
    if rng.random() < 0.3:  # a boom to the mouth
        boom = np.stack(
            [ears[1] + [0.6, -1, 1], (ears[1] + marks[54]) / 2 + [2.2, -1.8, 0.6], marks[54] + [0.8, -0.8, 1.4]]
        )
        parts.append(tube(boom, [0.15, 0.15, 0.35], [0.02, 0.02, 0.02], 6, across=(0, 1, 0), rounded=True))
    return join(parts, gloss=rng.uniform(0.1, 0.7))


def _hair_band(rng: np.random.Generator, head: F64, marks: F64) -> Mesh:
    dye = colour(rng)
    if rng.random() < 0.5:
        arch, _ = _over(rng, head, marks, 0.15, rng.uniform(-15, 25))
        return join([tube(arch, [[rng.uniform(0.3, 1.8), 0.2]], dye, 6, across=(0, 0, 1))], gloss=rng.uniform(0, 0.6))
    centre, frame, skull = _seat(head, marks, rng.uniform(0.5, 2.0), rng.uniform(0, 15))
    y = np.linspace(0, rng.uniform(1.2, 4.0), 5)[:, None]  # a sweat band
    far = skull.at(np.zeros((1, COLUMNS)), AROUND[None])
    elevation = np.arctan2(y, far)
    level = skull.at(elevation, np.broadcast_to(AROUND, elevation.shape)) * np.cos(elevation) + 0.25
    band = np.stack([np.sin(AROUND) * level, y + 0 * AROUND, np.cos(AROUND) * level], -1)
    return _on_head([mesh(band, lattice(5, COLUMNS, True), _paint(rng, band))], centre, frame, 0.0)

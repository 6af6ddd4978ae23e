"""What a person wears on the face: glasses, sunglasses, masks and scarves, fitted to that face."""

from __future__ import annotations

import numpy as np

from edgeface.values import F32, F64
from training.render.headwear import hat
from training.render.mesh import I32, Mesh, colour, join, lattice, mesh, pattern, tube
from training.render.reach import Reach, around_axis, stretched

__all__ = ["glasses", "hat", "mask", "sunglasses"]

POINTS = 26  # of a lens's outline
ANGLE = np.arange(POINTS) * (2 * np.pi / POINTS)


def glasses(rng: np.random.Generator, landmarks: F32, head_width: float) -> Mesh:
    """Glasses with clear lenses; `landmarks` [68, 3] are this person's, `head_width` lies between the ears' roots."""
    outline, grid = _lenses(rng, landmarks, head_width, rng.uniform(0.78, 1.08))
    frame = _frame(rng, outline, landmarks, head_width, rimless=rng.random() < 0.15)
    shine = rng.uniform(0.03, 0.1)
    tint = np.array([0.75, 0.85, 0.9]) * rng.uniform(0.3, 1.0)
    lenses = _glazed(grid, _streak(rng, grid, tint), shine)
    return join([*frame, *lenses], gloss=rng.uniform(0.2, 0.9))


def sunglasses(rng: np.random.Generator, landmarks: F32, head_width: float) -> Mesh:
    """Sunglasses: dark, graded or mirrored lenses, larger and more bent than `glasses`."""
    outline, grid = _lenses(rng, landmarks, head_width, rng.uniform(0.95, 1.22))
    frame = _frame(rng, outline, landmarks, head_width, rimless=rng.random() < 0.2)
    dark = np.array([0.02, 0.02, 0.025]) * rng.uniform(0.3, 3.0) * rng.uniform(0.6, 1.4, 3)
    kind, opacity = rng.random(), rng.uniform(0.8, 1.0)
    height = grid[..., 1] - grid[..., 1].min()
    height = (height / (height.max() + 1e-9))[..., None]
    if kind < 0.45:
        albedo = np.broadcast_to(dark, grid.shape)
    elif kind < 0.75:  # paler below
        albedo, opacity = dark + (1 - height) * rng.uniform(0.05, 0.3), rng.uniform(0.7, 0.9)
    else:  # a mirror shows sky above, ground below, a horizon between
        sky, ground = rng.uniform(0.3, 0.9, 3), rng.uniform(0.02, 0.3, 3)
        albedo = ground + (sky - ground) * np.clip((height - rng.uniform(0.2, 0.5)) * rng.uniform(2, 8), 0, 1)
    return join([*frame, *_glazed(grid, _streak(rng, grid, albedo), opacity)], gloss=rng.uniform(0.5, 1.0))


def _eyes(landmarks: F32) -> F64:
    """Centres [2, 3] of the image's left and right eye."""
    points = np.asarray(landmarks, dtype=np.float64)
    return np.stack([points[36:42].mean(0), points[42:48].mean(0)])


def _lenses(rng: np.random.Generator, landmarks: F32, head_width: float, size: float) -> tuple[F64, F64]:
    """Two lenses' outlines [2, POINTS, 3] and surfaces [2, 3, POINTS, 3] (rings from the middle outwards)."""
    eyes = _eyes(landmarks)
    half = head_width / 2
    rx = size * half * rng.uniform(0.29, 0.37)
    ry = rx * rng.uniform(0.55, 1.0)
    power = rng.choice([2.0, 2.0, 2.5, 3.2, 5.0])
    c, s = np.cos(ANGLE), np.sin(ANGLE)
    out, up = np.sign(c) * np.abs(c) ** (2 / power), np.sign(s) * np.abs(s) ** (2 / power)
    style = rng.random()
    if style < 0.3:  # wider above
        out = out * (1 + rng.uniform(0, 0.2) * up)
    elif style < 0.45:  # the upper outer corner drawn up
        up = up + rng.uniform(0.1, 0.45) * np.maximum(out, 0) ** 2 * (up > 0)
    elif style < 0.6:  # a drop: hangs outwards below, nearly straight above
        out, up = out + 0.22 * np.maximum(-up, 0) ** 2, np.where(up > 0, up * 0.75, up * 1.15)
    rings = np.array([0.02, 0.55, 1.0])[:, None]
    out, up = rx * rings * out, ry * rings * up
    slip = min(rng.uniform(0.3, 1.6), 0.45 * ry) if rng.random() < 0.15 else rng.uniform(-0.2, 0.3)  # down the nose
    between = eyes[1, 0] - eyes[0, 0]
    middle = eyes.mean(0)
    centre_x = max(between / 2 + rng.uniform(-0.15, 0.25), rx + rng.uniform(0.75, 1.2))
    bend, lean = rng.uniform(0.01, 0.045), np.tan(np.radians(rng.uniform(3, 12)))
    sellion = float(landmarks[27, 2])
    depth = max(middle[2] + rng.uniform(1.35, 2.0), sellion - rng.uniform(0.0, 0.3)) + 0.45 * max(slip, 0)
    x = centre_x + out
    y = middle[1] - 0.12 * ry - slip + up
    z = depth - bend * (np.abs(x) - 1.0) ** 2 + lean * (y - middle[1] + slip) + 0.12 * (1 - rings**2)
    brows = np.asarray(landmarks[17:27], dtype=np.float64)
    order = np.argsort(brows[:, 0])
    for sign in (-1, 1):  # forward, until neither brow cuts through
        ridge = np.interp(middle[0] + sign * x, brows[order, 0], brows[order, 2], right=-9, left=-9)
        close = y > np.interp(middle[0] + sign * x, brows[order, 0], brows[order, 1]) - 1.2
        z = z + np.max(np.where(close, ridge + 0.25 - z, 0), initial=0)
    z = np.maximum(z, middle[2] + 0.35)
    right = np.stack([x, y, z], -1)
    right[..., 0] += middle[0]
    left = right * [-1, 1, 1] + [2 * middle[0], 0, 0]
    skew = (eyes[1, 1] - eyes[0, 1]) / max(between, 1e-6)  # an uneven face holds them uneven
    both = np.stack([left, right])
    both[..., 1] += skew * (both[..., 0] - middle[0])
    return both[:, -1], both


def _frame(
    rng: np.random.Generator, outline: F64, landmarks: F32, head_width: float, rimless: bool
) -> list[Mesh]:  # fmt: skip
    """Rims, bridge and temples for two outlines [2, POINTS, 3]."""
    first = colour(rng)
    second = colour(rng) if rng.random() < 0.3 else first
    metal = rng.random() < 0.45
    thick = rng.uniform(0.05, 0.1) if metal else rng.uniform(0.12, 0.32)
    parts = []
    upper = np.sin(ANGLE)[:, None] > -0.25
    if rimless:  # the glass's edge
        thick = min(thick, 0.09)
        for side in outline:
            edge = tube(side, 0.05, (0.5, 0.55, 0.55), 4, closed=True)
            parts.append(mesh(edge.vertices, edge.faces, edge.albedo, 0.35))
    else:
        rim = np.where(upper, first, second)
        half_rim = rng.random() < 0.12
        for side in outline:
            if half_rim:
                order = np.roll(np.arange(POINTS), -int(np.argmax(~upper[:, 0])))
                order = order[upper[order, 0]]
                parts.append(tube(side[order], [[0.1, thick]], first, 5))
            else:
                width = thick * np.where(upper[:, 0], 1.0, rng.uniform(0.6, 1.0))
                parts.append(tube(side, np.stack([0.1 + 0 * width, width], 1), rim, 5, closed=True))
    top = ANGLE[np.argmin(np.abs(ANGLE - np.radians(rng.uniform(140, 165))))]
    inner = int(np.argmin(np.abs(ANGLE - top)))
    left, right = outline[0, inner], outline[1, inner]
    middle = (left + right) / 2 + [0, rng.uniform(0.05, 0.35), rng.uniform(0.15, 0.4)]
    middle[2] = max(middle[2], float(landmarks[27, 2]) + 0.15)
    arch = np.stack([left, (left + 2 * middle) / 3 + [0, 0.08, 0], (right + 2 * middle) / 3 + [0, 0.08, 0], right])
    parts.append(tube(arch, max(thick * 0.8, 0.07), first, 5, across=(0, 1, 0)))
    if metal and rng.random() < 0.3:  # a second bar
        parts.append(tube(arch + np.array([0, thick * 2 + 0.35, 0]), 0.06, first, 4, across=(0, 1, 0)))
    hinge = int(np.argmin(np.abs(ANGLE - np.radians(rng.uniform(10, 40)))))
    eyes = _eyes(landmarks)
    height = thick * rng.uniform(0.8, 1.8)
    for side, sign, eye in ((outline[0], -1, eyes[0]), (outline[1], 1, eyes[1])):
        start = side[hinge]
        x = sign * head_width / 2
        ear = np.array([x * 1.05, eye[1] + 1.0, eye[2] - 8.6])
        outer = np.array([max(abs(start[0]) + 0.15, abs(x) * 0.97) * sign, start[1], start[2] - 0.7])
        path = np.stack(
            [start, outer, (outer + ear) / 2 + [sign * 0.3, 0, 0], ear, ear + np.array([-sign * 0.5, -1.8, -1.4])]
        )
        parts.append(tube(path, [[0.08, height]], second, 4, across=(1, 0.02, 0.3)))
    return parts


def _streak(rng: np.random.Generator, grid: F64, albedo: F64) -> F64:
    """`albedo` with, half the time, the slanting light of a window or sky on it."""
    albedo = np.broadcast_to(albedo, grid.shape)
    if rng.random() < 0.5:
        return albedo
    slant = grid[..., 0] * rng.uniform(-1, 1) + grid[..., 1]
    spot = np.exp(-(((slant - rng.uniform(slant.min(), slant.max())) / rng.uniform(0.3, 1.2)) ** 2))
    return np.asarray(albedo + spot[..., None] * rng.uniform(0.1, 0.9))


def _glazed(grid: F64, albedo: F64, opacity: float) -> list[Mesh]:
    faces = lattice(grid.shape[1], POINTS, True)
    return [mesh(lens, faces, paint, opacity) for lens, paint in zip(grid, albedo, strict=True)]


def mask(rng: np.random.Generator, vertices: F32, face_faces: I32, landmarks: F32) -> Mesh:
    """A mask stretched over the lower face, sometimes worn under the nose or the chin, or a scarf before the mouth.

    `vertices` [n, 3] are the posed head's, `face_faces` [m, 3] its triangles that are face skin.
    """
    scarf = rng.random() < 0.15
    if scarf:
        points = np.asarray(vertices[vertices[:, 1] < landmarks[27, 1]][::2], dtype=np.float64)
    else:
        worn = np.zeros(len(vertices), dtype=np.bool_)
        worn[face_faces[::2]] = True
        points = np.asarray(vertices[worn & (vertices[:, 1] < landmarks[27, 1])], dtype=np.float64)
    marks = np.asarray(landmarks, dtype=np.float64)
    back = np.array([0.0, 0.0, marks[8, 2] - 8.0 if not scarf else 0.5])
    height = marks[27, 1] - marks[8, 1]  # from the nose's root to the chin
    low, high = marks[8, 1] - (0.9 if scarf else 0.35) * height, marks[27, 1]
    reach = around_axis(points - back, low, high)
    return _scarf(rng, reach, marks, back) if scarf else _mask(rng, reach, marks, back, vertices)


def _mask(rng: np.random.Generator, reach: Reach, marks: F64, back: F64, vertices: F32) -> Mesh:
    """A mask over `reach` about the upright axis through `back`, with its loops to the ears of `vertices`."""
    rows, columns = 14, 19
    chin, nose, root = marks[8, 1], marks[33, 1], marks[27, 1]
    height = root - chin
    bottom = chin - rng.uniform(0.02, 0.08) * height
    top = nose + rng.uniform(0.25, 0.7) * (root - nose)
    worn = rng.random()
    if worn < 0.12:  # the nose free
        top = nose - rng.uniform(0.0, 0.06) * height
    elif worn < 0.2:  # on the chin
        top, bottom = marks[57, 1] - rng.uniform(-0.1, 0.06) * height, chin - 0.2 * height
    reach_of = rng.uniform(50, 72)
    u, v = np.linspace(-1, 1, columns)[None], np.linspace(0, 1, rows)[:, None]
    side_top = min(top, marks[[2, 14], 1].mean() + rng.uniform(-0.1, 0.12) * height)
    side_bottom = max(bottom, marks[[4, 12], 1].mean() + rng.uniform(-0.1, 0.06) * height)
    side_top = max(side_top, side_bottom + 0.12 * height)
    peak = rng.uniform(1.2, 2.4)  # how sharply the upper edge rises to the nose
    upper = side_top + (top - side_top) * (1 - np.abs(u) ** peak)
    lower = side_bottom + (bottom - side_bottom) * (1 - np.abs(u) ** 2.2)
    y = upper + (lower - upper) * v
    around = np.radians(reach_of) * u + 0 * v
    radius = stretched(reach.at(y, around) + 0.06, 18)
    kind = rng.random()
    cup = (1 - u**2) * np.sin(np.pi * v)
    first, second = colour(rng), colour(rng)
    if kind < 0.45:  # surgical: three pleats, pale blue, white or dark
        radius = radius + 0.12 + rng.uniform(0.0, 0.5) * cup + 0.12 * np.abs(np.sin(np.pi * 4 * v)) * (1 - u**4)
        dye = np.array([[0.35, 0.6, 0.72], [0.75, 0.78, 0.8], [0.02, 0.02, 0.02], [0.6, 0.35, 0.4]])[rng.integers(4)]
        albedo = dye * (1 - 0.12 * (np.sin(np.pi * 8 * v) > 0.6) + 0 * u)[..., None] * rng.uniform(0.8, 1.1)
    elif kind < 0.75:  # cloth, with or without a seam
        radius = radius + 0.15 + rng.uniform(0, 0.8) * cup + rng.uniform(0, 0.3) * np.exp(-((u / 0.12) ** 2)) * cup
        albedo = pattern(rng, (u + 1) / 2 + 0 * v, v + 0 * u)
    else:  # FFP: a stiff cone or a folded beak, white or black
        cone = (1 - np.abs(u) ** rng.uniform(1, 2)) * np.sin(np.pi * v**0.8)
        radius = radius + 0.15 + rng.uniform(0.6, 2.0) * cone
        albedo = np.broadcast_to(np.full(3, rng.choice([0.8, 0.7, 0.02])), (*radius.shape, 3)).copy()
        if rng.random() < 0.3:  # a valve
            valve = np.hypot((u - rng.uniform(-0.3, 0.3)) * 3, (v - 0.55) * 2.2)[..., None] < 0.35
            albedo = np.where(valve, second, albedo)
    if rng.random() < 0.3:  # a hem of another dye
        albedo = np.where((v < 0.07)[..., None] | (v > 0.93)[..., None], first, albedo)
    points = back + np.stack([np.sin(around) * radius, y, np.cos(around) * radius], -1)
    cloth = mesh(points[:, ::1], lattice(rows, columns, False)[:, ::-1], albedo)
    return join([cloth, *_loops(rng, points, vertices)], gloss=rng.uniform(0, 0.25))


def _loops(rng: np.random.Generator, points: F64, vertices: F32) -> list[Mesh]:
    """Two strings a side, from the mask's corners to behind the ear of `vertices`."""
    dye = colour(rng)
    some = vertices[::2]
    band = some[(some[:, 1] > points[..., 1].min()) & (some[:, 1] < points[..., 1].max() + 6)]
    parts = []
    for column, pick in ((0, np.argmin), (-1, np.argmax)):
        ear = np.asarray(band[pick(band[:, 0])], dtype=np.float64)
        sign = np.sign(ear[0])
        for row, rise in ((0, 1.6), (points.shape[0] - 1, -1.6)):
            start = points[row, column]
            end = ear + np.array([-sign * 0.9, rise, -0.8])
            middle = (start + end) / 2
            middle[0] = sign * max(abs(middle[0]), abs(start[0]) + 0.12) + sign * 0.1
            parts.append(tube(np.stack([start, middle, end]), rng.uniform(0.06, 0.14), dye, 4, across=(0, 1, 0.1)))
    return parts


def _scarf(rng: np.random.Generator, reach: Reach, marks: F64, back: F64) -> Mesh:
    """A scarf wound round the neck and up to the mouth or nose, over `reach` of the whole head and neck."""
    rows, columns = 12, 36
    around = (np.arange(columns) * (2 * np.pi / columns))[None]
    v = np.linspace(0, 1, rows)[:, None]
    top = rng.choice([marks[30, 1], marks[33, 1], marks[51, 1] + 0.4, marks[57, 1]]) + rng.uniform(-0.1, 0.5)
    bottom = marks[8, 1] - rng.uniform(1.5, 4.0)
    front = (1 + np.cos(around)) / 2
    upper = top - (1 - front) * rng.uniform(1.0, 4.0)
    y = upper + (bottom - upper) * v
    radius = reach.at(y, around + 0 * v)
    ring = np.concatenate([radius[:, -6:], radius, radius[:, :6]], axis=1)
    radius = np.asarray(stretched(ring, 16)[:, 6:-6])
    folds = np.sin(
        2 * np.pi * (v * rng.uniform(1.5, 4) + 0.15 * np.sin(around * rng.integers(1, 4) + rng.uniform(0, 6)))
    )
    radius = radius + rng.uniform(0.35, 1.1) + 0.3 * folds + 0.8 * np.sin(np.pi * v)
    points = back + np.stack([np.sin(around) * radius, y, np.cos(around) * radius], -1)
    albedo = pattern(rng, around / (2 * np.pi) + 0 * v, v + 0 * around) * (1 + 0.15 * folds)[..., None]
    return mesh(points, lattice(rows, columns, True)[:, ::-1], albedo)

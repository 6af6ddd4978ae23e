"""The 80 points: where the mark-up puts them on the head, and how the jaw's points follow the view.

Points 0 to 67 are iBUG's, 68 to 79 FPENet's extras (irises, ears). The places come from the mark-up itself, not from
measured pictures: the jaw runs along the face's visible contour from the level of the eyes through the lowest point of
the chin, in equal steps; the brows' points lie along the brow; 31 to 35 along the lower edge of the nose; the rest at
the corners and edges of eyes and lips. Where a place is a matter of degree (how high on the brow, how wide on the
wing of the nose, where the inner lip's points stand between its corners), the published mean shape of the mark-up
decides (OpenFace's template of 68 points, Amos et al. 2016), in shares of the distance of the outer eye corners.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeface.point_sets import flip_map
from edgeface.values import F32, I64

Strip = tuple[I64, F32]  # vertices [k], direction [2]

N_POINTS = 80
MIRROR = flip_map(N_POINTS)
IRISES = slice(68, 76)
# (point, share across, share down) of the distance of the outer eye corners, from the middle between the eyes
BY_DEGREE = (
    (17, -0.666, -0.157),
    (18, -0.561, -0.240),
    (19, -0.421, -0.261),
    (20, -0.276, -0.237),
    (21, -0.139, -0.179),
)
WING, NOSTRIL = (0.163, 0.060), (0.085, 0.028)  # points 31 and 32: across, and above point 33
INNER_LIP = 0.088  # points 61 and 67: across


def anchors(base: F32, on_face: I64, upward: F32, given: I64, ear: I64) -> I64:
    """The vertex i64 [80] of each point on the neutral head; irises (68 to 75) are -1: they turn with the eyes.

    `base` f32 [n, 3] head units; `on_face` i64: the front's vertices; `upward` f32 [n]: the normals' y; `given` i64
    [68]: the head model's own points; `ear` i64: the vertices of the ear on the picture's left.
    """
    points = np.full(N_POINTS, -1, np.int64)
    points[:68] = given

    def nearest(place: F32) -> int:
        return int(on_face[np.argmin(((base[on_face] - place) ** 2).sum(1))])

    def both(point: int, place: F32) -> None:
        points[point] = nearest(place)
        points[MIRROR[point]] = nearest(place * np.float32([-1, 1, 1]))

    eyes = base[given[36:48]].mean(0)
    across = np.linalg.norm(base[given[45]] - base[given[36]])
    front = on_face[base[on_face, 2] > 4.0]

    def on_front(x: float, y: float) -> F32:
        """The place on the front's surface at x, y."""
        return base[front[np.argmin(((base[front, :2] - [x, y]) ** 2).sum(1))]]

    for point, x, down in BY_DEGREE:
        both(point, on_front(x * across, eyes[1] - down * across))
    under = base[given[33]]
    for point, (x, up) in ((31, WING), (32, NOSTRIL)):
        both(point, nearest_surface(base, on_face, -x * across, under[1] + up * across, under[2]))
    for point in (61, 67):
        lip = base[given[point]].copy()
        inner = np.abs(base[on_face, 1] - lip[1]) < 0.08
        both(point, nearest_surface(base, on_face[inner], -INNER_LIP * across, lip[1], lip[2]))
    for point, place in zip(range(9), jaw(base, on_face, upward, eyes[1]), strict=True):
        both(point, place)
    top, lobe = ear[np.argmax(base[ear, 1])], ear[np.argmin(base[ear, 1])]
    for point, vertex in ((76, top), (77, lobe)):
        points[point] = vertex
        points[point + 2] = np.argmin(((base - base[vertex] * np.float32([-1, 1, 1])) ** 2).sum(1))
    return points


def nearest_surface(base: F32, among: I64, x: float, y: float, z: float) -> F32:
    """The place f32 [3] of the vertex of `among` i64 that is nearest to x, y at about the depth z."""
    d = (base[among] - np.float32([x, y, z])) ** 2 * np.float32([1, 1, 0.1])
    return base[among[np.argmin(d.sum(1))]]


def jaw(base: F32, on_face: I64, upward: F32, level: float) -> F32:
    """Points 0 to 8 f32 [9, 3] on the neutral head: its outline seen from the front, in equal steps.

    From the height `level` (the eyes') down the picture's left side to the lowest point of the chin. `upward` f32 [n]
    is the normals' y.
    """
    x, y, z = base[on_face].T
    # not the ears, nor the neck: below the mouth its skin lies behind this slope
    of_the_jaw = (x <= 0.05) & (x > -7.6) & (y < level + 0.6) & (z > 2.6) & (z > 3.0 - 1.6 * (y + 5.0))
    # and not the underside of the chin
    of_the_jaw &= upward[on_face] > -0.9
    left = on_face[of_the_jaw]
    middle = np.float32([0.0, level - 5.0])
    away = base[left, :2] - middle
    angle = np.arctan2(np.maximum(-away[:, 0], 0), away[:, 1])  # 0 above the middle, half a turn at the chin
    outline = []
    for low in np.linspace(angle.min(), np.pi, 61)[:-1]:
        inside = left[(angle >= low) & (angle < low + np.pi / 40)]
        if len(inside):
            reach = ((base[inside, :2] - middle) ** 2).sum(1)
            outline.append(base[inside[np.argmax(reach)]])
    outline = np.array([p for p in outline if p[1] <= level])
    chin = left[np.abs(base[left, 0]) < 0.15]
    outline = np.vstack([outline, base[chin[np.argmin(base[chin, 1])]]])
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(outline[:, :2], axis=0).T))])
    return np.stack([np.interp(np.linspace(0, along[-1], 9), along, outline[:, k]) for k in range(3)], 1)


def contour_strips(base: F32, on_face: I64, points: I64) -> list[Strip]:
    """For each jaw point the vertices it may stand on, and the direction f32 [2] that is outward for it.

    As a head turns, the outline that an annotator follows wanders over the cheek: the point is the outermost vertex
    of its strip.
    """
    strips = []
    pivot = base[points[3], 1] + 1.0
    for i in range(17):
        place = base[points[i]]
        if i <= 3 or i >= 13:
            centre, outward = np.float32([0, place[1]]), np.float32([np.sign(place[0]), 0])
        else:
            centre = np.float32([0, pivot])
            outward = (place[:2] - centre) / np.linalg.norm(place[:2] - centre)
        away = base[:, :2] - centre
        reach = away @ outward
        aside = np.abs(away @ np.float32([-outward[1], outward[0]]))
        to = (place[:2] - centre) @ outward
        near = (aside < 0.32) & (reach > 0.45 * to)
        side = i <= 4 or i >= 12
        near &= (reach <= to * 1.001) & (base[:, 2] > place[2] - 0.01) if side else True
        near &= True if side else (reach <= to * 1.1) & (base[:, 2] > place[2] - 1.0)
        strip = on_face[near[on_face]]
        strips.append((np.append(strip, points[i]), outward.astype(np.float32)))
    return strips


def follow_contour(screen: F32, points: I64, strips: Sequence[Strip], roll: float) -> I64:
    """The vertices i64 [17] that the jaw's points stand on in a view: `screen` [n, 2] pixels, `roll` in radians."""
    cos, sin = np.cos(roll), np.sin(roll)
    chosen = points[:17].copy()
    for i, (strip, (dx, dy)) in enumerate(strips):
        outward = np.array([dx * cos - dy * sin, -(dx * sin + dy * cos)])
        chosen[i] = strip[np.argmax(screen[strip] @ outward)]
    return chosen


def equal_steps(contour: F32) -> F32:
    """The jaw's points f32 [17, 3] (pixels, depth) along the `contour` [17, 3]: equal steps in each half.

    So annotators spread them, also where the head is turned and one half is long and the other short.
    """
    halves = []
    for half in (contour[:9], contour[8:]):
        along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(half[:, :2], axis=0).T))])
        at = np.linspace(0, along[-1], 9)
        halves.append(np.stack([np.interp(at, along, half[:, k]) for k in range(3)], 1))
    return np.concatenate([halves[0], halves[1][1:]]).astype(np.float32)

"""Things that detectors take for faces, painted: animals, chests, fists, flowers, plates, sockets, car fronts.

Each function paints one thing on a square patch: (rng, size) -> luma and alpha [size, size]. `LOOKALIKES` names them.
The list is what the first detector of this kind really confused with faces.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from edgeface.values import F32
from training.render.patches import Patch, coordinates, cover, dome, ellipse, lit, noise


def _skin(rng: np.random.Generator, size: int) -> F32:
    return np.float32(rng.uniform(0.12, 0.75)) * np.exp(
        noise(rng, size, size, 4, 64, 0.5) * np.float32(rng.uniform(0.01, 0.08))
    )


def _fur(rng: np.random.Generator, size: int) -> F32:
    """Relief of short strokes: noise stretched along one direction."""
    grain = rng.standard_normal((size, size), dtype=np.float32)
    stroke = np.zeros((9, 9), np.float32)
    angle = rng.normal(np.pi / 2, 0.5)
    reach = np.array([np.cos(angle), np.sin(angle)]) * 4
    cv2.line(
        stroke, tuple(np.round(4 - reach).astype(int).tolist()), tuple(np.round(4 + reach).astype(int).tolist()), 1.0
    )
    return np.asarray(cv2.filter2D(grain, -1, stroke / stroke.sum()), np.float32)


def animal_head(rng: np.random.Generator, size: int) -> Patch:
    """An ellipse of fur with ears, a muzzle with a nose, and two dark eyes."""
    x, y = coordinates(size)
    broad, tall = rng.uniform(0.5, 0.68), rng.uniform(0.5, 0.7)
    head = ellipse(x, y, (0, 0.1), (broad, tall))
    alpha, relief = cover(head, size, broad), dome(head, 0.6)
    base = rng.uniform(0.03, 0.8)
    albedo = np.full_like(x, base)
    floppy = rng.random() < 0.5
    for side in (-1, 1):
        centre = (side * broad * rng.uniform(0.75, 0.95), 0.1 if floppy else 0.1 - tall * rng.uniform(0.8, 1.0))
        radii = (rng.uniform(0.14, 0.22), rng.uniform(0.3, 0.5))
        ear = ellipse(x, y, centre, radii, side * (rng.uniform(0.1, 0.4) if floppy else -rng.uniform(0.2, 0.6)))
        alpha, relief = np.maximum(alpha, cover(ear, size, radii[0])), np.maximum(relief, dome(ear, 0.35))
        albedo[ear < 1] *= np.float32(rng.uniform(0.5, 1.1))
        albedo[ear < 0.35] *= np.float32(rng.uniform(0.6, 1.2))
    if rng.random() < 0.6:  # a blaze or a mask
        blaze = ellipse(x, y, (0, rng.uniform(-0.3, 0.3)), (rng.uniform(0.08, 0.4), rng.uniform(0.3, 0.7)))
        albedo[blaze < 1] = rng.uniform(0.03, 0.9)
    down, wide = rng.uniform(0.3, 0.48), rng.uniform(0.18, 0.34)
    muzzle = ellipse(x, y, (0, down), (wide, wide * rng.uniform(0.7, 1.1)))
    relief += dome(muzzle, rng.uniform(0.2, 0.5))
    if rng.random() < 0.5:
        albedo[muzzle < 1] = np.clip(base * rng.uniform(0.6, 2), 0, 0.9)
    albedo *= np.exp(np.float32(rng.uniform(0.1, 0.6)) * _fur(rng, size))
    nose = ellipse(x, y, (0, down - wide * 0.35), (wide * rng.uniform(0.3, 0.55), wide * rng.uniform(0.2, 0.4)))
    albedo[nose < 1] = 0.02
    mouth = np.zeros((size, size), np.float32)
    low, half = int((down + wide * 0.3 + 1) / 2 * size), int(wide * 0.22 * size)
    for side in (-1, 1):
        cv2.ellipse(
            mouth, (size // 2 + side * half, low), (max(1, half), max(1, half // 2)), 0, 0, 180, 1.0, max(1, size // 60)
        )
    albedo = albedo * (1 - mouth * np.float32(rng.uniform(0.3, 0.9)))
    apart, eye = broad * rng.uniform(0.35, 0.55), rng.uniform(0.05, 0.1)
    for side in (-1, 1):
        pupil = ellipse(x, y, (side * apart, down - wide - rng.uniform(0.08, 0.14)), (eye, eye * rng.uniform(0.7, 1)))
        albedo[pupil < 1] = 0.015
        albedo[ellipse(x, y, (side * apart - 0.02, down - wide - 0.14), (eye * 0.3, eye * 0.3)) < 1] = 0.8
    return lit(rng, relief + _fur(rng, size) * np.float32(0.02), albedo, rng.uniform(0, 0.05)), alpha


def muzzle(rng: np.random.Generator, size: int) -> Patch:
    """The nose end of an animal alone: two lobes of fur and a dark nose."""
    x, y = coordinates(size)
    whole = ellipse(x, y, (0, 0), (0.85, 0.8))
    relief = dome(whole, 0.5)
    for side in (-1, 1):
        relief = np.maximum(relief, dome(ellipse(x, y, (side * 0.3, 0.2), (0.45, 0.45)), 0.7))
    albedo = np.float32(rng.uniform(0.1, 0.8)) * np.exp(np.float32(0.3) * _fur(rng, size))
    albedo[ellipse(x, y, (0, -0.2), (rng.uniform(0.2, 0.4), rng.uniform(0.15, 0.3))) < 1] = 0.02
    return lit(rng, relief, albedo, 0.03), cover(whole, size, 0.8)


def chest(rng: np.random.Generator, size: int) -> Patch:
    """Bare skin with two nipples, perhaps a navel: a face to a careless eye."""
    x, y = coordinates(size)
    alpha = np.clip((0.9 - np.maximum(np.abs(x) * np.float32(rng.uniform(1, 1.4)), np.abs(y))) * size / 4, 0, 1)
    relief = np.sqrt(np.clip(1 - x * x, 0, 1)) * np.float32(0.5)
    albedo = _skin(rng, size)
    apart, high = rng.uniform(0.25, 0.42), rng.uniform(-0.4, -0.05)
    for side in (-1, 1):
        relief += dome(
            ellipse(x, y, (side * apart, high - 0.08), (apart * 0.95, rng.uniform(0.25, 0.4))), rng.uniform(0.05, 0.3)
        )
        areola = ellipse(
            x, y, (side * apart, high + rng.normal(0, 0.02)), (rng.uniform(0.04, 0.1), rng.uniform(0.04, 0.08))
        )
        albedo *= 1 - np.float32(rng.uniform(0.3, 0.7)) * cover(areola, size, 0.07)
    relief -= np.float32(rng.uniform(0, 0.08)) * np.exp(-((x / np.float32(0.05)) ** 2))
    navel = ellipse(x, y, (0, rng.uniform(0.35, 0.65)), (0.05, 0.06))
    relief -= dome(navel, 0.25)
    albedo *= 1 - np.float32(0.6) * cover(navel, size, 0.06)
    if rng.random() < 0.35:  # hair
        hair = np.clip(_fur(rng, size) * 3, 0, 1) * np.exp(-((x / 0.35) ** 2 + ((y - high) / 0.4) ** 2))
        albedo *= 1 - np.clip(hair, 0, 0.7)
    return lit(rng, relief, albedo.astype(np.float32), rng.uniform(0, 0.08)), alpha.astype(np.float32)


def fist(rng: np.random.Generator, size: int) -> Patch:
    """Knuckles in a row over the back of a hand, a thumb across."""
    x, y = coordinates(size)
    back = ellipse(x, y, (0, -0.05), (0.75, 0.68))
    alpha, relief = cover(back, size, 0.7), dome(back, 0.45)
    for finger in range(4):
        centre = (-0.52 + 0.35 * finger, rng.uniform(0.2, 0.35))
        knuckle = ellipse(x, y, centre, (0.2, rng.uniform(0.35, 0.5)), rng.normal(0, 0.08))
        relief, alpha = np.maximum(relief, dome(knuckle, 0.6)), np.maximum(alpha, cover(knuckle, size, 0.25))
    thumb = ellipse(x, y, (rng.uniform(-0.3, 0.3), 0.55), (rng.uniform(0.4, 0.6), 0.18), rng.normal(0, 0.3))
    relief, alpha = np.maximum(relief, dome(thumb, 0.8)), np.maximum(alpha, cover(thumb, size, 0.25))
    return lit(rng, relief, _skin(rng, size), rng.uniform(0, 0.08)), alpha


def fingers(rng: np.random.Generator, size: int) -> Patch:
    """Two to five fingers side by side, with nails."""
    x, y = coordinates(size)
    many = int(rng.integers(2, 6))
    alpha, relief, albedo = np.zeros_like(x), np.zeros_like(x), _skin(rng, size)
    fan = rng.uniform(0, 0.25)
    for finger in range(many):
        place = (finger + 0.5) / many * 2 - 1
        radii = (0.9 / many, rng.uniform(0.7, 0.95))
        shape = ellipse(x, y, (place * 0.85, rng.uniform(-0.05, 0.25)), radii, fan * place)
        relief, alpha = np.maximum(relief, dome(shape, radii[0])), np.maximum(alpha, cover(shape, size, radii[0]))
        nail = ellipse(x, y, (place * 0.85 + fan * place, -0.45), (radii[0] * 0.5, 0.16), fan * place)
        albedo *= 1 + np.float32(rng.uniform(0, 0.5)) * cover(nail, size, 0.1)
    return lit(rng, relief, albedo, rng.uniform(0, 0.1)), alpha


def flower(rng: np.random.Generator, size: int) -> Patch:
    """Petals around a centre of another grey."""
    x, y = coordinates(size)
    petals, grey = int(rng.integers(5, 14)), rng.uniform(0.1, 0.95)
    alpha, relief, albedo = np.zeros_like(x), np.zeros_like(x), np.full_like(x, grey)
    for turn in range(petals * int(rng.integers(1, 3))):
        angle = turn * 2 * np.pi / petals * 1.02 + 0.2 * (turn >= petals)
        far, radii = rng.uniform(0.42, 0.55), (rng.uniform(0.35, 0.42), rng.uniform(0.1, 0.25))
        petal = ellipse(x, y, (far * np.cos(angle), far * np.sin(angle)), radii, angle)
        relief, alpha = (
            np.where(petal < 1, dome(petal, 0.15) + rng.uniform(0, 0.1), relief),
            np.maximum(alpha, cover(petal, size, radii[1])),
        )
        albedo[petal < 1] = grey * rng.uniform(0.75, 1.05)
    middle = ellipse(x, y, (0, 0), (0.22, 0.22))
    albedo[middle < 1] = rng.uniform(0.02, 0.9)
    relief += dome(middle, 0.2) + np.where(middle < 1, noise(rng, size, size, 32, 64) * 0.03, 0)
    return lit(rng, relief.astype(np.float32), albedo), np.maximum(alpha, cover(middle, size, 0.2))


def leaves(rng: np.random.Generator, size: int) -> Patch:
    """Pointed leaves with a rib, one over the other."""
    alpha, luma = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(3, 12))):
        angle, long = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.45) * size
        t = np.linspace(-1, 1, 13)
        half = np.stack([t * long, (1 - t * t) * long * rng.uniform(0.2, 0.5)], 1)
        outline = np.concatenate([half, half[::-1] * (1, -1)])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        centre = rng.uniform(0.3, 0.7, 2) * size
        points = np.round((outline @ turn.T + centre) * 8).astype(np.int32)
        grey = rng.uniform(0.1, 0.8)
        cv2.fillPoly(luma, [points], grey, cv2.LINE_AA, 3)
        cv2.fillPoly(alpha, [points], 1.0, cv2.LINE_AA, 3)
        rib = np.round((half[[0, -1]] * (1, 0) @ turn.T + centre) * 8).astype(np.int32)
        cv2.polylines(luma, [rib], False, grey * rng.uniform(0.6, 1.3), max(1, size // 90), cv2.LINE_AA, 3)
    return np.clip(luma, 0, 1), alpha


def plate(rng: np.random.Generator, size: int) -> Patch:
    """A plate from above or aslant, with food on it."""
    x, y = coordinates(size)
    flat = rng.uniform(0.45, 1.0)
    outer = ellipse(x, y, (0, 0), (0.92, 0.92 * flat))
    albedo = np.full_like(x, rng.uniform(0.5, 0.95))
    relief = np.where(outer > 0.5, outer, 0.5).astype(np.float32) * np.float32(0.2)
    for _ in range(int(rng.integers(0, 8))):
        place, grey = rng.normal(0, 0.25, 2), rng.uniform(0.02, 0.9)
        radii = (rng.uniform(0.06, 0.3), rng.uniform(0.06, 0.25) * flat)
        food = ellipse(x, y, (place[0], place[1] * flat), radii, rng.uniform(0, 3))
        albedo = np.where(food < 1, np.float32(grey) * (1 + noise(rng, size, size, 16, 64) * np.float32(0.15)), albedo)
        relief = np.maximum(relief, dome(food, 0.3))
    return lit(rng, relief, np.clip(albedo, 0.02, 1).astype(np.float32), rng.uniform(0, 0.2)), cover(
        outer, size, 0.9 * flat
    )


def knees(rng: np.random.Generator, size: int) -> Patch:
    """Two bare knees."""
    x, y = coordinates(size)
    alpha, relief = np.zeros_like(x), np.zeros_like(x)
    for side in (-1, 1):
        leg = np.abs(x - side * np.float32(0.45)) / np.float32(0.42 - 0.04 * np.cos(3 * side))
        alpha = np.maximum(alpha, np.clip((1 - leg) * size / 6, 0, 1) * (np.abs(y) < 0.95))
        relief = np.maximum(relief, np.sqrt(np.clip(1 - leg * leg, 0, 1)) * np.float32(0.4))
        relief += dome(ellipse(x, y, (side * 0.45, rng.normal(0, 0.1)), (0.28, 0.34)), rng.uniform(0.05, 0.2))
    return lit(rng, relief, _skin(rng, size), rng.uniform(0, 0.1)), alpha.astype(np.float32)


def ear(rng: np.random.Generator, size: int) -> Patch:
    """An ear alone: a rim around a hollow."""
    x, y = coordinates(size)
    tilt = rng.normal(0, 0.3)
    outer = ellipse(x, y, (0, 0), (0.55, 0.88), tilt)
    relief = dome(outer, 0.4) - dome(ellipse(x, y, (0.08, -0.05), (0.38, 0.62), tilt), 0.5)
    relief += dome(ellipse(x, y, (0.02, -0.1), (0.22, 0.42), tilt), 0.2) - dome(
        ellipse(x, y, (0.12, 0.12), (0.14, 0.2), tilt), 0.3
    )
    return lit(rng, relief, _skin(rng, size), rng.uniform(0, 0.1)), cover(outer, size, 0.6)


def round_thing(rng: np.random.Generator, size: int) -> Patch:
    """A button, a socket, a clock, a lamp, a speaker: a disc with rings, holes or hands."""
    x, y = coordinates(size)
    outer = ellipse(x, y, (0, 0), (0.9, 0.9))
    albedo = np.full_like(x, rng.uniform(0.03, 0.95))
    relief = dome(outer, rng.uniform(0, 0.4))
    for radius in np.sort(rng.uniform(0.1, 0.85, int(rng.integers(0, 4))))[::-1]:
        albedo[ellipse(x, y, (0, 0), (radius, radius)) < 1] = rng.uniform(0.02, 0.95)
    holes, turn, far, radius = (
        int(rng.integers(0, 5)),
        rng.uniform(0, np.pi),
        rng.uniform(0.2, 0.5),
        rng.uniform(0.05, 0.16),
    )
    for hole in range(holes):
        angle = turn + hole * 2 * np.pi / holes
        albedo[ellipse(x, y, (far * np.cos(angle), far * np.sin(angle)), (radius, radius)) < 1] = rng.uniform(0, 0.15)
    if rng.random() < 0.3:
        for _ in range(int(rng.integers(2, 13))):
            angle = rng.uniform(0, 2 * np.pi)
            end = (int(size * (0.5 + 0.4 * np.cos(angle))), int(size * (0.5 + 0.4 * np.sin(angle))))
            cv2.line(albedo, (size // 2, size // 2), end, rng.uniform(0, 1), max(1, size // 40), cv2.LINE_AA)
    return lit(rng, relief, albedo, rng.uniform(0, 0.3)), cover(outer, size, 0.9)


def front(rng: np.random.Generator, size: int) -> Patch:
    """A car, a house, a machine: a box with two lights or windows and a grille or door between and below."""
    luma = np.full((size, size), rng.uniform(0.05, 0.9), np.float32)
    alpha = np.zeros_like(luma)
    top = int(size * rng.uniform(0.05, 0.35))
    cv2.rectangle(alpha, (int(0.06 * size), top), (int(0.94 * size), int(0.92 * size)), 1.0, -1)
    grey, apart, high = rng.uniform(0, 1), rng.uniform(0.2, 0.34), rng.uniform(0.4, 0.55)
    reach = (int(size * rng.uniform(0.05, 0.12)), int(size * rng.uniform(0.05, 0.12)))
    for side in (-1, 1):
        centre = (int(size * (0.5 + side * apart)), int(size * high))
        if rng.random() < 0.5:
            cv2.ellipse(luma, centre, reach, 0, 0, 360, grey, -1, cv2.LINE_AA)
        else:
            cv2.rectangle(
                luma,
                (centre[0] - reach[0], centre[1] - reach[1]),
                (centre[0] + reach[0], centre[1] + reach[1]),
                grey,
                -1,
            )
    left, low = int(size * rng.uniform(0.25, 0.4)), int(size * rng.uniform(0.62, 0.75))
    cv2.rectangle(luma, (left, low), (size - left, low + int(size * rng.uniform(0.04, 0.16))), rng.uniform(0, 1), -1)
    if rng.random() < 0.5:
        for row in range(low, low + int(0.12 * size), max(2, size // 30)):
            cv2.line(luma, (left, row), (size - left, row), rng.uniform(0, 0.4), 1)
    shade = np.clip(luma * (1 + noise(rng, size, size, 2, 32) * np.float32(0.05)), 0, 1)
    return np.asarray(cv2.GaussianBlur(shade, (0, 0), size / 150), np.float32), alpha


LOOKALIKES: dict[str, Callable[[np.random.Generator, int], Patch]] = {
    "animal_head": animal_head,
    "muzzle": muzzle,
    "chest": chest,
    "fist": fist,
    "fingers": fingers,
    "flower": flower,
    "leaves": leaves,
    "plate": plate,
    "knees": knees,
    "ear": ear,
    "round_thing": round_thing,
    "front": front,
}

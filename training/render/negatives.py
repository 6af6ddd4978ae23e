"""What is no face: lookalikes, headless bodies, backs and parts of heads; hands and things before faces."""

from __future__ import annotations

import numpy as np

from edgeface.values import F32, U8
from training.render.bank import BACK
from training.render.banks import Banks
from training.render.body import HAND
from training.render.canvas import Canvas, patch_of, rounded_off, tone_of, toned, turned


def occluder(canvas: Canvas, rng: np.random.Generator, banks: Banks, xyxy: F32) -> None:
    """A hand or a thing over a side of a face."""
    length = float(np.sqrt((xyxy[2:] - xyxy[:2]).prod()))
    hands = np.flatnonzero(banks.bodies.kind == HAND)
    if rng.random() < 0.6 and len(hands):
        index, (luma, alpha) = int(rng.choice(hands)), (banks.bodies.luma, banks.bodies.alpha)
    else:
        luma, alpha = banks.things
        index = int(rng.integers(len(luma)))
    side = max(4, int(length * rng.uniform(0.5, 1.1)))
    patch = toned(turned(patch_of(luma[index], alpha[index], side, side, rng.random() < 0.5), rng), tone_of(rng))
    angle = rng.uniform(0, 2 * np.pi)
    centre = (xyxy[:2] + xyxy[2:]) / 2 + np.array([np.cos(angle), 0.8 * np.sin(angle) + 0.35]) * length * 0.6
    canvas.lay(patch, int(centre[0] - side / 2), int(centre[1] - side / 2))


def negative(
    canvas: Canvas, rng: np.random.Generator, banks: Banks, length: float, ingredients: frozenset[str]
) -> None:
    """Something that is no face: a lookalike, a body without a head, the back of a head, a part of a head."""
    kinds = [
        name for name in ("lookalikes", "lookalikes", "headless", "headless", "backs", "parts") if name in ingredients
    ]
    if not kinds:
        return
    kind, heads, bodies = str(rng.choice(kinds)), banks.heads, banks.bodies
    if kind == "lookalikes":
        luma, alpha = banks.things
        source = luma[index := int(rng.integers(len(luma)))], alpha[index]
    elif kind == "headless":
        index = int(rng.integers(len(bodies.kind)))
        source, length = (bodies.luma[index], bodies.alpha[index]), 1.6 * length
    elif kind == "backs":
        backs = np.flatnonzero(heads.kind == BACK)
        if not len(backs):
            return
        index = int(rng.choice(backs))
        source, length = (heads.luma[index], heads.alpha[index]), 1.6 * length
    else:
        part = part_of(rng, banks)
        if part is None:
            return
        source, length = part, min(length, 0.4 * canvas.picture.shape[0])
    height, width = source[0].shape
    factor = min(2.5, length / max(height, width))  # more would be a blur
    patch = patch_of(*source, max(4, round(width * factor)), max(4, round(height * factor)), rng.random() < 0.5)
    if kind == "lookalikes":
        patch = turned(patch, rng)
    elif kind != "backs" and rng.random() < 0.6:
        patch = rounded_off(patch, rng)
    if "tone" in ingredients:
        patch = toned(patch, tone_of(rng))
    reach = np.array(canvas.picture.shape[::-1])
    left, top = (rng.uniform(-0.1, 1.1, 2) * reach - np.array(patch[0].shape[::-1]) / 2).astype(int).tolist()
    canvas.lay(patch, left, top)


def part_of(rng: np.random.Generator, banks: Banks) -> tuple[U8, U8] | None:
    """A piece cut out of a head: at most one of the five points and a third of the face. None: none was found."""
    heads = banks.heads
    index, whole = int(rng.integers(len(heads.kind))), heads.luma.shape[1]
    box = heads.xyxy[index]
    wide, tall = box[2:] - box[:2]
    for _ in range(6):
        width = rng.uniform(0.25, 0.6) * min(wide, tall)
        height = width * rng.uniform(0.6, 1.6)
        corner = np.array(
            [
                rng.uniform(box[0] - 0.4 * wide, box[2] + 0.4 * wide - width),
                rng.uniform(box[1] - 0.4 * tall, box[3] + 0.9 * tall - height),
            ]
        )
        x0, y0 = np.clip(corner, 0, whole).astype(int)
        x1, y1 = np.clip(corner + np.array([width, height]), 0, whole).astype(int)
        inside = ((heads.keypoints[index] > (x0, y0)) & (heads.keypoints[index] < (x1, y1))).all(1).sum()
        shared = max(0.0, min(x1, box[2]) - max(x0, box[0])) * max(0.0, min(y1, box[3]) - max(y0, box[1]))
        if (
            min(x1 - x0, y1 - y0) >= 10
            and inside <= 1
            and shared <= wide * tall / 3
            and heads.alpha[index][y0:y1, x0:x1].mean() > 60
        ):
            return heads.luma[index][y0:y1, x0:x1], heads.alpha[index][y0:y1, x0:x1]
    return None

"""Composes whole scenes of 0 to 60 people, things that only look like faces, and a camera; labels are exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeface.values import F32, F64, U8
from training.render import background, camera
from training.render.bank import BACK
from training.render.banks import Banks
from training.render.body import UPPER
from training.render.canvas import Canvas, patch_of, tone_of, toned
from training.render.negatives import negative, occluder
from training.render.patches import between
from training.scenes import MIRRORED_KEYPOINTS

SIZE = 384  # pixels, square
SMALLEST = 8.0  # pixels: smaller faces are ignored
HIDDEN = 0.03  # share of a face up to which nothing of it is seen: it is left out
LEAST_VISIBLE = 0.4  # share of a face that must be seen
LEAST_INSIDE = 0.4  # share of a face's box that must lie in the picture
LEAST_CONTRAST = 5.0  # deviation of a face's 8 x 8 mean greys, of 255
FACE_UNITS = 16.8  # hairline to chin, in the bodies' units

# how many people there are and how large, and how often
CLASSES = (("empty", 0.25), ("crowd", 0.20), ("few", 0.33), ("large", 0.22))
CONTENT = (
    background.INGREDIENTS
    | {"bokeh"}  # behind people
    | {"bodies", "backs", "lookalikes", "headless", "parts"}  # people's rest, and what is no face
    | {"occluders", "overlap", "tone"}
)
INGREDIENTS = CONTENT | camera.INGREDIENTS


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and its faces; boxes and points are the true ones, also where the picture ends."""

    picture: U8  # [s, s] luma
    xyxy: F32  # [n, 4]
    keypoints: F32  # [n, 5, 2] image-left eye, image-right eye, nose tip, image-left mouth corner, image-right
    ignore: U8  # [n] 1: neither a face to find nor background
    visible: F32  # [n] share of the face's pixels that is seen
    pose: F32  # [n, 3] degrees yaw, pitch, roll


def packed(scenes: Sequence[Scene]) -> dict[str, NDArray[np.generic]]:
    """The arrays of a scenes-*.npz."""
    many = [len(one.xyxy) for one in scenes]
    return {
        "picture": np.stack([one.picture for one in scenes]),
        "first": np.concatenate([[0], np.cumsum(many)]).astype(np.int64),
        "xyxy": np.concatenate([one.xyxy for one in scenes]),
        "keypoints": np.concatenate([one.keypoints for one in scenes]),
        "ignore": np.concatenate([one.ignore for one in scenes]),
        "visible": np.concatenate([one.visible for one in scenes]),
        "pose": np.concatenate([one.pose for one in scenes]),
    }


def scene(
    rng: np.random.Generator,
    banks: Banks,
    size: int = SIZE,
    ingredients: frozenset[str] = INGREDIENTS,
    *,
    faces: bool = True,
) -> Scene:
    """A scene of `size` x `size`. Without `faces` it holds only what must not be found (hard negatives).

    Layout, background, each person and the camera draw from streams of their own.
    """
    seeds = rng.integers(2**63, size=4)
    layout, behind, people, lens = (np.random.default_rng(seed) for seed in seeds)
    sizes = _sizes(layout, size) if faces else np.zeros(0)
    canvas = Canvas(
        background.background(behind, banks.views, size, size, ingredients, banks.photos),
        np.zeros((size, size), np.int16),
    )
    if "bokeh" in ingredients and behind.random() < 0.2:
        canvas.picture = np.asarray(cv2.GaussianBlur(canvas.picture, (0, 0), between(behind, 1, 8)), np.float32)
    rows = len(sizes) > 4 and layout.random() < 0.5  # a crowd on level ground: who is near stands lower
    order = _order(layout, sizes, size)
    spread = 0.6 if "overlap" in ingredients and layout.random() < 0.35 else 0.2
    boxes: list[F32] = []
    points: list[F32] = []
    poses: list[F32] = []
    pixels: list[int] = []
    for (length, person), seed in zip(order, people.integers(2**63, size=len(order)), strict=True):
        own = np.random.default_rng(seed)
        if not person:
            negative(canvas, own, banks, length, ingredients)
            continue
        level = 0.12 + 0.7 * float(np.mean(sizes < length)) + own.normal(0, 0.05) if rows else None
        placed = _person(canvas, own, banks, length, level, boxes, spread, ingredients)
        if placed:
            boxes.append(placed[0])
            points.append(placed[1])
            poses.append(placed[2])
            pixels.append(placed[3])
    visible = canvas.seen(len(boxes)) / np.maximum(pixels, 1).reshape(-1)
    shown = np.flatnonzero(visible > HIDDEN)
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)[shown]
    picture = camera.degrade(canvas.picture, lens, ingredients)
    return Scene(
        picture,
        xyxy,
        np.array(points, np.float32).reshape(-1, 5, 2)[shown],
        ignored(xyxy, visible[shown], size) | flat(picture, xyxy),
        visible[shown].astype(np.float32),
        np.array(poses, np.float32).reshape(-1, 3)[shown],
    )


def ignored(xyxy: F32, visible: F32, size: int) -> U8:
    """1 for faces that nobody should have to find: too small, mostly hidden, mostly outside the picture. [n]"""
    sides = xyxy[:, 2:] - xyxy[:, :2]
    area = sides.prod(1)
    inside = np.clip(np.clip(xyxy[:, 2:], 0, size) - np.clip(xyxy[:, :2], 0, size), 0, None).prod(1)
    share = inside / np.maximum(area, 1e-6)
    return ((np.sqrt(area) < SMALLEST) | (visible < LEAST_VISIBLE) | (share < LEAST_INSIDE)).astype(np.uint8)


def flat(picture: U8, xyxy: F32) -> U8:
    """1 for faces of which the camera delivered nothing but black, white or noise. [n]"""
    height, width = picture.shape
    found = np.zeros(len(xyxy), np.uint8)
    for k, box in enumerate(xyxy):
        x0, y0, x1, y1 = np.clip(np.round(box), 0, (width, height, width, height)).astype(int)
        if x1 - x0 >= 2 and y1 - y0 >= 2:
            cells = min(8, x1 - x0), min(8, y1 - y0)  # noise averages out in them
            found[k] = cv2.resize(picture[y0:y1, x0:x1], cells, interpolation=cv2.INTER_AREA).std() < LEAST_CONTRAST
    return found


def _above_neck(alpha: F32, xyxy: F64, neck: F64) -> F32:
    """The head alone: what lies below its chin fades out, shoulders at once."""
    wide, tall = xyxy[2:] - xyxy[:2]
    below = np.arange(alpha.shape[0], dtype=np.float32)[:, None] + 0.5 - xyxy[3]
    aside = np.abs(np.arange(alpha.shape[1], dtype=np.float32)[None] + 0.5 - neck[0]) - 0.42 * wide
    kept = np.clip(1 - (below - 0.05 * tall) / (0.14 * tall + 0.5), 0, 1)
    inside = np.clip(1 - aside / (0.05 * wide + 0.5), 0, 1)
    return (alpha * kept * np.maximum(inside, below < 0.02 * tall)).astype(np.float32)


def _sizes(rng: np.random.Generator, size: int) -> F64:
    """The faces' sizes (root of the area, pixels) of a scene of a class drawn by chance."""
    kind = str(rng.choice([name for name, _ in CLASSES], p=[share for _, share in CLASSES]))
    if kind == "empty":
        return np.zeros(0)
    if kind == "crowd":
        middle = between(rng, 8, 40)
        most = int(np.clip(0.7 * (size / middle) ** 2, 6, 60))
        spread = np.exp(rng.normal(0, rng.uniform(0.05, 0.45), int(rng.integers(5, most + 1))))
        return np.clip(middle * spread, 6, 0.4 * size)
    if kind == "few":
        return np.exp(rng.uniform(np.log(12), np.log(0.55 * size), int(rng.integers(1, 7))))
    small = np.exp(rng.uniform(np.log(10), np.log(60), int(rng.integers(0, 5))))
    return np.concatenate([[rng.uniform(0.4, 0.95) * size], small])


def _order(rng: np.random.Generator, sizes: F64, size: int) -> list[tuple[float, bool]]:
    """Size and whether it is a person, from far to near; what is no face is mostly behind faces."""
    most, many = (0.35 * size, int(rng.integers(0, 5))) if len(sizes) else (0.7 * size, int(rng.integers(2, 11)))
    others = np.exp(rng.uniform(np.log(14), np.log(most), many))
    nearness = np.concatenate([sizes, others * rng.uniform(0.1, 1, many)])
    lengths = np.concatenate([sizes, others])
    return [(float(lengths[k]), bool(k < len(sizes))) for k in np.argsort(nearness, kind="stable")]


def _person(
    canvas: Canvas,
    rng: np.random.Generator,
    banks: Banks,
    length: float,
    level: float | None,
    boxes: list[F32],
    spread: float,
    ingredients: frozenset[str],
) -> tuple[F32, F32, F32, int] | None:
    """Adds a body and a head; the face's box, points, pose and pixels. None: no room, or seen from behind."""
    heads, size = banks.heads, canvas.picture.shape[0]
    index = int(rng.integers(len(heads.kind)))
    if heads.kind[index] == BACK and "backs" not in ingredients:
        index = int(rng.choice(np.flatnonzero(heads.kind != BACK)))
    whole = heads.luma.shape[1]
    box = heads.xyxy[index].astype(np.float64)
    side = max(4, round(whole * length / np.sqrt((box[2] - box[0]) * (box[3] - box[1]))))
    scale, mirror = side / whole, rng.random() < 0.5
    points, neck, pose = (
        heads.keypoints[index].astype(np.float64),
        heads.neck[index].astype(np.float64),
        heads.pose[index].copy(),
    )
    if mirror:
        box = np.array([whole - box[2], box[1], whole - box[0], box[3]])
        points = (points * (-1, 1) + (whole, 0))[MIRRORED_KEYPOINTS]
        neck, pose = neck * (-1, 1) + (whole, 0), pose * np.array([-1, 1, -1], np.float32)
    box, points, neck = box * scale, points * scale, neck * scale
    left, top, placed = 0, 0, box
    margin = min(0.5, max(0.04, 0.42 * length / size)) if rng.random() < 0.8 else 0.04  # mostly wholly inside
    for _ in range(6):
        centre = rng.uniform(margin, 1 - margin, 2) + rng.normal(0, 0.02, 2)
        if level is not None:
            centre[1] = level
        left, top = (int(v) for v in np.floor(np.clip(centre, 0.03, 0.97) * size - (box[:2] + box[2:]) / 2))
        placed = (box + np.array([left, top] * 2)).astype(np.float32)
        if all(_overlap(placed, other) <= spread for other in boxes):
            break
    else:
        return None
    tone = tone_of(rng) if "tone" in ingredients else (1.0, 1.0)
    luma, alpha = toned(patch_of(heads.luma[index], heads.alpha[index], side, side, mirror), tone)
    height = box[3] - box[1]
    if "bodies" in ingredients and 10 < length < 0.7 * size and rng.random() < 0.85:
        _body(canvas, rng, banks, index, (neck[0] + left, neck[1] + top), height, tone)
        alpha = _above_neck(alpha, box, neck)
    if heads.kind[index] == BACK:
        canvas.lay((luma, alpha), left, top)
        return None
    pixels = canvas.lay_face((luma, alpha), left, top, placed, len(boxes))
    if "occluders" in ingredients and length > 14 and rng.random() < 0.12:
        occluder(canvas, rng, banks, placed)
    return placed, (points + np.array([left, top])).astype(np.float32), pose, pixels


def _body(
    canvas: Canvas,
    rng: np.random.Generator,
    banks: Banks,
    head: int,
    neck: tuple[float, float],
    height: float,
    tone: tuple[float, float],
) -> None:
    """A body below a head, of about the same skin, in about the same light, from the same side."""
    bodies = banks.bodies
    fitting = np.flatnonzero((bodies.kind == UPPER) & (bodies.from_behind == (banks.heads.kind[head] == BACK)))
    if not len(fitting):
        return
    few = rng.choice(fitting, 6)
    body = int(few[np.argmin(np.abs(np.log(bodies.skin[few] / banks.heads.skin[head])))])
    whole, mirror = bodies.luma.shape[1], rng.random() < 0.5
    side = max(4, round(whole * height / FACE_UNITS / float(bodies.scale[body])))
    at = bodies.neck[body] * (side / whole)
    x = side - at[0] if mirror else at[0]
    gain = tone[1]
    if banks.heads.kind[head] != BACK:
        gain *= float(np.clip(banks.heads.face[head] / max(0.05, bodies.flesh[body]), 0.6, 1.6))
    patch = toned(patch_of(bodies.luma[body], bodies.alpha[body], side, side, mirror), (tone[0], gain))
    canvas.lay(patch, round(neck[0] - x), round(neck[1] - at[1]))


def _overlap(one: F32, other: F32) -> float:
    """The common area of two boxes as a share of the smaller one."""
    common = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None).prod()
    return float(common / max(1e-6, min((one[2:] - one[:2]).prod(), (other[2:] - other[:2]).prod())))

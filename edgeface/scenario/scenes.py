"""Scenes: where faces are, which of them can be seen, and what a noisy detector would report.

A scene is where its faces are at a time in seconds, so it is the same motion at every frame rate; `plain`, `hard` and
`slow` are the exception. Of two faces the larger one is nearer. Frames are 1920x1080.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, islice

import numpy as np

from edgeface.boxes import area, around, iou
from edgeface.scenario import motions
from edgeface.scenario.motions import HEIGHT, WIDTH, Motion
from edgeface.values import F32, F64, I64, Bool, Detections

_NOISE = 0.03  # standard deviation of a reported box, in box sizes
_MISSED, _POOR = 0.05, 0.05  # shares of the faces that are not reported, that are reported with a low score
_HIDDEN, _PARTLY = 0.5, 0.25  # covered by more: not to be seen; seen with a low score
_FIVE = np.array([[0.32, 0.4], [0.68, 0.4], [0.5, 0.58], [0.36, 0.77], [0.64, 0.77]])  # keypoints in a box
_NOTHING: F32 = np.zeros((0, 4), np.float32)


@dataclass(frozen=True, slots=True)
class Sight:
    """One frame of a scene: the faces that can be seen, and the detector's report of them."""

    truth_id: I64  # [n] of 1..faces
    truth_xyxy: F32  # [n, 4] frame pixels, not clipped
    detections: Detections


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene frame by frame; entry k of each list is frame k, at k / fps seconds. See Sight."""

    width: int
    height: int
    fps: float
    truth_id: list[I64]
    truth_xyxy: list[F32]
    detections: list[Detections]


def make_scene(name: str, *, faces: int = 5, seed: int = 1, fps: float = 30.0, frames: int = 300) -> Scene:
    """The first `frames` of a scene; the same at every call. Raises ValueError for an unknown name."""
    seen = list(islice(sights(name, faces=faces, seed=seed, fps=fps), frames))
    return Scene(
        width=WIDTH,
        height=HEIGHT,
        fps=fps,
        truth_id=[sight.truth_id for sight in seen],
        truth_xyxy=[sight.truth_xyxy for sight in seen],
        detections=[sight.detections for sight in seen],
    )


def sights(name: str, *, faces: int, seed: int, fps: float) -> Iterator[Sight]:
    """A scene frame by frame, without an end. Raises ValueError for an unknown name.

    A face can be seen when its centre is in the frame and neither a nearer face nor a thing in front covers more than
    half of its box. The detector misses some of these and gives others a low score, most of all those that are covered
    by more than a quarter. In `plain`, `hard` and `slow` all faces can always be seen.
    """
    if name in _WALKS:
        return _WALKS[name](faces, seed)
    if name not in _MOTIONS:
        raise ValueError(f"scene {name!r}: expected one of {', '.join(NAMES)}")
    return _look(*_MOTIONS[name], faces, seed, fps)


def _look(
    motion_of: Callable[[np.random.Generator, int], Motion], front: F32, faces: int, seed: int, fps: float
) -> Iterator[Sight]:
    """Look at a motion behind the things in front [m, 4], `fps` times a second."""
    rng = np.random.default_rng(seed)
    motion = motion_of(rng, faces)  # before all else: it must not depend on the frames
    truth_id = np.arange(1, faces + 1)
    for number in count():
        centre, size = motion(number / fps)
        xyxy = around(centre, size).astype(np.float32)
        covered = _covered(xyxy, front)
        visible = ((centre >= 0) & (centre <= (WIDTH, HEIGHT))).all(axis=1) & (covered <= _HIDDEN)
        reported = visible & (rng.random(faces) >= _MISSED)
        found, score = _report(rng, centre, size, np.where(covered > _PARTLY, 1.0, _POOR))
        best = np.flatnonzero(reported)
        best = best[np.argsort(-score[best])]
        yield Sight(truth_id[visible], xyxy[visible], _detections(found[best], score[best]))


def _covered(xyxy: F32, front: F32) -> F32:
    """The largest share [n] of each box that one nearer face or one thing in front covers."""
    others = np.concatenate([xyxy, front])
    height = xyxy[:, 3] - xyxy[:, 1]
    nearness = np.concatenate([height, np.full(len(front), np.inf, np.float32)])
    ratio = iou(xyxy, others)
    share = ratio / (1 + ratio) * (1 + area(others) / area(xyxy)[:, None])  # the intersection in its own areas
    share[nearness <= height[:, None]] = 0
    most: F32 = np.max(share, axis=1, initial=0)
    return most


def _report(rng: np.random.Generator, centre: F64, size: F64, poor: F64 | float) -> tuple[F64, F64]:
    """Boxes [n, 4] and scores [n] for faces at `centre`; a share `poor` (of all, or for each) has low scores."""
    centre = centre + rng.normal(0, _NOISE, size.shape) * size
    size = size * np.exp(rng.normal(0, _NOISE, size.shape))
    score = rng.uniform(0.75, 0.98, len(size))
    low: Bool = rng.random(len(size)) < poor
    score[low] = rng.uniform(0.15, 0.45, int(low.sum()))
    return around(centre, size), score


def _detections(xyxy: F64, score: F64) -> Detections:
    keypoints = xyxy[:, None, :2] + (xyxy[:, 2:] - xyxy[:, :2])[:, None] * _FIVE
    return Detections(xyxy.astype(np.float32), score.astype(np.float32), keypoints.astype(np.float32))


# --- the scenes that trackers are compared on


def _walk(
    faces: int, seed: int, *, poor: float = 0.0, false: float = 0.0, gap: float = 0.0, speed: tuple[float, float]
) -> Iterator[Sight]:
    """Faces that walk at `speed` pixels a frame, whatever the frame rate, and turn at the borders.

    A tenth is missed. A share `poor` of the detections has low scores; `false` boxes for each face are nobody; `gap`:
    the chance, frame by frame, that a face is missed 10 to 20 times in a row. Detections come in random order. The
    order of the draws is that of the harness in which all trackers were measured: its figures are of these numbers.
    """
    rng = np.random.default_rng(1000 + seed)
    side = rng.uniform(24, 60, faces) if faces > 200 else rng.uniform(40, 110, faces)
    size = np.stack([side, side * rng.uniform(1.1, 1.35, faces)], axis=1)
    centre = rng.uniform([60, 60], [WIDTH - 60, HEIGHT - 60], (faces, 2))
    angle, pace = rng.uniform(0, 2 * np.pi, faces), rng.uniform(*speed, faces)
    velocity = np.stack([np.cos(angle), np.sin(angle)], axis=1) * pace[:, None]
    near, far = size / 2, np.array([WIDTH, HEIGHT]) - size / 2
    gap_left: I64 = np.zeros(faces, np.int64)
    while True:
        velocity = velocity + rng.normal(0, 0.05, velocity.shape)
        centre = centre + velocity
        velocity = np.where(centre < near, np.abs(velocity), np.where(centre > far, -np.abs(velocity), velocity))
        centre = np.where(centre < near, 2 * near - centre, np.where(centre > far, 2 * far - centre, centre))
        truth = around(centre, size).astype(np.float32)
        if gap:
            begins = (gap_left == 0) & (rng.random(faces) < gap)
            gap_left[begins] = rng.integers(10, 21, int(begins.sum()))
        seen = (rng.random(faces) >= 0.1) & (gap_left == 0)
        gap_left = np.maximum(gap_left - 1, 0)
        xyxy, score = _report(rng, centre, size, poor)
        xyxy, score = xyxy[seen], score[seen]
        if false:
            number = rng.poisson(false * faces)
            middle, half = rng.uniform([0, 0], [WIDTH, HEIGHT], (number, 2)), rng.uniform(30, 110, (number, 1)) / 2
            xyxy = np.concatenate([xyxy, np.concatenate([middle - half, middle + half], axis=1)])
            score = np.concatenate([score, rng.uniform(0.3, 0.8, number)])
        order = rng.permutation(len(xyxy))
        yield Sight(np.arange(1, faces + 1), truth, _detections(xyxy[order], score[order]))


_MOTIONS = {
    "crossing": (motions.crossing, _NOTHING),
    "crowd": (motions.crowd, _NOTHING),
    "occlusion": (motions.occlusion, motions.PILLARS),
    "shake": (motions.shake, _NOTHING),
    "leave-and-return": (motions.leave_and_return, _NOTHING),
    "approach": (motions.approach, _NOTHING),
}
_WALKS = {
    "plain": partial(_walk, speed=(1, 8)),
    "hard": partial(_walk, speed=(1, 8), poor=0.2, false=0.05, gap=0.004),
    "slow": partial(_walk, speed=(0.3, 2.5)),
}
NAMES = (*_MOTIONS, *_WALKS)

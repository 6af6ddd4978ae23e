"""When landmarks are trusted: on faces, on walls, on faces that have vanished; for scripts/measure_landmarks.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from landmark_hold import make_pipeline
from pan_films import Film

from edgeface.boxes import around, iou
from edgeface.config import Config
from edgeface.holding import LandmarkHold
from edgeface.landmark_metrics import box_size, scaled
from edgeface.landmarks import FaceLandmarker
from edgeface.networks import Networks
from edgeface.values import CONFIRMED, DETECTOR, F32, F64, I64, PREDICTED, Frame, Tracks

MISPLACED = (0.0, 0.1, 0.2, 0.3)  # of a face's size
WALL = "nobody there"
LATER = (1, 3, 5, 9)  # frames after the look
_EVERY = 7  # of a film's frames are looks
_SIZE_STD = 0.05  # of boxes that are tried
_WALLS = 2  # for every face
_VANISH_AFTER = range(1, 10)  # frames after a look
_WARM_UP, _WATCHED = 11, 12  # frames before that look, and after the faces have vanished
_PAINTED = 1.3  # of a face's box


def trusted(film: Film, networks: Networks, seed: int) -> dict[str, list[tuple[bool, float, float]]]:
    """For boxes tried on faces and walls: whether points were trusted; IoU with the face of the box, and of theirs.

    Every box is judged by itself. The size of a wall's box is a face's.
    """
    assert networks.landmarker is not None
    random = np.random.default_rng(seed)
    said: dict[str, list[tuple[bool, float, float]]] = defaultdict(list)
    for look in range(0, len(film.frames) - max(LATER), _EVERY):
        ids, xyxy = _seen(film, look, networks.thresholds.score)
        if not len(ids):
            continue
        hold = LandmarkHold()
        hold.learn(_tracks(ids, xyxy, DETECTOR), networks.landmarker.locate(film.frames[look], xyxy))
        for later in LATER:
            _try(film, look + later, hold, (ids, xyxy), networks.landmarker, random, said)
    return said


def _try(
    film: Film,
    index: int,
    hold: LandmarkHold,
    known: tuple[I64, F32],
    landmarker: FaceLandmarker,
    random: np.random.Generator,
    said: dict[str, list[tuple[bool, float, float]]],
) -> None:
    """Try boxes on one frame."""
    frame, everybody = film.frames[index], _truth(film, index)
    tried: list[tuple[str, int, F64, F64]] = []  # what, id, box, the face's
    for track_id, before in zip(known[0].tolist(), known[1].astype(np.float64), strict=True):
        for true_id, open_, box in everybody:
            if true_id == track_id and open_:
                size = float(box_size(box[None])[0])
                for share in MISPLACED:
                    angle, scale = random.uniform(0, 2 * np.pi), np.exp(random.normal() * _SIZE_STD)
                    off = share * size * np.array([np.cos(angle), np.sin(angle)])
                    moved = _scaled(box, scale) + np.tile(off, 2)
                    tried.append((f"{share:.0%} misplaced", track_id, moved, box))
        for _ in range(_WALLS):
            middle = random.uniform(40, [frame.width - 40, frame.height - 40])
            box = around(middle[None], (before[2:] - before[:2])[None])[0]
            if not any(_overlap(box, other) for *_, other in everybody):
                tried.append((WALL, track_id, box, box))
    if not tried:
        return
    boxes: F32 = np.array([box for _, _, box, _ in tried], np.float32)
    landmarks = landmarker.locate(frame, boxes)
    for row, (what, track_id, box, true) in enumerate(tried):
        only = np.arange(len(tried)) == row
        ok, implied, _ = hold.judge(_tracks(np.array([track_id]), boxes[only], PREDICTED), landmarks.where(only))
        said[what].append((bool(ok[0]), _overlap(box, true), _overlap(implied[0].astype(np.float64), true)))


def vanished(film: Film, networks: Networks, config: Config, way: str, seed: int) -> list[int]:
    """For how many frames faces that have been painted over are still published as held by their landmarks."""
    lasted = []
    for start in range(0, len(film.frames) - 2 * _WARM_UP - _WATCHED, 40):
        for after in _VANISH_AFTER:
            gone = start + _WARM_UP - 1 + after
            frames = film.frames[start:gone] + list(_painted(film, gone, np.random.default_rng(seed)))
            lasted += _lasted(frames, gone, networks, config, way)
    return lasted


def _lasted(frames: list[Frame], gone: int, networks: Networks, config: Config, way: str) -> list[int]:
    pipeline = make_pipeline(networks, config, way)
    pipeline.detector = networks.detector
    there: set[int] = set()  # held without a break since they vanished
    lasted: dict[int, int] = {}
    for frame in frames:
        faces = pipeline.step(frame)[0][1]["faces"]
        if frame.frame_id < gone:
            there = {face["track_id"] for face in faces if face["source"] != "predicted"}
            lasted = dict.fromkeys(there, 0)
        else:
            there &= {face["track_id"] for face in faces if face["source"] == "landmarks"}
            lasted |= {track_id: lasted[track_id] + 1 for track_id in there}
    return list(lasted.values())


def _painted(film: Film, gone: int, random: np.random.Generator) -> Iterator[Frame]:
    """The frames from `gone` on with a piece of the picture where nobody is (or least of anybody) over every face."""
    place: dict[int, F64] = {}  # a piece's left top corner, for each face
    for index in range(gone, gone + _WATCHED):
        frame = film.frames[index]
        picture = frame.pixels.copy()
        faces = [(face, _scaled(box, _PAINTED)) for face, _, box in _truth(film, index)]
        for face, box in faces:
            left, top, right, bottom = np.clip(box, 0, [frame.width, frame.height] * 2).round().astype(int).tolist()
            size = np.array([right - left, bottom - top])
            room = np.array([frame.width, frame.height]) - size
            if face not in place:
                corners = random.uniform(0, 1, (300, 2)) * room
                pieces = np.hstack([corners, corners + size])
                overlap = iou(pieces, np.array([other for _, other in faces])).sum(axis=1)
                place[face] = corners[int(np.argmin(overlap))]
            x, y = np.clip(place[face], 0, room).astype(int).tolist()
            picture[top:bottom, left:right] = frame.pixels[y : y + size[1], x : x + size[0]]
        yield replace(frame, pixels=picture)


def _seen(film: Film, index: int, score: float) -> tuple[I64, F32]:
    """Ids [n] and detected boxes [n, 4] of the open faces that the detector sees."""
    found = film.found[index].xyxy[film.found[index].score >= score]
    ids, rows = [], []
    for face, open_, box in _truth(film, index):
        share = iou(box[None], found.astype(np.float64))[0]
        if open_ and np.max(share, initial=0) > 0.5:
            ids.append(face)
            rows.append(found[int(np.argmax(share))])
    return np.array(ids, np.int64), np.array(rows, np.float32).reshape(-1, 4)


def _truth(film: Film, index: int) -> list[tuple[int, bool, F64]]:
    """Id, whether it counts, and box of the faces on a frame."""
    boxes = film.truth.boxes
    (rows,) = (boxes.frame == index + 1).nonzero()
    return [(int(boxes.track_id[row]), bool(film.truth.counts[row]), boxes.xyxy[row]) for row in rows.tolist()]


def _tracks(track_id: I64, xyxy: F32, source: int) -> Tracks:
    """Faces as a tracker would say."""
    count = len(track_id)
    none = np.zeros(count, np.float32)
    return Tracks(
        track_id=track_id,
        state=np.full(count, CONFIRMED, np.uint8),
        score=none,
        xyxy=xyxy,
        velocity=np.zeros((count, 2), np.float32),
        centre_std=none,
        source=np.full(count, source, np.uint8),
        age_ns=np.zeros(count, np.int64),
        track_age_ns=np.zeros(count, np.int64),
        keypoints=np.zeros((count, 0, 2), np.float32),
        started=np.zeros(0, np.int64),
        lost=np.zeros(0, np.int64),
        tentative=0,
    )


def _scaled(box: F64, scale: float) -> F64:
    larger: F64 = scaled(box[None], scale)[0]
    return larger


def _overlap(a: F64, b: F64) -> float:
    return float(iou(a[None], b[None])[0, 0])

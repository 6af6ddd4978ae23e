"""Films of known truth for scripts/measure_landmarks.py: the demo clip, and cameras that move over still pictures."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from measure_camera_motion import pictures
from numpy.typing import NDArray

from edgeface.boxes import centre_and_size, iou
from edgeface.evaluate.tracking import Truth, truth_for
from edgeface.landmark_metrics import box_size
from edgeface.metrics import trajectories
from edgeface.networks import Networks
from edgeface.source_uri import PICTURES, parse_source
from edgeface.values import F64, Detections, Frame

DEMO = "demo clip"
WIDTH, HEIGHT, FPS = 960, 540, 30
FRAMES = 120
FACE_PX = 110  # median face of a picture
SPEEDS = {"slow": 2.0, "medium": 4.0, "fast": 8.0}  # at the peak, box sizes a second
_SINES_HZ = (0.25, 0.6, 1.1)
_ZOOM = 0.1  # log zoom, of the way in box sizes
_BORDER = 600  # repeated border pixels round a picture
_NOISE = 3.0  # grey levels
_PLACEMENTS = [(x, zoom) for x in (-37, -11, 0, 13, 41) for zoom in (0.9, 1.0, 1.1)]


@dataclass(frozen=True)
class Film:
    """Pictures, the truth, and what the detector finds on every frame."""

    group: str
    frames: list[Frame]
    truth: Truth
    found: list[Detections]


def demo(networks: Networks, count: int) -> Film:
    """The first `count` frames of the bundled clip."""
    frames, known = pictures()[:count], truth_for(parse_source("demo:"), 0)
    now = known.boxes.frame <= count
    return Film(DEMO, frames, Truth(known.boxes.where(now), known.counts[now]), _found(frames, networks))


def pans(folders: Sequence[Path], networks: Networks, seed: int) -> Iterator[Film]:
    """A film for every picture with a face and every speed, picture by picture."""
    paths = [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURES]
    for number, path in enumerate(paths):
        picture = cv2.imread(str(path))
        still = _still(picture, networks) if picture is not None else None
        if still is None:
            print(f"{path.name}: no face", file=sys.stderr)
            continue
        for index, speed in enumerate(SPEEDS):
            yield _pan(*still, speed, seed + number * len(SPEEDS) + index, networks)


def _still(picture: NDArray[Any], networks: Networks) -> tuple[NDArray[Any], F64] | None:
    """The picture with its median face at FACE_PX and a border, and its faces [n, 4]; None without a face.

    A face is where the detector sees it: the median over placements of the still picture, of which it must be seen in
    half.
    """
    first = networks.detector.detect(_frame(0, picture))
    sure = first.xyxy[first.score >= networks.thresholds.score].astype(np.float64)
    if not len(sure):
        return None
    scale = FACE_PX / float(np.median(box_size(sure)))
    way = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    large = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=way)
    large = cv2.copyMakeBorder(large, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_REPLICATE)
    faces = []
    for box in sure * scale + _BORDER:
        seen = []
        for x, zoom in _PLACEMENTS:
            there = (box[:2] + box[2:]) / 2 - np.array([x, x / 2]) / zoom
            view, back = _view(large, there, zoom)
            boxes = (networks.detector.detect(_frame(0, view)).xyxy - np.tile(back[:, 2], 2)) / zoom
            share = iou(box[None], boxes.astype(np.float64))[0]
            if np.max(share, initial=0) > 0.4:
                seen.append(boxes[int(np.argmax(share))])
        if 2 * len(seen) > len(_PLACEMENTS):
            faces.append(np.median(seen, axis=0))
    return (large, np.array(faces)) if faces else None


def _pan(large: NDArray[Any], faces: F64, speed: str, seed: int, networks: Networks) -> Film:
    """A camera that moves and zooms over the picture by sines, at most SPEEDS[speed] fast; with noise."""
    random = np.random.default_rng(seed)
    time_s = np.arange(FRAMES) / FPS
    way = np.zeros((FRAMES, 3))  # right, down, log zoom
    for axis in range(3):
        for rate in _SINES_HZ:
            reach = random.normal() * (_SINES_HZ[0] / rate) ** 0.7
            way[:, axis] += reach * np.sin(2 * np.pi * (rate * time_s + random.random()))
    fastest = float(np.max(np.hypot(*np.diff(way[:, :2], axis=0).T))) * FPS
    way *= SPEEDS[speed] / fastest
    middle = centre_and_size(faces)[0].mean(axis=0)
    frames, rows, counts = [], [], []
    for number, (x, y, zoom) in enumerate((way * [1, 1, _ZOOM]).tolist()):
        picture, to_frame = _view(large, middle + np.array([x, y]) * FACE_PX, float(np.exp(zoom)))
        noisy = np.clip(picture + random.normal(0, _NOISE, picture.shape), 0, 255).astype(np.uint8)
        frames.append(_frame(number, noisy))
        xyxy = faces * to_frame[0, 0] + np.tile(to_frame[:, 2], 2)
        shown = (np.abs((xyxy[:, :2] + xyxy[:, 2:]) - [WIDTH, HEIGHT]) < [WIDTH, HEIGHT]).all(axis=1)
        whole = (xyxy[:, :2] > 0).all(axis=1) & (xyxy[:, 2:] < [WIDTH, HEIGHT]).all(axis=1)
        for face in shown.nonzero()[0].tolist():
            rows.append((number + 1, face + 1, *np.clip(xyxy[face], 0, [WIDTH, HEIGHT] * 2)))
            counts.append(whole[face])
    truth = Truth(trajectories(rows), np.array(counts, bool))
    return Film(f"pans, {speed}", frames, truth, _found(frames, networks))


def _view(large: NDArray[Any], middle: F64, zoom: float) -> tuple[NDArray[Any], F64]:
    """The frame about `middle` of the picture, and the map [2, 3] that made it."""
    to_frame = np.array([[zoom, 0, WIDTH / 2 - zoom * middle[0]], [0, zoom, HEIGHT / 2 - zoom * middle[1]]])
    # pixels are areas here, points to warpAffine
    shift = to_frame[:, 2] + (zoom - 1) / 2
    by_points = np.column_stack([to_frame[:, :2], shift])
    view = cv2.warpAffine(large, by_points, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(view), to_frame


def _frame(number: int, picture: NDArray[Any]) -> Frame:
    height, width = picture.shape[:2]
    return Frame(number, round(number / FPS * 1e9), width, height, "bgr8", picture)


def _found(frames: list[Frame], networks: Networks) -> list[Detections]:
    return [networks.detector.detect(frame) for frame in frames]

"""Faces held by their landmarks beside faces that are only predicted; for scripts/measure_landmarks.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from measure_camera_motion import Found
from pan_films import Film

from edgeface import holding
from edgeface.boxes import iou
from edgeface.config import Config
from edgeface.holding import LandmarkHold
from edgeface.metrics import clear, identity, overlaps, trajectories, without_hidden
from edgeface.networks import Networks
from edgeface.parts import make_schedule, make_tracker
from edgeface.pipeline import Pipeline
from edgeface.values import F32, F64, Bool, Landmarks, Tracks

PREDICTED, HELD, SHIPPED = "predicted only", "held, no early looks", "held"
WAYS = PREDICTED, HELD, SHIPPED


@dataclass(frozen=True)
class Figures:
    """Of one run."""

    iou: float  # mean over the true boxes that count, on frames without a look, with the published box nearest to each
    above_half: float  # share of these with 0.5 or more
    idf1: float
    switches: float
    false: float  # boxes
    looks: float  # share of the frames


class QuietHold(LandmarkHold):
    """Holds, but never asks for a look."""

    def judge(self, tracks: Tracks, landmarks: Landmarks) -> tuple[Bool, F32, int]:
        trusted, xyxy, _ = super().judge(tracks, landmarks)
        return trusted, xyxy, 0


def make_pipeline(networks: Networks, config: Config, way: str) -> Pipeline:
    """The real pipeline in one of WAYS."""
    schedule = make_schedule(config)
    return Pipeline(
        networks.detector,
        make_tracker(networks.thresholds, config),
        schedule,
        blind_timeout_s=config.tracker.lost_timeout_s,
        landmarker=None if way == PREDICTED else networks.landmarker,  # landmarks alone change no track
        hold={PREDICTED: None, HELD: QuietHold(), SHIPPED: LandmarkHold()}[way],
        glimpse=networks.backend.glimpse if schedule.interval is None else None,
    )


def run(film: Film, networks: Networks, config: Config, way: str, start: int = 0) -> Figures:
    """The figures of a film from its frame `start` (from 0) on; that frame is looked at."""
    pipeline = make_pipeline(networks, config, way)
    pipeline.detector = Found(film.found)
    rows: list[tuple[float, ...]] = []
    between = np.ones(len(film.frames) + 1, bool)  # by frame number, from 1
    for frame in film.frames[start:]:
        body = pipeline.step(frame)[0][1]
        between[frame.frame_id + 1] = not body["keyframe"]
        rows += [(frame.frame_id + 1, face["track_id"], *face["xyxy"]) for face in body["faces"]]
    now = film.truth.boxes.frame > start
    truth, counts, tracks = film.truth.boxes.where(now), film.truth.counts[now], trajectories(rows)
    boxes, counted = without_hidden(truth, counts, tracks)
    pairs = overlaps(boxes, counted)
    cleared = clear(pairs)
    asked = truth.where(counts & between[truth.frame])
    shares: F64 = np.array(
        [
            np.max(iou(box[None], tracks.xyxy[tracks.frame == number]), initial=0)
            for number, box in zip(asked.frame.tolist(), asked.xyxy, strict=True)
        ]
    )
    return Figures(
        iou=float(shares.mean()),
        above_half=float((shares >= 0.5).mean()),
        idf1=identity(pairs).idf1,
        switches=cleared.id_switches,
        false=cleared.false_positives,
        looks=1 - float(between[start + 1 :].mean()),
    )


def mean(figures: list[Figures]) -> Figures:
    """The mean of runs."""
    table = [[one.iou, one.above_half, one.idf1, one.switches, one.false, one.looks] for one in figures]
    return Figures(*np.mean(table, axis=0).tolist())


def _nobody(xyxy: F32, others: F32) -> Bool:
    return np.zeros(len(xyxy), bool)


_Change = dict[str, float | Callable[..., Any]]  # names in edgeface.holding, and what stands there instead
_ANY_CHANGE: _Change = {"MAX_CHANGE": np.inf}
_ANY_GROWTH: _Change = {"MAX_GROWTH": np.inf}
_ANY_TURN: _Change = {"MAX_TURN": np.inf}
_ANY_SCORE: _Change = {"MIN_SCORE": 0.0}
_TOUCHED: _Change = {"_touched": _nobody}
RULES: dict[str, _Change] = {
    "as it is": {},
    "any change of shape": _ANY_CHANGE,
    "any growth": _ANY_GROWTH,
    "any turn": _ANY_TURN,
    "any score": _ANY_SCORE,
    "also when touched": _TOUCHED,
    "all of these": {
        "MAX_CHANGE": np.inf,
        "MAX_GROWTH": np.inf,
        "MAX_TURN": np.inf,
        "MIN_SCORE": 0.0,
        "_touched": _nobody,
    },
}


@contextmanager
def rule(name: str) -> Iterator[None]:
    """One of RULES, while it lasts."""
    before = {key: getattr(holding, key) for key in RULES[name]}
    try:
        for key, value in RULES[name].items():
            setattr(holding, key, value)
        yield
    finally:
        for key, value in before.items():
            setattr(holding, key, value)

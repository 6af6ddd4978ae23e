"""Films of known truth on which trackers are run and judged: generated scenes, and the demo clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from plain_trackers import FPS, Peer

from edgeface.config import load_config
from edgeface.evaluate.tracking import frames_of, truth_for
from edgeface.metrics import Trajectories, clear, identity, overlaps, without_hidden
from edgeface.model_card import find_card
from edgeface.parts import build
from edgeface.scenario.scenes import make_scene
from edgeface.source_uri import parse_source
from edgeface.values import F32, F64, I64, Bool

DEMO = "demo"
_DEMO_SOURCE = "demo:?pace=0"


@dataclass(frozen=True)
class Film:
    """What a detector would report, frame by frame at FPS, and the truth."""

    size: tuple[int, int]
    found: list[F32]  # [n, 5] each: xyxy, score
    truth: Trajectories  # frames count from 1; boxes are clipped to the frame
    counts: Bool  # False: hidden, see edgeface.evaluate.tracking
    scores: tuple[float, float]  # edgeface's low, high


@lru_cache(maxsize=32)
def film(name: str, faces: int, seed: int, frames: int) -> Film:
    """A scene of edgeface.scenario, or DEMO: what the default detector finds on every frame of the demo clip."""
    if name == DEMO:
        return _demo(frames)
    scene = make_scene(name, faces=faces, seed=seed, fps=FPS, frames=frames)
    size = scene.width, scene.height
    found = [np.column_stack([seen.xyxy, seen.score]) for seen in scene.detections]
    frame = np.repeat(np.arange(1, frames + 1), [len(ids) for ids in scene.truth_id])
    xyxy = _clipped(np.concatenate(scene.truth_xyxy).astype(float), size)
    truth = Trajectories(frame, np.concatenate(scene.truth_id), xyxy)
    return Film(size, found, truth, np.ones(len(frame), bool), (0.1, 0.6))


def _demo(frames: int) -> Film:
    config = load_config(None, {"source": _DEMO_SOURCE})
    threshold = find_card(config.detector.card, config.engines).thresholds
    truth = truth_for(parse_source(_DEMO_SOURCE), frames)
    found: list[F32] = []
    size = 0, 0
    with build(config) as parts:
        for frame in frames_of(parts.source, frames):
            size = frame.width, frame.height
            seen = parts.pipeline.detector.detect(frame)
            found.append(np.column_stack([seen.xyxy, seen.score]))
    now = truth.boxes.frame <= len(found)
    scores = threshold.low_score, threshold.score + config.tracker.new_score_margin
    return Film(size, found, truth.boxes.where(now), truth.counts[now], scores)


def run(peer: Peer, clip: Film, period: int, empty: bool) -> Trajectories:
    """What a tracker publishes when the detector looks at every `period`-th frame; `empty` as in Peer."""
    numbers: list[I64] = [np.zeros(0, np.int64)]
    tables: list[F64] = [np.zeros((0, 5))]
    for number, tracks in _published(peer, clip, period, empty):
        _, once = np.unique(tracks[:, 4], return_index=True)
        numbers.append(np.full(len(once), number))
        tables.append(tracks[once])
    table: F64 = np.concatenate(tables)
    ids: I64 = table[:, 4].astype(np.int64)
    return Trajectories(np.concatenate(numbers), ids, _clipped(table[:, :4], clip.size))


def _published(peer: Peer, clip: Film, period: int, empty: bool) -> Iterator[tuple[int, F64]]:
    for number, found in enumerate(clip.found, 1):
        if (number - 1) % period == 0:
            yield number, peer.export(peer.update(peer.convert(found), number / FPS))
        elif empty or peer.predicts:
            yield number, peer.between(number / FPS)


def judge(clip: Film, tracks: Trajectories, period: int) -> F64:
    """[4]: IDF1, id switches, recall on the frames that were looked at; recall on all."""
    truth, counts = clip.truth, clip.counts
    figures: list[float] = []
    for each in (period, 1) if period > 1 else (1,):
        true_now, now = ((boxes.frame - 1) % each == 0 for boxes in (truth, tracks))
        boxes, published = truth.where(true_now), tracks.where(now)
        if not counts.all():
            boxes, published = without_hidden(boxes, counts[true_now], published)
        pairs = overlaps(boxes, published)
        cleared = clear(pairs)
        figures += [identity(pairs).idf1, cleared.id_switches, cleared.recall]
    return np.array([*figures[:3], figures[-1]])


def _clipped(xyxy: F64, size: tuple[int, int]) -> F64:
    """As they are published."""
    clipped: F64 = np.clip(xyxy, 0, [*size, *size])
    return clipped

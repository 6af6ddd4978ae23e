"""How well tracks follow the truth: CLEAR, Identity and HOTA, equal to TrackEval on the same boxes.

Sources: CLEAR: Bernardin & Stiefelhagen 2008; Identity: Ristani et al. 2016; HOTA: Luiten et al. 2020. Where the
papers leave something open, it is as in TrackEval 1.3 (github.com/JonathonLuiten/TrackEval).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lap
import numpy as np

from edgeface.boxes import iou
from edgeface.values import F64, I64, Bool

IOU_THRESHOLD = 0.5  # from which a track's box is on a true one, in CLEAR and Identity
_HOTA_THRESHOLDS = np.arange(0.05, 0.99, 0.05)  # 19, with the rounding of TrackEval's
_EPS = float(np.finfo(float).eps)
_KEEP = 1000.0  # what it is worth to CLEAR to stay with the track of the step before: more than any overlap


@dataclass(frozen=True, slots=True)
class Trajectories:
    """Boxes with ids through a film, one row a box, in the order of their frames."""

    frame: I64  # [n] never falls
    track_id: I64  # [n] at most once in a frame
    xyxy: F64  # [n, 4] pixels

    def where(self, keep: Bool) -> Trajectories:
        """Only the rows where `keep` [n] is True."""
        return Trajectories(self.frame[keep], self.track_id[keep], self.xyxy[keep])


def trajectories(rows: Sequence[Sequence[float]]) -> Trajectories:
    """Rows of frame, id, left, top, right, bottom, in any order."""
    table: F64 = np.array(rows, float).reshape(-1, 6)
    table = table[np.argsort(table[:, 0], kind="stable")]
    return Trajectories(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:])


@dataclass(frozen=True, slots=True)
class Overlaps:
    """All pairs of a true and a track's box that overlap, in the order of their frames."""

    step: I64  # [p] counts the frames where the truth and the tracks both have boxes
    true_row: I64  # [p] row of the truth
    track_row: I64  # [p] row of the tracks
    true_face: I64  # [p] which id of the truth, from 0
    track: I64  # [p] which id of the tracks, from 0
    iou: F64  # [p] above 0
    true_lengths: I64  # [faces] boxes of each id
    track_lengths: I64  # [tracks]


@dataclass(frozen=True, slots=True)
class Clear:
    """CLEAR figures: box by box, and how often a face changes its track."""

    mota: float
    motp: float  # mean IoU of the matches
    recall: float
    precision: float
    id_switches: int
    fragmentations: int  # times a face is taken up again
    false_positives: int
    misses: int
    mostly_tracked: int  # faces followed for more than 80 % of their boxes
    mostly_lost: int  # for less than 20 %


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity figures: each face is given the one track that suits it best for the whole film."""

    idf1: float
    idp: float
    idr: float


@dataclass(frozen=True, slots=True)
class Hota:
    """Higher Order Tracking Accuracy, means over 19 overlaps from 0.05 to 0.95."""

    hota: float
    deta: float
    assa: float
    loca: float


def overlaps(truth: Trajectories, tracks: Trajectories) -> Overlaps:
    """Which boxes lie on which."""
    steps = np.intersect1d(truth.frame, tracks.frame)
    true_ends = np.searchsorted(truth.frame, np.stack([steps, steps + 1]))
    track_ends = np.searchsorted(tracks.frame, np.stack([steps, steps + 1]))
    parts: list[I64] = [np.zeros((3, 0), np.int64)]
    shares: list[F64] = [np.zeros(0)]
    for step, ((t0, t1), (k0, k1)) in enumerate(zip(true_ends.T.tolist(), track_ends.T.tolist(), strict=True)):
        share = iou(truth.xyxy[t0:t1], tracks.xyxy[k0:k1])
        row, column = np.nonzero(share)
        parts.append(np.stack([np.full(len(row), step), t0 + row, k0 + column]))
        shares.append(share[row, column])
    step_of, true_row, track_row = np.concatenate(parts, axis=1)
    _, true_face, true_lengths = np.unique(truth.track_id, return_inverse=True, return_counts=True)
    _, track, track_lengths = np.unique(tracks.track_id, return_inverse=True, return_counts=True)
    return Overlaps(
        step=step_of,
        true_row=true_row,
        track_row=track_row,
        true_face=true_face[true_row],
        track=track[track_row],
        iou=np.concatenate(shares),
        true_lengths=true_lengths,
        track_lengths=track_lengths,
    )


def without_hidden(truth: Trajectories, counts: Bool, tracks: Trajectories) -> tuple[Trajectories, Trajectories]:
    """Truth and tracks without what does not count: true boxes where `counts` [n] is False and the boxes on them.

    All true boxes, hidden ones too, are matched frame by frame for the greatest sum of overlaps first, as TrackEval
    does with MOT17's distractors.
    """
    pairs = overlaps(truth, tracks)
    near = np.flatnonzero(pairs.iou >= IOU_THRESHOLD - _EPS)
    match = near[_best(pairs.step[near], pairs.true_row[near], pairs.track_row[near], pairs.iou[near])]
    keep = np.ones(len(tracks.frame), bool)
    keep[pairs.track_row[match[~counts[pairs.true_row[match]]]]] = False
    return truth.where(counts), tracks.where(keep)


def clear(pairs: Overlaps) -> Clear:
    """CLEAR figures."""
    match = _continued_matches(pairs)
    match = match[np.argsort(pairs.true_face[match], kind="stable")]  # face by face, each in the order of time
    face, track, step = pairs.true_face[match], pairs.track[match], pairs.step[match]
    same_face = face[1:] == face[:-1]
    followed = np.bincount(face, minlength=len(pairs.true_lengths)) / pairs.true_lengths
    boxes, found = int(pairs.true_lengths.sum()), len(match)
    false_positives = int(pairs.track_lengths.sum()) - found
    switches = int((same_face & (track[1:] != track[:-1])).sum())
    return Clear(
        mota=(found - false_positives - switches) / boxes if boxes else 0.0,
        motp=float(pairs.iou[match].sum()) / max(found, 1),
        recall=found / max(boxes, 1),
        precision=found / max(found + false_positives, 1),
        id_switches=switches,
        fragmentations=int((same_face & (step[1:] - step[:-1] > 1)).sum()),
        false_positives=false_positives,
        misses=boxes - found,
        mostly_tracked=int((followed > 0.8).sum()),
        mostly_lost=int((followed < 0.2).sum()),
    )


def identity(pairs: Overlaps) -> Identity:
    """Identity figures."""
    face, track, which = _id_pairs(pairs)
    together = np.bincount(which[pairs.iou >= IOU_THRESHOLD], minlength=len(face))
    face, track, together = (values[together > 0] for values in (face, track, together))
    right = int(together[_best(np.zeros_like(face), face, track, together.astype(float))].sum())
    boxes, track_boxes = int(pairs.true_lengths.sum()), int(pairs.track_lengths.sum())
    return Identity(
        idf1=2 * right / max(boxes + track_boxes, 1), idp=right / max(track_boxes, 1), idr=right / max(boxes, 1)
    )


def hota(pairs: Overlaps) -> Hota:
    """HOTA figures. What is matched: the greatest overlap, weighted by how much the two whole tracks have in common."""
    boxes, track_boxes = int(pairs.true_lengths.sum()), int(pairs.track_lengths.sum())
    of_true = np.bincount(pairs.true_row, pairs.iou, boxes)[pairs.true_row]
    of_track = np.bincount(pairs.track_row, pairs.iou, track_boxes)[pairs.track_row]
    share = pairs.iou / (of_true + of_track - pairs.iou)
    face, track, which = _id_pairs(pairs)
    common = np.bincount(which, share, len(face))
    lengths = pairs.true_lengths[face] + pairs.track_lengths[track]
    alignment = common / (lengths - common)
    match = _best(pairs.step, pairs.true_row, pairs.track_row, alignment[which] * pairs.iou)
    matched_iou, matched_which = pairs.iou[match], which[match]

    figures = np.zeros((4, len(_HOTA_THRESHOLDS)))
    for column, threshold in enumerate(_HOTA_THRESHOLDS):
        hit = matched_iou >= threshold - _EPS
        found = int(hit.sum())
        times = np.bincount(matched_which[hit], minlength=len(face))
        deta = found / max(boxes + track_boxes - found, 1)
        assa = float((times * times / np.maximum(lengths - times, 1)).sum()) / max(found, 1)
        loca = float(matched_iou[hit].sum()) / found if found else 1.0
        figures[:, column] = np.sqrt(deta * assa), deta, assa, loca
    return Hota(*figures.mean(axis=1).tolist())


def _id_pairs(pairs: Overlaps) -> tuple[I64, I64, I64]:
    """The pairs of ids that ever overlap: face [q] and track [q]; and which of these each pair of boxes is [p]."""
    tracks = max(len(pairs.track_lengths), 1)
    key, which = np.unique(pairs.true_face * tracks + pairs.track, return_inverse=True)
    return key // tracks, key % tracks, which


def _continued_matches(pairs: Overlaps) -> I64:
    """CLEAR's matches: a face keeps the track it had in the step before if it can; then the greatest overlap counts."""
    near = np.flatnonzero(pairs.iou >= IOU_THRESHOLD - _EPS)
    chosen: list[I64] = [np.zeros(0, np.int64)]
    before = np.full(len(pairs.true_lengths), -1)  # each face's track in the step before
    before_step = -1
    for part in _runs(pairs.step[near]):
        rows = near[part]
        if pairs.step[rows[0]] != before_step + 1:
            before[:] = -1
        before_step = pairs.step[rows[0]]
        face, track = pairs.true_face[rows], pairs.track[rows]
        match = _best(pairs.step[rows], face, track, pairs.iou[rows] + _KEEP * (before[face] == track))
        before[:] = -1
        before[face[match]] = track[match]
        chosen.append(rows[match])
    return np.concatenate(chosen)


def _best(group: I64, row: I64, column: I64, gain: F64) -> I64:
    """The one-to-one assignment with the greatest sum of gains: which of the pairs [p] are in it.

    Pairs with the same row or column are of the same `group` [p], which never falls. `gain` [p] is above 0. Most rows
    and columns have only each other; the solver sees the others alone.
    """
    alone = (np.bincount(row)[row] == 1) & (np.bincount(column)[column] == 1)
    chosen: list[I64] = [np.flatnonzero(alone)]
    rest = np.flatnonzero(~alone)
    for part in _runs(group[rest]):
        pairs = rest[part]
        rows, r = np.unique(row[pairs], return_inverse=True)
        columns, c = np.unique(column[pairs], return_inverse=True)
        cost = np.zeros((len(rows), len(columns)))
        cost[r, c] = -gain[pairs]
        _, match, _ = lap.lapjv(cost, extend_cost=True)
        chosen.append(pairs[match[r] == c])
    return np.concatenate(chosen)


def _runs(values: I64) -> list[I64]:
    """The positions of equal neighbours, run by run."""
    return np.split(np.arange(len(values)), np.flatnonzero(np.diff(values)) + 1) if len(values) else []

"""What a tracker is asked for when it is measured; edgeface's, and two simple ones to compare with."""

from __future__ import annotations

from typing import Any

import lap
import numpy as np

from edgeface.association import Motion
from edgeface.boxes import iou
from edgeface.tracker import ByteTracker
from edgeface.values import F32, F64, I64, Detections, Tracks

FPS = 30.0
NOBODY: F32 = np.zeros((0, 5), np.float32)
MEMORY = 30  # frames


class Peer:
    """One run of one tracker.

    `period`: frames from one look to the next; `empty`: update() is called with nothing on the frames between, else
    it is called on the looks only. Detections are [n, 5] and tracks [m, 5]: xyxy with the score or the id.
    """

    tracker: Any
    predicts = False  # True: between() never calls update(), so that `empty` means nothing

    def __init__(self, period: int, empty: bool) -> None:
        self.calls_apart = 1 if empty else period  # frames from one update() to the next
        self.memory = MEMORY // self.calls_apart  # in calls of update()
        self.ids: dict[Any, int] = {}

    def convert(self, found: F32) -> Any:
        """Detections as update() takes them."""
        return found

    def update(self, found: Any, time_s: float) -> Any:
        return self.tracker.update(found)

    def export(self, tracks: Any) -> F64:
        """What update() gave as rows."""
        return rows(tracks)

    def between(self, time_s: float) -> F64:
        """The tracks on a frame at which nobody looked."""
        return self.export(self.update(self.convert(NOBODY), time_s))

    def number(self, name: Any) -> int:
        """A number for a tracker's own kind of id."""
        return self.ids.setdefault(name, len(self.ids) + 1)


def rows(tracks: Any) -> F64:
    """Anything with five numbers or more a row -> [m, 5]."""
    table = np.asarray(tracks, np.float64)
    return table[:, :5] if table.size else np.zeros((0, 5))


def and_others(tracks: F64, others: F64) -> F64:
    """The tracks and those of the others whose ids are not among them."""
    return np.concatenate([tracks, others[~np.isin(others[:, 4], tracks[:, 4])]])


class Edgeface(Peer):
    """`scores`: low, high, new. What else is not the default: the kind of tracker and its settings."""

    predicts = True

    def __init__(
        self,
        period: int,
        empty: bool,
        scores: tuple[float, float] = (0.1, 0.6),
        size: tuple[int, int] = (1920, 1080),
        kind: type[ByteTracker] = ByteTracker,
        motion: Motion | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(period, empty)
        low, high = scores
        self.tracker: ByteTracker = kind(**({"low_score": low, "high_score": high, "motion": motion} | settings))
        self.tracker.clear(size)

    def convert(self, found: F32) -> Detections:
        return Detections(found[:, :4], found[:, 4], np.zeros((len(found), 0, 2), np.float32))

    def update(self, found: Any, time_s: float) -> Tracks:
        return self.tracker.update(found, round(time_s * 1e9))

    def export(self, tracks: Any) -> F64:
        return np.column_stack([tracks.xyxy, tracks.track_id])

    def between(self, time_s: float) -> F64:
        return self.export(self.tracker.predict(round(time_s * 1e9)))


class Floor(Peer):
    """No motion model: the last box, greedy IoU > 0.3."""

    def __init__(self, period: int, empty: bool) -> None:
        super().__init__(period, empty)
        self.boxes: F64 = np.zeros((0, 6))  # xyxy, id, calls since seen
        self.next_id = 1

    def update(self, found: Any, time_s: float) -> F64:
        self.boxes[:, 5] += 1
        ids = np.zeros(len(found))
        overlap = iou(self.boxes[:, :4], found[:, :4].astype(float))
        while overlap.size and overlap.max() >= 0.3:
            row, column = np.unravel_index(overlap.argmax(), overlap.shape)
            ids[column] = self.boxes[row, 4]
            self.boxes[row, :4], self.boxes[row, 5] = found[column, :4], 0
            overlap[row], overlap[:, column] = -1, -1
        (new,) = np.nonzero(ids == 0)
        ids[new] = np.arange(self.next_id, self.next_id + len(new))
        self.next_id += len(new)
        begun = np.column_stack([found[new, :4], ids[new], np.zeros(len(new))])
        self.boxes = np.concatenate([self.boxes, begun])
        self.boxes = self.boxes[self.boxes[:, 5] <= MEMORY]
        return np.column_stack([found[:, :4], ids])


class Reference(Peer):
    """Constant velocity and a gate on the distance of the centres, 40 lines that coast: shows what can be solved."""

    predicts = True

    def __init__(self, period: int, empty: bool) -> None:
        super().__init__(period, empty)
        self.motion: F64 = np.zeros((0, 6))  # centre, velocity a frame, size
        self.about: F64 = np.zeros((0, 3))  # id, hits, frames since seen
        self.next_id, self.time_s = 1, 0.0

    def _advance(self, time_s: float) -> None:
        frames = round((time_s - self.time_s) * FPS)
        self.time_s = time_s
        self.motion[:, :2] += self.motion[:, 2:4] * frames
        self.about[:, 2] += frames

    def between(self, time_s: float) -> F64:
        self._advance(time_s)
        return self.shown()

    def shown(self) -> F64:
        shown = (self.about[:, 1] >= 2) & (self.about[:, 2] <= 10)
        centre, half = self.motion[shown, :2], self.motion[shown, 4:] / 2
        return np.column_stack([centre - half, centre + half, self.about[shown, 0]])

    def update(self, found: Any, time_s: float) -> F64:
        self._advance(time_s)
        found = found[found[:, 4] >= 0.1].astype(float)
        centre, size = (found[:, :2] + found[:, 2:4]) / 2, found[:, 2:4] - found[:, :2]
        free = np.ones(len(found), bool)
        if len(found) and len(self.motion):
            row, column = self._pairs(centre, size)
            free[column] = False
            first, age = self.about[row, 1:2] < 2, np.maximum(self.about[row, 2:], 1)
            off = centre[column] - self.motion[row, :2]
            self.motion[row, :2] += np.where(first, 1, 0.6) * off
            self.motion[row, 2:4] += np.where(first, 1, 0.3) * off / age
            self.motion[row, 4:] += 0.3 * (size[column] - self.motion[row, 4:])
            self.about[row, 1] += 1
            self.about[row, 2] = 0
        (new,) = np.nonzero(free & (found[:, 4] >= 0.5))
        ids = np.arange(self.next_id, self.next_id + len(new))
        self.next_id += len(new)
        self.motion = np.concatenate([self.motion, np.column_stack([centre[new], 0 * centre[new], size[new]])])
        self.about = np.concatenate([self.about, np.column_stack([ids, np.ones(len(new)), np.zeros(len(new))])])
        keep = self.about[:, 2] <= np.where(self.about[:, 1] < 2, 10, 30)
        self.motion, self.about = self.motion[keep], self.about[keep]
        return self.shown()

    def _pairs(self, centre: F64, size: F64) -> tuple[I64, I64]:
        new, age, own = self.about[:, 1] < 2, self.about[:, 2], self.motion[:, 4:]
        gate = np.sqrt(own.prod(axis=1)) * np.where(new, 0.6, 0.35) + np.where(new, 9, 2) * age
        apart = np.linalg.norm(self.motion[:, None, :2] - centre, axis=2) / gate[:, None]
        cost = apart + 2 * np.abs(np.log(own[:, None, 1] / size[:, 1]))
        _, row, column = lap.lapjvx(np.minimum(cost, 10), extend_cost=True)
        near = cost[row, column] < 1.2
        return row[near], column[near]

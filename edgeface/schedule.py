"""When to look: a table of rules; the first one that applies says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgeface.boxes import area
from edgeface.values import F32, LOST, U8, Tracks

_CHANGED_LEVELS = 18  # of 255: how much a cell of a glimpse must change to have moved
_JUST_NS = 300_000_000  # a face that has been gone for longer is not looked for any more often
_BODY = np.array([-1.5, -0.5, 1.5], np.float32)  # left, top, right of where somebody's body may move, in box sizes


class Situation(NamedTuple):
    """What is known before a frame is looked at."""

    age: int  # frames since the last look, this one included
    age_s: float  # seconds since the last look
    look_s: float  # how long the last look took
    faces: int = 0  # published on the last frame
    tentative: int = 0  # seen once: the next look will confirm them or drop them
    missed: int = 0  # seen a moment ago, but not by the last look
    doubted: int = 0  # followed by their landmarks since the last look, which can be trusted no more
    uncertainty: float = 0.0  # the largest standard deviation of a published face's centre, in its sizes
    travel: float = 0.0  # the furthest that a published face has come since the last look, in its sizes
    motion: float = 0.0  # share of the picture that has changed since the last look where nobody is followed


@dataclass(frozen=True, slots=True)
class KeyframeSchedule:
    """Look at every `interval`-th frame, or (None) when a rule of the table says so."""

    interval: int | None = None
    max_age_s: float = 0.25  # with faces about, never look later than this
    idle_age_s: float = 1.0  # the same with nobody about
    max_uncertainty: float = 0.15
    max_travel: float = 0.5
    max_motion: float = 0.01
    max_detector_share: float = 1.0  # of the time that may be spent looking; 1: no limit

    def reason(self, now: Situation) -> str:
        """Why to look at this frame; "" not to.

        A look waits while looking would take more than its share of the time, but never longer than the ages above.
        """
        rules = RULES if self.interval is None else (("interval", self.interval, _always), _DOUBTED)
        why = next((name for name, age, applies in rules if now.age >= age and applies(now, self)), "")
        budget = self.max_detector_share
        if why and budget < 1 and now.age_s < now.look_s / budget and not _stale(now, self):
            return ""
        return why

    def mode(self, now: Situation) -> str:
        """`fixed`, `adaptive`, or `idle`: adaptive with nobody about."""
        if self.interval is not None:
            return "fixed"
        return "adaptive" if now.faces else "idle"


def _stale(now: Situation, limit: KeyframeSchedule) -> bool:
    return now.age_s >= (limit.max_age_s if now.faces else limit.idle_age_s)


def _always(now: Situation, limit: KeyframeSchedule) -> bool:
    return True


Rule = tuple[str, int, Callable[[Situation, KeyframeSchedule], bool]]  # why, frames after the last look, and when

_DOUBTED: Rule = ("landmarks", 2, lambda now, _: now.doubted > 0)  # at a fixed interval too
RULES: tuple[Rule, ...] = (
    ("stale", 1, _stale),
    ("new", 1, lambda now, _: now.tentative > 0),
    _DOUBTED,
    ("uncertain", 1, lambda now, limit: now.uncertainty > limit.max_uncertainty),
    ("travel", 1, lambda now, limit: now.travel > limit.max_travel),
    ("missed", 2, lambda now, _: now.missed > 0),
    ("motion", 3, lambda now, limit: now.motion > limit.max_motion),
)


def situation(age: int, age_s: float, look_s: float, tracks: Tracks, doubted: int, motion: float) -> Situation:
    """The situation with the faces of the last frame."""
    size = np.sqrt(area(tracks.xyxy))
    speed = np.hypot(tracks.velocity[:, 0], tracks.velocity[:, 1])
    return Situation(
        age,
        age_s,
        look_s,
        faces=len(size),
        tentative=tracks.tentative,
        missed=int(np.count_nonzero((tracks.state == LOST) & (tracks.age_ns < _JUST_NS))),
        doubted=doubted,
        uncertainty=float(np.max(tracks.centre_std / size, initial=0)),
        travel=float(np.max(speed / size, initial=0)) * age_s,
        motion=motion,
    )


def moved_share(before: U8, now: U8, xyxy: F32, frame_size: tuple[int, int]) -> float:
    """Share of a picture that has changed between two glimpses [rows, columns] where nobody is followed.

    Nobody means: beside, above and below the faces `xyxy` [n, 4] (frame pixels), as far as a body may move. A change
    of the whole picture's brightness is no motion.
    """
    change = now.astype(np.int16) - before
    changed = np.abs(change - int(np.median(change))) > _CHANGED_LEVELS
    rows, columns = changed.shape
    x = (np.arange(columns) + 0.5) * (frame_size[0] / columns)
    y = (np.arange(rows) + 0.5) * (frame_size[1] / rows)
    size = np.sqrt(area(xyxy))
    left, top, right = (xyxy[:, :3] + size[:, None] * _BODY).T[:, :, None]
    body = (x > left) & (x < right)
    changed &= ~((y > top)[:, :, None] & body[:, None]).any(axis=0)
    return float(changed.mean())

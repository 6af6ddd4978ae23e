"""What each setting of edgeface's tracker is worth: figures with one of them changed at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from plain_trackers import Edgeface
from tracking_films import DEMO, film, judge, run

from edgeface.association import Motion, assign, costs
from edgeface.boxes import iou
from edgeface.tracker import ByteTracker
from edgeface.values import F32, F64, I64, TENTATIVE

COLUMNS = [  # scene, faces, a look at every so many frames
    ("plain", 20, 1),
    ("plain", 20, 5),
    ("hard", 20, 1),
    ("hard", 20, 5),
    ("crossing", 5, 3),
    ("occlusion", 5, 3),
    ("approach", 5, 3),
    (DEMO, 5, 1),
    (DEMO, 5, 5),
]
_PLAIN = Motion()
_STRANGER, _LOW = _PLAIN.stranger_cost, _PLAIN.low_score_cost


class Staged(ByteTracker):
    """ByteTrack's priority: what has a high score takes its face first, low scores get the confirmed faces left."""

    def _associate(self, measured: F64, score: F32) -> tuple[I64, I64]:
        rows, high = self._rows, score >= self._high_score
        if not len(rows) or not len(score):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        cost = self._stage_costs(measured, score, high)
        cost[np.ix_(rows["state"] == TENTATIVE, ~high)] = np.inf
        pairs: list[tuple[I64, I64]] = []
        for stage in self._stages(cost, high):
            free = stage.copy()
            for row, column in pairs:
                free[row], free[:, column] = 1, 1
            pairs.append(assign(np.minimum(free, 1e6)))
        row, column = (np.concatenate(part) for part in zip(*pairs, strict=True))
        return row, column

    def _stage_costs(self, measured: F64, score: F32, high: Any) -> F64:
        rows = self._rows
        unseen_s = ((self._now_ns or 0) - rows["measured_ns"]) / 1e9
        known = rows["state"] != TENTATIVE
        return costs(self._kalman, rows["area"], unseen_s, known, measured, score >= self._high_score, self._motion)

    def _stages(self, cost: F64, high: Any) -> list[F64]:
        return [np.where(high, cost, 1), np.where(high, 1, cost)]


class Overlap(Staged):
    """ByteTrack's distance: 1 - IoU * score, at most 0.8; for low scores 1 - IoU, at most 0.5."""

    def _stage_costs(self, measured: F64, score: F32, high: Any) -> F64:
        return np.where(high, 0.2 - self._overlap(measured, 0) * score, 0.5 - self._overlap(measured, 0))

    def _overlap(self, measured: F64, buffer: float) -> F64:
        """IoU of predictions and measurements with boxes that are larger by `buffer` of their sides at each side."""
        larger = 1 + 2 * buffer
        sides = self._xyxy().astype(float)
        centre, half = (sides[:, :2] + sides[:, 2:]) / 2, (sides[:, 2:] - sides[:, :2]) / 2 * larger
        found_centre, found_half = measured[:, :2], measured[:, 2:] / 2 * larger
        return iou(
            np.concatenate([centre - half, centre + half], axis=1),
            np.concatenate([found_centre - found_half, found_centre + found_half], axis=1),
        )


class Expanded(Overlap):
    """C-BIoU's cascade (Yang et al. 2023): all scores alike, boxes expanded by 0.3, what is left by 0.5."""

    def _stage_costs(self, measured: F64, score: F32, high: Any) -> F64:
        self._wider = 0.2 - self._overlap(measured, 0.5)
        return 0.2 - self._overlap(measured, 0.3)

    def _stages(self, cost: F64, high: Any) -> list[F64]:
        return [cost, np.where(np.isinf(cost), cost, self._wider)]


def variants() -> dict[str, dict[str, Any]]:
    """Name of the row: arguments of Edgeface."""

    def motion(**changes: float) -> dict[str, Any]:
        return {"motion": replace(_PLAIN, **changes)}

    scaled = ("measured_std", "measured_size_std", "start_speed_std", "start_growth_std", "agility", "size_agility")
    rows: dict[str, dict[str, Any]] = {"as it is": {}, "no slack (slack = 0)": motion(slack=0.0)}
    for name in (*scaled, "slack"):
        for factor in (0.5, 2):
            rows[f"{name} x {factor}"] = motion(**{name: getattr(_PLAIN, name) * factor})
    changes = {
        "off_path_cost": (0.0, 50.0),
        "stranger_cost": (_STRANGER - 4, _STRANGER + 4),
        "low_score_cost": (0.0, _LOW / 2, _LOW * 2),
    }
    for name, values in changes.items():
        for value in values:
            rows[f"{name} = {value:g}"] = motion(**{name: value})
    rows["turn = 4"], rows["no turning (turn = 1e9)"] = motion(turn=4.0), motion(turn=1e9)
    for name, values in {"min_hits": (1, 3), "lost_timeout_s": (0.5, 1.0, 5.0), "coast_s": (0.25, 2.0)}.items():
        for value in values:
            rows[f"{name} = {value:g}"] = {name: value}
    rows["no coasting (coast_s = 0)"] = {"coast_s": 0.0}
    rows["no low scores (low_score = high_score)"] = {"low_score": None}
    rows["ByteTrack's priority of high scores"] = {"kind": Staged}
    rows["ByteTrack's priority and overlap"] = {"kind": Overlap}
    rows["C-BIoU's expanded boxes"] = {"kind": Expanded}
    return rows


def ablation(seeds: Sequence[int], frames: int, jobs: int, rows: dict[str, dict[str, Any]] | None = None) -> str:
    """IDF1 / id switches on the frames looked at, for `rows` (None: all)."""
    rows = variants() if rows is None else rows
    work = [(settings, *column, tuple(seeds), frames) for settings in rows.values() for column in COLUMNS]
    values = np.array(list(each(_measured, work, jobs))).reshape(len(rows), len(COLUMNS), 2)
    titles = [f"{scene} {period}" for scene, _, period in COLUMNS]
    lines = [f"| changed | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for name, figures in zip(rows, values, strict=True):
        lines.append(f"| {name} | {' | '.join(f'{idf1:.3f} / {switches:.1f}' for idf1, switches in figures)} |")
    return "\n".join([f"IDF1 / id switches, means of seeds {seeds[0]} to {seeds[-1]}.", "", *lines, ""])


def _measured(work: tuple[dict[str, Any], str, int, int, tuple[int, ...], int]) -> F64:
    settings, scene, faces, period, seeds, frames = work
    values = []
    for seed in seeds[:1] if scene == DEMO else seeds:
        clip = film(scene, faces, seed, frames)
        if "low_score" in settings:
            settings = {"low_score": clip.scores[1]}
        peer = Edgeface(period, False, clip.scores, clip.size, **settings)
        values.append(judge(clip, run(peer, clip, period, False), period))
    means: F64 = np.mean(values, axis=0)[:2]
    return means


def each(function: Any, work: Sequence[Any], jobs: int) -> Iterable[Any]:
    """map() in so many processes."""
    if jobs == 1:
        return map(function, work)
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(function, work))

"""Compare smoothers of published boxes against known truth, as Markdown tables.

    python scripts/compare_smoothers.py [--tune]

Generated faces of 40 to 110 px, each alone in its corner, in four classes of motion: still; drift (0.1 to 0.4 sizes/s);
walk (0.6 to 2.5, wandering, coming or going by up to 8 % a second); dart (rests of 0.3 to 1.3 s, dashes of 0.3 to 0.7 s
at 2.5 to 6 sizes/s, up to speed in 3 frames). Detections have 3 % noise in place and size, 5 % are missed; 30 frames/s.
Then the bundled clip with the default detector, each track's mean difference from the truth taken off. The tracker is
the product's, looking at every frame, every 3rd, every 5th; each smoother sees what it publishes.

Error: mean distance of the centre from the truth, % of the size. Jitter: RMS of the error's second difference, frame to
frame, % of the size, of the centre, then of width and height. Lag: error against the direction of motion, ms. `--tune`
searches settings on other seeds: least jitter (geometric mean over classes and intervals) among those whose error is
no larger than the tracker's on average and larger by at most a fifth in any class.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import edgeface
from edgeface.config import load_config
from edgeface.evaluate.tracking import frames_of
from edgeface.model_card import find_card
from edgeface.parts import build, make_tracker
from edgeface.smoothing import FaceSmoother
from edgeface.tracker import ByteTracker
from edgeface.values import Detections, Tracks

FRAME_S = 1 / 30
FRAMES, WARM_UP = 300, 30
EACH = 10  # faces of a class
CLASSES = ("still", "drift", "walk", "dart")
CLIP = "bundled clip"
INTERVALS = (1, 3, 5)
TUNING_SEEDS, SEEDS = range(100, 104), range(6)
Published = list[tuple[int, Tracks]]  # capture_ns, what the tracker says
# truth and detections held until the next, both [frames, faces, 4] as centre and size with NaN for none
Stream = tuple[np.ndarray, np.ndarray, Published]
Row = dict[tuple[int, str], dict[str, float]]  # interval and class -> figures


class Average:
    """The exponential average known from TAO's face detector: weight 0.3 at rest to 0.9 at 0.15 sizes a frame."""

    def __init__(self) -> None:
        self.ids: np.ndarray = np.zeros(0, np.int64)
        self.box = np.zeros((0, 4))

    def smooth(self, tracks: Tracks, capture_ns: int) -> Tracks:
        box = centred(tracks.xyxy)
        _, now, last = np.intersect1d(tracks.track_id, self.ids, return_indices=True)
        change = box[now] - self.box[last]
        motion = np.hypot(change[:, 0], change[:, 1]) / box[now, 2:].max(axis=1)
        weight = np.interp(motion, [0.01, 0.15], [0.3, 0.9])
        box[now] = self.box[last] + weight[:, None] * change
        self.ids, self.box = tracks.track_id, box
        return replace(tracks, xyxy=corners(box))


class OneEuro:
    """The 1 Euro filter (Casiez, Roussel and Vogel 2012) on centre and size, in box sizes: cutoffs in Hz."""

    def __init__(self, min_cutoff: float = 2.0, beta: float = 20.0, derivative_cutoff: float = 1.0) -> None:
        self.min_cutoff, self.beta, self.derivative_cutoff = min_cutoff, beta, derivative_cutoff
        self.ids: np.ndarray = np.zeros(0, np.int64)
        self.box, self.speed, self.now_ns = np.zeros((0, 4)), np.zeros((0, 4)), 0

    def smooth(self, tracks: Tracks, capture_ns: int) -> Tracks:
        box, dt = centred(tracks.xyxy), (capture_ns - self.now_ns) / 1e9
        _, now, last = np.intersect1d(tracks.track_id, self.ids, return_indices=True)
        change, speed = box[now] - self.box[last], np.zeros_like(box)
        raw_speed = change / box[now, 2:].max(axis=1)[:, None] / dt
        speed[now] = self.speed[last] + weight(self.derivative_cutoff, dt) * (raw_speed - self.speed[last])
        box[now] = self.box[last] + weight(self.min_cutoff + self.beta * np.abs(speed[now]), dt) * change
        self.ids, self.box, self.speed, self.now_ns = tracks.track_id, box, speed, capture_ns
        return replace(tracks, xyxy=corners(box))


class Ours:
    """The boxes of edgeface's."""

    def __init__(self, **settings: float) -> None:
        self.smoother = FaceSmoother(**settings)

    def smooth(self, tracks: Tracks, capture_ns: int) -> Tracks:
        return self.smoother.smooth(tracks, np.zeros((len(tracks.track_id), 0, 2), np.float32), capture_ns)[0]


def weight(cutoff, dt: float):
    """Of the new value in a low pass: 1 / (1 + tau / dt), tau = 1 / (2 pi cutoff)."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * dt))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tune", action="store_true")
    if parser.parse_args().tune:
        tune()
        return
    generated = {(seed, interval): follow(seed, interval) for seed in SEEDS for interval in INTERVALS}
    clip = {(0, interval): stream for interval, stream in zip(INTERVALS, follow_clip(), strict=True)}
    smoothers: dict[str, Callable[[], Any] | None] = {
        "tracker alone": None,
        "+ average, 0.3 to 0.9": Average,
        "+ 1 Euro": OneEuro,
        "+ ours": Ours,
    }
    rows = {name: figures(generated, make) | figures(clip, make) for name, make in smoothers.items()}
    rows = {"detections, held": figures(generated, None, held=True) | figures(clip, None, held=True)} | rows
    for interval in INTERVALS:
        print(f"\n| look at every {interval}: error / jitter of centre, size / lag | ", end="")
        print(" | ".join([*CLASSES, CLIP]) + " |\n|---" + "|---" * (len(CLASSES) + 1) + "|")
        for name, row in rows.items():
            print(f"| {name} | " + " | ".join(cell(row[interval, motion]) for motion in (*CLASSES, CLIP)) + " |")


def cell(found: dict[str, float]) -> str:
    lag = "" if np.isnan(found["lag"]) else f" / {found['lag']:.0f}"
    return f"{found['error']:.2f} / {found['jitter']:.2f}, {found['size jitter']:.2f}{lag}"


def tune() -> None:
    streams = {(seed, interval): follow(seed, interval) for seed in TUNING_SEEDS for interval in INTERVALS}
    alone = figures(streams, None)
    for smoother, settings in (
        (
            Ours,
            {"still_weight": (0.15, 0.2, 0.3, 0.5), "moving_weight": (0.9, 1.0), "full_motion": (0.05, 0.1, 0.15)},
        ),
        (OneEuro, {"min_cutoff": (0.5, 1, 2, 4), "beta": (1, 5, 10, 20, 50, 100), "derivative_cutoff": (1, 3)}),
    ):
        print(f"\n{smoother.__name__}: error, worst error, jitter, each as a ratio to the tracker alone")
        found = []
        for values in itertools.product(*settings.values()):
            chosen = dict(zip(settings, values, strict=True))
            row = figures(streams, lambda chosen=chosen, smoother=smoother: smoother(**chosen))
            ratio = {name: [row[at][name] / alone[at][name] for at in alone] for name in ("error", "jitter")}
            mean = {name: float(np.exp(np.mean(np.log(ratios)))) for name, ratios in ratio.items()}
            found.append((mean["error"], max(ratio["error"]), mean["jitter"], chosen))
        for error, worst, jitter, chosen in sorted(found, key=lambda row: row[2]):
            mark = "allowed" if error <= 1 and worst <= 1.2 else ""
            print(f"{error:.3f} {worst:.3f} {jitter:.3f} {chosen} {mark}")


def figures(streams: dict[tuple[int, int], Stream], make: Callable[[], Any] | None, held: bool = False) -> Row:
    """Means over the seeds."""
    rows: dict[tuple[int, str], list[dict[str, float]]] = {}
    for (_, interval), (truth, detected, published) in streams.items():
        smoother = make() if make else None
        shown = [smoother.smooth(tracks, now_ns) if smoother else tracks for now_ns, tracks in published]
        found, track_id = (detected, np.zeros(truth.shape[:2])) if held else by_face(shown, truth)
        if truth.shape[1] < EACH:
            found = found - np.nanmean(found - truth, axis=0)
            rows.setdefault((interval, CLIP), []).append(measure(found, track_id, truth))
            continue
        for number, motion in enumerate(CLASSES):
            faces = slice(number * EACH, (number + 1) * EACH)
            rows.setdefault((interval, motion), []).append(
                measure(found[:, faces], track_id[:, faces], truth[:, faces])
            )
    return {at: {name: float(np.mean([row[name] for row in many])) for name in many[0]} for at, many in rows.items()}


def measure(found: np.ndarray, track_id: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Figures of these faces. Where another track takes a face over is no jitter."""
    percent = 100 / np.nanmean(truth[..., 2:].max(axis=2), axis=0)[:, None]
    error, speed = (found - truth) * percent, np.gradient(truth[:, :, :2], FRAME_S, axis=0) * percent
    error, speed = error[WARM_UP:], speed[WARM_UP:]
    jerk = np.diff(error, 2, axis=0) ** 2
    same = np.diff(track_id[WARM_UP:], axis=0) == 0
    jerk[~(same[1:] & same[:-1])] = np.nan
    along, known = error[..., :2] * speed, np.isfinite(error[..., :2])
    return {
        "error": np.nanmean(np.hypot(error[..., 0], error[..., 1])),
        "jitter": np.sqrt(np.nanmean(jerk[..., :2])),
        "size jitter": np.sqrt(np.nanmean(jerk[..., 2:])),
        "lag": -1e3 * np.nansum(along) / np.nansum(speed[known] ** 2) if np.nanmax(np.abs(speed)) else np.nan,
    }


def by_face(shown: list[Tracks], truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Published boxes [frames, faces, 4] beside the true ones, and their tracks; NaN where a face is not published."""
    found, track_id = np.full(truth.shape, np.nan), np.full(truth.shape[:2], np.nan)
    for frame, tracks in enumerate(shown):
        face, box = nearest(centred(tracks.xyxy), truth[frame])
        found[frame, face], track_id[frame, face] = centred(tracks.xyxy[box]), tracks.track_id[box]
    return found, track_id


def nearest(box: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which true faces have a box nearer than they are wide, and which box is the nearest."""
    far = np.nan_to_num(np.linalg.norm(truth[:, None, :2] - box[:, :2], axis=2), nan=np.inf)
    face = np.flatnonzero(far.min(axis=1, initial=np.inf) < truth[:, 2])
    return face, far[face].argmin(axis=1)


def follow_clip() -> list[Stream]:
    """The bundled clip, for each interval. Faces less than 80 % visible are no truth."""
    config = load_config(None, {"source": "demo:?pace=0"})
    parts = build(config)
    frames, size = [], (0, 0)
    for frame in frames_of(parts.source, 0):
        frames.append((frame.capture_ns, parts.pipeline.detector.detect(frame)))
        size = frame.width, frame.height
    parts.close()
    truth: np.ndarray = np.full((len(frames), 9, 4), np.nan)
    text = (Path(edgeface.__file__).parent / "demo" / "demo.json").read_text()
    for number, faces in enumerate(json.loads(text)["frames"]):
        for face in faces:
            if face["visible_fraction"] >= 0.8:
                truth[number, face["track_id"]] = centred(np.array([face["xyxy"]]))[0]
    truth = truth[:, ~np.isnan(truth).all(axis=(0, 2))]
    streams = []
    for interval in INTERVALS:
        tracker = make_tracker(find_card(config.detector.card, config.engines).thresholds, config)
        tracker.clear(size)
        held, published = np.full(truth.shape, np.nan), []
        for number, (now_ns, detections) in enumerate(frames):
            if number % interval:
                held[number] = held[number - 1]
                published.append((now_ns, tracker.predict(now_ns)))
            else:
                face, box = nearest(centred(detections.xyxy), truth[number])
                held[number, face] = centred(detections.xyxy[box])
                published.append((now_ns, tracker.update(detections, now_ns)))
        streams.append((truth, held, published))
    return streams


def follow(seed: int, interval: int) -> Stream:
    """Generated faces."""
    truth, detected, score = scene(seed)
    tracker = ByteTracker(high_score=0.6, low_score=0.3)
    tracker.clear((20000, 20000))
    held, published = np.full(truth.shape, np.nan), []
    for frame in range(FRAMES):
        held[frame] = held[frame - 1]
        now_ns = 10**9 + round(frame * FRAME_S * 1e9)
        if frame % interval:
            published.append((now_ns, tracker.predict(now_ns)))
            continue
        seen = ~np.isnan(detected[frame, :, 0])
        held[frame, seen] = detected[frame, seen]
        keypoints = np.zeros((int(seen.sum()), 0, 2), np.float32)
        detections = Detections(corners(detected[frame, seen]), score[frame, seen].astype(np.float32), keypoints)
        published.append((now_ns, tracker.update(detections, now_ns)))
    return truth, held, published


def scene(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and detections [frames, faces, 4] as centre and size, NaN where missed; scores [frames, faces]."""
    random = np.random.default_rng(seed)
    count = EACH * len(CLASSES)
    motion = np.repeat(np.arange(len(CLASSES)), EACH)
    _, drift, walk, dart = (motion == number for number in range(len(CLASSES)))
    size = random.uniform(40, 110, (count, 1)) * np.array([1, 1.2])
    home = np.stack([np.arange(count) % 8, np.arange(count) // 8], axis=1) * 2000.0 + 1000
    slowest, fastest = np.array([[0, 0.1, 0.6, 2.5], [0, 0.4, 2.5, 6.0]])[:, motion]
    wander = np.select([drift, walk], [0.01, 0.04])[:, None]
    growth = np.where(walk, random.uniform(-0.08, 0.08, count), 0)[:, None]

    def any_way():
        angle = random.uniform(0, 2 * np.pi, count)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1) * random.uniform(slowest, fastest)[:, None]

    aim, centre = any_way(), np.zeros((count, 2))
    speed, going, left = np.where(dart[:, None], 0, aim), ~dart, random.integers(10, 40, count)
    truth = np.empty((FRAMES, count, 4))
    for frame in range(FRAMES):
        left -= dart
        turn = left < 0
        going ^= turn
        left = np.where(turn, np.where(going, random.integers(8, 20, count), random.integers(10, 40, count)), left)
        aim = np.where(turn[:, None], any_way(), aim + random.normal(0, 1, (count, 2)) * wander)
        speed = np.where(dart[:, None], (speed + np.where(going[:, None], aim, 0)) / 2, aim)
        centre = centre + speed * size[:, :1] * FRAME_S
        away = np.abs(centre) > 800
        aim, speed, centre = np.where(away, -aim, aim), np.where(away, -speed, speed), np.clip(centre, -800, 800)
        truth[frame] = np.concatenate([home + centre, size * np.exp(growth * frame * FRAME_S)], axis=1)
    detected = truth.copy()
    detected[..., :2] += random.normal(0, 0.03, detected[..., :2].shape) * truth[..., 2:]
    detected[..., 2:] *= np.exp(random.normal(0, 0.03, detected[..., 2:].shape))
    detected[random.random((FRAMES, count)) < 0.05] = np.nan
    return truth, detected, random.uniform(0.75, 0.98, (FRAMES, count))


def centred(xyxy: np.ndarray) -> np.ndarray:
    """xyxy [n, 4] -> centre x, centre y, width, height."""
    low, high = np.split(xyxy.astype(np.float64), 2, axis=1)
    return np.concatenate([(low + high) / 2, high - low], axis=1)


def corners(box: np.ndarray) -> np.ndarray:
    """The way back."""
    xyxy: np.ndarray = np.concatenate([box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2], axis=1)
    return xyxy.astype(np.float32)


if __name__ == "__main__":
    main()

"""`edgeface evaluate tracking`: how well faces are followed, by a file or by a run of the pipeline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeface import __version__
from edgeface.config import Config
from edgeface.errors import ConfigError, EndOfStream, EngineError, SourceError
from edgeface.metrics import Trajectories, clear, hota, identity, overlaps, trajectories, without_hidden
from edgeface.mot import read_tracks, read_truth
from edgeface.parts import build
from edgeface.pipeline import Pipeline
from edgeface.scenario.scenes import make_scene
from edgeface.seams import Source
from edgeface.source_uri import ScenarioUri, SourceUri, parse_source, unpaced
from edgeface.values import F64, Bool, Frame

OPEN_SHARE = 0.6  # a face of the demo clip counts when so much of it is visible
DEMO = Path(__file__).parent.parent / "demo" / "demo.mp4"
_MOST_BOXES = 5_000_000  # of a scenario's truth
_SHARES = ("HOTA", "DetA", "AssA", "LocA", "IDF1", "IDP", "IDR", "MOTA", "MOTP", "recall", "precision")

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Truth:
    """The true boxes of a film."""

    boxes: Trajectories
    counts: Bool  # [n] False: hidden, neither missed nor, for the box of a track that is on it, false


@dataclass(frozen=True, slots=True)
class Run:
    """What the pipeline published."""

    tracks: Trajectories
    score: F64  # [n]
    frames: int
    looks: int  # frames on which the detector looked


def of_files(truth_path: Path, tracks_path: Path, max_frames: int) -> Report:
    """The report on a tracker's file; `max_frames` 0: all. Raises ConfigError."""
    boxes, tracks = read_truth(truth_path), read_tracks(tracks_path)
    frames = max_frames or max(int(np.max(rows.frame, initial=0)) for rows in (boxes, tracks))
    boxes, tracks = (rows.where(rows.frame <= frames) for rows in (boxes, tracks))
    about = {"edgeface": __version__, "truth": str(truth_path), "tracks": str(tracks_path), "frames": frames}
    return about | figures(_all_count(boxes), tracks)


def of_run(config: Config, truth_path: Path | None, max_frames: int) -> tuple[Report, Truth, Run]:
    """The report on a run of the pipeline, the truth of its frames, and what it published; `max_frames` 0: all.

    The truth is the source's own unless `truth_path` is given. Raises ConfigError, SourceError, EngineError.
    """
    uri = parse_source(config.source)
    if uri.loop or (isinstance(uri, SourceUri) and uri.live):
        raise ConfigError(f"source {config.source!r}: expected one that ends, with the same frames at every run")
    truth = truth_for(uri, max_frames) if truth_path is None else _all_count(read_truth(truth_path))
    with build(msgspec.structs.replace(config, source=unpaced(config.source))) as parts:
        run = follow(parts.source, parts.pipeline, max_frames)
    last = int(np.max(truth.boxes.frame, initial=0))
    if run.frames < last and run.frames != max_frames:
        raise SourceError(f"source {config.source!r}: ended after frame {run.frames}, but its truth goes on to {last}")
    now = truth.boxes.frame <= run.frames
    truth = Truth(truth.boxes.where(now), truth.counts[now])
    about = {
        "edgeface": __version__,
        "source": config.source,
        "truth": None if truth_path is None else str(truth_path),
        "detector": parts.facts["detector"],
        "keyframe_interval": config.tracker.keyframe_interval,
        "frames": run.frames,
        "looks": run.looks,
    }
    return about | figures(truth, run.tracks), truth, run


def truth_for(uri: SourceUri | ScenarioUri, max_frames: int) -> Truth:
    """The truth that a source brings with it; `max_frames` 0: all. Raises ConfigError when it brings none."""
    if isinstance(uri, ScenarioUri):
        return _scenario_truth(uri, min(max_frames or uri.frames, uri.frames))
    if uri.kind == "file" and Path(uri.target) == DEMO:
        return _demo_truth()
    raise ConfigError(f"source {uri.target!r}: its truth is not known; give it with --truth FILE (MOTChallenge text)")


def follow(source: Source, pipeline: Pipeline, max_frames: int) -> Run:
    """All faces that would be published; `max_frames` 0: to the end of the source. Raises SourceError, EngineError."""
    rows: list[tuple[float, ...]] = []
    score: list[float] = []
    frames = looks = 0
    for frame in frames_of(source, max_frames):
        body = pipeline.step(frame)[0][1]
        if pipeline.problem:  # predicted faces would look like a poor tracker
            raise EngineError(f"frame {frame.frame_id}: {pipeline.problem}")
        for face in body["faces"]:
            rows.append((frame.frame_id + 1, face["track_id"], *face["xyxy"]))
            score.append(face["score"])
        frames += 1
        looks += body["keyframe"]
    return Run(trajectories(rows), np.array(score, float), frames, looks)


def frames_of(source: Source, max_frames: int) -> Iterator[Frame]:
    """What there is to read; `max_frames` 0: to the end of the source. Raises SourceError."""
    for _ in range(max_frames) if max_frames else count():
        try:
            frame = source.read(10.0)
        except EndOfStream:
            return
        if frame is None:
            raise SourceError("no frame for 10 s")
        yield frame


def figures(truth: Truth, tracks: Trajectories) -> Report:
    """Counts, then the figures of edgeface.metrics."""
    boxes, counted = without_hidden(truth.boxes, truth.counts, tracks)
    counts = {
        "true_boxes": len(boxes.frame),
        "true_ids": len(np.unique(boxes.track_id)),
        "hidden_boxes": int((~truth.counts).sum()),
        "track_boxes": len(tracks.frame),
        "track_ids": len(np.unique(tracks.track_id)),
        "track_boxes_on_hidden": len(tracks.frame) - len(counted.frame),
    }
    pairs = overlaps(boxes, counted)
    return counts | asdict(hota(pairs)) | asdict(identity(pairs)) | asdict(clear(pairs))


def table(report: Report) -> str:
    """The report as people read it."""
    if "source" in report:
        looks = f"looked at {report['looks']} of {report['frames']} frames"
        what = f"{report['source']}, {report['detector']}, keyframe interval {report['keyframe_interval']}, {looks}"
    else:
        what = f"{report['tracks']}, {report['frames']} frames"
    columns = [(name, max(len(name), 6) + 2) for name in _SHARES]
    return "\n".join(
        [
            f"edgeface {report['edgeface']}: {what}",
            f"truth:  {report['true_boxes']} boxes of {report['true_ids']} faces, "
            f"besides {report['hidden_boxes']} hidden ones",
            f"tracks: {report['track_boxes']} boxes with {report['track_ids']} ids, "
            f"of which {report['track_boxes_on_hidden']} on hidden ones",
            "".join(f"{name:>{width}}" for name, width in columns),
            "".join(f"{report[name.lower()]:>{width}.4f}" for name, width in columns),
            f"{report['id_switches']} id switches, {report['fragmentations']} fragmentations, "
            f"{report['misses']} misses, {report['false_positives']} false positives; "
            f"{report['mostly_tracked']} faces mostly tracked, {report['mostly_lost']} mostly lost",
        ]
    )


def _all_count(boxes: Trajectories) -> Truth:
    return Truth(boxes, np.ones(len(boxes.frame), bool))


def _demo_truth() -> Truth:
    frames = json.loads(DEMO.with_suffix(".json").read_text())["frames"]
    faces = [(number, face) for number, frame in enumerate(frames, 1) for face in frame]
    boxes = trajectories([(number, face["track_id"], *face["xyxy"]) for number, face in faces])
    return Truth(boxes, np.array([face["visible_fraction"] >= OPEN_SHARE for _, face in faces], bool))


def _scenario_truth(uri: ScenarioUri, frames: int) -> Truth:
    """Clipped to the frame, as published boxes are; its faces are those whose centre can be seen."""
    if uri.faces * frames > _MOST_BOXES:
        raise ConfigError(f"{uri.faces} faces on {frames} frames: expected at most {_MOST_BOXES} boxes; fewer frames?")
    scene = make_scene(uri.name, faces=uri.faces, seed=uri.seed, fps=uri.fps, frames=frames)
    limit = np.array([scene.width, scene.height] * 2)
    shown = zip(scene.truth_id, scene.truth_xyxy, strict=True)
    rows = [
        (number, track_id, *box)
        for number, (ids, xyxy) in enumerate(shown, 1)
        for track_id, box in zip(ids.tolist(), np.clip(xyxy, 0, limit).tolist(), strict=True)
    ]
    return _all_count(trajectories(rows))

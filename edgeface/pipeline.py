"""One step a frame: look or predict, then say what is known. `build` is the only place where parts are chosen."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from edgeface import boxes, clustering
from edgeface.config import Config, ScenarioUri, parse_source
from edgeface.decoders import make_decoder
from edgeface.detector import FaceDetector, Merge
from edgeface.errors import ConfigError, OutputError
from edgeface.message import faces_body
from edgeface.model_card import Card, Thresholds, find_card
from edgeface.seams import Detector, Engine, Source, Tracker
from edgeface.tracker import ByteTracker
from edgeface.values import Frame, Tracks

log = logging.getLogger(__name__)

Message = tuple[str, dict[str, Any]]  # topic, body


class KeyframeSchedule:
    """When to look: every `interval`-th frame."""

    def __init__(self, interval: int) -> None:
        self._interval = interval

    def is_due(self, keyframe_age: int) -> bool:
        """`keyframe_age`: frames since the last look, this one included."""
        return keyframe_age >= self._interval


class Pipeline:
    """Frame by frame: faces in, messages out. `problem` says in one line why the detector cannot be trusted now."""

    def __init__(
        self, detector: Detector, tracker: Tracker, schedule: KeyframeSchedule, *, blind_timeout_s: float
    ) -> None:
        """`blind_timeout_s`: faces are not predicted for longer than this while the detector fails."""
        self.detector, self.tracker, self.schedule = detector, tracker, schedule
        self._blind_timeout_ns = round(blind_timeout_s * 1e9)
        self.problem = ""
        self._last: Frame | None = None
        self._looked_ns = 0  # when we looked last
        self._keyframe_age = 0
        self._look_now = True  # at the start, after a failed look, after a gap, and when the picture changes its size
        self._mode = "fixed"

    def step(self, frame: Frame) -> list[Message]:
        """What to publish for `frame`: one `faces` message, then events. Raises EngineError when inference fails."""
        started_ns = time.perf_counter_ns()
        events = self._new_picture_size(frame)
        if self._last is not None and abs(frame.capture_ns - self._last.capture_ns) > self._blind_timeout_ns:
            self._look_now = True  # after a gap: who knows who is there
        self._looked_ns = min(self._looked_ns, frame.capture_ns)  # the clock may step back
        self._keyframe_age += 1
        tracks = None
        if self._look_now or self.schedule.is_due(self._keyframe_age):
            tracks = self._look(frame)
            self._look_now = tracks is None
        keyframe = tracks is not None
        if tracks is not None:
            self._keyframe_age, self._looked_ns = 0, frame.capture_ns
        elif self.problem and frame.capture_ns - self._looked_ns > self._blind_timeout_ns:
            tracks = self.tracker.clear((frame.width, frame.height))
        else:
            tracks = self.tracker.predict(frame.capture_ns)
        looked_ns = time.perf_counter_ns()
        dropped = 0 if self._last is None else max(frame.frame_id - self._last.frame_id - 1, 0)
        self._last = replace(frame, pixels=None)  # the pixels are the source's
        mode = "degraded" if self.problem else "fixed"
        if mode != self._mode:
            events.append(("events", {"event": "mode_changed", "capture_ns": frame.capture_ns, "mode": mode}))
            self._mode = mode
        faces = faces_body(
            frame,
            tracks,
            dropped=dropped,
            keyframe=keyframe,
            keyframe_age=self._keyframe_age,
            mode=mode,
            timing_us={"faces": (looked_ns - started_ns) // 1000},
        )
        return [("faces", faces), *events, *_track_events(tracks, frame.capture_ns)]

    def _look(self, frame: Frame) -> Tracks | None:
        """The tracks after a look; None when the detector's numbers mean nothing: then nobody looked."""
        try:
            detections = self.detector.detect(frame)
        except OutputError as error:
            if not self.problem:  # the first reason stands until it recovers: the numbers may change with every frame
                log.error("%s; faces are only predicted until it recovers", error)
                self.problem = str(error)
            return None
        self.problem = ""
        return self.tracker.update(detections, frame.capture_ns)

    def _new_picture_size(self, frame: Frame) -> list[Message]:
        """When frames change their size, old boxes mean nothing: forget the faces and look at once."""
        last, size = self._last, (frame.width, frame.height)
        if last is not None:
            if size == (last.width, last.height):
                return []
            log.warning("frames are now %dx%d, were %dx%d: faces start anew", *size, last.width, last.height)
        self._look_now = True
        return _track_events(self.tracker.clear(size), frame.capture_ns)


def _track_events(tracks: Tracks, capture_ns: int) -> list[Message]:
    names = [("track_started", tracks.started), ("track_lost", tracks.lost)]
    return [
        ("events", {"event": name, "capture_ns": capture_ns, "track_id": track_id})
        for name, ids in names
        for track_id in ids.tolist()
    ]


@dataclass(frozen=True, slots=True)
class Parts:
    """What `build` has put together. Close it after use."""

    source: Source
    pipeline: Pipeline
    engine: Engine | None  # None: nothing is inferred
    facts: dict[str, str]  # what `status` says: backend, detector, landmarks, precision

    def close(self) -> None:
        try:
            self.source.close()
        finally:
            if self.engine is not None:
                self.engine.close()


def build(config: Config) -> Parts:
    """Choose the parts by the config and put them together."""
    if config.backend not in ("auto", "cpu"):
        raise ConfigError(f"backend {config.backend!r} is not built into this version")
    if config.landmarks != "none":
        raise ConfigError(f"landmarks {config.landmarks!r}: landmarks are not built into this version; expected 'none'")
    uri = parse_source(config.source)
    if isinstance(uri, ScenarioUri):
        from edgeface.scenario import source as scenario

        pipeline = _pipeline(scenario.ScenarioDetector(), Thresholds(), config)
        return Parts(scenario.open_source(uri), pipeline, None, _facts("scenario", "scenario", "none"))
    try:
        from edgeface.cpu.engine import open_engine
        from edgeface.cpu.source import open_source
    except ImportError as error:
        raise ConfigError(f"the cpu backend lacks {error.name or error}: pip install 'edgeface[cpu]'") from error

    card = find_card(config.detector.card, config.engines)
    engine = open_engine(card, config.detector.input_size, threads=config.cpu.threads, spinning=config.cpu.spinning)
    pipeline = _pipeline(make_detector(card, engine, config), card.thresholds, config)
    return Parts(open_source(uri), pipeline, engine, _facts(engine.backend, card.name, engine.precision))


def _pipeline(detector: Detector, thresholds: Thresholds, config: Config) -> Pipeline:
    return Pipeline(
        detector,
        make_tracker(thresholds, config),
        KeyframeSchedule(config.tracker.keyframe_interval),
        blind_timeout_s=config.tracker.lost_timeout_s,
    )


def _facts(backend: str, detector: str, precision: str) -> dict[str, str]:
    return {"backend": backend, "detector": detector, "landmarks": "none", "precision": precision}


def make_detector(card: Card, engine: Engine, config: Config) -> FaceDetector:
    """The detector around an engine, with the configured clustering."""
    merge, score_threshold = _clustering(card, config)
    return FaceDetector(
        engine,
        make_decoder(card, engine.outputs, engine.input_size),
        boxes.letterbox if card.input.resize == "letterbox" else boxes.stretch,
        merge,
        score_threshold=score_threshold,
    )


def _clustering(card: Card, config: Config) -> tuple[Merge, float]:
    """How candidates are merged, and the score from which on a candidate counts."""
    detector = config.detector
    top_k = detector.max_candidates
    match detector.clustering:
        case "nms":  # down to the score that keeps a track alive
            iou_threshold = _either(detector.nms_iou_threshold, card.thresholds.nms_iou)
            merge = partial(clustering.nms, iou_threshold=iou_threshold, top_k=top_k or 400)
            return merge, _scores(card.thresholds, config)[0]
        case "deepstream_dbscan":
            deepstream = detector.deepstream_dbscan
            merge = partial(
                clustering.deepstream_dbscan,
                eps=deepstream.eps,
                min_boxes=deepstream.min_boxes,
                min_score=deepstream.min_score,
                athr=deepstream.athr,
                top_k=top_k or 1200,  # every cell of a 736x416 GridBox
            )
            return merge, deepstream.pre_cluster_threshold
        case "tao_dbscan":  # weak cells add to a cluster's sum
            tao = detector.tao_dbscan
            merge = partial(
                clustering.tao_dbscan,
                eps=tao.eps,
                min_samples=tao.min_samples,
                confidence_threshold=tao.confidence_threshold,
                min_height=tao.min_height,
                top_k=top_k or 1200,
            )
            return merge, tao.coverage_threshold


def make_tracker(thresholds: Thresholds, config: Config) -> ByteTracker:
    """The tracker with the operating point of a detector: what the config says, else its `thresholds`."""
    low, high = _scores(thresholds, config)
    return ByteTracker(
        high_score=high,
        low_score=low,
        new_score=min(high + config.tracker.new_score_margin, (1 + high) / 2),
        min_hits=config.tracker.min_hits,
        lost_timeout_s=config.tracker.lost_timeout_s,
        coast_s=config.tracker.coast_s,
    )


def _scores(thresholds: Thresholds, config: Config) -> tuple[float, float]:
    """The low and the high score threshold."""
    high = _either(config.detector.score_threshold, thresholds.score)
    return min(_either(config.tracker.low_score_threshold, thresholds.low_score), high), high


def _either(setting: float | None, default: float) -> float:
    return default if setting is None else setting

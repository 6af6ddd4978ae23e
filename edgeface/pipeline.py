"""One step a frame: look or predict, then say what is known. `build` is the only place where parts are chosen."""

from __future__ import annotations

import logging
import time
from typing import Any

from edgeface import boxes
from edgeface.config import Config, parse_source
from edgeface.decoders import make_decoder
from edgeface.detector import FaceDetector
from edgeface.errors import ConfigError, OutputError
from edgeface.message import faces_body
from edgeface.model_card import Card, find_card
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

    def __init__(self, detector: Detector, tracker: Tracker, schedule: KeyframeSchedule) -> None:
        self.detector, self.tracker, self.schedule = detector, tracker, schedule
        self.problem = ""
        self._frame_size: tuple[int, int] | None = None
        self._last_frame_id: int | None = None
        self._keyframe_age = 0
        self._look_now = True  # at the start, after a failed look, and when the picture changes its size
        self._mode = "fixed"

    def step(self, frame: Frame) -> list[Message]:
        """What to publish for `frame`: one `faces` message, then events. Raises EngineError when inference fails."""
        started_ns = time.perf_counter_ns()
        events = self._new_picture_size(frame)
        self._keyframe_age += 1
        tracks = None
        if self._look_now or self.schedule.is_due(self._keyframe_age):
            tracks = self._look(frame)
            self._look_now = tracks is None
        keyframe = tracks is not None
        if tracks is None:
            tracks = self.tracker.predict(frame.capture_ns)
        else:
            self._keyframe_age = 0
        looked_ns = time.perf_counter_ns()
        dropped = 0 if self._last_frame_id is None else max(frame.frame_id - self._last_frame_id - 1, 0)
        self._last_frame_id = frame.frame_id
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
            if not self.problem:
                log.error("%s; faces are only predicted until it recovers", error)
            self.problem = str(error)
            return None
        self.problem = ""
        return self.tracker.update(detections, frame.capture_ns)

    def _new_picture_size(self, frame: Frame) -> list[Message]:
        """When frames change their size, old boxes mean nothing: forget the faces and look at once."""
        size, self._frame_size = self._frame_size, (frame.width, frame.height)
        if size is None or size == self._frame_size:
            return []
        log.warning("frames are now %dx%d, were %dx%d: faces start anew", *self._frame_size, *size)
        self._look_now = True
        return _track_events(self.tracker.clear(), frame.capture_ns)


def _track_events(tracks: Tracks, capture_ns: int) -> list[Message]:
    names = [("track_started", tracks.started), ("track_lost", tracks.lost)]
    return [
        ("events", {"event": name, "capture_ns": capture_ns, "track_id": track_id})
        for name, ids in names
        for track_id in ids.tolist()
    ]


def build(config: Config) -> tuple[Source, Engine, Pipeline, Card]:
    """Choose the parts by the config and put them together. Close the source and the engine after use."""
    if config.backend not in ("auto", "cpu"):
        raise ConfigError(f"backend {config.backend!r} is not built into this version")
    from edgeface.cpu.engine import open_engine
    from edgeface.cpu.source import open_source

    uri = parse_source(config.source)
    card = find_card(config.detector.card, config.engines)
    engine = open_engine(card, config.detector.input_size, threads=config.cpu.threads, spinning=config.cpu.spinning)
    schedule = KeyframeSchedule(config.tracker.keyframe_interval)
    pipeline = Pipeline(make_detector(card, engine, config), make_tracker(card, config), schedule)
    source = open_source(uri)
    return source, engine, pipeline, card


def make_detector(card: Card, engine: Engine, config: Config) -> FaceDetector:
    """The detector around an engine; it reports down to the score that keeps a track alive."""
    return FaceDetector(
        engine,
        make_decoder(card, engine.outputs, engine.input_size),
        boxes.letterbox if card.input.resize == "letterbox" else boxes.stretch,
        score_threshold=_scores(card, config)[0],
        nms_iou_threshold=_either(config.detector.nms_iou_threshold, card.thresholds.nms_iou),
        max_candidates=config.detector.max_candidates,
    )


def make_tracker(card: Card, config: Config) -> ByteTracker:
    """The tracker with the card's operating point."""
    low, high = _scores(card, config)
    return ByteTracker(
        high_score=high,
        low_score=low,
        new_score=min(high + config.tracker.new_score_margin, 1.0),
        min_hits=config.tracker.min_hits,
        lost_timeout_s=config.tracker.lost_timeout_s,
    )


def _scores(card: Card, config: Config) -> tuple[float, float]:
    """The low and the high score threshold."""
    high = _either(config.detector.score_threshold, card.thresholds.score)
    return min(_either(config.tracker.low_score_threshold, card.thresholds.low_score), high), high


def _either(setting: float | None, default: float) -> float:
    return default if setting is None else setting

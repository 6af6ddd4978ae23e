"""One step a frame: look or predict, then say what is known."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any

import numpy as np

from edgeface.camera_motion import Spectrum, shift, spectrum
from edgeface.errors import OutputError
from edgeface.holding import LandmarkHold
from edgeface.message import faces_body
from edgeface.schedule import KeyframeSchedule, Situation, moved_share, situation
from edgeface.seams import Detector, Glimpse, Landmarker, Tracker
from edgeface.self_test import SelfTest
from edgeface.signals import FaceSignals
from edgeface.smoothing import FaceSmoother
from edgeface.values import CONFIRMED, F32, U8, Frame, Landmarks, Signals, Tracks

log = logging.getLogger(__name__)

_NO_SIGNALS = Signals()
_NO_LANDMARKS = Landmarks(np.zeros((0, 0, 2), np.float32), np.zeros((0, 0), np.float32))
_STILL = np.zeros(2, np.float32)
_SHORTEST_GAP_NS = 1_000_000_000  # a lost_timeout_s of 0 must not make a gap of every frame

Message = tuple[str, dict[str, Any]]  # topic, body


class Pipeline:
    """Frame by frame: faces in, messages out."""

    def __init__(
        self,
        detector: Detector,
        tracker: Tracker,
        schedule: KeyframeSchedule,
        *,
        blind_timeout_s: float,
        landmarker: Landmarker | None = None,
        hold: LandmarkHold | None = None,
        signals: FaceSignals | None = None,
        smoother: FaceSmoother | None = None,
        glimpse: Glimpse | None = None,
        camera_moves: bool = False,
        self_test: SelfTest | None = None,
    ) -> None:
        """`blind_timeout_s`: faces are not predicted for longer than this while the detector fails. After so long
        without a frame, at least a second, it looks at once.

        `hold` says when landmarks may correct the tracks between looks; without it they never do. `signals` derives
        more from them. `smoother` calms what is published; tracker and schedule do not see it. `glimpse` shows the
        schedule where something moved, and if `camera_moves`, how the whole picture did; without it nothing is known
        of that. What fails the `self_test` is not asked.
        """
        self.detector, self.tracker, self.schedule, self.glimpse = detector, tracker, schedule, glimpse
        self.landmarker, self.signals, self._hold = landmarker, signals, hold
        self._smoother, self._camera_moves = smoother, camera_moves
        self._self_test = self_test or SelfTest([], [], 0)
        self._blind_timeout_ns = round(blind_timeout_s * 1e9)
        self._gap_ns = max(self._blind_timeout_ns, _SHORTEST_GAP_NS)
        self._blind = ""  # why the detector cannot be trusted now, one line
        self._unplaced = ""  # the same of landmarks
        self._last: Frame | None = None
        self._tracks: Tracks | None = None  # of the last frame
        self._seen: U8 | None = None  # the glimpse of the last look
        self._spectrum: Spectrum | None = None  # of the last frame's glimpse
        self._looked_ns = 0  # when we looked last
        self._look_s = 0.0  # how long it took
        self._keyframe_age = 0
        self._doubted = 0  # faces whose landmarks could be trusted before this frame, and no more
        self._look_now = "start"  # why to look whatever the schedule says
        self._mode = schedule.mode(Situation(age=0, age_s=0, look_s=0))

    @property
    def problem(self) -> str:
        """Why what is published cannot be trusted now, in one line; "" while all is well."""
        return self._blind or self._self_test.problem or self._unplaced

    def self_test(self) -> None:
        """Between two frames: test an engine if it is time. Raises EngineError, DeviceError."""
        self._self_test.run_due(keyframe=self._keyframe_age == 0)

    def step(self, frame: Frame) -> list[Message]:
        """What to publish for `frame`: one `faces` message, then events. Raises EngineError when inference fails."""
        started_ns = time.perf_counter_ns()
        events = self._new_picture_size(frame)
        if self._last is not None and abs(frame.capture_ns - self._last.capture_ns) > self._gap_ns:
            self._look_now = "gap"  # who knows who is there
        self._looked_ns = min(self._looked_ns, frame.capture_ns)  # the clock may step back
        self._keyframe_age += 1
        glimpse = self.glimpse(frame) if self.glimpse is not None else None
        camera_velocity = self._follow_camera(frame, glimpse)
        now = self._situation(frame, glimpse)
        why = self._look_now or self.schedule.reason(now)
        tracks = self._look(frame) if why else None
        if tracks is not None:
            self._keyframe_age, self._looked_ns, self._seen, self._look_now = 0, frame.capture_ns, glimpse, ""
        else:
            why = ""
            if self._blind and frame.capture_ns - self._looked_ns > self._blind_timeout_ns:
                tracks = self.tracker.clear((frame.width, frame.height))
            else:
                tracks = self.tracker.predict(frame.capture_ns)
        tracked_ns = time.perf_counter_ns()
        timing_us = {"faces": (tracked_ns - started_ns) // 1000}
        landmarks = _NO_LANDMARKS
        if self.landmarker is not None:
            tracks, landmarks = self._locate(self.landmarker, frame, tracks, looked=why != "")
            timing_us["landmarks"] = (time.perf_counter_ns() - tracked_ns) // 1000
        self._tracks = tracks
        if self._camera_moves:
            tracks = replace(tracks, velocity=tracks.velocity + camera_velocity)  # in the picture
        calm = landmarks
        if self._smoother is not None:
            tracks, xy = self._smoother.smooth(tracks, landmarks.xy, frame.capture_ns)
            calm = replace(landmarks, xy=xy)
        signals = _NO_SIGNALS
        if self.signals is not None:
            derived_ns = time.perf_counter_ns()
            signals = self.signals.derive(frame, tracks, landmarks, calm)
            timing_us["signals"] = (time.perf_counter_ns() - derived_ns) // 1000
        dropped = 0 if self._last is None else max(frame.frame_id - self._last.frame_id - 1, 0)
        self._last = replace(frame, pixels=None)  # the pixels are the source's
        mode = "degraded" if self._blind else self.schedule.mode(now)
        if mode != self._mode:
            events.append(("events", {"event": "mode_changed", "capture_ns": frame.capture_ns, "mode": mode}))
            self._mode = mode
        faces = faces_body(
            frame,
            tracks,
            dropped=dropped,
            keyframe_age=self._keyframe_age,
            keyframe_reason=why,
            mode=mode,
            timing_us=timing_us,
            landmarks=calm,
            signals=signals,
        )
        return [("faces", faces), *events, *_track_events(tracks, frame.capture_ns)]

    def _follow_camera(self, frame: Frame, glimpse: U8 | None) -> F32:
        """Move the faces with the picture when the camera moved; how fast the picture moves, pixels a second [2]."""
        if glimpse is None or not self._camera_moves:
            return _STILL
        before, self._spectrum = self._spectrum, spectrum(glimpse)
        elapsed_ns = frame.capture_ns - self._last.capture_ns if self._last is not None else 0
        if before is None or elapsed_ns <= 0:
            return _STILL
        right, down = shift(before, self._spectrum, glimpse.shape[1])
        moved = np.array([right * frame.width, down * frame.height], np.float32)
        self.tracker.move(*moved.tolist())
        velocity: F32 = moved / np.float32(elapsed_ns / 1e9)
        return velocity

    def _situation(self, frame: Frame, glimpse: U8 | None) -> Situation:
        """What the schedule judges by: the faces of the last frame, and what has moved since the last look."""
        age_s = (frame.capture_ns - self._looked_ns) / 1e9
        if self._tracks is None:
            return Situation(self._keyframe_age, age_s, self._look_s)
        if self.schedule.interval is not None:  # no rule of the table is asked
            faces = len(self._tracks.track_id)
            return Situation(self._keyframe_age, age_s, self._look_s, faces=faces, doubted=self._doubted)
        motion = 0.0
        if glimpse is not None and self._seen is not None and not self._camera_moves:
            motion = moved_share(self._seen, glimpse, self._tracks.xyxy, (frame.width, frame.height))
        return situation(self._keyframe_age, age_s, self._look_s, self._tracks, self._doubted, motion)

    def _look(self, frame: Frame) -> Tracks | None:
        """The tracks after a look; None when the detector's numbers mean nothing: then nobody looked."""
        started_ns = time.perf_counter_ns()
        try:
            if self._self_test.detector_problem:
                raise OutputError(self._self_test.detector_problem)
            detections = self.detector.detect(frame)
        except OutputError as error:
            self._look_now = "retry"
            if not self._blind:  # the first reason stands until it recovers: the numbers may change with every frame
                log.error("%s; faces are only predicted until it recovers", error)
                self._blind = str(error)
            return None
        self._blind = ""
        self._look_s = (time.perf_counter_ns() - started_ns) / 1e9
        return self.tracker.update(detections, frame.capture_ns)

    def _locate(
        self, landmarker: Landmarker, frame: Frame, tracks: Tracks, *, looked: bool
    ) -> tuple[Tracks, Landmarks]:
        """The landmarks of the faces and, between looks, the faces corrected with them; both row by row."""
        self._doubted = 0
        there = (tracks.state == CONFIRMED)[:, None]  # a face that the last look missed may be behind another
        if self._self_test.landmarks_problem:
            there &= False
        landmarks = landmarker.locate(frame, np.where(there, tracks.xyxy, np.float32(np.nan)))
        self._check_landmarks(landmarks)
        if self._hold is None:
            return tracks, landmarks
        if looked:
            self._hold.learn(tracks, landmarks)
            return tracks, landmarks
        trusted, xyxy, self._doubted = self._hold.judge(tracks, landmarks)
        if not trusted.any():
            return tracks, landmarks
        held = self.tracker.hold(tracks.track_id[trusted], xyxy[trusted])
        if len(held.track_id) < len(tracks.track_id):  # a corrected face may prove to have left
            landmarks = landmarks.where(np.isin(tracks.track_id, held.track_id, assume_unique=True))
        return held, landmarks

    def _check_landmarks(self, landmarks: Landmarks) -> None:
        if not landmarks.invalid:
            self._unplaced = ""
        elif not self._unplaced:
            self._unplaced = f"the landmarks of {landmarks.invalid} faces mean nothing (NaN, infinite or absurd)"
            log.error("%s; such faces have none until it recovers", self._unplaced)

    def _new_picture_size(self, frame: Frame) -> list[Message]:
        """When frames change their size, old boxes mean nothing: forget the faces and look at once."""
        last, size = self._last, (frame.width, frame.height)
        if last is not None:
            if size == (last.width, last.height):
                return []
            log.warning("frames are now %dx%d, were %dx%d: faces start anew", *size, last.width, last.height)
        self._look_now, self._spectrum = "start", None
        return _track_events(self.tracker.clear(size), frame.capture_ns)


def _track_events(tracks: Tracks, capture_ns: int) -> list[Message]:
    names = [("track_started", tracks.started), ("track_lost", tracks.lost)]
    return [
        ("events", {"event": name, "capture_ns": capture_ns, "track_id": track_id})
        for name, ids in names
        for track_id in ids.tolist()
    ]

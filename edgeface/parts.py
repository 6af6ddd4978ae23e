"""The parts of a running edgeface, chosen by the configuration and put together here and nowhere else."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from edgeface.config import Config
from edgeface.errors import DeviceLostError
from edgeface.head_pose import Camera
from edgeface.holding import LandmarkHold
from edgeface.model_card import Thresholds
from edgeface.networks import Networks, open_networks, score_thresholds
from edgeface.pipeline import Pipeline
from edgeface.schedule import KeyframeSchedule
from edgeface.seams import Detector, Glimpse, Landmarker, Source
from edgeface.self_test import SelfTest
from edgeface.signals import FaceSignals
from edgeface.smoothing import FaceSmoother
from edgeface.source_uri import ScenarioUri, parse_source
from edgeface.tracker import ByteTracker


@dataclass(frozen=True, slots=True)
class Parts:
    """What `build` has put together. Close it after use."""

    source: Source
    pipeline: Pipeline
    networks: Networks | None  # None: nothing is inferred
    facts: dict[str, str]  # what `status` says: backend, detector, landmarks, precision

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, DeviceLostError):  # to close a source that captures on the GPU could hang
            self.close()

    def close(self) -> None:
        with ExitStack() as stack:
            if self.networks is not None:
                stack.callback(self.networks.close)
            stack.callback(self.source.close)


def build(config: Config) -> Parts:
    """Choose the parts by the config and put them together."""
    uri = parse_source(config.source)
    if isinstance(uri, ScenarioUri):
        from edgeface.scenario import source as scenario

        pipeline = _pipeline(scenario.ScenarioDetector(), Thresholds(), config)  # without pixels, no landmarks
        facts = {"backend": "scenario", "detector": "scenario", "landmarks": "none", "precision": "none"}
        return Parts(scenario.open_source(uri), pipeline, None, facts)
    networks = open_networks(config)
    with ExitStack() as stack:
        stack.callback(networks.close)
        backend = networks.backend
        found_by, located_by, test = networks.detector, networks.landmarker, networks.self_test
        pipeline = _pipeline(found_by, networks.thresholds, config, located_by, backend.glimpse, test)
        source = backend.open_source(uri)
        stack.pop_all()
    return Parts(source, pipeline, networks, networks.facts)


def _pipeline(
    detector: Detector,
    thresholds: Thresholds,
    config: Config,
    landmarker: Landmarker | None = None,
    glimpse: Glimpse | None = None,
    self_test: SelfTest | None = None,
) -> Pipeline:
    schedule, camera_moves = make_schedule(config), config.tracker.camera_moves
    return Pipeline(
        detector,
        make_tracker(thresholds, config),
        schedule,
        blind_timeout_s=config.tracker.lost_timeout_s,
        landmarker=landmarker,
        signals=_signals(config) if landmarker is not None else None,
        hold=LandmarkHold() if landmarker is not None and config.landmarks.hold_tracks else None,
        smoother=FaceSmoother() if config.tracker.smoothing else None,
        glimpse=glimpse if camera_moves or schedule.interval is None else None,
        camera_moves=camera_moves,
        self_test=self_test,
    )


def _signals(config: Config) -> FaceSignals | None:
    landmarks = config.landmarks
    if not (landmarks.pose or landmarks.eyes or landmarks.quality):
        return None
    return FaceSignals(
        pose=landmarks.pose,
        eyes=landmarks.eyes,
        quality=landmarks.quality,
        camera=Camera(*landmarks.camera_matrix) if landmarks.camera_matrix is not None else None,
        horizontal_fov_deg=landmarks.horizontal_fov_deg,
    )


def make_schedule(config: Config) -> KeyframeSchedule:
    """The keyframe schedule."""
    interval, limits = config.tracker.keyframe_interval, config.schedule
    return KeyframeSchedule(
        None if interval == "adaptive" else interval,
        max_age_s=limits.max_age_s,
        idle_age_s=limits.idle_age_s,
        max_uncertainty=limits.max_uncertainty,
        max_travel=limits.max_travel,
        max_motion=limits.max_motion,
        max_detector_share=limits.max_detector_share,
    )


def make_tracker(thresholds: Thresholds, config: Config) -> ByteTracker:
    """The tracker with the operating point of a detector: what the config says, else its `thresholds`."""
    low, high = score_thresholds(thresholds, config)
    return ByteTracker(
        low_score=low,
        high_score=min(high + config.tracker.new_score_margin, (1 + high) / 2),
        min_hits=config.tracker.min_hits,
        lost_timeout_s=config.tracker.lost_timeout_s,
        coast_s=config.tracker.coast_s,
    )

"""The parts of a running edgeface, chosen by the configuration and put together here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from edgeface import boxes, clustering
from edgeface.config import Config
from edgeface.decoders import make_decoder
from edgeface.detector import FaceDetector, Merge
from edgeface.errors import ConfigError
from edgeface.face_crops import RULES
from edgeface.head_pose import Camera
from edgeface.holding import LandmarkHold
from edgeface.landmarks import FaceLandmarker, make_landmark_decoder
from edgeface.model_card import Card, Fpenet, Thresholds, find_card
from edgeface.multiscale import MultiScaleDetector
from edgeface.pipeline import Pipeline
from edgeface.point_sets import NAMED
from edgeface.schedule import KeyframeSchedule
from edgeface.seams import Detector, Engine, Glimpse, Landmarker, Source
from edgeface.signals import FaceSignals
from edgeface.smoothing import FaceSmoother
from edgeface.source_uri import ScenarioUri, parse_source
from edgeface.tracker import ByteTracker


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks of a backend, loaded. Close them after use."""

    detector: Detector
    thresholds: Thresholds  # the detector's operating point
    landmarker: FaceLandmarker | None
    glimpse: Glimpse
    engines: tuple[Engine, ...]  # the detector's first
    facts: dict[str, str]  # what `status` says: backend, detector, landmarks, precision

    def close(self) -> None:
        with ExitStack() as stack:
            for engine in self.engines:
                stack.callback(engine.close)


@dataclass(frozen=True, slots=True)
class Parts:
    """What `build` has put together. Close it after use."""

    source: Source
    pipeline: Pipeline
    networks: Networks | None  # None: nothing is inferred
    facts: dict[str, str]  # what `status` says: backend, detector, landmarks, precision

    def close(self) -> None:
        with ExitStack() as stack:
            if self.networks is not None:
                stack.callback(self.networks.close)
            stack.callback(self.source.close)


def build(config: Config) -> Parts:
    """Choose the parts by the config and put them together."""
    uri = parse_source(config.source)
    if isinstance(uri, ScenarioUri):
        _check_backend(config)
        from edgeface.scenario import source as scenario

        pipeline = _pipeline(scenario.ScenarioDetector(), Thresholds(), config)  # without pixels, no landmarks
        facts = {"backend": "scenario", "detector": "scenario", "landmarks": "none", "precision": "none"}
        return Parts(scenario.open_source(uri), pipeline, None, facts)
    networks = open_networks(config)
    from edgeface.cpu.source import open_source

    pipeline = _pipeline(networks.detector, networks.thresholds, config, networks.landmarker, networks.glimpse)
    return Parts(open_source(uri), pipeline, networks, networks.facts)


def open_networks(config: Config) -> Networks:
    """Load the detector and, unless it is "none", the landmark network. Raises ConfigError, EngineError."""
    _check_backend(config)
    try:
        from edgeface.cpu.crop import glimpse
        from edgeface.cpu.engine import open_engine
    except ImportError as error:
        raise ConfigError(f"the cpu backend lacks {error.name or error}: pip install 'edgeface[cpu]'") from error

    def load(card: Card, size: tuple[int, int] | None) -> Engine:
        return open_engine(card, size, threads=config.cpu.threads, spinning=config.cpu.spinning)

    card = find_card(config.detector.card, config.engines)
    engines = tuple(load(card, size) for size in _input_sizes(card, config))
    detector = _all_looks(card, engines, config)
    facts = {"backend": engines[0].backend, "detector": card.name, "landmarks": "none"}
    facts["precision"] = engines[0].precision
    landmarker = None
    if config.landmarks.card != "none":
        landmark_card = find_card(config.landmarks.card, config.engines)
        landmarker = make_landmarker(landmark_card, load(landmark_card, None), config)
        engines = (*engines, landmarker.engine)
        facts["landmarks"] = landmark_card.name
    return Networks(detector, card.thresholds, landmarker, glimpse, engines, facts)


def _check_backend(config: Config) -> None:
    if config.backend not in ("auto", "cpu"):
        raise ConfigError(f"backend {config.backend!r} is not built into this version")


def _pipeline(
    detector: Detector,
    thresholds: Thresholds,
    config: Config,
    landmarker: Landmarker | None = None,
    glimpse: Glimpse | None = None,
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


def make_landmarker(card: Card, engine: Engine, config: Config) -> FaceLandmarker:
    """The landmarker around an engine. Raises EngineError when its outputs are not what the card says."""
    decode = make_landmark_decoder(card, engine.outputs, engine.input_size)
    assert isinstance(card.decoder, Fpenet)  # make_landmark_decoder has refused others
    if (config.landmarks.pose or config.landmarks.eyes) and card.decoder.points not in NAMED:
        raise ConfigError(f"{card.name}: pose and eyes need {NAMED} points, it has {card.decoder.points}")
    return FaceLandmarker(
        engine,
        decode,
        RULES[card.decoder.border],
        crop_scale=card.decoder.crop_scale,
        points=card.decoder.points,
        pictures=config.landmarks.quality,
    )


def make_detector(card: Card, engine: Engine, config: Config) -> FaceDetector:
    """The detector around an engine, with the configured clustering."""
    merge, score_threshold = _clustering(card, config)
    return FaceDetector(
        engine,
        make_decoder(card, engine.outputs, engine.input_size),
        _whole_frame(card),
        merge,
        score_threshold=score_threshold,
    )


def _input_sizes(card: Card, config: Config) -> list[tuple[int, int]]:
    """Of each look at the whole frame (width, height), the main one first.

    A scale is the longer side; the proportions stay, to multiples of 32, the largest stride there is.
    """
    width, height = config.detector.input_size or (card.input.width, card.input.height)
    longer = max(width, height)

    def scaled(scale: int) -> tuple[int, int]:
        return -(-width * scale // (longer * 32)) * 32, -(-height * scale // (longer * 32)) * 32

    if config.detector.scales is not None:
        return [scaled(scale) for scale in config.detector.scales]
    return [(width, height), *([scaled(card.near_look)] if 0 < card.near_look < longer else [])]


def _whole_frame(card: Card) -> boxes.CropRule:
    return boxes.letterbox if card.input.resize == "letterbox" else boxes.stretch


def _all_looks(card: Card, engines: Sequence[Engine], config: Config) -> Detector:
    """The detector that looks with each engine at the whole frame and with the first one at the tiles."""
    looks = [make_detector(card, engine, config) for engine in engines]
    grid = config.detector.tiles
    count = grid[0] * grid[1]
    if len(looks) == count == 1:
        return looks[0]
    rules = [partial(boxes.tile, fit=_whole_frame(card), grid=grid, index=index) for index in range(count)]
    return MultiScaleDetector(
        looks,
        [looks[0].with_crop(rule) for rule in rules] if count > 1 else [],
        sure_score=score_thresholds(card.thresholds, config)[1],
        in_a_row=config.tracker.min_hits,
    )


def _clustering(card: Card, config: Config) -> tuple[Merge, float]:
    """How candidates are merged, and the score from which on a candidate counts."""
    detector = config.detector
    top_k = detector.max_candidates
    match detector.clustering:
        case "nms":  # down to the score that keeps a track alive
            iou_threshold = _either(detector.nms_iou_threshold, card.thresholds.nms_iou)
            merge = partial(clustering.nms, iou_threshold=iou_threshold, top_k=top_k or 400)
            return merge, score_thresholds(card.thresholds, config)[0]
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
    low, high = score_thresholds(thresholds, config)
    return ByteTracker(
        low_score=low,
        high_score=min(high + config.tracker.new_score_margin, (1 + high) / 2),
        min_hits=config.tracker.min_hits,
        lost_timeout_s=config.tracker.lost_timeout_s,
        coast_s=config.tracker.coast_s,
    )


def score_thresholds(thresholds: Thresholds, config: Config) -> tuple[float, float]:
    """The low and the high score threshold: what the config says, else a detector's `thresholds`."""
    high = _either(config.detector.score_threshold, thresholds.score)
    return min(_either(config.tracker.low_score_threshold, thresholds.low_score), high), high


def _either(setting: float | None, default: float) -> float:
    return default if setting is None else setting

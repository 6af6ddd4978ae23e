"""The parts of a running edgeface, chosen by the configuration and put together here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from edgeface import boxes, clustering
from edgeface.config import Config, ScenarioUri, parse_source
from edgeface.decoders import make_decoder
from edgeface.detector import FaceDetector, Merge
from edgeface.errors import ConfigError
from edgeface.model_card import Card, Thresholds, find_card
from edgeface.multiscale import MultiScaleDetector
from edgeface.pipeline import Pipeline
from edgeface.schedule import KeyframeSchedule
from edgeface.seams import Detector, Engine, Glimpse, Source
from edgeface.smoothing import BoxSmoother
from edgeface.tracker import ByteTracker


@dataclass(frozen=True, slots=True)
class Parts:
    """What `build` has put together. Close it after use."""

    source: Source
    pipeline: Pipeline
    engines: tuple[Engine, ...]  # none: nothing is inferred
    facts: dict[str, str]  # what `status` says: backend, detector, landmarks, precision

    def close(self) -> None:
        with ExitStack() as stack:
            for engine in self.engines:
                stack.callback(engine.close)
            stack.callback(self.source.close)


def build(config: Config) -> Parts:
    """Choose the parts by the config and put them together."""
    if config.backend not in ("auto", "cpu"):
        raise ConfigError(f"backend {config.backend!r} is not built into this version")
    if config.landmarks != "none":
        raise ConfigError(f"landmarks {config.landmarks!r}: landmarks are not built into this version; expected 'none'")
    uri = parse_source(config.source)
    if isinstance(uri, ScenarioUri):
        from edgeface.scenario import source as scenario

        pipeline = _pipeline(scenario.ScenarioDetector(), Thresholds(), None, config)
        return Parts(scenario.open_source(uri), pipeline, (), _facts("scenario", "scenario", "none"))
    try:
        from edgeface.cpu.crop import glimpse
        from edgeface.cpu.engine import open_engine
        from edgeface.cpu.source import open_source
    except ImportError as error:
        raise ConfigError(f"the cpu backend lacks {error.name or error}: pip install 'edgeface[cpu]'") from error

    card = find_card(config.detector.card, config.engines)
    engines = tuple(
        open_engine(card, size, threads=config.cpu.threads, spinning=config.cpu.spinning)
        for size in _input_sizes(card, config)
    )
    pipeline = _pipeline(_all_looks(card, engines, config), card.thresholds, glimpse, config)
    facts = _facts(engines[0].backend, card.name, engines[0].precision)
    return Parts(open_source(uri), pipeline, engines, facts)


def _pipeline(detector: Detector, thresholds: Thresholds, glimpse: Glimpse | None, config: Config) -> Pipeline:
    schedule, camera_moves = make_schedule(config), config.tracker.camera_moves
    return Pipeline(
        detector,
        make_tracker(thresholds, config),
        schedule,
        blind_timeout_s=config.tracker.lost_timeout_s,
        smoother=BoxSmoother() if config.tracker.smoothing else None,
        glimpse=glimpse if camera_moves or schedule.interval is None else None,
        camera_moves=camera_moves,
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


def _facts(backend: str, detector: str, precision: str) -> dict[str, str]:
    return {"backend": backend, "detector": detector, "landmarks": "none", "precision": precision}


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
        sure_score=_scores(card.thresholds, config)[1],
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
        low_score=low,
        high_score=min(high + config.tracker.new_score_margin, (1 + high) / 2),
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

"""The networks of a run, loaded on a backend and wrapped in what reads their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from edgeface import boxes, clustering
from edgeface.backend import Backend, Wanted, open_backend
from edgeface.config import Config
from edgeface.decoders import make_decoder
from edgeface.detector import FaceDetector, Merge, whole_frame
from edgeface.errors import ConfigError
from edgeface.face_crops import RULES
from edgeface.landmarks import FaceLandmarker, make_landmark_decoder
from edgeface.model_card import Card, Fpenet, Thresholds, find_card, input_sizes
from edgeface.multiscale import MultiScaleDetector
from edgeface.point_sets import NAMED
from edgeface.seams import Detector, Engine
from edgeface.self_test import Check, SelfTest


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks, loaded. Close them after use."""

    detector: Detector
    thresholds: Thresholds  # the detector's operating point
    landmarker: FaceLandmarker | None
    backend: Backend  # its engines: the detector's first
    facts: dict[str, str]  # what `status` says: backend, detector, landmarks, precision
    self_test: SelfTest | None = None  # None: no engine is tested while it runs

    def close(self) -> None:
        self.backend.close()


def open_networks(config: Config) -> Networks:
    """Load the detector and, unless that is "none", the landmarker. Raises ConfigError, EngineError and DeviceError."""
    card = find_card(config.detector.card, config.engines)
    landmark_card = None if config.landmarks.card == "none" else find_card(config.landmarks.card, config.engines)
    sizes = input_sizes(card, config.detector.input_size, config.detector.scales)
    wanted: list[tuple[Card, tuple[int, int] | None]] = [(card, size) for size in sizes]
    if landmark_card is not None:
        wanted.append((landmark_card, None))
    backend = open_backend(wanted, config)
    with ExitStack() as stack:
        stack.callback(backend.close)
        engines = backend.engines
        landmarker = None
        if landmark_card is not None:
            landmarker = make_landmarker(landmark_card, engines[-1], config)
            engines = engines[:-1]
        detector = _all_looks(card, engines, config)
        facts = {"backend": engines[0].backend, "precision": engines[0].precision, "detector": card.name}
        facts |= {"landmarks": landmark_card.name if landmark_card is not None else "none"} | backend.facts
        stack.pop_all()
    return Networks(detector, card.thresholds, landmarker, backend, facts, _self_test(wanted, backend))


def _self_test(networks: Wanted, backend: Backend) -> SelfTest | None:
    checks: dict[str, list[tuple[str, Check]]] = {"detect": [], "landmarks": []}
    for (card, _), engine, check in zip(networks, backend.engines, backend.checks, strict=False):  # the CPU has none
        if check is not None:
            width, height = engine.input_size
            checks[card.task].append((f"{card.name} {width}x{height}", check))
    if not backend.self_test_s or not any(checks.values()):
        return None
    return SelfTest(checks["detect"], checks["landmarks"], backend.self_test_s)


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
        whole_frame(card),
        merge,
        score_threshold=score_threshold,
    )


def _all_looks(card: Card, engines: Sequence[Engine], config: Config) -> Detector:
    """The detector that looks with each engine at the whole frame and with the first one at the tiles."""
    looks = [make_detector(card, engine, config) for engine in engines]
    grid = config.detector.tiles
    count = grid[0] * grid[1]
    if len(looks) == count == 1:
        return looks[0]
    rules = [partial(boxes.tile, fit=whole_frame(card), grid=grid, index=index) for index in range(count)]
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


def score_thresholds(thresholds: Thresholds, config: Config) -> tuple[float, float]:
    """The low and the high score threshold: what the config says, else a detector's `thresholds`."""
    high = _either(config.detector.score_threshold, thresholds.score)
    return min(_either(config.tracker.low_score_threshold, thresholds.low_score), high), high


def _either(setting: float | None, default: float) -> float:
    return default if setting is None else setting

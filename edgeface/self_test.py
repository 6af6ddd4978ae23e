"""The self-test: what an engine finds in the golden picture, held against what the ONNX found there on the CPU."""

from __future__ import annotations

import hashlib
import io
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from edgeface import boxes, clustering
from edgeface.decoders import make_decoder
from edgeface.detector import FaceDetector, whole_frame
from edgeface.errors import OutputError
from edgeface.face_crops import RULES
from edgeface.landmarks import FaceLandmarker, make_landmark_decoder
from edgeface.model_card import Card, Fpenet
from edgeface.passport import Golden, Precision
from edgeface.seams import Engine
from edgeface.values import F32, Frame

log = logging.getLogger(__name__)

Check = Callable[[], str]  # why the engine cannot be trusted, one line; "" when it can. Raises DeviceError

_PICTURE = Path(__file__).parent / "demo" / "golden.npz"  # made by scripts/make_golden_picture.py
# by how much scores and boxes of a detector, and landmarks, may be off; the latter two in sizes of the face. INT8 with
# scales from noise is off by 0.09, 0.13 and 0.009
_TOLERANCES: dict[Precision, tuple[float, float, float]] = {
    "fp32": (0.03, 0.04, 0.01),
    "fp16": (0.08, 0.06, 0.02),
    "int8": (0.25, 0.20, 0.06),
}
_RETRY_NS = 1_000_000_000  # a check that has failed is made again
_PATIENCE_NS = 1_000_000_000  # how long one that is due waits for a frame without a look


@cache
def golden_picture() -> tuple[Frame, F32, str]:
    """The picture, boxes [n, 4] of faces in it for landmarks, and the sha256 that it is known by."""
    data = _PICTURE.read_bytes()
    with np.load(io.BytesIO(data)) as arrays:
        bgr, xyxy = arrays["bgr"], arrays["xyxy"]
    frame = Frame(0, 0, bgr.shape[1], bgr.shape[0], "bgr8", bgr)
    return frame, xyxy, hashlib.sha256(data).hexdigest()


def make_golden(card: Card, engine: Engine, precision: Precision) -> Golden | None:
    """The expected answer for engines of `precision`, by an engine that is right; None if it sees no face for certain.

    Raises EngineError.
    """
    _, _, sha256 = golden_picture()
    score_off, boxes_off, points_off = _TOLERANCES[precision]
    rows = _finder(card, engine)()
    if card.task == "detect":  # a score that is off must not take it below the threshold
        rows = rows[(rows[:, 0] >= card.thresholds.score) & (rows[:, 0] - score_off >= card.thresholds.low_score)]
    if not len(rows):
        return None
    faces = tuple(tuple(round(value, 3) for value in row) for row in rows.tolist())
    place_off = boxes_off if card.task == "detect" else points_off
    return Golden(picture=sha256, faces=faces, score_tolerance=score_off, place_tolerance=place_off)


def make_check(card: Card, engine: Engine, golden: Golden | None) -> Check | None:
    """The self-test of an engine; None where its passport holds no answer to this picture. Raises EngineError."""
    _, _, sha256 = golden_picture()
    if golden is None or golden.picture != sha256:
        log.info("%s: no self-test, its passport has no answer to the golden picture; build it anew for one", card.name)
        return None
    find, differ = _finder(card, engine), _faces_differ if card.task == "detect" else _points_differ
    expected = np.array(golden.faces, np.float32)

    def check() -> str:
        try:
            found = find()
        except OutputError as error:
            return f"expected {len(expected)} faces in the golden picture, found that {error}"
        if found.shape[1] != expected.shape[1] or (card.task == "landmarks" and len(found) != len(expected)):
            return f"expected {expected.shape} numbers, found {found.shape}: the card has changed"
        return differ(found, expected, golden, card.thresholds.score)

    return check


def _finder(card: Card, engine: Engine) -> Callable[[], F32]:
    """What gives the engine's answer, a row a face: score, box and keypoints of a detector; points of landmarks."""
    frame, xyxy, _ = golden_picture()
    if isinstance(card.decoder, Fpenet):
        decode = make_landmark_decoder(card, engine.outputs, engine.input_size)
        rule, scale = RULES[card.decoder.border], card.decoder.crop_scale
        landmarker = FaceLandmarker(engine, decode, rule, crop_scale=scale, points=card.decoder.points)

        def points() -> F32:
            found = landmarker.locate(frame, xyxy)
            if found.invalid:
                raise OutputError(f"the landmarks of {found.invalid} faces mean nothing (NaN, infinite or absurd)")
            return found.xy.reshape(len(xyxy), -1)

        return points
    detector = FaceDetector(
        engine,
        make_decoder(card, engine.outputs, engine.input_size),
        whole_frame(card),
        partial(clustering.nms, iou_threshold=card.thresholds.nms_iou, top_k=400),
        score_threshold=card.thresholds.low_score,
    )

    def faces() -> F32:
        found = detector.detect(frame)
        keypoints = found.keypoints.reshape(len(found.score), 2 * found.keypoints.shape[1])
        return np.concatenate([found.score[:, None], found.xyxy, keypoints], axis=1)

    return faces


def _faces_differ(found: F32, expected: F32, golden: Golden, score_threshold: float) -> str:
    """Each face must be found, its place and score within the tolerances; nobody else may be seen for certain."""
    overlap = boxes.iou(expected[:, 1:5], found[:, 1:5])
    for row, near in zip(expected, overlap, strict=True):
        what = f"expected a face of score {row[0]:.2f} at {_box(row)} in the golden picture, found"
        if not near.any():
            return f"{what} none there, {len(found)} elsewhere"
        best = found[near.argmax()]
        size = np.sqrt((row[3] - row[1]) * (row[4] - row[2]))
        off = np.abs(best[1:] - row[1:]).max() / size
        if not (off <= golden.place_tolerance and abs(best[0] - row[0]) <= golden.score_tolerance):
            return f"{what} one of {best[0]:.2f} at {_box(best)}, {off:.0%} of its size off"
    for face in found[(found[:, 0] > score_threshold + golden.score_tolerance) & ~overlap.any(axis=0)]:
        return f"expected {len(expected)} faces in the golden picture, found one more of {face[0]:.2f} at {_box(face)}"
    return ""


def _points_differ(found: F32, expected: F32, golden: Golden, score_threshold: float) -> str:
    """The points of each face must lie, in the mean, within the tolerance."""
    _, xyxy, _ = golden_picture()
    size = np.sqrt((xyxy[:, 2:] - xyxy[:, :2]).prod(axis=1))
    apart = np.linalg.norm((found - expected).reshape(len(expected), -1, 2), axis=2).mean(axis=1) / size
    worst = int(apart.argmax())
    if apart[worst] <= golden.place_tolerance:
        return ""
    return (
        f"expected the landmarks of face {worst + 1} in the golden picture within {golden.place_tolerance:.0%} of its "
        f"size, found them {apart[worst]:.0%} off"
    )


def _box(row: F32) -> str:
    return f"[{', '.join(f'{value:.0f}' for value in row[1:5].tolist())}]"


@dataclass(slots=True)
class _Engine:
    name: str
    check: Check
    due_ns: int
    problem: str = ""


class SelfTest:
    """The checks of a detector's engines and of a landmarker's, made again every `period_s`, and what they say now."""

    def __init__(
        self,
        detector: Sequence[tuple[str, Check]],
        landmarks: Sequence[tuple[str, Check]],
        period_s: float,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Each check with its engine's name. They have passed just now."""
        self._clock, self._period_ns = clock, round(period_s * 1e9)
        due_ns = clock() + self._period_ns
        self._detector = [_Engine(name, check, due_ns) for name, check in detector]
        self._landmarks = [_Engine(name, check, due_ns) for name, check in landmarks]

    @property
    def problem(self) -> str:
        """Why what is published cannot be trusted now, in one line; "" when it can."""
        return self.detector_problem or self.landmarks_problem

    @property
    def detector_problem(self) -> str:
        """Why what the detector finds cannot be trusted now; "" when it can."""
        return next((one.problem for one in self._detector if one.problem), "")

    @property
    def landmarks_problem(self) -> str:
        """The same of landmarks."""
        return next((one.problem for one in self._landmarks if one.problem), "")

    def run_due(self, *, keyframe: bool) -> None:
        """Between two frames: make the check that is due, one at most. It costs one inference, as a look does.

        So it waits, but not for long, until the frame before was not looked at. Raises DeviceError.
        """
        now_ns = self._clock() - (_PATIENCE_NS if keyframe else 0)
        first = min((*self._detector, *self._landmarks), key=lambda one: one.due_ns, default=None)
        if first is not None and now_ns >= first.due_ns:
            self._run(first)

    def _run(self, one: _Engine) -> None:
        why = one.check()
        one.due_ns = self._clock() + (_RETRY_NS if why else self._period_ns)
        if why and not one.problem:  # the first reason stands until it passes: the numbers may change
            one.problem = f"{one.name} fails its self-test: {why}"
            log.error("%s; nothing is published from it until it passes", one.problem)
        elif not why and one.problem:
            one.problem = ""
            log.warning("%s passes its self-test again", one.name)

"""What FP32 and a form of a network, or its engine, say on the same pictures, through the pipeline's own parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime as ort

from edgeface import landmark_metrics
from edgeface.backend import open_backend
from edgeface.build.accuracy_report import Report
from edgeface.build.agreement import DetectionFigures, LandmarkFigures, detection_figures, landmark_figures
from edgeface.build.forms import TensorNoise, load_form, open_form, tensor_noise, worst_tensors
from edgeface.build.shown import Shown
from edgeface.config import Config, load_config
from edgeface.cpu.engine import OnnxEngine, open_engine
from edgeface.errors import EngineError, OutputError
from edgeface.evaluate.labels import LabelledPicture
from edgeface.model_card import Card, onnx_path
from edgeface.networks import make_detector, make_landmarker, open_networks, score_thresholds
from edgeface.passport import Precision, Size
from edgeface.point_sets import NAMED
from edgeface.seams import Detector, Engine
from edgeface.values import F32, F64, Detections, Frame, Landmarks

_FEW = 8  # pictures
_INPUTS = 4  # of the network, on which its tensors are compared
_CROPS = 8  # of them in one
_NOBODY = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 0, 2), np.float32))


@dataclass(frozen=True, slots=True)
class Answers:
    """What a network says on all pictures: one of the two lists has an entry for each."""

    detections: list[Detections]
    landmarks: list[Landmarks]
    unusable: int  # pictures on which its numbers mean nothing


class Gate:
    """FP32's answers on some pictures, with which forms and engines are compared.

    Landmarks are placed on the faces that the default detector finds. Raises ConfigError, SourceError, EngineError.
    """

    def __init__(self, card: Card, input_size: Size, shown: Shown, *, engines: Sequence[str] = ()) -> None:
        self._card, self._size, self._shown, self._engines = card, input_size, shown, tuple(engines)
        self._threads = min(os.cpu_count() or 1, 8)
        self._faces = self._find_faces() if card.task == "landmarks" else []
        with closing(open_engine(card, input_size, threads=self._threads, spinning=False)) as engine:
            self._inputs = _Inputs(engine)
            self._full = self._ask(engine)
        self._inputs.crop = None
        if self._full.unusable:
            raise EngineError(
                f"{card.name}: FP32's own numbers mean nothing on {self._full.unusable} pictures of {shown.name}"
            )

    def of_form(
        self, path: Path, precision: Precision, *, kept: frozenset[str] = frozenset(), tensors: bool = True
    ) -> Report:
        """The form at `path`, on ONNX Runtime's CPU; `tensors`: say which are noisiest, too. Raises EngineError."""
        with closing(open_form(path, self._card, self._size, self._threads)) as engine:
            answers = self._ask(engine)
        worst = worst_tensors(self.noise(path)) if tensors else ()
        return self._report(answers, precision, path.name, f"onnxruntime {ort.__version__}", worst, kept)

    def few(self) -> Gate:
        """The same on a few of the pictures."""
        pictures = len(self._full.detections) or len(self._full.landmarks)
        return Gate(self._card, self._size, self._shown.every(-(-pictures // _FEW)), engines=self._engines)

    def noise(self, path: Path) -> list[TensorNoise]:
        """The tensors of the form at `path` that differ from FP32's. Raises EngineError."""
        return tensor_noise(load_form(onnx_path(self._card)), load_form(path), self._inputs.tensors)

    def of_engine(self, folder: Path, name: str, precision: Precision, dla_core: int | None) -> Report:
        """The engine of this name in `folder`, on the GPU. Raises ConfigError, EngineError, DeviceError."""
        card = msgspec.structs.replace(self._card, folders=(str(folder), *self._card.folders))
        config = load_config(None, {"backend": "cuda", "cuda": {"precision": precision, "dla_core": dla_core}})
        with closing(open_backend([(card, self._size)], config)) as backend:
            answers = self._ask(backend.engines[0])
        return self._report(answers, precision, name, "cuda")

    def _report(
        self,
        answers: Answers,
        precision: Precision,
        form: str,
        runs_on: str,
        worst: tuple[TensorNoise, ...] = (),
        kept: frozenset[str] = frozenset(),
    ) -> Report:
        pictures = len(answers.detections) or len(answers.landmarks)
        return Report(
            card=self._card.name,
            input_size=self._size,
            precision=precision,
            form=form,
            runs_on=runs_on,
            shown=self._shown.name,
            pictures=pictures,
            unusable=answers.unusable,
            figures=self._figures(answers),
            worst=worst,
            kept=tuple(sorted(kept)),
        )

    def _figures(self, answers: Answers) -> DetectionFigures | LandmarkFigures:
        labels = self._shown.labels
        if self._card.task == "detect":
            truth = None if labels is None else [_true_boxes(one) for one in labels]
            threshold = score_thresholds(self._card.thresholds, Config())[1]
            return detection_figures(self._full.detections, answers.detections, score_threshold=threshold, truth=truth)
        points = None
        if labels is not None and _comparable(labels[0].xy.shape[1], self._full.landmarks[0].xy.shape[1]):
            count = min(labels[0].xy.shape[1], self._full.landmarks[0].xy.shape[1])
            points = [_true_points(one, faces)[:, :count] for one, faces in zip(labels, self._faces, strict=True)]
        return landmark_figures(self._full.landmarks, answers.landmarks, truth=points)

    def _ask(self, engine: Engine) -> Answers:
        """Show the pictures to an engine in the parts that the pipeline has for it."""
        if self._card.task == "detect":
            detections, unusable = _detect(make_detector(self._card, engine, Config()), self._shown.frames())
            return Answers(detections, [], unusable)
        landmarker = make_landmarker(self._card, engine, Config())
        pairs = zip(self._shown.frames(), self._faces, strict=True)
        return Answers([], [landmarker.locate(frame, faces) for frame, faces in pairs], 0)

    def _find_faces(self) -> list[F32]:
        """Boxes [n, 4] of each picture."""
        config = load_config(None, {"backend": "cpu", "landmarks": {"card": "none"}, "engines": list(self._engines)})
        with closing(open_networks(config)) as networks:
            least = score_thresholds(networks.thresholds, config)[1]
            found, _ = _detect(networks.detector, self._shown.frames())
        return [one.xyxy[one.score >= least] for one in found]


class _Inputs:
    """Remembers a few of the tensors that an engine's network is given, spread over all pictures."""

    def __init__(self, engine: OnnxEngine) -> None:
        self.tensors: list[F32] = []
        self._count, self._step = 0, 1
        self.crop: Callable[[Frame, F32], F32] | None = engine.crop
        engine.crop = self  # type: ignore[assignment]  # as a bench does

    def __call__(self, frame: Frame, crops: F32) -> F32:
        assert self.crop is not None
        tensor = self.crop(frame, crops)
        if self._count % self._step == 0:
            self.tensors.append(tensor[:_CROPS].copy())
            if len(self.tensors) > _INPUTS:
                self.tensors, self._step = self.tensors[::2], 2 * self._step
        self._count += 1
        return tensor


def _detect(detector: Detector, frames: Iterator[Frame]) -> tuple[list[Detections], int]:
    """The faces of each picture, and on how many the network's numbers mean nothing: nobody is seen there."""
    found, unusable = [], 0
    for frame in frames:
        try:
            found.append(detector.detect(frame))
        except OutputError:
            found.append(_NOBODY)
            unusable += 1
    return found, unusable


def _comparable(labelled: int, network: int) -> bool:
    return labelled == network or {labelled, network} <= set(NAMED)


def _true_boxes(picture: LabelledPicture) -> F64:
    """The labels' own boxes; where there is none, one as a detector would put it."""
    without = np.isnan(picture.xyxy).any(axis=1, keepdims=True)
    return np.where(without, landmark_metrics.detector_like(picture.xy), picture.xyxy)


def _true_points(picture: LabelledPicture, faces: F32) -> F64:
    """The true points [n, N, 2] of the faces that were found [n, 4]; NaN: not labelled."""
    xy: F64 = np.full((len(faces), *picture.xy.shape[1:]), np.nan)
    which = landmark_metrics.matches(landmark_metrics.detector_like(picture.xy), faces.astype(float))
    xy[which[which >= 0]] = picture.xy[which >= 0]
    return xy

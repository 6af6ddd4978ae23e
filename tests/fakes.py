"""Stand-ins for the parts of the pipeline, for tests only."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeface.errors import EndOfStream, OutputError
from edgeface.head_pose import quaternions
from edgeface.passport import Passport, Tensor
from edgeface.tracker import ByteTracker
from edgeface.values import CONFIRMED, DETECTOR, F64, Detections, Frame, Landmarks, Tracks

Box = tuple[float, float, float, float]
SHAPE = np.array([(0.3, 0.35), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.6, 0.75), (0.05, 0.5)])  # of points, in a box


def frame(number: int = 0, width: int = 640, height: int = 360, pixels: Any = None) -> Frame:
    return Frame(number, number * 33_333_333, width, height, "bgr8", pixels)


def detections(*boxes: tuple[float, float, float, float], score: float = 0.9) -> Detections:
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    keypoints = np.repeat(xyxy[:, None, :2], 5, axis=1)
    return Detections(xyxy, np.full(len(xyxy), score, np.float32), keypoints)


def tracker(**changes: float) -> ByteTracker:
    """A tracker with the settings that tests reckon with."""
    usual = {"high_score": 0.6, "low_score": 0.1, "min_hits": 2, "lost_timeout_s": 1.0}
    return ByteTracker(**(usual | changes))


def tracks(*boxes: Box, ids: Sequence[int] | None = None, source: int = DETECTOR) -> Tracks:
    """Faces at rest."""
    count = len(boxes)
    return Tracks(
        track_id=np.array(range(1, count + 1) if ids is None else ids, np.int64),
        state=np.full(count, CONFIRMED, np.uint8),
        score=np.full(count, 0.9, np.float32),
        xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        velocity=np.zeros((count, 2), np.float32),
        centre_std=np.ones(count, np.float32),
        source=np.full(count, source, np.uint8),
        age_ns=np.zeros(count, np.int64),
        track_age_ns=np.zeros(count, np.int64),
        keypoints=np.zeros((count, 0, 2), np.float32),
        started=np.zeros(0, np.int64),
        lost=np.zeros(0, np.int64),
        tentative=0,
    )


def landmarks(xyxy: np.ndarray, score: float = 0.8) -> Landmarks:
    """Points of the same shape in every box [n, 4]."""
    xy = xyxy[:, None, :2] + SHAPE * (xyxy[:, None, 2:] - xyxy[:, None, :2])
    return Landmarks(xy.astype(np.float32), np.full(xy.shape[:2], score, np.float32))


def turned(yaw: float, pitch: float = 0, roll: float = 0) -> F64:
    """q [1, 4] of a head, by the matrices of edgeface.head_pose."""
    a, b, c = np.radians([-yaw, -pitch, roll])
    y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return quaternions((y @ x @ z)[None])


def passport(engine: bytes, **changes: Any) -> Passport:
    """Of an engine for the card of conftest.make_card, built on an Orin with TensorRT 10.3.0.30."""
    usual = {
        "schema": 1,
        "card": "net",
        "engine_sha256": hashlib.sha256(engine).hexdigest(),
        "engine_bytes": len(engine),
        "onnx_sha256": "0" * 64,
        "built_from_sha256": "0" * 64,
        "tensorrt": "10.3.0",
        "plan_version": (10, 3, 0, 30),
        "compute_capability": "8.7",
        "device": "Orin",
        "platform": "aarch64, R36 (release), REVISION: 4.3",
        "precision": "fp16",
        "int8_source": "",
        "inputs": (Tensor("input", (1, 3, 64, 64), "float32"),),
        "outputs": (),
        "batch": (1, 1, 1),
        "input_size": (64, 64),
        "dla_core": None,
        "workspace_mb": 1024,
        "flags": ("FP16",),
        "date": "2026-01-01T00:00:00+00:00",
    }
    return Passport(**(usual | changes))


def faces(messages: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """The `faces` message of a step."""
    assert messages[0][0] == "faces"
    return messages[0][1]


def events(messages: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """The events of a step."""
    return [body for topic, body in messages if topic == "events"]


class FakeSource:
    """Gives the frames it was made with; None stands for a time-out."""

    live = False
    waiting = False
    expected_hz = 30.0

    def __init__(self, frames: Iterable[Frame | None]) -> None:
        self._frames = iter(frames)
        self.problem = ""
        self.closed = False

    def read(self, timeout_s: float) -> Frame | None:
        for item in self._frames:
            return item
        raise EndOfStream("the frames are used up")

    def close(self) -> None:
        self.closed = True


class FakeEngine:
    """Gives fixed outputs and remembers the crops."""

    backend, precision = "fake", "fp32"

    def __init__(self, outputs: dict[str, np.ndarray], input_size: tuple[int, int]) -> None:
        self.input_size = input_size
        self._outputs = outputs
        self.outputs = {name: value.shape for name, value in outputs.items()}
        self.crops: np.ndarray | None = None
        self.closed = False

    def infer(self, frame: Frame, crops: np.ndarray) -> dict[str, np.ndarray]:
        self.crops = crops
        return self._outputs

    def pictures(self) -> np.ndarray:
        """Each as grey as its crop's row says."""
        width, height = self.input_size
        rows = np.arange(0 if self.crops is None else len(self.crops), dtype=np.float32)
        return np.tile(rows[:, None, None], (1, height, width))

    def close(self) -> None:
        self.closed = True


class FakeDetector:
    """Sees what it was told to, call by call; the last answer repeats. None: the outputs mean nothing."""

    def __init__(self, *answers: Detections | None) -> None:
        self._answers = list(answers)
        self.looks: list[int] = []

    def detect(self, frame: Frame) -> Detections:
        self.looks.append(frame.frame_id)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is None:
            raise OutputError("7 numbers are NaN")
        return answer


class FakeLandmarker:
    """Places the same points in every box, whatever the picture shows; `change` makes others of them."""

    def __init__(self, change: Callable[[Frame, Landmarks], Landmarks] | None = None) -> None:
        self._change = change
        self.asked: list[np.ndarray] = []  # the boxes, call by call

    def locate(self, frame: Frame, xyxy: np.ndarray) -> Landmarks:
        self.asked.append(xyxy)
        found = landmarks(xyxy)
        return found if self._change is None else self._change(frame, found)


class FakePublisher:
    """Keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.served = 0

    def send(self, topic: str, body: dict[str, Any]) -> int:
        self.sent.append((topic, body))
        return 0

    def bodies(self, topic: str) -> list[dict[str, Any]]:
        return [body for name, body in self.sent if name == topic]

    def serve(self) -> None:
        self.served += 1

    def close(self) -> None:
        pass


def fake_jetson_utils(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put the stand-in in the place of jetson_utils, fresh, and return it."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "fake_gpu")
    monkeypatch.delitem(sys.modules, "jetson_utils", raising=False)
    module = importlib.import_module("jetson_utils")
    del sys.modules["jetson_utils"]
    monkeypatch.setitem(sys.modules, "jetson_utils", module)  # until the test is over
    return module

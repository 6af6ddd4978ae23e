"""Stand-ins for the parts of the pipeline, for tests only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from edgeface.errors import EndOfStream, OutputError
from edgeface.tracker import ByteTracker
from edgeface.values import Detections, Frame


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

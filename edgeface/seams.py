"""The seams of the pipeline: what a part must offer to be put in the place of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from edgeface.values import F32, I64, U8, Candidates, Detections, Frame, Landmarks, Tracks


class Source(Protocol):
    """Where frames come from."""

    live: bool  # True: a camera, its frames are born when they are captured; False: a file
    expected_hz: float  # nominal rate; 0 when unknown
    problem: str  # why a live source gives nothing now, one line; "" while all is well

    @property
    def waiting(self) -> bool:
        """No frame now is no hang: a file's is not due yet, or a camera is being opened again."""
        ...

    def read(self, timeout_s: float) -> Frame | None:
        """The newest frame not read yet, or None after `timeout_s` seconds without one.

        The pixels stay valid until the next read. Raises EndOfStream when a file has ended and SourceError when
        it cannot be read; a live source tries again and says why in `problem`, until it raises CameraError: it needs a
        reset from outside.
        """
        ...

    def close(self) -> None: ...


class Engine(Protocol):
    """A loaded network that runs on crops of a frame."""

    input_size: tuple[int, int]  # width, height of the input in pixels
    outputs: Mapping[str, tuple[int, ...]]  # name -> shape for one crop
    backend: str
    precision: str  # "fp32", "fp16", "int8"

    def infer(self, frame: Frame, crops: F32) -> Mapping[str, NDArray[Any]]:
        """Raw outputs for `crops` [n, 4] (xyxy in frame pixels, may reach outside the frame: padding).

        The arrays' first axis is the crop, unless the network has no batch axis. They stay valid until the next
        call. Raises EngineError.
        """
        ...

    def pictures(self) -> F32:
        """The crops as the network saw them at the last call [n, height, width]: grey, 0..255; valid until the next."""
        ...

    def close(self) -> None: ...


class Glimpse(Protocol):
    """Frame -> a small grey picture of it."""

    def __call__(self, frame: Frame) -> U8:
        """Grey levels [rows, columns], the same number of cells for every frame; the caller's to keep."""
        ...


class Decoder(Protocol):
    """Raw outputs -> boxes in pixels of the network's input. Never raises on any numbers."""

    def __call__(self, outputs: Mapping[str, NDArray[Any]], score_threshold: float) -> Candidates: ...


class Detector(Protocol):
    """Frame -> faces."""

    def detect(self, frame: Frame) -> Detections:
        """Faces in frame pixels. Raises OutputError when the network's numbers mean nothing."""
        ...


class Landmarker(Protocol):
    """Frame and boxes -> landmarks."""

    def locate(self, frame: Frame, xyxy: F32) -> Landmarks:
        """The landmarks of the faces in boxes [n, 4], frame pixels, row by row. Raises EngineError."""
        ...


class Tracker(Protocol):
    """Faces -> the same faces over time. Looking and not looking are two methods."""

    def update(self, detections: Detections, capture_ns: int) -> Tracks:
        """We looked at `capture_ns` (CLOCK_MONOTONIC) and saw `detections`, maybe none."""
        ...

    def predict(self, capture_ns: int) -> Tracks:
        """We did not look: where the known faces should be at `capture_ns`."""
        ...

    def hold(self, track_id: I64, xyxy: F32) -> Tracks:
        """After a prediction: these faces were seen by their landmarks alone, in boxes [n, 4], frame pixels."""
        ...

    def move(self, right: float, down: float) -> None:
        """The camera has moved: what is in the picture lies so many pixels further now, by that alone."""
        ...

    def clear(self, frame_size: tuple[int, int]) -> Tracks:
        """Forget all faces; their ids are in `lost`. Frames are of this size (width, height) from now on."""
        ...


class Publisher(Protocol):
    """The bus."""

    def send(self, topic: str, body: dict[str, Any]) -> int:
        """Send one message; the publish time (CLOCK_MONOTONIC ns). Never blocks, never raises for a slow reader."""
        ...

    def serve(self) -> None:
        """Give late joiners the last status. Call it a few times a second."""
        ...

    def close(self) -> None: ...

"""What flows through the pipeline: frozen dataclasses of plain arrays, one row a face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

TENTATIVE, CONFIRMED, LOST = 0, 1, 2
DETECTOR, LANDMARKS, PREDICTED = 0, 1, 2  # where a face's box comes from


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a source. `pixels` is opaque outside the backend that made it."""

    frame_id: int  # the source's counter, frames it lost included
    capture_ns: int  # CLOCK_MONOTONIC
    width: int
    height: int
    format: str  # "bgr8", ...
    pixels: Any
    capture_clock: str = "dequeue"  # "pts" or "dequeue": where capture_ns comes from


@dataclass(frozen=True, slots=True)
class Candidates:
    """Decoded boxes before suppression, in pixels of the network's input."""

    crop: I64  # [n] which crop of the batch
    xyxy: F32  # [n, 4]
    score: F32  # [n] 0..1
    keypoints: F32  # [n, k, 2]; k = 0 when the network has none
    invalid: int = 0  # scores and boxes that mean nothing: NaN, infinite, absurd


@dataclass(frozen=True, slots=True)
class Detections:
    """Faces found on one frame, best first."""

    xyxy: F32  # [n, 4] frame pixels, not clipped
    score: F32  # [n] 0..1
    keypoints: F32  # [n, k, 2] frame pixels; k = 0 when the network has none


@dataclass(frozen=True, slots=True)
class Tracks:
    """The faces being followed, at one instant. Arrays are the caller's to keep."""

    track_id: I64  # [n] never reused
    state: U8  # [n] CONFIRMED or LOST
    score: F32  # [n] of the last measurement
    xyxy: F32  # [n, 4] frame pixels, not clipped
    velocity: F32  # [n, 2] pixels/s of the box centre
    centre_std: F32  # [n] standard deviation of the box centre along each axis, pixels
    source: U8  # [n] DETECTOR or LANDMARKS: measured on this frame; PREDICTED
    age_ns: I64  # [n] since last measured
    track_age_ns: I64  # [n] since first seen
    keypoints: F32  # [n, k, 2] frame pixels, NaN where not measured on this frame
    started: I64  # [s] ids that appear for the first time
    lost: I64  # [l] ids that are given up for good
    tentative: int  # how many more were seen, not often enough yet


@dataclass(frozen=True, slots=True)
class Landmarks:
    """The landmarks of faces; NaN for a face that has none."""

    xy: F32  # [n, N, 2] frame pixels
    score: F32  # [n, N] the network's own confidences; what they are worth differs from network to network
    invalid: int = 0  # faces for which the network's numbers meant nothing

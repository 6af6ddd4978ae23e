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
    grey: F32 | None = None  # [n, h, w] 0..255: the crops that the network saw, when they were asked for

    def where(self, keep: Bool) -> Landmarks:
        """The rows `keep` [n]."""
        return Landmarks(self.xy[keep], self.score[keep], self.invalid, None if self.grey is None else self.grey[keep])


@dataclass(frozen=True, slots=True)
class HeadPoses:
    """How n heads are turned and where they are, as edgeface.head_pose says; NaN where it cannot be told."""

    q: F32  # [n, 4] x, y, z, w; w >= 0
    angles: F32  # [n, 3] yaw, pitch, roll, degrees
    position: F32  # [n, 3] metres from the camera to between the eyes
    error: F32  # [n] rms distance of the points from the fitted head's, over that of its outer eye corners


@dataclass(frozen=True, slots=True)
class Quality:
    """One row a face; nothing is rated: what is good enough is for the subscriber to say."""

    size_px: F32  # [n] square root of the box's area
    blur: F32  # [n] 0 sharp .. 1 blurred, see edgeface.quality.blur
    brightness: F32  # [n] mean grey level, 0 black .. 1 white
    clipped: F32  # [n] share of pixels, 0..1, that are black or white
    landmark_score: F32  # [n] mean of the landmarks'
    yaw: F32  # [n] degrees, of the head's pose
    outside: F32  # [n] share of the box, 0..1, that lies outside the frame


@dataclass(frozen=True, slots=True)
class Signals:
    """What is derived from landmarks, one row a face; None: not asked for."""

    poses: HeadPoses | None = None
    openness: F32 | None = None  # [n, 2] of the person's right and left eye, 0 closed .. 1 open, NaN: cannot be told
    quality: Quality | None = None

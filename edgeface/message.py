"""The wire schema and its encoder: topics, field names, and msgpack both ways.

Two ZeroMQ frames a message: [topic][one msgpack map with string keys]. Readers ignore keys they do not know; keys are
only ever added within a schema version. This module needs nothing but msgpack, because subscribers import it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    from edgeface.values import F32, Frame, Landmarks, Signals, Tracks

SCHEMA = 1
QUALITIES = ("size_px", "blur", "brightness", "clipped", "landmark_score", "yaw", "outside")
SOURCES = ("detector", "landmarks", "predicted")  # by values.DETECTOR, LANDMARKS, PREDICTED
TOPICS = ("faces", "status", "events")
STATES = ("starting", "ready", "degraded", "camera_lost", "stopping", "stopped")
MAX_MESSAGE_BYTES = 1 << 20  # what a reader accepts: far above 100 faces with 104 landmarks


def topic_name(camera: str, topic: str) -> str:
    """`edgeface/1/<camera>/<topic>/`; the last slash matters, because ZeroMQ subscribes to prefixes."""
    return f"edgeface/{SCHEMA}/{camera}/{topic}/"


def default_endpoint(camera: str, runtime_directory: str = "") -> str:
    """Where a camera's messages are: below the service's runtime directory, or in /tmp when started by hand."""
    return f"ipc://{runtime_directory}/{camera}.ipc" if runtime_directory else f"ipc:///tmp/edgeface-{camera}.ipc"


def encode(body: dict[str, Any]) -> bytes:
    """The message's payload: one msgpack map."""
    return bytes(msgpack.packb(body))


def decode(payload: bytes) -> dict[str, Any]:
    """The map in a payload. Raises ValueError for anything that is not one message of this schema."""
    if len(payload) > MAX_MESSAGE_BYTES:
        raise ValueError(f"message of {len(payload)} bytes; expected at most {MAX_MESSAGE_BYTES}")
    try:
        body = msgpack.unpackb(payload, strict_map_key=True)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"not a msgpack message: {error}") from error
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise ValueError(f"expected a map with schema {SCHEMA}, found {type(body).__name__}")
    return body


def _signals(signals: Signals, row: int) -> dict[str, Any]:
    """What is known of pose, eyes and quality of one face; what cannot be told is left out."""
    said: dict[str, Any] = {}
    if signals.poses is not None and not math.isnan(signals.poses.error[row]):
        said["pose"] = dict(zip(("yaw", "pitch", "roll"), signals.poses.angles[row].tolist(), strict=True)) | {
            "q": signals.poses.q[row].tolist(),
            "position_m": signals.poses.position[row].tolist(),
            "error": float(signals.poses.error[row]),
        }
    if signals.openness is not None:
        eyes = _known(zip(("right", "left"), signals.openness[row].tolist(), strict=True))
        if eyes:
            said["eyes"] = eyes
    if signals.quality is not None:
        said["quality"] = _known((name, float(getattr(signals.quality, name)[row])) for name in QUALITIES)
    return said


def _known(numbers: Iterable[tuple[str, float]]) -> dict[str, float]:
    return {name: number for name, number in numbers if not math.isnan(number)}


def _floats(numbers: F32) -> bytes:
    return numbers.astype("<f4").tobytes()


def landmark_points(landmarks: dict[str, Any]) -> list[tuple[float, float]]:
    """The points (x, y) in a face's `landmarks`, frame pixels. Raises ValueError when they are not what they should be.

    With NumPy the same is `numpy.frombuffer(landmarks["xy"], "<f4").reshape(-1, 2)`.
    """
    return list(struct.iter_unpack("<2f", _numbers(landmarks, "xy", 8)))


def landmark_scores(landmarks: dict[str, Any]) -> list[float]:
    """The scores in a face's `landmarks`. Raises ValueError when they are not what they should be."""
    return [number for (number,) in struct.iter_unpack("<f", _numbers(landmarks, "score", 4))]


def _numbers(landmarks: object, key: str, size: int) -> bytes:
    """The bytes at `key`, `size` for each of n points."""
    if isinstance(landmarks, dict):
        found, count = landmarks.get(key), landmarks.get("n")
        if isinstance(found, bytes) and isinstance(count, int) and len(found) == count * size:
            return found
    raise ValueError(f"expected landmarks with {key} of {size} bytes for each of n points")


def faces_body(
    frame: Frame,
    tracks: Tracks,
    *,
    dropped: int,
    keyframe_age: int,
    keyframe_reason: str,
    mode: str,
    timing_us: dict[str, int],
    landmarks: Landmarks,
    signals: Signals,
) -> dict[str, Any]:
    """The body of a `faces` message, without what the publisher adds (camera, run_id, seq, publish time).

    Boxes are clipped to the frame; a face whose box lies wholly outside is left out.
    """
    width, height = frame.width, frame.height
    faces = []
    for row, (x1, y1, x2, y2) in enumerate(tracks.xyxy.tolist()):
        box = [max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))]
        if box[0] >= box[2] or box[1] >= box[3]:
            continue
        face = {
            "track_id": int(tracks.track_id[row]),
            "score": float(tracks.score[row]),
            "xyxy": box,
            "velocity": tracks.velocity[row].tolist(),
            "source": SOURCES[tracks.source[row]],
            "age_ms": round(int(tracks.age_ns[row]) / 1e6),
            "track_age_ms": round(int(tracks.track_age_ns[row]) / 1e6),
        }
        keypoints = tracks.keypoints[row].tolist()
        if keypoints and not math.isnan(keypoints[0][0]):
            face["keypoints"] = keypoints
        if landmarks.xy.size and not math.isnan(landmarks.xy[row, 0, 0]):
            xy, score = landmarks.xy[row], landmarks.score[row]
            face["landmarks"] = {"n": len(score), "xy": _floats(xy), "score": _floats(score)}
            face |= _signals(signals, row)
        faces.append(face)
    return {
        "frame_id": frame.frame_id,
        "width": width,
        "height": height,
        "capture_ns": frame.capture_ns,
        "capture_clock": frame.capture_clock,
        "dropped": dropped,
        "keyframe": keyframe_reason != "",
        "keyframe_age": keyframe_age,
        "keyframe_reason": keyframe_reason,
        "mode": mode,
        "timing_us": timing_us,
        "faces": faces,
    }

"""What `tracker.camera_moves` is worth: the bundled clip as it is, and moved as by a hand, with it and without it.

    python scripts/measure_camera_motion.py

Prints the table of docs/tracking.md. The hand moves the picture by sines of 0.4 to 4.1 Hz, 2.4 px a frame of 640 (RMS);
the truth moves with it. Every picture is looked at once, and each run of the pipeline is given what was found.
"""

from __future__ import annotations

import cv2
import numpy as np

from edgeface.config import load_config
from edgeface.errors import EndOfStream
from edgeface.evaluate.tracking import Truth, figures, follow, frames_of, truth_for
from edgeface.metrics import Trajectories
from edgeface.parts import build
from edgeface.seams import Detector
from edgeface.source_uri import parse_source
from edgeface.values import F64, Detections, Frame

INTERVALS = (1, 3, 5, 10)
_SINES = ((0.4, 25), (1.1, 9), (2.3, 5), (4.1, 2.5))  # Hz and pixels to the side; half as far up and down


class Found:
    """Gives what was found on each frame before."""

    def __init__(self, found: list[Detections]) -> None:
        self._found = found

    def detect(self, frame: Frame) -> Detections:
        return self._found[frame.frame_id]


class Clip:
    """A source of frames in memory."""

    live, waiting, problem, expected_hz = False, False, "", 30.0

    def __init__(self, frames: list[Frame]) -> None:
        self._frames = iter(frames)

    def read(self, timeout_s: float) -> Frame:
        for frame in self._frames:
            return frame
        raise EndOfStream("the clip has ended")

    def close(self) -> None: ...


def main() -> None:
    still = pictures()
    random = np.random.default_rng(5)
    time_s = np.arange(len(still)) / 30
    way = np.zeros((len(still), 2))
    for axis, share in ((0, 1.0), (1, 0.5)):
        for rate, reach in _SINES:
            way[:, axis] += share * reach * np.sin(2 * np.pi * (rate * time_s + random.random()))
    columns = [column for frames, by in ((moved(still, way), way), (still, 0 * way)) for column in measure(frames, by)]
    print("| look at every | moved clip: HOTA, IDF1 | with `camera_moves` | still clip: HOTA, IDF1 | with |")
    print("|---|---|---|---|---|")
    for row, interval in enumerate(INTERVALS):
        cells = [f"{column[row][0]:.3f}, {column[row][1]:.3f}" for column in columns]
        print("|", " | ".join([str(interval), *cells]), "|")


def pictures() -> list[Frame]:
    """The bundled clip's frames."""
    with build(load_config(None, {"source": "demo:?pace=0"})) as parts:
        return list(frames_of(parts.source, 0))


def moved(frames: list[Frame], way: F64) -> list[Frame]:
    """The frames with their pictures `way` [n, 2] pixels further; what comes in is mirrored."""
    shaken = []
    for frame, (x, y) in zip(frames, way.tolist(), strict=True):
        shift = np.array([[1, 0, x], [0, 1, y]], float)
        picture = cv2.warpAffine(frame.pixels, shift, (frame.width, frame.height), borderMode=cv2.BORDER_REFLECT)
        shaken.append(Frame(frame.frame_id, frame.capture_ns, frame.width, frame.height, frame.format, picture))
    return shaken


def measure(frames: list[Frame], way: F64) -> list[list[tuple[float, float]]]:
    """HOTA and IDF1 for each interval, without camera_moves and with it."""
    with build(load_config(None, {})) as parts:
        detector: Detector = Found([parts.pipeline.detector.detect(frame) for frame in frames])
    known = truth_for(parse_source("demo:"), 0)
    xyxy = known.boxes.xyxy + np.tile(way, 2)[known.boxes.frame - 1]
    truth = Truth(Trajectories(known.boxes.frame, known.boxes.track_id, xyxy), known.counts)
    columns = []
    for camera_moves in (False, True):
        column = []
        for interval in INTERVALS:
            tracker = {"keyframe_interval": interval, "camera_moves": camera_moves}
            with build(load_config(None, {"tracker": tracker, "landmarks": {"card": "none"}})) as parts:
                parts.pipeline.detector = detector
                report = figures(truth, follow(Clip(frames), parts.pipeline, 0).tracks)
            column.append((report["hota"], report["idf1"]))
        columns.append(column)
    return columns


if __name__ == "__main__":
    main()

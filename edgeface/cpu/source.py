"""Frames through OpenCV: files and pictures in step with the reader, cameras and streams through a grab thread."""

from __future__ import annotations

import glob
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeface.errors import ConfigError, SourceError, one_line
from edgeface.pacing import Film, PacedSource
from edgeface.seams import Source
from edgeface.source_uri import SourceUri, camera_problem, existing_file, without_password
from edgeface.values import Frame

log = logging.getLogger(__name__)

Picture = NDArray[Any]  # what OpenCV hands over

_FORMATS = {(): "gray8", (3,): "bgr8", (4,): "bgra8"}  # by the shape of a pixel
_OPEN_TIMEOUT_MS, _READ_TIMEOUT_MS = 5000, 5000
_RETRY_S = (0.5, 1.0, 2.0, 5.0)  # pauses between attempts to open a live source; the last one repeats
_CSI_RETRY_S = (5.0, 20.0, 60.0)  # one launch in a hundred breaks the camera service of some releases
_FLIPS = {
    "none": 0,
    "counterclockwise": 1,
    "rotate-180": 2,
    "clockwise": 3,
    "horizontal": 4,
    "vertical": 6,
}  # nvvidconv
_LOST_SHARE = 0.9  # a file that ends before this share of its declared time is damaged
_HANG_NS = 15_000_000_000  # a driver that does not return for so long hangs


def open_source(uri: SourceUri) -> Source:
    """The source that `uri` names. Files must be readable now; a live source may come later."""
    match uri.kind:
        case "file":
            return PacedSource(_film(uri), loop=uri.loop, pace=uri.pace)
        case "pictures":
            return PacedSource(_pictures(uri), loop=uri.loop, pace=uri.pace)
        case _:
            return LiveSource(lambda: _open_live(uri), _CSI_RETRY_S if uri.kind == "csi" else _RETRY_S)


def _film(uri: SourceUri) -> Film:
    """A video file. Raises ConfigError when there is none, SourceError when no frame can be read."""
    path = existing_file(uri.target)
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise SourceError(f"{path}: not a video that OpenCV can read (damaged, cut off or of an unknown kind)")
    own_fps = _plausible_rate(capture.get(cv2.CAP_PROP_FPS)) or 30.0
    declared_s = capture.get(cv2.CAP_PROP_FRAME_COUNT) / own_fps

    def frames() -> Iterator[Frame]:
        capture.open(str(path))
        count, time_s, first_s = 0, -1 / own_fps, 0.0
        while True:
            good, picture = capture.read()
            if not good:
                break
            stamp_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
            first_s = stamp_s if count == 0 else first_s
            # a file without stamps, or with some that step back, goes on at its nominal rate
            time_s = stamp_s - first_s if stamp_s - first_s > time_s else time_s + 1 / own_fps
            yield _frame(picture, count, round((count / uri.fps if uri.fps else time_s) * 1e9), "pts", str(path))
            count += 1
        if count == 0 or time_s + 1 / own_fps < declared_s * _LOST_SHARE:
            raise SourceError(f"{path}: ended after {time_s:.1f} of {declared_s:.1f} s: damaged or cut off")

    return Film(uri.target, uri.fps or own_fps, frames, capture.release)


def _pictures(uri: SourceUri) -> Film:
    """The pictures of a glob pattern, by name. One that cannot be read is said and passed over."""
    pattern = str(Path(uri.target).expanduser())
    paths = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (absolute patterns)
    if not paths:
        raise ConfigError(f"{pattern}: no such picture")
    fps = uri.fps or 30.0

    def frames() -> Iterator[Frame]:
        count = 0
        for path in paths:
            picture = read_picture(path)
            if picture is None:
                log.warning("%s: not a picture that OpenCV can read; passed over", path)
                continue
            yield _frame(picture, count, round(count / fps * 1e9), "pts", path)
            count += 1
        if count == 0:
            raise SourceError(f"{pattern}: none of {len(paths)} files is a picture that OpenCV can read")

    return Film(uri.target, fps, frames)


def read_picture(path: str) -> Picture | None:
    """The picture in that file as 8-bit BGR, turned as its EXIF says; None when OpenCV cannot read it."""
    try:
        path.encode()  # OpenCV ends the program at a name that is not UTF-8
        return cv2.imread(path, cv2.IMREAD_COLOR)
    except (UnicodeEncodeError, cv2.error):  # the latter: a size beyond OpenCV's limit
        return None


def _frame(picture: Picture, number: int, time_ns: int, clock: str, origin: str) -> Frame:
    """The frame around what OpenCV has read: as a rule BGR, from some infrared cameras grey, maybe with alpha.

    Raises SourceError for other pixels (raw 16-bit, YUV), naming their `origin`.
    """
    if picture.shape[2:] == (1,):
        picture = picture[..., 0]
    pixel_format = _FORMATS.get(picture.shape[2:])
    if pixel_format is None or picture.dtype != np.uint8:
        raise SourceError(
            f"{origin}: expected pixels of 8-bit grey, BGR or BGRA, found {picture.dtype} {list(picture.shape)}; "
            "set another pixel format or convert them"
        )
    height, width = picture.shape[:2]
    return Frame(number, time_ns, width, height, pixel_format, picture, clock)


class LiveSource:
    """A camera or a network stream: always its newest frame; older ones are overwritten and show as a gap in frame_id.

    A thread grabs, because OpenCV has no "newest frame". When the source is away the thread opens it again, ever more
    slowly, and `problem` says why.
    """

    live = True

    def __init__(self, open_capture: Callable[[], Any], retry_s: Sequence[float] = _RETRY_S) -> None:
        self._busy_since_ns = time.monotonic_ns()  # when the driver was called last
        self.problem = "the camera has not given a frame yet"
        self.expected_hz = 0.0
        self._open, self._retry_s = open_capture, retry_s
        self._mailbox: Frame | None = None
        self._frame_id = 0
        self._arrived = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._grab, name="grab", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> bool:
        """The camera is away and being opened again; False when the driver hangs."""
        hangs = time.monotonic_ns() - self._busy_since_ns > _HANG_NS
        return bool(self.problem) and self._thread.is_alive() and not hangs

    def read(self, timeout_s: float) -> Frame | None:
        """The newest frame not read yet, or None after `timeout_s`."""
        with self._arrived:
            if self._mailbox is None:
                self._arrived.wait(timeout_s)
            frame, self._mailbox = self._mailbox, None
        return frame

    def close(self) -> None:
        self._closing.set()
        self._thread.join(0.5)  # a driver that hangs must not keep the process: the thread is a daemon

    def _grab(self) -> None:
        attempt = 0
        while not self._closing.is_set():
            try:
                self._busy_since_ns = time.monotonic_ns()
                capture = self._open()
                self.expected_hz = _plausible_rate(capture.get(cv2.CAP_PROP_FPS))
                try:
                    while not self._closing.is_set() and self._grab_one(capture):
                        attempt = 0
                finally:
                    capture.release()
                problem = "the camera has stopped giving frames"
            except Exception as error:  # noqa: BLE001 (whatever killed this thread would lose the camera for ever)
                problem = one_line(error) or type(error).__name__
            if not self._closing.is_set():
                self.problem = problem
                self._closing.wait(self._retry_s[min(attempt, len(self._retry_s) - 1)])
                attempt += 1

    def _grab_one(self, capture: Any) -> bool:
        self._busy_since_ns = time.monotonic_ns()
        if not capture.grab():
            return False
        capture_ns = time.monotonic_ns()
        good, picture = capture.retrieve()
        self._frame_id += 1
        if good:  # a frame that does not decode counts as lost
            frame = _frame(picture, self._frame_id, capture_ns, "dequeue", "the camera")
            with self._arrived:
                self._mailbox = frame
                self.problem = ""
                self._arrived.notify()
        return True


def _open_live(uri: SourceUri) -> Any:
    """An open capture. Raises SourceError saying why there is none."""
    name = without_password(uri.target)
    if uri.kind == "camera":
        problem = camera_problem(uri.target)
        if problem:
            raise SourceError(problem)
        capture = cv2.VideoCapture(uri.target, cv2.CAP_V4L2)
    elif uri.kind == "stream":
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT_MS]
        capture = cv2.VideoCapture(uri.target, cv2.CAP_FFMPEG, limits)
    else:
        name = f"csi://{uri.target}" if uri.kind == "csi" else "the GStreamer pipeline"
        if not re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()):
            raise SourceError(f"{name}: this OpenCV is built without GStreamer: pip's is, JetPack's is not")
        capture = cv2.VideoCapture(_csi_pipeline(uri) if uri.kind == "csi" else uri.target, cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise SourceError(f"{name}: cannot be opened")
    if uri.kind == "camera":
        _ask_for(uri, capture)
    return capture


def _ask_for(uri: SourceUri, capture: Any) -> None:
    """Set the size and rate that `uri` asks for. What the camera gives instead is logged: the nearest it has."""
    wanted = {
        cv2.CAP_PROP_FRAME_WIDTH: uri.width,
        cv2.CAP_PROP_FRAME_HEIGHT: uri.height,
        cv2.CAP_PROP_FPS: uri.fps,
    }
    for key, value in wanted.items():
        if value:
            capture.set(key, value)
    given = {key: capture.get(key) for key in wanted}
    if any(value and round(given[key]) != value for key, value in wanted.items()):
        asked, found = ("{:g} x {:g} at {:g}/s".format(*values.values()) for values in (wanted, given))
        log.warning("%s: asked for %s, it gives %s (0: not said)", uri.target, asked, found)


def _csi_pipeline(uri: SourceUri) -> str:
    """A csi camera's pipeline; only its newest frame waits."""
    size = f"width={uri.width or 1280},height={uri.height or 720},framerate={uri.fps or 30:.0f}/1"
    return (
        f"nvarguscamerasrc sensor-id={uri.target} ! video/x-raw(memory:NVMM),format=NV12,{size}"
        f" ! nvvidconv flip-method={_FLIPS[uri.flip]} ! video/x-raw,format=BGRx"
        " ! videoconvert ! video/x-raw,format=BGR ! appsink drop=1 max-buffers=1"
    )


def _plausible_rate(fps: float) -> float:
    return fps if 0.1 <= fps <= 1000 else 0.0

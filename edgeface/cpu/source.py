"""Frames through OpenCV: files and pictures in step with the reader, cameras and streams through a grab thread."""

from __future__ import annotations

import glob
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# OpenCV reads these when it is loaded; our own errors say what happened, in one line
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")

import cv2
from numpy.typing import NDArray

from edgeface.config import SourceUri
from edgeface.errors import ConfigError, EndOfStream, SourceError
from edgeface.seams import Source
from edgeface.values import Frame

log = logging.getLogger(__name__)

Picture = NDArray[Any]  # [height, width, 3] 8-bit, blue first

_OPEN_TIMEOUT_MS, _READ_TIMEOUT_MS = 5000, 5000
_RETRY_S = (0.5, 1.0, 2.0, 5.0)  # pauses between attempts to open a live source; the last one repeats
_LOST_SHARE = 0.9  # a file that ends before this share of its declared frames is damaged


def open_source(uri: SourceUri) -> Source:
    """The source that `uri` names. Files must be readable now; a live source may come later."""
    match uri.kind:
        case "file":
            return PacedSource(_film(uri), uri)
        case "pictures":
            return PacedSource(_pictures(uri), uri)
        case _:
            return LiveSource(lambda: _open_live(uri))


class PacedSource:
    """A file or pictures: every frame in order, none dropped, the same stamps at every run.

    Paced (the default), a frame comes when its time has come; when the reader is late, the film waits for it. Its
    capture time is the moment it was due. Unpaced, it comes at once and its capture time is the film's own time.
    """

    live = False
    problem = ""

    def __init__(self, film: Film, uri: SourceUri) -> None:
        self._film, self._uri = film, uri
        self.expected_hz = uri.fps or film.fps
        self._period_ns = round(1e9 / self.expected_hz)
        self._frames = film.frames()
        self._picture: Picture | None = (
            self._take()
        )  # the first one now: a file that cannot be read is refused at the start
        self._frame_id = 0
        self._due_ns = time.monotonic_ns()

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, or None when it is not due within `timeout_s`. Raises EndOfStream, SourceError."""
        if self._picture is None:
            self._picture = self._take()
        if self._uri.pace:
            late_ns = time.monotonic_ns() - self._due_ns
            if late_ns < 0:
                time.sleep(min(-late_ns / 1e9, timeout_s))
                if -late_ns / 1e9 > timeout_s:
                    return None
            elif late_ns > self._period_ns:
                self._due_ns += late_ns  # the reader is too slow: the film waits for it
        picture, self._picture = self._picture, None
        height, width = picture.shape[:2]
        frame = Frame(self._frame_id, self._due_ns, width, height, "bgr8", picture, "pts")
        self._due_ns += self._period_ns
        self._frame_id += 1
        return frame

    def close(self) -> None:
        self._film.close()

    def _take(self) -> Picture:
        picture = next(self._frames, None)
        if picture is None and self._uri.loop:
            self._frames = self._film.frames()
            picture = next(self._frames, None)
        if picture is None:
            raise EndOfStream(f"{self._uri.target} has ended")
        return picture


class Film:
    """Pictures in order: `frames()` begins anew each time; `fps` is their own rate."""

    def __init__(self, frames: Callable[[], Iterator[Picture]], fps: float, close: Callable[[], None]) -> None:
        self.frames, self.fps, self.close = frames, fps, close


def _film(uri: SourceUri) -> Film:
    """A video file. Raises ConfigError when there is none, SourceError when no frame can be read."""
    path = Path(uri.target).expanduser()
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise SourceError(f"{path}: not a video that OpenCV can read (damaged, cut off or of an unknown kind)")
    fps, declared = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)

    def frames() -> Iterator[Picture]:
        capture.open(str(path))
        count = 0
        while True:
            good, picture = capture.read()
            if not good:
                break
            count += 1
            yield picture
        if count == 0 or count < declared * _LOST_SHARE:
            raise SourceError(f"{path}: ended after {count} of {declared:.0f} frames: damaged or cut off")

    return Film(frames, fps if 0.1 <= fps <= 1000 else 30.0, capture.release)


def _pictures(uri: SourceUri) -> Film:
    """The pictures of a glob pattern, by name. One that cannot be read is said and passed over."""
    pattern = str(Path(uri.target).expanduser())
    paths = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (absolute patterns)
    if not paths:
        raise ConfigError(f"{pattern}: no such picture")

    def frames() -> Iterator[Picture]:
        count = 0
        for path in paths:
            picture = cv2.imread(path, cv2.IMREAD_COLOR)
            if picture is None:
                log.warning("%s: not a picture that OpenCV can read; passed over", path)
                continue
            count += 1
            yield picture
        if count == 0:
            raise SourceError(f"{pattern}: none of {len(paths)} files is a picture that OpenCV can read")

    return Film(frames, 30.0, lambda: None)


class LiveSource:
    """A camera or a network stream: always its newest frame; older ones are overwritten and show as a gap in frame_id.

    A thread grabs, because OpenCV has no "newest frame". When the source is away the thread opens it again, ever more
    slowly, and `problem` says why.
    """

    live = True

    def __init__(self, open_capture: Callable[[], Any]) -> None:
        self.problem = "the camera has not given a frame yet"
        self.expected_hz = 0.0
        self._open = open_capture
        self._mailbox: Frame | None = None
        self._frame_id = 0
        self._arrived = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._grab, name="grab", daemon=True)
        self._thread.start()

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
                capture = self._open()
                self.expected_hz = _plausible_rate(capture.get(cv2.CAP_PROP_FPS))
                try:
                    while not self._closing.is_set() and self._grab_one(capture):
                        attempt = 0
                finally:
                    capture.release()
                problem = "the camera has stopped giving frames"
            except (OSError, cv2.error, SourceError) as error:
                problem = " ".join(str(error).split())
            if not self._closing.is_set():
                self.problem = problem
                self._closing.wait(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
                attempt += 1

    def _grab_one(self, capture: Any) -> bool:
        if not capture.grab():
            return False
        capture_ns = time.monotonic_ns()
        good, picture = capture.retrieve()
        self._frame_id += 1
        if good:  # a frame that does not decode counts as lost
            height, width = picture.shape[:2]
            with self._arrived:
                self._mailbox = Frame(self._frame_id, capture_ns, width, height, "bgr8", picture)
                self.problem = ""
                self._arrived.notify()
        return True


def _open_live(uri: SourceUri) -> Any:
    """An open capture. Raises SourceError saying why there is none."""
    if uri.kind == "camera":
        if not Path(uri.target).exists():
            raise SourceError(f"{uri.target}: no such camera")
        if not os.access(uri.target, os.R_OK | os.W_OK):
            raise SourceError(f"{uri.target}: no permission; add the user to the group 'video'")
        capture = cv2.VideoCapture(uri.target, cv2.CAP_V4L2)
    else:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _READ_TIMEOUT_MS]
        capture = cv2.VideoCapture(uri.target, cv2.CAP_FFMPEG, limits)
    if not capture.isOpened():
        raise SourceError(f"{_without_password(uri.target)}: cannot be opened")
    return capture


def _plausible_rate(fps: float) -> float:
    return fps if 0.1 <= fps <= 1000 else 0.0


def _without_password(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"

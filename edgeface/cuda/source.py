"""Frames through jetson-utils: csi and V4L2 cameras, RTSP streams and films, captured into mapped memory."""

from __future__ import annotations

import logging
import time
from typing import Any

from edgeface.cuda import jetson
from edgeface.cuda.picture import BT601, BT709, FORMATS
from edgeface.cuda.pts import PtsClock
from edgeface.errors import CameraError, ConfigError, EndOfStream, SourceError, one_line
from edgeface.seams import Source
from edgeface.source_uri import SourceUri, without_password
from edgeface.values import Frame

log = logging.getLogger(__name__)

_CAPTURE_MS = 500  # longest wait at once: jetson-utils waits by the wall clock, which may be set
_FIRST_FRAME_NS, _SILENCE_NS = 10_000_000_000, 3_000_000_000  # the former also between any two frames of csi
_RETRY_S = (0.5, 1.0, 2.0, 5.0)  # pauses before a live source is opened again, as on the CPU; the last one repeats
_CSI_RETRY_S = (5.0, 20.0, 60.0)  # then it is given up
_SD_ROWS = 576  # YUV of more rows is BT.709, as GStreamer has it where a stream does not say


def open_source(uri: SourceUri, *, stream: int = 0) -> Source:
    """The source that `uri` names, through jetson-utils; `stream` is the CUDA stream that reads its frames.

    Films must be readable now; a live source may come later. Raises ConfigError, SourceError.
    """
    reason = jetson.refusal(uri)
    if reason:
        raise ConfigError(f'{without_password(uri.target)}: {reason}; set capture = "opencv" under [cuda]')
    return JetsonSource(jetson.find_jetson_utils(), uri, stream)


class JetsonSource:
    """A camera, an RTSP stream or a film: its newest frame, left where it was captured.

    A frame's pixels are a Picture in jetson-utils' ring: valid until the next read, and overwritten before that when 8
    more frames have arrived. Frames that arrived and were not read show as a gap in frame_id. YUV is limited range;
    BT.601 from cameras and from films and streams of up to 576 rows, BT.709 from higher ones.

    There is no thread of ours: jetson-utils has its own. So `read` opens what has to be opened, one slow step a call:
    5 s when an RTSP camera is sought, 0.4 s when a pipeline starts or stops. A watchdog waits 15 s; a driver that
    never comes back stops the loop, and with it the watchdog.

    A live source that gives nothing is opened again, ever more slowly. Each launch of a csi camera may break the
    camera service of the system, and when that has restarted it is of no more use to this process. So a csi camera is
    given more time, and after three more launches in vain `read` raises CameraError: another process may have luck.
    """

    waiting = True  # what hangs here, hangs in `read`: whoever asks is not hanging

    def __init__(self, jetson_utils: Any, uri: SourceUri, stream: int) -> None:
        self.live = uri.live
        self.problem = "the camera has not given a frame yet" if uri.live else ""
        self.expected_hz = 0.0
        self._utils, self._uri = jetson_utils, uri
        self._name = f"csi://{uri.target}" if uri.kind == "csi" else without_password(uri.target)
        self._stream = {"stream": stream}  # empty: this version takes none
        self._clock = PtsClock()
        self._device: Any = None  # the videoSource
        self._raw_format = ""  # what is captured, when the kernels cannot read it
        self._frame_id = self._opened_id = 0  # of the last frame; when the device was opened
        self._attempts = 0  # launches in vain
        self._retry_ns = self._heard_ns = 0
        self._complaint = self._told = ""
        self._unstamped = False  # a frame without a usable timestamp was seen
        # its log is verbose, goes to stdout and shows passwords
        debug, secret = log.isEnabledFor(logging.DEBUG), self._name != uri.target and uri.kind == "stream"
        jetson_utils.Log.SetFilename("stderr")
        jetson_utils.Log.SetLevel("verbose" if debug else "silent" if secret else "error")
        self._open()

    def read(self, timeout_s: float) -> Frame | None:
        """The newest frame not read yet, or None after `timeout_s`; later when something had to be opened or closed.

        Raises EndOfStream and SourceError for films, CameraError for a csi camera.
        """
        deadline_ns = time.monotonic_ns() + round(timeout_s * 1e9)
        if self._device is None:
            pause_ns = max(self._retry_ns - time.monotonic_ns(), 0)
            time.sleep(min(pause_ns / 1e9, timeout_s))
            if time.monotonic_ns() >= self._retry_ns:
                self._open()
            return None
        while True:
            left_ms = -(-max(deadline_ns - time.monotonic_ns(), 0) // 1_000_000)
            image = self._capture(min(left_ms, _CAPTURE_MS))
            now_ns = time.monotonic_ns()
            frame = None if image is None else self._frame(image, now_ns)
            if self._device is not None:
                self._listen(now_ns)
            if frame is not None or self._device is None or now_ns >= deadline_ns:
                return frame

    def close(self) -> None:
        self._device = None  # with the last reference the pipeline stops and the ring is freed

    def _open(self) -> None:
        problem = jetson.obstacle(self._uri)
        if not problem:
            try:
                self._device = self._utils.videoSource(jetson.address(self._uri), options=jetson.options(self._uri))
            except Exception as error:  # noqa: BLE001 (all that it raises)
                problem = f"{self._name}: {one_line(error)} (--debug shows why)"
        if problem:
            self._lost(problem)
            return
        rate = float(self._device.GetFrameRate())
        self.expected_hz = rate if 0 < rate <= 1000 else 0.0
        self._raw_format = self._complaint = ""
        self._clock.reset()
        self._opened_id, self._heard_ns = self._frame_id, time.monotonic_ns()

    def _capture(self, timeout_ms: int) -> Any:
        """The newest image, or None. Raises EndOfStream, SourceError."""
        pixel_format = "rgb8" if self._raw_format else "raw"
        try:
            try:
                return self._device.Capture(format=pixel_format, timeout=timeout_ms, **self._stream)
            except TypeError:  # older than June 2024
                self._stream = {}
                return self._device.Capture(format=pixel_format, timeout=timeout_ms)
        except Exception as error:  # noqa: BLE001 (all that it raises)
            if self._device.IsStreaming():  # none this time: its ring can race with a frame that arrives
                self._complaint = f": {one_line(error)}"
            else:
                self._ended()
        return None

    def _ended(self) -> None:
        """The device is closed: the end of a film or of a stream, or a pipeline that did not start."""
        if self.live:
            self._lost(f"{self._name}: ended, or did not start")
        elif self._frame_id == self._opened_id:
            raise SourceError(f"{self._name}: jetson-utils finds no frame in it")
        elif self._uri.loop:
            self.close()
        else:
            raise EndOfStream(f"{self._name} has ended")

    def _listen(self, now_ns: int) -> None:
        """Has it been silent for too long? That of an unplugged camera is all that shows."""
        patient = self._uri.kind == "csi" or self._frame_id == self._opened_id
        limit_ns = _FIRST_FRAME_NS if patient else _SILENCE_NS
        if now_ns - self._heard_ns > limit_ns:
            self._lost(f"{self._name}: no frame for {limit_ns / 1e9:g} s{self._complaint}")

    def _lost(self, problem: str) -> None:
        """Close, and settle when to open again. Raises SourceError for a film, CameraError for csi."""
        self.close()
        if not self.live:
            raise SourceError(problem)
        csi = self._uri.kind == "csi"
        if csi and self._attempts == len(_CSI_RETRY_S):
            raise CameraError(f"{problem}, after {self._attempts + 1} launches; restart nvargus-daemon.service")
        pauses_s = _CSI_RETRY_S if csi else _RETRY_S
        self._retry_ns = time.monotonic_ns() + round(pauses_s[min(self._attempts, len(pauses_s) - 1)] * 1e9)
        self._attempts += 1
        self.problem = problem

    def _frame(self, image: Any, now_ns: int) -> Frame | None:
        """The frame around an image; None when it must be converted, from now on."""
        if not self._raw_format and image.format not in FORMATS:
            self._raw_format = image.format
            return None
        if self._raw_format and not self._stream:
            self._utils.cudaDeviceSynchronize()  # it is converted on a stream that ours does not wait for
        if self._frame_id == self._opened_id:
            self._tell(image)
        self._heard_ns, self._attempts, self.problem = now_ns, 0, ""
        # Every frame that arrives is counted, but only when it can be read already: so one may be counted too many
        self._frame_id = max(self._frame_id + 1, self._opened_id + self._device.GetFrameCount())
        capture_ns, capture_clock = self._clock.stamp(image.timestamp, now_ns)
        if capture_clock == "dequeue" and not self._unstamped:
            self._unstamped = True
            log.warning("%s: a timestamp is missing or jumps: such frames are stamped when they are read", self._name)
        high = image.height > _SD_ROWS and self._uri.kind in ("file", "stream")
        picture = jetson.picture(image, BT709 if high else BT601, converted=bool(self._raw_format))
        return Frame(self._frame_id, capture_ns, image.width, image.height, image.format, picture, capture_clock)

    def _tell(self, image: Any) -> None:
        """Log what is captured and how, when that is news."""
        how = f"converted from {self._raw_format}" if self._raw_format else "as captured"
        what = f"{image.width} x {image.height} {image.format}, {how}, at {self.expected_hz:g}/s (0: unknown)"
        if what != self._told:
            self._told = what
            log.info("%s: %s, through jetson-utils", self._name, what)

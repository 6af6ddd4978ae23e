"""A stand-in for jetson_utils: videoSource and cudaImage as they behave, with frames that arrive by a schedule.

Tests set `clock`, `takes_stream` and, by URI, `devices`; `opened`, `ignored`, `synchronised` and `log` tell what was
asked of it. With a VirtualClock nothing waits: a Capture moves the clock on to the next arrival or its time-out.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

try:
    import gpu
except ImportError:
    gpu = None


memories: dict[int, np.ndarray] = {}  # by the GPU's address: what the host sees there


def _allocate(nbytes: int) -> tuple[np.ndarray, int]:
    """Mapped memory: bytes that the GPU reads too, and their address there."""
    if gpu is not None:
        memory, address = gpu.map_host(nbytes)
    else:
        memory = np.zeros(nbytes, np.uint8)
        address = memory.ctypes.data
    memories[address] = memory
    return memory, address


def _free(address: int) -> None:
    memories.pop(address)[:] = 0xDD
    if gpu is not None:
        gpu.unmap(address)


class WallClock:
    """The time there is."""

    monotonic_ns = staticmethod(time.monotonic_ns)
    sleep = staticmethod(time.sleep)


class VirtualClock:
    """A time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000_000

    def monotonic_ns(self) -> int:
        self.now_ns += 1_000  # every look takes a microsecond
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def steady(
    rate: float = 30, frames: int | None = None, first: int = 1, late_ns: Callable[[int], int] = lambda _: 0
) -> Iterator[tuple[int, int]]:
    """Arrivals (ns since the pipeline began, PTS) at a rate; `late_ns` says by how much frame n comes too late."""
    for number in count(first) if frames is None else range(first, first + frames):
        pts = round(number * 1e9 / rate)
        yield pts + late_ns(number), pts


@dataclass
class Device:
    """What lies behind a URI; each opening takes the next of `runs`, the last one repeats."""

    width: int = 64
    height: int = 48
    format: str = "nv12"
    rate: int = 30
    runs: list[Callable[[], Iterator[tuple[int, int]]]] = field(default_factory=lambda: [steady])
    ends: bool = False  # when arrivals are over: the stream has ended; False: silence for ever
    present: bool = True  # False: the constructor fails
    starts: bool = True  # False: the pipeline cannot be started
    search_s: float = 0.0  # how long the constructor takes
    races: set[int] = field(default_factory=set)  # captures (1, 2, ...) at which the ring races: an error for no reason
    convertible: bool = True
    count_error: Callable[[int], int] = lambda _: 0  # of GetFrameCount, by the frame's number
    draw: Callable[[int], int] | np.ndarray = lambda number: number % 256  # bytes of a frame, or all of them


@dataclass
class Opening:
    """What a videoSource was told; it does not keep it alive."""

    uri: str
    options: dict[str, Any]
    source: Callable[[], Any]  # the videoSource, None once it is gone
    formats: list[str] = field(default_factory=list)  # of Capture
    streams: list[int | None] = field(default_factory=list)


clock: Any = WallClock()
takes_stream = True
devices: dict[str, Device] = {}
opened: list[Opening] = []
ignored: list[str] = []  # options that were passed over without a word
synchronised: list[int] = []  # at which times the GPU was waited for
log: dict[str, str] = {}

_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("width", "height", "bitrate", "numBuffers", "loop", "latency"), (int,)),
    **dict.fromkeys(("framerate",), (float, int)),
    **dict.fromkeys(("zeroCopy",), (bool,)),
    **dict.fromkeys(("codec", "codecType", "flipMethod", "save", "stunServer", "sslCert", "sslKey"), (str,)),
}
_FORMATS = ("rgb8", "rgba8", "rgb32f", "rgba32f", "nv12", "yuyv", "i420", "uyvy", "gray8")
_BYTES = {"rgb8": 3, "rgba8": 4, "nv12": 1, "yuyv": 2, "uyvy": 2, "i420": 1, "gray8": 1}


def gstreamer_size(pixel_format: str, width: int, height: int) -> int:
    """Bytes of a buffer as GStreamer lays it out (rows of 4, chroma after an even number of them)."""
    pitch = -(-width * _BYTES[pixel_format] // 4) * 4
    if pixel_format in ("nv12", "i420"):
        return pitch * (height + height % 2) * 3 // 2
    return pitch * height


class Log:
    """jetson-utils' own log."""

    @classmethod
    def SetLevel(cls, level: str) -> None:
        log["level"] = level

    @classmethod
    def SetFilename(cls, name: str) -> None:
        log["filename"] = name


def cudaDeviceSynchronize() -> None:
    synchronised.append(clock.monotonic_ns())


@dataclass
class cudaImage:
    """An image in memory that belongs to its videoSource."""

    ptr: int
    width: int
    height: int
    format: str
    timestamp: int
    mapped: bool = True
    freeOnDelete: bool = False

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        raise AssertionError("each use of it leaks a dict")


class videoSource:
    """Opened by the first Capture, closed with its last reference."""

    def __init__(
        self, uri: str = "", argv: list[str] | None = None, positionArg: int = -1, options: dict[str, Any] | None = None
    ) -> None:
        accepted = {key: value for key, value in (options or {}).items() if isinstance(value, _TYPES.get(key, ()))}
        ignored.extend(set(options or {}) - set(accepted))
        self.opening = Opening(uri, accepted, weakref.ref(self))
        opened.append(self.opening)
        device = devices.get(uri)
        if device is not None:
            clock.sleep(device.search_s)
        if device is None or not device.present:
            raise Exception("jetson.utils -- failed to create videoSource device")
        self.device = device
        self.captures = 0
        self._streaming = self._over = False
        self._arrived = 0  # frames so far
        self._last_ns = self._pts = 0  # of the newest frame
        self._fresh = False  # it was not captured yet
        self._next: tuple[int, int] | None = None
        rows = gstreamer_size(device.format, device.width, device.height)
        ring = accepted.get("numBuffers", 4)
        self._ring = [_allocate(rows) for _ in range(ring)]
        self._converted = [_allocate(device.width * device.height * 3) for _ in range(ring)]

    def __del__(self) -> None:
        for _, address in (*getattr(self, "_ring", ()), *getattr(self, "_converted", ())):
            _free(address)

    def Open(self) -> None:
        raise AssertionError("its error path sets an exception without holding the GIL")

    def Close(self) -> None:
        self._streaming = False

    def IsStreaming(self) -> bool:
        return self._streaming

    def GetFrameRate(self) -> int:
        return self.device.rate

    def GetFrameCount(self) -> int:
        return self._arrived + self.device.count_error(self._arrived)

    def Capture(self, *args: Any, **kwargs: Any) -> cudaImage | None:
        if "stream" in kwargs and not takes_stream:
            raise TypeError("'stream' is an invalid keyword argument for this function")
        return self._capture(*args, **kwargs)

    def _capture(self, format: str = "rgb8", timeout: int = 1000, stream: int | None = None) -> cudaImage | None:
        assert isinstance(timeout, int)
        assert 0 <= timeout <= 500
        self.captures += 1
        self.opening.formats.append(format)
        self.opening.streams.append(stream)
        self._receive(clock.monotonic_ns())
        if not self._streaming:
            self._start()
        deadline_ns = clock.monotonic_ns() + timeout * 1_000_000
        self._receive(clock.monotonic_ns())
        if not self._fresh:
            due_ns = deadline_ns if self._next is None else min(deadline_ns, self._began_ns + self._next[0])
            clock.sleep(max(due_ns - clock.monotonic_ns(), 0) / 1e9)
            self._receive(clock.monotonic_ns())
        if not self._fresh:
            return None
        self._fresh = False
        if self.captures in self.device.races:
            raise Exception("jetson.utils -- videoSource failed to capture image")
        memory, address = self._ring[self._arrived % len(self._ring)]
        if format not in _FORMATS:
            return self._image(address, self.device.format)
        if format not in ("rgb8", "rgba8", "rgb32f", "rgba32f") or not self.device.convertible:
            raise Exception("jetson.utils -- videoSource failed to capture image")
        converted, address = self._converted[self.captures % len(self._converted)]
        converted[:] = memory[0]
        return self._image(address, format)

    def _image(self, address: int, pixel_format: str) -> cudaImage:
        return cudaImage(address, self.device.width, self.device.height, pixel_format, self._pts)

    def _start(self) -> None:
        if self._over or not self.device.starts:
            raise Exception("jetson.utils -- videoSource failed to capture image")
        clock.sleep(0.1)
        self._streaming = True
        self._began_ns = clock.monotonic_ns()
        self._arrivals = (self.device.runs.pop(0) if len(self.device.runs) > 1 else self.device.runs[0])()
        self._next = next(self._arrivals, None)

    def _receive(self, now_ns: int) -> None:
        """What GStreamer's thread has done until now, whether or not anybody captured."""
        if not self._streaming:
            return
        while self._next is not None and self._began_ns + self._next[0] <= now_ns:
            self._arrived += 1
            self._last_ns, self._pts, self._fresh = *self._next, True
            draw, (memory, _) = self.device.draw, self._ring[self._arrived % len(self._ring)]
            memory[:] = draw if isinstance(draw, np.ndarray) else draw(self._arrived)
            self._next = next(self._arrivals, None)
        end_ns = self._began_ns + self._last_ns + 1_000_000_000 // (self.device.rate or 30)
        if self._next is None and self.device.ends and now_ns >= end_ns:
            self._over, self._streaming = True, False

"""Playing what has a beginning and an end: frames in step with the reader, at their own speed or at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from edgeface.errors import EndOfStream
from edgeface.values import Frame


@dataclass(frozen=True, slots=True)
class Film:
    """Frames that can be played again: `frames()` begins anew each time, and counts numbers and time from 0."""

    name: str
    fps: float  # nominal
    frames: Callable[[], Iterator[Frame]]
    close: Callable[[], None] = lambda: None


class PacedSource:
    """A film, pictures or a scenario: every frame in order, none dropped, the same steps in time at every run.

    Paced (the default), a frame comes when its time has come; when the reader is late, the film waits for it. Its
    capture time is the moment it was due. Unpaced, it comes at once and its capture time is the film's own time.
    """

    live = False
    waiting = True
    problem = ""

    def __init__(self, film: Film, *, loop: bool, pace: bool) -> None:
        self._film, self._loop, self._pace = film, loop, pace
        self.expected_hz = film.fps
        self._period_ns = round(1e9 / film.fps)
        self._frames = film.frames()
        self._frame_id = 0
        self._begin_ns = time.monotonic_ns()  # when the film's time 0 was or will be
        self._film_ns = 0
        self._next: Frame | None = self._take()  # now: a file that cannot be read is refused at the start

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, or None when it is not due within `timeout_s`. Raises EndOfStream, SourceError."""
        if self._next is None:
            self._next = self._take()
        if self._pace:
            late_ns = time.monotonic_ns() - self._begin_ns - self._film_ns
            if late_ns < 0:
                time.sleep(min(-late_ns / 1e9, timeout_s))
                if -late_ns / 1e9 > timeout_s:
                    return None
            elif late_ns > self._period_ns:
                self._begin_ns += late_ns  # the reader is too slow: the film waits for it
        frame = replace(self._next, frame_id=self._frame_id, capture_ns=self._begin_ns + self._film_ns)
        self._next = None
        self._frame_id += 1
        return frame

    def close(self) -> None:
        self._film.close()

    def _take(self) -> Frame:
        frame = next(self._frames, None)
        if frame is None and self._loop:
            self._frames = self._film.frames()
            self._begin_ns += self._film_ns + self._period_ns
            frame = next(self._frames, None)
        if frame is None:
            raise EndOfStream(f"{self._film.name} has ended")
        self._film_ns = frame.capture_ns
        return frame

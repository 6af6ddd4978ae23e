"""When a frame was captured: a pipeline's own timestamps -> CLOCK_MONOTONIC."""

from __future__ import annotations

_WINDOW_NS = 5_000_000_000  # the least delay is that of one to two of these: clocks drift, up to 1 ms in 10 s
_JUMP_NS = 1_000_000_000  # no camera's delay changes by more


class PtsClock:
    """Maps presentation timestamps (PTS, nanoseconds since a pipeline began) to the monotonic clock.

    A frame is dequeued some delay after it got its PTS. The least `dequeued - PTS` of the last seconds says when the
    pipeline began, but for the shortest of these delays, which is taken for none. A timestamp that is missing (0), does
    not rise, or jumps against the clock by more than a second is not used: its frame counts as captured when it was
    dequeued, and the search for the least delay begins anew.
    """

    def __init__(self) -> None:
        self._last_ns = 0  # the last capture time given out
        self.reset()

    def reset(self, pts_ns: int = 0) -> None:
        """Another run of the pipeline begins; its PTS are above `pts_ns`."""
        self._pts_ns = pts_ns
        self._least: tuple[int, ...] = ()  # dequeued - PTS of the window before, if there is one, and of this window
        self._window_ns = 0  # when this window began

    def stamp(self, pts_ns: int, dequeued_ns: int) -> tuple[int, str]:
        """The capture time and where it comes from, "pts" or "dequeue".

        `dequeued_ns` (CLOCK_MONOTONIC) rises from call to call; so do capture times, and none is later than it.
        """
        offset = dequeued_ns - pts_ns
        if pts_ns <= self._pts_ns or (self._least and abs(offset - min(self._least)) > _JUMP_NS):
            self.reset(pts_ns)
            return self._rising(dequeued_ns), "dequeue"
        self._pts_ns = pts_ns
        if not self._least or dequeued_ns - self._window_ns > _WINDOW_NS:
            self._least, self._window_ns = (*self._least[-1:], offset), dequeued_ns
        self._least = (*self._least[:-1], min(self._least[-1], offset))
        return self._rising(pts_ns + min(self._least)), "pts"

    def _rising(self, capture_ns: int) -> int:
        self._last_ns = max(capture_ns, self._last_ns + 1)
        return self._last_ns

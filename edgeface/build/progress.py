"""How far a build is, told while it runs, and its end by Ctrl-C."""

from __future__ import annotations

import logging
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

_BAR = 24  # characters
_DRAW_PERIOD_S = 0.2
_LOG_PERIOD_S = 10.0
_SURE_AFTER_S = 2.0  # what is left of a phase is not said before


@dataclass(slots=True)
class _Phase:
    begun_s: float
    parent: str
    steps: int
    done: int = 0


class Progress:
    """The phases of a build, from whatever thread they are reported; `cancelled` ends it at its next step."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.cancelled = False
        self._clock, self._begun_s = clock, clock()
        self._lock = threading.Lock()
        self._phases: dict[str, _Phase] = {}  # open ones, outer before inner

    # --- IProgressMonitor

    def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._phases[phase] = _Phase(self._clock(), parent or "", steps)

    def step_complete(self, phase: str, step: int) -> bool:
        """False ends the build."""
        with self._lock:
            if phase in self._phases:
                self._phases[phase].done = step + 1
        return not self.cancelled

    def phase_finish(self, phase: str) -> None:
        with self._lock:
            self._phases.pop(phase, None)

    # ---

    def line(self, bar: int = 0) -> str:
        """One line: time, the innermost phase of several steps and how many are done, the least time left.

        `bar`: characters of a bar for those steps, 0 for none.
        """
        with self._lock:
            now_s = self._clock()
            parts = [_minutes(now_s - self._begun_s)]
            several = [(name, phase) for name, phase in self._phases.items() if phase.steps > 1]
            if several:
                name, phase = several[-1]
                filled = bar * min(phase.done, phase.steps) // phase.steps
                parts += [f"[{'#' * filled:.<{bar}}]"] * (bar > 0) + [f"{name} {phase.done}/{phase.steps}"]
            left_s = max((self._left_s(name, now_s) for name in self._phases), default=0.0)
        text = " ".join(parts)
        if self.cancelled:
            return f"{text}, cancelling"
        return f"{text}, at least {_minutes(left_s)} left" if left_s >= 1 else text

    def _left_s(self, name: str, now_s: float) -> float:
        """If the phase goes on as it has begun; 0 when that cannot be told."""
        phase, done = self._phases[name], self._done(name)
        spent_s = now_s - phase.begun_s
        return spent_s * (1 - done) / done if done > 0 and spent_s >= _SURE_AFTER_S else 0.0

    def _done(self, name: str) -> float:
        """The share of a phase that is done, with that of the phases within its present step."""
        phase = self._phases[name]
        within = [self._done(inner) for inner, one in self._phases.items() if one.parent == name]
        return min((phase.done + max(within, default=0.0)) / max(phase.steps, 1), 1.0)


def monitor_of(progress: Progress, trt: Any) -> Any:
    """An IProgressMonitor of the module `trt` that reports to `progress`; None where it has none (TensorRT 8)."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class TrtMonitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        phase_start = staticmethod(progress.phase_start)
        step_complete = staticmethod(progress.step_complete)
        phase_finish = staticmethod(progress.phase_finish)

    return TrtMonitor()


def watched(work: Callable[[], T], progress: Progress, title: str, *, cancellable: bool) -> T:
    """The result of `work`, with a line of progress while it runs: a bar on a terminal, else now and then in the log.

    It runs in a thread of its own: Python hears of Ctrl-C only while the main thread, which must call this, is not
    inside TensorRT. If `cancellable`, Ctrl-C asks `progress` to end the work and then raises KeyboardInterrupt; a
    second one, or the first if not, ends the process at once.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    with _interrupted(progress, cancellable=cancellable):
        thread.start()
        _tell(thread, progress, title)
    if progress.cancelled:
        raise KeyboardInterrupt
    if errors:
        raise errors[0]
    return results[0]


def _tell(thread: threading.Thread, progress: Progress, title: str) -> None:
    """Say how it goes until the thread ends."""
    if not sys.stderr.isatty():
        log.info("%s: building, which takes minutes on a Jetson", title)
        thread.join(_LOG_PERIOD_S)
        while thread.is_alive():
            log.info("%s: %s", title, progress.line())
            thread.join(_LOG_PERIOD_S)
        return
    while thread.is_alive():
        width = shutil.get_terminal_size().columns - 1
        # back to the first column: a line of the log writes over it
        print(f"\x1b[K{f'{title} {progress.line(_BAR)}'[:width]}", end="\r", file=sys.stderr, flush=True)
        thread.join(_DRAW_PERIOD_S)
    print("\x1b[K", end="", file=sys.stderr, flush=True)


@contextmanager
def _interrupted(progress: Progress, *, cancellable: bool) -> Iterator[None]:
    def cancel(number: int, _: Any) -> None:
        progress.cancelled = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    before = signal.signal(signal.SIGINT, cancel if cancellable else signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"

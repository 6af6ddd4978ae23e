"""Progress of a build: the line that is shown, how it is shown, and Ctrl-C."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.build import progress
from edgeface.build.progress import Progress, monitor_of, watched


class Clock:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def test_the_line_names_the_innermost_phase_of_several_steps_and_the_least_time_left() -> None:
    clock = Clock()
    one = Progress(clock)
    assert one.line() == "0:00"
    one.phase_start("Building", None, 4)
    one.phase_start("Timing nodes", "Building", 10)
    one.phase_start("Reformatting", "Timing nodes", 1)
    clock.s += 65
    assert one.line() == "1:05 Timing nodes 0/10"
    assert one.step_complete("Timing nodes", 1)
    # 2 of 10 took 65 s: 260 s for the other 8; 0.05 of 1 of the whole: 1235 s
    assert one.line() == "1:05 Timing nodes 2/10, at least 20:35 left"
    assert one.line(10) == "1:05 [##........] Timing nodes 2/10, at least 20:35 left"
    one.step_complete("Building", 2)
    assert one.line().endswith("Timing nodes 2/10, at least 4:20 left")
    one.phase_finish("Reformatting")
    one.phase_finish("Timing nodes")
    assert one.line() == "1:05 Building 3/4, at least 0:21 left"
    one.cancelled = True
    assert one.line() == "1:05 Building 3/4, cancelling"
    assert not one.step_complete("Building", 3)
    one.phase_finish("Building")
    one.phase_finish("Building")
    assert not one.step_complete("Building", 4)


def test_nothing_is_foretold_of_a_phase_that_has_just_begun() -> None:
    clock = Clock()
    one = Progress(clock)
    one.phase_start("Building", None, 4)
    one.step_complete("Building", 0)
    clock.s += 1.9
    assert one.line() == "0:01 Building 1/4"
    clock.s += 0.1
    assert one.line() == "0:02 Building 1/4, at least 0:06 left"


reports = st.lists(
    st.tuples(st.sampled_from("+-*"), st.sampled_from("abc"), st.sampled_from(["", "a", "b", "c"]), st.integers(-1, 5))
)


@given(reports, st.integers(0, 30))
def test_no_report_upsets_it(told: list[tuple[str, str, str, int]], bar: int) -> None:
    """Whatever a TensorRT of tomorrow says: phases that never began, end twice, have no steps."""
    clock = Clock()
    one = Progress(clock)
    for what, phase, parent, number in told:
        clock.s += 1
        if what == "+" and parent != phase and (not parent or parent < phase):
            one.phase_start(phase, parent or None, number)
        elif what == "*":
            assert one.step_complete(phase, number)
        else:
            one.phase_finish(phase)
        line = one.line(bar)
        assert "\n" not in line
        assert "left" not in line or "-" not in line.split("at least")[1]


def test_where_there_is_no_monitor_there_is_none(rtx: ModuleType) -> None:
    assert monitor_of(Progress(), SimpleNamespace()) is None
    assert isinstance(monitor_of(Progress(), rtx), rtx.IProgressMonitor)


# --- how it is shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(progress, "_DRAW_PERIOD_S", 0.01)
    monkeypatch.setattr(progress, "_LOG_PERIOD_S", 0.01)
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before


def work_until(seen: threading.Event, one: Progress) -> int:
    one.phase_start("Timing nodes", None, 10)
    assert seen.wait(30)
    return 7


def test_a_terminal_gets_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch, hurried: None) -> None:
    terminal, one, seen = Terminal(), Progress(), threading.Event()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "50")
    threading.Timer(0.2, seen.set).start()
    assert watched(lambda: work_until(seen, one), one, "net 64x64", cancellable=True) == 7
    drawn = terminal.getvalue().split("\x1b[K")
    assert "net 64x64 0:00 [........................] Timing \r" in drawn  # 49 columns
    assert drawn[-1] == ""


def test_what_is_no_terminal_gets_lines_in_the_log(
    monkeypatch: pytest.MonkeyPatch, hurried: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other, one, seen = io.StringIO(), Progress(), threading.Event()
    monkeypatch.setattr(sys, "stderr", other)
    threading.Timer(0.2, seen.set).start()
    assert watched(lambda: work_until(seen, one), one, "net 64x64", cancellable=True) == 7
    assert "\x1b" not in other.getvalue()
    assert caplog.messages[0] == "net 64x64: building, which takes minutes on a Jetson"
    assert "net 64x64: 0:00 Timing nodes 0/10" in caplog.messages


def test_errors_of_the_work_are_its_callers(hurried: None) -> None:
    with pytest.raises(ZeroDivisionError):
        watched(lambda: 1 // 0, Progress(), "net", cancellable=True)


# --- Ctrl-C


def test_ctrl_c_asks_the_work_to_end_and_a_second_one_would_end_the_process(hurried: None) -> None:
    one, second = Progress(), []

    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        while one.step_complete("x", 0):
            time.sleep(0.001)
        second.append(signal.getsignal(signal.SIGINT))

    with pytest.raises(KeyboardInterrupt):
        watched(work, one, "net", cancellable=True)
    assert second == [signal.SIG_DFL]


def test_work_that_cannot_be_asked_to_end_leaves_ctrl_c_to_the_system(hurried: None) -> None:
    assert watched(lambda: signal.getsignal(signal.SIGINT), Progress(), "net", cancellable=False) is signal.SIG_DFL

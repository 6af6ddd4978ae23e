"""What TensorRT says, in Python's log; and what it says went wrong, for an error of ours."""

from __future__ import annotations

import functools
import logging
import threading
from types import ModuleType
from typing import Any, NamedTuple

log = logging.getLogger("edgeface.tensorrt")

_MOST_ERRORS = 32  # kept by a recorder: it may live for years


class Recorder:
    """Errors that TensorRT has reported, from whatever thread: build and deserialize return None and never raise.

    `reporting` makes a real IErrorRecorder of it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._errors: list[tuple[Any, str]] = []
        self._overflowed = False

    def reasons(self) -> str:
        """What went wrong, in one line; empty when nothing did."""
        with self._lock:
            texts = [" ".join(text.split()) for _, text in self._errors]
        return "; ".join(dict.fromkeys(texts))

    def take(self) -> str:
        """The same, and forget it."""
        reasons = self.reasons()
        self.clear()
        return reasons

    # --- IErrorRecorder

    def num_errors(self) -> int:
        return len(self._errors)

    get_num_errors = num_errors  # TensorRT's C++ asks for this name, its documentation for the other

    def get_error_code(self, index: int) -> Any:
        return self._errors[index][0]

    def get_error_desc(self, index: int) -> str:
        return self._errors[index][1]

    def has_overflowed(self) -> bool:
        return self._overflowed

    def clear(self) -> None:
        with self._lock:
            self._errors.clear()
            self._overflowed = False

    def report_error(self, code: Any, text: str) -> bool:
        with self._lock:
            if len(self._errors) < _MOST_ERRORS:
                self._errors.append((code, text))
            else:
                self._overflowed = True
        return False  # True would end what is going on


class Reporting(NamedTuple):
    """What hears a TensorRT module."""

    logger: Any  # an ILogger: the only one of this process, which TensorRT insists on
    recorder: type[
        Recorder
    ]  # an IErrorRecorder; set one on a Builder only just before the build, or it crashes at exit


@functools.cache
def reporting(trt: ModuleType) -> Reporting:
    """The logger and the recorder for `trt`: tensorrt, or a module that has its names. The same at every call."""
    levels = {
        trt.ILogger.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.ERROR: logging.ERROR,
        trt.ILogger.WARNING: logging.WARNING,
        trt.ILogger.INFO: logging.DEBUG,  # a few hundred lines a build
    }  # VERBOSE, which is a few hundred thousand, goes nowhere

    class TrtLogger(trt.ILogger):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            level = levels.get(severity)
            if level is not None:
                log.log(level, "%s", " ".join(text.split()))

    class TrtRecorder(Recorder, trt.IErrorRecorder):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.IErrorRecorder.__init__(self)
            Recorder.__init__(self)

    return Reporting(TrtLogger(), TrtRecorder)

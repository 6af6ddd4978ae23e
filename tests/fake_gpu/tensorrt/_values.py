"""TensorRT's enums, shapes, loggers and error recorders."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import numpy as np
from gpu import gpu
from soft.networks import DTYPES


class _Members(type):
    """As pybind11's enums: no numbers, though each has one. Here it moves with the version of TensorRT."""

    def __call__(cls, value: int) -> Any:
        return next(member for member in cls.__members__.values() if int(member) == value)


def _enum(name: str, *members: str) -> Any:
    kind = _Members(name, (_Member,), {"__module__": "tensorrt_bindings.tensorrt"})
    kind.__members__ = {}
    for index, member in enumerate(members):
        each = kind.__members__[member] = object.__new__(kind)
        each.name, each.index = member, index
        setattr(kind, member, each)
    return kind


class _Member:
    name: str
    index: int

    @property
    def value(self) -> int:
        return 3 * self.index + 1 + int(gpu.tensorrt_version.split(".")[0]) * 7

    def __int__(self) -> int:
        return self.value

    __index__ = __int__

    def __hash__(self) -> int:
        return self.value

    def __eq__(self, other: Any) -> bool:
        return self is other

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __repr__(self) -> str:
        return f"<{self}: {self.value}>"


DataType = _enum("DataType", "FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "FP8", "BF16", "INT64", "INT4")
TensorIOMode = _enum("TensorIOMode", "NONE", "INPUT", "OUTPUT")
TensorLocation = _enum("TensorLocation", "DEVICE", "HOST")
TensorFormat = _enum("TensorFormat", "LINEAR", "CHW2", "HWC8", "CHW4", "CHW16", "CHW32")
ErrorCodeTRT = _enum(
    "ErrorCodeTRT",
    *("SUCCESS", "UNSPECIFIED_ERROR", "INTERNAL_ERROR", "INVALID_ARGUMENT", "INVALID_CONFIG", "FAILED_ALLOCATION"),
    *("FAILED_INITIALIZATION", "FAILED_EXECUTION", "FAILED_COMPUTATION", "INVALID_STATE", "UNSUPPORTED_STATE"),
)
Severity = _enum("Severity", "INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
Severity.__lt__ = lambda self, other: self.index < other.index
Severity.__le__ = lambda self, other: self.index <= other.index
DataType.itemsize = property(lambda self: np.dtype(nptype(self)).itemsize)


def nptype(kind: Any) -> type:
    if kind.name not in DTYPES:
        raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
    return DTYPES[kind.name]


def volume(shape: Iterable[int]) -> int:
    return prod(shape)


class Dims:
    """No tuple, and comparable with tuples and lists only."""

    MAX_DIMS = 8
    __hash__ = None

    def __init__(self, shape: Iterable[int] = ()) -> None:
        self._shape = tuple(int(size) for size in shape)

    def __len__(self) -> int:
        return len(self._shape)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int) and not -len(self) <= index < len(self):
            raise IndexError("Out of bounds")
        return self._shape[index]

    def __eq__(self, other: Any) -> bool:
        if not isinstance(other, (tuple, list)):
            raise TypeError("__eq__(): incompatible function arguments.")
        return self._shape == tuple(other)

    def __str__(self) -> str:
        return str(self._shape)

    __repr__ = __str__


class _Bound(type):
    """pybind11's: a class that overrides __init__ must call its base's."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        if not getattr(made, "_bound", False):
            base = next(each for each in cls.__mro__ if each.__module__.startswith("tensorrt"))
            name = f"tensorrt_bindings.tensorrt.{base.__name__}"
            raise TypeError(f"{name}.__init__() must be called when overriding __init__")
        return made


class ILogger(metaclass=_Bound):
    Severity = Severity
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity.__members__.values()

    def __init__(self) -> None:
        self._bound = True


class Logger(ILogger):
    def __init__(self, min_severity: Any = Severity.WARNING) -> None:
        super().__init__()
        self.min_severity = min_severity

    def log(self, severity: Any, msg: str) -> None:
        if severity <= self.min_severity:
            letter = {"WARNING": "W", "INFO": "I", "VERBOSE": "V"}.get(severity.name, "E")
            print(f"[{time.strftime('%m/%d/%Y-%H:%M:%S')}] [TRT] [{letter}] {msg}", file=sys.stderr)


class IErrorRecorder(metaclass=_Bound):
    MAX_DESC_LENGTH = 127

    def __init__(self) -> None:
        self._bound = True


class IProfiler(metaclass=_Bound):
    def __init__(self) -> None:
        self._bound = True


def called_back(name: str, function: Callable[..., Any], *args: Any) -> None:
    """Call back into Python, whose errors TensorRT swallows."""
    try:
        function(*args)
    except Exception as error:  # noqa: BLE001
        print(f"[ERROR] Exception caught in {name}(): {error}", file=sys.stderr)
        gpu.fault(f"{name} raised: {error!r}")


class Reporter:
    """Whatever reports errors: to its own recorder, or its parent's, and to the logger."""

    def __init__(self, parent: Any, logger: ILogger) -> None:
        self._parent, self._own_recorder, self.logger = parent, None, logger

    @property
    def error_recorder(self) -> IErrorRecorder | None:
        inherited = self._parent.error_recorder if self._parent is not None else None
        return self._own_recorder or inherited

    @error_recorder.setter
    def error_recorder(self, recorder: IErrorRecorder | None) -> None:
        if recorder is not None and not isinstance(recorder, IErrorRecorder):
            raise TypeError("error_recorder: incompatible function arguments.")
        self._own_recorder = recorder

    def _report(self, code: Any, text: str) -> None:
        if self.error_recorder is not None:
            called_back("report_error", self.error_recorder.report_error, code, text)
        called_back("log", self.logger.log, Severity.ERROR, text)

    def _require_context(self, call: str) -> None:
        if not gpu.contexts:
            gpu.rule(f"{call}: no context is current")

    def __del__(self) -> None:
        thing = getattr(self, "_thing", None)
        if thing is None or gpu.lost or gpu.over:
            return
        if not gpu.contexts:
            gpu.fault(f"{thing} destroyed where no context is current")
        gpu.log.append((f"{thing} destroyed", {}))
        gpu.release(thing, quiet=True)

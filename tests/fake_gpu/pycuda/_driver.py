"""PyCUDA's errors, and how a driver's refusal becomes one; its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from soft.errors import Refused


class Error(Exception):
    pass


class MemoryError(Error):
    pass


class LogicError(Error):
    pass


class LaunchError(Error):
    pass


class RuntimeError(Error):
    pass


class ArgumentError(TypeError):
    """Boost.Python's: it takes int for a number, and no integer of NumPy."""

    __module__, __qualname__ = "Boost.Python", "ArgumentError"


for _error in (Error, MemoryError, LogicError, LaunchError, RuntimeError):
    _error.__module__ = "pycuda._driver"
_CLASSES = {
    "CUDA_ERROR_LAUNCH_FAILED": LaunchError,
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES": LaunchError,
    "CUDA_ERROR_LAUNCH_TIMEOUT": LaunchError,
    "CUDA_ERROR_OUT_OF_MEMORY": MemoryError,
    "CUDA_ERROR_NO_DEVICE": RuntimeError,
    "CUDA_ERROR_NO_BINARY_FOR_GPU": RuntimeError,
    "CUDA_ERROR_NOT_READY": RuntimeError,
    "CUDA_ERROR_ECC_UNCORRECTABLE": RuntimeError,
    "CUDA_ERROR_UNKNOWN": Error,
}


def error(routine: str, refused: Refused, detail: str | None = None) -> Error:
    """What PyCUDA raises when a routine of the driver returns an error."""
    text = f"{routine} failed: {refused.text}" + ("" if detail is None else f" - {detail}")
    return _CLASSES.get(refused.code, LogicError)(text)


@contextmanager
def guarded(routine: str) -> Iterator[None]:
    try:
        yield
    except Refused as refused:
        raise_alone(error(routine, refused))


def raise_alone(failed: Error) -> NoReturn:
    """Raise what keeps no more alive than PyCUDA's own error would: no other error, and no circle."""
    try:
        raise failed
    finally:
        failed.__context__ = None
        del failed


def integer(value: Any, what: str) -> int:
    """A number or an address as Boost.Python takes them."""
    if isinstance(value, int):
        return value
    if hasattr(value, "_boost_pointer"):
        return int(value)
    raise ArgumentError(f"Python argument types in\n    pycuda._driver.{what}({type(value).__name__})\ndid not match")

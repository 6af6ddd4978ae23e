"""PyCUDA's devices and contexts, and what depends on a context."""

from __future__ import annotations

import enum
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpu import gpu
from soft.errors import Refused
from soft.streams import Stream as Queue

from ._driver import ArgumentError, error, guarded, integer


@contextmanager
def cleanup(kind: str, routine: str, context: Context | None) -> Iterator[bool]:
    """Giving something back, in the context it was made in. Never raises for the driver; gives whether it can be."""
    if context is None or not context.valid or gpu.over:
        yield False  # gone with its context
        return
    current = Context.get_current()
    if current is not context and context.thread != threading.get_ident():
        gpu.fault(f"{kind} given back on a thread where its context is not current: it leaks")
        warnings.warn(f"{kind} in out-of-thread context could not be cleaned up", UserWarning, stacklevel=3)
        yield False
        return
    if current is not context:
        if gpu.lost:  # it cannot be pushed
            _warn(routine, gpu.lost)
            yield False
            return
        context.push()
    try:
        yield True
    except Refused as refused:
        _warn(routine, refused.text)
    finally:
        if current is not context:
            Context.pop()


def _warn(routine: str, text: str) -> None:
    print(
        f"PyCUDA WARNING: a clean-up operation failed (dead context maybe?)\n{routine} failed: {text}", file=sys.stderr
    )


def dependent() -> Context:
    """The current context, for an object that depends on it."""
    current = Context.get_current()
    if current is None:
        gpu.fault(f"no context is current in {threading.current_thread().name}")
        refused = Refused("CUDA_ERROR_INVALID_CONTEXT")
        raise error("explicit_context_dependent", refused, "no currently active context?")
    return current


def not_captured(queue: Queue) -> None:
    """Nobody waits for a stream that is captured. Raises Refused, and the capture is spoilt."""
    if queue.capture is not None:
        queue.capture.spoilt = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
        gpu.fault("a stream is synchronised while it is captured")
        raise Refused("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")


class device_attribute(enum.IntEnum):
    MAX_THREADS_PER_BLOCK = 1
    WARP_SIZE = 10
    CLOCK_RATE = 13
    GPU_OVERLAP = 15
    MULTIPROCESSOR_COUNT = 16
    INTEGRATED = 18
    CAN_MAP_HOST_MEMORY = 19
    PCI_BUS_ID = 33
    ASYNC_ENGINE_COUNT = 40
    UNIFIED_ADDRESSING = 41
    COMPUTE_CAPABILITY_MAJOR = 75
    COMPUTE_CAPABILITY_MINOR = 76
    MANAGED_MEMORY = 83
    CONCURRENT_MANAGED_ACCESS = 89


class Device:
    def __init__(self, ordinal: int) -> None:
        with guarded("cuDeviceGet"):
            _initialised()
            if not 0 <= integer(ordinal, "Device") < gpu.devices:
                raise Refused("CUDA_ERROR_INVALID_DEVICE")
        self._ordinal = ordinal

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Device) and self._ordinal == other._ordinal

    def __hash__(self) -> int:
        return self._ordinal

    @staticmethod
    def count() -> int:
        with guarded("cuDeviceGetCount"):
            _initialised()
        return gpu.devices

    def name(self) -> str:
        return gpu.name

    def pci_bus_id(self) -> str:
        return f"0000:{self._ordinal + 1:02X}:00.0"

    def compute_capability(self) -> tuple[int, int]:
        return gpu.compute_capability

    def total_memory(self) -> int:
        return gpu.total_memory

    def get_attribute(self, attribute: device_attribute) -> int:
        if not isinstance(attribute, device_attribute):
            raise ArgumentError(f"get_attribute({attribute!r})")
        values = {
            "MAX_THREADS_PER_BLOCK": 1024,
            "WARP_SIZE": 32,
            "CLOCK_RATE": 624750,
            "MULTIPROCESSOR_COUNT": 8,
            "INTEGRATED": int(gpu.integrated),
            "PCI_BUS_ID": 1,
            "COMPUTE_CAPABILITY_MAJOR": gpu.compute_capability[0],
            "COMPUTE_CAPABILITY_MINOR": gpu.compute_capability[1],
            "CONCURRENT_MANAGED_ACCESS": int(not gpu.integrated),
        }
        return values.get(attribute.name, 1)

    def __getattr__(self, name: str) -> int:
        if not hasattr(device_attribute, name.upper()):
            raise AttributeError(name)
        return self.get_attribute(device_attribute[name.upper()])

    def retain_primary_context(self) -> Context:
        with guarded("cuDevicePrimaryCtxRetain"):
            gpu.call("retain_primary_context", context=False)
        gpu.retained += 1
        return Context(self)


def _initialised() -> None:
    if not gpu.initialised:
        raise Refused("CUDA_ERROR_NOT_INITIALIZED")


def init(flags: int = 0) -> None:
    with guarded("cuInit"):
        gpu.call("init", context=False)
        if not gpu.devices:
            raise Refused("CUDA_ERROR_NO_DEVICE")
    gpu.initialised = True


def get_version() -> tuple[int, int, int]:
    """The CUDA that PyCUDA was built with."""
    return gpu.driver_version // 1000, gpu.driver_version % 1000 // 10, 0


def get_driver_version() -> int:
    return gpu.driver_version


class Context:
    """The primary context, retained once more."""

    def __init__(self, device: Device) -> None:
        self._device, self.valid, self.thread = device, True, threading.get_ident()
        self.handle = 0x5CC0_0000

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Context)  # there is one device, and so one primary context

    def __hash__(self) -> int:
        return self.handle

    def push(self) -> None:
        with guarded("cuCtxPushCurrent"):
            gpu.call("push", context=False)
            if not gpu.retained:
                raise Refused("CUDA_ERROR_INVALID_CONTEXT")
        gpu.contexts.append(self)

    @staticmethod
    def pop() -> None:
        if not gpu.contexts:
            gpu.fault("pop of an empty context stack")
            detail = "cannot pop non-current context"
            raise error("context::pop", Refused("CUDA_ERROR_INVALID_CONTEXT"), detail)
        with guarded("cuCtxPopCurrent"):
            gpu.call("pop")
        gpu.contexts.pop()

    @staticmethod
    def get_current() -> Context | None:
        while gpu.contexts and not gpu.contexts[-1].valid:
            gpu.contexts.pop()
        return gpu.contexts[-1] if gpu.contexts else None

    @staticmethod
    def get_device() -> Device:
        with guarded("cuCtxGetDevice"):
            gpu.call("get_device")
        return Context.get_current()._device

    @staticmethod
    def synchronize() -> None:
        with guarded("cuCtxSynchronize"):
            gpu.call("synchronize")
            for stream in list(gpu.streams.values()):
                not_captured(stream)
                stream.run()
            gpu.surface()

    def detach(self) -> None:
        if not self.valid:
            gpu.fault("a context is detached twice")
            detail = "cannot detach from invalid context"
            raise error("context::detach", Refused("CUDA_ERROR_INVALID_CONTEXT"), detail)
        current = Context.get_current() is self
        if current:
            gpu.fault("a context is detached while it is current: pop it first")
        if not current and self.thread != threading.get_ident():
            gpu.fault("a context is detached on another thread than retained it: it leaks")
            self.valid = False
            return
        self.valid = False
        self._give_back()

    @staticmethod
    def _give_back() -> None:
        try:
            gpu.call("detach", context=False)
        except Refused as refused:
            _warn("cuDevicePrimaryCtxRelease", refused.text)
            return
        gpu.retained -= 1
        gpu.released.append("context")
        if not gpu.retained and gpu.left_when_destroyed():
            gpu.fault(f"the context is destroyed before {gpu.left_when_destroyed()}")

    def __del__(self) -> None:
        if self.valid and not (gpu.lost or gpu.over):
            gpu.fault("a context was never detached")
            self.valid = False
            self._give_back()

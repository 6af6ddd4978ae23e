"""PyCUDA's memory: of the device, pinned, and what copies and fills it."""

from __future__ import annotations

import gc
from math import prod
from typing import Any

import numpy as np
from gpu import gpu
from soft import copies
from soft.errors import Refused
from soft.memory import buffer_of

from ._contexts import cleanup, dependent
from ._driver import error, guarded, integer
from ._streams import Stream, of


class host_alloc_flags:
    PORTABLE, DEVICEMAP, WRITECOMBINED = 1, 2, 4


class DeviceAllocation:
    _boost_pointer = True

    def __init__(self, memory: Any) -> None:
        self._memory, self._valid = memory, True
        self._context = dependent()

    def __int__(self) -> int:
        return self._memory.device_address

    __index__ = __int__

    def free(self) -> None:
        if not self._valid:
            gpu.fault(f"double free of {self._memory}")
            raise error("device_allocation::free", Refused("CUDA_ERROR_INVALID_HANDLE"))
        self._free(quiet=False)

    def _free(self, quiet: bool) -> None:
        self._valid = False
        with cleanup("device_allocation", "cuMemFree", self._context) as can:
            if can:
                gpu.call("mem_free", unsafe=True, nbytes=self._memory.nbytes)
                gpu.release(self._memory, quiet)

    def __del__(self) -> None:
        if getattr(self, "_valid", False):
            self._free(quiet=True)


def mem_alloc(nbytes: int) -> DeviceAllocation:
    with guarded("cuMemAlloc"):
        nbytes = integer(nbytes, "mem_alloc")
        gpu.call("mem_alloc", unsafe=True, nbytes=nbytes)
        if nbytes > gpu.total_memory - gpu.used:
            gc.collect()  # as PyCUDA does before it gives up
        return DeviceAllocation(gpu.allocate("device", nbytes))


def mem_get_info() -> tuple[int, int]:
    with guarded("cuMemGetInfo"):
        gpu.call("mem_get_info")
    return gpu.total_memory - gpu.used, gpu.total_memory


class PagelockedHostAllocation:
    """The base of an array of pinned memory."""

    def __init__(self, nbytes: int, flags: int) -> None:
        self._valid, self._flags = False, flags
        with guarded("cuMemHostAlloc"):
            gpu.call("pagelocked_empty", unsafe=True, nbytes=nbytes, flags=flags)
            self._memory = gpu.allocate("mapped" if flags & host_alloc_flags.DEVICEMAP else "pinned", nbytes)
        self._context, self._valid = dependent(), True

    def get_device_pointer(self) -> int:
        with guarded("cuMemHostGetDevicePointer"):
            gpu.call("get_device_pointer")
            if not self._valid:
                gpu.rule(f"get_device_pointer: use after free of {self._memory}")
            if self._memory.device is None:
                raise Refused("CUDA_ERROR_INVALID_VALUE")
        return self._memory.device_address

    def get_flags(self) -> int:
        return self._flags

    def free(self) -> None:
        if not self._valid:
            gpu.fault(f"double free of {self._memory}")
            raise error("pagelocked_host_allocation::free", Refused("CUDA_ERROR_INVALID_HANDLE"))
        self._free(quiet=False)

    def _free(self, quiet: bool) -> None:
        self._valid = False
        with cleanup("pagelocked_host_allocation", "cuMemFreeHost", self._context) as can:
            if can:
                gpu.call("pagelocked_free", unsafe=True, nbytes=self._memory.nbytes)
                gpu.release(self._memory, quiet)

    def __del__(self) -> None:
        if getattr(self, "_valid", False):
            self._free(quiet=True)


HostAllocation = PagelockedHostAllocation


def pagelocked_empty(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    dims = [shape] if isinstance(shape, int) else list(shape)
    if not all(isinstance(size, int) for size in dims):
        raise TypeError("No registered converter was able to produce a C++ rvalue of type long from this Python object")
    kind = np.dtype(dtype)
    base = PagelockedHostAllocation(prod(dims) * kind.itemsize, integer(mem_flags, "pagelocked_empty"))
    base.__array_interface__ = {
        **np.empty(tuple(dims), kind, order=order).__array_interface__,
        "data": (base._memory.host_address, False),
    }
    return np.asarray(base)  # whose base is the allocation


def pagelocked_zeros(shape: Any, dtype: Any, order: str = "C", mem_flags: int = 0) -> np.ndarray:
    result = pagelocked_empty(shape, dtype, order, mem_flags)
    result.fill(0)
    return result


def memcpy_htod(dest: Any, src: Any) -> None:
    with guarded("cuMemcpyHtoD"):
        copies.copy(gpu, "htod", integer(dest, "memcpy_htod"), *buffer_of(src), None)


def memcpy_htod_async(dest: Any, src: Any, stream: Stream | None = None) -> None:
    with guarded("cuMemcpyHtoDAsync"):
        copies.copy(gpu, "htod", integer(dest, "memcpy_htod_async"), *buffer_of(src), of(stream))


def memcpy_dtoh(dest: Any, src: Any) -> None:
    address, nbytes = buffer_of(dest, writable=True)
    with guarded("cuMemcpyDtoH"):
        copies.copy(gpu, "dtoh", address, integer(src, "memcpy_dtoh"), nbytes, None)


def memcpy_dtoh_async(dest: Any, src: Any, stream: Stream | None = None) -> None:
    address, nbytes = buffer_of(dest, writable=True)
    with guarded("cuMemcpyDtoHAsync"):
        copies.copy(gpu, "dtoh", address, integer(src, "memcpy_dtoh_async"), nbytes, of(stream))


def memcpy_dtod(dest: Any, src: Any, size: int) -> None:
    with guarded("cuMemcpyDtoD"):
        where = [integer(value, "memcpy_dtod") for value in (dest, src, size)]
        copies.copy(gpu, "dtod", *where, None)


def memcpy_dtod_async(dest: Any, src: Any, size: int, stream: Stream | None = None) -> None:
    with guarded("cuMemcpyDtoDAsync"):
        where = [integer(value, "memcpy_dtod_async") for value in (dest, src, size)]
        copies.copy(gpu, "dtod", *where, of(stream))


def _memset(width: int, asynchronous: bool) -> Any:
    name = f"memset_d{8 * width}" + ("_async" if asynchronous else "")

    def memset(dest: Any, data: int, size: int, stream: Stream | None = None) -> None:
        with guarded(f"cuMemsetD{8 * width}" + ("Async" if asynchronous else "")):
            where = [integer(value, name) for value in (dest, data, size)]
            copies.fill(gpu, width, *where, of(stream) if asynchronous else None)

    def plain(dest: Any, data: int, size: int) -> None:
        memset(dest, data, size)

    return memset if asynchronous else plain


memset_d8, memset_d16, memset_d32 = (_memset(width, False) for width in (1, 2, 4))
memset_d8_async, memset_d16_async, memset_d32_async = (_memset(width, True) for width in (1, 2, 4))

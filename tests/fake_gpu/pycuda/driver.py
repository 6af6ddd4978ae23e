"""pycuda.driver: what a program imports."""

# ruff: noqa: F401
from ._contexts import Context, Device, device_attribute, get_driver_version, get_version, init
from ._driver import Error, LaunchError, LogicError, MemoryError, RuntimeError
from ._memory import (
    DeviceAllocation,
    HostAllocation,
    PagelockedHostAllocation,
    host_alloc_flags,
    mem_alloc,
    mem_get_info,
    memcpy_dtod,
    memcpy_dtod_async,
    memcpy_dtoh,
    memcpy_dtoh_async,
    memcpy_htod,
    memcpy_htod_async,
    memset_d8,
    memset_d8_async,
    memset_d16,
    memset_d16_async,
    memset_d32,
    memset_d32_async,
    pagelocked_empty,
    pagelocked_zeros,
)
from ._streams import Event, Function, Module, Stream, event_flags, module_from_buffer

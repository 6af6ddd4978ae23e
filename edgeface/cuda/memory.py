"""The GPU through PyCUDA: its primary context, one stream, and memory that it shares with the host."""

from __future__ import annotations

import traceback
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
import pycuda.driver as cuda
from numpy.typing import NDArray

from edgeface.errors import ConfigError, DeviceError, DeviceLostError, one_line


class Gpu:
    """A GPU's primary context, which jetson-utils and TensorRT use too, and the one stream that our work runs on.

    The context is current only inside `with gpu:`, in any thread, and may be nested: so no thread ends with one, which
    PyCUDA answers with abort(). There, CUDA's errors become ours: DeviceError when memory is short, else
    DeviceLostError; from then on `lost` is true and nothing of the GPU may be touched, not even freed. `resources` are
    given back at the end, the last one first, unless the GPU is lost. Raises DeviceError and ConfigError.
    """

    def __init__(self, number: int) -> None:
        try:
            cuda.init()
            count = cuda.Device.count()
        except cuda.Error as error:
            raise DeviceError(f"no GPU that CUDA can use ({one_line(error)}); backend = 'cpu' does without") from error
        if number >= count:
            raise ConfigError(f"cuda.device = {number}: expected one below {count}, the number of GPUs")
        self._device = cuda.Device(number)
        self.name: str = self._device.name()
        self.compute_capability: tuple[int, int] = self._device.compute_capability()
        attribute = cuda.device_attribute
        # host and GPU have one memory, and the GPU can see the host's
        self.integrated = bool(
            self._device.get_attribute(attribute.INTEGRATED)
            and self._device.get_attribute(attribute.CAN_MAP_HOST_MEMORY)
        )
        self.lost = False
        self.resources = ExitStack()
        self._context: Any = None

    def open(self, stack: ExitStack) -> None:
        """Start CUDA on the device, until `stack` is closed. Raises DeviceError."""
        try:
            self._context = self._device.retain_primary_context()
        except cuda.Error as error:
            raise DeviceError(f"{self.name}: CUDA cannot start: {one_line(error)}") from error
        stack.callback(self._close)
        with self:
            self.stream = cuda.Stream()  # in order with the default stream, which others use
            self.resources.callback(delattr, self, "stream")

    def __enter__(self) -> None:
        try:
            self._context.push()
        except cuda.Error as error:
            raise self._failed(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        traceback.clear_frames(trace)  # or the error would keep what they name beyond its release
        self.lost = self.lost or isinstance(error, DeviceLostError)
        try:
            cuda.Context.pop()
        except cuda.Error as stuck:  # a thread that ends with it aborts
            raise self._failed(error if isinstance(error, cuda.Error) else stuck) from stuck
        if isinstance(error, cuda.MemoryError):
            raise DeviceError(f"{self.name}: out of memory: {one_line(error)}") from error
        if isinstance(error, cuda.Error):
            raise self._failed(error) from error

    def _failed(self, error: cuda.Error) -> DeviceLostError:
        self.lost = True
        return DeviceLostError(f"{self.name}: CUDA error: {one_line(error)}")

    def synchronize(self) -> None:
        """Wait until all work on the stream is done."""
        self.stream.synchronize()

    def _close(self) -> None:
        if self.lost:
            return  # only the end of the process gives anything back
        with self:
            cuda.Context.synchronize()  # what failed half-way may have left work that uses the resources
            self.resources.close()
        self._context.detach()


class Shared:
    """An array of the host, and what the GPU has of it at `address`.

    `mapped`: both see the same pinned memory. Else the GPU has memory of its own, and what one side has written is
    copied to the other, on the stream. Only inside `with gpu:`.
    """

    def __init__(self, gpu: Gpu, shape: tuple[int, ...], dtype: Any, *, mapped: bool) -> None:
        self._gpu = gpu
        flags = cuda.host_alloc_flags.DEVICEMAP if mapped else 0
        self.host: NDArray[Any] = cuda.pagelocked_empty(shape, dtype, mem_flags=flags)
        self._pinned: Any = self.host.base
        try:
            self._device = None if mapped else cuda.mem_alloc(self.host.nbytes)
            self.address = int(self._pinned.get_device_pointer() if self._device is None else self._device)
        except cuda.Error:
            self._pinned.free()
            raise

    def to_gpu(self, part: NDArray[Any]) -> None:
        """The GPU shall have `part`, the host's first so many rows, before what is enqueued next."""
        if self._device is not None:
            cuda.memcpy_htod_async(self.address, part, self._gpu.stream)

    def to_host(self, part: NDArray[Any]) -> None:
        """The host shall have `part`, its first so many rows, at the next synchronisation."""
        if self._device is not None:
            cuda.memcpy_dtoh_async(part, self.address, self._gpu.stream)

    def free(self) -> None:
        """Views of `host` must not be used any more."""
        self.host = np.empty(0, self.host.dtype)
        if self._device is not None:
            self._device.free()
        self._pinned.free()

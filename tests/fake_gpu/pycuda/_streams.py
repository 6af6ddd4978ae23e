"""PyCUDA's streams, events, modules and functions."""

from __future__ import annotations

import enum
import struct
from typing import Any

import numpy as np
from gpu import gpu
from soft import kernels
from soft.errors import Refused
from soft.streams import Stream as Queue
from soft.streams import Work

from ._contexts import cleanup, dependent, not_captured
from ._driver import ArgumentError, error, guarded, integer, raise_alone


class Stream:
    def __init__(self, flags: int = 0) -> None:
        self._context = dependent()
        with guarded("cuStreamCreate"):
            gpu.call("stream_create", flags=flags)
        self.handle = gpu.handle()
        self._queue = gpu.streams[self.handle] = Queue(gpu, self.handle, integer(flags, "Stream"))
        self._queue.thing = gpu.add("stream", queue=self._queue)

    def synchronize(self) -> None:
        with guarded("cuStreamSynchronize"):
            gpu.call("synchronize", stream=self.handle)
            not_captured(self._queue)
            self._queue.run()

    def is_done(self) -> bool:
        with guarded("cuStreamQuery"):
            gpu.call("is_done", stream=self.handle)
            not_captured(self._queue)
            return self._queue.step()

    def wait_for_event(self, event: Event) -> None:
        with guarded("cuStreamWaitEvent"):
            gpu.call("wait_for_event", stream=self.handle)
            if self._queue.capture is not None or event._on.capture is not None:
                raise NotImplementedError("events across captured streams")
            if event._work is not None:
                self._queue.enqueue(event._on.waiting_for(event._work))

    def __del__(self) -> None:
        if not hasattr(self, "_queue"):
            return
        with cleanup("stream", "cuStreamDestroy", self._context) as can:
            if can:
                gpu.call("stream_destroy", stream=self.handle)
                work = next((work for work in self._queue.queue if work.uses or work.needs), None)
                if work is not None:
                    gpu.fault(f"a stream is destroyed with {work.name} queued")
                gpu.release(self._queue.thing, quiet=True)
                self._queue.alive = False
                del gpu.streams[self.handle]


def of(stream: Stream | None) -> Queue:
    """The queue of a stream argument; None is the null stream."""
    if stream is None:
        return gpu.null
    if not isinstance(stream, Stream):
        raise TypeError(
            "No registered converter was able to extract a C++ reference to type pycuda::stream from this Python "
            f"object of type {type(stream).__name__}"
        )
    return stream._queue


class event_flags(enum.IntEnum):
    DEFAULT, BLOCKING_SYNC, DISABLE_TIMING, INTERPROCESS = 0, 1, 2, 4


class Event:
    """Times are not the GPU's: work takes no time here."""

    def __init__(self, flags: int = 0) -> None:
        self._context, self._work, self._on = dependent(), None, gpu.null
        with guarded("cuEventCreate"):
            gpu.call("event_create")

    def record(self, stream: Stream | None = None) -> Event:
        with guarded("cuEventRecord"):
            gpu.call("event_record")
            self._on, self._work = of(stream), Work("event", lambda: None)
            self._on.enqueue(self._work)
        return self

    def synchronize(self) -> Event:
        with guarded("cuEventSynchronize"):
            gpu.call("event_synchronize")
            not_captured(self._on)
            if self._work is not None and not self._work.done:
                self._on.run(self._work)
            gpu.surface()
        return self

    def query(self) -> bool:
        with guarded("cuEventQuery"):
            gpu.call("event_query")
        if self._work is None or self._work.done:
            return True
        self._on.step()
        return False

    def time_since(self, event: Event) -> float:
        with guarded("cuEventElapsedTime"):
            for each in (self, event):
                if each._work is None:
                    raise Refused("CUDA_ERROR_INVALID_HANDLE")
                if not each._work.done:
                    raise Refused("CUDA_ERROR_NOT_READY")
        return 0.0

    def time_till(self, event: Event) -> float:
        return event.time_since(self)


class Module:
    def __init__(self, thing: Any) -> None:
        self._context, self._thing = dependent(), thing

    def get_function(self, name: str) -> Function:
        with guarded("cuModuleGetFunction"):
            gpu.call("get_function", name=name)
            if name not in self._thing.facts["names"]:
                raise Refused("CUDA_ERROR_NOT_FOUND")
        return Function(self, name)

    def __del__(self) -> None:
        if not hasattr(self, "_thing"):
            return
        with cleanup("module", "cuModuleUnload", self._context) as can:
            if can:
                gpu.call("module_unload")
                gpu.release(self._thing, quiet=True)


def module_from_buffer(buffer: Any, options: Any = (), message_handler: Any = None) -> Module:
    image = bytes(memoryview(buffer))
    try:
        made = Module(kernels.load(gpu, image))
    except Refused as refused:
        if message_handler is not None:
            message_handler(False, "", refused.detail)
        raise_alone(error("cuModuleLoadDataEx", refused, refused.detail))
    if message_handler is not None:
        message_handler(True, "", "")
    return made


class Function:
    def __init__(self, module: Module, name: str) -> None:
        self._module, self._name = module, name  # which keeps the module alive, as PyCUDA does

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        known = {"grid": (1, 1), "stream": None, "block": None, "shared": 0, "texrefs": [], "time_kernel": False}
        if set(kwargs) - set(known):
            raise ValueError(f"extra keyword arguments: {','.join(set(kwargs) - set(known))}")
        given = {**known, **kwargs}
        if given["block"] is None:
            raise ValueError("must specify block size")
        if len(given["block"]) != 3:
            raise ArgumentError(f"_set_block_shape{tuple(given['block'])}")
        self._launch_kernel(given["grid"], given["block"], _packed(args), given["shared"], given["stream"])

    def prepare(self, arg_types: Any, texrefs: Any = None) -> Function:
        self.arg_format = "".join(_code(kind) for kind in arg_types)
        return self

    def prepared_call(self, grid: Any, block: Any, *args: Any, shared_size: int = 0) -> None:
        self.prepared_async_call(grid, block, None, *args, shared_size=shared_size)

    def prepared_async_call(self, grid: Any, block: Any, stream: Any, *args: Any, shared_size: int = 0) -> None:
        if not isinstance(block, tuple):
            raise ArgumentError("a block that is no tuple: deprecated since PyCUDA 2011.1")
        args = tuple(bytes(a) if isinstance(a, (np.void, np.ndarray, memoryview)) else a for a in args)
        self._launch_kernel(grid, block, struct.pack(self.arg_format, *args), shared_size, stream)

    def _launch_kernel(self, grid: Any, block: Any, parameters: bytes, shared: int, stream: Stream | None) -> None:
        sizes = []
        for size in (grid, block):
            if not isinstance(size, tuple) or not all(isinstance(n, int) for n in size):
                raise ArgumentError(f"_launch_kernel({grid}, {block}): expected tuples of int")
            sizes.append((*size, 1, 1, 1)[:3])
        integer(shared, "_launch_kernel")
        queue = of(stream)
        with guarded("cuLaunchKernel"):
            kernels.launch(gpu, self._module._thing, self._name, parameters, *sizes, queue)


def _code(kind: Any) -> str:
    if isinstance(kind, str):
        return kind
    if isinstance(kind, np.dtype) and kind.char == "V":
        return f"{kind.itemsize}s"
    if isinstance(kind, np.dtype) or (isinstance(kind, type) and issubclass(kind, np.number)):
        return np.dtype(kind).char
    return np.dtype(np.uintp).char


def _packed(args: Any) -> bytes:
    """The kernel's parameters: PyCUDA takes structures as np.void or arrays, and no bytes."""
    form, values = "", []
    for i, arg in enumerate(args):
        if isinstance(arg, np.number):
            form, value = form + arg.dtype.char, arg
        elif hasattr(arg, "_boost_pointer"):
            form, value = form + "P", int(arg)
        elif isinstance(arg, (np.ndarray, np.void)):
            form, value = form + f"{arg.nbytes}s", arg.tobytes()
        else:
            raise TypeError(f"invalid type on parameter #{i} (0-based)")
        values.append(value)
    return struct.pack(form, *values)

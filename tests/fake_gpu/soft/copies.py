"""Copies and fills: of a stream, or at once by way of the null stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .memory import Allocation, move
from .streams import Stream, Work

if TYPE_CHECKING:
    from gpu import Gpu


def copy(gpu: Gpu, kind: str, target: int, source: int, nbytes: int, stream: Stream | None) -> None:
    """`kind` htod, dtoh or dtod. Without a stream it waits for the null stream, which non-blocking ones do not heed."""
    name = f"memcpy_{kind}" + ("" if stream is None else "_async")
    gpu.call(name, unsafe=stream is None, nbytes=nbytes, stream=stream and stream.handle)
    uses = []
    if kind != "dtoh":
        uses.append(gpu.device_memory(target, nbytes, f"{name} writes"))
    if kind != "htod":
        uses.append(gpu.device_memory(source, nbytes, f"{name} reads"))
    pageable = False
    if kind != "dtod":
        pinned = _host_memory(gpu, source if kind == "htod" else target, nbytes, name)
        uses += [pinned] if pinned else []
        pageable = pinned is None

    def run() -> None:
        move(target, source, nbytes)
        gpu.copied[kind] += nbytes

    where = gpu.null if stream is None else stream
    where.enqueue(Work(name, run, tuple(uses)))
    if pageable and stream is not None:
        gpu.fault(f"{name}: pageable host memory, so the copy waits for the GPU")
    if pageable or stream is None:
        where.run()


def _host_memory(gpu: Gpu, address: int, nbytes: int, name: str) -> Allocation | None:
    if gpu.memory.was_pinned(address):
        gpu.rule(f"{name}: use after free of pinned memory at {address:#x}")
    return gpu.memory.pinned(address, nbytes)


def fill(gpu: Gpu, width: int, target: int, value: int, count: int, stream: Stream | None) -> None:
    """`count` values of `width` bytes. Without a stream it is the null stream's, and nobody waits for it."""
    name = f"memset_d{8 * width}" + ("" if stream is None else "_async")
    gpu.call(name, unsafe=stream is None, nbytes=width * count)
    memory = gpu.device_memory(target, width * count, name)
    first = target - memory.device_address

    def run() -> None:
        memory.device[first : first + width * count] = np.frombuffer(value.to_bytes(width, "little") * count, np.uint8)

    (gpu.null if stream is None else stream).enqueue(Work(name, run, (memory,)))

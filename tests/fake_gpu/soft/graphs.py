"""CUDA graphs: work of a stream written down once, and done again as it was then."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .errors import Refused
from .streams import RELAXED, Capture, Stream, Work

if TYPE_CHECKING:
    from gpu import Gpu, Thing


def stream_of(gpu: Gpu, handle: int, call: str) -> Stream:
    if handle not in gpu.streams:
        gpu.rule(f"{call} on {handle:#x}, which is no stream (any more)")
    return gpu.streams[handle]


def begin(gpu: Gpu, handle: int, mode: int) -> None:
    gpu.call("cuStreamBeginCapture", stream=handle, mode=mode)
    stream = stream_of(gpu, handle, "cuStreamBeginCapture")
    if handle == 0:
        gpu.fault("capture of the null stream")
        raise Refused("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
    if stream.capture is not None:
        gpu.fault("capture of a stream that is captured already")
        raise Refused("CUDA_ERROR_ILLEGAL_STATE")
    stream.capture = Capture(mode, threading.get_ident())


def end(gpu: Gpu, handle: int) -> Thing:
    stream = stream_of(gpu, handle, "cuStreamEndCapture")
    capture = stream.capture
    if capture is not None and capture.mode != RELAXED and capture.thread != threading.get_ident():
        gpu.fault("a capture is ended on another thread than began it")
        raise Refused("CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD")
    stream.capture = None  # also when it fails
    gpu.call("cuStreamEndCapture", stream=handle)
    if capture is None:
        gpu.fault("a capture is ended that never began")
        raise Refused("CUDA_ERROR_ILLEGAL_STATE")
    if capture.spoilt:
        raise Refused(capture.spoilt)
    return gpu.add("graph", work=capture.work)


def instantiate(gpu: Gpu, graph: Thing) -> Thing:
    gpu.call("cuGraphInstantiate", unsafe=True, work=len(graph.facts["work"]))
    work = graph.facts["work"]
    return gpu.add("graph exec", work=work, uses=[thing for each in work for thing in (*each.uses, *each.needs)])


def launch(gpu: Gpu, graph: Thing, handle: int) -> None:
    gpu.call("cuGraphLaunch", stream=handle)
    stream = stream_of(gpu, handle, "cuGraphLaunch")
    for thing in (graph, *graph.facts["uses"]):
        if not thing.alive:
            gpu.rule(f"cuGraphLaunch after {thing} was released")
    for work in graph.facts["work"]:
        stream.enqueue(Work(f"graph's {work.name}", work.run, work.uses, (*work.needs, graph)))


def destroy(gpu: Gpu, thing: Thing) -> None:
    gpu.call(f"{thing.kind} destroyed", context=False)
    gpu.release(thing)

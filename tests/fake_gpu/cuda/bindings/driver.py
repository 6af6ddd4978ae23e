"""The driver's graphs as cuda-bindings has them: every function returns a tuple, and its first item is a CUresult."""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import wraps
from typing import Any

from gpu import gpu
from soft import graphs
from soft.errors import CODES, Refused

_things: dict[int, Any] = {}  # by handle

CUresult = enum.IntEnum("CUresult", {name: number for name, (number, _) in CODES.items()})


class CUstreamCaptureMode(enum.IntEnum):
    CU_STREAM_CAPTURE_MODE_GLOBAL = 0
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1
    CU_STREAM_CAPTURE_MODE_RELAXED = 2


class CUstreamCaptureStatus(enum.IntEnum):
    CU_STREAM_CAPTURE_STATUS_NONE = 0
    CU_STREAM_CAPTURE_STATUS_ACTIVE = 1
    CU_STREAM_CAPTURE_STATUS_INVALIDATED = 2


class _Handle:
    def __init__(self, init_value: int = 0) -> None:
        self._value = int(init_value)

    def __int__(self) -> int:
        return self._value

    def __eq__(self, other: Any) -> bool:
        return type(self) is type(other) and int(self) == int(other)

    def __hash__(self) -> int:
        return self._value

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._value:#x}>"


class CUstream(_Handle):
    pass


class CUgraph(_Handle):
    pass


class CUgraphExec(_Handle):
    pass


def _returning(results: int) -> Callable[[Any], Any]:
    """Errors are values: so many results after the first item, None when it is an error."""

    def decorate(function: Any) -> Any:
        @wraps(function)
        def call(*args: Any, **named: Any) -> tuple[Any, ...]:
            try:
                given = function(*args, **named)
            except Refused as refused:
                return CUresult[refused.code], *[None] * results
            return (CUresult.CUDA_SUCCESS, given)[: 1 + results]

        return call

    return decorate


def _stream(stream: Any) -> int:
    return 0 if stream is None else int(stream)


def _thing(handle: Any, kind: str) -> Any:
    thing = _things.get(0 if handle is None else int(handle))
    if thing is None or thing.kind != kind:
        gpu.rule(f"{handle!r} is no {kind}")
    if not thing.alive:
        gpu.rule(f"{handle!r} was destroyed")
    return thing


def _new(kind: type[_Handle], thing: Any) -> Any:
    handle = kind(gpu.handle())
    _things[int(handle)] = thing
    return handle


@_returning(0)
def cuInit(Flags: int) -> None:
    gpu.call("init", context=False)
    gpu.initialised = True


@_returning(1)
def cuDriverGetVersion() -> int:
    return gpu.driver_version


@_returning(1)
def cuGetErrorName(error: CUresult) -> bytes:
    return CUresult(error.value).name.encode()


@_returning(1)
def cuGetErrorString(error: CUresult) -> bytes:
    return CODES[CUresult(error.value).name][1].encode()


@_returning(0)
def cuStreamBeginCapture(hStream: Any, mode: CUstreamCaptureMode) -> None:
    graphs.begin(gpu, _stream(hStream), mode.value)


@_returning(1)
def cuStreamEndCapture(hStream: Any) -> CUgraph:
    return _new(CUgraph, graphs.end(gpu, _stream(hStream)))


@_returning(1)
def cuStreamIsCapturing(hStream: Any) -> CUstreamCaptureStatus:
    capture = graphs.stream_of(gpu, _stream(hStream), "cuStreamIsCapturing").capture
    return CUstreamCaptureStatus(0 if capture is None else 2 if capture.spoilt else 1)


@_returning(1)
def cuGraphInstantiate(hGraph: Any, flags: int) -> CUgraphExec:
    return _new(CUgraphExec, graphs.instantiate(gpu, _thing(hGraph, "graph")))


@_returning(0)
def cuGraphLaunch(hGraphExec: Any, hStream: Any) -> None:
    graphs.launch(gpu, _thing(hGraphExec, "graph exec"), _stream(hStream))


@_returning(0)
def cuGraphDestroy(hGraph: Any) -> None:
    graphs.destroy(gpu, _thing(hGraph, "graph"))


@_returning(0)
def cuGraphExecDestroy(hGraphExec: Any) -> None:
    graphs.destroy(gpu, _thing(hGraphExec, "graph exec"))

"""CUDA graphs through NVIDIA's cuda-bindings, as PyCUDA has none: what was enqueued once is launched again at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cuda.bindings import driver

from edgeface.errors import DeviceLostError, EdgefaceError


class GraphError(EdgefaceError):
    """The work on the stream cannot be captured."""


class Graph:
    """The work that `enqueue` puts on the stream (a handle), captured with its addresses and shapes. Raises GraphError.

    The same work must have run once before. Nothing else may synchronise the device meanwhile.
    """

    def __init__(self, stream: int, enqueue: Callable[[], bool]) -> None:
        self._stream = driver.CUstream(stream)
        # other threads may go on allocating memory meanwhile
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        _check(driver.cuStreamBeginCapture(self._stream, mode)[0])
        enqueued = False
        try:
            enqueued = enqueue()
        finally:  # a stream that stays in capture is of no use
            code, graph = driver.cuStreamEndCapture(self._stream)
        _check(code)
        if enqueued:
            code, self._executable = driver.cuGraphInstantiate(graph, 0)
        _check(driver.cuGraphDestroy(graph)[0])
        _check(code)
        if not enqueued:
            raise GraphError("TensorRT does not enqueue it")

    def launch(self) -> None:
        """Put the work on the stream again. Raises DeviceLostError."""
        _check(driver.cuGraphLaunch(self._executable, self._stream)[0], DeviceLostError)

    def close(self) -> None:
        """Before what was captured is closed. Raises DeviceLostError."""
        _check(driver.cuGraphExecDestroy(self._executable)[0], DeviceLostError)


def _check(code: Any, kind: type[EdgefaceError] = GraphError) -> None:
    """Raises an error of this kind with the name of any code but success."""
    if code != driver.CUresult.CUDA_SUCCESS:
        raise kind(f"CUDA error {code.name}")

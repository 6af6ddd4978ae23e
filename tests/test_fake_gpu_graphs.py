"""The software GPU's graphs: they replay what was captured, and capture has its rules."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fake_gpu_program import GRID, Program, broken, picture, running

GLOBAL, THREAD_LOCAL, RELAXED = range(3)


@pytest.fixture
def program(gpu: Any) -> Iterator[Program]:
    yield from running(gpu)


@pytest.fixture
def driver(program: Program) -> Any:
    from cuda.bindings import driver

    return driver


def capture(driver: Any, program: Program, act: Callable[[], Any], mode: int = THREAD_LOCAL) -> tuple[Any, Any]:
    """What cuStreamEndCapture gives."""
    stream = driver.CUstream(program.stream.handle)
    assert driver.cuStreamBeginCapture(stream, driver.CUstreamCaptureMode(mode)) == (driver.CUresult.CUDA_SUCCESS,)
    assert driver.cuStreamIsCapturing(stream)[1] == 1
    act()
    return driver.cuStreamEndCapture(stream)


def captured(driver: Any, program: Program, act: Callable[[], Any]) -> Any:
    """A graph exec of it."""
    error, graph = capture(driver, program, act)
    assert error == driver.CUresult.CUDA_SUCCESS
    error, ready = driver.cuGraphInstantiate(graph, 0)
    assert error == driver.CUresult.CUDA_SUCCESS
    assert driver.cuGraphDestroy(graph) == (driver.CUresult.CUDA_SUCCESS,)
    return ready


def test_a_graph_does_again_what_was_captured(gpu: Any, program: Program, driver: Any) -> None:
    first = program.run()
    graph = captured(driver, program, program.enqueue)
    assert not program.stream._queue.queue  # capturing runs nothing
    program.frame[:] = 255 - picture()
    for array in program.host.values():
        array.fill(0)
    other = program.cuda.mem_alloc(program.host["bbox_8"].nbytes)
    program.execution.set_tensor_address("bbox_8", int(other))  # the graph does not notice
    assert driver.cuGraphLaunch(graph, program.stream.handle) == (driver.CUresult.CUDA_SUCCESS,)
    assert (program.host["bbox_8"] == 0).all()
    program.stream.synchronize()
    launched = {name: array.copy() for name, array in program.host.items()}
    assert (launched["bbox_8"] != first["bbox_8"]).any()
    program.frame[:] = picture()
    driver.cuGraphLaunch(graph, driver.CUstream(program.stream.handle))
    program.stream.synchronize()
    for name, array in program.host.items():
        np.testing.assert_array_equal(array, first[name])
    program.execution.set_tensor_address("bbox_8", int(program.tensors["bbox_8"]))
    driver.cuGraphExecDestroy(graph)
    other.free()
    assert (gpu.count("cuGraphLaunch"), gpu.count("launch"), gpu.count("execute_async_v3")) == (2, 2, 2)


UNSAFE = [
    lambda p: p.cuda.mem_alloc(4),
    lambda p: p.cuda.pagelocked_empty(4, np.uint8),
    lambda p: p.cuda.memcpy_dtoh(np.zeros(4), p.tensors["input"]),
    lambda p: p.cuda.module_from_buffer(p.image),
]
WAITS = [lambda p: p.stream.synchronize(), lambda p: p.stream.is_done(), lambda p: p.cuda.Context.synchronize()]


@pytest.mark.parametrize("call", UNSAFE)
@pytest.mark.parametrize("mode", [GLOBAL, THREAD_LOCAL])
def test_unsafe_calls_spoil_a_capture(
    gpu: Any, program: Program, driver: Any, mode: int, call: Callable[[Program], Any]
) -> None:
    def act() -> None:
        with pytest.raises(program.cuda.LogicError, match="operation not permitted when stream is capturing"):
            call(program)

    result = capture(driver, program, act, mode)
    assert result == (driver.CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, None)
    assert "while a stream is captured" in gpu.take()[0]


@pytest.mark.parametrize("mode", [GLOBAL, THREAD_LOCAL, RELAXED])
def test_other_threads_may_allocate_unless_the_capture_is_global(
    gpu: Any, program: Program, driver: Any, mode: int
) -> None:
    def allocate() -> None:
        program.context.push()
        with contextlib.suppress(program.cuda.LogicError):
            program.cuda.mem_alloc(4).free()
        program.context.pop()

    def act() -> None:
        thread = threading.Thread(target=allocate)
        thread.start()
        thread.join()
        if mode == RELAXED:
            allocate()

    error, graph = capture(driver, program, act, mode)
    assert (graph is None) is (mode == GLOBAL)
    assert len(gpu.take()) == (mode == GLOBAL)
    if graph is not None:
        driver.cuGraphDestroy(graph)
    assert driver.cuGetErrorName(error)[1] == (
        b"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED" if mode == GLOBAL else b"CUDA_SUCCESS"
    )


@pytest.mark.parametrize("wait", WAITS)
def test_nobody_waits_for_a_stream_that_is_captured(
    gpu: Any, program: Program, driver: Any, wait: Callable[[Program], Any]
) -> None:
    def act() -> None:
        with pytest.raises(program.cuda.LogicError, match="operation not permitted when stream is capturing"):
            wait(program)

    assert capture(driver, program, act, RELAXED)[0] == driver.CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
    assert gpu.take() == ["a stream is synchronised while it is captured"]


def test_the_null_stream_and_a_captured_blocking_stream(gpu: Any, program: Program, driver: Any) -> None:
    cuda = program.cuda
    blocking = cuda.Stream()
    driver.cuStreamBeginCapture(blocking.handle, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)
    with pytest.raises(cuda.LogicError, match="legacy stream depend on a capturing blocking stream"):
        cuda.memset_d8_async(program.tensors["input"], 0, 4)
    assert int(driver.cuStreamEndCapture(blocking.handle)[0]) == 901
    assert int(driver.cuStreamBeginCapture(0, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL)[0]) == 900
    assert len(gpu.take()) == 2


def test_a_capture_is_begun_once_and_ended_where_it_began(gpu: Any, program: Program, driver: Any) -> None:
    stream, mode = program.stream.handle, driver.CUstreamCaptureMode(THREAD_LOCAL)
    assert int(driver.cuStreamEndCapture(stream)[0]) == 401
    driver.cuStreamBeginCapture(stream, mode)
    assert int(driver.cuStreamBeginCapture(stream, mode)[0]) == 401
    found = []
    thread = threading.Thread(target=lambda: found.append(driver.cuStreamEndCapture(stream)))
    thread.start()
    thread.join()
    assert driver.cuGetErrorString(found[0][0])[1].startswith(b"attempt to terminate a thread-local capture")
    driver.cuGraphDestroy(driver.cuStreamEndCapture(stream)[1])
    assert len(gpu.take()) == 3
    with pytest.raises(AttributeError):
        driver.cuStreamBeginCapture(stream, 1)  # modes are no numbers


def test_a_network_runs_once_before_it_is_captured(gpu: Any, program: Program, driver: Any) -> None:
    def act() -> None:
        assert not program.execution.execute_async_v3(program.stream.handle)

    assert int(capture(driver, program, act)[0]) == 901
    assert "captured before it has run once with these shapes" in gpu.take()[0]


@pytest.mark.parametrize("thing", ["execution", "module", "input", "frame"])
def test_a_graph_goes_before_what_it_uses(gpu: Any, program: Program, driver: Any, thing: str) -> None:
    program.run()
    graph = captured(driver, program, program.enqueue)
    if thing == "input":
        with pytest.raises(gpu.RuleBroken, match="released before the graph exec"):
            program.tensors.pop("input").free()
    elif thing == "frame":
        with pytest.raises(gpu.RuleBroken, match="released before the graph exec"):
            program.frame.base.free()
        program.frame = program.cuda.pagelocked_empty(1, np.uint8)
    else:
        program.crop = None
        setattr(program, thing, None)
    assert "released before the graph exec that uses it" in gpu.take()[0]
    broken(gpu, "was released", lambda: driver.cuGraphLaunch(graph, program.stream.handle))
    driver.cuGraphExecDestroy(graph)
    program.execution = None
    gpu.take()  # an input that is gone was still bound


def test_graphs_that_are_gone(gpu: Any, program: Program, driver: Any) -> None:
    graph = captured(driver, program, lambda: program.crop(program.task(), stream=program.stream, **GRID))
    driver.cuGraphLaunch(graph, program.stream.handle)
    broken(
        gpu, "graph exec released while queued work (graph's crop) uses it", lambda: driver.cuGraphExecDestroy(graph)
    )
    broken(gpu, "was destroyed", lambda: driver.cuGraphLaunch(graph, program.stream.handle))
    broken(gpu, "was destroyed", lambda: driver.cuGraphExecDestroy(graph))
    broken(gpu, "is no graph", lambda: driver.cuGraphInstantiate(None, 0))
    broken(gpu, "runs after graph exec was released", program.stream.synchronize)


def test_graphs_need_a_context_and_a_stream(gpu: Any, program: Program, driver: Any) -> None:
    graph = captured(driver, program, lambda: None)
    handle = program.stream.handle
    broken(gpu, "which is no stream", lambda: driver.cuGraphLaunch(graph, 77))
    program.context.pop()
    assert driver.cuGraphLaunch(graph, handle) == (driver.CUresult.CUDA_ERROR_INVALID_CONTEXT,)
    program.context.push()
    assert "no context is current" in gpu.take()[0]
    driver.cuGraphExecDestroy(graph)

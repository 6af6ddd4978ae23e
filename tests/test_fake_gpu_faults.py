"""Faults put into the software GPU: calls that fail, work that kills the device, engine files that are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from fake_gpu.plans import make_plan
from fake_gpu_program import GRID, SIZE, Program, running

DETECTOR = ROOT / "engines" / "edgeface-detector.onnx"
SHAPES = {"input": (1, 1, SIZE[1], SIZE[0])}


@pytest.fixture
def program(gpu: Any) -> Iterator[Program]:
    yield from running(gpu)


def test_the_third_allocation_fails(gpu: Any, program: Program) -> None:
    gpu.fail("mem_alloc", at=3)
    held = [program.cuda.mem_alloc(4), program.cuda.mem_alloc(4)]
    with pytest.raises(program.cuda.MemoryError, match="cuMemAlloc failed: out of memory"):
        program.cuda.mem_alloc(4)
    held.append(program.cuda.mem_alloc(4))
    for memory in held:
        memory.free()


def test_no_device(gpu: Any) -> None:
    import pycuda.driver as cuda

    gpu.devices = 0
    with pytest.raises(cuda.RuntimeError, match="cuInit failed: no CUDA-capable device is detected") as caught:
        cuda.init()
    assert isinstance(caught.value, cuda.Error)
    assert not isinstance(caught.value, RuntimeError)  # Python's


@pytest.mark.parametrize("call", ["launch", "execute_async_v3"])
def test_work_that_kills_the_device_shows_at_the_next_synchronisation_and_ever_after(
    gpu: Any, program: Program, call: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cuda, text = program.cuda, "failed: an illegal memory access was encountered"
    gpu.fail(call, error="CUDA_ERROR_ILLEGAL_ADDRESS")
    program.enqueue()
    with pytest.raises(cuda.LogicError, match=f"cuStreamSynchronize {text}"):
        program.stream.synchronize()
    assert all((array.view(np.uint8) == 0xA5).all() for array in program.host.values())
    for routine, act in [
        ("cuStreamSynchronize", program.stream.synchronize),
        ("cuMemAlloc", lambda: cuda.mem_alloc(4)),
        ("cuLaunchKernel", lambda: program.crop(np.zeros(112, np.uint8), stream=program.stream, **GRID)),
        ("cuCtxPopCurrent", program.context.pop),
    ]:
        with pytest.raises(cuda.LogicError, match=f"{routine} {text}"):
            act()
    assert not program.execution.execute_async_v3(program.stream.handle)
    assert program.engine.create_execution_context() is None
    capsys.readouterr()
    program.tensors["input"].free()  # PyCUDA only says so
    assert (
        f"PyCUDA WARNING: a clean-up operation failed (dead context maybe?)\ncuMemFree {text}"
        in capsys.readouterr().err
    )
    assert len(gpu.alive) == 26


@pytest.mark.parametrize(
    ("error", "kind"),
    [("CUDA_ERROR_LAUNCH_FAILED", "LaunchError"), ("CUDA_ERROR_ECC_UNCORRECTABLE", "RuntimeError")],
)
def test_errors_have_pycudas_classes(gpu: Any, program: Program, error: str, kind: str) -> None:
    gpu.fail("synchronize", error=error)
    with pytest.raises(getattr(program.cuda, kind)) as caught:
        program.stream.synchronize()
    assert type(caught.value).__module__ == "pycuda._driver"
    assert gpu.lost == error


def test_tensorrts_calls_fail_by_what_they_return(
    gpu: Any, program: Program, capsys: pytest.CaptureFixture[str]
) -> None:
    for call, error in (("execute_async_v3", "no tactic"), ("create_execution_context", "CUDA_ERROR_OUT_OF_MEMORY")):
        gpu.fail(call, error=error, times=2)
    for _ in range(2):
        assert not program.execution.execute_async_v3(program.stream.handle)
        assert "[TRT] [E] IExecutionContext::enqueueV3: no tactic" in capsys.readouterr().err
        assert program.engine.create_execution_context() is None
        assert "out of memory" in capsys.readouterr().err
    assert program.engine.create_execution_context() is not None
    program.run()


def test_a_runtime_that_cannot_be(gpu: Any, program: Program) -> None:
    import tensorrt as trt

    gpu.fail("Runtime")
    with pytest.raises(TypeError, match="factory function returned nullptr"):
        trt.Runtime(program.logger)
    with pytest.raises(TypeError):
        trt.Runtime(None)


def test_a_graph_that_cannot_be(gpu: Any, program: Program) -> None:
    from cuda.bindings import driver

    stream, mode = program.stream.handle, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    gpu.fail("cuStreamEndCapture", error="CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")
    driver.cuStreamBeginCapture(stream, mode)
    assert driver.cuStreamEndCapture(stream) == (driver.CUresult.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, None)
    gpu.fail("cuGraphInstantiate")
    driver.cuStreamBeginCapture(stream, mode)
    graph = driver.cuStreamEndCapture(stream)[1]
    assert driver.cuGraphInstantiate(graph, 0) == (driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY, None)
    driver.cuGraphDestroy(graph)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda plan: b"", "Cannot deserialize with an empty memory buffer"),
        (lambda plan: b"garbage" * 9, "header.magicTag == kEXPECTED_MAGIC_TAG failed"),
        (lambda plan: plan[:20], "header.magicTag"),
        (lambda plan: plan[:-1], "plan.header.size == blobSize failed"),
        ({"version": (10, 7, 0, 23)}, "expecting library version 10.3.0.30 got 10.7.0.23, please rebuild."),
        ({"compute_capability": (8, 6)}, "incompatible device, expecting compute 8.7 got compute 8.6, please rebuild."),
        ({"version_compatible": True}, "getEngineHostCodeAllowed() is false"),
        ({"dla": True}, "Cannot create DLA engine, 0 not available"),
    ],
)
def test_engine_files_are_refused_in_tensorrts_words(
    gpu: Any, program: Program, capsys: pytest.CaptureFixture[str], change: Any, text: str
) -> None:
    options = change if isinstance(change, dict) else {}
    plan = make_plan(DETECTOR, shapes=SHAPES, **options)
    plan = plan if options else change(plan)
    assert program.runtime.deserialize_cuda_engine(plan) is None
    assert text in capsys.readouterr().err


def test_engine_files_that_are_taken_after_all(gpu: Any, program: Program) -> None:
    gpu.dla_cores = 2
    program.runtime.engine_host_code_allowed = True
    program.runtime.DLA_core = 1
    assert (program.runtime.DLA_core, program.runtime.num_DLA_cores) == (1, 2)
    plan = make_plan(DETECTOR, shapes=SHAPES, dla=True, version_compatible=True, version=(8, 6, 2, 3))
    assert program.runtime.deserialize_cuda_engine(plan) is not None
    gpu.tensorrt_version = "10.13.0.35"
    assert program.runtime.deserialize_cuda_engine(make_plan(DETECTOR, shapes=SHAPES, version=(10, 13, 0, 35)))
    program.runtime.DLA_core = 2
    assert program.runtime.DLA_core == 1


def test_what_an_engine_has_differs_by_version(gpu: Any, program: Program) -> None:
    has = {}
    for version in ("8.6.2", "10.3.0", "11.4.0.106"):
        gpu.tensorrt_version = version
        has[version] = [hasattr(program.engine, f"device_memory_size{suffix}") for suffix in ("", "_v2")]
    assert list(has.values()) == [[True, False], [True, True], [False, True]]


def test_a_profiler_is_told_after_the_network_has_run(gpu: Any, program: Program) -> None:
    import tensorrt as trt

    times: list[tuple[str, float]] = []

    class Profiler(trt.IProfiler):
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, name: str, milliseconds: float) -> None:
            times.append((name, milliseconds))

    program.execution.profiler = Profiler()
    program.enqueue()
    assert times == []
    program.stream.synchronize()
    program.execution.enqueue_emits_profile = False
    program.run()
    assert len(times) == 1
    program.execution.report_to_profiler()
    assert [name for name, _ in times] == ["network"] * 2
    del program.execution.profiler

"""The software GPU's rules of networks: each is broken once, and caught."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from fake_gpu.plans import make_plan
from fake_gpu_program import Program, broken, running


@pytest.fixture
def program(gpu: Any) -> Iterator[Program]:
    yield from running(gpu)


def test_a_network_needs_every_address_and_shape(gpu: Any, program: Program) -> None:
    import tensorrt as trt

    errors = []

    class Recorder(trt.IErrorRecorder):
        def __init__(self) -> None:
            trt.IErrorRecorder.__init__(self)

        def report_error(self, code: Any, text: str) -> bool:
            errors.append((code, text))
            return False

    program.runtime.error_recorder = Recorder()
    profile = {"input": ((1, 1, 64, 64), (1, 1, 64, 64), (1, 1, 128, 128))}
    plan = make_plan(ROOT / "engines" / "edgeface-detector.onnx", profile=profile)
    engine = program.runtime.deserialize_cuda_engine(plan)
    execution = engine.create_execution_context()
    run = partial(execution.execute_async_v3, program.stream.handle)
    assert engine.get_tensor_shape("input") == (-1, 1, -1, -1)
    assert [tuple(each) for each in engine.get_tensor_profile_shape("input", 0)] == list(profile["input"])
    assert execution.infer_shapes() == ["input"]
    assert not run()
    assert "shape of input input is not set" in gpu.take()[0]
    assert not execution.set_input_shape("input", (1, 1, 64, 160))
    assert errors[-1][0] == trt.ErrorCodeTRT.INVALID_ARGUMENT
    assert "Set dimension [1,1,64,160] for tensor input does not satisfy any" in errors[-1][1]
    assert not run()  # on, as if nothing had been refused
    assert "was refused" in gpu.take()[0]
    assert execution.set_input_shape("input", (1, 1, 64, 96))
    assert execution.get_tensor_shape("score_8") == (1, 96, 1)
    assert not execution.set_tensor_address("none", 4096)
    assert not run()
    assert "Address is not set for tensor input" in gpu.take()[0]
    assert len(errors) == 5


def test_a_networks_tensors_lie_in_memory_that_the_gpu_sees(gpu: Any, program: Program) -> None:
    def run(name: str, place: int) -> None:
        program.execution.set_tensor_address(name, place)
        program.execution.execute_async_v3(program.stream.handle)

    score, box = (program.tensors[name] for name in ("score_8", "bbox_8"))
    broken(gpu, "tensor bbox_8", lambda: run("bbox_8", int(score)))  # too small
    broken(gpu, "not a multiple of 256", lambda: run("bbox_8", int(box) + 16))
    broken(gpu, "not one of the GPU's", lambda: run("bbox_8", program.frame.ctypes.data))
    run("bbox_8", int(box))
    program.stream.synchronize()


def test_a_network_runs_on_a_stream_that_is_there_and_one_at_a_time(gpu: Any, program: Program) -> None:
    other = program.cuda.Stream(1)
    handle = other.handle
    assert program.execution.execute_async_v3(program.stream.handle)
    broken(gpu, "on two streams at a time", lambda: program.execution.execute_async_v3(handle))
    del other
    broken(gpu, "which is no stream (any more)", lambda: program.execution.execute_async_v3(handle))
    program.stream.synchronize()
    assert program.execution.execute_async_v3(0)  # which waits for all
    assert gpu.null.queue == program.stream._queue.queue


def test_one_logger_a_process(gpu: Any, program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    import tensorrt as trt

    program.logger.min_severity = trt.Logger.WARNING
    runtime = trt.Runtime(trt.Logger())
    assert "a second logger" in gpu.take()[0]
    assert "differs from one already registered" in capsys.readouterr().err
    del runtime


def test_a_logger_that_is_gone(gpu: Any) -> None:
    import pycuda.driver as cuda
    import tensorrt as trt

    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    for _ in range(2):
        trt.Runtime(trt.Logger())
    assert "is gone" in gpu.take()[0]
    context.pop()
    context.detach()


@pytest.mark.parametrize("version", ["8.6.2", "10.3.0", "11.4.0.106"])
def test_enums_are_no_numbers_and_shapes_no_tuples(gpu: Any, version: str) -> None:
    import tensorrt as trt

    gpu.tensorrt_version = version
    assert trt.__version__ == version
    assert trt.DataType.FLOAT != 0 != int(trt.DataType.FLOAT)
    assert trt.DataType(int(trt.DataType.HALF)) is trt.float16
    assert [trt.nptype(trt.DataType.__members__[name]) for name in ("FLOAT", "INT8")] == [np.float32, np.int8]
    with pytest.raises(TypeError):
        trt.nptype(trt.DataType.BF16)
    shape = trt.Dims((1, -1))
    assert (shape == [1, -1], shape[1:], len(shape), trt.volume(shape)) == (True, (-1,), 2, -1)
    with pytest.raises(TypeError):
        shape == trt.Dims((1, -1))  # noqa: B015
    with pytest.raises(AttributeError):
        trt.Builder  # noqa: B018


def test_a_recorder_must_call_its_base(gpu: Any) -> None:
    import tensorrt as trt

    class Recorder(trt.IErrorRecorder):
        def __init__(self) -> None:
            self.errors = []

    with pytest.raises(TypeError, match="must be called when overriding __init__"):
        Recorder()

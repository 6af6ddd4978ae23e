"""The software GPU answers questions as the real libraries do, and refuses the arguments that they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from fake_gpu.plans import make_plan
from fake_gpu_program import GRID, KERNELS, Program, broken, running


@pytest.fixture
def program(gpu: Any) -> Iterator[Program]:
    yield from running(gpu)


def test_a_device_says_what_it_is(gpu: Any) -> None:
    import pycuda.driver as cuda

    gpu.name, gpu.compute_capability, gpu.total_memory, gpu.driver_version = "Thor", (11, 0), 1 << 37, 13000
    with pytest.raises(cuda.LogicError, match="initialization error"):
        cuda.Device.count()
    cuda.init()
    device = cuda.Device(0)
    assert (device.count(), device.name(), device.total_memory()) == (1, "Thor", 1 << 37)
    assert (device.compute_capability(), device.compute_capability_major) == ((11, 0), 11)
    attribute = cuda.device_attribute
    for integrated in (True, False):
        gpu.integrated = integrated
        assert device.get_attribute(attribute.INTEGRATED) == device.integrated == integrated
    assert device.get_attribute(attribute.CAN_MAP_HOST_MEMORY) == 1
    assert device.pci_bus_id() == "0000:01:00.0"
    assert (cuda.get_version(), cuda.get_driver_version()) == ((13, 0, 0), 13000)
    with pytest.raises(AttributeError):
        device.colour  # noqa: B018
    assert {device: 1}[cuda.Device(0)] == 1


def test_the_primary_context_is_one(program: Program) -> None:
    other = program.cuda.Device(0).retain_primary_context()
    assert (other, hash(other)) == (program.context, hash(program.context))
    other.detach()


def test_an_engine_says_what_it_is(gpu: Any, program: Program) -> None:
    import tensorrt as trt

    engine, mode = program.engine, trt.TensorIOMode
    modes = {name: engine.get_tensor_mode(name) for name in ("input", "score_8", "none")}
    assert list(modes.values()) == [mode.INPUT, mode.OUTPUT, mode.NONE]
    assert engine.get_tensor_location("input") is trt.TensorLocation.DEVICE
    assert engine.get_tensor_format("input") is trt.TensorFormat.LINEAR
    assert engine.get_tensor_format_desc("input") == "Row-major linear FP32 format"
    assert str(engine.get_tensor_profile_shape("input", 0)) == "[(1, 1, 192, 320), (1, 1, 192, 320), (1, 1, 192, 320)]"
    with pytest.raises(RuntimeError):
        engine.get_tensor_profile_shape("input", 1)
    assert repr(mode.INPUT) == f"<TensorIOMode.INPUT: {mode.INPUT.value}>"
    assert trt.init_libnvinfer_plugins(program.logger, "")


def test_an_execution_context_says_what_it_is(program: Program) -> None:
    execution = program.execution
    assert execution.get_tensor_address("input") == int(program.tensors["input"])
    assert execution.get_tensor_shape("input") == (1, 1, 192, 320)
    assert [execution.set_optimization_profile_async(k, program.stream.handle) for k in (0, 1)] == [True, False]
    assert not execution.set_input_shape("none", (1,))
    assert not execution.report_to_profiler()
    assert execution.set_tensor_address("input", program.tensors["input"])  # what has an __index__ is a number
    for act in (
        lambda: execution.set_tensor_address("input", program.frame),
        lambda: execution.set_input_shape("input", np.array([1, 1, 192, 320])),
        lambda: execution.execute_async_v3(program.stream),
    ):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            act()


def test_outputs_of_free_axes_have_no_shape_yet(program: Program) -> None:
    profile = {"input": ((1, 1, 64, 64),) * 3}
    network = ROOT / "engines" / "edgeface-detector.onnx"
    engine = program.runtime.deserialize_cuda_engine(make_plan(network, profile=profile))
    assert engine.create_execution_context().get_tensor_shape("score_8") == (-1, -1, 1)
    with pytest.raises(ValueError, match="a plan needs a profile"):
        program.runtime.deserialize_cuda_engine(make_plan(network))


def test_a_plan_of_no_network(program: Program, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.onnx").write_bytes(b"nothing")
    assert program.runtime.deserialize_cuda_engine(make_plan(tmp_path / "net.onnx")) is None
    assert "Assertion engine failed" in capsys.readouterr().err


def test_a_recorder_that_raises_is_not_heard(gpu: Any, program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    import tensorrt as trt

    class Recorder(trt.IErrorRecorder):
        def report_error(self, code: Any, text: str) -> bool:
            raise KeyError("oh")

    program.runtime.error_recorder = Recorder()
    assert program.runtime.deserialize_cuda_engine(b"") is None
    assert "[ERROR] Exception caught in report_error(): 'oh'" in capsys.readouterr().err
    assert gpu.take() == ["report_error raised: KeyError('oh')"]
    with pytest.raises(TypeError):
        program.runtime.error_recorder = 3


def test_pinned_memory_says_what_it_is(gpu: Any, program: Program) -> None:
    flags = program.cuda.host_alloc_flags
    array = program.cuda.pagelocked_empty((2, 3), np.float16, "F", flags.PORTABLE | flags.DEVICEMAP)
    assert (array.shape, array.strides, array.dtype, array.nbytes) == ((2, 3), (2, 4), np.float16, 12)
    base = array.base
    assert base.get_flags() == 3
    del array
    base.free()
    broken(gpu, "get_device_pointer: use after free", base.get_device_pointer)


def test_large_memory_is_given_back_to_the_machine(program: Program) -> None:
    array = program.cuda.pagelocked_empty(3 << 20, np.uint8)
    array.base.free()
    assert (array[0], array[-1]) == (0xDD, 0)


def test_buffers_are_contiguous_and_writable_where_they_must_be(program: Program) -> None:
    cuda, memory = program.cuda, program.tensors["input"]
    with pytest.raises(ValueError, match="not contiguous"):
        cuda.memcpy_htod(memory, np.zeros(8)[::2])
    with pytest.raises(BufferError, match="not writable"):
        cuda.memcpy_dtoh(b"1234", memory)
    cuda.memcpy_htod(memory, b"1234")
    out = bytearray(4)
    cuda.memcpy_dtoh(out, memory)
    assert out == b"1234"


def test_events_know_when_they_were(program: Program) -> None:
    cuda = program.cuda
    first, second = cuda.Event(cuda.event_flags.DISABLE_TIMING), cuda.Event()
    with pytest.raises(cuda.LogicError, match="invalid resource handle"):
        second.time_since(first)
    first.record(program.stream)
    program.enqueue()
    second.record(program.stream)
    with pytest.raises(cuda.RuntimeError, match="device not ready"):
        first.time_till(second)
    second.synchronize()
    assert first.time_till(second) == 0
    stream = cuda.Stream(1)
    first.record(stream)
    del stream  # with an event on it, which is no work


def test_what_functions_refuse(gpu: Any, program: Program) -> None:
    task, stream = program.task(), program.stream
    with pytest.raises(ValueError, match="extra keyword arguments: colour"):
        program.crop(task, **GRID, colour=1)
    with pytest.raises(TypeError, match="_set_block_shape"):
        program.crop(task, grid=(10, 24), block=(32, 8), stream=stream)
    with pytest.raises(TypeError, match="no tuple"):
        program.crop.prepare("P").prepared_async_call((10, 24), stream, task)
    assert program.crop.prepare([np.float32, "112s", np.dtype("i4"), object]).arg_format == "f112siL"
    broken(gpu, "found 16", lambda: program.crop(program.tensors["input"], np.float64(1), stream=stream, **GRID))


def test_what_loading_a_module_says(program: Program) -> None:
    said = []
    load, ptx = program.cuda.module_from_buffer, (KERNELS / "crop-cu11-compute_72.ptx").read_bytes()
    load(ptx, message_handler=lambda *words: said.append(words))
    with pytest.raises(program.cuda.LogicError):
        load(ptx[:2000], message_handler=lambda *words: said.append(words))
    with pytest.raises(program.cuda.LogicError, match="device kernel image is invalid"):
        load(b"\x7fELF" + bytes(90))
    assert said == [(True, "", ""), (False, "", "ptxas fatal   : Ptx assembly aborted due to errors")]


def test_nothing_is_queued_on_a_stream_that_is_gone(gpu: Any, program: Program) -> None:
    from soft.streams import Work

    stream = program.cuda.Stream(1)
    queue = stream._queue
    del stream
    broken(gpu, "copy on a destroyed stream", lambda: queue.enqueue(Work("copy", lambda: None)))


def test_contexts_after_the_device_is_lost(gpu: Any, program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    other = program.cuda.Device(0).retain_primary_context()
    gpu.fail("synchronize", error="CUDA_ERROR_LAUNCH_FAILED")
    with pytest.raises(program.cuda.LaunchError):
        program.stream.synchronize()
    other.detach()
    assert "cuDevicePrimaryCtxRelease failed: unspecified launch failure" in capsys.readouterr().err
    with pytest.raises(program.cuda.LaunchError, match="cuCtxPushCurrent"):
        program.context.push()


def test_a_context_that_is_gone_is_not_pushed(gpu: Any) -> None:
    import pycuda.driver as cuda

    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    context.detach()
    with pytest.raises(cuda.LogicError, match="cuCtxPushCurrent failed: invalid device context"):
        context.push()

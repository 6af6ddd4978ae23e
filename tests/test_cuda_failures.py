"""How the GPU backend fails and ends, on the software GPU: what is said, and that all is given back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from gpu_kit import captured, host_frame, opener, write_default_engines, write_soft_engine
from onnx import TensorProto, helper

from edgeface.boxes import letterbox
from edgeface.errors import DeviceError, DeviceLostError, EngineError
from edgeface.model_card import find_card, load_card

DETECTOR, LANDMARKS = find_card("edgeface-detector"), find_card("edgeface-landmarks")
SIZE = 128, 128
PICTURE = host_frame(np.random.default_rng(5).integers(0, 256, (90, 160, 3), np.uint8))
WHOLE = letterbox((160, 90), SIZE)
FACES = np.array([[10, 10, 60, 60], [-5.5, 30, 40, 80]], np.float32)
Open = Callable[..., Any]


@pytest.fixture
def opened(gpu: Any, tmp_path: Path) -> Iterator[Open]:
    """Open networks as the backend does, with engines of tmp_path; they are closed at the end."""
    with ExitStack() as stack:
        yield opener(tmp_path, stack)


def given_back(gpu: Any) -> bool:
    return gpu.alive == [] and not gpu.contexts and gpu.retained == 0


def test_all_is_given_back_in_order(gpu: Any, tmp_path: Path) -> None:
    write_default_engines(tmp_path)
    for integrated in (True, False):
        gpu.integrated = integrated
        with ExitStack() as stack:
            engines, glimpse, *_ = opener(tmp_path, stack)((DETECTOR, SIZE), (LANDMARKS, None))
            glimpse(PICTURE)
            engines[0].infer(PICTURE, WHOLE)
            engines[1].infer(PICTURE, FACES)
            assert not given_back(gpu)
        assert given_back(gpu)


@pytest.mark.parametrize("integrated", [True, False])
@pytest.mark.parametrize(
    "call",
    [
        *("stream_create", "get_function", "mem_alloc", "pagelocked_empty", "get_device_pointer", "synchronize"),
        *("deserialize_cuda_engine", "create_execution_context"),
    ],
)
def test_out_of_memory_at_load_says_so_and_takes_nothing_with_it(
    gpu: Any, tmp_path: Path, call: str, integrated: bool
) -> None:
    gpu.integrated = integrated
    write_default_engines(tmp_path)
    with ExitStack() as stack:
        opener(tmp_path, stack)((DETECTOR, SIZE), (LANDMARKS, None))
        calls = gpu.count(call)
    for at in range(1, calls + 1):
        gpu.fail(call)
        gpu._faults[-1].at = at
        with ExitStack() as stack, pytest.raises(DeviceError, match=r"(?i)out.?of.?memory") as raised:
            opener(tmp_path, stack)((DETECTOR, SIZE), (LANDMARKS, None))
        assert type(raised.value) is DeviceError
        assert raised.value.exit_code == 1
        assert given_back(gpu)
        gpu._faults.clear()


@pytest.mark.parametrize(
    "call",
    ["stream_create", "get_function", "mem_alloc", "create_execution_context", "synchronize", "execute_async_v3"],
)
def test_a_gpu_that_is_lost_at_load_is_not_touched_any_more(gpu: Any, tmp_path: Path, call: str) -> None:
    write_default_engines(tmp_path)
    gpu.fail(call, error="CUDA_ERROR_ILLEGAL_ADDRESS")
    with ExitStack() as stack, pytest.raises(DeviceLostError, match=r"^Orin: CUDA error: .*illegal memory access"):
        opener(tmp_path, stack)((DETECTOR, SIZE))
    given = ("mem_free", "pagelocked_free", "module_unload", "stream_destroy", "detach")
    assert [gpu.count(name) for name in given] == [0] * len(given)
    assert "execution context" not in gpu.released


def test_out_of_memory_in_tensorrt_says_how_much_there_is(gpu: Any, tmp_path: Path, opened: Open) -> None:
    write_default_engines(tmp_path)
    gpu.fail("deserialize_cuda_engine")
    with pytest.raises(DeviceError, match=r"TensorRT cannot load it: .*\d+ of 8192 MiB are free\)$"):
        opened((DETECTOR, SIZE))


def test_an_engine_that_tensorrt_refuses(gpu: Any, tmp_path: Path, opened: Open) -> None:
    says = {"compute_capability": "8.7"}
    path = write_soft_engine(tmp_path, DETECTOR, SIZE, passport=says, compute_capability=(8, 6))
    with pytest.raises(EngineError) as found:
        opened((DETECTOR, SIZE))
    assert str(found.value).startswith(f"{path}: TensorRT cannot load it: ")
    assert "expecting compute 8.7 got compute 8.6" in str(found.value)
    assert "edgeface build edgeface-detector --precision fp16" in str(found.value)
    assert "\n" not in str(found.value)


def test_what_is_wrong_with_a_file_is_said_before_cuda_starts(gpu: Any, tmp_path: Path, opened: Open) -> None:
    write_default_engines(tmp_path)
    path = write_soft_engine(tmp_path, LANDMARKS, (80, 80))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EngineError, match="edgeface build edgeface-landmarks"):
        opened((DETECTOR, SIZE), (LANDMARKS, None))  # the last one of them
    assert gpu.log == []


def test_an_engine_of_another_gpu_is_refused_before_a_context_is_made(gpu: Any, tmp_path: Path, opened: Open) -> None:
    gpu.compute_capability = (11, 0)
    write_soft_engine(tmp_path, DETECTOR, SIZE)
    with pytest.raises(
        EngineError, match=r"expected an engine for compute capability 11.0 \(Orin\), found one for 8.7"
    ):
        opened((DETECTOR, SIZE))
    assert gpu.count("retain_primary_context") == 0


# --- an engine that is not what the card says


def plain_network(path: Path, inputs: list[Any], outputs: list[Any]) -> None:
    """Adds up each input and gives it as every output, in its type."""
    nodes = [helper.make_node("ReduceSum", [inputs[0].name], ["sum"], keepdims=0)]
    for output in outputs:
        shape = [dim.dim_value for dim in output.type.tensor_type.shape.dim]
        nodes.append(helper.make_node("Cast", ["sum"], [f"{output.name}_c"], to=output.type.tensor_type.elem_type))
        nodes.append(helper.make_node("Expand", [f"{output.name}_c", f"{output.name}_s"], [output.name]))
        nodes.append(
            helper.make_node(
                "Constant",
                [],
                [f"{output.name}_s"],
                value=helper.make_tensor("s", TensorProto.INT64, [len(shape)], shape),
            )
        )
    nodes.sort(key=lambda node: node.op_type != "Constant")
    graph = helper.make_graph(nodes, "plain", inputs, outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


def value(name: str, shape: list[int], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        (
            [value("in", [1, 3, 32, 64])],
            [value("out", [1, 4])],
            r"expected one input \[n, 3, 64, 64\], found .*in.*32, 64",
        ),
        ([value("in", [1, 3, 64])], [value("out", [1, 4])], "expected one input"),
        ([value("in", [1, 3, 64, 64]), value("more", [1, 1])], [value("out", [1, 4])], "expected one input .*more"),
        (
            [value("in", [1, 3, 64, 64])],
            [value("out", [1, 4], TensorProto.INT32)],
            "expected tensors of float32 or float16",
        ),
        ([value("in", [2, 3, 64, 64])], [value("out", [3, 4])], "expected outputs with rows for each crop, found out"),
    ],
)
def test_an_engine_that_the_card_does_not_describe(
    gpu: Any, tmp_path: Path, opened: Open, make_card: Any, inputs: list[Any], outputs: list[Any], said: str
) -> None:
    plain_network(tmp_path / "net.onnx", inputs, outputs)
    card = load_card(make_card())
    shapes = {one.name: tuple(dim.dim_value for dim in one.type.tensor_type.shape.dim) for one in inputs}
    write_soft_engine(tmp_path, card, (64, 64), shapes=shapes)
    with pytest.raises(EngineError, match=said) as found:
        opened((card, None))
    assert "edgeface build net --precision fp16" in str(found.value)


# --- in mid-run


@pytest.mark.parametrize("error", ["CUDA_ERROR_ILLEGAL_ADDRESS", "CUDA_ERROR_INVALID_VALUE"])
@pytest.mark.parametrize("call", ["push", "launch", "cuGraphLaunch", "synchronize", "pop"])
def test_a_cuda_error_in_mid_run_is_named_and_nothing_is_touched_any_more(
    gpu: Any, tmp_path: Path, call: str, error: str
) -> None:
    write_default_engines(tmp_path)
    with ExitStack() as stack:
        engines, *_ = opener(tmp_path, stack)((DETECTOR, SIZE), (LANDMARKS, None))
        engines[0].infer(PICTURE, WHOLE)
        gpu.fail(call, error=error)
        with pytest.raises(
            DeviceLostError, match=r"^(Orin: )?CUDA error.*(illegal memory|invalid arg|INVALID)"
        ) as raised:
            engines[0].infer(PICTURE, WHOLE)
        assert raised.value.exit_code == 1
        gpu.log.clear()
    assert gpu.log == []
    gpu.lost = gpu.lost or "by CUDA's word"  # nothing is given back
    gpu.contexts.clear()


def test_an_error_that_cuda_repeats_is_named_as_it_was_first(gpu: Any, tmp_path: Path, opened: Open) -> None:
    write_default_engines(tmp_path)
    (engine,), *_ = opened((DETECTOR, SIZE))
    gpu.fail("synchronize", error="CUDA_ERROR_INVALID_VALUE")
    gpu.fail("pop", error="CUDA_ERROR_LAUNCH_FAILED")
    with pytest.raises(DeviceLostError, match=r"^Orin: CUDA error: cuStreamSynchronize failed: invalid argument$"):
        engine.infer(PICTURE, WHOLE)
    gpu.contexts.clear()


def test_out_of_memory_in_mid_run_gives_all_back(gpu: Any, tmp_path: Path) -> None:
    write_default_engines(tmp_path)
    with ExitStack() as stack:
        (engine,), *_ = opener(tmp_path, stack)((DETECTOR, SIZE))
        gpu.fail("launch")
        with pytest.raises(DeviceError, match="out of memory") as raised:
            engine.infer(PICTURE, WHOLE)
    assert type(raised.value) is DeviceError
    assert given_back(gpu)  # though the error still knows where it was


def test_an_enqueue_that_tensorrt_refuses_loses_the_gpu_too(gpu: Any, tmp_path: Path, opened: Open) -> None:
    write_default_engines(tmp_path)
    (engine,), *_ = opened((LANDMARKS, None))
    gpu.fail("execute_async_v3", error="CUDA_ERROR_INVALID_VALUE")
    with pytest.raises(DeviceLostError, match=r"edgeface-landmarks.*: TensorRT cannot run it: .*enqueueV3"):
        engine.infer(PICTURE, FACES)
    assert engine._gpu.lost
    engine._gpu.lost = False  # it is not in truth: let the test give all back
    with engine._gpu:
        engine._gpu.synchronize()


def test_out_of_memory_for_a_larger_frame_is_an_error_of_its_own(gpu: Any, tmp_path: Path, opened: Open) -> None:
    write_default_engines(tmp_path)
    (engine,), *_ = opened((DETECTOR, SIZE))
    engine.infer(PICTURE, WHOLE)
    gpu.fail("pagelocked_empty")
    larger = host_frame(np.zeros((900, 1600, 3), np.uint8))
    with pytest.raises(DeviceError, match="out of memory"):
        engine.infer(larger, letterbox((1600, 900), SIZE))
    engine.infer(PICTURE, WHOLE)  # which lay in the buffer that went
    engine.infer(larger, letterbox((1600, 900), SIZE))


@pytest.mark.parametrize("form", ["i420", "bgr16"])
def test_a_frame_of_a_format_that_the_kernel_does_not_read(gpu: Any, tmp_path: Path, opened: Open, form: str) -> None:
    from edgeface.cuda.picture import Picture
    from edgeface.values import Frame

    gpu.integrated = False
    write_default_engines(tmp_path)
    (engine,), *_ = opened((DETECTOR, SIZE))
    gpu.log.clear()
    for pixels in (PICTURE.pixels, Picture(4096, 160, 160 * 90)):
        with pytest.raises(EngineError, match=f"the GPU backend expects .*frames of .*bgr8.*, found {form}"):
            engine.infer(Frame(0, 0, 160, 90, form, pixels), WHOLE)
    assert gpu.count("memcpy_htod_async") == 0  # nothing is left on the stream
    engine.infer(PICTURE, WHOLE)


# --- what TensorRT or the driver may refuse


@pytest.mark.parametrize(
    ("method", "said"),
    [("set_tensor_address", "refuses the memory of input_face_images"), ("set_input_shape", "refuses 32 crops")],
)
def test_a_binding_that_tensorrt_refuses(
    gpu: Any, tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch, method: str, said: str
) -> None:
    import tensorrt as trt

    write_default_engines(tmp_path)
    monkeypatch.setattr(trt.IExecutionContext, method, lambda *_: False)
    with pytest.raises(
        EngineError, match=f"TensorRT {said}: it says no more; build it anew: edgeface build edgeface-landmarks"
    ):
        opened((LANDMARKS, None))


def test_tensors_that_are_not_row_by_row(
    gpu: Any, tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorrt as trt

    write_default_engines(tmp_path)
    monkeypatch.setattr(trt.ICudaEngine, "get_tensor_format", lambda *_: "CHW16")
    with pytest.raises(EngineError, match="expected tensors of float32 or float16, row by row, found input of .*CHW16"):
        opened((DETECTOR, SIZE))


def test_the_ptx_is_loaded_where_the_driver_refuses_the_cubin(gpu: Any, tmp_path: Path, opened: Open) -> None:
    write_default_engines(tmp_path)
    gpu.fail("module_from_buffer", error="CUDA_ERROR_NO_BINARY_FOR_GPU")
    (engine,), *_ = opened((DETECTOR, SIZE))
    engine.infer(PICTURE, WHOLE)
    assert gpu.count("module_from_buffer") == 2


def test_a_gpu_that_takes_no_kernel(gpu: Any, tmp_path: Path, opened: Open) -> None:
    write_default_engines(tmp_path)
    gpu.fail("module_from_buffer", error="CUDA_ERROR_NO_BINARY_FOR_GPU", times=2)
    with pytest.raises(DeviceError, match=r"^Orin: no kernel can be loaded \(crop-cu11-sm_87.cubin: .*; crop-.*ptx: "):
        opened((DETECTOR, SIZE))


def test_an_integrated_gpu_that_maps_no_memory_copies(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pycuda.driver as cuda

    write_default_engines(tmp_path)
    known = cuda.Device.get_attribute
    unmapped = cuda.device_attribute.CAN_MAP_HOST_MEMORY
    monkeypatch.setattr(cuda.Device, "get_attribute", lambda self, name: 0 if name == unmapped else known(self, name))
    with ExitStack() as stack:
        *_, facts = opener(tmp_path, stack)((DETECTOR, SIZE))
    assert facts["frame_memory"] == "device"


def test_captured_frames_of_all_sizes_are_copied_into_one_buffer(gpu: Any, tmp_path: Path, opened: Open) -> None:
    write_default_engines(tmp_path)
    (engine,), *_ = opened((DETECTOR, SIZE), frame_memory="device")
    gpu.log.clear()
    for number, scale in enumerate((1, 2, 1, 2)):
        bgr = np.zeros((90 * scale, 160 * scale, 3), np.uint8)
        frame = captured(bgr, "nv12", gpu.map_host, number)
        engine.infer(frame, WHOLE)
        gpu.unmap(frame.pixels.plane)
    assert (gpu.count("mem_alloc"), gpu.count("mem_free")) == (2, 1)

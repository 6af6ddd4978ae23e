"""What must hold on every GPU: on NVIDIA's with scripts/test-gpu (EDGEFACE_TEST_GPU=1), else on the software GPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import ROOT
from gpu_kit import CAPTURES, captured, host_frame, opener, write_default_engines

from edgeface.boxes import iou, letterbox
from edgeface.config import load_config
from edgeface.cpu.crop import glimpse as cpu_glimpse
from edgeface.cpu.engine import open_engine as open_cpu
from edgeface.model_card import find_card, input_sizes
from edgeface.networks import make_detector, make_landmarker
from edgeface.values import Detections, Frame

REAL = os.environ.get("EDGEFACE_TEST_GPU") == "1"
FRAMES = 10_000 if REAL else 60
DETECTOR, LANDMARKS = find_card("edgeface-detector"), find_card("edgeface-landmarks")
PIXELS = {"fp32": 0.5, "fp16": 1.5}  # how far a box may be from the CPU's


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The default networks' engines of a precision, built once."""
    done: dict[str, Path] = {}

    def build(precision: str) -> Path:
        if precision not in done:
            folder = done[precision] = tmp_path_factory.mktemp(precision)
            if REAL:
                from edgeface.build.engine import draft, finish
                from edgeface.build.trt import Order

                timing_cache = b""
                for card, size in (*((DETECTOR, size) for size in input_sizes(DETECTOR)), (LANDMARKS, (80, 80))):
                    order = Order(card, size, precision, None, None, 1024)  # type: ignore[arg-type]
                    timing_cache = finish(draft(order, folder=folder, runtime="tensorrt"), timing_cache)
            else:
                write_default_engines(folder, precision=precision)
        return done[precision]

    return build


@pytest.fixture
def memory(request: pytest.FixtureRequest) -> Iterator[Callable[[int], tuple[np.ndarray, int]]]:
    """Mapped memory as a camera's: bytes -> the host's array and the GPU's address."""
    if not REAL:
        gpu = request.getfixturevalue("gpu")
        addresses: list[int] = []

        def map_host(nbytes: int) -> tuple[np.ndarray, int]:
            array, address = gpu.map_host(nbytes)
            addresses.append(address)
            return array, address

        yield map_host
        for address in addresses:
            gpu.unmap(address)
        return
    import pycuda.driver as cuda

    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    arrays: list[np.ndarray] = []

    def allocate(nbytes: int) -> tuple[np.ndarray, int]:
        context.push()
        arrays.append(cuda.pagelocked_empty(nbytes, np.uint8, mem_flags=cuda.host_alloc_flags.DEVICEMAP))
        address = int(arrays[-1].base.get_device_pointer())
        cuda.Context.pop()
        return arrays[-1], address

    yield allocate
    context.push()
    for array in arrays:
        array.base.free()
    cuda.Context.pop()
    context.detach()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A frame of the demo clip."""
    good, pixels = cv2.VideoCapture(str(ROOT / "edgeface" / "demo" / "demo.mp4")).read()
    assert good
    return pixels


@pytest.fixture
def needs(request: pytest.FixtureRequest) -> None:
    """TensorRT and PyCUDA: the machine's, or the software GPU's."""
    if REAL:
        pytest.importorskip("tensorrt", reason="no TensorRT for this Python: only the kernels are tested")
    else:
        request.getfixturevalue("gpu")


def sure(detections: Detections) -> Detections:
    keep = detections.score > 0.5
    return Detections(detections.xyxy[keep], detections.score[keep], detections.keypoints[keep])


def detected(engine: Any, frame: Frame) -> Detections:
    return make_detector(DETECTOR, engine, load_config(None, {})).detect(frame)


@pytest.mark.parametrize("precision", PIXELS)
def test_faces_are_the_cpus(needs: None, built: Any, memory: Any, picture: np.ndarray, precision: str) -> None:
    on_the_cpu = open_cpu(DETECTOR, None, threads=2, spinning=False)
    wanted = sure(detected(on_the_cpu, host_frame(picture)))
    assert len(wanted.score) >= 3
    frames = [host_frame(picture), *(captured(picture, form, memory) for form in CAPTURES)]
    for frame_memory in ("mapped", "device"):
        with ExitStack() as stack:
            settings = {"precisions": (precision,), "frame_memory": frame_memory}
            (engine,), *_ = opener(built(precision), stack)((DETECTOR, None), **settings)
            for frame in frames:
                found = detected(engine, frame)
                nearest = iou(wanted.xyxy, found.xyxy).argmax(axis=1)
                limit = PIXELS[precision] + (0.5 if frame.format in ("nv12", "yuyv") else 0)  # half the colours
                np.testing.assert_allclose(found.xyxy[nearest], wanted.xyxy, rtol=0, atol=limit, err_msg=frame.format)
                np.testing.assert_allclose(found.score[nearest], wanted.score, rtol=0, atol=0.05)


@pytest.mark.parametrize("precision", PIXELS)
def test_landmarks_are_the_cpus(needs: None, built: Any, picture: np.ndarray, precision: str) -> None:
    config = load_config(None, {})
    on_the_cpu = open_cpu(LANDMARKS, None, threads=2, spinning=False)
    boxes = sure(detected(open_cpu(DETECTOR, None, threads=2, spinning=False), host_frame(picture))).xyxy
    with ExitStack() as stack:
        (engine,), *_ = opener(built(precision), stack)((LANDMARKS, None), precisions=(precision,))
        for count in (1, 3, 40):
            some = np.tile(boxes, (40, 1))[:count]
            found, wanted = (
                make_landmarker(LANDMARKS, each, config).locate(host_frame(picture), some)
                for each in (engine, on_the_cpu)
            )
            sides = np.sqrt((some[:, 2:] - some[:, :2]).prod(axis=1))[:, None, None]
            np.testing.assert_allclose(found.xy / sides, wanted.xy / sides, rtol=0, atol=0.02)
            grey, known = engine.pictures(), on_the_cpu.pictures()
            assert np.abs(grey - known).mean() < 1
            assert np.abs(grey - known).max() < 12


def test_the_glimpse_is_the_cpus(needs: None, built: Any, picture: np.ndarray) -> None:
    with ExitStack() as stack:
        _, glimpse, *_ = opener(built("fp16"), stack)((LANDMARKS, None))
        np.testing.assert_allclose(glimpse(host_frame(picture)).astype(int), cpu_glimpse(host_frame(picture)), atol=3)


@pytest.mark.parametrize("graph", [True, False])
def test_nothing_grows(needs: None, built: Any, picture: np.ndarray, graph: bool) -> None:
    """Neither the GPU's memory nor the host's, over many frames of faces that come and go."""
    frames = [host_frame(picture, number) for number in range(2)]
    boxes = np.tile(np.array([[100, 50, 200, 150]], np.float32), (12, 1))
    crops = letterbox((640, 360), (640, 640))

    def taken() -> tuple[int, float]:
        import pycuda.driver as cuda

        from edgeface.bench import resident_mb

        context = cuda.Device(0).retain_primary_context()
        context.push()
        free, _ = cuda.mem_get_info()
        cuda.Context.pop()
        context.detach()
        return -free, resident_mb()["now"]

    with ExitStack() as stack:
        engines, glimpse, *_ = opener(built("fp16"), stack)((DETECTOR, None), (LANDMARKS, None), graph=graph)
        before = (0, 0.0)
        for number in range(FRAMES):
            engines[0].infer(frames[number % 2], crops)
            engines[1].infer(frames[number % 2], boxes[: number % 13])
            glimpse(frames[number % 2])
            if number == FRAMES // 5:
                before = taken()
        after = taken()
    assert after[0] - before[0] <= (1 << 20 if REAL else 0)
    assert after[1] - before[1] < 4


def test_the_kernels_load_and_are_the_cpus_on_this_gpu(
    request: pytest.FixtureRequest, memory: Any, picture: np.ndarray
) -> None:
    """The crop kernel alone, without TensorRT: every format, cut anywhere."""
    if not REAL:
        request.getfixturevalue("gpu")
    from edgeface.cpu.crop import Cropper
    from edgeface.cuda.crop import FrameMemory, Kernels
    from edgeface.cuda.memory import Gpu, Shared

    spec, size = LANDMARKS.input, (80, 80)
    crops = np.array([[100, 50, 200, 150], [-30, -20, 90, 100], [500, 200, 780, 480], [0, 0, 640, 640]], np.float32)
    wanted = Cropper(spec, size)(host_frame(picture), crops)
    gpu = Gpu(0)
    with ExitStack() as end:
        gpu.open(end)
        end.enter_context(gpu)
        stack = end.enter_context(ExitStack())
        kernels = Kernels(gpu)
        for mapped in (True, False):
            staging = FrameMemory(gpu, mapped=mapped)
            boxes = Shared(gpu, crops.shape, np.float32, mapped=mapped)
            stack.callback(boxes.free)
            tensor = Shared(gpu, wanted.shape, np.float32, mapped=mapped)
            stack.callback(tensor.free)
            launch = kernels.cropper(spec, size, half=False)
            for frame in (host_frame(picture), *(captured(picture, form, memory) for form in CAPTURES)):
                boxes.host[:] = crops
                boxes.to_gpu(boxes.host)
                launch(staging.picture(frame), frame, boxes.address, tensor.address, len(crops))
                tensor.to_host(tensor.host)
                gpu.synchronize()
                difference = np.abs(tensor.host - wanted)
                assert difference.mean() < 1, frame.format
                assert difference.max() < 16, frame.format

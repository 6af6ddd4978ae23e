"""The TensorRT engine on the software GPU: what it computes, what it costs, and how it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import demo_picture
from gpu_kit import CAPTURES, captured, host_frame, opener, write_default_engines, write_soft_engine
from msgspec.structs import replace

from edgeface.boxes import iou, letterbox
from edgeface.config import load_config
from edgeface.cpu.crop import glimpse as cpu_glimpse
from edgeface.cpu.engine import open_engine as open_cpu
from edgeface.errors import ConfigError, DeviceLostError
from edgeface.model_card import find_card
from edgeface.networks import make_detector, make_landmarker
from edgeface.values import Detections, Frame, Landmarks

DETECTOR, LANDMARKS = find_card("edgeface-detector"), find_card("edgeface-landmarks")
SIZE = 320, 192
FACES = np.array([[100, 40, 180, 120], [-20.5, 10, 60, 90.25], [300, 200, 460, 360], [600, 300, 700, 400]], np.float32)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A frame of the demo clip."""
    return demo_picture()


@pytest.fixture
def opened(gpu: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Open networks as the backend does, with engines of tmp_path; they are closed at the end."""
    with ExitStack() as stack:
        yield opener(tmp_path, stack)


@pytest.fixture
def capture(gpu: Any) -> Iterator[Callable[[np.ndarray, str], Frame]]:
    """Pictures as a camera captures them, in memory that lives till the end."""
    frames: list[Frame] = []

    def take(bgr: np.ndarray, form: str) -> Frame:
        frames.append(captured(bgr, form, gpu.map_host, len(frames)))
        return frames[-1]

    yield take
    for frame in frames:
        gpu.unmap(frame.pixels.plane)


Open = Callable[..., Any]


def found_by(engine: Any, frame: Frame) -> Detections:
    """The faces, best first."""
    return make_detector(DETECTOR, engine, load_config(None, {})).detect(frame)


def found_by_the_cpu(size: tuple[int, int], frame: Frame) -> Detections:
    engine = open_cpu(DETECTOR, size, threads=1, spinning=False)
    return found_by(engine, frame)


def assert_same(found: Detections, wanted: Detections, pixels: float) -> None:
    """The same faces, in frame pixels."""
    sure = wanted.score > 0.5
    assert np.count_nonzero(sure) >= 2
    nearest = iou(wanted.xyxy[sure], found.xyxy).argmax(axis=1)
    np.testing.assert_allclose(found.xyxy[nearest], wanted.xyxy[sure], rtol=0, atol=pixels)
    np.testing.assert_allclose(found.keypoints[nearest], wanted.keypoints[sure], rtol=0, atol=pixels)
    np.testing.assert_allclose(found.score[nearest], wanted.score[sure], rtol=0, atol=0.02)


def located(engine: Any, frame: Frame, boxes: np.ndarray) -> Landmarks:
    return make_landmarker(LANDMARKS, engine, load_config(None, {})).locate(frame, boxes)


# --- what it computes


@pytest.mark.parametrize("integrated", [True, False])
@pytest.mark.parametrize("half_io", [False, True])
def test_a_detector_finds_what_the_cpu_finds(
    gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray, integrated: bool, half_io: bool
) -> None:
    gpu.integrated = integrated
    write_soft_engine(tmp_path, DETECTOR, SIZE, half_io=half_io)
    (engine,), *_ = opened((DETECTOR, SIZE))
    assert engine.infer(host_frame(picture), letterbox((640, 360), SIZE))["score_8"].dtype == (
        np.float16 if half_io else np.float32
    )
    for code in (None, cv2.COLOR_BGR2BGRA, cv2.COLOR_BGR2GRAY):
        frame = host_frame(picture if code is None else cv2.cvtColor(picture, code))
        assert_same(found_by(engine, frame), found_by_the_cpu(SIZE, frame), pixels=0.5)


@pytest.mark.parametrize("memory", ["mapped", "device"])
@pytest.mark.parametrize("form", CAPTURES)
def test_a_captured_frame_is_as_good_as_opencvs(
    gpu: Any, tmp_path: Path, opened: Open, capture: Any, picture: np.ndarray, form: str, memory: str
) -> None:
    write_soft_engine(tmp_path, DETECTOR, SIZE)
    (engine,), *_ = opened((DETECTOR, SIZE), frame_memory=memory)
    frame = capture(picture, form)
    assert_same(found_by(engine, frame), found_by_the_cpu(SIZE, host_frame(picture)), pixels=1.0)
    copies = 0 if memory == "mapped" else 1
    assert gpu.count("memcpy_dtod_async") == copies
    assert gpu.copied["dtod"] == copies * frame.pixels.nbytes


@pytest.mark.parametrize("integrated", [True, False])
@pytest.mark.parametrize("batch", [None, 3])
def test_landmarks_of_any_number_of_faces(
    gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray, batch: int | None, integrated: bool
) -> None:
    gpu.integrated = integrated
    write_soft_engine(tmp_path, LANDMARKS, (80, 80), batch=batch)
    (engine,), *_ = opened((LANDMARKS, None))
    assert engine.outputs["softargmax"] == (1, 80, 2)
    on_the_cpu = open_cpu(LANDMARKS, None, threads=1, spinning=False)
    frame = host_frame(picture)
    faces = found_by_the_cpu((640, 640), frame)
    faces = faces.xyxy[faces.score > 0.5]
    for count in (1, 2, 32, 33, 70, 3):
        boxes = np.tile(faces, (70, 1))[:count]
        found, wanted = located(engine, frame, boxes), located(on_the_cpu, frame, boxes)
        size = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))[:, None, None]
        np.testing.assert_allclose(found.xy / size, wanted.xy / size, rtol=0, atol=0.01)
        np.testing.assert_allclose(found.score, wanted.score, rtol=0, atol=0.05)
        grey, known = engine.pictures(), on_the_cpu.pictures()
        assert grey.shape == known.shape == (count, 80, 80)
        assert np.abs(grey - known).mean() < 1
    assert engine.pictures().dtype == np.float32
    assert {len(rows) for rows in engine.infer(frame, FACES[:0]).values()} == {0}
    assert engine.pictures().shape == (0, 80, 80)


def test_pictures_are_what_the_network_saw_without_mean_and_scale(
    gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray
) -> None:
    changed = replace(LANDMARKS, input=replace(LANDMARKS.input, mean=(100.0,), scale=0.02))
    write_soft_engine(tmp_path, LANDMARKS, (80, 80), batch=4)
    (engine,), *_ = opened((changed, None))
    (filled,) = gpu.calls("memset_d8_async")  # rows that no crop fills must be numbers, too
    assert filled["nbytes"] == 4 * LANDMARKS.input.channels * 80 * 80 * 4
    on_the_cpu = open_cpu(changed, None, threads=1, spinning=False)
    for runs in (engine, on_the_cpu):
        runs.infer(host_frame(picture), FACES)
    np.testing.assert_allclose(engine.pictures(), on_the_cpu.pictures(), rtol=0, atol=2.5)


@pytest.mark.parametrize("form", ["bgr8", "nv12"])
def test_the_glimpse_is_the_cpus(
    gpu: Any, tmp_path: Path, opened: Open, capture: Any, picture: np.ndarray, form: str
) -> None:
    write_soft_engine(tmp_path, DETECTOR, SIZE)
    _, glimpse, *_ = opened((DETECTOR, SIZE))
    first = glimpse(capture(picture, form))
    np.testing.assert_allclose(first.astype(int), cpu_glimpse(host_frame(picture)), atol=3)
    kept = first.copy()
    glimpse(host_frame(np.zeros_like(picture), 1))
    np.testing.assert_array_equal(first, kept)  # the caller's to keep


# --- what it costs


@pytest.mark.parametrize("integrated", [True, False])
def test_one_launch_of_each_and_one_synchronisation_a_call(
    gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray, integrated: bool
) -> None:
    gpu.integrated = integrated
    write_default_engines(tmp_path)
    engines, glimpse, *_ = opened((DETECTOR, None), (DETECTOR, (128, 128)), (LANDMARKS, None))
    for number in range(3):
        frame = host_frame(picture, number)
        for call, crops in (
            *((engine, letterbox((640, 360), engine.input_size)) for engine in engines[:2]),
            (engines[2], FACES[:3]),
            (glimpse, None),
        ):
            gpu.log.clear()
            gpu.copied.clear()
            call(frame) if crops is None else call.infer(frame, crops)
            assert (gpu.count("launch"), gpu.count("synchronize")) == (1, 1)
            networks = [gpu.count("cuGraphLaunch"), gpu.count("execute_async_v3")]
            assert networks == ([0, 0] if crops is None else [0, 1] if call is engines[2] else [1, 0])
            uploads = picture.nbytes if call is engines[0] else 0  # once a frame, whoever needs it first
            if integrated:
                assert gpu.copied == {}
            elif crops is not None:
                assert gpu.copied["htod"] == uploads + crops.nbytes
                rows = len(crops)
                assert gpu.copied["dtoh"] == sum(4 * rows * int(np.prod(s)) for s in call.outputs.values())
            else:
                assert (gpu.copied["htod"], gpu.copied["dtoh"]) == (0, 128 * 72)


def test_nothing_grows(gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray) -> None:
    write_default_engines(tmp_path)
    engines, glimpse, *_ = opened((DETECTOR, (128, 128)), (LANDMARKS, None))
    gpu.compute = False
    alive = 0
    for number in range(300):
        frame = host_frame(picture, number)
        glimpse(frame)
        engines[0].infer(frame, letterbox((640, 360), (128, 128)))
        engines[1].infer(frame, np.tile(FACES, (10, 1))[: number % 40])
        alive = alive or len(gpu.alive)
        assert len(gpu.alive) == alive


@pytest.mark.parametrize("integrated", [True, False])
def test_a_frame_larger_than_the_staging_buffer(
    gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray, integrated: bool
) -> None:
    gpu.integrated = integrated
    write_soft_engine(tmp_path, DETECTOR, SIZE)
    (engine,), *_ = opened((DETECTOR, SIZE))
    alive = set()
    for scale in (0.5, 2, 1, 2):
        pixels = cv2.resize(picture, None, fx=scale, fy=scale)
        frame = host_frame(pixels)
        assert_same(found_by(engine, frame), found_by_the_cpu(SIZE, frame), pixels=0.75 * scale)
        alive.add(len(gpu.alive))
    assert len(alive) == 1  # the smaller buffer went


@pytest.mark.parametrize("graph", [True, False])
def test_a_fixed_batch_is_replayed_as_a_graph_if_asked_for(
    gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray, graph: bool
) -> None:
    write_soft_engine(tmp_path, DETECTOR, SIZE)
    (engine,), *_ = opened((DETECTOR, SIZE), graph=graph)
    assert gpu.count("cuGraphLaunch") == (1 if graph else 0)  # warmed up, too
    gpu.log.clear()
    engine.infer(host_frame(picture), letterbox((640, 360), SIZE))
    assert (gpu.count("cuGraphLaunch"), gpu.count("execute_async_v3")) == ((1, 0) if graph else (0, 1))


@pytest.mark.parametrize("call", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"])
def test_without_a_graph_layers_are_enqueued_and_it_is_said(
    gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    write_soft_engine(tmp_path, DETECTOR, SIZE)
    gpu.fail(call, error="CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
    (engine,), *_ = opened((DETECTOR, SIZE))
    assert "no CUDA graph" in caplog.text
    assert "STREAM_CAPTURE_UNSUPPORTED" in caplog.text
    assert_same(found_by(engine, host_frame(picture)), found_by_the_cpu(SIZE, host_frame(picture)), pixels=0.5)


def test_why_tensorrt_is_not_captured_is_said_then_and_not_later(
    gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    write_soft_engine(tmp_path, DETECTOR, SIZE)
    gpu.fail("execute_async_v3", at=2, error="CUDA_ERROR_NOT_SUPPORTED")
    (engine,), *_ = opened((DETECTOR, SIZE))
    assert "TensorRT does not enqueue it: IExecutionContext::enqueueV3" in caplog.text
    gpu.fail("execute_async_v3", error="CUDA_ERROR_INVALID_VALUE")
    with pytest.raises(DeviceLostError, match=r"TensorRT cannot run it: [^;]*invalid argument$"):
        engine.infer(host_frame(picture), letterbox((640, 360), SIZE))
    gpu.lost = "by TensorRT's word"  # nothing is given back


# --- where it runs


def test_the_kernel_is_loaded_before_the_first_frame(gpu: Any, tmp_path: Path, opened: Open) -> None:
    write_soft_engine(tmp_path, DETECTOR, SIZE)
    opened((DETECTOR, SIZE))
    assert gpu.count("launch") == 1


def test_any_thread_may_call_it(gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray) -> None:
    write_soft_engine(tmp_path, DETECTOR, SIZE)
    (engine,), *_ = opened((DETECTOR, SIZE))
    crops = letterbox((640, 360), SIZE)
    here = {name: values.copy() for name, values in engine.infer(host_frame(picture), crops).items()}
    there: list[Any] = []
    thread = threading.Thread(target=lambda: there.append(engine.infer(host_frame(picture, 1), crops)))
    thread.start()
    thread.join()
    for name, values in here.items():
        np.testing.assert_array_equal(there[0][name], values)


def test_a_dla_core(gpu: Any, tmp_path: Path, opened: Open) -> None:
    gpu.dla_cores = 2
    write_soft_engine(tmp_path, DETECTOR, SIZE, dla=True)
    write_soft_engine(tmp_path, LANDMARKS, (80, 80))
    engines, *_ = opened((DETECTOR, SIZE), (LANDMARKS, None), dla_core=1)
    assert [engine.precision for engine in engines] == ["fp16", "fp16"]
    engines[0].infer(host_frame(np.zeros((90, 160, 3), np.uint8)), letterbox((160, 90), SIZE))
    assert gpu.copied["dtoh"]  # what a DLA writes lies in memory of the GPU
    assert [call["dla_core"] for call in gpu.calls("deserialize_cuda_engine")] == [1, -1]


def test_a_dla_core_that_is_not_there(gpu: Any, tmp_path: Path, opened: Open) -> None:
    write_soft_engine(tmp_path, DETECTOR, SIZE, dla=True)
    with pytest.raises(ConfigError, match=r"cuda.dla_core = 0: TensorRT 10.3.0 sees 0 DLA cores on Orin"):
        opened((DETECTOR, SIZE), dla_core=0)


def test_no_such_gpu(gpu: Any, tmp_path: Path, opened: Open) -> None:
    write_soft_engine(tmp_path, DETECTOR, SIZE)
    with pytest.raises(ConfigError, match=r"cuda.device = 1: expected one below 1"):
        opened((DETECTOR, SIZE), device=1)


def test_what_it_says_of_itself(gpu: Any, tmp_path: Path, opened: Open) -> None:
    for integrated, asked, used in ((True, "auto", "mapped"), (False, "auto", "device"), (True, "device", "device")):
        gpu.integrated = integrated
        write_soft_engine(tmp_path, DETECTOR, SIZE)
        with ExitStack() as stack:
            *_, facts = opener(tmp_path, stack)((DETECTOR, SIZE), frame_memory=asked)
        assert facts == {"gpu": "Orin", "tensorrt": "10.3.0", "frame_memory": used}

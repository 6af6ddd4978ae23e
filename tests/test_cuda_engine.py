"""The TensorRT engine on the software GPU: what it computes, what it costs, and how it fails."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import ROOT, scrfd_outputs
from gpu_kit import CAPTURES, captured, write_default_engines, write_soft_engine

from edgeface.boxes import letterbox
from edgeface.cpu.crop import glimpse as cpu_glimpse
from edgeface.cpu.engine import open_engine as open_cpu
from edgeface.errors import ConfigError, DeviceError, DeviceLostError, EngineError
from edgeface.model_card import Card, find_card, load_card
from edgeface.values import Frame

DETECTOR, LANDMARKS = find_card("edgeface-detector"), find_card("edgeface-landmarks")
SIZE = 320, 192
FACES = np.array([[100, 40, 180, 120], [-20.5, 10, 60, 90.25], [300, 200, 460, 360], [600, 300, 700, 400]], np.float32)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A frame of the demo clip."""
    capture = cv2.VideoCapture(str(ROOT / "edgeface" / "demo" / "demo.mp4"))
    good, pixels = capture.read()
    assert good
    return pixels


def host_frame(pixels: np.ndarray, number: int = 0) -> Frame:
    form = {2: "gray8", 3: "bgr8"}.get(pixels.ndim if pixels.ndim == 2 else pixels.shape[2], "bgra8")
    return Frame(number, number * 33_333_333, pixels.shape[1], pixels.shape[0], form, pixels)


Open = Callable[..., Any]


@pytest.fixture
def opened(gpu: Any, tmp_path: Path) -> Iterator[Open]:
    """Open networks as the backend does; what is built beforehand can be told. They are closed at the end."""
    with ExitStack() as stack:

        def open_them(*networks: tuple[Card, tuple[int, int] | None], close: ExitStack | None = None, **changes: Any) -> Any:
            from edgeface.cuda.engine import open_engines

            settings = {"device": 0, "precision": "fp16", "dla_core": None, "graph": True, "frame_memory": "auto"}
            found = [(with_folder(card, tmp_path), size) for card, size in networks]
            return open_engines(found, close or stack, **(settings | changes))

        yield open_them


def with_folder(card: Card, folder: Path) -> Card:
    import msgspec

    return msgspec.structs.replace(card, folders=(str(folder), *card.folders))


def cpu_outputs(card: Card, size: tuple[int, int] | None, frame: Frame, crops: np.ndarray) -> dict[str, np.ndarray]:
    engine = open_cpu(card, size, threads=1, spinning=False)
    outputs = engine.infer(frame, crops)
    engine.close()
    return dict(outputs)


# --- what it computes


@pytest.mark.parametrize("integrated", [True, False])
@pytest.mark.parametrize("half_io", [False, True])
def test_a_detector_gives_what_the_cpu_gives(
    gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray, integrated: bool, half_io: bool
) -> None:
    gpu.integrated = integrated
    write_soft_engine(tmp_path, DETECTOR, SIZE, half_io=half_io)
    (engine,), *_ = opened((DETECTOR, SIZE))
    crops = letterbox((640, 360), SIZE)
    for pixels in (picture, cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA), cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)):
        wanted = cpu_outputs(DETECTOR, SIZE, host_frame(pixels), crops)
        found = engine.infer(host_frame(pixels), crops)
        assert set(found) == set(wanted)
        for name, values in wanted.items():
            assert found[name].dtype == (np.float16 if half_io else np.float32)
            assert found[name].shape == values.shape == engine.outputs[name]
            np.testing.assert_allclose(found[name], values, atol=0.05 if half_io else 0.03)


@pytest.mark.parametrize("memory", ["mapped", "device"])
@pytest.mark.parametrize("form", CAPTURES)
def test_a_captured_frame_gives_what_opencvs_does(
    gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray, form: str, memory: str
) -> None:
    write_soft_engine(tmp_path, DETECTOR, SIZE)
    (engine,), *_ = opened((DETECTOR, SIZE), frame_memory=memory)
    crops = letterbox((640, 360), SIZE)
    frame = captured(picture, form, gpu.map_host)
    wanted = cpu_outputs(DETECTOR, SIZE, host_frame(picture), crops)
    for name, values in engine.infer(frame, crops).items():
        np.testing.assert_allclose(values, wanted[name], atol=0.08)
    copies = 0 if memory == "mapped" else 1
    assert gpu.count("memcpy_dtod_async") == copies
    assert gpu.copied["dtod"] == copies * frame.pixels.nbytes
    gpu.unmap(frame.pixels.plane)


@pytest.mark.parametrize("integrated", [True, False])
@pytest.mark.parametrize("count", [1, 4, 32, 33, 70])
def test_faces_of_any_number(
    gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray, count: int, integrated: bool
) -> None:
    gpu.integrated = integrated
    write_soft_engine(tmp_path, LANDMARKS, (80, 80))
    (engine,), *_ = opened((LANDMARKS, None))
    crops = np.tile(FACES, (18, 1))[:count]
    wanted = cpu_outputs(LANDMARKS, None, host_frame(picture), crops)
    engine.infer(host_frame(picture), FACES[:2])  # another batch before
    found = engine.infer(host_frame(picture), crops)
    for name, values in wanted.items():
        assert found[name].shape == values.shape
        np.testing.assert_allclose(found[name], values, atol=0.4)
    grey = engine.pictures()
    assert grey.shape == (count, 80, 80)
    np.testing.assert_allclose(grey[:4], grey[4 * ((count - 1) // 4 - (count < 8)) :][:4] if count >= 8 else grey[:4])


def test_a_fixed_batch_is_run_as_often_as_it_takes(
    gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray
) -> None:
    write_soft_engine(tmp_path, LANDMARKS, (80, 80), batch=3)
    (engine,), *_ = opened((LANDMARKS, None))
    for count in (1, 3, 4):
        crops = FACES[:count]
        wanted = cpu_outputs(LANDMARKS, None, host_frame(picture), crops)
        for name, values in engine.infer(host_frame(picture), crops).items():
            np.testing.assert_allclose(values, wanted[name], atol=0.4)
    assert engine.outputs["softargmax"] == (1, 68, 2)


@pytest.mark.parametrize("form", ["bgr8", "nv12"])
def test_the_glimpse_is_the_cpus(gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray, form: str) -> None:
    write_soft_engine(tmp_path, DETECTOR, SIZE)
    _, glimpse, *_ = opened((DETECTOR, SIZE))
    first = glimpse(captured(picture, form, gpu.map_host))
    np.testing.assert_allclose(first.astype(int), cpu_glimpse(host_frame(picture)), atol=2)
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
        crops = letterbox(pixels.shape[1::-1], SIZE)
        wanted = cpu_outputs(DETECTOR, SIZE, host_frame(pixels), crops)
        for name, values in engine.infer(host_frame(pixels), crops).items():
            np.testing.assert_allclose(values, wanted[name], atol=0.03)
        alive.add(len(gpu.alive))
    assert len(alive) == 1  # the smaller buffer went


@pytest.mark.parametrize("graph", [True, False])
def test_a_fixed_batch_is_replayed_as_a_graph_if_asked_for(
    gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray, graph: bool
) -> None:
    write_soft_engine(tmp_path, DETECTOR, SIZE)
    (engine,), *_ = opened((DETECTOR, SIZE), graph=graph)
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
    crops = letterbox((640, 360), SIZE)
    wanted = cpu_outputs(DETECTOR, SIZE, host_frame(picture), crops)
    for name, values in engine.infer(host_frame(picture), crops).items():
        np.testing.assert_allclose(values, wanted[name], atol=0.03)


# --- where it runs


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
    assert [call["dla_core"] for call in gpu.calls("deserialize_cuda_engine")] == [1, 0]
    assert [engine.precision for engine in engines] == ["fp16", "fp16"]


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
            *_, facts = opened((DETECTOR, SIZE), frame_memory=asked, close=stack)
        assert facts == {"gpu": "Orin", "tensorrt": "10.3.0", "frame_memory": used}


# --- how it ends


def test_all_is_given_back_in_order(gpu: Any, tmp_path: Path, opened: Open, picture: np.ndarray) -> None:
    write_default_engines(tmp_path)
    with ExitStack() as stack:
        engines, glimpse, *_ = opened((DETECTOR, None), (LANDMARKS, None), close=stack)
        frame = host_frame(picture)
        glimpse(frame)
        engines[0].infer(frame, letterbox((640, 360), (640, 640)))
        engines[1].infer(frame, FACES)
    assert gpu.alive == []
    assert gpu.contexts == []
    assert gpu.retained == 0


def test_an_engine_that_fails_to_load_takes_nothing_with_it(gpu: Any, tmp_path: Path, opened: Open) -> None:
    write_default_engines(tmp_path)
    for call in ("retain_primary_context", "mem_alloc", "pagelocked_empty", "create_execution_context"):
        for at in (1, 2):
            gpu.integrated = False
            gpu.fail(call, at=at)
            with ExitStack() as stack, pytest.raises(DeviceError) as raised:
                opened((DETECTOR, None), (LANDMARKS, None), close=stack)
            if at == 1 or call != "retain_primary_context":
                assert "memory" in str(raised.value)
            assert gpu.alive == []
            gpu._faults.clear()


def test_out_of_memory_at_load_says_how_much_there_is(gpu: Any, tmp_path: Path, opened: Open) -> None:
    write_default_engines(tmp_path)
    gpu.fail("deserialize_cuda_engine")
    with pytest.raises(DeviceError, match=r"TensorRT cannot load it: .*[Mm]emory.*\d+ of \d+ MiB are free"):
        opened((DETECTOR, None))


def test_an_engine_that_tensorrt_refuses(gpu: Any, tmp_path: Path, opened: Open) -> None:
    path = write_soft_engine(tmp_path, DETECTOR, SIZE, passport={"compute_capability": "8.7"}, compute_capability=(8, 6))
    with pytest.raises(EngineError, match=r"cannot load it: .*expecting compute 8.7.*edgeface build edgeface-detector") as found:
        opened((DETECTOR, SIZE))
    assert str(path) in str(found.value)
    assert "\n" not in str(found.value)

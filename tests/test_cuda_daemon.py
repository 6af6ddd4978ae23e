"""The whole daemon on the software GPU: a camera through jetson-utils, a thousand frames, and what may go wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import ROOT
from fakes import FakePublisher, fake_jetson_utils
from gpu_kit import as_captured, write_default_engines

from edgeface import bench, daemon
from edgeface.client import Subscriber
from edgeface.config import Config, load_config
from edgeface.daemon import Health, Stop, loop
from edgeface.errors import DeviceLostError
from edgeface.parts import build

RUN = [sys.executable, "-c", "import sys; from edgeface.cli import main; sys.exit(main())", "run"]
SIZE = 320, 192


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """A frame of the demo clip."""
    good, pixels = cv2.VideoCapture(str(ROOT / "edgeface" / "demo" / "demo.mp4")).read()
    assert good
    return pixels


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("engines")
    sys.path.insert(0, str(ROOT / "tests" / "fake_gpu"))
    write_default_engines(folder, looks=[SIZE])
    sys.path.pop(0)
    return folder


def config(engines: Path, **changes: Any) -> Config:
    settings: dict[str, Any] = {
        "backend": "cuda",
        "engines": [str(engines)],
        "detector": {"scales": [320], "input_size": list(SIZE)},
    }
    return load_config(None, settings | changes)


def run(parts: Any, seconds: float, frames: int) -> FakePublisher:
    publisher = FakePublisher()
    health = Health(publisher, parts.source, parts.pipeline, parts.facts, camera_timeout_s=seconds)
    loop(parts.source, parts.pipeline, publisher, health, Stop(), max_frames=frames)
    return publisher


def test_a_thousand_frames_of_a_camera_that_comes_and_goes(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, engines: Path, picture: np.ndarray
) -> None:
    utils = fake_jetson_utils(monkeypatch)
    utils.clock = utils.VirtualClock()
    import edgeface.cuda.source

    monkeypatch.setattr(edgeface.cuda.source, "time", utils.clock)
    monkeypatch.setattr(daemon, "time", utils.clock)
    gpu.fail("cuGraphInstantiate", error="CUDA_ERROR_NOT_SUPPORTED")  # of the only fixed batch: it goes on without
    device = utils.Device(640, 360, runs=[lambda: utils.steady(frames=400), utils.steady])
    device.draw, device.races = as_captured(picture, "nv12")[0], {17, 18, 100}
    utils.devices["csi://0"] = device
    with build(config(engines, source="csi://0", cuda={"capture": "jetson-utils"})) as parts:
        gpu.log.clear()
        publisher = run(parts, 3.0, 1000)
        alive = len(gpu.alive)
        messages = publisher.bodies("faces")
        assert len(messages) == 1000
        assert {body["event"] for body in publisher.bodies("events")} >= {"camera_lost", "camera_back"}
        states = [body["state"] for body in publisher.bodies("status")]
        assert {"ready", "camera_lost", "stopped"} <= set(states)
        status = publisher.bodies("status")[-1]
        assert (status["backend"], status["gpu"], status["tensorrt"]) == ("cuda", "Orin", "10.3.0")
        assert status["frame_memory"] == "mapped"
        # the faces stand still, and landmarks sit on them
        counts = [len(body["faces"]) for body in messages]
        assert np.median(counts) >= 2
        assert sum("landmarks" in face for body in messages for face in body["faces"]) > 0.9 * sum(counts)
        assert len({face["track_id"] for body in messages for face in body["faces"]}) <= 2 * max(counts)
        # a look is one launch of the crop kernel, one of the network, one synchronisation; so are landmarks
        looks = sum(body["keyframe"] for body in messages)
        located = sum(bool(body["faces"]) for body in messages)
        assert gpu.count("launch") == gpu.count("synchronize") == gpu.count("execute_async_v3")
        assert looks + 0.9 * located <= gpu.count("launch") <= looks + 1000
        assert gpu.copied == {}
        assert gpu.count("mem_alloc") == gpu.count("pagelocked_empty") == 0
        assert alive == len(gpu.alive)


def test_a_lost_gpu_ends_the_loop_and_nothing_is_closed(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, engines: Path, picture: np.ndarray
) -> None:
    utils = fake_jetson_utils(monkeypatch)
    device = utils.Device(640, 360)
    device.draw = as_captured(picture, "nv12")[0]
    utils.devices["csi://0"] = device
    parts = build(config(engines, source="csi://0", cuda={"capture": "jetson-utils"}))
    closed: list[str] = []
    monkeypatch.setattr(parts.source, "close", lambda: closed.append("source"))
    gpu.fail("launch", at=20, error="CUDA_ERROR_ILLEGAL_ADDRESS")
    with pytest.raises(DeviceLostError, match="an illegal memory access was encountered"), parts:
        run(parts, 3.0, 1000)
    assert closed == []


def test_a_bench_that_loses_the_gpu_closes_nothing(gpu: Any, monkeypatch: pytest.MonkeyPatch, engines: Path) -> None:
    closed: list[str] = []
    built = build(config(engines, source="demo:?pace=0"))
    monkeypatch.setattr(built.source, "close", lambda: closed.append("source"))
    monkeypatch.setattr(bench, "build", lambda config: built)
    gpu.fail("launch", error="CUDA_ERROR_ILLEGAL_ADDRESS")
    with pytest.raises(DeviceLostError):
        bench.measure(config(engines), frames=2, warm_up=1)
    assert closed == []


# --- as a process


def start(engines: Path, tmp_path: Path, *arguments: str, **gpu: Any) -> subprocess.Popen[str]:
    settings = tmp_path / "edgeface.toml"
    settings.write_text(
        f'backend = "cuda"\nengines = ["{engines}"]\nendpoint = "ipc://{tmp_path}/bus.ipc"\n'
        f"[detector]\nscales = [320]\ninput_size = [{SIZE[0]}, {SIZE[1]}]\n"
    )
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "tests" / "fake_gpu"),
        "FAKE_GPU": json.dumps(gpu),
        "FAKE_GPU_REPORT": str(tmp_path / "report.json"),
    }
    return subprocess.Popen(
        [*RUN, str(settings), *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_process_runs_a_film_and_leaves_nothing(engines: Path, tmp_path: Path) -> None:
    daemon = start(engines, tmp_path, "--source", "demo:?pace=0", "--max-frames", "40")
    _, said = daemon.communicate(timeout=120)
    assert daemon.returncode == 0, said
    assert "TensorRT 10.3.0 on Orin, kernels read frames in mapped memory" in said
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["broken"] == []
    assert report["calls"]["launch"] > 50


def test_a_process_that_is_asked_to_stop_leaves_nothing(engines: Path, tmp_path: Path) -> None:
    daemon = start(engines, tmp_path, "--source", "demo:?loop=1")
    with Subscriber(f"ipc://{tmp_path}/bus.ipc", ["faces"]) as bus:
        assert bus.receive(30)
    daemon.send_signal(signal.SIGTERM)
    _, said = daemon.communicate(timeout=60)
    assert daemon.returncode == 0, said
    assert json.loads((tmp_path / "report.json").read_text())["broken"] == []


def test_a_cuda_error_shows_where_if_asked_and_ends_the_process_as_soon(engines: Path, tmp_path: Path) -> None:
    fault = {"call": "launch", "at": 3, "error": "CUDA_ERROR_ILLEGAL_ADDRESS"}
    daemon = start(engines, tmp_path, "--source", "demo:?loop=1&pace=0", "--debug", fail=[fault])
    _, said = daemon.communicate(timeout=60)
    assert daemon.returncode == 1
    assert "Traceback" in said
    assert "DeviceLostError: Orin: CUDA error: " in said
    assert not (tmp_path / "report.json").exists()


def test_a_cuda_error_ends_the_process_at_once_with_its_name(engines: Path, tmp_path: Path) -> None:
    fault = {"call": "launch", "at": 30, "error": "CUDA_ERROR_ILLEGAL_ADDRESS"}
    daemon = start(engines, tmp_path, "--source", "demo:?loop=1&pace=0", fail=[fault])
    with Subscriber(f"ipc://{tmp_path}/bus.ipc", ["status"]) as bus:
        statuses = []
        while not statuses or statuses[-1]["state"] != "stopped":
            message = bus.receive(30)
            assert message is not None
            statuses.append(message[1])
    _, said = daemon.communicate(timeout=60)
    assert daemon.returncode == 1
    lines = [line for line in said.splitlines() if line.startswith("edgeface: ")]
    assert len(lines) == 1
    assert "an illegal memory access was encountered" in lines[0]
    assert "an illegal memory access was encountered" in statuses[-1]["reason"]
    assert not (tmp_path / "report.json").exists()  # it did not go through the interpreter's exit


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"fail": [{"call": "deserialize_cuda_engine", "error": "CUDA_ERROR_OUT_OF_MEMORY"}]}, "out of memory"),
        ({"compute_capability": [7, 2]}, "edgeface build edgeface-detector"),
        ({"devices": 0}, "no GPU that CUDA can use"),
        ({"tensorrt_version": "10.16.2"}, "expected an engine of TensorRT 10.16.2, found one of 10.3.0.30"),
    ],
)
def test_what_cannot_start_says_why_in_one_line(
    engines: Path, tmp_path: Path, fault: dict[str, Any], said: str
) -> None:
    daemon = start(engines, tmp_path, "--source", "demo:?pace=0", "--max-frames", "3", **fault)
    _, errors = daemon.communicate(timeout=60)
    lines = [line for line in errors.splitlines() if line.startswith("edgeface: ")]
    assert len(lines) == 1, errors
    assert said in lines[0]
    assert daemon.returncode == (70 if "engine of" in said or "build" in said else 1)
    assert json.loads((tmp_path / "report.json").read_text())["broken"] == []


def test_the_bench_says_on_what_it_ran(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, engines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "fake_gpu"))  # what loads takes is timed in processes
    path = tmp_path / "report.json"
    settings = tmp_path / "edgeface.toml"
    settings.write_text(
        f'backend = "cuda"\nengines = ["{engines}"]\nsource = "demo:?pace=0&loop=1"\n'
        f"[detector]\nscales = [320]\ninput_size = [{SIZE[0]}, {SIZE[1]}]\n"
    )
    assert bench.main([str(settings), "--frames", "8", "--warm-up", "2", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert report["gpu"] == {"gpu": "Orin", "tensorrt": "10.3.0", "frame_memory": "mapped"}
    assert report["threads"] is None
    assert {"infer: crop", "infer: network", "landmarks: infer: crop"} <= set(report["stages_ms"])
    assert "on cuda, input 320x192, landmarks edgeface-landmarks, Orin, 10.3.0, mapped" in capsys.readouterr().out

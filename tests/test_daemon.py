"""The daemon as a process: what it says, how it ends, and every bad input in one clear line."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from conftest import ROOT, scrfd_outputs
from fakes import FakeDetector, FakeEngine, FakeLandmarker, FakePublisher, FakeSource, detections, frame, tracker
from test_source_contract import Mjpeg, write_pictures

from edgeface import daemon
from edgeface.client import Subscriber
from edgeface.daemon import Health, Stop, loop
from edgeface.errors import EngineError
from edgeface.face_crops import pad
from edgeface.landmarks import FaceLandmarker, make_landmark_decoder
from edgeface.model_card import find_card
from edgeface.pipeline import Pipeline
from edgeface.schedule import KeyframeSchedule
from edgeface.values import Frame, Landmarks

RUN = [sys.executable, "-c", "import sys; from edgeface.cli import main; sys.exit(main())", "run"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *arguments], capture_output=True, text=True, timeout=60, env=os.environ | environment, check=False
    )


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*RUN, *arguments], stderr=subprocess.PIPE, text=True, env=os.environ | environment)


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/d.ipc"


def collect(
    bus: Subscriber, until: Callable[[str, dict[str, Any]], bool], timeout_s: float = 30
) -> list[tuple[str, dict]]:
    """Messages up to and with the first for which `until` holds."""
    messages = []
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        received = bus.receive(0.5)
        if received is None:
            continue
        messages.append(received)
        if until(*received):
            return messages
    raise AssertionError(f"waited in vain; last messages: {messages[-3:]}")


def is_state(state: str) -> Callable[[str, dict[str, Any]], bool]:
    return lambda topic, body: topic == "status" and body["state"] == state


# --- a whole run


def test_a_whole_run_is_told_from_starting_to_stopped(endpoint: str) -> None:
    with Subscriber(endpoint) as bus:
        process = start("--source", "demo:", "--endpoint", endpoint, "--max-frames", "90", "--camera", "front")
        messages = collect(bus, is_state("stopped"))
        assert process.wait(5) == 0
        assert bus.lost == 0
    assert not any(body["event"].startswith("camera") for topic, body in messages if topic == "events")
    states = [body["state"] for topic, body in messages if topic == "status"]
    order = [state for number, state in enumerate(states) if number == 0 or states[number - 1] != state]
    assert order in (["starting", "ready", "stopping", "stopped"], ["ready", "stopping", "stopped"])
    faces = [body for topic, body in messages if topic == "faces"]
    assert [body["frame_id"] for body in faces] == list(range(faces[0]["frame_id"], 90))
    assert {body["camera"] for body in faces} == {"front"}
    last = next(body for topic, body in messages if is_state("stopped")(topic, body))
    assert last["reason"] == "90 frames done"
    assert last["detector"] == "edgeface-detector"
    assert 20 < last["fps"] < 40
    assert 0 < last["p50_ms"] <= last["p99_ms"]
    assert last["expected_hz"] == pytest.approx(30)


def test_the_end_of_the_file_is_exit_0(tmp_path: Path, endpoint: str) -> None:
    write_pictures(tmp_path, 3)
    done = run("--source", f"images:{tmp_path}/*.png?pace=0", "--endpoint", endpoint)
    assert done.returncode == 0, done.stderr
    assert "has ended" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_frame_and_says_goodbye(endpoint: str, number: signal.Signals) -> None:
    with Subscriber(endpoint) as bus:
        process = start("--source", "demo:?loop=1", "--endpoint", endpoint)
        collect(bus, is_state("ready"))
        begun = time.monotonic()
        process.send_signal(number)
        messages = collect(bus, is_state("stopped"))
        assert process.wait(5) == 0
        assert time.monotonic() - begun < 2.0
    assert messages[-1][1]["reason"] == number.name
    assert "Traceback" not in process.stderr.read()


def test_a_signal_while_the_camera_is_away(endpoint: str) -> None:
    with Subscriber(endpoint) as bus:
        process = start("--source", "v4l2:///dev/video-none", "--endpoint", endpoint)
        collect(bus, is_state("camera_lost"))
        begun = time.monotonic()
        process.terminate()
        assert process.wait(5) == 0
        assert time.monotonic() - begun < 2.0


def test_a_second_signal_ends_at_once() -> None:
    """In its own process, because the second signal kills it."""
    program = (
        "import os, signal, time\nfrom edgeface.daemon import Stop\n"
        "with Stop().on_signals() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    assert stop.reason == 'SIGTERM'\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(10)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=8, check=False).returncode == -signal.SIGINT


# --- bad input: one line, the right exit code, no traceback


def refused(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("edgeface:")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in lines[0]


def test_wrong_configurations_are_78(tmp_path: Path, endpoint: str) -> None:
    path = tmp_path / "front.toml"
    path.write_text("[tracker]\nkeyframe_intervall = 3\n")
    refused(run(str(path)), 78, "front.toml", "keyframe_intervall", "$.tracker")
    refused(run("--source", str(tmp_path / "none.mp4"), "--endpoint", endpoint), 78, "none.mp4: no such file")
    refused(run("--detector", "nobody"), 78, "no network called 'nobody'")
    refused(run("--endpoint", "ipc:///proc/x.ipc"), 78, "ipc:///proc/x.ipc: cannot write there")
    refused(run("--keyframe-interval", "0"), 78, "keyframe_interval")
    refused(run("--backend", "abacus"), 78, "abacus")


def test_an_endpoint_in_use_is_78(endpoint: str) -> None:
    with Subscriber(endpoint) as bus:
        first = start("--source", "demo:?loop=1", "--endpoint", endpoint)
        collect(bus, is_state("ready"))
        refused(run("--endpoint", endpoint, "--source", "demo:"), 78, "another edgeface publishes here")
        collect(bus, lambda topic, _: topic == "faces")  # the first one still publishes
        first.terminate()
        assert first.wait(5) == 0


def test_unusable_engines_are_70(
    tmp_path: Path, make_onnx: Callable[..., Path], make_card: Callable[..., Path], endpoint: str
) -> None:
    make_onnx(scrfd_outputs())
    bus = ("--endpoint", endpoint)
    refused(
        run("--detector", str(make_card('type = "gridbox"')), *bus), 70, "gridbox: expected outputs", "wrong decoder"
    )
    refused(run("--detector", str(make_card(width=96)), *bus), 70, "expected an input of [3, 64, 96]")
    refused(run("--detector", "scrfd-34g", *bus), 70, "scrfd_34g.onnx", "get them from https://", "commercial")
    refused(run("--detector", str(tmp_path / "no.toml"), *bus), 70, "cannot read the card")
    refused(run("--detector", "edgeface-landmarks", *bus), 70, "landmarks network cannot detect")
    (tmp_path / "net.onnx").write_bytes((ROOT / "engines" / "edgeface-detector.onnx").read_bytes()[:1000])
    refused(run("--detector", str(make_card(colour="luma")), *bus), 70, "cannot load it")
    card = make_card()
    card.write_text("name = 'x'")
    refused(run("--detector", str(card), *bus), 70, "not a model card")


def test_damaged_files_are_1(tmp_path: Path, endpoint: str) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(os.urandom(5000))
    refused(run("--source", str(tmp_path / "empty.mp4"), "--endpoint", endpoint), 1, "is empty")
    refused(run("--source", str(tmp_path / "noise.mp4"), "--endpoint", endpoint), 1, "not a video")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_said(tmp_path: Path, make_card: Callable[..., Path], endpoint: str) -> None:
    (tmp_path / "net.onnx").write_bytes(b"x")
    (tmp_path / "net.onnx").chmod(0)
    refused(run("--detector", str(make_card()), "--endpoint", endpoint), 70, "net.onnx")
    (tmp_path / "film.mp4").write_bytes(b"x")
    (tmp_path / "film.mp4").chmod(0)
    refused(run("--source", str(tmp_path / "film.mp4"), "--endpoint", endpoint), 78, "cannot be read")


def test_bad_usage_is_2() -> None:
    assert run("--frames").returncode == 2
    assert run("--max-frames", "-1").returncode == 2


def test_debug_shows_the_traceback() -> None:
    done = run("--detector", "nobody", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


# --- degraded, said on the bus


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_detector_of_nan_is_degraded_on_the_bus(
    tmp_path: Path, make_onnx: Callable[..., Path], make_card: Callable[..., Path], endpoint: str, number: float
) -> None:
    outputs = scrfd_outputs()
    outputs["score_8"][:] = number
    make_onnx(outputs)
    with Subscriber(endpoint) as bus:
        process = start("--detector", str(make_card()), "--source", "demo:?loop=1", "--endpoint", endpoint)
        messages = collect(bus, is_state("degraded"))
        messages += collect(bus, lambda topic, _: topic == "faces")
        process.terminate()
        assert process.wait(5) == 0
    assert "numbers mean nothing" in next(body["reason"] for t, body in messages if is_state("degraded")(t, body))
    for topic, body in messages:
        if topic == "faces":
            assert (body["mode"], body["keyframe"]) == ("degraded", False)


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e30])
def test_landmarks_that_mean_nothing_are_degraded_on_the_bus_and_recover(number: float) -> None:
    class Failing(FakeLandmarker):
        def locate(self, frame: Frame, xyxy: np.ndarray) -> Landmarks:
            xy = np.full((1, 5, 2), number if 2 <= frame.frame_id < 5 else 8, np.float32)
            engine = FakeEngine({"xy": xy, "score": np.full((1, 5), 0.5, np.float32)}, (16, 16))
            decode = make_landmark_decoder(card, engine.outputs, (16, 16))
            return FaceLandmarker(engine, decode, pad, crop_scale=1.0, points=5).locate(frame, xyxy)

    card = find_card("tao-fpenet-v3.0")
    card = msgspec.structs.replace(card, decoder=msgspec.structs.replace(card.decoder, points=5))
    source = FakeSource([frame(number) for number in range(8)])
    pipeline, publisher, health = make_loop(source)
    pipeline.landmarker = Failing()
    loop(source, pipeline, publisher, health, Stop(), 0)
    reason = "the landmarks of 1 faces mean nothing (NaN, infinite or absurd)"
    assert told(publisher)[1:4] == [("ready", ""), ("degraded", reason), ("ready", "")]
    for body in publisher.bodies("faces"):
        (face,) = body["faces"]
        assert ("landmarks" in face) == (not 2 <= body["frame_id"] < 5)


def test_a_landmark_network_of_nan_is_degraded_on_the_bus(
    make_onnx: Callable[..., Path], make_card: Callable[..., Path], endpoint: str
) -> None:
    outputs = {"xy": np.full((1, 5, 2), np.nan, np.float32), "score": np.ones((1, 5), np.float32)}
    make_onnx(outputs, input_shape=[1, 1, 16, 16])
    card = make_card('type = "fpenet"\npoints = 5', task="landmarks", width=16, height=16, colour="luma")
    with Subscriber(endpoint) as bus:
        process = start("--landmarks", str(card), "--source", "demo:?loop=1", "--endpoint", endpoint)
        messages = collect(bus, is_state("degraded"))
        messages += collect(bus, lambda topic, body: topic == "faces" and body["faces"])
        process.terminate()
        assert process.wait(5) == 0
    status = next(body for topic, body in messages if is_state("degraded")(topic, body))
    assert re.search(r"the landmarks of [2-5] faces mean nothing", status["reason"])  # of those that are confirmed
    assert status["landmarks"] == "net"
    for face in messages[-1][1]["faces"]:
        assert face["source"] in ("detector", "predicted")
        assert "landmarks" not in face


def test_a_camera_that_goes_and_comes_back_is_told(tmp_path: Path, endpoint: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mjpeg)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_port
    config = tmp_path / "c.toml"
    config.write_text(f'source = "http://127.0.0.1:{port}/c.mjpg"\ncamera_timeout_s = 0.5\n')
    with Subscriber(endpoint) as bus:
        process = start(str(config), "--endpoint", endpoint)
        collect(bus, is_state("ready"))
        server.shutdown()
        server.server_close()
        messages = collect(bus, is_state("camera_lost"))
        assert ("events", "camera_lost") in [(topic, body.get("event")) for topic, body in messages]
        server = ThreadingHTTPServer(("127.0.0.1", port), Mjpeg)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        messages = collect(bus, is_state("ready"))
        assert ("events", "camera_back") in [(topic, body.get("event")) for topic, body in messages]
        process.terminate()
        assert process.wait(5) == 0
        server.shutdown()


def test_pictures_of_other_sizes_in_mid_stream(tmp_path: Path, endpoint: str) -> None:
    for number, size in enumerate([(64, 48), (64, 48), (320, 200), (20, 300)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_pictures(folder, 1, size)
    done = run("--source", f"images:{tmp_path}/*/*.png?pace=0", "--endpoint", endpoint)
    assert done.returncode == 0, done.stderr
    assert "frames are now 320x200, were 64x48" in done.stderr
    assert "frames are now 20x300, were 320x200" in done.stderr


# --- the service manager


class ServiceManager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.notes: list[str] = []

    def listen(self, until: str, timeout_s: float = 30) -> None:
        self._socket.settimeout(timeout_s)
        while until not in "\n".join(self.notes):
            self.notes.append(self._socket.recv(4096).decode())

    def drain(self) -> None:
        self._socket.settimeout(0.2)
        try:
            while True:
                self.notes.append(self._socket.recv(4096).decode())
        except TimeoutError:
            return

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    opened = ServiceManager(tmp_path / "notify")
    yield opened
    opened.close()


def test_ready_watchdog_status_and_stopping(manager: ServiceManager, endpoint: str) -> None:
    environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "400000"}
    process = start("--source", "demo:?loop=1", "--endpoint", endpoint, **environment)
    manager.listen("WATCHDOG=1")
    manager.listen("STATUS=ready")
    process.terminate()
    assert process.wait(5) == 0
    manager.drain()
    flat = "\n".join(manager.notes)
    assert manager.notes[0].startswith("READY=1")
    assert flat.index("READY=1") < flat.index("WATCHDOG=1") < flat.index("STOPPING=1")


def test_ready_while_the_camera_is_away_and_the_watchdog_is_patted(manager: ServiceManager, endpoint: str) -> None:
    environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "400000"}
    process = start("--source", "v4l2:///dev/video-none", "--endpoint", endpoint, **environment)
    manager.listen("READY=1")
    manager.listen("WATCHDOG=1")
    manager.listen("STATUS=camera_lost")
    process.terminate()
    assert process.wait(5) == 0


def test_an_unusable_engine_is_never_ready(manager: ServiceManager, endpoint: str) -> None:
    done = run("--detector", "scrfd-34g", "--endpoint", endpoint, NOTIFY_SOCKET=str(manager.path))
    assert done.returncode == 70
    manager.drain()
    assert not any("READY" in note for note in manager.notes)


# --- the loop alone, with fakes


def make_loop(source: FakeSource, detector: FakeDetector | None = None) -> tuple[Pipeline, FakePublisher, Health]:
    detector = detector or FakeDetector(detections((10, 10, 50, 60)))
    pipeline = Pipeline(detector, tracker(), KeyframeSchedule(3), blind_timeout_s=1.0)
    publisher = FakePublisher()
    return pipeline, publisher, Health(publisher, source, pipeline, {"backend": "fake"}, 3.0)


def watchdog_ticks(monkeypatch: pytest.MonkeyPatch, source: FakeSource) -> int:
    notes: list[str] = []
    monkeypatch.setattr(daemon.service, "notify", lambda state: notes.append(state) or True)
    monkeypatch.setattr(daemon.service, "watchdog_period_s", lambda: 1e-9)  # less than any loop takes
    pipeline, publisher, health = make_loop(source)
    loop(source, pipeline, publisher, health, Stop(), 0)
    return notes.count("WATCHDOG=1")


def test_every_frame_pats_the_watchdog_silence_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watchdog_ticks(monkeypatch, FakeSource([frame(0), frame(1), frame(2)])) == 3
    assert watchdog_ticks(monkeypatch, FakeSource([None, None, None])) == 0


def test_a_source_that_waits_pats_the_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    source = FakeSource([None, None, None])
    source.waiting = True
    assert watchdog_ticks(monkeypatch, source) == 3


def test_one_faces_message_a_frame_and_the_bus_is_served() -> None:
    source = FakeSource([frame(0), None, frame(1), frame(4)])
    pipeline, publisher, health = make_loop(source)
    loop(source, pipeline, publisher, health, Stop(), 0)
    assert [body["frame_id"] for body in publisher.bodies("faces")] == [0, 1, 4]
    assert publisher.served == 5
    assert publisher.bodies("status")[-1]["dropped_total"] == 2


class SlowClock:
    """time.monotonic_ns() under the test's control, for the daemon alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = 1_000_000_000_000
        monkeypatch.setattr(daemon.time, "monotonic_ns", lambda: self.now_ns)

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def told(publisher: FakePublisher) -> list[tuple[str, str]]:
    return [(body["state"], body["reason"]) for body in publisher.bodies("status")]


def test_a_camera_has_its_time_to_come_and_is_then_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SlowClock(monkeypatch)
    source = FakeSource([])
    source.live, source.problem = True, "no such camera"
    _, publisher, health = make_loop(source)
    health.starting()
    for _ in range(4):
        clock.sleep(0.9)
        health.tick(got_frame=False)
    assert told(publisher)[:-1] == [("starting", "")] * (len(told(publisher)) - 1)
    assert told(publisher)[-1] == ("camera_lost", "no such camera")
    assert [body["event"] for body in publisher.bodies("events")] == ["camera_lost"]
    source.problem = ""
    health.frame(5_000_000, 0, 1)
    health.tick(got_frame=True)
    assert told(publisher)[-1] == ("ready", "")
    assert [body["event"] for body in publisher.bodies("events")] == ["camera_lost", "camera_back"]
    clock.sleep(3.5)  # and a driver that is silent without saying why
    health.tick(got_frame=False)
    assert told(publisher)[-1] == ("camera_lost", "no frame for 3 s")


def test_a_file_is_no_lost_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SlowClock(monkeypatch)
    _, publisher, health = make_loop(FakeSource([]))
    health.frame(0, 0, 0)
    clock.sleep(60)
    health.tick(got_frame=False)
    assert told(publisher)[-1] == ("ready", "")


def test_status_has_the_figures_and_comes_once_a_second_or_at_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SlowClock(monkeypatch)
    pipeline, publisher, health = make_loop(FakeSource([]))
    for number in range(100):  # 4 s at 25 frames a second
        clock.sleep(0.04)
        health.frame(1_000_000 * (number + 1), dropped=2, faces=number)
        health.tick(got_frame=True)
    bodies = publisher.bodies("status")
    assert len(bodies) == 4
    assert bodies[-1]["fps"] == pytest.approx(25, rel=0.03)
    assert bodies[-1]["dropped_total"] == 2 * (bodies[-1]["faces"] + 1)
    assert bodies[-1]["p50_ms"] == pytest.approx((bodies[-1]["faces"] + 2) / 2)
    assert bodies[-1]["p99_ms"] > bodies[-1]["p50_ms"]
    pipeline._blind = "7 numbers are NaN"
    health.tick(got_frame=True)
    assert told(publisher)[-1] == ("degraded", "7 numbers are NaN")
    clock.sleep(10)
    health.tick(got_frame=False)
    assert publisher.bodies("status")[-1]["fps"] == 0


def test_live_latency_counts_from_the_capture() -> None:
    source = FakeSource([Frame(0, time.monotonic_ns() - 400_000_000, 640, 360, "bgr8", None)])
    source.live = True
    pipeline, publisher, health = make_loop(source)
    publisher.send = lambda topic, body: publisher.sent.append((topic, body)) or time.monotonic_ns()
    loop(source, pipeline, publisher, health, Stop(), 0)
    assert 400 <= publisher.bodies("status")[-1]["p50_ms"] < 2000


def test_max_frames() -> None:
    source = FakeSource(frame(number) for number in range(100))
    pipeline, publisher, health = make_loop(source)
    loop(source, pipeline, publisher, health, Stop(), 7)
    assert len(publisher.bodies("faces")) == 7


def test_an_engine_that_dies_ends_the_loop_and_is_told() -> None:
    class Dying(FakeDetector):
        def detect(self, frame: object) -> Any:
            raise EngineError("the GPU has fallen off the bus")

    source = FakeSource([frame(0)])
    pipeline, publisher, health = make_loop(source, Dying())
    with pytest.raises(EngineError):
        loop(source, pipeline, publisher, health, Stop(), 0)
    assert publisher.bodies("faces") == []
    last = publisher.bodies("status")[-1]
    assert (last["state"], last["reason"]) == ("stopped", "error: the GPU has fallen off the bus")

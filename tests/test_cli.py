"""The command line: listen, bench, version, and what importing the package costs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from conftest import ROOT
from test_daemon import collect, is_state, start

from edgeface import __version__, bench
from edgeface.boxes import iou
from edgeface.cli import _printable, main
from edgeface.client import Subscriber
from edgeface.scenario.scenes import make_scene


def edgeface(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "import sys; from edgeface.cli import main; sys.exit(main())", *arguments]


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/c.ipc"


def test_listen_prints_one_json_object_a_line(endpoint: str) -> None:
    listener = subprocess.Popen(edgeface("listen", endpoint, "--max-messages", "20"), stdout=subprocess.PIPE, text=True)
    daemon = start("--source", "demo:?loop=1", "--endpoint", endpoint)
    out, _ = listener.communicate(timeout=60)
    daemon.terminate()
    assert daemon.wait(5) == 0
    messages = [json.loads(line) for line in out.splitlines()]
    assert len(messages) == 20
    assert {message["topic"] for message in messages} <= {"faces", "status", "events"}
    faces = [face for message in messages if message["topic"] == "faces" for face in message["faces"]]
    assert faces
    for face in faces:
        landmarks, (x1, y1, x2, y2) = face["landmarks"], face["xyxy"]
        assert (landmarks["n"], len(landmarks["xy"]), len(landmarks["score"])) == (80, 80, 80)
        x, y = np.mean(landmarks["xy"], axis=0)
        assert x1 < x < x2
        assert y1 < y < y2


def listened(endpoint: str, bodies: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What `edgeface listen` prints of messages from somebody else."""
    rogue = zmq.Context.instance().socket(zmq.XPUB)
    rogue.setsockopt(zmq.LINGER, 0)
    rogue.bind(endpoint)

    def send() -> None:
        assert rogue.poll(10_000)
        for seq, body in enumerate(bodies):
            payload = msgpack.packb({"schema": 1, "seq": seq, "run_id": "a"} | body)
            rogue.send_multipart([b"edgeface/1/x/faces/", payload])

    sender = threading.Thread(target=send)
    sender.start()
    assert main(["listen", endpoint, "--max-messages", str(len(bodies))]) == 0
    sender.join()
    rogue.close()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_listen_prints_landmarks_as_numbers_and_other_bytes_as_text(
    endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    xy, score = np.array([1.237, 2, 300.5, -4], "<f4").tobytes(), np.array([0.12345, 1], "<f4").tobytes()
    good = {"n": 2, "xy": xy, "score": score}
    (message,) = listened(
        endpoint, [{"faces": [{"landmarks": good, "more": b"\x01\xff"}], "landmarks": "none"}], capsys
    )
    (face,) = message["faces"]
    assert face["landmarks"] == {"n": 2, "xy": [[1.24, 2], [300.5, -4]], "score": [0.1235, 1]}
    assert face["more"] == "01ff"
    assert message["landmarks"] == "none"  # a network's name, in status


@pytest.mark.parametrize(
    ("landmarks", "printed"),
    [
        (b"\x01\x02", "0102"),
        (7, 7),
        (None, None),
        ([b"\x01", {"n": 1}], ["01", {"n": 1}]),
        ({}, {}),
        ({"n": 2, "xy": b"\x01\x02", "score": b""}, {"n": 2, "xy": "0102", "score": ""}),
        ({"n": 1, "xy": b"12345678", "score": "none"}, {"n": 1, "xy": b"12345678".hex(), "score": "none"}),
        ({"n": True, "xy": b"\0" * 8, "score": b"\0" * 4}, {"n": 1, "xy": [[0, 0]], "score": [0]}),
        ({"landmarks": {"landmarks": b"\x03"}}, {"landmarks": {"landmarks": "03"}}),
    ],
)
def test_listen_prints_landmarks_that_are_none(
    endpoint: str, capsys: pytest.CaptureFixture[str], landmarks: object, printed: object
) -> None:
    (message,) = listened(endpoint, [{"faces": [{"landmarks": landmarks}]}], capsys)
    assert message["faces"] == [{"landmarks": printed}]


def test_listen_to_one_topic(endpoint: str) -> None:
    listener = subprocess.Popen(
        edgeface("listen", endpoint, "--topic", "status", "--max-messages", "2"), stdout=subprocess.PIPE, text=True
    )
    daemon = start("--source", "demo:?loop=1", "--endpoint", endpoint)
    out, _ = listener.communicate(timeout=60)
    daemon.terminate()
    daemon.wait(5)
    assert [json.loads(line)["topic"] for line in out.splitlines()] == ["status"] * 2


def test_listen_into_a_closed_pipe_ends_quietly(endpoint: str) -> None:
    daemon = start("--source", "demo:?loop=1", "--endpoint", endpoint)
    listener = subprocess.Popen(edgeface("listen", endpoint), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    listener.stdout.readline()
    listener.stdout.close()
    assert listener.wait(10) == 0
    assert listener.stderr.read() == ""
    daemon.terminate()
    daemon.wait(5)


def test_the_sample_subscriber(endpoint: str) -> None:
    sample = ROOT / "scripts" / "listen.py"
    assert len(sample.read_text().splitlines()) <= 20
    listener = subprocess.Popen([sys.executable, "-u", str(sample), endpoint], stdout=subprocess.PIPE, text=True)
    daemon = start("--source", "demo:?loop=1", "--endpoint", endpoint)
    lines = [listener.stdout.readline() for _ in range(10)]
    listener.kill()
    daemon.terminate()
    daemon.wait(5)
    assert any(line.startswith("frame ") and ": face 1 at " in line for line in lines)


def test_a_scenario_on_the_bus_can_be_held_against_its_truth(endpoint: str) -> None:
    scene = make_scene("crossing", faces=4, seed=2)
    with Subscriber(endpoint) as bus:
        source = "scenario:crossing?faces=4&seed=2&pace=0&loop=1"
        daemon = start("--source", source, "--endpoint", endpoint, "--keyframe-interval", "1")
        messages = collect(bus, is_state("ready"))
        messages += collect(bus, lambda topic, body: topic == "faces" and body["frame_id"] > 900)
        daemon.terminate()
        assert daemon.wait(5) == 0
    status = next(body for topic, body in messages if is_state("ready")(topic, body))
    facts = {"backend": "scenario", "detector": "scenario", "landmarks": "none", "precision": "none"}
    assert status.items() >= facts.items()
    found = total = 0
    for topic, body in messages:
        if topic == "faces":
            truth = scene.truth_xyxy[body["frame_id"] % 300]
            boxes = np.array([face["xyxy"] for face in body["faces"]], np.float32).reshape(-1, 4)
            found += int((np.max(iou(truth, boxes), axis=1, initial=0) > 0.5).sum())
            total += len(truth)
            assert all(len(face["keypoints"]) == 5 for face in body["faces"] if face["source"] == "detector")
    assert total > 100
    assert found > 0.9 * total


def test_a_scenario_runs_without_the_packages_of_the_backend(endpoint: str) -> None:
    program = (
        "import sys\nsys.modules['cv2'] = sys.modules['onnxruntime'] = None  # as if they were not installed\n"
        "from edgeface.cli import main\ncode = main(sys.argv[1:])\n"
        "print(code, *(name for name in sys.modules if name.startswith('edgeface.cpu')))\n"
    )
    arguments = ["run", "--source", "scenario:crossing?pace=0", "--endpoint", endpoint]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
    assert "scenario:crossing has ended" in done.stderr


def test_networks_that_do_not_go_together_are_70(
    make_onnx: Callable[..., Path], make_card: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_onnx({"xy": np.zeros((1, 5, 2), np.float32), "p": np.zeros((1, 5), np.float32)}, input_shape=[1, 1, 16, 16])
    usual = {"task": "landmarks", "width": 16, "height": 16, "colour": "luma"}
    eighty = str(make_card('type = "fpenet"', name="eighty", **usual))
    for arguments, complaint in (
        (["--landmarks", eighty], "eighty: for 80 points (decoder.points) expected outputs [1, 80, 2] and [1, 80], or"),
        (["--landmarks", "edgeface-detector"], "edgeface-detector: expected a card with task landmarks, found detect"),
        (["--detector", "edgeface-landmarks"], "edgeface-landmarks: a landmarks network cannot detect"),
        (["--landmarks", "tao-fpenet-v3.0"], "its weights fpenet_v3.0.onnx are not in"),
    ):
        assert main(["run", *arguments]) == 70
        (line,) = capsys.readouterr().err.splitlines()
        assert complaint in line
    assert main(["run", "--landmarks", "nobody"]) == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert "no network called 'nobody'" in line


@pytest.mark.parametrize("interval", ["0", "-5", "--5", "often"])
def test_a_wrong_keyframe_interval_is_78_in_one_line(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", f"--keyframe-interval={interval}"]) == 78
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("at `$.tracker.keyframe_interval`")


def test_an_unknown_scene_is_78(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--source", "scenario:party"]) == 78
    assert "crossing, crowd, occlusion" in capsys.readouterr().err


def test_bench_times_tracker_and_messages_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    imported: dict[str, str] = {}
    monkeypatch.setattr(bench, "import_times", lambda programs: imported.update(programs) or {})
    target = tmp_path / "bench.json"
    source = "scenario:crowd?faces=50&pace=0&loop=1"
    assert bench.main(["--source", source, "--frames", "30", "--warm-up", "3", "--json", str(target)]) == 0
    report = json.loads(target.read_text())
    assert set(report["stages_ms"]) == {"read", "detect", "track: update", "track: predict", "step", "publish"}
    assert (report["backend"], report["detector"], report["precision"]) == ("scenario", "scenario", "none")
    assert (report["input_size"], report["threads"]) == (None, None)
    assert report["mean_faces"] > 40
    assert f"{source} without a network, keyframe interval 3" in capsys.readouterr().out
    assert "edgeface.scenario" in imported["daemon"]
    assert "edgeface.cpu" not in imported["daemon"]  # it may not be installed


def test_bench_prints_a_table_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "bench.json"
    assert bench.main(["--frames", "30", "--warm-up", "3", "--json", str(target)]) == 0
    out = capsys.readouterr().out
    report = json.loads(target.read_text())
    assert report["frames"] == 30
    stages = report["stages_ms"]
    assert {"read", "infer: crop", "infer: network", "decode", "merge", "detect", "step", "publish"} <= set(stages)
    within = {"landmarks", *(f"landmarks: {stage}" for stage in ("infer", "infer: crop", "infer: network", "decode"))}
    assert within <= set(stages)
    assert {stages[stage]["runs"] for stage in within} == {30}  # every frame has faces
    assert stages["landmarks: infer: network"]["p50"] <= stages["landmarks"]["p50"] <= stages["step"]["p99"]
    assert stages["step"]["runs"] == 30
    assert stages["detect"]["runs"] == stages["merge"]["runs"] == 10
    assert stages["infer: network"]["p50"] <= stages["detect"]["p50"] <= stages["detect"]["p99"]
    assert report["capture_to_publish_ms"]["p50"] > 0
    assert report["resident_mb"]["peak"] >= report["resident_mb"]["now"] > 20
    assert set(report["import_ms"]) == {"edgeface", "edgeface.client", "daemon"}
    assert report["mean_faces"] > 1
    for stage in stages:
        assert stage in out


def test_bench_without_landmarks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench, "import_times", lambda programs: {})
    assert bench.main(["--frames", "1", "--warm-up", "1", "--landmarks", "none"]) == 0
    out = capsys.readouterr().out
    assert "landmarks none" in out
    assert "landmarks: infer" not in out


def test_bench_refuses_a_source_that_ends_in_the_warm_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--source", "demo:?pace=0", "--warm-up", "301"]) == 78
    assert "ended before the 301 frames of warm-up" in capsys.readouterr().err


def test_bench_refuses_an_unwritable_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--frames", "1", "--warm-up", "1", "--json", "/proc/x"]) == 78
    assert "/proc/x: cannot be written" in capsys.readouterr().err


def test_listen_prints_landmarks_of_another_form_as_they_are() -> None:
    wrong = {"n": 2, "xy": b"\x00\x01", "score": b""}
    printed = json.loads(json.dumps(_printable({"faces": [{"landmarks": wrong}], "landmarks": b"\xff"})))
    assert printed == {"faces": [{"landmarks": {"n": 2, "xy": "0001", "score": ""}}], "landmarks": "ff"}


def test_listening_to_nonsense_is_78(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["listen", "foo"]) == 78
    assert "expected ipc:///path" in capsys.readouterr().err


def test_ctrl_c_ends_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgeface.daemon.run", interrupted)
    assert main(["run"]) == 0
    assert capsys.readouterr().err == ""


def test_bench_takes_the_files_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f'source = "{tmp_path}/none.mp4"\n')
    assert bench.main([str(path)]) == 78
    assert "none.mp4: no such file" in capsys.readouterr().err


def test_bench_gives_up_on_a_silent_camera(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("edgeface.cpu.source.LiveSource.read", lambda *_: None)
    assert bench.main(["--source", "v4l2:///dev/video-none"]) == 75
    assert "no frame for 10 s" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"edgeface {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["walk"], ["listen", "--topic", "noses"], ["listen", "--max-messages", "-1"]]
)
def test_bad_usage_is_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


HEAVY = ("cv2", "onnxruntime", "tensorrt", "pycuda", "numpy", "msgspec", "lap")


@pytest.mark.parametrize(
    ("module", "forbidden"), [("edgeface", (*HEAVY, "zmq", "msgpack")), ("edgeface.client", HEAVY)]
)
def test_subscribers_import_nothing_heavy(module: str, forbidden: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not set(forbidden) & set(loaded)


def test_an_unexpected_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("dt\nis 0")

    monkeypatch.setattr("edgeface.daemon.run", broken)
    assert main(["run"]) == 1
    err = capsys.readouterr().err
    assert err == "edgeface: ZeroDivisionError: dt is 0 (--debug shows where)\n"

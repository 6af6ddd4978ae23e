"""`edgeface evaluate tracking`: files, runs beside the truth, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from fakes import FakeDetector, FakeSource, detections, frame, tracker

from edgeface.cli import main
from edgeface.errors import EngineError, SourceError
from edgeface.evaluate.tracking import follow, truth_for
from edgeface.mot import read_tracks, truth_text
from edgeface.pipeline import Pipeline
from edgeface.scenario.scenes import make_scene
from edgeface.schedule import KeyframeSchedule
from edgeface.source_uri import parse_source

DEMO = ROOT / "edgeface" / "demo" / "demo.mp4"
TRUTH = "1,1,0,0,10,10,1,1,1\n2,1,0,0,10,10,1,1,1\n3,1,0,0,10,10,1,1,1\n4,1,0,0,10,10,1,1,1\n"
TRACKS = "1,5,0,0,10,10,0.9\n2,5,0,0,10,10,0.9\n3,6,0,0,10,10,0.9\n4,6,50,0,10,10,0.9\n"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "gt.txt").write_text(TRUTH)
    (tmp_path / "tracks.txt").write_text(TRACKS)
    return ["evaluate", "tracking", "--truth", str(tmp_path / "gt.txt"), "--tracks", str(tmp_path / "tracks.txt")]


def pipeline(detector: FakeDetector, interval: int = 1) -> Pipeline:
    return Pipeline(detector, tracker(), KeyframeSchedule(interval), blind_timeout_s=1.0)


def test_files_are_compared(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--json", str(tmp_path / "figures.json")]) == 0
    report = json.loads((tmp_path / "figures.json").read_text())
    counts = {"frames": 4, "true_boxes": 4, "true_ids": 1, "track_boxes": 4, "track_ids": 2, "id_switches": 1}
    assert report.items() >= counts.items()
    assert (report["misses"], report["false_positives"], report["recall"], report["mota"]) == (1, 1, 0.75, 0.25)
    assert report["idf1"] == 0.5
    assert report["tracks"] == files[-1]
    out = capsys.readouterr().out
    assert f"{files[-1]}, 4 frames" in out
    assert "1 id switches, 0 fragmentations, 1 misses, 1 false positives" in out
    assert f"{report['hota']:.4f}" in out


def test_only_the_first_frames_of_files(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--max-frames", "2"]) == 0
    out = capsys.readouterr().out
    assert ", 2 frames" in out
    assert out.splitlines()[4].split() == ["1.0000"] * 11


def test_a_run_on_the_demo_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = {name: tmp_path / name for name in ("json", "write", "write-truth")}
    options = [item for name, path in paths.items() for item in (f"--{name}", str(path))]
    assert main(["evaluate", "tracking", "--max-frames", "40", "--keyframe-interval", "4", *options]) == 0
    assert "demo:, edgeface-detector, keyframe interval 4, looked at 10 of 40 frames" in capsys.readouterr().out
    report = json.loads(paths["json"].read_text())
    assert (report["frames"], report["looks"], report["truth"]) == (40, 10, None)
    faces = [face for frame in json.loads(DEMO.with_suffix(".json").read_text())["frames"][:40] for face in frame]
    counted = [face for face in faces if face["visible_fraction"] >= 0.6]
    assert report["true_boxes"] == len(counted)
    assert report["hidden_boxes"] == len(faces) - len(counted)
    assert report["recall"] > 0.9
    assert report["track_boxes"] == len(read_tracks(paths["write"]).frame)

    # the written files, compared as files
    again = ["evaluate", "tracking", "--truth", str(paths["write-truth"]), "--tracks", str(paths["write"])]
    assert main([*again, "--json", str(paths["json"])]) == 0
    same = json.loads(paths["json"].read_text())
    assert same["true_boxes"] == report["true_boxes"]
    assert same["misses"] == report["misses"]
    assert same["false_positives"] == report["false_positives"] + report["track_boxes_on_hidden"]


def test_a_film_with_a_truth_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("time.sleep")  # nothing waits for a film's own speed
    target = tmp_path / "tracks.txt"
    run = ["evaluate", "tracking", "--source", f"{DEMO}?pace=1", "--max-frames", "6"]
    assert main([*run, "--write", str(target)]) == 0
    tracks = read_tracks(target)
    target.write_text(truth_text(tracks, np.ones(len(tracks.frame), bool)))
    assert main([*run, "--truth", str(target)]) == 0  # its own tracks as the truth
    assert capsys.readouterr().out.splitlines()[-2].split() == ["1.0000"] * 11


def test_a_truth_longer_than_its_film(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gt.txt").write_text("1,1,0,0,9,9,1,1,1\n9,1,0,0,9,9,1,1,1\n")
    run = ["evaluate", "tracking", "--truth", str(tmp_path / "gt.txt"), "--source", f"images:{ROOT}/docs/*.jpg"]
    assert main([*run, "--max-frames", "1"]) == 0
    capsys.readouterr()
    assert main(run) == 1
    assert "ended after frame 1, but its truth goes on to 9" in capsys.readouterr().err


def test_what_is_published_is_what_counts() -> None:
    seen = detections((10, 10, 30, 30), (-5, 50, 20, 90))
    run = follow(FakeSource([frame(number) for number in range(3)]), pipeline(FakeDetector(seen), interval=2), 0)
    assert (run.frames, run.looks) == (3, 2)
    assert run.tracks.frame.tolist() == [1, 1, 2, 2, 3, 3]  # MOT counts from 1
    assert run.tracks.track_id.tolist() == [1, 2] * 3
    assert run.tracks.xyxy[0].tolist() == [10, 10, 30, 30]
    assert run.tracks.xyxy[1].tolist() == [0, 50, 20, 90]  # clipped
    assert run.score == pytest.approx(np.full(6, 0.9))


def test_a_run_stops_at_max_frames_and_at_silence() -> None:
    frames = [frame(0), frame(1), None]
    assert follow(FakeSource(frames), pipeline(FakeDetector(detections())), 2).frames == 2
    with pytest.raises(SourceError, match="no frame for 10 s"):
        follow(FakeSource(frames), pipeline(FakeDetector(detections())), 0)


def test_a_failing_detector_is_no_poor_tracker() -> None:
    detector = FakeDetector(detections((10, 10, 30, 30)), None)
    with pytest.raises(EngineError, match="frame 1: 7 numbers are NaN"):
        follow(FakeSource([frame(0), frame(1)]), pipeline(detector), 0)


def test_a_scenario_brings_its_truth(capsys: pytest.CaptureFixture[str]) -> None:
    scene = make_scene("leave-and-return", faces=4, seed=3, frames=90)
    truth = truth_for(parse_source("scenario:leave-and-return?faces=4&seed=3"), 90)
    assert truth.counts.all()
    assert [(truth.boxes.frame == number).sum() for number in range(1, 91)] == [len(ids) for ids in scene.truth_id]
    assert truth.boxes.xyxy.min() >= 0
    assert (truth.boxes.xyxy <= [1920, 1080, 1920, 1080]).all()
    assert (
        main(["evaluate", "tracking", "--source", "scenario:crowd?pace=1&frames=60", "--keyframe-interval", "2"]) == 0
    )
    said = capsys.readouterr().out
    assert "looked at 30 of 60 frames" in said
    assert "300 boxes of 5 faces" in said


def test_the_truth_of_the_demo_clip() -> None:
    truth = truth_for(parse_source("demo:?pace=0"), 0)
    assert len(truth.boxes.frame) == len(truth.counts) == 1434
    assert (truth.boxes.frame[0], truth.boxes.frame[-1]) == (1, 300)
    assert truth.counts.sum() == 1187
    assert set(truth.boxes.track_id.tolist()) == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--source", "film.mp4"], "source 'film.mp4': its truth is not known; give it with --truth FILE"),
        (["--source", "0"], "source '0': expected one that ends, with the same frames at every run"),
        (["--source", "rtsp://x/y"], "expected one that ends"),
        (["--source", "demo:?loop=1"], "expected one that ends"),
        (["--source", "scenario:hard?loop=1"], "expected one that ends"),
        (["--source", "scenario:hard?faces=500&frames=1000000"], "expected at most 5000000 boxes"),
        (["--truth", "none.txt"], "none.txt: cannot be read"),
        (["--tracks", "none.txt", "--truth", "none.txt"], "none.txt: cannot be read"),
        (["--max-frames", "1", "--write", "/proc/x"], "/proc/x: cannot be written"),
        (["--max-frames", "1", "--json", "/proc/x"], "/proc/x: cannot be written"),
        (["--keyframe-interval", "0"], "keyframe_interval"),
    ],
)
def test_what_cannot_be_is_one_line_and_78(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "tracking", *arguments]) == 78
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["evaluate"], "WHAT"),
        (["evaluate", "smiling"], "smiling"),
        (["evaluate", "tracking", "--tracks", "t.txt"], "--tracks needs --truth"),
        (["evaluate", "tracking", "--tracks", "t", "--truth", "g", "--source", "demo:"], "nothing is run"),
        (["evaluate", "tracking", "--tracks", "t", "--truth", "g", "--write", "x"], "nothing is run"),
        (["evaluate", "tracking", "--tracks", "t", "--truth", "g", "--write-truth", "x"], "nothing is run"),
        (["evaluate", "tracking", "c.toml", "--tracks", "t", "--truth", "g"], "nothing is run"),
    ],
)
def test_bad_usage_is_2(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err

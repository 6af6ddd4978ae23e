"""The command behind docs/landmarks.md: its films, its figures on tiny ones, its tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import landmark_cost
import landmark_trust
import measure_landmarks
import numpy as np
import pan_films
import pytest
from fakes import detections
from landmark_hold import HELD, PREDICTED, RULES, SHIPPED, mean, rule, run
from landmark_trust import WALL, trusted, vanished
from pan_films import FACE_PX, FPS, SPEEDS, Film, demo

from edgeface import holding
from edgeface.boxes import iou
from edgeface.config import Config, load_config
from edgeface.evaluate.tracking import Truth
from edgeface.metrics import trajectories
from edgeface.networks import Networks, open_networks
from edgeface.values import Frame


@pytest.fixture(scope="module")
def networks() -> Iterator[Networks]:
    with closing(open_networks(load_config(None, {}))) as opened:
        yield opened


@pytest.fixture(scope="module")
def clip(networks: Networks) -> Film:
    return demo(networks, 40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a picture of one face and an empty one."""
    cv2.imwrite(str(tmp_path / "a.png"), landmark_cost.cut_out())
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((90, 160, 3), np.uint8))
    return tmp_path


def config(interval: int) -> Config:
    return load_config(None, {"tracker": {"keyframe_interval": interval, "smoothing": False}})


def test_pans_move_over_a_picture_and_the_truth_with_them(
    folder: Path, networks: Networks, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pan_films, "FRAMES", 40)
    films = list(pan_films.pans([folder], networks, seed=1))
    assert capsys.readouterr().err == "b.png: no face\n"
    assert [film.group for film in films] == [f"pans, {speed}" for speed in SPEEDS]
    for film, peak in zip(films, SPEEDS.values(), strict=True):
        boxes = film.truth.boxes
        assert len(film.frames) == len(film.found) == 40
        whole = (boxes.xyxy[:, :2] > 0).all(axis=1) & (boxes.xyxy[:, 2:] < [960, 540]).all(axis=1)
        np.testing.assert_array_equal(film.truth.counts, whole)
        one = boxes.where(whole)
        steps = np.hypot(*np.diff((one.xyxy[:, :2] + one.xyxy[:, 2:]) / 2, axis=0).T) / np.diff(one.frame)
        assert 0.5 < np.max(steps) * FPS / (peak * FACE_PX) < 1.6  # zooming moves it too
        on = [
            np.max(iou(box[None], film.found[frame - 1].xyxy.astype(float)), initial=0)
            for frame, box in zip(one.frame.tolist(), one.xyxy, strict=True)
        ]
        assert np.median(on) > 0.85


def test_figures_are_of_frames_without_a_look(networks: Networks) -> None:
    blank = np.zeros((360, 640, 3), np.uint8)
    box = (100.0, 100.0, 200.0, 200.0)
    frames = [Frame(n, n * 33_333_333, 640, 360, "bgr8", blank) for n in range(21)]
    found = [detections(box if n % 10 else (100.0, 100.0, 200.0, 160.0)) for n in range(21)]  # looks are wrong
    truth = Truth(trajectories([(n + 1, 7, *box) for n in range(21)]), np.arange(21) != 3)
    film = Film("one", frames, truth, [detections(box)] * 21)
    figures = run(film, networks, config(5), PREDICTED)
    assert (figures.iou, figures.above_half, figures.idf1) == pytest.approx((1, 1, 1))
    assert (figures.switches, figures.false, figures.looks) == (0, 0, pytest.approx(5 / 21))
    worse = run(Film("one", frames, truth, found), networks, config(10), PREDICTED)
    assert worse.iou == pytest.approx(0.6, abs=0.01)
    assert mean([figures, worse]).iou == pytest.approx(0.8, abs=0.01)
    assert run(film, networks, config(10), PREDICTED, start=5).looks == pytest.approx(2 / 16)


def test_ways_differ_in_holding_and_in_early_looks(clip: Film, networks: Networks) -> None:
    ways = {way: run(clip, networks, config(10), way) for way in (PREDICTED, HELD, SHIPPED)}
    assert ways[PREDICTED].looks == ways[HELD].looks <= ways[SHIPPED].looks
    assert ways[PREDICTED].looks == pytest.approx(0.1)
    assert ways[PREDICTED].iou != ways[HELD].iou


def test_a_rule_holds_while_it_lasts() -> None:
    before = {key: getattr(holding, key) for changes in RULES.values() for key in changes}
    assert len(before) == 5
    for name, changes in RULES.items():
        with rule(name):
            assert {key: getattr(holding, key) for key in before} == before | changes
        assert {key: getattr(holding, key) for key in before} == before


def test_faces_are_trusted_walls_are_not(clip: Film, networks: Networks) -> None:
    said = trusted(clip, networks, seed=1)
    share = {what: np.mean([ok for ok, *_ in each]) for what, each in said.items()}
    assert list(share) == ["0% misplaced", "10% misplaced", "20% misplaced", "30% misplaced", WALL]
    assert share["10% misplaced"] > 0.9
    assert share[WALL] < 0.1
    before, after = np.mean([each[1:] for each in said["20% misplaced"] if each[0]], axis=0)
    assert before < 0.7 < after


def test_who_vanishes_is_not_held(clip: Film, networks: Networks, monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(vanished(clip, networks, config(10), HELD, seed=1)) <= 3
    monkeypatch.setattr(landmark_trust, "_painted", lambda film, gone, random: film.frames[gone : gone + 12])
    assert max(vanished(clip, networks, config(10), HELD, seed=1)) == 9  # who stays is, to the next look


def test_costs_of_every_stage() -> None:
    report = landmark_cost.measure([1, 3], [60], rounds=2)
    assert [(row["faces"], row["size_px"]) for row in report["us"]] == [(1, 60), (3, 60)]
    for row in report["us"]:
        assert all(value > 0 for value in row.values())
        assert row["outside inference"] < row["locate"]


def test_the_command_prints_tables_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_landmarks, "PHASES", 2)
    monkeypatch.setattr(landmark_trust, "_VANISH_AFTER", (1, 5))
    measure_landmarks.main(["hold", "--frames", "35", "--intervals", "adaptive", "--json", str(tmp_path / "a.json")])
    text = capsys.readouterr().out
    assert "| demo clip (2 runs), adaptive |" in text
    assert all(f"| {name} |" in text for name in RULES)
    report = json.loads((tmp_path / "a.json").read_text())
    assert list(report) == ["edgeface", "hold"]
    assert {row["way"]: row["runs"] for row in report["hold"]["runs"]} == {PREDICTED: 2, HELD: 2, SHIPPED: 2}
    assert {row["films"] for row in report["hold"]["runs"]} == {"demo clip"}  # without pictures


def test_the_command_prints_costs(capsys: pytest.CaptureFixture[str]) -> None:
    measure_landmarks.main(["cost", "--rounds", "1"])
    assert "| 10 faces |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        measure_landmarks.main(["costs"])

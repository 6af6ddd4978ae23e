"""What the measuring programs count: boxes made up, the bundled networks, and faces of the demo clip."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface import landmark_metrics
from edgeface.errors import EngineError
from edgeface.evaluate.labels import demo_labels, frames
from edgeface.model_card import bundled_engines, find_onnx
from edgeface.values import Detections
from training import detector_agreement as agreement
from training import measure_detectors, measure_landmarks, measured
from training.measured import config_of, find_detector

FACE = [100.0, 100.0, 140.0, 150.0]
DETECTOR = str(bundled_engines() / "edgeface-detector.onnx")


def detections(*rows: list[float], points: int = 0) -> Detections:
    """Rows of left, top, right, bottom, score."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4], np.zeros((len(table), points, 2), np.float32))


def look(reference: Detections, found: Detections, kind: str = "faces") -> agreement.Look:
    return agreement.look(kind, (640, 480), reference, found, 0.6)


def test_a_face_is_found_by_a_box_that_fits_and_is_sure_enough() -> None:
    one = look(detections([*FACE, 0.9]), detections([102, 100, 141, 152, 0.55]))
    assert agreement.faces_found(one, 0.5).tolist() == [True]
    assert agreement.faces_found(one, 0.6).tolist() == [False]
    aside = look(detections([*FACE, 0.9]), detections([120, 100, 160, 150, 0.9]))
    assert agreement.faces_found(aside, 0.5).tolist() == [False]


def test_a_box_is_false_where_the_reference_sees_nothing_at_all() -> None:
    found = detections([*FACE, 0.9], [300, 300, 340, 350, 0.8], [400, 100, 440, 150, 0.7])
    one = look(detections([*FACE, 0.9], [300, 300, 340, 350, 0.35]), found)
    assert len(one.truth) == 1  # the other is doubtful: no face to find, but no false box either
    assert agreement.false_boxes(one, 0.5) == 1
    assert agreement.false_boxes(one, 0.75) == 0


def test_faces_are_told_apart_by_their_size_in_the_input() -> None:
    reference = detections([0, 0, 20, 20, 0.9], [100, 0, 180, 80, 0.9])
    one = agreement.look("faces", (1280, 720), reference, detections([100, 0, 180, 80, 0.9]), 0.6)
    assert agreement.by_size([one], 0.5) == [(0, 1), (0, 0), (1, 1), (0, 0), (0, 0)]
    assert agreement.recall([one], 0.5) == 0.5
    assert np.isnan(agreement.recall([look(detections(), detections())], 0.5))


def test_boxes_are_cut_at_the_border_before_they_are_compared() -> None:
    one = look(detections([-40, 0, 30, 60, 0.9]), detections([0, 0, 30, 60, 0.9]))
    assert agreement.faces_found(one, 0.5).tolist() == [True]


def test_recall_is_told_at_equal_rates_of_false_boxes() -> None:
    weak = look(detections([*FACE, 0.9]), detections([*FACE, 0.4]))
    wrong = look(detections(), detections([300, 300, 340, 350, 0.5], [10, 10, 60, 60, 0.3]), "hands")
    recall, threshold = agreement.recall_at([weak, wrong], 0.1)  # none allowed: above 0.5
    assert recall == 0.0
    assert agreement.false_boxes(wrong, threshold) == 0
    recall, threshold = agreement.recall_at([weak, wrong], 0.5)  # one allowed: above 0.3
    assert recall == 1.0
    assert 0.3 < threshold < 0.4
    assert agreement.recall_at([weak, wrong], 1.0) == (1.0, 0.0)


@given(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1), st.floats(0.9, 1.1))
def test_the_geometry_says_how_a_box_was_moved_and_scaled(right: float, down: float, factor: float) -> None:
    width, height = FACE[2] - FACE[0], FACE[3] - FACE[1]
    x, y = (FACE[0] + FACE[2]) / 2 + right * width, (FACE[1] + FACE[3]) / 2 + down * height
    half = width * factor / 2, height * factor / 2
    moved = [x - half[0], y - half[1], x + half[0], y + half[1], 0.9]
    shape = agreement.geometry([look(detections([*FACE, 0.9]), detections(moved))], 0.5)
    assert shape is not None
    assert shape.size_ratio == pytest.approx(factor, abs=1e-4)
    shrink = (factor - 1) / 2
    assert shape.edges == pytest.approx([right - shrink, down - shrink, right + shrink, down + shrink], abs=1e-4)
    assert shape.points.shape == (0,)


def test_points_are_apart_in_sizes_of_the_box_and_nothing_found_has_no_geometry() -> None:
    reference, found = detections([0, 0, 40, 40, 0.9], points=5), detections([0, 0, 40, 40, 0.9], points=5)
    found.keypoints[:, 2] += [3, 4]
    shape = agreement.geometry([look(reference, found)], 0.5)
    assert shape is not None
    assert shape.points == pytest.approx([0, 0, 0.125, 0, 0])
    assert shape.size_within == 1.0
    assert agreement.geometry([look(reference, detections(points=5))], 0.5) is None
    tiny = detections([0, 0, 12, 12, 0.9], points=5)  # a pixel is 8 % of it
    assert agreement.geometry([look(tiny, tiny)], 0.5) is None
    assert agreement.geometry([look(reference, detections([200, 200, 240, 240, 0.9], points=5))], 0.5) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames of the demo clip as a picture and as labels, a clip, and a wall as a picture without faces."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "faces").mkdir()
    (folder / "none" / "walls").mkdir(parents=True)
    lines = []
    for frame, picture in frames(demo_labels()[40:90:49]):
        name = f"{picture.frame}.png"
        cv2.imwrite(str(folder / "faces" / name), frame.pixels)
        for face in picture.xy - 0.5:  # pixels by their numbers
            parts = "".join(f"<part name='{n:02}' x='{x}' y='{y}'/>" for n, (x, y) in enumerate(face.tolist()))
            lines.append(f"<image file='faces/{name}'><box top='0' left='0' width='9' height='9'>{parts}</box></image>")
    (folder / "labels.xml").write_text(f"<dataset><images>{''.join(lines)}</images></dataset>")
    wall = np.random.default_rng(0).integers(100, 110, (240, 320, 3), np.uint8)
    cv2.imwrite(str(folder / "none" / "walls" / "wall.png"), wall)
    writer = cv2.VideoWriter(str(folder / "none" / "walls" / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for value in range(10):
        writer.write(np.full((48, 64, 3), value * 20, np.uint8))
    writer.release()
    return folder


def test_a_detector_agrees_with_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["edgeface-detector", DETECTOR, "--reference", DETECTOR, "--pictures", str(folder / "faces")]
    out = folder / "out.json"
    measure_detectors.main([*given, "--no-faces", str(folder / "none"), "--json", str(out), "--one-look"])
    said = json.loads(out.read_text())["networks"]
    assert list(said) == ["edgeface-detector", DETECTOR]  # the same name twice: as they were given
    one = said[DETECTOR]
    assert (one["pictures"], one["pictures_without_faces"]) == (2, 4)  # a wall, and three frames of a clip
    assert one["recall"] == 1.0
    assert one["false"] == {"faces": [0.0, 2], "walls": [0.0, 4]}
    assert one["geometry"]["size_ratio"] == 1.0
    text = capsys.readouterr().out
    assert "| walls (4) |" in text
    assert f"| {DETECTOR} @ 0.5 |" in text


def test_pictures_without_faces_can_be_looked_at_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure_detectors.main(["edgeface-detector", "--reference", DETECTOR, "--no-faces", str(folder / "none")])
    assert "| - / 0.00 / 0.00 |" in capsys.readouterr().out


def test_each_file_is_in_one_half_whatever_its_folder(folder: Path) -> None:
    halves = [measure_detectors.half_of(f"picture-{number}.png") for number in range(200)]
    assert set(halves) == {"dev", "held-out"}
    assert 70 < halves.count("dev") < 130


def test_frames_of_a_clip_are_spread_evenly(folder: Path) -> None:
    seen = list(measure_detectors.frames_of(folder / "none" / "walls" / "clip.avi", 2))
    assert [round(frame.pixels.mean() / 20) for frame in seen] == [2, 7]
    assert (seen[0].width, seen[0].height) == (64, 48)


def test_what_is_no_picture_is_named_and_passed_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "notes.md").write_text("no picture")
    (folder / "empty.gif").write_bytes(b"")
    assert not list(measure_detectors.frames_of(folder / "notes.md", 2))
    assert not list(measure_detectors.frames_of(folder / "empty.gif", 2))
    assert "notes.md" in capsys.readouterr().err


def test_a_card_is_found_by_its_name_and_by_its_network(tmp_path: Path) -> None:
    by_name = find_detector("edgeface-detector", tmp_path)
    by_network = find_detector(DETECTOR, tmp_path)
    assert by_name.card.near_look == by_network.card.near_look == 128
    assert config_of(by_network, 0.1, False).detector.scales is None
    assert config_of(by_network, 0.1, True).detector.scales == (640,)
    with pytest.raises(EngineError, match="no such file"):
        find_detector(str(tmp_path / "none.onnx"), tmp_path)


def test_a_network_is_never_taken_for_a_namesake(tmp_path: Path) -> None:
    """An edgeface-detector.onnx of one's own, without a card, is lent one that has no hash and no near look."""
    (tmp_path / "own").mkdir()
    path = tmp_path / "own" / "edgeface-detector.onnx"
    path.write_bytes(Path(DETECTOR).read_bytes() + b"\x0a\x00")  # not the file that the bundled card means
    own = find_detector(str(path), tmp_path)
    assert find_onnx(own.card) == path
    assert (own.card.near_look, own.card.sha256) == (0, "")
    assert config_of(own, 0.1, False).detector.card == own.named


def test_a_card_beside_the_network_goes_first(tmp_path: Path) -> None:
    path = tmp_path / "edgeface-detector.onnx"
    path.write_bytes(Path(DETECTOR).read_bytes())
    card = Path(DETECTOR).with_suffix(".toml").read_text().replace("near_look = 128", "near_look = 160")
    (tmp_path / "a.toml").write_text(card)
    assert find_detector(str(path), tmp_path).card.near_look == 160


def test_networks_are_timed_in_turns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_detectors, "ROUNDS", 4)
    measure_detectors.main(["edgeface-detector", "--reference", DETECTOR, "--speed"])
    assert "| edgeface-detector | 640x640 |" in capsys.readouterr().out


def test_landmarks_are_measured_beside_the_mean_shape(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "landmarks.json"
    onnx = str(bundled_engines() / "edgeface-landmarks.onnx")
    measure_landmarks.main([onnx, "--labels", str(folder / "labels.xml"), "--json", str(out)])
    rows = json.loads(out.read_text())["rows"]
    assert [row["network"] for row in rows] == ["mean shape", "edgeface-landmarks", onnx] * 2
    mean, shipped, same = rows[:3]
    assert mean["boxes"] == "points"
    assert rows[3]["boxes"] == "detector, edgeface-detector"
    assert {**shipped, "network": ""} == {**same, "network": ""}
    assert shipped["median"] < 0.05 < mean["median"]  # two of the seven are in profile: their eyes are close together
    assert set(shipped["regions"]) == {"chin", "brows", "nose", "eyes", "mouth"}
    assert sum(count for count, _ in shipped["by_size"]) == shipped["faces"] == len(shipped["each"])
    assert f"| {onnx} | points |" in capsys.readouterr().out


def test_the_mean_shape_of_rendered_faces_is_that_of_the_frontal_ones(tmp_path: Path) -> None:
    shape = np.random.default_rng(0).uniform(20, 60, (80, 2)).astype(np.float32)
    landmarks = np.stack([shape + 8, shape + 8, shape + 20])  # a margin of 8 round the crop of 80
    pose = np.array([[0, 0, 30], [14, -14, 0], [40, 0, 0]], np.float32)
    picture = np.zeros((3, 96, 96), np.uint8)
    np.savez(tmp_path / "faces-00000.npz", picture=picture, landmarks=landmarks, pose=pose)
    found = measure_landmarks.rendered_shape(None, tmp_path)
    assert found is not None
    np.testing.assert_allclose(found, shape[:68] / 80, atol=1e-6)
    np.savez(tmp_path / "mean.npz", mean=found)
    np.testing.assert_allclose(measure_landmarks.rendered_shape(tmp_path / "mean.npz", None), found)
    assert measure_landmarks.rendered_shape(None, None) is None


def test_a_given_mean_shape_is_put_into_each_crop(folder: Path, tmp_path: Path) -> None:
    (one,) = [picture for picture in demo_labels() if picture.frame == 40]
    (box,) = landmark_metrics.detector_like(one.xy[:1])
    side = (box[2] - box[0]) * 1.2
    shape = (one.xy[0] - (box[:2] + box[2:]) / 2 + side / 2) / side
    np.savez(tmp_path / "mean.npz", mean=shape)
    out = tmp_path / "out.json"
    given = [
        "--labels",
        str(folder / "labels.xml"),
        "--mean",
        str(tmp_path / "mean.npz"),
        "--boxes",
        "points",
        "--crop-scale",
        "1.2",
    ]
    measure_landmarks.main([*given, "--json", str(out)])
    mean = json.loads(out.read_text())["rows"][0]
    assert mean["each"][0]["error"] == pytest.approx(0, abs=1e-3)  # its own shape
    assert mean["each"][1]["error"] > 0.02


def test_a_landmark_network_has_the_card_beside_it_or_is_lent_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes((bundled_engines() / "edgeface-landmarks.onnx").read_bytes())
    lent = measure_landmarks.landmark_card(str(path), 1.2)
    assert find_onnx(lent) == path
    assert (lent.decoder.points, lent.decoder.crop_scale) == (80, 1.2)
    assert measure_landmarks.landmark_card(str(path), None).decoder.crop_scale == 1.05
    text = (bundled_engines() / "edgeface-landmarks.toml").read_text().replace("1.05", "1.3")
    (tmp_path / "own.toml").write_text(text.replace("edgeface-landmarks.onnx", "mine.onnx"))
    assert measure_landmarks.landmark_card(str(path), 1.2).decoder.crop_scale == 1.3


def test_a_face_is_frontal_whose_nose_is_in_the_middle_however_the_head_is_tilted() -> None:
    xy = np.zeros((2, 68, 2))
    xy[:, 36], xy[:, 45], xy[:, 30] = [0, 0], [100, 100], [20, 80]  # tilted by 45 degrees, the nose 30 below
    xy[1, 30] = [35, 95]  # and 15 aside
    assert measure_landmarks.frontal(xy).tolist() == [True, False]


def test_what_cannot_be_measured_is_one_line() -> None:
    def refuses() -> None:
        raise EngineError("x.onnx: no such file")

    with pytest.raises(SystemExit, match="x.onnx: no such file"):
        measured.run(refuses)


def test_networks_are_called_by_their_files_unless_two_are_alike() -> None:
    given = ["edgeface-detector-2.5g", "a/mine.onnx", "b/other.toml", "c/other.toml", "a/mine.onnx"]
    assert measured.names_of(given) == {
        "edgeface-detector-2.5g": "edgeface-detector-2.5g",
        "mine": "a/mine.onnx",
        "b/other.toml": "b/other.toml",
        "c/other.toml": "c/other.toml",
    }

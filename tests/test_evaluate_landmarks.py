"""`edgeface evaluate landmarks`: the demo clip, label files, boxes, jitter, the sheet, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import ROOT, MakeOnnx
from fakes import FakeDetector, detections
from fakes import frame as blank

from edgeface.cli import main
from edgeface.errors import EngineError
from edgeface.evaluate import sheet
from edgeface.evaluate.labels import LabelledPicture, demo_labels, frames, read_labels
from edgeface.evaluate.landmark_report import Faces, figures, table, worst_by
from edgeface.evaluate.landmarks import box_rule, common_points, detected_boxes, jitters, place, write_sheet
from edgeface.landmark_metrics import detector_like
from edgeface.values import Frame, Landmarks

EVERY = 100  # three frames of the demo clip
RUN = ["evaluate", "landmarks"]


class FakeLandmarker:
    """Places points at shares of each box; `lost` boxes have none."""

    def __init__(self, shares: np.ndarray, lost: int = 0) -> None:
        self.shares, self.lost, self.points = shares, lost, len(shares)
        self.boxes: list[np.ndarray] = []

    def locate(self, frame: Frame, xyxy: np.ndarray) -> Landmarks:
        assert xyxy.dtype == np.float32
        self.boxes.append(xyxy)
        xy = xyxy[:, None, :2] + self.shares * (xyxy[:, 2:] - xyxy[:, :2])[:, None]
        xy[: self.lost] = np.nan
        return Landmarks(xy.astype(np.float32), np.zeros(xy.shape[:2], np.float32))


def labelled(xy: np.ndarray, xyxy: np.ndarray, occluded: np.ndarray | None = None) -> LabelledPicture:
    return LabelledPicture(demo_labels()[0].path, xy, xyxy, occluded, 0)


def report(path: Path, *arguments: str) -> dict[str, Any]:
    assert main([*RUN, *arguments, "--json", str(path)]) == 0
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_the_demo_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet_path = tmp_path / "sheet.png"
    found = report(tmp_path / "r.json", "--every", str(EVERY), "--jitter", "--sheet", str(sheet_path))
    counted = sum(len(picture.xy) for picture in demo_labels()[::EVERY])
    said = {"labels": "demo:", "pictures": 3, "boxes": "detector", "points": 68, "occlusion_labelled": False}
    assert found.items() >= said.items()
    assert found["faces"] + found["missed_faces"] + found["unplaced_faces"] == found["labelled_faces"] == counted
    assert found["missed_faces"] == len(found["missed"]) <= 1
    network, mean_shape = found["network"], found["mean_shape"]
    assert network["nme_eyes"]["mean"] < 0.05 < mean_shape["nme_eyes"]["mean"]
    assert network["regions_px"] == network["regions_px_not_occluded"]
    assert list(network["regions_px"]) == ["all", "eyes", "nose", "mouth", "brows", "chin"]
    assert np.mean([face["nme_box"] for face in found["each"]]) == pytest.approx(network["nme_box"]["mean"])
    jitter = found["jitter"]
    assert jitter["shift 0%"]["nme_eyes"] == pytest.approx(network["nme_eyes"]["mean"])
    assert jitter["scale 1.0"] == jitter["shift 0%"]
    assert jitter["shift 20%"]["nme_eyes"] > jitter["shift 0%"]["nme_eyes"]
    assert jitter["shift 20%"]["crops"] == 8 * jitter["shift 0%"]["crops"]

    out = capsys.readouterr().out.splitlines()
    assert out[0].endswith("edgeface-landmarks on demo:, boxes: detector")
    assert out[1].startswith(f"{counted} faces in 3 pictures; detector: edgeface-detector, which missed")
    assert out[1].endswith("occlusion is not labelled")
    assert [line.split()[0] for line in out[4:10]] == ["All", "Eyes", "Nose", "Mouth", "Brows", "Chin"]
    assert out[4].split()[1] == f"{network['regions_px']['all']:.2f}"
    assert any(line.startswith("shift 20%") for line in out)

    picture = cv2.imread(str(sheet_path))
    assert picture.shape == (2 * (240 + 18), 6 * 240, 3)
    assert (picture[:240, :240] == (80, 220, 80)).all(axis=2).any()  # a true point
    assert (picture[:240, :240] == (60, 60, 255)).all(axis=2).any()  # a placed one


def test_the_labels_own_boxes_need_no_detector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = report(tmp_path / "r.json", "--every", str(EVERY), "--boxes", "labels")
    assert (found["missed_faces"], found["jitter"]) == (0, None)
    assert found["faces"] == found["labelled_faces"]
    assert "detector: none" in capsys.readouterr().out
    assert report(tmp_path / "r.json", "--every", str(EVERY), "--boxes", "points")["network"] != found["network"]


def test_a_label_without_a_box_gets_one_as_of_a_detector() -> None:
    truth, own = demo_labels()[0].xy[:2], np.array([[1, 2, 3, 4], [np.nan] * 4])
    boxes = box_rule("labels", None, None)(blank(), labelled(truth, own))
    np.testing.assert_allclose(boxes, [[1, 2, 3, 4], detector_like(truth)[1]])
    round_points = box_rule("points", None, None)(blank(), labelled(truth, own))
    np.testing.assert_allclose(round_points[:, 2:], truth.max(axis=1))


def test_every_tenth_frame_of_the_demo_clip_counts(tmp_path: Path) -> None:
    found = report(tmp_path / "r.json", "--boxes", "labels")
    assert (found["pictures"], found["faces"]) == (30, 119)


def test_one_face_has_no_mean_shape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = write_pts(tmp_path, count=1)
    found = report(tmp_path / "r.json", "--labels", str(labels), "--boxes", "labels")
    assert (found["faces"], found["mean_shape"]) == (1, None)
    assert found["network"]["nme_eyes"]["mean"] < 0.1
    assert "mean shape" not in capsys.readouterr().out


def write_pts(folder: Path, count: int) -> Path:
    """Faces of the demo clip as pictures of their own with iBUG's labels."""
    for number, (frame, picture) in enumerate(frames(demo_labels()[: count * 30 : 30])):
        x1, y1, x2, y2 = (round(value) for value in picture.xyxy[0])
        left, top = max(x1 - 20, 0), max(y1 - 20, 0)
        cv2.imwrite(str(folder / f"{number}.png"), frame.pixels[top : y2 + 20, left : x2 + 20])
        lines = [f"{x - left + 0.5!r} {y - top + 0.5!r}" for x, y in picture.xy[0].tolist()]
        text = "\n".join(["version: 1", f"n_points: {len(lines)}", "{", *lines, "}"])
        (folder / f"{number}.pts").write_text(text)
    return folder


def test_a_folder_of_pts_through_the_whole_chain(tmp_path: Path) -> None:
    found = report(tmp_path / "r.json", "--labels", str(write_pts(tmp_path, count=2)))
    assert (found["pictures"], found["labelled_faces"], found["missed_faces"]) == (2, 2, 0)
    assert found["network"]["nme_eyes"]["mean"] < 0.06
    assert {Path(face["picture"]).name for face in found["each"]} == {"0.png", "1.png"}
    (tmp_path / "json").mkdir()
    assert report(tmp_path / "json" / "r.json", "--labels", str(tmp_path / "1.pts"))["labelled_faces"] == 1


def test_photographs(data: Path, tmp_path: Path) -> None:
    labels = str(data / "landmarks" / "training_with_face_landmarks.xml")
    networks = ["--detector", "scrfd-500m-kps", "--engines", str(data / "networks")]
    found = report(tmp_path / "r.json", "--labels", labels, *networks)
    assert (found["labelled_faces"], found["missed_faces"], found["faces"]) == (18, 0, 18)
    assert found["network"]["nme_eyes"]["mean"] == pytest.approx(0.053, abs=0.006)  # docs/evaluation.md
    assert found["mean_shape"]["nme_eyes"]["mean"] > 0.2
    own = report(tmp_path / "r.json", "--labels", labels)
    assert own["faces"] >= 16
    assert own["network"]["nme_eyes"]["mean"] < 0.09


def test_points_placed_in_fixed_shares_of_the_boxes() -> None:
    shares = np.random.default_rng(1).uniform(0, 1, (98, 2))
    boxes = np.array([[10, 10, 50, 50], [100, 20, 180, 100], [300, 30, 340, 90]], float)
    truth = boxes[:, None, :2] + shares * (boxes[:, 2:] - boxes[:, :2])[:, None]
    picture = labelled(truth + np.array([3, 4]), boxes)
    missed = np.where([[False], [True], [False]], np.nan, boxes)
    faces = place(FakeLandmarker(shares), [picture], lambda *_: missed, jitter=True)
    found = figures(faces)
    assert (found["labelled_faces"], found["missed_faces"], found["unplaced_faces"], found["faces"]) == (3, 1, 0, 2)
    assert found["missed"] == [{"picture": "demo.mp4, frame 0", "face": 1}]
    assert list(found["network"]["regions_px"]) == ["all"]
    assert found["network"]["regions_px"]["all"] == pytest.approx(5, abs=1e-4)
    assert found["network"]["nme_eyes"] is None
    assert found["network"]["regions_of_eyes"] == {"all": None}
    assert [face["nme_eyes"] for face in found["each"]] == [None, None]
    assert found["jitter"]["shift 10%"]["nme_eyes"] is None
    assert found["jitter"]["shift 10%"]["crops"] == 16
    said = {"edgeface": "0", "labels": "x", "landmarks": "y", "detector": "z", "boxes": "detector", "pictures": 1}
    assert "z, which missed 1;" in table(said | found)
    assert len(worst_by(faces)) == 3
    assert np.isnan(worst_by(faces)).tolist() == [False, True, False]


def test_moved_boxes_are_what_the_network_gets() -> None:
    boxes = np.array([[10, 10, 30, 50], [100, 20, 180, 100]], float)
    landmarker = FakeLandmarker(np.full((5, 2), 0.5))
    middle = np.repeat((boxes[:, None, :2] + boxes[:, None, 2:]) / 2, 5, axis=1)
    faces = place(landmarker, [labelled(middle, boxes)], lambda *_: boxes, jitter=True)
    assert list(faces.jitter) == [name for name, _ in jitters(boxes)]
    np.testing.assert_allclose(landmarker.boxes[0], boxes)
    np.testing.assert_allclose(faces.jitter["shift 20%"], [[8.0] * 8, [16.0] * 8], rtol=1e-5)
    np.testing.assert_allclose(faces.jitter["scale 1.25"], 0, atol=1e-4)
    crops = dict(zip(faces.jitter, landmarker.boxes[1:], strict=True))
    np.testing.assert_allclose(crops["scale 0.8"], [[12, 14, 28, 46], [108, 28, 172, 92]], rtol=1e-5)
    to_the_right = crops["shift 5%"].reshape(8, 2, 4)[0]
    np.testing.assert_allclose(to_the_right, [[12, 10, 32, 50], [104, 20, 184, 100]], rtol=1e-5)


def test_faces_without_sense_are_not_placed() -> None:
    boxes = np.array([[10, 10, 50, 50], [100, 20, 180, 100]], float)
    truth = demo_labels()[0].xy[:2]
    faces = place(FakeLandmarker(np.zeros((68, 2)), lost=2), [labelled(truth, boxes)], lambda *_: boxes, jitter=True)
    found = figures(faces)
    assert (found["missed_faces"], found["unplaced_faces"], found["faces"]) == (0, 2, 0)
    assert found["network"]["regions_px"]["all"] is None
    assert (found["network"]["nme_box"], found["mean_shape"], found["each"]) == (None, None, [])
    assert found["jitter"]["scale 1.1"] == {"nme_eyes": None, "nme_box": None, "crops": 0}
    said = {"edgeface": "0", "labels": "x", "landmarks": "y", "detector": "z", "boxes": "points", "pictures": 1}
    assert "not placed: 2; evaluated: 0" in table(said | found)
    json.dumps(found, allow_nan=False)


def test_occluded_points_stand_in_one_column_only() -> None:
    truth = demo_labels()[0].xy[:2]
    occluded = np.zeros((2, 68), bool)
    occluded[:, :17] = True
    placed = truth + np.array([0, 1])
    placed[:, :17, 1] += 9
    faces = Faces(["a", "b"], [0, 0], truth, ~occluded, np.array([[0, 0, 9, 9]] * 2, float), placed, {})
    network = figures(faces)["network"]
    assert network["regions_px"]["chin"] == pytest.approx(10)
    assert network["regions_px_not_occluded"]["chin"] is None
    assert network["regions_px_not_occluded"]["all"] == pytest.approx(1)
    labels = labelled(truth, np.ones((2, 4)), occluded)
    counts = place(FakeLandmarker(np.ones((68, 2))), [labels], lambda *_: np.ones((2, 4)), False).counts
    assert counts is not None
    assert (counts == ~occluded).all()


def test_only_detections_that_may_begin_a_face_count() -> None:
    (truth,) = demo_labels()[0].xy[:1]
    picture = labelled(truth[None], np.full((1, 4), np.nan))
    x1, y1, x2, y2 = np.concatenate([truth.min(axis=0), truth.max(axis=0)]).tolist()
    seen = detections((x1, y1, x2, y2), (600, 0, 640, 40), score=0.5)
    assert detected_boxes(FakeDetector(seen), 0.5, blank(), picture)[0] == pytest.approx([x1, y1, x2, y2])
    assert np.isnan(detected_boxes(FakeDetector(seen), 0.51, blank(), picture)).all()
    assert np.isnan(detected_boxes(FakeDetector(detections()), 0.5, blank(), picture)).all()
    with pytest.raises(EngineError, match=r"demo.mp4, frame 0: 7 numbers are NaN"):
        detected_boxes(FakeDetector(None), 0.5, blank(), picture)


@pytest.mark.parametrize(("labels", "network", "count"), [(68, 68, 68), (80, 68, 68), (68, 104, 68), (98, 98, 98)])
def test_labels_and_networks_of_other_numbers_of_points(labels: int, network: int, count: int) -> None:
    assert common_points(labels, network) == count


def fixed_landmarks(make_onnx: MakeOnnx, make_card: Callable[..., Path], points: int) -> str:
    """The card of a network that puts all points into the middle of its crop."""
    make_onnx(
        {"xy": np.full((1, points, 2), 40, np.float32), "score": np.full((1, points), 0.5, np.float32)}, [1, 1, 80, 80]
    )
    path = make_card(f'type = "fpenet"\npoints = {points}', width=80, height=80, colour="luma")
    path.write_text(path.read_text().replace('task = "detect"', 'task = "landmarks"'))
    return str(path)


def test_another_network_with_more_points(make_onnx: MakeOnnx, make_card: Callable[..., Path], tmp_path: Path) -> None:
    card = fixed_landmarks(make_onnx, make_card, 80)
    found = report(tmp_path / "r.json", "--every", "299", "--landmarks", card, "--boxes", "labels")
    assert (found["landmarks"], found["points"]) == ("net", 68)
    assert found["network"]["nme_eyes"]["mean"] > 0.3


def test_a_network_with_other_points(
    make_onnx: MakeOnnx, make_card: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RUN, "--landmarks", fixed_landmarks(make_onnx, make_card, 98)]) == 78
    assert "the labels have 68 points and the network 98: expected equal numbers" in capsys.readouterr().err


def test_a_tile_shows_the_points_where_the_picture_has_them() -> None:
    x, y = 100, 80
    frame = blank(pixels=np.zeros((360, 640, 3), np.uint8))
    frame.pixels[y, x] = 255
    truth = np.array([[80.0, 60.0], [121.0, 101.0]])
    tile = sheet.tile(frame, truth, np.full_like(truth, np.nan), "missed")
    assert tile.shape == (258, 240, 3)
    assert (tile[:240] == (80, 220, 80)).all(axis=2).any()
    assert not (tile[:240] == (60, 60, 255)).all(axis=2).any()
    side = 1.3 * 41
    shown = tile[:240].astype(int)
    bright = (shown.min(axis=2) > 60) & (np.ptp(shown, axis=2) < 5)  # grey: no point of ours
    expected = ((np.array([x, y]) + 0.5) - (100.5 - side / 2, 80.5 - side / 2)) * 240 / side - 0.5
    row, column = (axis[bright].mean() for axis in np.indices(bright.shape))
    assert (column, row) == pytest.approx(tuple(expected), abs=0.5)


def test_a_tile_of_a_large_face_shows_the_mean_of_its_pixels() -> None:
    """In a picture that is wider than OpenCV warps."""
    frame = Frame(0, 0, 40_000, 600, "bgr8", np.zeros((600, 40_000, 3), np.uint8))
    frame.pixels[:, ::2] = 255
    tile = sheet.tile(frame, np.array([[39_000.0, 50.0], [39_500.0, 550.0]]), np.full((2, 2), np.nan), "large")
    assert (np.abs(tile[120, 40:200].astype(int) - 127) < 3).all()


def test_the_sheet_shows_the_worst_first_and_the_missed_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [replace(picture, xy=picture.xy[:3], xyxy=picture.xyxy[:3]) for picture in demo_labels()[:2]]
    truth = np.concatenate([picture.xy for picture in pictures])
    error = np.array([1.0, 9.0, np.nan, 3.0, 5.0, 7.0])  # of three faces in each picture
    distance = np.hypot(*(truth[:, 36] - truth[:, 45]).T)
    placed = truth + np.stack([error / 100 * distance, 0 * error], axis=1)[:, None]
    names = [picture.name for picture in pictures for _ in picture.xy]
    faces = Faces(names, [0, 1, 2] * 2, truth, None, np.ones((6, 4)), placed, {})
    captions: list[str] = []

    def numbered(frame: Frame, truth: np.ndarray, placed: np.ndarray, caption: str) -> np.ndarray:
        captions.append(caption)
        return np.full((258, 240, 3), len(captions) - 1, np.uint8)

    monkeypatch.setattr(sheet, "tile", numbered)
    write_sheet(tmp_path / "s.png", faces, pictures)
    shown = cv2.imread(str(tmp_path / "s.png"))[0, ::240, 0].tolist()
    assert [captions[number] for number in shown] == [
        "9.0%  demo.mp4, frame 0, face 1",
        "7.0%  demo.mp4, frame 1, face 2",
        "5.0%  demo.mp4, frame 1, face 1",
        "3.0%  demo.mp4, frame 1, face 0",
        "1.0%  demo.mp4, frame 0, face 0",
        "not placed  demo.mp4, frame 0, face 2",
    ]
    monkeypatch.setattr(sheet, "MOST_FACES", 2)
    captions.clear()
    write_sheet(tmp_path / "s.jpg", faces, pictures)
    assert cv2.imread(str(tmp_path / "s.jpg")).shape == (258, 6 * 240, 3)
    assert len(captions) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--landmarks", "none"], 78, 'landmarks.card is "none": nothing to evaluate'),
        (["--labels", "nothing.xml"], 78, "nothing.xml: cannot be read"),
        (["--labels", str(ROOT / "setup.py")], 78, "expected a .json (TAO), .xml (dlib) or .pts (iBUG) file"),
        (["--labels", str(ROOT / "systemd")], 78, "found neither"),
        (["--sheet", "sheet.gif"], 78, "sheet.gif: cannot be written: expected a name that ends in .png or .jpg"),
        (["--every", "299", "--sheet", "/proc/x.png"], 78, "/proc/x.png: cannot be written"),
        (["--every", "299", "--json", "/proc/x"], 78, "/proc/x: cannot be written"),
        (["--landmarks", "tao-fpenet-v3.0"], 70, "its weights fpenet_v3.0.onnx are not in"),
        (["--landmarks", "edgeface-detector"], 70, "expected a card with task landmarks"),
        (["--detector", "nobody"], 78, "no network called 'nobody'"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str], code: int, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RUN, *arguments]) == code
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1


def test_tiles_take_turns_and_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.toml").write_text("[detector]\ntiles = [2, 1]\n")
    assert main([*RUN, str(tmp_path / "c.toml")]) == 78
    assert "detector.tiles take turns" in capsys.readouterr().err


def test_a_configured_score_threshold_counts(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[detector]\nscore_threshold = 0.999\n")
    found = report(tmp_path / "r.json", str(tmp_path / "c.toml"), "--every", "299")
    assert found["missed_faces"] == found["labelled_faces"]
    assert found["network"]["nme_eyes"] is None


def test_a_broken_picture_is_no_missed_face(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (write_pts(tmp_path, count=1) / "0.png").write_bytes(b"")
    assert main([*RUN, "--labels", str(tmp_path)]) == 78
    assert "0.png: not a picture that OpenCV can read" in capsys.readouterr().err
    assert len(read_labels(tmp_path)) == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--every", "0"], "expected a whole number above 0, found '0'"),
        (["--every", "-3"], "--every"),
        (["--boxes", "mine"], "mine"),
        (["--source", "0"], "--source"),
        (["--pictures", "."], "--pictures needs --labels"),
    ],
)
def test_bad_usage_is_2(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*RUN, *arguments])
    assert caught.value.code == 2
    assert complaint in capsys.readouterr().err

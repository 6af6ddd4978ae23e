"""The report of the accuracy gate: its limits, its table, its JSON, and that --help and the page say the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT

from edgeface.build.accuracy_report import DETECTION_LIMITS, LANDMARK_LIMITS, Report, report_path, reports_text
from edgeface.build.agreement import DetectionFigures, LandmarkFigures
from edgeface.build.forms import TensorNoise
from edgeface.cli import main

DETECTION = DetectionFigures(
    faces=200,
    matched=0.995,
    weak=0.005,
    extra=0.0,
    mean_iou=0.97,
    score_shift=-0.01,
    score_shift_p95=0.03,
    keypoint_shift=0.01,
    keypoint_shift_p95=0.02,
    ap_fp32=0.9,
    ap_form=0.895,
)
LANDMARKS = LandmarkFigures(
    faces=200,
    placed=1.0,
    shift=0.004,
    shift_p95=0.008,
    score_shift=0.001,
    score_shift_p95=0.01,
    labelled=150,
    nme_fp32=0.04,
    nme_form=0.0404,
)
DETECTOR = Report(
    card="net",
    input_size=(64, 32),
    precision="int8",
    form="net.int8.onnx",
    runs_on="onnxruntime 1.20",
    shown="demo:",
    pictures=60,
    unusable=0,
    figures=DETECTION,
    worst=(TensorNoise("t", "conv1", "Conv", None), TensorNoise("u", "conv2", "Conv", 12.345)),
    kept=("conv3",),
)
LANDMARKER = replace(DETECTOR, figures=LANDMARKS, worst=(), kept=())


def test_what_holds_all_limits_passes() -> None:
    for report in (DETECTOR, LANDMARKER):
        assert report.passed
        assert report.failures() == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"faces": 0}, "faces that FP32 finds: 0, expected at least 1"),
        ({"matched": 0.98}, "FP32's faces found with an IoU of 0.9: 98.00%, expected at least 99.00%"),
        ({"extra": 0.02}, "faces that FP32 does not see: 2.00%, expected at most 1.00%"),
        ({"score_shift": -0.06}, "mean change of the score: 0.06, expected at most 0.05"),
        ({"score_shift": 0.06}, "mean change of the score: 0.06, expected at most 0.05"),
        ({"ap_form": 0.85}, "average precision lost: 0.05, expected at most 0.01"),
    ],
)
def test_each_limit_of_a_detector(change: dict[str, float], text: str) -> None:
    report = replace(DETECTOR, figures=replace(DETECTION, **change))
    assert (report.failures(), report.passed) == ([text], False)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"faces": 0}, "faces on which FP32 places landmarks: 0, expected at least 1"),
        ({"placed": 0.9}, "FP32's faces on which it places them: 90.00%, expected at least 99.00%"),
        ({"shift": 0.02}, "mean shift of landmarks, of the eyes' distance: 2.00%, expected at most 1.00%"),
        ({"nme_form": 0.041}, "rise of the error on labelled faces: 2.50%, expected at most 2.00%"),
    ],
)
def test_each_limit_of_landmarks(change: dict[str, float], text: str) -> None:
    report = replace(LANDMARKER, figures=replace(LANDMARKS, **change))
    assert (report.failures(), report.passed) == ([text], False)


def test_numbers_that_mean_nothing() -> None:
    (text,) = replace(DETECTOR, unusable=2).failures()
    assert text == "pictures on which its numbers mean nothing: 2, expected at most 0"


def test_what_cannot_be_measured_fails_nothing() -> None:
    bare = replace(DETECTION, mean_iou=None, score_shift=None, score_shift_p95=None, ap_fp32=None, ap_form=None)
    report = replace(DETECTOR, figures=replace(bare, keypoint_shift=None, keypoint_shift_p95=None))
    assert report.passed
    lines = {line[:52].strip(): line[52:].split() for line in report.table().splitlines()}
    assert lines["average precision lost"] == ["-", "at", "most", "0.01", "-"]
    assert lines["mean IoU"] == ["-"]
    assert replace(LANDMARKER, figures=replace(LANDMARKS, nme_fp32=None, nme_form=None)).passed


def test_the_table() -> None:
    lines = replace(DETECTOR, figures=replace(DETECTION, matched=0.5)).table().splitlines()
    assert lines[0] == "net 64x32 int8, net.int8.onnx on onnxruntime 1.20, against FP32 on 60 pictures of demo:"
    cells = {line[:52].strip(): line[52:].split() for line in lines[1:]}
    assert cells["FP32's faces found with an IoU of 0.9"] == ["50.00%", "at", "least", "99.00%", "FAILS"]
    assert cells["mean change of the score"] == ["0.01", "at", "most", "0.05", "ok"]
    assert cells["mean IoU"] == ["0.9700"]
    assert cells["shift of keypoints, 95 %"] == ["2.00%"]
    assert lines[-3:] == [
        "    not finite  t (Conv conv1)",
        "       12.3 dB  u (Conv conv2)",
        "  layers left in FP32: conv3",
    ]
    lines = LANDMARKER.table().splitlines()
    cells = {line[:52].strip(): line[52:].split() for line in lines[1:]}
    assert cells["error on 150 labelled faces, form"] == ["4.04%"]
    assert cells["rise of the error on labelled faces"] == ["1.00%", "at", "most", "2.00%", "ok"]
    assert len(lines) == 1 + len(LANDMARK_LIMITS) + 5


def test_the_file() -> None:
    found = json.loads(reports_text([DETECTOR, LANDMARKER]))
    assert found["schema"] == 1
    first, second = found["reports"]
    assert (first["card"], first["passed"], first["figures"]["matched"]) == ("net", True, 0.995)
    assert first["worst"][0] == {"tensor": "t", "node": "conv1", "op_type": "Conv", "snr_db": None}
    assert {"figure": "matched", "found": 0.995, "at least": 0.99, "holds": True} in first["checks"]
    assert [check["figure"] for check in second["checks"]] == ["faces", "placed", "shift", "nme_rise"]
    assert report_path(Path("a/net-64x32-int8.rtx.engine")) == Path("a/net-64x32-int8.rtx.accuracy.json")


def test_what_a_passport_gets() -> None:
    assert DETECTOR.main_figures() == {
        "on": "onnxruntime 1.20",
        "shown": "demo:",
        "pictures": 60,
        "passed": True,
        "faces": 200,
        "unusable": 0,
        "matched": 0.995,
        "extra": 0.0,
        "score_change": 0.01,
        "ap_loss": pytest.approx(0.005),
        "kept": ["conv3"],
    }
    assert LANDMARKER.main_figures()["nme_rise"] == pytest.approx(0.01)
    assert "kept" not in LANDMARKER.main_figures()


def test_help_and_the_page_say_the_limits(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["build", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    page = " ".join((ROOT / "docs" / "engines.md").read_text().split())
    for limit in (*DETECTION_LIMITS, *LANDMARK_LIMITS):
        value = f"{limit.value:.0%}" if limit.unit == "%" else f"{limit.value:g}"
        if limit.value and limit.figure != "faces":
            assert value in said, limit
        assert f"{limit.bound} {value.replace('%', ' %')}" in page, limit

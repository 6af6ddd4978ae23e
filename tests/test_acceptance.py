"""`edgeface build` and its accuracy gate: what passes, what is mended, what is refused and what is forced."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import onnx
import pytest
from gpu_kit import write_soft_engine
from onnx import ModelProto

from edgeface.build import acceptance, accuracy_report, calibrate, makers, onnx_file, quantise
from edgeface.build.acceptance import Acceptance, Terms, by_damage, find_fallback, settle
from edgeface.build.accuracy import Gate
from edgeface.build.device import Device
from edgeface.build.makers import Maker, maker
from edgeface.build.restore import quantised_layers
from edgeface.build.shown import find_shown
from edgeface.cli import main
from edgeface.errors import EngineError
from edgeface.model_card import Card, find_card, onnx_path
from edgeface.passport import passport_path, read_passport, write_engine

RTX = "tensorrt-rtx"
NAME = "edgeface-landmarks"
SIZE = (80, 80)
BAD = "/network/up1/up1.0/Conv"  # the layer that is spoilt; nobody else reads its input's scale
FEW = find_shown("demo:").every(20)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three frames of the demo clip."""
    folder = tmp_path_factory.mktemp("pictures")
    for frame in FEW.frames():
        cv2.imwrite(str(folder / f"{frame.frame_id}.png"), frame.pixels)
    return folder


@pytest.fixture(scope="module")
def gate() -> Gate:
    return Gate(find_card(NAME), SIZE, FEW)


@pytest.fixture(scope="module")
def full() -> ModelProto:
    return onnx_file.load(onnx_path(find_card(NAME)))


@pytest.fixture(scope="module")
def scales(full: ModelProto) -> dict[str, float]:
    crops = calibrate.pipeline_crops(find_card(NAME), FEW.frames(), ())
    return calibrate.scales(calibrate.histograms(full, crops)[0], "percentile")


@pytest.fixture
def folder(full: ModelProto, scales: dict[str, float], tmp_path: Path) -> Path:
    """A folder of engines with an INT8 form of which one layer is spoilt."""
    shutil.copy(onnx_path(find_card(NAME)), tmp_path)
    shutil.copy(Path(find_card(NAME).folders[0]) / f"{NAME}.toml", tmp_path)
    (bad,) = (target for target in quantise.targets(full) if target.name == BAD)
    form, _ = quantise.quantise(full, scales | {bad.input: scales[bad.input] * 100})
    onnx.save(form, str(tmp_path / f"{NAME}.int8.onnx"))
    return tmp_path


def card_in(folder: Path) -> Card:
    return find_card(NAME, (str(folder),))


def build(folder: Path, *arguments: str) -> int:
    return main(["build", NAME, "--runtime", RTX, "--engines", str(folder), *arguments])


def int8_maker(folder: Path, scratch: Path) -> Maker:
    return maker(card_in(folder), "int8", RTX, engines=folder, scratch=scratch)


@pytest.fixture
def spoilt(rtx: ModuleType, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return int8_maker(folder, tmp_path_factory.mktemp("forms"))


# --- makers


def test_an_int8_form_is_made_of_the_one_that_is_there(spoilt: Maker, full: ModelProto, folder: Path) -> None:
    assert set(spoilt.layers) == {target.name for target in quantise.targets(full)}
    assert spoilt.make(frozenset()) == folder / f"{NAME}.int8.onnx"
    path = spoilt.make(frozenset({BAD}))
    assert path.parent != folder
    assert set(quantised_layers(full, onnx.load(str(path)))) == set(spoilt.layers) - {BAD}
    spoilt.store(path)
    again = int8_maker(folder, path.parent)
    assert (again.kept, BAD in again.layers) == ({BAD}, False)
    assert again.make(frozenset({BAD})) == folder / f"{NAME}.int8.onnx"
    other = again.layers[0]
    both = onnx.load(str(again.make(frozenset({BAD, other}))))
    said = {one.key: one.value for one in both.metadata_props}
    assert said["edgeface.fp32_layers"].split("\n") == sorted([BAD, other])


def test_an_fp16_form_keeps_layers_in_fp32(rtx: ModuleType, tmp_path: Path) -> None:
    made = maker(find_card(NAME), "fp16", RTX, engines=tmp_path, scratch=tmp_path)
    assert BAD in made.layers
    assert "/Constant" not in made.layers
    types = []
    for kept in (frozenset[str](), frozenset({BAD})):
        model = onnx.load(str(made.make(kept)))
        (conv,) = (one for one in model.graph.node if one.name == BAD)
        types.append({one.name: one.data_type for one in model.graph.initializer}[conv.input[1]])
    assert types == [onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT]
    made.store(made.make(frozenset()))  # nowhere


def test_what_is_fp32_itself_has_no_layers(rtx: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = find_card(NAME)
    assert maker(card, "fp32", RTX, engines=tmp_path, scratch=tmp_path).make(frozenset()) == onnx_path(card)
    monkeypatch.setattr(makers.trt, "is_strongly_typed", lambda _: False)
    made = maker(card, "fp16", RTX, engines=tmp_path, scratch=tmp_path)
    assert (made.make(frozenset()), made.layers) == (onnx_path(card), ())


def test_forms_that_are_no_onnx(rtx: ModuleType, folder: Path) -> None:
    (folder / f"{NAME}.int8.onnx").write_bytes(b"no ONNX")
    with pytest.raises(EngineError, match=r"int8.onnx: not an ONNX that can be read: "):
        int8_maker(folder, folder)


# --- mending


def test_the_spoilt_layer_does_most_harm_and_mends_all(gate: Gate, spoilt: Maker) -> None:
    assert not gate.of_form(spoilt.make(frozenset()), "int8", tensors=False).passed
    assert by_damage(gate.few(), spoilt, "int8", frozenset())[0] == BAD
    assert find_fallback(gate, spoilt, "int8") == {BAD}


def test_with_leave_it_is_mended(gate: Gate, spoilt: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    report, kept = settle(gate, spoilt, "int8", Terms(auto_fallback=True))
    assert (report.passed, report.kept, kept) == (True, (BAD,), {BAD})
    out = capsys.readouterr().out
    assert out.count("FAILS") >= 1
    assert f"layers left in FP32: {BAD}" in out
    report, kept = settle(gate, spoilt, "int8", Terms(auto_fallback=True), kept)
    assert (report.passed, kept) == (True, {BAD})


def test_without_leave_it_says_what_would_mend_it(gate: Gate, spoilt: Maker) -> None:
    with pytest.raises(EngineError) as caught:
        settle(gate, spoilt, "int8", Terms())
    text = str(caught.value)
    assert text.startswith(f"{NAME} 80x80 int8, {NAME}.int8.onnx on onnxruntime ")
    assert ", fails on 3 pictures of demo:, every 5th frame: mean shift of landmarks, of the eyes' distance: " in text
    layers = len(spoilt.layers)
    mended = f"; with 1 of {layers} layers in FP32 it passes ({BAD})"
    why = f"{mended}: --auto-fallback leaves them so, --force takes it as it is"
    assert text.endswith(why)
    assert "\n" not in text


def test_with_force_it_is_taken_as_it_is(gate: Gate, spoilt: Maker, caplog: pytest.LogCaptureFixture) -> None:
    report, kept = settle(gate, spoilt, "int8", Terms(force=True, auto_fallback=True))
    assert (report.passed, kept) == (False, frozenset())
    assert "mean shift of landmarks" in caplog.text
    assert "; taken by --force" in caplog.text


@pytest.mark.parametrize("layers", [(), (BAD,)])
def test_what_no_layer_mends(gate: Gate, spoilt: Maker, layers: tuple[str, ...]) -> None:
    ill = Maker(lambda kept: spoilt.make(frozenset()), layers)
    with pytest.raises(EngineError, match=r"; no layers in FP32 mend it; --force takes it as it is$"):
        settle(gate, ill, "int8", Terms(auto_fallback=True))


# --- the verb


def test_an_accurate_form_is_built_with_its_report(
    rtx: ModuleType, tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(tmp_path, "--check", str(pictures), "--dry-run") == 0
    dry = capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert build(tmp_path, "--check", str(pictures)) == 0
    out = capsys.readouterr().out
    assert out == dry
    assert f"{NAME} 80x80 fp16, {NAME}.fp16.onnx on onnxruntime " in out
    assert f"against FP32 on 3 pictures of {pictures}" in out
    stem = f"{NAME}-80x80-fp16.rtx"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{stem}.accuracy.json",
        f"{stem}.engine",
        f"{stem}.json",
    ]
    (found,) = json.loads((tmp_path / f"{stem}.accuracy.json").read_text())["reports"]
    said = read_passport(tmp_path / f"{stem}.json").accuracy
    assert said is not None
    assert (said["shown"], said["pictures"], said["passed"]) == (str(pictures), 3, True)
    assert said["shift"] == found["figures"]["shift"] < 0.01
    assert (said["nme_rise"], found["figures"]["labelled"]) == (None, 0)


def test_what_is_not_checked_says_so(rtx: ModuleType, tmp_path: Path, pictures: Path) -> None:
    assert build(tmp_path, "--check", "none") == 0
    assert build(tmp_path, "--check", str(pictures), "--precision", "fp32") == 0
    assert not list(tmp_path.glob("*.accuracy.json"))
    assert [read_passport(path).accuracy for path in tmp_path.glob("*.json")] == [None, None]


def test_a_spoilt_form_is_refused_mended_or_forced(
    rtx: ModuleType, folder: Path, pictures: Path, full: ModelProto, capsys: pytest.CaptureFixture[str]
) -> None:
    check = ["--precision", "int8", "--check", str(pictures)]
    assert build(folder, *check) == 70
    err = capsys.readouterr().err
    assert re.search(rf"with 1 of \d+ layers in FP32 it passes \({BAD}\): --auto-fallback", err)
    assert not list(folder.glob("*.engine"))

    assert build(folder, *check, "--force") == 0
    (passport,) = folder.glob("*.rtx.json")
    said = read_passport(passport).accuracy
    assert said is not None
    assert (said["passed"], "kept" in said) == (False, False)

    assert build(folder, *check, "--auto-fallback") == 0
    said = read_passport(passport).accuracy
    assert said is not None
    assert (said["passed"], said["kept"]) == (True, [BAD])
    mended = onnx.load(str(folder / f"{NAME}.int8.onnx"))
    assert BAD not in quantised_layers(full, mended)
    assert build(folder, *check) == 0  # the mended one is kept
    assert read_passport(passport).accuracy == said


def test_a_dry_run_says_whether_it_is_accurate(rtx: ModuleType, folder: Path, pictures: Path) -> None:
    before = (folder / f"{NAME}.int8.onnx").read_bytes()
    check = ["--precision", "int8", "--check", str(pictures), "--dry-run"]
    assert build(folder, *check) == 70
    assert build(folder, *check, "--auto-fallback") == 0
    assert (folder / f"{NAME}.int8.onnx").read_bytes() == before
    assert not list(folder.glob("*.engine"))


def test_pictures_that_are_not_there(rtx: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(tmp_path, "--check", str(tmp_path / "nowhere")) == 78
    assert capsys.readouterr().err.count("\n") == 1


def test_without_onnx_runtime_it_says_what_to_install(
    rtx: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("edgeface.build.acc")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("edgeface.build.acceptance", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert build(tmp_path) == 78
    err = capsys.readouterr().err
    assert "to check the accuracy, onnxruntime is missing: pip install 'edgeface[build]'" in err
    assert "or --check none" in err


# --- engines on a GPU


@pytest.fixture
def on_gpu(gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Acceptance of a card whose engine, that of `source`, TensorRT is said to have built."""
    card = find_card(NAME)
    made = write_soft_engine(tmp_path, card, SIZE)
    passport = read_passport(passport_path(made))
    plan = made.read_bytes()
    target = tmp_path / "out"
    target.mkdir()
    draft: Any = SimpleNamespace(
        order=SimpleNamespace(input_size=SIZE, precision="fp16"), path=target / made.name, device=Device("8.7", "Orin")
    )

    def built(one: Any, accept: Any) -> None:
        write_engine(one.path, plan, accept(plan, passport))

    monkeypatch.setattr(acceptance.engine, "finish", built)

    def run(**terms: Any) -> Path:
        one = Acceptance(card, Maker(lambda _: onnx_path(card)), Terms(**terms))
        one._shown = FEW
        assert one.hold(draft) is draft
        one.finish(draft)
        return target / made.name

    return run


def test_an_engine_is_held_before_it_is_written(on_gpu: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = on_gpu()
    assert f"{NAME} 80x80 fp16, {path.name} on cuda, against FP32 on 3 pictures" in capsys.readouterr().out
    said = read_passport(passport_path(path)).accuracy
    assert said is not None
    assert (said["on"], said["passed"]) == ("cuda", True)
    reports = json.loads(path.with_name(f"{NAME}-80x80-fp16.accuracy.json").read_text())["reports"]
    assert [one["runs_on"] for one in reports] == ["cuda"]


def test_an_engine_that_fails_is_not_written(
    on_gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    never = accuracy_report.Limit("shift", "mean shift", "at most", -1)
    monkeypatch.setattr(accuracy_report, "LANDMARK_LIMITS", (never,))
    with pytest.raises(
        EngineError, match=r"80x80 fp16, .*\.engine on cuda, fails on 3 pictures .*--force takes it as it is"
    ):
        on_gpu()
    assert not list((tmp_path / "out").iterdir())
    path = on_gpu(force=True)
    said = read_passport(passport_path(path)).accuracy
    assert said is not None
    assert said["passed"] is False
    assert "; taken by --force" in caplog.text


def test_where_nothing_runs_engines_it_is_said(
    on_gpu: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "edgeface.cuda.engine", None)
    caplog.set_level(logging.WARNING)
    path = on_gpu()
    assert "the engine itself was not tried: the cuda backend lacks " in caplog.text
    assert read_passport(passport_path(path)).accuracy is None
    assert not path.with_name(f"{NAME}-80x80-fp16.accuracy.json").exists()

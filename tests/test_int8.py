"""`edgeface build --precision int8`: pictures, caches or files of scales become Q/DQ ONNX that TensorRT-RTX builds."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx
import onnxruntime as ort
import pytest
from conftest import ROOT

from edgeface import cli
from edgeface.build import calibrate, onnx_file, precision, quantise, trt
from edgeface.build.int8 import Wish, calib_folder, prepare
from edgeface.build.pictures import find_pictures
from edgeface.build.scales import read_cache, read_scales
from edgeface.errors import ConfigError, EngineError
from edgeface.model_card import bundled_engines, find_card

RTX = "tensorrt-rtx"


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    """A folder with a landmark network and its card, which a test may spoil."""
    folder = tmp_path / "engines"
    folder.mkdir()
    text = (ROOT / "engines" / "edgeface-landmarks.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("sha256")]
    (folder / "edgeface-landmarks.toml").write_text("\n".join(lines))
    shutil.copyfile(ROOT / "engines" / "edgeface-landmarks.onnx", folder / "edgeface-landmarks.onnx")
    return folder


@pytest.fixture
def clip(tmp_path: Path) -> str:
    """A list: every 60th frame of the demo clip is what most tests are calibrated on."""
    (tmp_path / "list.txt").write_text("demo:\n")
    return str(tmp_path / "list.txt")


@pytest.fixture(scope="module")
def crops() -> int:
    """How many faces there are on these frames."""
    shown = find_pictures("demo:", 60).frames()
    return sum(len(faces) for faces in calibrate.pipeline_crops(find_card("edgeface-landmarks"), shown, ()))


@pytest.fixture(scope="module")
def layers() -> int:
    """How many convolutions and matrix products the network has that become INT8."""
    return len(quantise.targets(onnx_file.load(ROOT / "engines" / "edgeface-landmarks.onnx")))


def make(engines: Path, calib: str | None = None, dry_run: bool = False, **how: Any) -> tuple[str, bool]:
    card = find_card("edgeface-landmarks", (str(engines),))
    wish = Wish(calib, **({"every": 60} if calib and calib.endswith("list.txt") else {}) | how)
    return prepare(card, wish, folder=engines, engines=(str(engines),), dry_run=dry_run)


def made(engines: Path) -> Path:
    return engines / "edgeface-landmarks.int8.onnx"


def with_other_weights(engines: Path) -> None:
    path = engines / "edgeface-landmarks.onnx"
    network = onnx.load(str(path))
    network.doc_string = "another one"
    onnx.save(network, str(path))


def scales_of(network: Path) -> dict[str, float]:
    held = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(str(network)).graph.initializer}
    return {
        name.removesuffix(".scale"): float(value)
        for name, value in held.items()
        if name.endswith(".scale") and not value.shape
    }


def test_from_pictures_then_again_from_the_scales(
    engines: Path, clip: str, crops: int, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, ready = make(engines, clip)
    scale_file = engines / "calib" / "edgeface-landmarks" / "percentile.json"
    assert ready
    first = made(engines).read_bytes()
    saved = read_scales(scale_file)
    about = saved.card, saved.method, saved.percentile, saved.crops
    assert about == ("edgeface-landmarks", "percentile", 99.99, crops)
    used = scales_of(made(engines))
    assert used.items() <= saved.scales.items()
    assert text.splitlines() == [
        f"{made(engines)}: scales from {scale_file} (percentile 99.99 of {crops} crops); "
        "one scale for each channel of weights",
        f"  {layers} of {layers} convolutions and matrix products in INT8",
        f"  {len(saved.scales) - len(used)} scales of tensors that stay float32",
    ]
    assert ort.InferenceSession(str(made(engines)), providers=["CPUExecutionProvider"]).get_inputs()[0].shape[0] == "N"

    monkeypatch.setattr(calibrate, "histograms", lambda *_: pytest.fail("it calibrates again"))
    text, ready = make(engines, clip)
    assert "network and pictures are as they were: re-used" in text
    assert made(engines).read_bytes() == first
    assert make(engines) == (f"{made(engines)}: scales from {scale_file} (percentile 99.99 of {crops} crops)", True)
    assert make(engines, str(scale_file))[1]
    per_channel = sum(one.name.endswith(".0.scale") for one in onnx.load(str(made(engines))).graph.initializer)
    text, _ = make(engines, clip, per_tensor=True)
    assert "one scale for all weights of a node" in text
    names = [one.name for one in onnx.load(str(made(engines))).graph.initializer]
    assert (sum(name.endswith(".all.scale") for name in names), per_channel) == (layers, layers)


@pytest.mark.parametrize(
    "change",
    [
        {"every": 50},
        {"method": "minmax"},
        {"method": "entropy"},
        {"percentile": 99.0},
        "network",
        "pictures",
        "card",
    ],
)
def test_what_has_changed_is_calibrated_anew(engines: Path, clip: str, change: Any) -> None:
    make(engines, clip)
    if change == "network":
        with_other_weights(engines)
    elif change == "pictures":
        shutil.copyfile(ROOT / "docs" / "demo.jpg", Path(clip).with_name("more.jpg"))
        Path(clip).write_text("demo:\nmore.jpg\n")
    elif change == "card":
        path = engines / "edgeface-landmarks.toml"
        path.write_text(path.read_text().replace("crop_scale = 1.05", "crop_scale = 1.2"))
    text, ready = make(engines, clip, **(change if isinstance(change, dict) else {}))
    assert ready
    assert "re-used" not in text
    assert "re-used" in make(engines, clip, **(change if isinstance(change, dict) else {}))[0]


def test_the_cards_own_list_is_the_default(engines: Path, crops: int) -> None:
    home = engines / "calib" / "edgeface-landmarks"
    with pytest.raises(ConfigError) as caught:
        make(engines)
    assert str(caught.value) == (
        f"expected {made(engines)}, or something to make it from: --calib with pictures, a film or a calibration "
        f"cache, or a list of pictures {home}/pictures.txt"
    )
    home.mkdir(parents=True)
    (home / "pictures.txt").write_text("demo:\n")
    assert f"of {crops} crops" in make(engines, every=60)[0]
    assert make(engines)[0].startswith(f"{made(engines)}: scales from")  # there is one now


def test_a_form_of_another_network_is_refused_one_of_somebody_else_is_not(engines: Path, clip: str) -> None:
    make(engines, clip)
    with_other_weights(engines)
    with pytest.raises(EngineError, match="int8.onnx: made from another ONNX than the one that is there now"):
        make(engines)
    form = onnx.load(str(made(engines)))
    del form.metadata_props[:]
    onnx.save(form, str(made(engines)))
    assert make(engines) == (f"{made(engines)}: not made by edgeface, taken as it is", True)
    made(engines).write_bytes(b"\xff\x00 no ONNX")
    with pytest.raises(EngineError, match="int8.onnx: not an ONNX"):
        make(engines)


def test_scales_of_another_network_are_refused(engines: Path, clip: str, tmp_path: Path) -> None:
    make(engines, clip)
    scales = engines / "calib" / "edgeface-landmarks" / "percentile.json"
    shutil.copy(scales, tmp_path / "old.json")
    with_other_weights(engines)
    with pytest.raises(EngineError, match="old.json: scales of another ONNX than the one that is there now"):
        make(engines, str(tmp_path / "old.json"))
    scales.write_text("garbage")
    with pytest.raises(EngineError, match="percentile.json: not a file of scales"):
        make(engines, clip)
    cache = tmp_path / "facenet.txt"
    cache.write_text("TRT-8001-EntropyCalibration2\ninput_1: 3c010a14\nconv1/convolution: 3c3c6577\n")
    with pytest.raises(
        EngineError, match=r"\(input_1, conv1/convolution, ...\): another network's, or another export's"
    ):
        make(engines, str(cache))


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
def test_from_a_cache_as_from_the_scales_it_was_written_from(
    engines: Path, clip: str, tmp_path: Path, version: str
) -> None:
    cache = tmp_path / "cache"
    text, _ = make(engines, clip, cache=(cache, version))
    assert text.endswith(f"calibration cache: {cache}, {len(read_cache(cache).scales)} tensors")
    before = scales_of(made(engines))
    outputs = {output.name for output in onnx.load(str(made(engines))).graph.output}
    assert outputs < read_cache(cache).scales.keys()  # all tensors have a scale there
    with cache.open("a") as file:
        file.write("/Mul_output_0:0: 0\nno line\n(Unnamed Layer* 48) [Shuffle]_output: 3a4e7687\n")
    text, _ = make(engines, str(cache))
    assert scales_of(made(engines)) == before
    digits = {"8.6.1": "8601", "10.3.0": "100300"}[version]
    assert f"scales from {cache} (TRT-{digits}-EntropyCalibration2)" in text
    assert "1 scales of tensors that the ONNX lacks: (Unnamed Layer* 48) [Shuffle]_output" in text
    assert "2 lines not used: /Mul_output_0:0: its scale is 0" in text


def test_a_cache_for_a_version_that_reads_none_is_refused_before_the_minutes(engines: Path, clip: str) -> None:
    with pytest.raises(ConfigError, match="found '11.4.0': name it with --cache-version"):
        make(engines, clip, cache=(Path("cache"), "11.4.0"))
    assert not (engines / "calib").exists()


def test_a_dry_run_makes_nothing(engines: Path, clip: str, layers: int, tmp_path: Path) -> None:
    assert make(engines, clip, dry_run=True) == (
        f"{made(engines)}: would be made from {clip}, after calibration",
        False,
    )
    assert sorted(path.name for path in engines.iterdir()) == ["edgeface-landmarks.onnx", "edgeface-landmarks.toml"]
    make(engines, clip)
    made(engines).unlink()
    text, ready = make(engines, clip, dry_run=True, cache=(tmp_path / "cache", "8.6.1"))
    assert f"{layers} of {layers} convolutions" in text
    assert not ready
    assert not made(engines).exists()
    assert not (tmp_path / "cache").exists()


def test_scales_lie_beside_the_engines_of_a_checkout_else_in_them(tmp_path: Path) -> None:
    assert calib_folder(bundled_engines()) == ROOT / "calib"
    (tmp_path / "calib").mkdir()
    assert calib_folder(tmp_path / "engines") == tmp_path / "engines" / "calib"


def test_the_form_is_looked_for_in_the_engines_folder_first(tmp_path: Path) -> None:
    beside = tmp_path / "card" / "net.onnx"
    assert precision.int8_path(beside, tmp_path) == tmp_path / "card" / "net.int8.onnx"
    (tmp_path / "net.int8.onnx").write_text("")
    assert precision.int8_path(beside, tmp_path) == tmp_path / "net.int8.onnx"


# --- the verb


def run(*arguments: str, card: str = "edgeface-landmarks") -> int:
    return cli.main(["build", card, "--precision", "int8", "--runtime", RTX, "--check", "none", *arguments])


def test_the_verb_makes_the_form_and_the_engine(
    rtx: ModuleType, tmp_path: Path, crops: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--engines", str(tmp_path)]
    assert run(*folder, "--calib", "demo:", "--every", "60", "--dry-run") == 0
    assert "would be made from demo:" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    cache = ["--write-cache", str(tmp_path / "cache"), "--cache-version", "8.6.1"]
    method = ["--method", "percentile", "--percentile", "99.9", "--per-tensor"]
    assert run(*folder, "--calib", "demo:", "--every", "60", *method, *cache) == 0
    out = capsys.readouterr().out
    assert f"(percentile 99.9 of {crops} crops); one scale for all weights of a node" in out
    assert "edgeface-landmarks-80x80-int8.rtx.engine, with its passport" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cache",
        "calib",
        "edgeface-landmarks-80x80-int8.rtx.engine",
        "edgeface-landmarks-80x80-int8.rtx.json",
        "edgeface-landmarks.int8.onnx",
    ]
    assert run(*folder) == 0  # from what is there
    assert run(*folder, "--dry-run") == 0
    assert "edgeface-landmarks-80x80-int8.rtx.engine" in capsys.readouterr().out


def test_the_default_detector_becomes_int8_for_both_looks(rtx: ModuleType, tmp_path: Path) -> None:
    assert run("--engines", str(tmp_path), "--calib", "demo:", "--every", "100", card="edgeface-detector") == 0
    assert sorted(path.name for path in tmp_path.glob("*.rtx.engine")) == [
        "edgeface-detector-128x128-int8.rtx.engine",
        "edgeface-detector-640x640-int8.rtx.engine",
    ]
    saved = read_scales(tmp_path / "calib" / "edgeface-detector" / "percentile.json")
    assert saved.crops == 6  # three frames, by each look


def test_a_cache_is_for_the_library_that_is_here_unless_told(
    rtx: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--engines", str(tmp_path), "--calib", "demo:", "--every", "100", "--write-cache", f"{tmp_path}/cache"]
    assert run(*arguments) == 78
    assert f"found {rtx.__version__!r}: name it with --cache-version" in capsys.readouterr().err
    load = trt.load_trt
    monkeypatch.setattr(trt, "load_trt", lambda runtime: SimpleNamespace(__version__="10.3.0", real=load(runtime)))
    assert run(*arguments, "--dry-run") == 0
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["--calib", "{}/none"], 78, "no such file"),
        (["--calib", "{}"], 78, "expected a folder with pictures"),
        (["--calib", "{}/cache.txt"], 70, "no scale in it that can be used"),
        (["--calib", "{}/scales.json"], 70, "not a file of scales"),
        ([], 78, "something to make it from"),
    ],
)
def test_what_cannot_be_is_one_line_and_an_exit_code(
    rtx: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, why: str
) -> None:
    (tmp_path / "cache.txt").write_text("TRT-8001-EntropyCalibration2\nx: 0\n")
    (tmp_path / "scales.json").write_text("{}")
    assert run("--engines", str(tmp_path), *(argument.format(tmp_path) for argument in arguments)) == code
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*.onnx"))


@pytest.mark.parametrize("percentile", ["49", "101", "nan", "most"])
def test_percentiles_that_are_none(percentile: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--percentile", percentile)
    assert caught.value.code == 2


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import sys

    for name in ("onnx", "edgeface.build.quantise", "edgeface.build.onnx_file", "edgeface.build.calibrate"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "edgeface.build.int8")
    with pytest.raises(ConfigError, match=r"for INT8, onnx is missing: pip install 'edgeface\[build,cpu\]'"):
        importlib.import_module("edgeface.build.int8")

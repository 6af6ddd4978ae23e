"""Ranges from pictures: histograms that grow, the three methods, and the crops that the pipeline itself makes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper

from edgeface.build import calibrate, onnx_file, ranges
from edgeface.build.pictures import FILM_STEP, find_pictures
from edgeface.build.ranges import BINS, Histogram, largest_kept
from edgeface.config import load_config
from edgeface.cpu.engine import open_engine
from edgeface.errors import ConfigError, EngineError, SourceError
from edgeface.model_card import Card, find_card, input_sizes, onnx_path
from edgeface.networks import make_detector, open_networks
from edgeface.values import F32, Frame

numbers = arrays(np.float32, st.integers(0, 50), elements=st.floats(-(2.0**100), 2.0**100, width=32))


def of(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


# --- histograms and methods


@given(st.lists(numbers, max_size=4))
def test_a_histogram_counts_everything_where_it_lies(parts: list[np.ndarray]) -> None:
    histogram, all_values = of(*parts), np.abs(np.concatenate([np.zeros(0, np.float32), *parts]))
    assert histogram.counts.sum() == len(all_values)
    assert histogram.peak == np.max(all_values, initial=0) <= max(histogram.range, 0)
    counts, width = histogram.used()
    edges = np.arange(len(counts) + 1) * width
    for share in (0.25, 0.5, 1.0):  # up to an edge as many as there are, but for those at the very edge
        edge = edges[int(share * len(counts))]
        count = counts[: int(share * len(counts))].sum()
        assert (all_values < edge * (1 - 1e-5)).sum() <= count <= (all_values <= edge * (1 + 1e-5)).sum()
    if histogram.peak > 1e-6:
        assert len(counts) > BINS // 2


def test_what_comes_in_parts_counts_as_one() -> None:
    values = np.abs(np.random.default_rng(0).standard_normal(1000).astype(np.float32))
    values[0] = values.max() * 2  # the range is known from the first part on
    whole, parts = of(values), of(*np.split(values, 10))
    np.testing.assert_array_equal(whole.counts, parts.counts)
    grown = of(values[::-1][:500], values[::-1][500:])
    assert (grown.peak, grown.counts.sum()) == (whole.peak, 1000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        of(np.array([1, value], np.float32))


@given(st.lists(numbers, min_size=1, max_size=3), st.sampled_from(["minmax", "percentile", "entropy"]))
def test_every_method_keeps_part_of_the_range(parts: list[np.ndarray], method: ranges.Method) -> None:
    histogram = of(*parts)
    assert (0 < largest_kept(histogram, method) <= histogram.peak) or histogram.peak == 0


@given(numbers.filter(lambda values: np.max(np.abs(values), initial=0) > 1e-3), st.floats(50, 100))
def test_the_percentile_is_that_of_the_values(values: np.ndarray, percentile: float) -> None:
    histogram = of(values)
    kept = largest_kept(histogram, "percentile", percentile)
    exact = np.percentile(np.abs(values), percentile, method="inverted_cdf")
    width = histogram.used()[1]
    assert exact * (1 - 1e-5) <= kept + 1e-30 <= exact * (1 + 1e-5) + 2 * width


def test_minmax_keeps_all_and_entropy_cuts_a_long_tail() -> None:
    rng = np.random.default_rng(0)
    values = np.maximum(rng.standard_normal(200_000), 0).astype(np.float32)  # as after a ReLU
    assert largest_kept(of(values), "entropy") > 2.5
    tail = np.append(values, np.float32(40))
    assert largest_kept(of(tail), "minmax") == 40
    assert 2.5 < largest_kept(of(tail), "entropy") < 20
    assert 3.5 < largest_kept(of(tail), "percentile") < 4.5
    flat = np.linspace(0, 1, 100_000, dtype=np.float32)  # nothing to gain: all of it
    assert largest_kept(of(flat), "entropy") > 0.98


def test_entropy_finds_the_least_divergence_of_all() -> None:
    """Against the definition, bin by bin."""
    counts = np.random.default_rng(1).geometric(0.3, 400) * (np.arange(400) < 300)
    counts[399] = 3

    def divergence(kept: int) -> float:
        p, q = counts[:kept].astype(float), np.zeros(kept)
        p[0] = counts[1]
        of_level = [[i for i in range(kept) if i * 128 // kept == level and p[i] > 0] for level in range(128)]
        for group in of_level:
            for i in group:
                q[i] = sum(p[j] for j in group) / len(group)
        p[-1] += counts[kept:].sum()
        p, q = p / p.sum(), q / q.sum()
        return sum(a * np.log(a / b) if b else np.inf for a, b in zip(p, q, strict=True) if a)

    tried = [*range(128, 400, 8), 400]
    assert ranges._entropy_bins(counts) == min(tried, key=divergence)


# --- pictures


def picture(path: Path, value: int = 100, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), value, np.uint8))
    return path


def shown(name: str, every: int | None = None) -> list[int]:
    """The grey of each picture."""
    return [int(frame.pixels.mean()) for frame in find_pictures(name, every).frames()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(["a.png", "b[1]?.png", "deep/c.PNG", "d.png"]):
        picture(tmp_path / "pictures" / name, 10 * number)
    (tmp_path / "pictures" / "labels.json").write_text("{}")
    return tmp_path / "pictures"


def test_pictures_of_a_folder_a_glob_and_a_list(folder: Path) -> None:
    assert shown(str(folder)) == [0, 10, 30, 20]
    assert shown(str(folder), every=2) == [0, 30]
    assert shown(str(folder / "[ad].png")) == shown(f"images:{folder}/[ad].png") == [0, 30]
    assert shown(str(folder / "b[1]?.png")) == [10]
    text = "# a remark\n\na.png\n  deep  \nb[1]?.png\na.png\n?.png\n"
    (folder / "list.txt").write_text(text + str(folder / "d.png") + "\n")
    assert shown(str(folder / "list.txt")) == [0, 20, 10, 30]  # each once


def test_every_nth_frame_of_a_film(folder: Path, data: Path) -> None:
    clip = data / "clips" / "face-demographics-walking.gif"
    frames = [frame.frame_id for frame in find_pictures(str(clip)).frames()]
    assert frames == list(range(0, frames[-1] + 1, FILM_STEP))
    (folder / "list.lst").write_text(f"{clip}\na.png\n")
    both = list(find_pictures(str(folder / "list.lst"), 50).frames())
    assert [frame.width for frame in both][:2] == [40, 480]  # pictures first
    assert [frame.frame_id for frame in both][1:] == list(range(0, frames[-1] + 10, 50))[: len(both) - 1]


def test_the_demo_clip_ends_though_it_is_to_loop() -> None:
    assert len(list(find_pictures("demo:?loop=1", 100).frames())) == 3


def test_the_hash_is_of_what_is_seen(folder: Path) -> None:
    before = find_pictures(str(folder)).sha256()
    assert find_pictures(str(folder)).sha256() == before
    assert find_pictures(str(folder), 2).sha256() != before
    picture(folder / "d.png", 31)
    assert find_pictures(str(folder)).sha256() != before
    gone = find_pictures(str(folder))
    (folder / "a.png").unlink()
    assert find_pictures(str(folder)).sha256() != before
    with pytest.raises(ConfigError, match=r"a.png: cannot be read: No such file"):
        gone.sha256()


def test_a_picture_that_cannot_be_read_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "a.png").write_bytes(b"no picture")
    assert shown(str(folder)) == [10, 30, 20]
    assert "a.png: none of 1 files is a picture that OpenCV can read; passed over" in caplog.text
    for path in folder.rglob("*.[pP][nN][gG]"):
        path.write_bytes(b"")
    with pytest.raises(SourceError, match="none of 4 files is a picture that OpenCV can read"):
        shown(str(folder))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("{}", r"expected a folder with pictures \(.jpg, .*\), found none in it"),
        ("{}/none", "no such file"),
        ("{}/*.png", "no such picture"),
        ("images:{}/*.png", "no such picture"),
        ("{}/list.txt", "expected pictures, one a line, found none"),
        ("{}/bytes.txt", "expected a text file with a picture a line"),
        ("{}/broken.txt", "gone.png: no such picture"),
        ("rtsp://camera", "expected pictures or a film to calibrate on"),
        ("0", "expected pictures or a film"),
        ("scenario:plain", "expected pictures or a film"),
        ("ftp://x", "unknown scheme"),
    ],
)
def test_what_is_no_picture(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "list.txt").write_text("# nothing\n\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "broken.txt").write_text("gone.png\n")
    with pytest.raises(ConfigError, match=why):
        find_pictures(name.format(tmp_path))


def test_a_film_that_is_damaged_ends_it(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film")
    with pytest.raises(SourceError, match="not a video that OpenCV can read"):
        list(find_pictures(str(tmp_path / "film.mp4")).frames())


# --- the network on the crops


def test_detectors_are_shown_what_they_see_when_they_run(data: Path) -> None:
    """To the bit what the engine was given, by each look."""
    card = find_card("edgeface-detector")
    frames = list(find_pictures(str(data / "pictures")).frames())
    ours = [crop.copy() for crop in calibrate.pipeline_crops(card, frames, ())]
    theirs = []
    for frame in frames:
        for size in input_sizes(card):
            engine = open_engine(card, size, threads=1, spinning=False)
            make_detector(card, engine, load_config(None, {})).detect(frame)
            theirs.append(engine._tensor.copy())
            engine.close()
    assert [crop.shape for crop in ours] == [(1, 1, 640, 640), (1, 1, 128, 128)] * len(frames)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_landmarks_are_shown_the_faces_that_the_detector_finds(data: Path) -> None:
    card = find_card("edgeface-landmarks")
    frames = list(find_pictures(str(data / "landmarks")).frames())
    ours = [crop.copy() for crop in calibrate.pipeline_crops(card, frames, ())]
    networks = open_networks(load_config(None, {"backend": "cpu"}))
    assert networks.landmarker is not None
    theirs = []
    for frame in frames:
        found = networks.detector.detect(frame)
        networks.landmarker.locate(frame, found.xyxy[found.score >= networks.thresholds.score])
        theirs.append(networks.landmarker.engine._tensor.copy())  # type: ignore[attr-defined]
    networks.close()
    theirs = [crops for crops in theirs if len(crops)]
    assert sum(map(len, ours)) > 10
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_pictures_without_a_face(folder: Path) -> None:
    card = find_card("edgeface-landmarks")
    with pytest.raises(ConfigError, match="with faces for edgeface-landmarks, found no face on 4 of them"):
        list(calibrate.pipeline_crops(card, find_pictures(str(folder)).frames(), ()))


def test_a_face_that_shows_nothing_is_left_out() -> None:
    card = find_card("edgeface-landmarks")
    frame = Frame(0, 0, 100, 100, "bgr8", np.zeros((100, 100, 3), np.uint8))
    boxes = np.array([[10, 10, 50, 50], [500, 500, 600, 600]], np.float32)
    (crops,) = calibrate.face_crops(card, [frame], lambda _: boxes)
    assert crops.shape == (1, 1, 80, 80)


Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """A network y = relu(w x - 1), s = shape of x, with `rows` as its batch."""

    def make(rows: int | str = "n", weight: float = 2.0) -> Path:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
            helper.make_node("Add", ["c", "minus"], ["a"], "add"),
            helper.make_node("Relu", ["a"], ["y"], "relu"),
            helper.make_node("Shape", ["x"], ["s"], "shape"),
            helper.make_node("Constant", [], ["k"], "constant", value_float=3.0),
            helper.make_node("Mul", ["y", "k"], ["z"], "mul"),
            helper.make_node("Mul", ["y", "zero"], ["silent"], "silence"),
        ]
        weights = {"w": np.full((1, 1, 1, 1), weight), "minus": np.array([-1.0]), "zero": np.array([0.0])}
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 1, 2, 2])],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, [rows, 1, 2, 2])],
            [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
        )
        path = tmp_path / "net.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
        return path

    return make


def crops_of(*values: float, rows: int = 1) -> Iterator[F32]:
    tensor = np.zeros((rows, 1, 2, 2), np.float32)  # one array, as a Cropper has it
    for value in values:
        tensor[:] = value
        yield tensor


@pytest.mark.parametrize("rows", ["n", 1, 3])
def test_the_ranges_of_all_tensors(save: Save, rows: int | str) -> None:
    found, count = calibrate.histograms(onnx_file.load(save(rows)), crops_of(1, 5, 2, rows=10))
    assert count == 30
    assert {name: one.peak for name, one in found.items()} == {"x": 5, "c": 10, "a": 9, "y": 9, "z": 27, "silent": 0}
    scales = calibrate.scales(found, "minmax")
    assert scales == {
        name: float(np.float32(value / 127)) for name, value in {"x": 5, "c": 10, "a": 9, "y": 9, "z": 27}.items()
    }
    assert calibrate.scales(found, "percentile", 50)["x"] < 3 / 127


def test_networks_that_cannot_be_run(save: Save) -> None:
    network = onnx_file.load(save())
    with pytest.raises(
        EngineError, match="ONNX Runtime cannot run the network: .*Invalid rank|ONNX Runtime cannot run"
    ):
        calibrate.histograms(network, [np.zeros((1, 3), np.float32)])
    with pytest.raises(EngineError, match="c: the network's own numbers are not finite there"):
        calibrate.histograms(onnx_file.load(save(weight=np.inf)), crops_of(1))
    network.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(EngineError, match="ONNX Runtime cannot load the network"):
        calibrate.histograms(network, crops_of(1))


def test_it_says_how_far_it_is(save: Save, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(calibrate, "_SAY_EVERY_S", -1.0)
    with caplog.at_level("INFO"):
        calibrate.histograms(onnx_file.load(save()), crops_of(1, 2))
    assert [record.getMessage() for record in caplog.records] == ["calibrating: 1 crops", "calibrating: 2 crops"]


def test_a_network_of_another_card_is_not_what_finds_faces(tmp_path: Path) -> None:
    """The finder of faces is found in the engines folders, too."""
    for name in ("edgeface-detector.toml", "edgeface-detector.onnx"):
        shutil.copy(ROOT / "engines" / name, tmp_path)
    text = (tmp_path / "edgeface-detector.toml").read_text()
    (tmp_path / "edgeface-detector.toml").write_text(re.sub(r"(?m)^score = .*$", "score = 1.0", text))
    card: Card = find_card("edgeface-landmarks")
    with pytest.raises(ConfigError, match="found no face on 3 of them"):
        list(calibrate.pipeline_crops(card, find_pictures("demo:", 100).frames(), (str(tmp_path),)))
    assert onnx_path(card).is_file()

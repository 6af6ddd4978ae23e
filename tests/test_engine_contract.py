"""What every Engine does, whatever runs it; and what the CPU engine refuses."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import ROOT, scrfd_outputs
from fakes import FakeEngine, frame
from gpu_kit import opener, write_default_engines
from onnx import TensorProto, helper

from edgeface.boxes import letterbox
from edgeface.cpu.engine import OnnxEngine, open_engine
from edgeface.decoders import make_decoder
from edgeface.errors import EngineError
from edgeface.landmarks import make_landmark_decoder
from edgeface.model_card import find_card, load_card
from edgeface.seams import Engine

PIXELS = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)


def open_cpu(card: str, input_size: tuple[int, int] | None = None, threads: int = 1) -> OnnxEngine:
    return open_engine(find_card(card), input_size, threads=threads, spinning=False)


@pytest.fixture(params=["cpu", "cuda", "fake"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with ExitStack() as stack:
        if request.param == "cpu":
            opened: Engine = open_cpu("edgeface-detector")
            stack.callback(opened.close)
        elif request.param == "cuda":
            request.getfixturevalue("gpu")
            write_default_engines(tmp_path, looks=[(640, 640)])
            (opened,), *_ = opener(tmp_path, stack)((find_card("edgeface-detector"), None))
        else:
            opened = FakeEngine(scrfd_outputs(640, anchors=1), (640, 640))
            stack.callback(opened.close)
        yield opened


def test_it_says_what_it_is(engine: Engine) -> None:
    assert engine.precision in ("fp32", "fp16", "int8")
    assert engine.backend
    assert engine.input_size == (640, 640)


def test_the_declared_outputs_are_what_comes(engine: Engine) -> None:
    outputs = engine.infer(frame(0, 640, 360, PIXELS), letterbox((640, 360), engine.input_size))
    assert {name: value.shape for name, value in outputs.items()} == dict(engine.outputs)


def test_outputs_last_until_the_next_call_at_least(engine: Engine) -> None:
    first = engine.infer(frame(0, 640, 360, PIXELS), letterbox((640, 360), engine.input_size))
    kept = {name: value.copy() for name, value in first.items()}
    gc.collect()
    scratch = np.random.default_rng(0).random((2000, 2000))  # memory that was given back would be used again
    assert scratch.any()
    for name, value in first.items():
        np.testing.assert_array_equal(value, kept[name])


def test_no_crops_give_no_rows(engine: Engine) -> None:
    if engine.backend == "fake":
        pytest.skip("the fake gives what it was told to")
    outputs = engine.infer(frame(0, 640, 360, PIXELS), np.zeros((0, 4), np.float32))
    assert {value.shape for value in outputs.values()} == {(0, *shape[1:]) for shape in engine.outputs.values()}


def test_the_same_frame_gives_the_same_outputs(engine: Engine) -> None:
    crops = letterbox((640, 360), engine.input_size)
    kept = {name: value.copy() for name, value in engine.infer(frame(0, 640, 360, PIXELS), crops).items()}
    for name, value in engine.infer(frame(1, 640, 360, PIXELS), crops).items():
        np.testing.assert_array_equal(value, kept[name])


def test_pictures_are_grey_one_for_each_crop_of_the_last_call(engine: Engine) -> None:
    for count in (2, 1, 0):
        crops = np.array([[0, 0, 640, 640], [100, 100, 200, 200]][:count], np.float32).reshape(-1, 4)
        engine.infer(frame(0, 640, 360, PIXELS), crops)
        grey = engine.pictures()
        assert grey.shape == (count, 640, 640)
        assert grey.dtype == np.float32
        assert ((grey >= 0) & (grey <= 255)).all()


# --- the CPU engine


@pytest.mark.parametrize(
    ("colour", "normalised"),
    [
        ("luma", ""),
        ("luma3", ""),
        ("rgb", "mean = [123.0, 117.0, 104.0]\nscale = 0.017\n"),
        ("bgr", "mean = [127.5]\n"),
    ],
)
def test_pictures_are_what_the_network_saw_before_mean_and_scale(
    make_onnx: Callable[..., Path], make_card: Callable[..., Path], colour: str, normalised: str
) -> None:
    make_onnx({"any": np.zeros((1, 1), np.float32)}, input_shape=[1, 1 if colour == "luma" else 3, 16, 16])
    card = load_card(make_card(colour=colour, width=16, height=16, extra=normalised))
    engine = open_engine(card, None, threads=1, spinning=False)
    pixels = np.zeros((16, 48, 3), np.uint8)
    pixels[:, 16:32], pixels[:, 32:] = (10, 20, 60), 255
    crops = np.array([[0, 0, 16, 16], [16, 0, 32, 16], [32, 0, 48, 16]], np.float32)
    engine.infer(frame(0, 48, 16, pixels), crops)
    middle = round(0.114 * 10 + 0.587 * 20 + 0.299 * 60) if colour.startswith("luma") else 30
    expected = np.broadcast_to(np.array([0, middle, 255])[:, None, None], (3, 16, 16))
    np.testing.assert_allclose(engine.pictures(), expected, atol=1e-3)


def test_a_batch_is_its_crops_one_by_one() -> None:
    engine = open_cpu("edgeface-landmarks")
    crops = np.array([[0, 0, 80, 80], [100, 50, 260, 210], [600, 300, 700, 400]], np.float32)
    together = engine.infer(frame(0, 640, 360, PIXELS), crops)
    for row, crop in enumerate(crops):
        for name, value in engine.infer(frame(0, 640, 360, PIXELS), crop[None]).items():
            np.testing.assert_allclose(together[name][row], value[0], atol=1e-3)


def test_its_pictures_are_the_means_of_the_colours_before_mean_and_scale(
    make_onnx: Callable[..., Path], make_card: Callable[..., Path]
) -> None:
    make_onnx(scrfd_outputs())
    card = load_card(make_card(extra="mean = [10.0, 20.0, 30.0]\nscale = 0.5\n"))
    engine = open_engine(card, None, threads=1, spinning=False)
    pixels = np.full((64, 128, 3), (30, 60, 120), np.uint8)
    engine.infer(frame(0, 128, 64, pixels), np.array([[0, 0, 64, 64], [150, 0, 214, 64]], np.float32))
    seen = engine.pictures()
    assert (seen.shape, seen.dtype) == ((2, 64, 64), np.float32)
    np.testing.assert_allclose(seen[0], 70, atol=1e-3)
    np.testing.assert_allclose(seen[1], 0, atol=1e-3)  # padding


@pytest.mark.parametrize(("count", "runs"), [(32, [32]), (33, [32, 1]), (70, [32, 32, 6])])
def test_a_free_batch_is_no_larger_than_memory_allows(
    monkeypatch: pytest.MonkeyPatch, count: int, runs: list[int]
) -> None:
    engine = open_cpu("edgeface-landmarks")
    rows: list[int] = []
    run = engine.run
    monkeypatch.setattr(engine, "run", lambda tensor: rows.append(len(tensor)) or run(tensor))
    crops = np.tile(np.array([[100, 50, 260, 210]], np.float32), (count, 1)) + np.arange(count)[:, None]
    outputs = engine.infer(frame(0, 640, 360, PIXELS), crops.astype(np.float32))
    assert rows == runs
    assert outputs["softargmax"].shape == (count, 80, 2)
    last = engine.infer(frame(0, 640, 360, PIXELS), crops[-1:].astype(np.float32))
    np.testing.assert_allclose(outputs["softargmax"][-1], last["softargmax"][0], atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_a_fixed_batch_is_filled_up(tmp_path: Path, make_card: Callable[..., Path], count: int) -> None:
    """A network of batch 2 that returns the mean of each picture."""
    node = helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2, 3], keepdims=0)
    graph = helper.make_graph(
        [node],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 1, 16, 16])],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "net.onnx"))
    card = load_card(make_card(width=16, height=16, colour="luma"))
    engine = open_engine(card, None, threads=1, spinning=False)
    assert engine.outputs == {"mean": (1,)}  # for one crop
    grey = np.repeat(np.repeat(np.arange(0, 200, 40, dtype=np.uint8), 16)[None, :, None], 16, axis=0)
    pixels = np.repeat(grey, 3, axis=2)
    crops = np.array([[16 * i, 0, 16 * i + 16, 16] for i in range(count)], np.float32)
    means = engine.infer(frame(0, 80, 16, pixels), crops)["mean"]
    np.testing.assert_allclose(means, 40.0 * np.arange(count), atol=1e-3)


def test_outputs_without_a_batch_axis_follow_one_another(tmp_path: Path, make_card: Callable[..., Path]) -> None:
    """As det_10g.onnx: batch 1 and outputs [rows, values]; here the rows are the picture's 64 cells of 8 pixels."""
    size, kinds = 64, {"score": 1, "bbox": 4}
    nodes, outputs = [], []
    for stride in (8, 16, 32):
        nodes.append(
            helper.make_node("AveragePool", ["x"], [f"p{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2)
        )
        for kind, values in kinds.items():
            name, rows = f"{kind}{stride}", (size // stride) ** 2
            nodes.append(helper.make_node("Reshape", [f"p{stride}", "column"], [f"c{name}"]))
            nodes.append(helper.make_node("Expand", [f"c{name}", f"s{values}_{stride}"], [name]))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, values]))
    constants = [helper.make_tensor("column", TensorProto.INT64, [2], [-1, 1])]
    for stride in (8, 16, 32):
        for values in kinds.values():
            shape = [(size // stride) ** 2, values]
            constants.append(helper.make_tensor(f"s{values}_{stride}", TensorProto.INT64, [2], shape))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, size, size])
    graph = helper.make_graph(nodes, "cells", [x], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "net.onnx"))
    head = 'type = "scrfd"\nanchors = 1\nkeypoints = false\nscores = "probability"'
    path = make_card(head, colour="luma", extra="scale = 0.00392156862745098\n")
    card = load_card(path)
    engine = open_engine(card, None, threads=1, spinning=False)
    decode = make_decoder(card, engine.outputs, engine.input_size)
    pixels = np.zeros((64, 192, 3), np.uint8)
    pixels[8:16, 64:72] = 255  # cell (1, 0) of the second crop
    crops = np.array([[0, 0, 64, 64], [64, 0, 128, 64], [128, 0, 192, 64]], np.float32)
    found = decode(engine.infer(frame(0, 192, 64, pixels), crops), 0.9)
    assert found.crop.tolist() == [1]
    np.testing.assert_allclose(found.xyxy, [[0 - 8, 8 - 8, 0 + 8, 8 + 8]], atol=1e-3)


@pytest.mark.parametrize("pinned", ["outputs", "inside"])
def test_a_free_batch_that_is_none_is_refused_before_two_faces_come(
    tmp_path: Path, make_card: Callable[..., Path], pinned: str
) -> None:
    """Points that are the same whatever comes in, or a Reshape to one crop inside."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 64, 64])
    values = [helper.make_tensor("one", TensorProto.INT64, [4], [1, 1, 64, 64])]
    nodes = [helper.make_node("Reshape", ["x", "one"], ["y"])] if pinned == "inside" else []
    nodes.append(helper.make_node("ReduceMean", ["y" if nodes else "x"], ["m"], axes=[0, 1, 2, 3], keepdims=0))
    outputs = []
    for name, shape in (("points", [1, 68, 2]), ("score", [1, 68])):
        values.append(helper.make_tensor(f"{name}_0", TensorProto.FLOAT, shape, [1.0] * int(np.prod(shape))))
        nodes.append(helper.make_node("Add", ["m", f"{name}_0"], [name]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    graph = helper.make_graph(nodes, "one", [x], outputs, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "net.onnx"))
    path = make_card('type = "fpenet"\npoints = 68', colour="luma")
    path.write_text(path.read_text().replace('task = "detect"', 'task = "landmarks"'))
    card = load_card(path)
    with pytest.raises(EngineError, match=r"cannot run the network|expected .*found points \[0, 68, 2\]"):
        engine = open_engine(card, None, threads=1, spinning=False)
        make_landmark_decoder(card, engine.outputs, engine.input_size)


def test_an_output_without_rows_is_refused(make_onnx: Callable[..., Path], make_card: Callable[..., Path]) -> None:
    make_onnx({"number": np.float32(1).reshape(())})
    with pytest.raises(EngineError, match="net.onnx: expected outputs with rows for each crop"):
        open_engine(load_card(make_card()), None, threads=1, spinning=False)


def test_outputs_that_are_no_numbers_are_refused(tmp_path: Path, make_card: Callable[..., Path]) -> None:
    node = helper.make_node("SequenceConstruct", ["x"], ["s"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])
    s = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph([node], "g", [x], [s]), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    onnx.save(model, str(tmp_path / "net.onnx"))
    with pytest.raises(EngineError, match="expected outputs of floating-point tensors"):
        open_engine(load_card(make_card()), None, threads=1, spinning=False)


def test_a_network_that_fails_when_it_runs_is_refused(tmp_path: Path, make_card: Callable[..., Path]) -> None:
    """A Reshape that cannot work: only running shows it."""
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    shape = helper.make_tensor("shape", TensorProto.INT64, [1], [7])
    graph = helper.make_graph([node], "g", [x], [y], [shape])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(tmp_path / "net.onnx")
    )
    with pytest.raises(EngineError, match="net.onnx: ONNX Runtime cannot run the network"):
        open_engine(load_card(make_card()), None, threads=1, spinning=False)


@pytest.mark.parametrize("size", [(640, 384), (320, 256), (96, 1280)])
def test_a_free_input_takes_the_configured_size(size: tuple[int, int]) -> None:
    engine = open_cpu("edgeface-detector", size)
    card = load_card(ROOT / "engines" / "edgeface-detector.toml")
    outputs = engine.infer(frame(0, 640, 360, PIXELS), letterbox((640, 360), size))
    assert engine.input_size == size
    assert make_decoder(card, engine.outputs, size)(outputs, 0.5).invalid == 0


def test_a_fixed_input_refuses_another_size(make_onnx: Callable[..., Path], make_card: Callable[..., Path]) -> None:
    make_onnx(scrfd_outputs())
    with pytest.raises(EngineError, match=r"expected an input of \[3, 96, 64\] .* found \[3, 64, 64\]: height"):
        open_engine(load_card(make_card()), (64, 96), threads=1, spinning=False)


def test_another_number_of_channels_is_refused(make_onnx: Callable[..., Path], make_card: Callable[..., Path]) -> None:
    make_onnx(scrfd_outputs())
    with pytest.raises(EngineError, match=r"expected an input of \[1, 64, 64\].*colour"):
        open_engine(load_card(make_card(colour="luma")), None, threads=1, spinning=False)


def test_an_input_of_another_rank_is_refused(make_onnx: Callable[..., Path], make_card: Callable[..., Path]) -> None:
    make_onnx(scrfd_outputs(), input_shape=[1, 64])
    with pytest.raises(EngineError, match="expected one float32 input"):
        open_engine(load_card(make_card()), None, threads=1, spinning=False)


@pytest.mark.parametrize("kept", [0, 1, 100, 5000, 863_000])
def test_a_truncated_onnx_is_refused_in_one_line(tmp_path: Path, make_card: Callable[..., Path], kept: int) -> None:
    whole = (ROOT / "engines" / "edgeface-detector.onnx").read_bytes()
    (tmp_path / "net.onnx").write_bytes(whole[:kept])
    with pytest.raises(EngineError) as caught:
        open_engine(load_card(make_card(colour="luma")), None, threads=1, spinning=False)
    assert str(tmp_path / "net.onnx") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_card_and_the_onnx_must_agree_on_the_decoder(
    make_onnx: Callable[..., Path], make_card: Callable[..., Path]
) -> None:
    make_onnx(scrfd_outputs())
    card = load_card(make_card('type = "gridbox"'))
    engine = open_engine(card, None, threads=1, spinning=False)
    with pytest.raises(EngineError, match="gridbox: expected outputs"):
        make_decoder(card, engine.outputs, engine.input_size)

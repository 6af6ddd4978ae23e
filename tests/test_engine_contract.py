"""What every Engine does, whatever runs it; and what the CPU engine refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import ROOT, scrfd_outputs
from fakes import FakeEngine, frame
from onnx import TensorProto, helper

from edgeface.boxes import letterbox
from edgeface.cpu.engine import OnnxEngine, open_engine
from edgeface.decoders import make_decoder
from edgeface.errors import EngineError
from edgeface.model_card import find_card, load_card
from edgeface.seams import Engine

PIXELS = np.random.default_rng(0).integers(0, 256, (360, 640, 3), np.uint8)


def open_cpu(card: str, input_size: tuple[int, int] | None = None, threads: int = 1) -> OnnxEngine:
    return open_engine(find_card(card), input_size, threads=threads, spinning=False)


@pytest.fixture(params=["cpu", "fake"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "cpu":
        opened: Engine = open_cpu("edgeface-detector")
    else:
        opened = FakeEngine(scrfd_outputs(640, anchors=1), (640, 640))
    yield opened
    opened.close()


def test_it_says_what_it_is(engine: Engine) -> None:
    assert engine.precision in ("fp32", "fp16", "int8")
    assert engine.backend
    assert engine.input_size == (640, 640)


def test_the_declared_outputs_are_what_comes(engine: Engine) -> None:
    outputs = engine.infer(frame(0, 640, 360, PIXELS), letterbox((640, 360), engine.input_size))
    assert {name: value.shape for name, value in outputs.items()} == dict(engine.outputs)


def test_outputs_last_until_the_next_call_at_least(engine: Engine) -> None:
    crops = letterbox((640, 360), engine.input_size)
    first = engine.infer(frame(0, 640, 360, PIXELS), crops)
    kept = {name: value.copy() for name, value in first.items()}
    for name, value in first.items():
        np.testing.assert_array_equal(value, kept[name])


def test_the_same_frame_gives_the_same_outputs(engine: Engine) -> None:
    crops = letterbox((640, 360), engine.input_size)
    kept = {name: value.copy() for name, value in engine.infer(frame(0, 640, 360, PIXELS), crops).items()}
    for name, value in engine.infer(frame(1, 640, 360, PIXELS), crops).items():
        np.testing.assert_array_equal(value, kept[name])


# --- the CPU engine


def test_a_batch_is_its_crops_one_by_one() -> None:
    engine = open_cpu("edgeface-landmarks")
    crops = np.array([[0, 0, 80, 80], [100, 50, 260, 210], [600, 300, 700, 400]], np.float32)
    together = engine.infer(frame(0, 640, 360, PIXELS), crops)
    for row, crop in enumerate(crops):
        for name, value in engine.infer(frame(0, 640, 360, PIXELS), crop[None]).items():
            np.testing.assert_allclose(together[name][row], value[0], atol=1e-3)


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
    grey = np.repeat(np.repeat(np.arange(0, 200, 40, dtype=np.uint8), 16)[None, :, None], 16, axis=0)
    pixels = np.repeat(grey, 3, axis=2)
    crops = np.array([[16 * i, 0, 16 * i + 16, 16] for i in range(count)], np.float32)
    means = engine.infer(frame(0, 80, 16, pixels), crops)["mean"]
    np.testing.assert_allclose(means, 40.0 * np.arange(count), atol=1e-3)


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

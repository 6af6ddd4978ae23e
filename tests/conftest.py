"""Where test data lies, and small networks made for a test."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import cv2
import gpu_stand_ins
import hypothesis
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("EDGEFACE_TEST_DATA", ROOT.parent / "shared" / "data"))

sys.path.insert(0, str(Path(__file__).parent))  # fakes

from fake_gpu_fixture import gpu  # noqa: E402, F401

# a busy machine is no failure; CI tries the same examples every time
hypothesis.settings.register_profile("edgeface", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("edgeface")


@pytest.fixture(scope="session")
def data() -> Path:
    """Real pictures, clips and networks that may be used in tests but not shipped."""
    if not DATA.is_dir():
        pytest.skip(f"no test data at {DATA}; set EDGEFACE_TEST_DATA")
    return DATA


FOUR_FACES = 260  # a frame of the demo clip with four large faces that do not touch; others are hidden


def demo_picture(number: int = FOUR_FACES) -> np.ndarray:
    """A frame of the demo clip."""
    film = cv2.VideoCapture(str(ROOT / "edgeface" / "demo" / "demo.mp4"))
    film.set(cv2.CAP_PROP_POS_FRAMES, number)
    good, pixels = film.read()
    assert good
    return pixels


@pytest.fixture(scope="session")
def rtx() -> ModuleType:
    """TensorRT-RTX, which parses and builds networks without a GPU: the API of TensorRT 11."""
    return pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is for Linux on x86-64: extra dev")


@pytest.fixture(scope="session")
def stand_ins() -> Path:
    """The folder that scripts/gpu_stand_ins.py has filled."""
    folder = Path(os.environ.get("EDGEFACE_GPU_STAND_INS", gpu_stand_ins.FOLDER))
    if not gpu_stand_ins.is_complete(folder):
        pytest.skip(f"no GPU stand-ins in {folder}: python scripts/gpu_stand_ins.py")
    return folder


MakeOnnx = Callable[..., Path]


@pytest.fixture
def make_onnx(tmp_path: Path) -> MakeOnnx:
    """Write an ONNX that gives fixed outputs, whatever goes in."""

    def make(
        outputs: Mapping[str, np.ndarray], input_shape: list[int | str] | None = None, name: str = "net.onnx"
    ) -> Path:
        shape = input_shape or [1, 3, 64, 64]
        nodes = [
            helper.make_node("Constant", [], [key], value=numpy_helper.from_array(value, key))
            for key, value in outputs.items()
        ]
        graph = helper.make_graph(
            nodes,
            "fixed",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, value.shape) for key, value in outputs.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path = tmp_path / name
        onnx.save(model, str(path))
        return path

    return make


CARD = """
name = "{name}"
task = "{task}"
onnx = "{onnx}"
licence = "Apache-2.0"
allows = "any use"
source = "made by a test"

[decoder]
{decoder}

[input]
width = {width}
height = {height}
colour = "{colour}"
"""


@pytest.fixture
def make_card(tmp_path: Path) -> Callable[..., Path]:
    """Write a card beside the networks of make_onnx."""

    def make(
        decoder: str = 'type = "scrfd"',
        *,
        name: str = "net",
        onnx: str = "net.onnx",
        width: int = 64,
        height: int = 64,
        colour: str = "rgb",
        task: str = "detect",
        extra: str = "",
    ) -> Path:
        path = tmp_path / f"{name}.toml"
        text = CARD.format(name=name, task=task, onnx=onnx, decoder=decoder, width=width, height=height, colour=colour)
        path.write_text(text + extra)
        return path

    return make


def scrfd_outputs(size: int = 64, anchors: int = 2, keypoints: bool = True) -> dict[str, np.ndarray]:
    """SCRFD outputs without a face for a square input."""
    outputs = {}
    for kind, values in [("score", 1), ("bbox", 4), ("kps", 10)][: 3 if keypoints else 2]:
        for stride in (8, 16, 32):
            rows = (size // stride) ** 2 * anchors
            outputs[f"{kind}_{stride}"] = np.zeros((1, rows, values), np.float32)
    return outputs

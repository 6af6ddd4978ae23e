"""Networks: their outputs' shapes and meanings, and that what is exported says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
onnx = pytest.importorskip("onnx", reason="export needs onnx")
pytest.importorskip("cv2", reason="training needs OpenCV")
pytest.importorskip("tensorboard", reason="training needs tensorboard")

from edgeface.decoders import GridBoxDecoder, ScrfdDecoder  # noqa: E402
from edgeface.model_card import GridBox as GridBoxHead  # noqa: E402
from edgeface.model_card import Scrfd as ScrfdHead  # noqa: E402
from training.export import difference, export  # noqa: E402
from training.networks import gridbox, landmarks, scrfd  # noqa: E402
from training.networks.blocks import conv, fold, multiply_adds, parameters  # noqa: E402


def unsettled(network: torch.nn.Module) -> torch.nn.Module:
    """With statistics and weights unlike those of a fresh network, in eval mode."""
    torch.manual_seed(0)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(part.weight, 0.5, 1.0)
            torch.nn.init.normal_(part.bias, std=0.1)
    return network.eval()


def small_landmarks() -> torch.nn.Module:
    return unsettled(landmarks.Landmarks(80, (16, 16, 16, 32), (0, 0, 0, 1), 16))


def test_multiply_adds_and_parameters_by_hand() -> None:
    network = conv(3, 8, stride=2)
    assert multiply_adds(network, torch.zeros(1, 3, 10, 10)) == 8 * 25 * 3 * 9
    assert parameters(network) == 8 * 3 * 9 + 2 * 8
    assert network.training


def test_folding_changes_nothing_but_the_graph() -> None:
    network = unsettled(scrfd.Scrfd("0.1g"))
    picture = torch.rand(1, 1, 64, 64) * 255
    with torch.no_grad():
        before = network(picture)
        fold(network)
        after = network(picture)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in network.modules())
    torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)


def test_landmarks_are_in_the_crop_and_see_no_light() -> None:
    network = small_landmarks()
    picture = torch.rand(2, 1, 80, 80) * 100
    with torch.no_grad():
        points, seen, heat = network(picture)
        brighter, _, _ = network(picture * 2 + 40)
    assert (points.shape, seen.shape, heat.shape) == ((2, 80, 2), (2, 80), (2, 80, 1600))
    assert ((points > 0) & (points < 80)).all()
    torch.testing.assert_close(heat.sum(-1), torch.ones(2, 80))
    torch.testing.assert_close(points, brighter, atol=0.5, rtol=0)


def test_a_heatmap_s_cell_is_two_pixels() -> None:
    network = small_landmarks()
    column, row = 7, 30
    assert (network.grid[row * 40 + column] + 40).tolist() == [15, 61]


@pytest.mark.parametrize(("size", "most"), [("0.1g", 0.105), ("0.5g", 0.515), ("2.5g", 2.55)])
def test_a_detector_costs_what_its_name_says(size: str, most: float) -> None:
    network = scrfd.Scrfd(size)
    cost = multiply_adds(network, torch.zeros(1, 1, 480, 640)) / 1e9
    assert 0.9 * float(size[:-1]) < cost < most


def test_the_table_of_sizes_is_the_runtime_s_layout() -> None:
    network = scrfd.Exported(unsettled(scrfd.Scrfd("0.1g"))).eval()
    with torch.no_grad():
        outputs = dict(zip(network.outputs, network(torch.rand(2, 1, 64, 96) * 255), strict=True))
    cells = {8: 96, 16: 24, 32: 6}
    widths = {"score": 1, "bbox": 4, "kps": 10}
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        f"{name}_{stride}": (2, count, width) for name, width in widths.items() for stride, count in cells.items()
    }
    assert all(((outputs[f"score_{s}"] > 0) & (outputs[f"score_{s}"] < 1)).all() for s in cells)
    assert all((outputs[f"bbox_{s}"] >= 0.09).all() for s in cells)


def test_the_runtime_decodes_a_detector_as_the_training_does() -> None:
    from training.detection import decode

    network = unsettled(scrfd.Scrfd("0.1g"))
    shipped = scrfd.Exported(network).eval()
    picture = torch.rand(1, 1, 64, 96) * 255
    with torch.no_grad():
        outputs = {name: value.numpy() for name, value in zip(shipped.outputs, shipped(picture), strict=True)}
        rows = scrfd.rows(network(picture))[0]
        xyxy, keypoints = decode(rows, *scrfd.anchors(64, 96))
    head = ScrfdHead(strides=(8, 16, 32), anchors=1, keypoints=True)
    candidates = ScrfdDecoder(head, {name: value.shape for name, value in outputs.items()}, (96, 64))(outputs, 0.0)
    np.testing.assert_allclose(candidates.xyxy, xyxy.numpy(), atol=1e-3)
    np.testing.assert_allclose(candidates.keypoints, keypoints.numpy(), atol=1e-3)
    np.testing.assert_allclose(candidates.score, torch.sigmoid(rows[:, 0]).numpy(), atol=1e-6)


def test_the_runtime_decodes_gridbox_as_the_training_does() -> None:
    network = unsettled(gridbox.GridBox(16, (16, 16, 16, 16), (0, 0, 0, 0)))
    shipped = gridbox.Exported(network).eval()
    picture = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        outputs = {name: value.numpy() for name, value in zip(shipped.outputs, shipped(picture), strict=True)}
        _, distances = network(picture)
    assert [value.shape for value in outputs.values()] == [(1, 1, 4, 6), (1, 4, 4, 6)]
    place, away = gridbox.points(64, 96), distances.permute(0, 2, 3, 1).reshape(-1, 4) * gridbox.SCALE
    shapes = {name: value.shape for name, value in outputs.items()}
    candidates = GridBoxDecoder(GridBoxHead(classes=("face",)), shapes, (96, 64))(outputs, 0.0)
    np.testing.assert_allclose(candidates.xyxy[:, :2], (place - away[:, :2]).numpy(), atol=1e-3)
    np.testing.assert_allclose(candidates.xyxy[:, 2:], (place + away[:, 2:]).numpy(), atol=1e-3)


def test_gridbox_s_input_is_red_green_blue() -> None:
    seen = gridbox.GridBox().luma(torch.eye(3).reshape(3, 3, 1, 1)).flatten()  # pure red, green, blue
    torch.testing.assert_close(seen, torch.tensor([0.299, 0.587, 0.114]))  # ITU-R BT.601, as the runtime's luma


def test_gridbox_sees_the_luma_only_and_never_learns_another() -> None:
    network = unsettled(gridbox.GridBox(16, (16, 16, 16, 16), (0, 0, 0, 0)))
    rgb = torch.rand(1, 3, 64, 64)
    luma = (rgb * torch.tensor(gridbox.LUMA).reshape(1, 3, 1, 1)).sum(1, keepdim=True)
    with torch.no_grad():
        torch.testing.assert_close(network(rgb), network(luma.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)
    assert not network.luma.weight.requires_grad


def test_an_exported_network_says_the_same_and_tells_of_itself(tmp_path: Path) -> None:
    for shipped in (
        landmarks.Exported(small_landmarks()),
        scrfd.Exported(unsettled(scrfd.Scrfd("0.1g"))),
        gridbox.Exported(unsettled(gridbox.GridBox(16, (16, 16, 16, 16), (0, 0, 0, 0)))),
    ):
        fold(shipped.eval())
        path = tmp_path / "network.onnx"
        assert export(shipped, path, {"license": "Apache-2.0", "description": "a test"}) <= 1e-4
        model = onnx.load(path)
        assert [value.name for value in model.graph.output] == list(shipped.outputs)
        assert [value.name for value in model.graph.input] == list(shipped.inputs)
        assert {entry.key: entry.value for entry in model.metadata_props}["license"] == "Apache-2.0"
        assert not {node.op_type for node in model.graph.node} & {"BatchNormalization", "Cast", "If", "Loop"}
        assert model.opset_import[0].version == 17


def test_a_network_that_differs_is_not_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = landmarks.Exported(small_landmarks()).eval()
    path = tmp_path / "network.onnx"
    monkeypatch.setattr("training.export.TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="differ by"):
        export(shipped, path, {})
    assert not path.exists()


def test_the_difference_is_seen(tmp_path: Path) -> None:
    network = small_landmarks()
    shipped = landmarks.Exported(network).eval()
    path = tmp_path / "network.onnx"
    export(shipped, path, {})
    with torch.no_grad():
        network.seen_far.bias += 1
    assert difference(shipped, path) > 0.01

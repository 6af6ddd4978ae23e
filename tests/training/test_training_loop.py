"""The loop: the loss falls, a run that was stopped ends as one that was not, new shards are taken in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("onnx", reason="export needs onnx")
pytest.importorskip("cv2", reason="training needs OpenCV")
pytest.importorskip("tensorboard", reason="training needs tensorboard")

import drawn  # noqa: E402

from training.detection import average_precision  # noqa: E402
from training.export import export, load  # noqa: E402
from training.loop import CHECKPOINT, Run, Settings, take_fitting, train  # noqa: E402
from training.samples import Bank, find, is_validation  # noqa: E402
from training.tasks import calibration_error, make_task  # noqa: E402
from training.train import arguments, read  # noqa: E402

CONFIGS = sorted(
    path
    for path in (Path(__file__).parents[2] / "training" / "configs").glob("*.toml")
    if "[network]" in path.read_text()
)
LANDMARKS: dict[str, Any] = {
    "network": {"kind": "landmarks", "widths": [16, 16, 32, 32], "blocks": [0, 0, 0, 1], "head": 16},
    "augment": {"turn_deg": 3.0, "scale": 0.03, "shift_px": 1.0},
}
SCRFD: dict[str, Any] = {
    "network": {"kind": "scrfd", "size": "0.1g"},
    "augment": {"side": 96, "smallest": 0.8, "largest": 1.2},
}
GRIDBOX: dict[str, Any] = {
    "network": {"kind": "gridbox", "stem": 16, "widths": [16, 16, 32, 32], "blocks": [0, 0, 0, 0]},
    "augment": {"side": 96, "smallest": 0.8, "largest": 1.2},
}
QUIET = {"say": lambda line: None}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for number, count in ((0, 24), (1, 96)):
        drawn.write(folder, "faces", drawn.faces(count, number), number)
        drawn.write(folder, "scenes", drawn.scenes(count, number), number)
    return folder


def settings(data: Path, **more: Any) -> Settings:
    common = {"batch": 16, "warmup": 5, "average": 0.9, "precision": "fp32", "seed": 1, "log_every": 10, "steps": 40}
    return Settings(**{"data": [str(data)], **common, **more})


def lines_of(run: Run, **more: Any) -> list[str]:
    lines: list[str] = []
    train(run, say=lines.append, **more)
    return lines


@pytest.mark.parametrize("config", [LANDMARKS, SCRFD, GRIDBOX], ids=["landmarks", "scrfd", "gridbox"])
def test_the_loss_falls_and_what_was_learnt_is_shipped(config: dict[str, Any], data: Path, tmp_path: Path) -> None:
    task = make_task(config)
    run = Run(task, settings(data, rate=4e-3), tmp_path)
    bank = Bank(task.kind)
    bank.add([data / f"{task.kind}-00001.npz"])
    held = task.batch(bank, range(32), (0,))

    def loss() -> float:
        with torch.no_grad():
            return float(sum(task.losses(run.network.train(), held).values()))

    before = loss()
    lines = lines_of(run)
    assert loss() < 0.8 * before
    assert "validation" in lines[-1]
    assert (run.step, run.progress()) == (40, 1.0)
    shipped = load(config, tmp_path / CHECKPOINT)
    assert export(shipped, tmp_path / "network.onnx", {}) <= 1e-4
    assert list(tmp_path.glob("events.*"))


@pytest.mark.parametrize("config", [LANDMARKS, SCRFD], ids=["landmarks", "scrfd"])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(config: dict[str, Any], data: Path, tmp_path: Path) -> None:
    short = settings(data, steps=10)
    ends = []
    for name, stops in (("straight", [0]), ("stopped", [4, 3, 0])):
        for stop in stops:
            run = Run(make_task(config), short, tmp_path / name)
            train(run, stop_after=stop, **QUIET)
        ends.append(torch.load(tmp_path / name / CHECKPOINT, weights_only=True))
    assert ends[0]["step"] == ends[1]["step"] == 10
    for part in ("network", "average"):
        for name, value in ends[0][part].items():
            torch.testing.assert_close(value, ends[1][part][name], rtol=0, atol=0)


def test_batches_made_elsewhere_are_the_same(data: Path, tmp_path: Path) -> None:
    ends = []
    for workers in (0, 1):
        run = Run(make_task(LANDMARKS), settings(data, steps=3, workers=workers), tmp_path / str(workers))
        train(run, **QUIET)
        ends.append(run.network.state_dict()["heat.weight"])
    torch.testing.assert_close(*ends, rtol=0, atol=0)


def test_shards_that_appear_are_taken_in_at_the_next_epoch(tmp_path: Path) -> None:
    drawn.write(tmp_path / "data", "faces", drawn.faces(32, 1), 1)
    run = Run(make_task(LANDMARKS), settings(tmp_path / "data", steps=4), tmp_path / "run")
    train(run, stop_after=1, **QUIET)
    drawn.write(tmp_path / "data", "faces", drawn.faces(32, 2), 2)
    (tmp_path / "data" / "faces-00003.npz").write_bytes(b"PK half")
    assert len(run.bank) == 32
    train(run, **QUIET)
    assert (len(run.bank), run.epoch) == (64, 1)


def test_a_new_run_may_begin_with_the_weights_of_another(data: Path, tmp_path: Path) -> None:
    first = Run(make_task(LANDMARKS), settings(data, steps=2), tmp_path / "first")
    train(first, **QUIET)
    second = Run(make_task(LANDMARKS), settings(data), tmp_path / "second", tmp_path / "first" / CHECKPOINT)
    assert second.step == 0
    torch.testing.assert_close(second.network.state_dict(), first.average.state_dict())


def test_the_averaged_copy_follows_weights_and_running_statistics(data: Path, tmp_path: Path) -> None:
    run = Run(make_task(LANDMARKS), settings(data, steps=2, average=0.05), tmp_path)
    before = {name: value.clone() for name, value in run.average.state_dict().items()}
    train(run, stop_after=1, **QUIET)
    now, averaged = run.network.state_dict(), run.average.state_dict()
    moved = [name for name in before if "num_batches" not in name]
    assert any("running_mean" in name for name in moved)
    for name in moved:
        torch.testing.assert_close(averaged[name], torch.lerp(before[name], now[name], 0.95))
    assert all(torch.equal(averaged[name], now[name]) for name in before if name not in moved)


def test_without_a_validation_shard_there_is_no_measure(tmp_path: Path) -> None:
    drawn.write(tmp_path / "data", "faces", drawn.faces(16, 1), 1)
    run = Run(make_task(LANDMARKS), settings(tmp_path / "data", steps=1), tmp_path / "run")
    assert train(run, **QUIET) == {}


def test_data_that_cannot_train_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="render some first"):
        find([tmp_path], "faces")
    drawn.write(tmp_path / "data", "faces", drawn.faces(4, 0), 0)
    with pytest.raises(FileNotFoundError, match="for validation"):
        train(Run(make_task(LANDMARKS), settings(tmp_path / "data"), tmp_path / "run"), **QUIET)
    assert [is_validation(Path(f"faces-{number:05d}.npz"), 20) for number in (0, 1, 20)] == [True, False, True]


def test_an_end_is_needed_and_only_one() -> None:
    for steps, minutes in ((0, 0.0), (10, 1.0)):
        with pytest.raises(ValueError, match="either steps or minutes"):
            Settings(data=["x"], steps=steps, minutes=minutes)


def test_the_clock_may_end_a_run(data: Path, tmp_path: Path) -> None:
    run = Run(make_task(LANDMARKS), settings(data, steps=0, minutes=0.02), tmp_path)
    train(run, **QUIET)
    assert run.step >= 1
    assert run.elapsed_s >= 1.2


def test_a_loss_that_is_no_number_stops_the_run(data: Path, tmp_path: Path) -> None:
    run = Run(make_task(LANDMARKS), settings(data), tmp_path)
    with torch.no_grad():
        run.network.heat.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="smaller rate"):
        train(run, **QUIET)


def test_bf16_trains(data: Path, tmp_path: Path) -> None:
    run = Run(make_task(SCRFD), replace(settings(data, steps=2), precision="bf16"), tmp_path)
    train(run, **QUIET)
    assert all(value.dtype in (torch.float32, torch.int64) for value in run.network.state_dict().values())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_names_a_network_and_its_training(path: Path) -> None:
    config = read(path)
    assert Settings(**config["train"]).data
    assert sum(p.numel() for p in make_task(config).network().parameters()) > 10_000
    assert config["export"]["name"].startswith("edgeface-")
    assert arguments().parse_args([str(path), "--minutes", "1"]).minutes == 1


def test_a_foretold_share_that_comes_true_is_calibrated() -> None:
    happened = torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0])
    assert calibration_error(torch.tensor([0.25, 0.25, 0.25, 0.25, 1.0]), happened) == pytest.approx(0)
    assert calibration_error(torch.full((5,), 0.9), happened) == pytest.approx(0.5)


def test_average_precision_by_hand() -> None:
    truth = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]], np.float32)
    ignore = np.array([False, False, True])
    found = np.array([[0, 0, 10, 10], [70, 70, 80, 80], [20, 20, 30, 30], [50, 50, 60, 60], [1, 0, 11, 10]], np.float32)
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32)
    # hit, miss, hit, not asked, second box on one face: precision 1 up to half of the faces, then 2/3
    assert average_precision([(found, score)], [(truth, ignore)]) == pytest.approx(100 * (0.5 + 0.5 * 2 / 3))
    assert np.isnan(average_precision([(found[:0], score[:0])], [(truth, ~ignore | True)]))
    assert average_precision([(found[:0], score[:0])], [(truth, ignore)]) == 0


def test_a_network_begins_with_the_weights_that_fit() -> None:
    other, own = torch.nn.Linear(3, 2), torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    weights = {f"0.{name}": value for name, value in other.state_dict().items()} | {"1.weight": torch.zeros(5, 5)}
    before = own[1].weight.clone()
    assert take_fitting(own, weights) == 2
    assert torch.equal(own[0].weight, other.weight)
    assert torch.equal(own[1].weight, before)
    with pytest.raises(ValueError, match="no weight"):
        take_fitting(own, {"other": torch.zeros(1)})

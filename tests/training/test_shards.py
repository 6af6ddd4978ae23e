"""Shards: the same with any number of processes; sheets show the labels."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="training's extra is not installed: pip install -e .[train]")
pytest.importorskip("numba", reason="training's extra is not installed: pip install -e .[train]")

from synthetic_banks import bank

from training.render import __main__ as command
from training.render import scene, shards, sheet
from training.render.__main__ import sampler


def test_shards_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    given = bank()
    sample = partial(scene.scene, banks=given, size=96)
    wanted = {"seed": 5, "count": 5, "per_shard": 2}
    written = []
    for jobs in (1, 2):
        folder = tmp_path / str(jobs)
        shards.write(folder, "scenes", sample, scene.packed, **wanted, jobs=jobs)
        written.append(sorted(folder.iterdir()))
        assert [path.name for path in written[-1]] == [f"scenes-0000{k}.npz" for k in range(3)]
    for one, other in zip(*written, strict=True):
        with np.load(one) as a, np.load(other) as b:
            assert set(a.files) == {"picture", "first", "xyxy", "keypoints", "ignore", "visible", "pose"}
            assert all(np.array_equal(a[name], b[name]) for name in a.files)
    with np.load(written[0][1]) as shard:
        second = scene.scene(np.random.default_rng([5, 3]), given, 96)
        assert np.array_equal(shard["picture"][1], second.picture)
        assert np.array_equal(shard["xyxy"][shard["first"][1] : shard["first"][2]], second.xyxy)
    before = written[0][0].stat().st_mtime_ns
    shards.write(tmp_path / "1", "scenes", sample, scene.packed, **wanted, jobs=1)
    assert written[0][0].stat().st_mtime_ns == before


def test_a_shard_of_another_length_is_rendered_again(tmp_path: Path) -> None:
    sample = partial(scene.scene, banks=bank(), size=64)
    for count in (3, 5):  # 2 + 1, then 2 + 2 + 1
        shards.write(tmp_path, "scenes", sample, scene.packed, seed=5, count=count, per_shard=2, jobs=1)
        paths = sorted(tmp_path.iterdir())
        assert sum(shards.length(path) for path in paths) == count
        assert len(paths) == -(-count // 2)
    assert shards.length(tmp_path / "scenes-00009.npz") == 0


@pytest.mark.parametrize(("count", "length"), [(None, 500), (30_000, 500), (2000, 500), (100, 25), (3, 1)])
def test_a_small_count_makes_several_shards(count: int | None, length: int) -> None:
    assert command.shard_length(500, count) == length


@pytest.mark.parametrize(
    ("arguments", "message"), [(["--without", "hair"], "--out"), (["--without", "wigs", "--out", "x"], "wigs")]
)
def test_the_command_says_what_it_cannot_do(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Path(__file__).parents[2] / "training" / "configs" / "landmarks.toml"
    monkeypatch.setattr("sys.argv", ["render", str(config), *arguments])
    with pytest.raises(SystemExit, match=message):
        command.main()


def test_scenes_ask_for_photographs_before_heads_are_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "head.npz").touch()
    monkeypatch.setenv("EDGEFACE_TRAINING_ASSETS", str(tmp_path))
    heads = {"folder": str(tmp_path / "heads"), "seed": 1, "count": 1, "per_shard": 1}
    with pytest.raises(FileNotFoundError, match=r"no photos\.npz in .*: run python -m training\.prepare_assets"):
        sampler({"kind": "scenes", "size": 96, "heads": heads}, scene.INGREDIENTS, jobs=1)
    assert not (tmp_path / "heads").exists()


def test_a_sheet_shows_the_labels() -> None:
    made = scene.Scene(
        np.full((40, 40), 50, np.uint8),
        np.array([[5, 5, 25, 30], [28, 5, 36, 12]], np.float32),
        np.zeros((2, 5, 2), np.float32) + 15,
        np.array([0, 1], np.uint8),
        np.ones(2, np.float32),
        np.zeros((2, 3), np.float32),
    )
    shown = sheet.sheet([made] * 3, columns=2, pixels=40)
    assert shown.shape == (80, 80, 3)
    assert shown[5, 15, 1] > shown[5, 15, 2] and shown[5, 32, 2] > shown[5, 32, 1]

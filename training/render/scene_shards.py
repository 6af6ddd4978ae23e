"""Writes scenes into shards with several processes; or draws a contact sheet with the labels on it.

    python -m training.render.scene_shards --heads FOLDER --hdri hdri.npz --sheet OUT.png
    python -m training.render.scene_shards --heads FOLDER --hdri hdri.npz --out FOLDER --scenes 10000

Scene i of seed s comes from numpy's default_rng([s, i]): the same scenes with any number of processes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.render.banks import Banks, load_banks
from training.render.scene import INGREDIENTS, SIZE, Scene, scene

_FOUND, _IGNORED, _POINT = (0, 255, 0), (255, 0, 255), (0, 0, 255)  # blue, green, red


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """What to render."""

    heads: Path  # folder of heads-*.npz
    hdri: Path
    out: Path
    seed: int
    scenes: int
    size: int = SIZE
    in_shard: int = 1000
    processes: int = 1
    faces: bool = True
    ingredients: frozenset[str] = INGREDIENTS


def packed(scenes: list[Scene]) -> dict[str, NDArray[np.generic]]:
    """The arrays of a scenes-*.npz."""
    many = [len(one.xyxy) for one in scenes]
    return {
        "picture": np.stack([one.picture for one in scenes]),
        "first": np.concatenate([[0], np.cumsum(many)]).astype(np.int64),
        "xyxy": np.concatenate([one.xyxy for one in scenes]),
        "keypoints": np.concatenate([one.keypoints for one in scenes]),
        "ignore": np.concatenate([one.ignore for one in scenes]),
        "visible": np.concatenate([one.visible for one in scenes]),
        "pose": np.concatenate([one.pose for one in scenes]),
    }


def write_scenes(config: SceneConfig, banks: Banks | None = None) -> list[Path]:
    """Writes scenes-NNNNN.npz into `config.out`; shards that are there already stay. Returns all of them.

    The banks are made once, before the processes fork, and shared by them.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    shards = range(-(-config.scenes // config.in_shard))
    missing = [shard for shard in shards if not _path(config, shard).exists()]
    if missing:
        _shared.append((config, banks or load_banks(config.heads, config.hdri, config.seed)))
        try:
            if config.processes == 1:
                for shard in missing:
                    _write(shard)
            else:
                with multiprocessing.get_context("fork").Pool(config.processes) as pool:
                    pool.map(_write, missing, chunksize=1)
        finally:
            _shared.pop()
    return [_path(config, shard) for shard in shards]


_shared: list[tuple[SceneConfig, Banks]] = []  # what forked processes find: too large to send them


def _path(config: SceneConfig, shard: int) -> Path:
    return config.out / f"scenes-{shard:05d}.npz"


def _write(shard: int) -> None:
    cv2.setNumThreads(1)
    config, banks = _shared[-1]
    numbers = range(shard * config.in_shard, min(config.scenes, (shard + 1) * config.in_shard))
    scenes = [
        scene(np.random.default_rng([config.seed, i]), banks, config.size, config.ingredients, faces=config.faces)
        for i in numbers
    ]
    path = _path(config, shard)
    unfinished = path.with_name(f".{path.stem}.partial.npz")
    np.savez(unfinished, **packed(scenes))  # type: ignore[arg-type]
    unfinished.replace(path)


def drawn(one: Scene) -> NDArray[np.uint8]:
    """The picture [s, s, 3] with its labels: green boxes to find, magenta ones ignored, red points."""
    picture = np.ascontiguousarray(np.repeat(one.picture[..., None], 3, axis=2))
    for xyxy, points, ignore in zip(one.xyxy, one.keypoints, one.ignore, strict=True):
        x0, y0, x1, y1 = (int(v) for v in np.round(xyxy * 8 - 4))
        cv2.rectangle(picture, (x0, y0), (x1, y1), _IGNORED if ignore else _FOUND, 1, cv2.LINE_AA, 3)
        for x, y in np.round(points * 8 - 4).astype(int):
            cv2.circle(picture, (int(x), int(y)), 8, _POINT, -1, cv2.LINE_AA, 3)
    return picture


def sheet(scenes: list[Scene], columns: int = 6) -> NDArray[np.uint8]:
    """The labelled scenes side by side."""
    tiles = [drawn(one) for one in scenes]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    return np.vstack([np.hstack(tiles[row : row + columns]) for row in range(0, len(tiles), columns)])


def main() -> None:
    """Shards, or a sheet to look at."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--heads", type=Path, required=True, help="folder of heads-*.npz")
    arguments.add_argument("--hdri", type=Path, required=True, help="hdri.npz")
    arguments.add_argument("--out", type=Path, help="folder for the shards")
    arguments.add_argument("--sheet", type=Path, help="a contact sheet instead")
    arguments.add_argument("--scenes", type=int, default=24)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--size", type=int, default=SIZE)
    arguments.add_argument("--processes", type=int, default=1)
    arguments.add_argument("--face-free", action="store_true", help="hard negatives only")
    arguments.add_argument(
        "--without", nargs="*", default=[], choices=sorted(INGREDIENTS), help="ingredients to leave out"
    )
    given = arguments.parse_args()
    ingredients = INGREDIENTS - set(given.without)
    cv2.setNumThreads(1)
    if given.sheet:
        banks = load_banks(given.heads, given.hdri, given.seed)
        start = time.perf_counter()
        scenes = [
            scene(np.random.default_rng([given.seed, i]), banks, given.size, ingredients, faces=not given.face_free)
            for i in range(given.scenes)
        ]
        print(f"{given.scenes / (time.perf_counter() - start):.1f} scenes/s")
        cv2.imwrite(str(given.sheet), sheet(scenes))
    elif given.out:
        config = SceneConfig(
            given.heads,
            given.hdri,
            given.out,
            given.seed,
            given.scenes,
            given.size,
            processes=given.processes,
            faces=not given.face_free,
            ingredients=ingredients,
        )
        for path in write_scenes(config):
            print(path)
    else:
        arguments.error("give --out FOLDER or --sheet OUT.png")


if __name__ == "__main__":
    main()

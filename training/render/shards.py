"""Renders many samples into shards, in several processes; what is there already is not rendered again."""

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np

Sample = Callable[[np.random.Generator], object]  # a dataclass of arrays of the same shapes for every sample


def write(folder: Path, name: str, sample: Sample, *, seed: int, count: int, per_shard: int, jobs: int, said=sys.stderr) -> None:
    """Writes NAME-00000.npz ... with `count` samples; sample i is drawn from numpy's generator of [seed, i]."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, count, per_shard)
    wanted = [(k, first, min(first + per_shard, count)) for k, first in enumerate(starts)]
    missing = [w for w in wanted if not path(folder, name, w[0]).exists()]
    began, done = time.monotonic(), 0
    with ProcessPoolExecutor(jobs, initializer=_alone) as pool:
        work = [pool.submit(_shard, path(folder, name, k), sample, seed, a, b) for k, a, b in missing]
        for (k, a, b), job in zip(missing, work, strict=True):
            job.result()
            done += b - a
            print(f"{path(folder, name, k).name}: {done / (time.monotonic() - began):.1f} a second", file=said, flush=True)


def path(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}-{number:05d}.npz"


def _alone() -> None:
    """One thread a process: several processes share the cores already."""
    cv2.setNumThreads(1)


def _shard(target: Path, sample: Sample, seed: int, first: int, last: int) -> None:
    found = [sample(np.random.default_rng([seed, i])) for i in range(first, last)]
    arrays = {f.name: np.stack([getattr(s, f.name) for s in found]) for f in fields(found[0])}
    unfinished = target.with_suffix(f".{os.getpid()}.tmp")
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)
    unfinished.rename(target)  # a shard is whole or absent


def read(folder: Path, name: str) -> dict[str, np.ndarray]:
    """All shards of a folder as one."""
    found = [dict(np.load(p)) for p in sorted(folder.glob(f"{name}-*.npz"))]
    if not found:
        raise FileNotFoundError(f"no {name}-*.npz in {folder}: run python -m training.render first")
    return {key: np.concatenate([shard[key] for shard in found]) for key in found[0]}

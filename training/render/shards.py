"""Renders many samples into shards, in several processes; what is there already is not rendered again."""

from __future__ import annotations

import multiprocessing
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Sample = Callable[[np.random.Generator], Any]
Packed = dict[str, NDArray]


def stacked(samples: Sequence[Any]) -> Packed:
    """Dataclasses of arrays, each of the same shape in every sample, as arrays with one more axis in front."""
    return {f.name: np.stack([getattr(s, f.name) for s in samples]) for f in fields(samples[0])}


def write(
    folder: Path,
    name: str,
    sample: Sample,
    pack: Callable[[Sequence[Any]], Packed] = stacked,
    *,
    seed: int,
    count: int,
    per_shard: int,
    jobs: int,
) -> None:
    """Writes NAME-00000.npz ... with `count` samples; sample i is drawn from numpy's generator of [seed, i].

    So the samples are the same with any number of `jobs` (processes). A shard that holds another number of samples
    than it shall (it was written for another `count`) is rendered again. OpenCV must not have used threads before:
    they do not survive a fork.
    """
    cv2.setNumThreads(1)  # and several processes share the cores already
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [min(per_shard, count - first) for first in range(0, count, per_shard)]
    missing = [k for k, many in enumerate(wanted) if length(path(folder, name, k)) != many]
    _shared.append((folder, name, sample, pack, seed, count, per_shard))
    began, done = time.monotonic(), 0
    try:
        with multiprocessing.get_context("fork").Pool(jobs) as pool:
            for written, many in pool.imap(_write, missing):
                done += many
                print(f"{written}: {done / (time.monotonic() - began):.1f} a second", file=sys.stderr, flush=True)
    finally:
        _shared.pop()


_shared: list[Any] = []  # what forked processes find: banks of pictures are too large to send


def path(folder: Path, name: str, number: int) -> Path:
    """Where shard `number` lies."""
    return folder / f"{name}-{number:05d}.npz"


def length(shard: Path) -> int:
    """How many samples a shard holds; 0 where there is none."""
    if not shard.exists():
        return 0
    with zipfile.ZipFile(shard) as arrays, arrays.open("picture.npy") as file:
        np.lib.format.read_magic(file)
        shape, _, _ = np.lib.format.read_array_header_1_0(file)  # the header alone: pictures are large
    return int(shape[0])


def _write(number: int) -> tuple[str, int]:
    folder, name, sample, pack, seed, count, per_shard = _shared[-1]
    numbers = range(number * per_shard, min(count, (number + 1) * per_shard))
    arrays = pack([sample(np.random.default_rng([seed, i])) for i in numbers])
    target = path(folder, name, number)
    unfinished = target.with_name(f".{target.stem}.partial.npz")
    np.savez(unfinished, **arrays)
    unfinished.replace(target)  # a shard is whole or absent
    return target.name, len(numbers)

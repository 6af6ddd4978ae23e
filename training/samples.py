"""Reads the shards that the renderer writes, keeps some for validation, and hands out batches by number.

A batch is a function of the seed, the epoch and its number: whoever runs it, in whatever process, gets the same.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

Shard = Mapping[str, NDArray]

WANTED = {
    "faces": ("picture", "landmarks", "visible"),
    "scenes": ("picture", "first", "xyxy", "keypoints", "ignore"),
}


def find(folders: Sequence[Path], kind: str) -> list[Path]:
    """All shards `kind`-NNNNN.npz in the folders, in order. Raises FileNotFoundError when there is none."""
    found = [path for folder in folders for path in sorted(folder.glob(f"{kind}-*.npz"))]
    if not found:
        raise FileNotFoundError(f"no {kind}-*.npz in {', '.join(map(str, folders))}: render some first")
    return found


def is_validation(path: Path, every: int) -> bool:
    """Whether a shard is kept for validation: number 0, `every`, 2 * `every`, ..., whichever shards are there yet."""
    return int(re.findall(r"\d+", path.stem)[-1]) % every == 0


class Bank:
    """The pictures and labels of some shards, in memory; grows when shards are added."""

    def __init__(self, kind: str) -> None:
        self._wanted = WANTED[kind]
        self.paths: list[Path] = []
        self._shards: list[Shard] = []
        self._ends = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def add(self, paths: Sequence[Path]) -> None:
        """Loads what is not here yet; a file that is still being written is left for the next time."""
        for path in paths:
            if path in self.paths:
                continue
            try:
                with np.load(path) as file:
                    shard = {name: file[name] for name in self._wanted}
            except (zipfile.BadZipFile, EOFError, ValueError):
                continue
            self.paths.append(path)
            self._shards.append(shard)
        self._ends = np.cumsum([len(shard["picture"]) for shard in self._shards])

    def sample(self, index: int) -> dict[str, NDArray]:
        """One picture with its labels: arrays without the first axis; of a scene, the rows of its faces."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        row = index - (int(self._ends[number - 1]) if number else 0)
        shard = self._shards[number]
        if "first" not in shard:
            return {name: shard[name][row] for name in self._wanted}
        begin, end = shard["first"][row : row + 2]
        labels = {name: shard[name][begin:end] for name in ("xyxy", "keypoints", "ignore")}
        return {"picture": shard["picture"][row], **labels}

    def stacked(self, indices: Sequence[int]) -> dict[str, NDArray]:
        """Several pictures of faces with their labels: arrays with a first axis."""
        samples = [self.sample(int(index)) for index in indices]
        return {name: np.stack([sample[name] for sample in samples]) for name in self._wanted}


def order(count: int, seed: int, epoch: int) -> NDArray:
    """The order of an epoch's samples, [count]."""
    return np.random.default_rng([seed, epoch, 0]).permutation(count)


def generator(seed: Sequence[int]) -> torch.Generator:
    """A generator for one batch."""
    state = np.random.SeedSequence(list(seed)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))

"""Where the converted assets lie."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def folder(*also: str) -> Path:
    """The folder with head.npz, hair.npz, hdri.npz and the files of `also` (photos.npz, which only scenes need).

    Raises FileNotFoundError that says how to make them.
    """
    place = Path(os.environ.get("EDGEFACE_TRAINING_ASSETS") or Path(__file__).parent / "assets")
    for name in ("head.npz", *also):
        if not (place / name).exists():
            raise _missing(place / name)
    return place


def read(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of one file of the folder. Raises FileNotFoundError that says how to make it."""
    if not path.exists():
        raise _missing(path)
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def _missing(path: Path) -> FileNotFoundError:
    return FileNotFoundError(f"no {path.name} in {path.parent}: run python -m training.prepare_assets DOWNLOADS")

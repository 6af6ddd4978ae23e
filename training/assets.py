"""Where the converted assets lie."""

import os
from pathlib import Path


def folder() -> Path:
    """The folder with head.npz, hair.npz, hdri.npz, photos.npz. Raises FileNotFoundError that says how to make them."""
    place = Path(os.environ.get("EDGEFACE_TRAINING_ASSETS") or Path(__file__).parent / "assets")
    if not (place / "head.npz").exists():
        raise FileNotFoundError(f"no head.npz in {place}: run python -m training.prepare_assets")
    return place

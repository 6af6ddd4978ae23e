"""Where the converted assets lie."""

import os
from pathlib import Path


def folder() -> Path:
    """The folder with head.npz, hair.npz, hdri.npz. Raises FileNotFoundError that says how to make them."""
    here = Path(__file__).parent
    places = [here / "assets", here.parent.parent / "shared" / "trial-synthetic-faces" / "assets"]
    if given := os.environ.get("EDGEFACE_TRAINING_ASSETS"):
        places = [Path(given)]
    for place in places:
        if (place / "head.npz").exists():
            return place
    raise FileNotFoundError(f"no head.npz in {places[0]}: run python -m training.prepare_assets")

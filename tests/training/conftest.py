"""Assets to render from: the checkout's, else those beside the repository; without either such tests are skipped."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
BESIDE = ROOT.parent / "shared" / "trial-synthetic-faces" / "assets"

if not (ROOT / "training" / "assets" / "head.npz").exists() and BESIDE.exists():
    os.environ.setdefault("EDGEFACE_TRAINING_ASSETS", str(BESIDE))

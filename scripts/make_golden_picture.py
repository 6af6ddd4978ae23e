"""Make the golden picture of the self-test from a frame of the demo clip: edgeface/demo/golden.npz.

    python scripts/make_golden_picture.py [--frame 296] [--out FILE]

A frame with five faces, at two fifths of its size: large enough for the default network's smallest look, and 63 KB.
Engines know the picture by the file's sha256: with a new one they are no longer tested until they are built anew.

What is in the file:
    bgr    [144, 256, 3] the picture
    xyxy   [n, 4] the true boxes of the faces that are seen and lie wholly in it, with room around: for landmarks
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np

from edgeface.evaluate.tracking import OPEN_SHARE

DEMO = Path(__file__).parent.parent / "edgeface" / "demo"
SIZE = 256, 144
MARGIN_PX = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frame", type=int, default=296)
    parser.add_argument("--out", type=Path, default=DEMO / "golden.npz")
    arguments = parser.parse_args()
    film = cv2.VideoCapture(str(DEMO / "demo.mp4"))
    film.set(cv2.CAP_PROP_POS_FRAMES, arguments.frame)
    good, pixels = film.read()
    if not good:
        raise SystemExit(f"{DEMO / 'demo.mp4'}: frame {arguments.frame} cannot be read")
    faces = json.loads((DEMO / "demo.json").read_text())["frames"][arguments.frame]
    seen = [face["xyxy"] for face in faces if face["visible_fraction"] >= OPEN_SHARE]
    xyxy = np.array(seen, np.float32) * SIZE[0] / pixels.shape[1]
    inside = (xyxy[:, :2] >= MARGIN_PX).all(axis=1) & (xyxy[:, 2:] <= np.array(SIZE) - MARGIN_PX).all(axis=1)
    picture = cv2.resize(pixels, SIZE, interpolation=cv2.INTER_AREA)
    np.savez_compressed(arguments.out, bgr=picture, xyxy=xyxy[inside].round())
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes, {inside.sum()} faces for landmarks")


if __name__ == "__main__":
    main()

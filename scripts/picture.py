"""Draw docs/demo.jpg, the picture in the README: python scripts/picture.py. The demo clip through the pipeline."""

from pathlib import Path

import cv2
import numpy as np

from edgeface.client import landmark_points
from edgeface.config import load_config
from edgeface.parts import build

FRAMES = (0, 75, 150, 225)  # side by side, two rows
COLOURS = [(80, 200, 80), (80, 80, 240), (240, 160, 60), (200, 80, 200), (60, 200, 220), (160, 160, 160)]

parts = build(load_config(None, {"source": "demo:?pace=0"}))
pictures = []
for number in range(max(FRAMES) + 1):
    frame = parts.source.read(1.0)
    assert frame is not None
    body = parts.pipeline.step(frame)[0][1]
    if number in FRAMES:
        picture = frame.pixels.copy()
        for face in body["faces"]:
            x1, y1, x2, y2 = (round(value) for value in face["xyxy"])
            colour = COLOURS[face["track_id"] % len(COLOURS)]
            cv2.rectangle(picture, (x1, y1), (x2, y2), colour, 2 if face["source"] == "detector" else 1)
            cv2.putText(picture, str(face["track_id"]), (x1 + 4, y1 + 20), cv2.FONT_HERSHEY_SIMPLEX, 0.7, colour, 2)
            for x, y in landmark_points(face["landmarks"]) if "landmarks" in face else []:
                cv2.circle(picture, (round(x * 8), round(y * 8)), 9, colour, -1, cv2.LINE_AA, shift=3)
        pictures.append(picture)
sheet = np.vstack([np.hstack(pictures[:2]), np.hstack(pictures[2:])])
target = Path(__file__).parent.parent / "docs" / "demo.jpg"
cv2.imwrite(
    str(target), cv2.resize(sheet, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA), [cv2.IMWRITE_JPEG_QUALITY, 85]
)

"""What detectors find on pictures and clips, beside a larger network taken as the reference.

    python scripts/compare_detectors.py --networks DIR PICTURE_OR_CLIP ... [--detectors CARD ...] [--reference CARD]

A reference face is found when a box of at least the detector's own score threshold has IoU >= 0.5 with it. A box is
false when it overlaps no reference face by 0.3 (the others are loose or second boxes on a face). Every 5th frame of a
clip is looked at. The reference is a network, not the truth: `--sheet DIR` writes pictures with all boxes drawn.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from edgeface.boxes import iou
from edgeface.config import load_config
from edgeface.cpu.engine import open_engine
from edgeface.model_card import find_card
from edgeface.networks import make_detector
from edgeface.values import Frame

COLOURS = [(0, 200, 0), (0, 0, 255), (255, 128, 0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--networks", required=True)
    parser.add_argument("--reference", default="scrfd-2.5g-kps")
    parser.add_argument("--detectors", nargs="+", default=["edgeface-detector", "scrfd-500m-kps"])
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    cards = {name: find_card(name, (arguments.networks,)) for name in [arguments.reference, *arguments.detectors]}
    detectors = {}
    for name, card in cards.items():
        threshold = {"low_score_threshold": card.thresholds.score}
        engine = open_engine(card, None, threads=2, spinning=False)
        detectors[name] = make_detector(card, engine, load_config(None, {"tracker": threshold}))
    for path in arguments.files:
        rows = {name: {"found": 0, "missed": 0, "false": 0, "missed_sizes": []} for name in arguments.detectors}
        pictures = faces = 0
        for number, picture in looked_at(path, every=5):
            height, width = picture.shape[:2]
            found = {
                name: detector.detect(Frame(0, 0, width, height, "bgr8", picture)).xyxy
                for name, detector in detectors.items()
            }
            truth = found[arguments.reference]
            pictures += 1
            faces += len(truth)
            for name, row in rows.items():
                overlap = iou(truth, found[name])
                hit = overlap.max(axis=1, initial=0) >= 0.5
                row["found"] += int(hit.sum())
                row["missed"] += int((~hit).sum())
                row["false"] += int((overlap.max(axis=0, initial=0) < 0.3).sum())
                scale = 640 / max(width, height)
                row["missed_sizes"] += (np.max(truth[~hit, 2:] - truth[~hit, :2], axis=1) * scale).round().tolist()
            if arguments.sheet:
                arguments.sheet.mkdir(exist_ok=True)
                for colour, boxes in zip(COLOURS, found.values(), strict=False):
                    for x1, y1, x2, y2 in boxes.round().astype(int).tolist():
                        cv2.rectangle(picture, (x1, y1), (x2, y2), colour, 2)
                cv2.imwrite(str(arguments.sheet / f"{path.stem}-{number:04}.jpg"), picture)
        print(json.dumps({"file": path.name, "pictures": pictures, "reference_faces": faces, **rows}))


def looked_at(path: Path, every: int) -> Iterator[tuple[int, np.ndarray]]:
    """A picture, or every so many frames of a clip, with their numbers."""
    if path.suffix.lower() not in (".gif", ".mp4", ".avi", ".mkv"):
        yield 0, cv2.imread(str(path))
        return
    capture = cv2.VideoCapture(str(path))
    number = 0
    while (picture := capture.read()[1]) is not None:
        if number % every == 0:
            yield number, picture
        number += 1


if __name__ == "__main__":
    main()

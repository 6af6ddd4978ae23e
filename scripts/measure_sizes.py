"""What more looks find of near and of tiny faces on real pictures, and what they cost.

    python scripts/measure_sizes.py --networks DIR PICTURE_OR_CLIP ... [--detectors CARD ...] [--reference CARD]

The truth is what the reference network (a network, not the truth) finds at its score threshold on the picture as it
is, carried into every frame by the frame's own affine map. Near faces: a window around a face, moved into the picture
where it can be, so that the face has a given share of the frame's shorter side; beyond the picture its border repeats.
Tiny faces: pictures side by side on one frame, each made smaller until its median face has a given height. Every 5th
frame of a clip is taken. Found: a box of at least the detector's score threshold with IoU >= 0.5, both boxes clipped to
the frame. False: one that overlaps no face by 0.3. More looks are joined with the first one as the product joins
them. At the end a film over tiny faces goes through the tracker, with a look at one tile a keyframe.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from edgeface.boxes import iou, letterbox, tile
from edgeface.config import Config, load_config
from edgeface.cpu.engine import open_engine
from edgeface.detector import FaceDetector
from edgeface.model_card import Card, find_card, onnx_path
from edgeface.multiscale import MultiScaleDetector, join, uncut
from edgeface.networks import make_detector
from edgeface.parts import make_tracker
from edgeface.pipeline import Pipeline
from edgeface.schedule import KeyframeSchedule
from edgeface.values import F32, Frame

NEAR = (0.25, 0.33, 0.5, 0.7, 0.9, 1.1)  # face height / shorter side of the frame
TINY = (48, 32, 24, 16, 12, 8)  # px in a frame of 1920x1080
WIDE, CLASSIC, SQUARE, LARGE = (1280, 720), (960, 720), (720, 720), (1920, 1080)
SMALL = (128, 160, 192, 256, 320)
TILES = ((2, 1), (2, 2), (3, 2))
SMALLEST_SOURCE_PX = 60  # a face that is blown up from less is a blur

Picture = NDArray[Any]  # [height, width, 3] 8-bit, blue first
Case = tuple[Picture, F32, F32]  # picture; the faces that count; all faces, [n, 4]
Looks = dict[str, list[FaceDetector]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--networks", required=True)
    parser.add_argument("--reference", default="scrfd-2.5g-kps")
    parser.add_argument("--detectors", nargs="+", default=["edgeface-detector", "scrfd-500m-kps", "scrfd-2.5g-kps"])
    arguments = parser.parse_args()
    reference = detector_of(find_card(arguments.reference, (arguments.networks,)))
    pictures = []
    for picture in looked_at(arguments.files, every=5):
        faces = reference.detect(frame_of(picture)).xyxy
        if len(faces):
            pictures.append((picture, faces))
    print(f"{len(pictures)} pictures, {sum(len(faces) for _, faces in pictures)} faces", file=sys.stderr)
    kinds = {"as they are": [(picture, faces, faces) for picture, faces in pictures]}
    for size in (WIDE, CLASSIC, SQUARE):
        for share in NEAR:
            kinds[f"near, {share:.0%} of {size[0]}x{size[1]}"] = list(near(pictures, share, size))
    kinds |= {f"tiny, {height} px": list(tiny(pictures, height)) for height in TINY}
    for name in arguments.detectors:
        with tempfile.TemporaryDirectory() as folder:
            looks = looks_of(freed(find_card(name, (arguments.networks,)), Path(folder)))
        spent = times_of(looks, frame_of(cv2.resize(pictures[0][0], WIDE)))
        print(
            f"\n{name}: found / mean IoU / false\n\n|  | faces | {' | '.join(looks)} |\n|---|---|{'---|' * len(looks)}"
        )
        print(f"| ms, to the first | | {' | '.join(f'{ms:.1f}, {ms / spent[0]:.2f}' for ms in spent)} |")
        for kind, cases in kinds.items():
            counted = sum(len(counted) for _, counted, _ in cases)
            print(f"| {kind} | {counted} | {' | '.join(cells(cases, looks))} |", flush=True)
        for height in (32, 24):
            for still, faces, _ in islice(tiny(pictures, height), 1):
                for grid in ((1, 1), *TILES):
                    shares = follow(find_card(name, (arguments.networks,)), still, faces, grid)
                    columns, rows = grid
                    print(
                        f"film, {height} px, {columns}x{rows}: {' '.join(f'{share:.2f}' for share in shares)}",
                        flush=True,
                    )


def looked_at(files: Iterable[Path], every: int) -> Iterator[Picture]:
    """The pictures, and every so many frames of the clips; a file that cannot be read is named and passed over."""
    for path in files:
        if path.suffix.lower() not in (".gif", ".mp4", ".avi", ".mkv"):
            picture = cv2.imread(str(path)) if path.is_file() else None
            if picture is None:
                print(f"{path}: no picture, passed over", file=sys.stderr)
            else:
                yield picture
            continue
        capture = cv2.VideoCapture(str(path))
        number = 0
        while (picture := capture.read()[1]) is not None:
            if number % every == 0:
                yield picture
            number += 1
        if not number:
            print(f"{path}: no clip, passed over", file=sys.stderr)


def frame_of(picture: Picture) -> Frame:
    return Frame(0, 0, picture.shape[1], picture.shape[0], "bgr8", picture)


def freed(card: Card, folder: Path) -> Card:
    """The card of a copy of its network whose height and width are free: SCRFD's files are pinned to 640x640."""
    network = onnx.load(str(onnx_path(card)))
    for side, name in zip(network.graph.input[0].type.tensor_type.shape.dim[2:], "hw", strict=True):
        side.dim_param = name
    for output in network.graph.output:
        output.type.tensor_type.ClearField("shape")
    del network.graph.value_info[:]
    onnx.save(network, str(folder / f"{card.name}.onnx"))
    return msgspec.structs.replace(card, onnx=f"{card.name}.onnx", sha256="", folders=(str(folder),))


def detector_of(card: Card, size: tuple[int, int] | None = None) -> FaceDetector:
    """The product's detector at the card's own score threshold."""
    config: Config = load_config(None, {"tracker": {"low_score_threshold": card.thresholds.score}})
    return make_detector(card, open_engine(card, size, threads=2, spinning=False), config)


def zoomed_out(frame_size: tuple[int, int], input_size: tuple[int, int]) -> F32:
    """A crop twice as large as the frame: faces are half as large in the input."""
    crop: F32 = letterbox(frame_size, input_size) * np.float32(2)
    return crop


def looks_of(card: Card) -> Looks:
    """What is looked with besides, or ("=") instead of the usual look, which is the first."""
    usual = detector_of(card)
    tiles = {
        f"+{columns}x{rows}": [
            usual.with_crop(partial(tile, fit=letterbox, grid=(columns, rows), index=index))
            for index in range(columns * rows)
        ]
        for columns, rows in TILES
    }
    return {
        "640": [usual],
        **{f"+{size}": [detector_of(card, (size, size))] for size in SMALL},
        "+zoom": [usual.with_crop(zoomed_out)],
        **tiles,
        "=1280": [detector_of(card, (1280, 1280))],
    }


def times_of(looks: Looks, frame: Frame) -> list[float]:
    """Median milliseconds of each of `looks`, without the usual one; they take turns."""
    spent: list[list[float]] = [[] for _ in looks]
    for _ in range(12):
        for times, detectors in zip(spent, looks.values(), strict=True):
            start = time.perf_counter()
            for detector in detectors:
                detector.detect(frame)
            times.append((time.perf_counter() - start) * 1e3)
    return [float(np.median(times[2:])) for times in spent]


def cells(cases: list[Case], looks: Looks) -> Iterator[str]:
    """For every look: the share of faces found, the mean IoU of those, the false boxes."""
    usual = [looks["640"][0].detect(frame_of(picture)) for picture, _, _ in cases]
    for name, detectors in looks.items():
        faces = hits = false = 0
        fit = 0.0
        for (picture, counted, every), first in zip(cases, usual, strict=True):
            frame = frame_of(picture)
            size = (frame.width, frame.height)
            found, scales = ([first], [looks["640"][0].input_scale(frame)]) if name.startswith("+") else ([], [])
            for detector in detectors:
                scales.append(detector.input_scale(frame))
                more = first if name == "640" else detector.detect(frame)
                found.append(uncut(more, detector.crop(frame)[0], size, 4 / scales[-1]) if "x" in name else more)
            xyxy = clipped(join(found, scales, 0.0).xyxy, size)
            overlap = np.max(iou(clipped(counted, size), xyxy), axis=1, initial=0)
            faces += len(counted)
            hits += int(np.count_nonzero(overlap >= 0.5))
            fit += float(overlap[overlap >= 0.5].sum())
            false += int(np.count_nonzero(np.max(iou(clipped(every, size), xyxy), axis=0, initial=0) < 0.3))
        yield f"{hits / max(faces, 1):.2f} / {fit / max(hits, 1):.2f} / {false}"


def follow(card: Card, still: Picture, faces: F32, grid: tuple[int, int]) -> list[float]:
    """Seconds 1 to 5 of a film over `still`, 1 px a frame to the left: the share of the faces that is published.

    30 frames a second, every third one a keyframe with a look at one tile of `grid`.
    """
    config = load_config(None, {})
    usual = make_detector(card, open_engine(card, None, threads=2, spinning=False), config)
    count = grid[0] * grid[1]
    tiles = [usual.with_crop(partial(tile, fit=letterbox, grid=grid, index=index)) for index in range(count)]
    detector = MultiScaleDetector([usual], tiles if count > 1 else [], sure_score=card.thresholds.score, in_a_row=2)
    pipeline = Pipeline(detector, make_tracker(card.thresholds, config), KeyframeSchedule(3), blind_timeout_s=2.0)
    size = (still.shape[1], still.shape[0])
    found = np.zeros((150, 2))
    for number in range(len(found)):
        moved = np.array([[1, 0, -number], [0, 1, 0]], np.float64)
        picture = cv2.warpAffine(still, moved, size, borderMode=cv2.BORDER_CONSTANT)
        body = pipeline.step(Frame(number, number * 33_333_333, *size, "bgr8", picture))[0][1]
        there = faces[faces[:, 0] > number] - np.array([number, 0, number, 0], np.float32)
        published = np.array([face["xyxy"] for face in body["faces"]], np.float32).reshape(-1, 4)
        found[number] = len(there), np.count_nonzero(np.max(iou(there, published), axis=1, initial=0) >= 0.5)
    seconds = found.reshape(5, 30, 2).sum(axis=1)
    return [float(share) for share in seconds[:, 1] / np.maximum(seconds[:, 0], 1)]


def clipped(xyxy: F32, size: tuple[int, int]) -> F32:
    return np.clip(xyxy, 0, [*size, *size]).astype(np.float32)


def near(pictures: Iterable[tuple[Picture, F32]], share: float, size: tuple[int, int]) -> Iterator[Case]:
    """A frame of `size` for every face that is large enough in its picture."""
    for picture, faces in pictures:
        for face in faces:
            if face[3] - face[1] < SMALLEST_SOURCE_PX:
                continue
            scale = share * min(size) / (face[3] - face[1])
            window = np.array(size) / scale
            limit = np.array(picture.shape[1::-1]) - window
            middle = (face[:2] + face[2:]) / 2
            corner = np.where(limit > 0, np.clip(middle - window / 2, 0, limit), limit / 2)
            corner = np.clip(corner, np.minimum(face[2:] - window, face[:2]), np.maximum(face[:2], face[2:] - window))
            matrix = np.array([[scale, 0, -corner[0] * scale], [0, scale, -corner[1] * scale]])
            frame = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            shift = np.tile(corner, 2).astype(np.float32)
            yield frame, (face[None] - shift) * np.float32(scale), (faces - shift) * np.float32(scale)


def tiny(pictures: list[tuple[Picture, F32]], size: float) -> Iterator[Case]:
    """Frames full of small pictures until every picture has been on one, the last one filled up from the first."""
    small = []
    for picture, faces in pictures:
        scale = size / float(np.median(faces[:, 3] - faces[:, 1]))
        if scale < 1:
            width, height = (max(round(side * scale), 1) for side in picture.shape[1::-1])
            exact = np.array([width / picture.shape[1], height / picture.shape[0]] * 2, np.float32)
            small.append((cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), faces * exact))
    queue = 0
    while queue < len(small):
        frame = np.full((LARGE[1], LARGE[0], 3), 96, np.uint8)
        found, x, y, row = [], 0, 0, 0
        while True:
            picture, faces = small[queue % len(small)]
            height, width = picture.shape[:2]
            if x + width > LARGE[0]:
                x, y, row = 0, y + row, 0
            if y + height > LARGE[1]:
                break
            frame[y : y + height, x : x + width] = picture
            found.append(faces + np.array([x, y, x, y], np.float32))
            x, row, queue = x + width, max(row, height), queue + 1
        every = np.concatenate(found)
        heights = every[:, 3] - every[:, 1]
        yield frame, every[(heights > 0.8 * size) & (heights < 1.25 * size)], every


if __name__ == "__main__":
    main()

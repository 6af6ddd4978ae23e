"""How far landmark networks are from labelled faces, beside the mean shape and the network that is shipped.

    python -m training.measure_landmarks NET [NET ...] --labels FILE ... [--mean NPZ | --shards DIR]
                                          [--boxes points detector] [--crop-scale S] [--rendered DIR]
                                          [--json FILE]

A NET is a card (its name or its .toml) or an ONNX file; the card of an ONNX file lies beside it, or the shipped one is
lent to it, with as many points as it has. Labels are what `edgeface evaluate landmarks` reads (dlib's .xml, .pts, TAO's
.json), and pictures and errors are that command's. Crops are made from boxes as a detector would put them round the
labelled points ("points"), and from a detector's own. Of 80 points the first 68 count. Errors are shares of the
distance of the outer eye corners. The mean shape lies in --mean (array `mean` [N, 2], shares of the crop), or is that
of the frontal faces of rendered shards; without either it is the mean of the other labelled faces. Sealed test sets
stay sealed: this reads what it is given. --rendered has faces-*.npz that none was trained on, whose pose and hidden
points are known.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeface import landmark_metrics
from edgeface.config import load_config
from edgeface.cpu.engine import open_engine
from edgeface.evaluate.labels import LabelledPicture, read_labels
from edgeface.evaluate.landmark_report import Faces
from edgeface.evaluate.landmarks import BoxRule, detected_boxes, place
from edgeface.face_crops import pad
from edgeface.landmarks import FaceLandmarker
from edgeface.model_card import Card, Fpenet, find_card
from edgeface.networks import make_landmarker, open_networks
from edgeface.point_sets import OUTER_EYE_CORNERS
from edgeface.values import F32, F64, Bool, Frame, Landmarks
from training import rendered_landmarks
from training.measured import config_of, find_detector, names_of, run
from training.tables import heading, percent, row

SHIPPED = "edgeface-landmarks"
MEAN = "mean shape"
POINTS = 68  # of them all, the ones that labels have
FRONTAL = 0.12  # how far the nose tip may be from the middle of the outer eye corners, along their line
FRONTAL_DEG = 15.0  # yaw and pitch of the rendered faces that make the mean shape
LOW_SCORE = 0.3  # of detections
FAR = 0.10  # a face with a larger error is placed wrongly
SIZES_PX = (0.0, 40.0, 80.0, 160.0, np.inf)  # box round the points, of the picture
_NOSE_TIP = 30

Table = dict[str, Any]


class MeanShape:
    """Puts one shape into every crop: what a network must be better than."""

    points = POINTS

    def __init__(self, shape: F64, crop_scale: float) -> None:
        self._shape, self._crop_scale = shape, crop_scale

    def locate(self, frame: Frame, xyxy: F32) -> Landmarks:
        """The points of the shape in the crops of boxes [n, 4]."""
        crops = pad(xyxy, self._crop_scale, (frame.width, frame.height)).astype(float)
        corner, side = crops[:, None, :2], crops[:, None, 2:] - crops[:, None, :2]
        xy: F32 = (corner + self._shape * side).astype(np.float32)
        return Landmarks(xy, np.ones(xy.shape[:2], np.float32))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NET")
    parser.add_argument("--labels", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--mean", type=Path, metavar="NPZ")
    parser.add_argument("--shards", type=Path, metavar="DIR", help="rendered faces-*.npz, for the mean shape")
    parser.add_argument("--boxes", nargs="+", choices=("points", "detector"), default=["points", "detector"])
    parser.add_argument("--detector", default="edgeface-detector", metavar="NET", help="whose boxes are used")
    parser.add_argument("--crop-scale", type=float, help="for what has no card, instead of the shipped one's")
    parser.add_argument("--rendered", type=Path, metavar="DIR", help="faces-*.npz that none was trained on")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, also of each face")
    given = parser.parse_args(arguments)
    pictures = [first_points(picture) for path in given.labels for picture in read_labels(path)]
    named = names_of([SHIPPED, *given.networks])
    shape = rendered_shape(given.mean, given.shards)
    report: Table = {"labels": [str(path) for path in given.labels], "rows": []}
    with ExitStack() as stack:
        detector = find_detector(given.detector, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        networks = stack.enter_context(closing(open_networks(config_of(detector, LOW_SCORE, False))))
        detected: BoxRule = partial(detected_boxes, networks.detector, networks.thresholds.score)
        for kind in given.boxes:
            rule = detected if kind == "detector" else points_boxes
            placed = {name: of_network(one, pictures, rule, given.crop_scale) for name, one in named.items()}
            about = {"boxes": kind if kind == "points" else f"{kind}, {Path(given.detector).stem}"}
            for name, faces in {
                MEAN: of_mean(shape, pictures, rule, given.crop_scale, next(iter(placed.values()))),
                **placed,
            }.items():
                report["rows"].append({"network": name} | about | figures(faces))
    print(text(report))
    if given.rendered:
        cards = {name: landmark_card(one, given.crop_scale) for name, one in named.items()}
        report["rendered"] = {name: rendered_landmarks.figures(card, given.rendered) for name, card in cards.items()}
        print(f"\n{rendered_landmarks.text(report['rendered'])}")
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n")


# --- what is placed


def first_points(picture: LabelledPicture) -> LabelledPicture:
    """The picture with the points that all labels have."""
    occluded = None if picture.occluded is None else picture.occluded[:, :POINTS]
    return replace(picture, xy=picture.xy[:, :POINTS], occluded=occluded)


def points_boxes(_: Frame, picture: LabelledPicture) -> F64:
    """Boxes [n, 4] as a detector would put them, from the labelled points: the same for every network."""
    return landmark_metrics.detector_like(picture.xy)


def of_network(network: str, pictures: Sequence[LabelledPicture], rule: BoxRule, crop_scale: float | None) -> Faces:
    """The network's points on all labelled faces. Raises ConfigError, SourceError, EngineError."""
    card = landmark_card(network, crop_scale)
    with closing(open_engine(card, None, threads=1, spinning=False)) as engine:
        landmarker: FaceLandmarker = make_landmarker(card, engine, load_config(None, {}))
        return place(landmarker, pictures, rule, False)


def landmark_card(network: str, crop_scale: float | None) -> Card:
    """The card; that of an ONNX file lies beside it, or is the shipped one's with the file's number of points.

    `crop_scale`: of an ONNX file without a card. Raises ConfigError, EngineError.
    """
    path = Path(network)
    if path.suffix != ".onnx":
        return find_card(network)
    for card_path in sorted(path.parent.glob("*.toml")):
        if f'"{path.name}"' in card_path.read_text() and (card := find_card(str(card_path))).onnx == path.name:
            return card
    card = find_card(SHIPPED)
    assert isinstance(card.decoder, Fpenet)
    card = msgspec.structs.replace(card, name=path.stem, onnx=path.name, folders=(str(path.parent),), sha256="")
    with closing(open_engine(card, None, threads=1, spinning=False)) as engine:
        points = next(shape[1] for shape in engine.outputs.values() if len(shape) == 3 and shape[2] == 2)
    scale = crop_scale or card.decoder.crop_scale
    return msgspec.structs.replace(card, decoder=msgspec.structs.replace(card.decoder, points=points, crop_scale=scale))


def of_mean(
    shape: F64 | None, pictures: Sequence[LabelledPicture], rule: BoxRule, crop_scale: float | None, shipped: Faces
) -> Faces:
    """The mean shape's points: the rendered one's in each crop, or without one the others' mean in each box."""
    if shape is not None:
        default = find_card(SHIPPED).decoder
        assert isinstance(default, Fpenet)
        return place(MeanShape(shape, crop_scale or default.crop_scale), pictures, rule, False)  # type: ignore[arg-type]
    seen: Bool = np.isfinite(shipped.boxes[:, 0])
    placed = np.full_like(shipped.placed, np.nan)
    placed[seen] = landmark_metrics.mean_shapes(shipped.truth[seen], shipped.boxes[seen])
    return replace(shipped, placed=placed)


def rendered_shape(mean: Path | None, shards: Path | None) -> F64 | None:
    """The mean shape [68, 2] in shares of the crop: that of a file, or of the frontal faces of rendered shards."""
    if mean is not None:
        with np.load(mean) as file:
            return np.asarray(file["mean"][:POINTS], float)
    if shards is None:
        return None
    found = []
    for path in sorted(shards.glob("faces-*.npz")):
        with np.load(path) as file:
            side = file["picture"].shape[2]
            frontal = (np.abs(file["pose"][:, :2]) < FRONTAL_DEG).all(axis=1)
            found.append((file["landmarks"][frontal, :POINTS] - (side - 80) / 2) / 80)  # the crop is the middle
    shape: F64 = np.concatenate(found).astype(float).mean(axis=0)
    return shape


# --- figures


def figures(faces: Faces) -> Table:
    """Shares of the distance of the outer eye corners; a face that was missed or not placed counts in none."""
    missed = np.isnan(faces.boxes[:, 0])
    fine = np.isfinite(faces.placed[:, 0, 0])
    truth = faces.truth[fine]
    errors = landmark_metrics.point_errors(faces.placed[fine], truth) / landmark_metrics.eye_distance(truth)[:, None]
    face = errors.mean(axis=1)
    front = frontal(truth)
    size = landmark_metrics.box_size(landmark_metrics.points_box(truth))
    row_of = np.digitize(size, SIZES_PX) - 1
    regions = landmark_metrics.region_means(errors, np.ones(errors.shape, bool))
    return {
        "faces": len(face),
        "missed": int(missed.sum()),
        "unplaced": int((~fine & ~missed).sum()),
        "all": mean_of(face),
        "frontal": mean_of(face[front]),
        "frontal_faces": int(front.sum()),
        "turned": mean_of(face[~front]),
        "median": None if not len(face) else float(np.median(face)),
        "above_10": mean_of((face > FAR).astype(float)),
        "regions": {name: regions[name] for name in ("chin", "brows", "nose", "eyes", "mouth")} if len(face) else {},
        "by_size": [(int((row_of == n).sum()), mean_of(face[row_of == n])) for n in range(len(SIZES_PX) - 1)],
        "each": [
            {"picture": faces.picture[n], "face": faces.row[n], "error": value}
            for n, value in zip(np.flatnonzero(fine).tolist(), face.tolist(), strict=True)
        ],
    }


def frontal(xy: F64) -> Bool:
    """Which faces [n, 68, 2] look at the camera: the nose tip is near the middle of the outer eye corners."""
    right, left = (xy[:, corner] for corner in OUTER_EYE_CORNERS)
    along = left - right
    aside = ((xy[:, _NOSE_TIP] - (right + left) / 2) * along).sum(axis=1) / (along**2).sum(axis=1)
    return np.asarray(np.abs(aside) <= FRONTAL)


def mean_of(values: F64) -> float | None:
    return float(values.mean()) if len(values) else None


# --- table


def text(report: Table) -> str:
    """Markdown: one table of the errors, one of the regions, one of the sizes."""
    rows = report["rows"]
    lines = [f"{', '.join(report['labels'])}; errors over the distance of the outer eye corners, {POINTS} points", ""]
    heads = ["boxes", "faces", "missed", "not placed", "all", "frontal", "turned", "median", "above 10 %"]
    lines += heading("network", heads)
    for one in rows:
        counts = [str(one[key]) for key in ("faces", "missed", "unplaced")]
        both = [f"{percent(one['frontal'])} ({one['frontal_faces']})", percent(one["turned"])]
        ends = [percent(one["median"]), percent(one["above_10"])]
        lines += row(one["network"], [one["boxes"], *counts, percent(one["all"]), *both, *ends])
    heads = ["jaw", "brows", "nose", "eyes", "mouth"]
    borders = pairwise(SIZES_PX)
    sizes = [f"{low:.0f}-{high:.0f} px" if np.isfinite(high) else f"{low:.0f}+ px" for low, high in borders]
    lines += ["", *heading("network", ["boxes", *heads, *sizes])]
    for one in rows:
        cells = [percent(value) for value in one["regions"].values()] or ["-"] * len(heads)
        cells += [f"{percent(value)} ({count})" for count, value in one["by_size"]]
        lines += row(one["network"], [one["boxes"], *cells])
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)

"""`edgeface evaluate landmarks`: how far the landmarks are from labelled ones, beside those of the mean face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from edgeface import __version__, landmark_metrics
from edgeface.config import Config
from edgeface.errors import ConfigError, EngineError
from edgeface.evaluate.labels import LabelledPicture, demo_labels, frames, read_labels
from edgeface.evaluate.landmark_report import Faces, Report, figures, worst_by
from edgeface.landmarks import FaceLandmarker
from edgeface.networks import Networks, open_networks, score_thresholds
from edgeface.point_sets import NAMED
from edgeface.seams import Detector
from edgeface.source_uri import PICTURES
from edgeface.values import F32, F64, Frame

BoxRule = Callable[[Frame, LabelledPicture], F64]  # xyxy [n, 4], one for each labelled face
DEMO_STEP = 10  # every which frame of the demo clip counts, unless told
SHIFTS, SCALES = (0.0, 0.05, 0.10, 0.15, 0.20), (0.8, 0.9, 1.0, 1.1, 1.25)


def of_labels(
    config: Config,
    path: Path | None,
    *,
    folder: Path | None = None,
    boxes: str = "detector",
    every: int | None = None,
    jitter: bool = False,
    sheet_path: Path | None = None,
) -> Report:
    """The report on the labels at `path` (None: the demo clip), of which every n-th picture counts.

    `folder`: from where the labels name pictures; `boxes`: see `box_rule`.
    Raises ConfigError, SourceError, EngineError.
    """
    if config.landmarks.card == "none":
        raise ConfigError('landmarks.card is "none": nothing to evaluate')
    if config.detector.tiles != (1, 1):
        raise ConfigError("detector.tiles take turns from frame to frame; to evaluate pictures set [1, 1]")
    if sheet_path is not None and sheet_path.suffix.lower() not in PICTURES:
        raise ConfigError(f"{sheet_path}: cannot be written: expected a name that ends in .png or .jpg")
    pictures = demo_labels() if path is None else read_labels(path, folder)
    pictures = pictures[:: every or (DEMO_STEP if path is None else 1)]
    with closing(open_networks(config)) as networks:
        assert networks.landmarker is not None  # its card is not "none"
        faces = place(networks.landmarker, pictures, box_rule(boxes, networks, config), jitter)
    about = {
        "edgeface": __version__,
        "labels": "demo:" if path is None else str(path),
        "pictures": len(pictures),
        "detector": networks.facts["detector"],
        "landmarks": networks.facts["landmarks"],
        "boxes": boxes,
    }
    if sheet_path is not None:
        write_sheet(sheet_path, faces, pictures)
    return about | figures(faces)


def place(landmarker: FaceLandmarker, pictures: Sequence[LabelledPicture], boxes: BoxRule, jitter: bool) -> Faces:
    """The landmarks of all labelled faces. Raises ConfigError, SourceError, EngineError."""
    count = common_points(pictures[0].xy.shape[1], landmarker.points)
    used, placed = [], []
    jittered: dict[str, list[F64]] = {}
    for frame, picture in frames(pictures):
        truth = picture.xy[:, :count]
        box = boxes(frame, picture)
        xy = _locate(landmarker, frame, box)[:, :count]
        used.append(box)
        placed.append(xy)
        for name, moved in jitters(box) if jitter else ():  # [k, n, 4]
            found = _locate(landmarker, frame, moved.reshape(-1, 4))[:, :count].reshape(len(moved), *truth.shape)
            errors = np.stack([landmark_metrics.point_errors(one, truth).mean(axis=1) for one in found], axis=1)
            jittered.setdefault(name, []).append(errors)
    said = [picture.occluded for picture in pictures if picture.occluded is not None]
    counts = ~np.concatenate(said)[:, :count] if said else None
    return Faces(
        picture=[picture.name for picture in pictures for _ in picture.xy],
        row=[row for picture in pictures for row in range(len(picture.xy))],
        truth=np.concatenate([picture.xy[:, :count] for picture in pictures]),
        counts=counts,
        boxes=np.concatenate(used),
        placed=np.concatenate(placed),
        jitter={name: np.concatenate(errors) for name, errors in jittered.items()},
    )


def common_points(labelled: int, network: int) -> int:
    """How many points, from the first on, labels and network have in common. Raises ConfigError."""
    if labelled != network and not {labelled, network} <= set(NAMED):
        raise ConfigError(f"the labels have {labelled} points and the network {network}: expected equal numbers")
    return min(labelled, network)


def jitters(boxes: F64) -> list[tuple[str, F64]]:
    """Moved and scaled boxes [k, n, 4] of boxes [n, 4], by what was done."""
    shifts = [(f"shift {share:.0%}", landmark_metrics.shifted(boxes, share)[: 8 if share else 1]) for share in SHIFTS]
    return shifts + [(f"scale {factor}", landmark_metrics.scaled(boxes, factor)[None]) for factor in SCALES]


def box_rule(kind: str, networks: Networks, config: Config) -> BoxRule:
    """What the crops are made from: the boxes of the "detector", those of the "labels", or those round the "points"."""
    if kind == "points":
        return lambda _, picture: landmark_metrics.points_box(picture.xy)
    if kind == "labels":
        return lambda _, picture: _label_boxes(picture)
    return partial(detected_boxes, networks.detector, score_thresholds(networks.thresholds, config)[1])


def _label_boxes(picture: LabelledPicture) -> F64:
    """A face whose label has no box gets one as a detector would put it."""
    without = np.isnan(picture.xyxy).any(axis=1, keepdims=True)
    return np.where(without, landmark_metrics.detector_like(picture.xy), picture.xyxy)


def detected_boxes(detector: Detector, score_threshold: float, frame: Frame, picture: LabelledPicture) -> F64:
    """Those of at least `score_threshold`; NaN for a face that is missed."""
    try:
        seen = detector.detect(frame)
    except EngineError as error:
        raise EngineError(f"{picture.name}: {error}") from error
    found: F64 = seen.xyxy[seen.score >= score_threshold].astype(float)
    which = landmark_metrics.matches(landmark_metrics.detector_like(picture.xy), found)
    boxes: F64 = np.concatenate([found, np.full((1, 4), np.nan)])[which]
    return boxes


def _locate(landmarker: FaceLandmarker, frame: Frame, boxes: F64) -> F64:
    """The points [n, N, 2] in boxes [n, 4]; NaN where there is no box."""
    xyxy: F32 = boxes.astype(np.float32)
    return landmarker.locate(frame, xyxy).xy.astype(float)


def write_sheet(path: Path, faces: Faces, pictures: Sequence[LabelledPicture]) -> None:
    """The worst faces first, those that were missed last."""
    from edgeface.evaluate import sheet

    error = worst_by(faces)
    order = np.argsort(np.where(np.isnan(error), np.inf, -error), kind="stable")[: sheet.MOST_FACES].tolist()
    of = np.repeat(np.arange(len(pictures)), [len(picture.xy) for picture in pictures])
    tiles = {}
    wanted = sorted({int(of[row]) for row in order})
    for number, (frame, _) in zip(wanted, frames([pictures[number] for number in wanted]), strict=True):
        for row in [row for row in order if of[row] == number]:
            said = "not placed" if np.isnan(error[row]) else f"{error[row]:.1%}"
            caption = f"{said}  {Path(faces.picture[row]).name}, face {faces.row[row]}"
            tiles[row] = sheet.tile(frame, faces.truth[row], faces.placed[row], caption)
    sheet.write(path, [tiles[row] for row in order])

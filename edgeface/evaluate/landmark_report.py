"""The report on placed landmarks: figures for machines, a table for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeface import landmark_metrics
from edgeface.values import F64, Bool

Report = dict[str, Any]

_COLUMNS = f"{'not occluded':>14}{'of the eyes':>13}"


@dataclass(frozen=True, slots=True)
class Faces:
    """What was placed on labelled faces, one row each."""

    picture: list[str]  # [n]
    row: list[int]  # [n] of the face in its picture
    truth: F64  # [n, N, 2] pixels of the picture
    counts: Bool | None  # [n, N] not occluded; None: the labels do not say
    boxes: F64  # [n, 4] what the crop was made from; NaN: the detector missed the face
    placed: F64  # [n, N, 2]; NaN: missed, or the network's numbers mean nothing
    jitter: dict[str, F64]  # of moved and scaled boxes, the mean errors [n, k] in pixels


def figures(faces: Faces) -> Report:
    """Counts, then the figures of edgeface.landmark_metrics for the faces that were placed."""
    missed: Bool = np.isnan(faces.boxes[:, 0])
    fine: Bool = np.isfinite(faces.placed[:, 0, 0])
    truth, boxes = faces.truth[fine], faces.boxes[fine]
    counts = np.ones(truth.shape[:2], bool) if faces.counts is None else faces.counts[fine]
    errors = landmark_metrics.point_errors(faces.placed[fine], truth)
    of_eyes, of_box = _shares(errors.mean(axis=1), truth)
    rows = zip(np.flatnonzero(fine).tolist(), _or_none(of_eyes), _or_none(of_box), strict=True)
    mean_shape = None
    if len(truth) > 1:
        of_others = landmark_metrics.point_errors(landmark_metrics.mean_shapes(truth, boxes), truth)
        mean_shape = _figures(of_others, counts, truth)
    return {
        "points": truth.shape[1],
        "labelled_faces": len(missed),
        "missed_faces": int(missed.sum()),
        "unplaced_faces": int((~fine & ~missed).sum()),
        "faces": len(truth),
        "occlusion_labelled": faces.counts is not None,
        "network": _figures(errors, counts, truth),
        "mean_shape": mean_shape,
        "jitter": {name: _jitter_figures(errors, faces.truth) for name, errors in faces.jitter.items()} or None,
        "each": [
            {"picture": faces.picture[row], "face": faces.row[row], "nme_eyes": eyes, "nme_box": box}
            for row, eyes, box in rows
        ],
        "missed": [{"picture": faces.picture[row], "face": faces.row[row]} for row in np.flatnonzero(missed).tolist()],
    }


def worst_by(faces: Faces) -> F64:
    """The error [n] by which faces are ordered, over the distance of the eyes, else over the box; NaN: not placed."""
    of_eyes, of_box = _shares(landmark_metrics.point_errors(faces.placed, faces.truth).mean(axis=1), faces.truth)
    return of_box if np.isnan(of_eyes).all() else of_eyes


def table(report: Report) -> str:
    """The report as people read it."""
    occluded = "" if report["occlusion_labelled"] else "; occlusion is not labelled"
    found = f"{report['detector']}, which missed {report['missed_faces']}" if report["boxes"] == "detector" else "none"
    both = [(name.replace("_", " "), report[name]) for name in ("network", "mean_shape") if report[name] is not None]
    lines = [
        f"edgeface {report['edgeface']}: {report['landmarks']} on {report['labels']}, boxes: {report['boxes']}",
        f"{report['labelled_faces']} faces in {report['pictures']} pictures; detector: {found}; "
        f"not placed: {report['unplaced_faces']}; evaluated: {report['faces']}{occluded}",
        "",
        f"{'mean error':<12}" + "".join(f"{name + ', px':>15}{_COLUMNS}" for name, _ in both),
    ]
    for region in report["network"]["regions_px"]:
        cells = [
            f"{_number(one['regions_px'][region]):>15}{_number(one['regions_px_not_occluded'][region]):>14}"
            f"{_percent(one['regions_of_eyes'][region]):>13}"
            for _, one in both
        ]
        lines.append(f"{region.capitalize():<12}" + "".join(cells))
    columns = ("mean", "median", "p90", "above_8", "above_10", "auc_8")
    heads = ("mean", "median", "90 %", "above 8 %", "above 10 %", "AUC at 8 %")
    lines += ["", f"{'error of a face':<27}" + "".join(f"{head:>12}" for head in heads)]
    for key, of in (("nme_eyes", "of the eyes"), ("nme_box", "of the box")):
        for name, one in both:
            cells = [_percent(None if one[key] is None else one[key][column]) for column in columns]
            lines.append(f"{of + ', ' + name:<27}" + "".join(f"{cell:>12}" for cell in cells))
    if report["jitter"] is not None:
        lines += ["", f"{'boxes':<12}{'of the eyes':>13}{'of the box':>13}{'crops':>8}"]
        for name, one in report["jitter"].items():
            lines.append(f"{name:<12}{_percent(one['nme_eyes']):>13}{_percent(one['nme_box']):>13}{one['crops']:>8}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _shares(errors: F64, truth: F64) -> tuple[F64, F64]:
    """Mean errors [n, ...] of faces over the distance of their outer eye corners, and over the size of their box."""
    eyes = landmark_metrics.eye_distance(truth)
    size = landmark_metrics.box_size(landmark_metrics.points_box(truth))
    shape = (-1, *[1] * (errors.ndim - 1))
    return errors / eyes.reshape(shape), errors / size.reshape(shape)


def _figures(errors: F64, counts: Bool, truth: F64) -> Report:
    of_eyes, _ = _shares(errors, truth)
    nme_eyes, nme_box = _shares(errors.mean(axis=1), truth)
    every = np.ones_like(counts)
    return {
        "regions_px": _plain(landmark_metrics.region_means(errors, every)),
        "regions_px_not_occluded": _plain(landmark_metrics.region_means(errors, counts)),
        "regions_of_eyes": _plain(landmark_metrics.region_means(of_eyes, every)),
        "nme_eyes": _summary(nme_eyes),
        "nme_box": _summary(nme_box),
    }


def _jitter_figures(errors: F64, truth: F64) -> Report:
    """The means over all faces and directions [n, k] that have points."""
    fine = np.isfinite(errors)
    of_eyes, of_box = (share[fine] for share in _shares(errors, truth))
    eyes, box = (float(share.mean()) if len(share) else np.nan for share in (of_eyes, of_box))
    return _plain({"nme_eyes": eyes, "nme_box": box}) | {"crops": int(fine.sum())}


def _summary(values: F64) -> Report | None:
    found = landmark_metrics.summary(values[np.isfinite(values)])
    return None if found is None else asdict(found)


def _plain(means: dict[str, float]) -> Report:
    return dict(zip(means, _or_none(np.array(list(means.values()))), strict=True))


def _or_none(values: F64) -> list[float | None]:
    """JSON has no NaN."""
    return [value if np.isfinite(value) else None for value in values.tolist()]

"""A landmark network on rendered faces that it was not trained on: errors by pose, skin, light and what is hidden."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgeface.config import load_config
from edgeface.cpu.engine import open_engine
from edgeface.model_card import Card, Fpenet
from edgeface.networks import make_landmarker
from edgeface.values import F64, Bool, Frame
from training.face_kinds import ALBEDO, SEEN, YAW_DEG, Kinds, rows
from training.tables import heading, percent, row

NARROWEST = 12.0  # pixels of a crop of 80: what a profile's eyes are taken to be apart
DIM_BRIGHT = ((60.0, 190.0), ("0-60", "60-190", "190-255"))  # mean luma of the crop
BINS = 10  # of the calibration error

Table = dict[str, Any]


def figures(card: Card, folder: Path) -> Table:
    """Errors over the distance of the outer eye corners, and how well the scores foretell what is seen.

    `folder` has faces-*.npz. Errors are those of the points that are seen; of all points under `all_points`.
    `seen_error` is the expected calibration error (Guo et al. 2017). Raises EngineError.
    """
    assert isinstance(card.decoder, Fpenet)
    found: list[F64] = []
    seen: list[Bool] = []
    scores: list[F64] = []
    kinds: Kinds = {}
    with closing(open_engine(card, None, threads=1, spinning=False)) as engine:
        landmarker = make_landmarker(card, engine, load_config(None, {}))
        for picture, truth, visible, like in faces(folder):
            size = picture.shape[0]
            half = 40 / card.decoder.crop_scale
            box = np.array([[size / 2 - half, size / 2 - half, size / 2 + half, size / 2 + half]], np.float32)
            frame = Frame(0, 0, size, size, "bgr8", cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR))
            placed = landmarker.locate(frame, box)
            between = max(NARROWEST, float(np.hypot(*(truth[36] - truth[45]))))
            points = placed.xy.shape[1]
            found.append(np.hypot(*np.moveaxis(placed.xy[0] - truth[:points], 1, 0)).astype(float) / between)
            seen.append(visible[:points])
            scores.append(placed.score[0].astype(float))
            for name, value in like.items():
                kinds.setdefault(name, []).append(value)
    errors, shown, score = np.array(found), np.array(seen), np.array(scores)
    face = np.array([one[which].mean() for one, which in zip(errors, shown, strict=True)])
    return {
        "faces": len(face),
        "seen_points": float(face.mean()),
        "all_points": float(errors.mean()),
        "seen_error": calibration_error(score.ravel(), shown.ravel()),
        "by_kind": {
            name: {
                which: [values.count(which), float(face[np.array(values) == which].mean())]
                for which in sorted(set(values))
            }
            for name, values in kinds.items()
        },
    }


def faces(folder: Path) -> Iterator[tuple[Any, F64, Bool, dict[str, str]]]:
    """Picture, points, which are seen, and what the face is like; those of which nothing is seen are left out."""
    for path in sorted(folder.glob("faces-*.npz")):
        with np.load(path) as file:
            arrays = {name: file[name] for name in ("picture", "landmarks", "visible", "pose", "skin", "eyes")}
        side = arrays["picture"].shape[1]
        margin = (side - 80) // 2
        within = ((arrays["landmarks"] >= margin) & (arrays["landmarks"] <= side - margin)).all(axis=2)
        seen = arrays["visible"].astype(bool) & within
        lumas = arrays["picture"].mean(axis=(1, 2))
        like = {
            "yaw": rows(np.abs(arrays["pose"][:, 0]), YAW_DEG),
            "points seen": rows(seen.mean(axis=1), SEEN),
            "skin": rows(arrays["skin"], ALBEDO),
            "mean luma": rows(lumas, DIM_BRIGHT),
            "eyes": ["open" if openness > 0.3 else "closed" for openness in arrays["eyes"].mean(axis=1)],
        }
        for number in np.flatnonzero(seen.any(axis=1)).tolist():
            here = {name: values[number] for name, values in like.items()}
            yield arrays["picture"][number], arrays["landmarks"][number].astype(float), seen[number], here


def calibration_error(score: F64, happened: Bool) -> float:
    """Mean distance of the scores from how often what they foretell happened, over `BINS` bins weighed by size."""
    place = np.clip((score * BINS).astype(int), 0, BINS - 1)
    gap = np.bincount(place, weights=score - happened, minlength=BINS)
    return float(np.abs(gap).sum() / max(len(score), 1))


def text(networks: dict[str, Table]) -> str:
    """Markdown."""
    first = next(iter(networks.values()))
    lines = heading(f"{first['faces']} rendered faces, points that are seen", list(networks))
    lines += row("all", [percent(one["seen_points"]) for one in networks.values()])
    for name, kinds in first["by_kind"].items():
        for which, (count, _) in kinds.items():
            cells = [percent(one["by_kind"][name][which][1]) for one in networks.values()]
            lines += row(f"{name} {which} ({count})", cells)
    lines += row("hidden points, too", [percent(one["all_points"]) for one in networks.values()])
    lines += row("calibration error of the scores", [percent(one["seen_error"]) for one in networks.values()])
    return "\n".join(lines)

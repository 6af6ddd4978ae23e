"""The report on detectors' agreement: figures for machines, Markdown tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from training import detector_agreement as agreement
from training.detector_agreement import Look
from training.tables import heading, number, row

CURVE = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SIZES = [
    f"{low:.0f}-{high:.0f} px" if np.isfinite(high) else f"{low:.0f}+ px" for low, high in pairwise(agreement.SIZES_PX)
]
EDGES = ("left", "top", "right", "bottom")

Table = dict[str, Any]


def figures(looks: Sequence[Look], threshold: float) -> Table:
    """All that is told of one network, at its card's threshold and along the curve."""
    faces = [one for one in looks if one.kind == "faces"]
    empty = [one for one in looks if one.kind != "faces"]
    table: Table = {"threshold": threshold, "pictures": len(faces), "pictures_without_faces": len(empty)}
    if faces:
        table["by_size"] = agreement.by_size(faces, threshold)
        table["recall"] = agreement.recall(faces, threshold)
        table["by_kind"] = agreement.by_kind(faces, threshold)
        shape = agreement.geometry(faces, threshold)
        table["geometry"] = None if shape is None else plain(shape)
        table["recall_at"] = {str(rate): agreement.recall_at(looks, rate) for rate in agreement.FALSE_RATES}
    table["false"] = {kind: rate_of(looks, kind, threshold) for kind in dict.fromkeys(one.kind for one in looks)}
    table["curve"] = [
        {
            "threshold": value,
            "recall": agreement.recall(faces, value) if faces else None,
            "false": false_rate(faces, value),
            "false_without_faces": false_rate(empty, value),
        }
        for value in CURVE
    ]
    return table


def plain(shape: agreement.Geometry) -> Table:
    return {key: np.asarray(getattr(shape, key)).tolist() for key in shape.__slots__}


def rate_of(looks: Sequence[Look], kind: str, threshold: float) -> tuple[float, int]:
    of_kind = [one for one in looks if one.kind == kind]
    return false_rate(of_kind, threshold), len(of_kind)


def false_rate(looks: Sequence[Look], threshold: float) -> float:
    """False boxes a picture."""
    return sum(agreement.false_boxes(one, threshold) for one in looks) / max(len(looks), 1)


def text(report: Table) -> str:
    """The report as people read it, in Markdown."""
    networks = report["networks"]
    first = next(iter(networks.values()))
    at = {name: f"{name} @ {one['threshold']:g}" for name, one in networks.items()}
    lines = [
        f"{first['pictures']} pictures and frames, {first['pictures_without_faces']} without faces ({report['half']}); "
        f"reference: {report['reference']}"
    ]
    if "by_size" in first:
        sizes = [f"{size} ({there})" for size, (_, there) in zip(SIZES, first["by_size"], strict=True)]
        lines += ["", *heading("found of", sizes, "all", "false a picture")]
        for name, one in networks.items():
            shares = [number(hit / there if there else None) for hit, there in one["by_size"]]
            lines += row(at[name], shares, number(one["recall"]), number(one["false"]["faces"][0]))
        if first["by_kind"]:
            lines += ["", *heading(f"found of faces of {agreement.LARGE_PX:.0f} px and more", list(at.values()))]
        for name, rows in first["by_kind"].items():
            for which, (_, there) in rows.items():
                hits = [one["by_kind"][name][which][0] for one in networks.values()]
                lines += row(f"{name} {which} ({there})", [number(hit / there) for hit in hits])
        rates = [f"{rate:g}" for rate in agreement.FALSE_RATES]
        lines += ["", *heading("recall at false boxes a picture, all kinds", rates)]
        for name, one in networks.items():
            lines += row(name, [f"{share:.2f} @ {value:.2f}" for share, value in one["recall_at"].values()])
        lines += ["", *heading("on the same faces", ["faces", "IoU", "size ratio", *EDGES, "points, of the size"])]
        for name, one in networks.items():
            lines += row(name, geometry_cells(one["geometry"]))
    kinds = [kind for kind in first["false"] if kind != "faces"]
    if kinds:
        counts = [f"{kind} ({first['false'][kind][1]})" for kind in kinds]
        lines += ["", *heading("false boxes a picture without faces", counts)]
        for name, one in networks.items():
            lines += row(at[name], [number(one["false"][kind][0]) for kind in kinds])
    thresholds = [f"{value:g}" for value in CURVE]
    lines += ["", *heading("found / false a picture / without faces, at", thresholds)]
    for name, one in networks.items():
        shares = [(point["recall"], point["false"], point["false_without_faces"]) for point in one["curve"]]
        lines += row(name, [" / ".join(map(number, share)) for share in shares])
    return "\n".join(lines)


def geometry_cells(shape: Table | None) -> list[str]:
    """Medians, and in brackets the share of faces within 5 %."""
    if shape is None:
        return ["0", *["-"] * 7]
    edges = [f"{at:+.1%} ({within:.0%})" for at, within in zip(shape["edges"], shape["edges_within"], strict=True)]
    points = " ".join(f"{one:.1%}" for one in shape["points"]) or "-"
    return [
        str(shape["faces"]),
        f"{shape['iou']:.2f}",
        f"{shape['size_ratio']:.3f} ({shape['size_within']:.0%})",
        *edges,
        points,
    ]

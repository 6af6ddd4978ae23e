"""The figures of docs/landmarks.md: how landmarks hold tracks between looks, and what they cost.

    python scripts/measure_landmarks.py [hold cost] [--pictures FOLDER ...] [--json FILE]

Prints Markdown. hold takes 12 minutes on two cores with six pictures, cost one. Without pictures there is the demo clip
alone. Compare times by ratio and within one run.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import landmark_cost
import numpy as np
from landmark_hold import HELD, RULES, SHIPPED, WAYS, Figures, mean, rule, run
from landmark_trust import WALL, trusted, vanished
from pan_films import DEMO, FACE_PX, SPEEDS, Film, demo, pans

from edgeface import __version__
from edgeface.config import Config, load_config
from edgeface.networks import Networks, open_networks

INTERVALS = ("3", "5", "10", "adaptive")
COUNTS, SIZES_PX = (1, 5, 10, 30), (60, 120, 240)
MIDDLE_PX = 120
BUDGET_US = 60
AGAIN = "locate again, network left out"
PHASES = 5
SEED = 100
MEDIUM = "pans, medium"  # on these and on the demo clip faces vanish
LONG = "10"  # the interval of the trust rule's tables

Table = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="hold, cost")
    parser.add_argument("--pictures", type=Path, nargs="+", default=[], metavar="FOLDER", help="pictures to pan over")
    parser.add_argument("--intervals", nargs="+", default=list(INTERVALS), metavar="N", help="also 'adaptive'")
    parser.add_argument("--frames", type=int, default=300, help="of the demo clip")
    parser.add_argument("--rounds", type=int, default=40, help="of what is timed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    given = parser.parse_args(arguments)
    if unknown := set(given.sections) - {"hold", "cost"}:
        parser.error(f"no section {', '.join(unknown)}: expected hold, cost")
    report: Table = {"edgeface": __version__}
    if "hold" in (given.sections or ["hold"]):
        report["hold"] = hold(given.pictures, given.intervals, given.frames)
        print(hold_text(report["hold"]), flush=True)
    if "cost" in (given.sections or ["cost"]):
        report["cost"] = landmark_cost.measure(COUNTS, SIZES_PX, given.rounds)
        print(cost_text(report["cost"]), flush=True)
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n")


# --- hold


def hold(folders: Sequence[Path], intervals: Sequence[str], frames: int) -> Table:
    """Runs in every way, the trust rule without its conditions, boxes tried on faces and walls, faces that vanish."""
    runs: dict[tuple[str, str, str], list[Figures]] = defaultdict(list)  # group, interval, way
    ruled: dict[tuple[str, str], list[Figures]] = defaultdict(list)  # group, rule
    tried: dict[tuple[str, str], list[tuple[bool, float, float]]] = defaultdict(list)  # kind of film, what
    lasted: dict[tuple[str, str], list[int]] = defaultdict(list)  # group, way
    with closing(open_networks(load_config(None, {}))) as networks:
        for film in _films(folders, networks, frames):
            for interval in intervals:
                for way in WAYS:
                    runs[film.group, interval, way] += _runs(film, networks, interval, way)
            for name in RULES:
                with rule(name):
                    ruled[film.group, name] += _runs(film, networks, LONG, HELD)
            for what, said in trusted(film, networks, SEED).items():
                tried[film.group.partition(",")[0], what] += said
            if film.group in (DEMO, MEDIUM):
                for way in (HELD, SHIPPED):
                    lasted[film.group, way] += vanished(film, networks, _config(LONG), way, SEED)
    return {
        "runs": [
            {"films": group, "interval": interval, "way": way, "runs": len(each)} | asdict(mean(each))
            for (group, interval, way), each in runs.items()
        ],
        "rules": [
            {"films": group, "rule": name, "interval": LONG} | asdict(mean(each))
            for (group, name), each in ruled.items()
        ],
        "trust": [
            {"films": kind, "what": what, "boxes": len(said), "trusted": float(np.mean([ok for ok, *_ in said]))}
            | {"iou_before": _of_trusted(said, 1), "iou_after": _of_trusted(said, 2)}
            for (kind, what), said in tried.items()
        ],
        "vanished": [
            {"films": group, "way": way, "faces": len(held), "still_held": float(np.mean(np.array(held) > 0))}
            | {"mean_frames": float(np.mean(held)), "p90": float(np.percentile(held, 90)), "most": max(held)}
            for (group, way), held in lasted.items()
        ],
    }


def _films(folders: Sequence[Path], networks: Networks, frames: int) -> Iterator[Film]:
    yield demo(networks, frames)
    yield from pans(folders, networks, SEED)


def _config(interval: str) -> Config:
    number = int(interval) if interval.isdigit() else interval
    return load_config(None, {"tracker": {"keyframe_interval": number, "smoothing": False}})


def _runs(film: Film, networks: Networks, interval: str, way: str) -> list[Figures]:
    """A run of a pan; of the demo clip one for each of PHASES first frames."""
    step = max(int(interval) // PHASES, 1) if interval.isdigit() else 1
    starts = range(0, PHASES * step, step) if film.group == DEMO else [0]
    return [run(film, networks, _config(interval), way, start) for start in starts]


def _of_trusted(said: list[tuple[bool, float, float]], column: int) -> float | None:
    shares = [each[column] for each in said if each[0]]
    return float(np.mean(shares)) if shares else None


def hold_text(report: Table) -> str:
    speeds = ", ".join(f"{name} {peak:g} ({peak * FACE_PX:.0f} px/s)" for name, peak in SPEEDS.items())
    lines = [
        f"Pans: faces of {FACE_PX} px; box sizes a second at the peak: {speeds}. A cell: mean IoU, share from 0.5 on "
        "(both without the frames looked at) / IDF1 / id switches, false boxes a run / share of the frames looked at.",
        "",
        f"| films, look at every | {' | '.join(WAYS)} |",
        "|---" * (len(WAYS) + 1) + "|",
    ]
    cells: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in report["runs"]:
        cells[f"{row['films']} ({row['runs']} runs)", row["interval"]].append(_cell(row))
    lines += [f"| {films}, {interval} | {' | '.join(each)} |" for (films, interval), each in cells.items()]
    groups = list(dict.fromkeys(row["films"] for row in report["rules"]))
    lines += ["", f"Without early looks, every {LONG}th frame; mean IoU / IDF1 / switches, false boxes a run:", ""]
    lines += [f"| trusted | {' | '.join(groups)} |", "|---" * (len(groups) + 1) + "|"]
    for name in RULES:
        rows = [row for row in report["rules"] if row["rule"] == name]
        texts = [f"{r['iou']:.3f} / {r['idf1']:.3f} / {r['switches']:.1f}, {r['false']:.1f}" for r in rows]
        lines.append(f"| {name} | {' | '.join(texts)} |")
    lines += [
        "",
        "| box | films | boxes | trusted | IoU of these with the face, before -> after |",
        "|---|---|---|---|---|",
    ]
    for row in report["trust"]:
        after = (
            ""
            if row["what"] == WALL or row["iou_after"] is None
            else f"{row['iou_before']:.2f} -> {row['iou_after']:.2f}"
        )
        lines.append(f"| {row['what']} | {row['films']} | {row['boxes']} | {row['trusted']:.1%} | {after} |")
    lines += ["", "| vanished faces | way | faces | held for a frame or more | frames held: mean | 90 % | most |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in report["vanished"]:
        figures = f"{row['still_held']:.0%} | {row['mean_frames']:.2f} | {row['p90']:.0f} | {row['most']}"
        lines.append(f"| {row['films']} | {row['way']} | {row['faces']} | {figures} |")
    return "\n".join([*lines, ""])


def _cell(row: Table) -> str:
    return (
        f"{row['iou']:.3f}, {row['above_half']:.3f} / {row['idf1']:.3f} / "
        f"{row['switches']:.1f}, {row['false']:.1f} / {row['looks']:.2f}"
    )


# --- cost


def cost_text(report: Table) -> str:
    rows = [row for row in report["us"] if row["size_px"] == MIDDLE_PX]
    counts = [f"{row['faces']} face{'s' if row['faces'] > 1 else ''}" for row in rows]
    stages = [stage for stage in rows[0] if stage not in ("faces", "size_px")]
    lines = [
        f"us a frame (a face); faces of {MIDDLE_PX} px on 1280x720, {report['threads']} threads.",
        "",
        f"| stage | {' | '.join(counts)} |",
        "|---" * (len(counts) + 1) + "|",
    ]
    lines += [f"| {stage} | {' | '.join(_us(row, stage) for row in rows)} |" for stage in stages]
    lines += ["", f"| us a face outside inference, budget {BUDGET_US}; again in warm caches | {' | '.join(counts)} |"]
    lines.append("|---" * (len(counts) + 1) + "|")
    for px in dict.fromkeys(row["size_px"] for row in report["us"]):
        each = [
            " ".join(f"{row[stage] / row['faces']:.0f}" for stage in ("outside inference", AGAIN))
            for row in report["us"]
            if row["size_px"] == px
        ]
        lines.append(f"| {px} px | {' | '.join(each)} |")
    return "\n".join([*lines, ""])


def _us(row: Table, stage: str) -> str:
    return f"{row[stage]:.0f} ({row[stage] / row['faces']:.1f})"


if __name__ == "__main__":
    main()

"""Generate short sequences, let TrackEval judge them, write tests/golden/metrics.json.

    pip install trackeval==1.3.0 && python scripts/make_metrics_golden.py

`trackeval_figures` gives TrackEval's figures for any two MOTChallenge texts under the names that edgeface uses.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from trackeval import Evaluator
from trackeval.datasets import MotChallenge2DBox
from trackeval.metrics import CLEAR, HOTA, Identity

TARGET = Path(__file__).parent.parent / "tests" / "golden" / "metrics.json"
SEQUENCES: dict[str, dict[str, Any]] = {
    "switches": {"seed": 1, "swaps": 0.2, "misses": 0.15, "marks": True},
    "gaps": {"seed": 2, "gaps": True, "swaps": 0.05, "misses": 0.1},
    "loose": {"seed": 3, "noise": 0.12, "clutter": 0.6, "misses": 0.3, "swaps": 0.05},
    "crowded": {"seed": 7, "field": 20, "noise": 0.15, "misses": 0.2, "swaps": 0.1},
    "hidden": {"seed": 4, "noise": 0.06, "clutter": 0.3, "hidden": True},
}
NAMES = {  # edgeface's -> TrackEval's
    "HOTA": {"hota": "HOTA", "deta": "DetA", "assa": "AssA", "loca": "LocA"},
    "Identity": {"idf1": "IDF1", "idp": "IDP", "idr": "IDR"},
    "CLEAR": {
        "mota": "MOTA",
        "motp": "MOTP",
        "recall": "CLR_Re",
        "precision": "CLR_Pr",
        "id_switches": "IDSW",
        "fragmentations": "Frag",
        "false_positives": "CLR_FP",
        "misses": "CLR_FN",
        "mostly_tracked": "MT",
        "mostly_lost": "ML",
    },
}


def main() -> None:
    golden = {}
    for name, settings in SEQUENCES.items():
        truth, tracks = sequence(**settings)
        hidden = settings.get("hidden", False)
        golden[name] = {"truth": truth, "tracks": tracks, "hidden": hidden}
        golden[name]["trackeval"] = trackeval_figures("\n".join(truth), "\n".join(tracks), hidden=hidden)
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(golden, indent=0) + "\n")


def sequence(
    seed: int,
    *,
    faces: int = 4,
    frames: int = 30,
    field: float = 200,
    noise: float = 0.03,
    misses: float = 0.05,
    clutter: float = 0.1,
    swaps: float = 0.0,
    gaps: bool = False,
    marks: bool = False,
    hidden: bool = False,
) -> tuple[list[str], list[str]]:
    """Lines of truth and of tracks: faces that cross a field, some of them late; pixels.

    `noise` is a share of the size; `misses`, `clutter` (a box on nobody) and `swaps` (two faces exchange their tracks,
    or one gets a new track) are chances a frame. `gaps`: frames without truth, without tracks, without both. `marks`:
    some true boxes are marked 0. `hidden`: some are MOT17's distractors.
    """
    rng = np.random.default_rng(seed)
    place, speed = rng.uniform(0, field, (faces, 2)), rng.normal(0, 4, (faces, 2))
    size, first = rng.uniform(30, 80, (faces, 2)), rng.integers(1, frames // 2, faces)
    first[0] = 1
    track, next_track = np.arange(faces) + 1, faces + 1
    truth, tracks = [], []
    for frame in range(1, frames + 1):
        place += speed
        if rng.random() < swaps:
            track[:2] = track[1::-1]
        if rng.random() < swaps:
            track[rng.integers(faces)], next_track = next_track, next_track + 1
        for face in np.flatnonzero(first <= frame).tolist():
            box = np.concatenate([place[face], size[face]])
            zero = marks and rng.random() < 0.1
            distractor = hidden and (frame + 7 * face) % 20 < 6
            if not (gaps and frame % 9 in (3, 5)):
                truth.append(line(frame, 10 * face + 3, box, f"{int(not zero)},{8 if distractor else 1},1"))
            if rng.random() >= misses and not (gaps and frame % 9 in (4, 5)):
                seen = box + rng.normal(0, noise, 4) * np.tile(size[face], 2)
                tracks.append(line(frame, track[face], seen, "0.9,-1,-1,-1"))
        if rng.random() < clutter:
            tracks.append(line(frame, next_track, rng.uniform(0, 200, 4), "0.4,-1,-1,-1"))
            next_track += int(rng.integers(2))
    return truth, tracks


def line(frame: int, number: int, box: np.ndarray[Any, Any], tail: str) -> str:
    return f"{frame},{number},{','.join(f'{value:.1f}' for value in box)},{tail}"


def trackeval_figures(truth: str, tracks: str, *, hidden: bool) -> dict[str, float]:
    """TrackEval's figures; `hidden`: with MOT17's preprocessing, in which the boxes on distractors do not count."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        for path, text in (("gt/one/gt/gt.txt", truth), ("trackers/edgeface/data/one.txt", tracks)):
            (Path(folder) / path).parent.mkdir(parents=True)
            (Path(folder) / path).write_text(text)
        dataset = MotChallenge2DBox(
            {
                "GT_FOLDER": f"{folder}/gt",
                "TRACKERS_FOLDER": f"{folder}/trackers",
                "SKIP_SPLIT_FOL": True,
                "SEQ_INFO": {"one": max(int(row.split(",")[0]) for row in (truth + "\n" + tracks).split())},
                "DO_PREPROC": hidden,
            }
        )
        quiet = {"PRINT_RESULTS": False, "OUTPUT_SUMMARY": False, "OUTPUT_DETAILED": False, "PLOT_CURVES": False}
        results, _ = Evaluator(quiet).evaluate([dataset], [HOTA(), Identity(), CLEAR()])
    figures = results["MotChallenge2DBox"]["edgeface"]["one"]["pedestrian"]
    return {
        ours: float(np.mean(figures[metric][theirs]))
        for metric, names in NAMES.items()
        for ours, theirs in names.items()
    }


if __name__ == "__main__":
    main()

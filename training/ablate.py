"""What each ingredient of the renderer buys: python -m training.ablate CONFIG --labels FILE ... [--json FILE].

A network is trained on faces with all ingredients, then one without each of them: the same seeds, as many faces, as
many steps. Each is measured on faces rendered with everything that none was trained on, and on labelled pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from edgeface.evaluate.labels import LabelledPicture, read_labels
from training import assets
from training.export import export, load
from training.loop import CHECKPOINT, Run, Settings, train
from training.measure_landmarks import figures, first_points, of_network, points_boxes
from training.render import face, shards
from training.samples import Bank
from training.tables import heading, percent, row
from training.tasks import make_task
from training.train import RUNS, read

DATA = Path(__file__).parent / "data"
# a row of the table -> what is left out
ROWS: dict[str, frozenset[str]] = {
    "everything": frozenset(),
    "identities (one standard deviation / 7)": frozenset({"identity"}),
    "expressions, blinks, gaze": frozenset({"expression"}),
    "profiles": frozenset({"profiles"}),
    "perspective (all far away)": frozenset({"perspective"}),
    "jaw that follows the outline": frozenset({"contour"}),
    "skins (one canvas for all)": frozenset({"skin"}),
    "hair and beards": frozenset({"hair", "beard"}),
    "glasses, hats, masks": frozenset({"glasses", "hats", "masks"}),
    "hands and things in front": frozenset({"front"}),
    "panoramas (light and backgrounds)": frozenset({"hdri"}),
    "shadows": frozenset({"shadow"}),
    "backgrounds (plain grey)": frozenset({"background"}),
    "the camera (blur, noise, JPEG, low light, ...)": face.camera.INGREDIENTS,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.ablate", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--labels", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--rows", nargs="+", choices=[slug(name) for name in ROWS], metavar="ROW", help="only these")
    parser.add_argument("--faces", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures; it keeps rows that it has")
    given = parser.parse_args()
    torch.set_num_threads(1)
    config = read(given.config)
    pictures = [first_points(picture) for path in given.labels for picture in read_labels(path)]
    table: dict[str, Any] = {"faces": given.faces, "steps": given.steps, "rows": {}}
    if given.json and given.json.exists():
        table = json.loads(given.json.read_text())
    held_out = rendered("held-out", frozenset(), 1000, 9_001, given.jobs)
    for name, without in ROWS.items():
        if name in table["rows"] or (given.rows and slug(name) not in given.rows):
            continue
        folder = rendered(slug(name), without, given.faces, config["render"]["seed"], given.jobs)
        table["rows"][name] = measured(config, folder, held_out, given.steps, pictures, RUNS / f"ablation-{slug(name)}")
        print(name, table["rows"][name], file=sys.stderr, flush=True)
        if given.json:
            given.json.write_text(json.dumps(table, indent=1) + "\n")
    print(text(table))


def slug(name: str) -> str:
    return name.partition(" (")[0].replace(",", "").replace(" ", "-")


def rendered(name: str, without: frozenset[str], count: int, seed: int, jobs: int) -> Path:
    """The folder of `count` faces without some ingredients."""
    folder = DATA / "ablation" / name
    sample = partial(face.render, folder=assets.folder(), ingredients=face.INGREDIENTS - without)
    shards.write(folder, "faces", sample, seed=seed, count=count, per_shard=100, jobs=jobs)
    return folder


def measured(
    config: Mapping[str, Any],
    folder: Path,
    held_out: Path,
    steps: int,
    pictures: Sequence[LabelledPicture],
    out: Path,
) -> dict[str, float]:
    """Trains on the faces of `folder` and returns errors in shares of the distance of the outer eye corners."""
    task = make_task(config)
    if out.exists():  # of other settings, perhaps
        shutil.rmtree(out)
    # all shards but the first are learnt from, and nothing is measured on the way
    own = {"data": [str(folder)], "steps": steps, "minutes": 0.0, "validation_every": 10**6, "measure_every": 10**9}
    run = Run(task, replace(Settings(**config["train"]), **own), out)
    train(run, say=lambda line: None)
    bank = Bank(task.kind)
    bank.add(sorted(held_out.glob("faces-*.npz")))
    with torch.no_grad():
        synthetic = task.measure(run.average, bank, len(bank))
    onnx = out / "network.onnx"
    export(load(config, out / CHECKPOINT), onnx, {})
    real = figures(of_network(str(onnx), pictures, points_boxes, face.FRAME))
    return {
        "rendered": synthetic["nme"] / 100,
        **{name: real[name] for name in ("all", "frontal", "turned", "above_10")},
    }


def text(table: dict[str, Any]) -> str:
    """A markdown table; errors beside those of the network that had everything."""
    lines = heading("without", ["rendered faces", "labelled pictures", "frontal", "turned", "above 10 %"])
    for name, found in table["rows"].items():
        lines += row(name, [percent(found[k]) for k in ("rendered", "all", "frontal", "turned", "above_10")])
    return "\n".join(lines)


if __name__ == "__main__":
    main()

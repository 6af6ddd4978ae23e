"""Renders what a network learns from: python -m training.render CONFIG.

Config, table [render]: kind ("faces", "heads" or "scenes"), folder, seed, count, per_shard; for scenes also size, and
a table [render.heads] with the same keys: the bank of heads that scenes paste.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from training import assets
from training.render import bank, face, scene, shards, sheet
from training.render.banks import load_banks

INGREDIENTS = {"faces": face.INGREDIENTS, "heads": face.INGREDIENTS, "scenes": scene.INGREDIENTS}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.render", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--count", type=int, help="so many samples instead of the config's, in at least four shards")
    parser.add_argument(
        "--without", nargs="+", default=[], metavar="INGREDIENT", help="leave these out: an ablation; needs --out"
    )
    parser.add_argument("--out", type=Path, help="a folder instead of the config's")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--sheet", type=Path, metavar="PNG", help="only draw the first ones, with their labels, to look at"
    )
    given = parser.parse_args()
    cv2.setNumThreads(1)
    wanted = msgspec.toml.decode(given.config.read_bytes())["render"]
    known, without = INGREDIENTS[wanted["kind"]], frozenset(given.without)
    if unknown := without - known:
        sys.exit(f"no such ingredient: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    if without and not (given.out or given.sheet):
        sys.exit("--without needs --out: the config's folder is for pictures with everything")
    try:
        sample = sampler(wanted, known - without, given.jobs)
    except FileNotFoundError as error:
        sys.exit(str(error))
    if given.sheet:
        drawn = [sample(np.random.default_rng([wanted["seed"], i])) for i in range(given.count or 48)]
        cv2.imwrite(str(given.sheet), sheet.sheet(drawn))
        return
    shards.write(
        given.out or Path(wanted["folder"]),
        wanted["kind"],
        sample,
        scene.packed if wanted["kind"] == "scenes" else shards.stacked,
        seed=wanted["seed"],
        count=given.count or wanted["count"],
        per_shard=shard_length(wanted["per_shard"], given.count),
        jobs=given.jobs,
    )


def shard_length(per_shard: int, count: int | None) -> int:
    """Samples in a shard: the config's, fewer if `count` makes not four of them (the first is for validation)."""
    return per_shard if count is None else min(per_shard, -(-count // 4))


def sampler(wanted: dict[str, Any], ingredients: frozenset[str], jobs: int) -> shards.Sample:
    """What draws one sample of the config's kind; a bank of heads for scenes is rendered first where it is missing."""
    if wanted["kind"] != "scenes":
        folder = assets.folder()
        render = {"faces": face.render, "heads": bank.render}[wanted["kind"]]
        return partial(render, folder=folder, ingredients=ingredients)
    folder = assets.folder("photos.npz")  # asked for here: the bank of heads takes long
    heads = dict(wanted["heads"])
    render = partial(bank.render, folder=folder)
    place = Path(heads["folder"])
    shards.write(
        place, "heads", render, seed=heads["seed"], count=heads["count"], per_shard=heads["per_shard"], jobs=jobs
    )
    banks = load_banks(place, folder, heads["seed"])
    return partial(scene.scene, banks=banks, size=wanted["size"], ingredients=ingredients)


if __name__ == "__main__":
    main()

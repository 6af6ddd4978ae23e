"""Renders what a network learns from: python -m training.render CONFIG."""

import os

for _library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):  # before NumPy: threads of its own halve the speed of several processes
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import argparse
import sys
from functools import partial
from pathlib import Path

from .. import assets
from . import bank, face, shards

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.render", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--count", type=int, help="so many samples instead of the config's")
    parser.add_argument("--without", nargs="+", default=[], metavar="INGREDIENT", help="leave these out, for an ablation")
    parser.add_argument("--out", type=Path, help="a folder instead of the config's")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    wanted = tomllib.loads(given.config.read_text())["render"]
    without = frozenset(given.without)
    if unknown := without - face.INGREDIENTS:
        sys.exit(f"no such ingredient: {', '.join(sorted(unknown))}; there are {', '.join(sorted(face.INGREDIENTS))}")
    render = {"faces": face.render, "heads": bank.render}[wanted["kind"]]
    shards.write(
        given.out or Path(wanted["folder"]),
        wanted["kind"],
        partial(render, folder=assets.folder(), ingredients=face.INGREDIENTS - without),
        seed=wanted["seed"],
        count=given.count or wanted["count"],
        per_shard=wanted["per_shard"],
        jobs=given.jobs,
    )


if __name__ == "__main__":
    main()

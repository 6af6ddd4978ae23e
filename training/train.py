"""Trains a network: python -m training.train CONFIG; run again, it continues where it was.

On several GPUs of one machine: torchrun --nproc-per-node N -m training.train CONFIG.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from training.loop import Run, Settings, train
from training.tasks import make_task

RUNS = Path(__file__).parent / "runs"


def read(path: Path) -> dict[str, Any]:
    """A config file as tables."""
    tables: dict[str, Any] = msgspec.toml.decode(path.read_bytes())
    return tables


def arguments() -> argparse.ArgumentParser:
    """What the command understands."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", nargs="+", help="folders with shards, instead of the config's")
    parser.add_argument("--out", type=Path, help="folder of the run; training/runs/NAME unless told otherwise")
    parser.add_argument("--minutes", type=float, help="train so long, instead of the config's end")
    parser.add_argument("--steps", type=int, help="train so many steps, instead of the config's end")
    parser.add_argument("--begin", type=Path, help="a checkpoint: a new run begins with its averaged weights that fit")
    parser.add_argument("--rate", type=float, help="the highest learning rate, instead of the config's")
    parser.add_argument("--compile", action="store_true", default=None, help="compile the network first")
    parser.add_argument("--workers", type=int, help="processes that make batches, instead of the config's")
    return parser


def main() -> None:
    """The command."""
    chosen = arguments().parse_args()
    config = read(chosen.config)
    settings = Settings(**config["train"])
    for name in ("data", "rate", "workers", "compile"):
        if getattr(chosen, name) is not None:
            settings = replace(settings, **{name: getattr(chosen, name)})
    if chosen.minutes or chosen.steps:
        settings = replace(settings, minutes=chosen.minutes or 0.0, steps=chosen.steps or 0)
    torch.set_num_threads(settings.threads)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        train(Run(make_task(config), settings, chosen.out or RUNS / chosen.config.stem, chosen.begin))
    except (FileNotFoundError, FloatingPointError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

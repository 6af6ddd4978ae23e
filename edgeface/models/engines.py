"""The engines that were built of a card, by their passports; no CUDA is needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from edgeface.cuda.plan import load_plan
from edgeface.errors import EngineError, one_line
from edgeface.model_card import Card
from edgeface.passport import Precision, Size, passport_path, read_passport


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine file, and what its name says."""

    path: Path
    card: Card
    input_size: Size
    precision: Precision
    dla: bool


def built_engines(card: Card) -> list[BuiltEngine]:
    """The card's engines that the daemon would find: of two of one name, the one in the earlier folder."""
    form = re.compile(re.escape(card.name) + r"-([1-9]\d*)x([1-9]\d*)-(fp32|fp16|int8)(-dla)?\.engine", re.ASCII)
    found: dict[str, BuiltEngine] = {}
    for folder in dict.fromkeys(card.folders):
        for path in sorted(Path(folder).glob("*.engine")):
            if match := form.fullmatch(path.name):
                size, precision = (int(match[1]), int(match[2])), cast("Precision", match[3])
                found.setdefault(path.name, BuiltEngine(path, card, size, precision, match[4] is not None))
    return list(found.values())


def check_engine(engine: BuiltEngine) -> None:
    """Raise EngineError for what the daemon would refuse before CUDA starts, whatever version it runs."""
    load_plan(engine.card, engine.input_size, precision=engine.precision, dla=engine.dla, tensorrt_version="")


def engine_line(engine: BuiltEngine) -> str:
    """What the engine's passport says of it, in a line."""
    try:
        passport = read_passport(passport_path(engine.path))
    except EngineError as error:
        return one_line(error)
    device = f"{passport.device} ({passport.compute_capability})" if passport.device else "no device"
    return f"{engine.path}: {passport.precision}, TensorRT {passport.tensorrt}, for {device}, built {passport.date}"

"""The networks that a measuring program is given: a card by its name or its file, or an ONNX file."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeface.config import Config, load_config
from edgeface.errors import EdgefaceError, EngineError
from edgeface.model_card import Card, bundled_engines, find_card, find_onnx

LENDER = "edgeface-detector"


@dataclass(frozen=True, slots=True)
class Measured:
    """A network, and how the product's configuration finds it."""

    card: Card
    named: str  # the card: a name or a path
    folders: tuple[str, ...]  # with its ONNX file


def find_detector(network: str, scratch: Path) -> Measured:
    """The detector that is meant. An ONNX file's card lies beside it or among the bundled ones.

    Else a card is lent to it, in the folder `scratch`: the shipped detector's, without a look for near faces. It fits
    a network of the same form: luma, an anchor a cell, three levels. Raises ConfigError, EngineError.
    """
    path = Path(network)
    if path.suffix != ".onnx":
        return Measured(find_card(network), network, ())
    if not path.is_file():
        raise EngineError(f"{path}: no such file")
    folders = (str(path.parent),)
    for folder in (path.parent, bundled_engines()):
        for card_path in sorted(folder.glob("*.toml")):
            if f'"{path.name}"' not in card_path.read_text():
                continue
            card = find_card(str(card_path), folders)
            onnx = find_onnx(card)
            if card.onnx == path.name and onnx is not None and onnx.samefile(path):  # not a namesake
                return Measured(card, str(card_path), folders)
    lent = scratch / f"{len(list(scratch.iterdir()))}.toml"
    text = (bundled_engines() / f"{LENDER}.toml").read_text()
    text = re.sub(r"(?m)^(sha256|near_look) .*\n", "", text)
    lent.write_text(re.sub(r"(?m)^onnx = .*$", f'onnx = "{path.name}"', text))
    return Measured(find_card(str(lent), folders), str(lent), folders)


def run(main: Callable[[], None]) -> None:
    """Runs a measuring program; what it cannot work with is one line on stderr."""
    try:
        main()
    except EdgefaceError as error:
        sys.exit(str(error))


def names_of(networks: Sequence[str]) -> dict[str, str]:
    """The networks by what they are called in the tables: their file's name, where no other has it."""
    each = list(dict.fromkeys(networks))
    stems = [re.sub(r"\.(toml|onnx)$", "", Path(network).name) for network in each]
    return {one if stems.count(stem) > 1 else stem: one for stem, one in zip(stems, each, strict=True)}


def config_of(measured: Measured, low_score: float, one_look: bool) -> Config:
    """The product's configuration with this network as its detector, down to boxes of `low_score`."""
    size = measured.card.input
    scales = {"scales": [max(size.width, size.height)]} if one_look else {}
    return load_config(
        None,
        {
            "detector": {"card": measured.named, **scales},
            "landmarks": {"card": "none"},
            "tracker": {"low_score_threshold": low_score},
            "engines": list(measured.folders),
            "backend": "cpu",
        },
    )

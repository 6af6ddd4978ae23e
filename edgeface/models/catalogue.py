"""Every card in the engines folders, and the state of its files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgeface.errors import EngineError, one_line
from edgeface.model_card import Card, bundled_engines, find_card, find_onnx, onnx_path
from edgeface.models.engines import built_engines, check_engine, engine_line

_COMMERCIAL: dict[bool | str, str] = {True: "yes", False: "no", "terms": "see its terms", "unknown": "unknown"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A card as it was found."""

    name: str  # its file's
    card: Card | None  # None: it cannot be read
    onnx: Path | None  # where its weights lie
    state: Literal["here", "missing", "damaged"]
    problem: str = ""  # of the card or of its weights


def entries(engines: Sequence[str]) -> list[Entry]:
    """Of every card in the `engines` folders and among the bundled ones, by name. Raises ConfigError."""
    folders = [Path(folder).expanduser() for folder in engines]
    names = {path.stem for folder in [*folders, bundled_engines()] for path in folder.glob("*.toml")}
    return [_entry(name, engines) for name in sorted(names)]


def entry(name: str, engines: Sequence[str]) -> Entry:
    """Of the card called `name`, or at this path. Raises ConfigError, EngineError: there is none, it cannot be read."""
    return _of(name, find_card(name, tuple(engines)))


def table(found: Sequence[Entry]) -> str:
    """A line for each card."""
    rows = [("NETWORK", "TASK", "STATE", "SIZE", "COMMERCIAL USE", "LICENCE")]
    for one in found:
        size = f"{one.onnx.stat().st_size / 1e6:.1f} MB" if one.onnx else "-"
        if one.card is None:
            rows.append((one.name, "-", one.state, size, "-", one.problem))
        else:
            allowed = _COMMERCIAL[one.card.commercial]
            rows.append((one.name, one.card.task, one.state, size, allowed, one.card.licence))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join("  ".join([*map(str.ljust, row, widths), row[5]]) for row in rows)


def listing(found: Sequence[Entry]) -> list[dict[str, Any]]:
    """The same for JSON, with more of it: an object for each card."""
    rows = []
    for one in found:
        row: dict[str, Any] = {"name": one.name, "state": one.state, "problem": one.problem}
        row |= {"onnx": str(one.onnx or ""), "bytes": one.onnx.stat().st_size if one.onnx else 0}
        if one.card is not None:
            told = msgspec.to_builtins(one.card)
            row |= {key: told[key] for key in ("task", "licence", "commercial", "allows", "source", "url", "sha256")}
        rows.append(row)
    return rows


def description(one: Entry) -> str:
    """All that the card says, where its files lie, which engines were built: a line each."""
    card = one.card
    assert card is not None  # entry() raises
    told = msgspec.to_builtins(card)
    lines = [("name", card.name), ("task", card.task)]
    for part in ("decoder", "input", "thresholds"):
        lines.append((part, ", ".join(f"{key} {json.dumps(value)}" for key, value in told[part].items())))
    where = f"{one.onnx}, {one.onnx.stat().st_size} bytes" if one.onnx else f"{card.onnx} is not in {card.folders[0]}"
    lines += [
        ("near_look", str(card.near_look or "none")),
        ("card in", card.folders[0]),
        ("onnx", f"{one.state}: {one.problem or where}"),
        ("sha256", card.sha256 or "not known"),
        ("licence", card.licence),
        ("allows", card.allows),
        ("commercial", _COMMERCIAL[card.commercial]),
        ("source", card.source),
        ("download", card.url or "by hand, from its source"),
    ]
    lines += [("engine", engine_line(engine)) for engine in built_engines(card)] or [("engine", "none built")]
    return "\n".join(f"{key:<11} {value}" for key, value in lines)


def checks(found: Sequence[Entry]) -> Iterator[tuple[bool, str]]:
    """Whether it is good, and a line: for every ONNX and engine that is there and every card that cannot be read."""
    for one in found:
        if one.state == "damaged":
            yield False, one.problem
        elif one.onnx is not None:
            known = one.card is not None and one.card.sha256
            yield True, f"{one.onnx}" if known else f"{one.onnx}: not checked, its card has no sha256"
        for engine in built_engines(one.card) if one.card is not None else []:
            try:
                check_engine(engine)
            except EngineError as error:
                yield False, one_line(error)
            else:
                yield True, f"{engine.path}"


def _entry(name: str, engines: Sequence[str]) -> Entry:
    try:
        return entry(name, engines)
    except EngineError as error:
        return Entry(name, None, None, "damaged", one_line(error))


def _of(name: str, card: Card) -> Entry:
    path = find_onnx(card)
    if path is None:
        return Entry(name, card, None, "missing")
    try:
        return Entry(name, card, onnx_path(card), "here")
    except EngineError as error:
        return Entry(name, card, path, "damaged", one_line(error))

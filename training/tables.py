"""Markdown tables and the numbers in their cells."""

from __future__ import annotations

from collections.abc import Sequence


def row(head: str, cells: Sequence[str], *more: str) -> list[str]:
    """One line of a table, in a list, so that lines add up."""
    return [f"| {' | '.join([head, *cells, *more])} |"]


def heading(head: str, cells: Sequence[str], *more: str) -> list[str]:
    """The first two lines of a table."""
    return [*row(head, cells, *more), "|---" * (1 + len(cells) + len(more)) + "|"]


def number(value: float | None) -> str:
    """Two digits after the point; a dash for what cannot be told."""
    return "-" if value is None else f"{value:.2f}"


def percent(value: float | None) -> str:
    """Likewise, of a share."""
    return "-" if value is None else f"{value:.2%}"

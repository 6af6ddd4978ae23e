"""Makes the table of edgeface/generic_head.py again: the mark-up's points on the mean head, in metres."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from edgeface.generic_head import FIRST
from edgeface.point_sets import LEFT_EYE, RIGHT_EYE, flip_map
from edgeface.values import F64
from training import assets
from training.render import head as heads

TARGET = Path(__file__).parent.parent / "edgeface" / "generic_head.py"
TABLE = re.compile(r"(?<=np\.array\(\n    \[\n).*?(?=\n    \]\n\))", re.DOTALL)
CM = 0.01  # the head model's unit in metres


def inner_points(head: heads.Head) -> F64:
    """Points 17 to 67 f64 [51, 3]: x to the picture's right, y down, z into the head, the origin between the eyes.

    Made symmetric: on a mesh a point and its mirror image are half a triangle apart.
    """
    points = head.base[head.points[:68]].astype(float)
    points = (points + points[flip_map(68)] * [-1, 1, 1]) / 2
    points -= points[[*RIGHT_EYE, *LEFT_EYE]].mean(axis=0)
    return points[FIRST:] * [CM, -CM, -CM]


def rows(points: F64) -> str:
    """The table's lines of `points` f64 [n, 3]."""
    return "\n".join(f"        [{x:.4f}, {y:.4f}, {z:.4f}]," for x, y, z in points.round(4) + 0.0)


def main() -> None:
    argparse.ArgumentParser(prog="python -m training.make_head", description=__doc__).parse_args()
    made = rows(inner_points(heads.load(assets.folder())))
    TARGET.write_text(TABLE.sub(made, TARGET.read_text()))


if __name__ == "__main__":
    main()

"""MOTChallenge text: boxes with ids through a film, one box a line.

    frame, id, left, top, width, height, mark or score, ...

Frames count from 1. Commas or spaces part the columns; those behind the seventh are not read.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np

from edgeface.errors import ConfigError
from edgeface.metrics import Trajectories, trajectories
from edgeface.values import F64, Bool

MAX_FRAME = 1_000_000  # nine hours at 30 frames a second
MAX_BOXES = 1000  # in one frame
_FAR = 1e6  # pixels
_COLUMNS = (  # name, least and greatest value
    ("frame", 1, MAX_FRAME),
    ("id", 0, 2**53),  # whole numbers are exact up to here
    ("left", -_FAR, _FAR),
    ("top", -_FAR, _FAR),
    ("width", 0, _FAR),
    ("height", 0, _FAR),
    ("mark", -_FAR, _FAR),
)


def read_truth(path: Path) -> Trajectories:
    """The true boxes; those marked 0 are left out, as TrackEval does. Raises ConfigError, also when none is left."""
    boxes = _read(path, marked=True)
    if not len(boxes.frame):
        raise ConfigError(f"{path}: no true box in it; expected lines of frame,id,left,top,width,height")
    return boxes


def read_tracks(path: Path) -> Trajectories:
    """A tracker's boxes, whatever their scores; an empty file is a tracker that found nobody. Raises ConfigError."""
    return _read(path, marked=False)


def tracks_text(tracks: Trajectories, score: F64) -> str:
    """The text of tracks with the `score` [n] of each box."""
    return _text(tracks, [f"{value:.4f},-1,-1,-1" for value in score.tolist()])


def truth_text(truth: Trajectories, counts: Bool) -> str:
    """The text of true boxes. Those where `counts` [n] is False are marked 0 and of class 8, MOT17's distractor."""
    return _text(truth, ["1,1,1" if value else "0,8,0" for value in counts.tolist()])


def _text(boxes: Trajectories, tails: list[str]) -> str:
    """All digits are written, so that reading gives the same boxes."""
    left_top_size = np.concatenate([boxes.xyxy[:, :2], boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]], axis=1).tolist()
    rows = zip(boxes.frame.tolist(), boxes.track_id.tolist(), left_top_size, tails, strict=True)
    return "".join(f"{frame},{who},{','.join(map(repr, box))},{tail}\n" for frame, who, box, tail in rows)


def _read(path: Path, *, marked: bool) -> Trajectories:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file") from error
    rows: list[tuple[float, ...]] = []
    seen: set[tuple[float, float]] = set()
    crowd: Counter[float] = Counter()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        row = _numbers(where, line, ("frame", "id", "mark") if marked else ("frame", "id"))
        frame, who = row[:2]
        if (frame, who) in seen:
            raise ConfigError(f"{where}: id {who:.0f} stands twice in frame {frame:.0f}")
        seen.add((frame, who))
        crowd[frame] += 1
        if crowd[frame] > MAX_BOXES:
            raise ConfigError(f"{where}: more than {MAX_BOXES} boxes in frame {frame:.0f}")
        if not (marked and len(row) > 6 and row[6] == 0):
            left, top, width, height = row[2:6]
            rows.append((frame, who, left, top, left + width, top + height))
    return trajectories(rows)


def _numbers(where: str, line: str, whole: tuple[str, ...]) -> list[float]:
    """The first six or seven columns of a line, every one checked; those named in `whole` are whole numbers."""
    fields = line.split(",") if "," in line else line.split()
    if len(fields) < 6:
        raise ConfigError(f"{where}: expected frame,id,left,top,width,height, found {len(fields)} columns")
    row = []
    for (name, low, high), field in zip(_COLUMNS, fields, strict=False):
        try:
            value = float(field)
        except ValueError:
            value = math.nan
        if not low <= value <= high or (name in whole and value != int(value)):
            kind = "a whole number" if name in whole else "a number"
            found = field.strip()[:40]
            raise ConfigError(f"{where}: {name}: expected {kind} from {low:.0f} to {high:.0f}, found {found!r}")
        row.append(value)
    return row

"""The default networks on the bundled clip, held against its exact truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import ROOT

from edgeface.boxes import iou
from edgeface.config import load_config
from edgeface.errors import EndOfStream
from edgeface.parts import build

TRUTH = json.loads((ROOT / "edgeface" / "demo" / "demo.json").read_text())["frames"]


def run(interval: int) -> tuple[float, int, int, int]:
    """Share of open faces found (60 % visible, IoU above 0.4), boxes on nobody seen and predicted, ids used."""
    flags = {"source": "demo:?pace=0", "tracker": {"keyframe_interval": interval}}
    parts = build(load_config(None, flags))
    found = total = seen_on_nobody = predicted_on_nobody = 0
    ids = set()
    for truth in TRUTH:
        body = parts.pipeline.step(parts.source.read(1.0))[0][1]
        boxes = np.array([face["xyxy"] for face in body["faces"]], np.float32).reshape(-1, 4)
        known = np.array([face["xyxy"] for face in truth], np.float32).reshape(-1, 4)
        is_open = np.array([face["visible_fraction"] >= 0.6 for face in truth], bool)
        overlap = iou(known, boxes)
        total += is_open.sum()
        found += (overlap[is_open].max(axis=1, initial=0) > 0.4).sum()
        on_nobody = overlap.max(axis=0, initial=0) < 0.2
        seen = np.array([face["source"] == "detector" for face in body["faces"]], bool)
        seen_on_nobody += (on_nobody & seen).sum()
        predicted_on_nobody += (on_nobody & ~seen).sum()
        ids |= {face["track_id"] for face in body["faces"]}
    with pytest.raises(EndOfStream):
        parts.source.read(1.0)
    parts.close()
    return found / total, int(seen_on_nobody), int(predicted_on_nobody), len(ids)


@pytest.mark.parametrize(("interval", "share"), [(1, 0.97), (3, 0.95)])
def test_faces_are_found_and_followed(interval: int, share: float) -> None:
    found, seen_on_nobody, predicted_on_nobody, ids = run(interval)
    assert found > share
    assert seen_on_nobody < 7  # of about 1,350 boxes
    assert predicted_on_nobody < 50  # faces that have just left or been hidden, for half a second
    assert 6 <= ids <= 12  # six people, some away or hidden for longer than a track lives


def test_a_run_is_the_same_every_time() -> None:
    assert run(3) == run(3)

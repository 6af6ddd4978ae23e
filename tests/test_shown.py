"""The pictures that the accuracy gate shows: the demo clip, labels, and whatever calibration takes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT

from edgeface.build import shown
from edgeface.build.pictures import find_pictures
from edgeface.build.shown import DEMO_STEP, find_shown
from edgeface.errors import ConfigError


def test_the_demo_clip_is_labelled() -> None:
    found = find_shown("demo:")
    assert found.name == f"demo:, every {DEMO_STEP}th frame"
    assert found.labels is not None
    few = found.every(20)
    for _ in range(2):  # again and again
        assert [frame.frame_id for frame in few.frames()] == [0, 100, 200]
    assert few.labels is not None
    assert [one.frame for one in few.labels] == [0, 100, 200]
    assert sum(len(one.xy) for one in found.labels) > 150


@pytest.mark.parametrize(("limit", "reads"), [(1 << 20, 1), (32 * 48 * 3 * 2, 3)])
def test_pictures_are_read_once_if_they_are_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, reads: int
) -> None:
    monkeypatch.setattr(shown, "_MOST_BYTES", limit)
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((32, 48, 3), number, np.uint8))
    pictures, opened = find_pictures(str(tmp_path)), []
    held = shown._Held(lambda: opened.append(1) or pictures.frames())
    for _ in range(3):
        assert [int(frame.pixels[0, 0, 0]) for frame in held()] == [0, 1, 2]
    assert len(opened) == reads


def test_labels_name_their_pictures(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((100, 100, 3), np.uint8))
    points = "\n".join(f"{10 + 3 * number % 70} {20 + number}" for number in range(68))
    (tmp_path / "a.pts").write_text(f"version: 1\nn_points: 68\n{{\n{points}\n}}\n")
    found = find_shown(str(tmp_path / "a.pts"))
    assert found.name == str(tmp_path / "a.pts")
    assert [(frame.width, frame.height) for frame in found.frames()] == [(100, 100)]
    assert found.labels is not None
    assert found.labels[0].xy.shape == (1, 68, 2)


def test_pictures_without_labels(tmp_path: Path) -> None:
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((32, 48, 3), number, np.uint8))
    for name in (str(tmp_path), f"{tmp_path}/*.png"):
        found = find_shown(name)
        assert (found.name, found.labels) == (name, None)
        assert [int(frame.pixels[0, 0, 0]) for frame in found.every(2).frames()] == [0, 2, 4]
        assert found.every(2).labels is None
    film = str(ROOT / "edgeface" / "demo" / "demo.mp4")
    found = find_shown(film)
    assert (found.name, len(list(found.frames()))) == (f"{film}, every 10th frame", 30)
    with pytest.raises(ConfigError, match="expected a folder with pictures"):
        (tmp_path / "empty").mkdir()
        find_shown(str(tmp_path / "empty"))

"""Moving scenes: their truth against hand-made cases, the same every time, ids that outlive an absence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba", reason="training's extra is not installed: pip install -e .[train]")
pytest.importorskip("av", reason="training's extra is not installed: pip install -e .[train]")

from training import assets, clip
from training.render import acting, figure, light, person, video

CLOTH = np.float32([0.2, 0.2, 0.3])


@pytest.fixture(scope="session")
def folder() -> Path:
    try:
        return assets.folder()
    except FileNotFoundError as absent:
        pytest.skip(str(absent))


def actor(folder: Path, track_id: int, **keys: acting.Keys) -> acting.Actor:
    """Somebody bald, who sways a little as everybody does."""
    somebody = person.person(np.random.default_rng(3), folder, frozenset(["identity"]))
    somebody = replace(somebody, neutral=video.heads.load(folder).base, worn=(), collar=-99.0)
    return acting.Actor(track_id, somebody, keys, figure.dressed(somebody, 1, CLOTH, CLOTH))


def scene(*actors: acting.Actor) -> video.Scene:
    lamp = light.Lamp(np.float32([0, 0.6, 0.8]), np.ones(3, np.float32), 0.2, 0.0)
    return video.Scene(
        actors, light.Light(np.zeros((9, 3), np.float32), (lamp,)), np.full((32, 64, 3), 0.5, np.float32),
        seconds=1, fps=10, width=160, height=96, focal=200.0, horizon=48.0,
    )  # fmt: skip


def test_keys_are_met_and_nothing_overshoots_between_them() -> None:
    keys = ((0.0, 1.0), (1.0, 3.0), (2.0, 3.0), (4.0, 0.0))
    assert [acting.along(keys, second) for second, _ in keys] == [value for _, value in keys]
    assert (acting.along(keys, -1), acting.along(keys, 9)) == (1.0, 0.0)
    path = np.array([acting.along(keys, second) for second in np.linspace(0, 4, 81)])
    assert (np.diff(path[:21]) >= 0).all()
    assert np.allclose(path[20:41], 3)
    assert (np.diff(path[40:]) <= 0).all()
    assert acting.along(((5.0, 7.0),), 0.0) == 7.0


def test_two_crossing_people_have_the_truth_that_is_worked_out_by_hand(folder: Path) -> None:
    near = actor(folder, 1, x=((0, 20), (1, 140)), size=((0, 40),))
    far = actor(folder, 2, x=((0, 140), (1, 20)), size=((0, 24),))
    shown = scene(far, near)
    start, middle = (video.frame(shown, folder, number)[1] for number in (1, 5))
    assert [face["track_id"] for face in start] == [face["track_id"] for face in middle] == [1, 2]
    # apart: both are seen whole, where the keys say, as large as they say
    for face, x, size in zip(start, (32, 128), (40, 24), strict=True):
        assert face["visible_fraction"] == 1
        x0, y0, x1, y1 = face["xyxy"]
        assert (x0 + x1) / 2 == pytest.approx(x, abs=0.05 * size)
        assert y1 - y0 == pytest.approx(size, rel=0.12)
        assert y0 < 48 < y1
    # crossing: the near one's box holds the far one's, and hides it
    outer, inner = (np.array(face["xyxy"]) for face in middle)
    assert (outer[:2] < inner[:2]).all() and (inner[2:] < outer[2:]).all()
    assert middle[0]["visible_fraction"] == 1
    assert middle[1]["visible_fraction"] == 0


def test_the_share_that_is_seen_is_that_of_the_pixels(folder: Path) -> None:
    whole = video.layer(scene(), actor(folder, 1, x=((0, 80),), size=((0, 40),)), folder, 0.0, np.array([80.0, 48.0]))
    shown, clear = np.full((96, 160), 1, np.float32), np.full((96, 160), 1, np.float32)
    clear[:, 80:] = 0
    face = video._truth(whole, shown)
    assert face is not None and face["visible_fraction"] == 1
    columns = whole.face.sum(0)
    left = columns[: 80 - whole.face_corner[0]].sum() / columns.sum()
    half = video._truth(whole, clear)
    assert half is not None and half["visible_fraction"] == pytest.approx(left, abs=0.001)
    assert 0.3 < left < 0.7
    narrow = video._truth(whole, shown[:, :80])  # a frame that ends there
    assert narrow is not None and narrow["visible_fraction"] == half["visible_fraction"]
    assert narrow["xyxy"][2] == 80
    assert narrow["landmarks"] == face["landmarks"]  # points are not clipped
    assert video._truth(whole, shown[:, :60]) is None


def test_who_returns_has_the_same_id_and_who_turns_away_has_no_face(folder: Path) -> None:
    walker = actor(folder, 7, x=((0, 80), (0.3, 400), (0.6, 400), (0.9, 80)), size=((0, 40),))
    turner = actor(folder, 8, x=((0, 40), (1, 40)), size=((0, 30),), yaw=((0.2, 0), (0.5, 180)), body_yaw=((0.5, 180),))
    ids = [[face["track_id"] for face in truth] for _, truth in video.frames(scene(walker, turner), folder)]
    assert ids[0] == [7, 8]
    assert ids[3] == [8]
    assert ids[5] == []
    assert ids[9] == [7]


def test_a_frame_is_the_same_every_time_and_does_not_need_those_before_it(folder: Path) -> None:
    somebody = actor(folder, 3, x=((0, 40), (1, 120)), size=((0, 40),), walk=((0, 1),), talk=((0, 1),), smile=((0, 1),))
    shown = scene(somebody)
    every = list(video.frames(shown, folder))
    picture, truth = video.frame(shown, folder, 9)
    assert len(every) == 10 and picture.shape == (96, 160, 3)
    assert np.array_equal(picture, every[9][0]) and truth == every[9][1]
    assert not np.array_equal(picture, every[8][0])
    person_here, nobody = picture[30:60, 90:130], video.frame(scene(), folder, 9)[0][30:60, 90:130]
    assert np.abs(person_here.astype(int) - nobody).mean() > 10


def test_whole_pixels_of_a_patch_that_hangs_over_the_frame() -> None:
    frame, patch = np.arange(12).reshape(3, 4), np.ones((3, 3))
    for corner, area in (((-1, -1), 4), ((3, 1), 2), ((1, 0), 9), ((4, 0), 0), ((-5, 0), 0)):
        in_frame, in_patch = video.overlap(corner, patch.shape, frame.shape)
        assert frame[in_frame].shape == patch[in_patch].shape
        assert frame[in_frame].size == area


def test_the_clips_scene_can_be_read_and_unknown_channels_are_refused(folder: Path) -> None:
    cast = clip.scene(folder, clip.CONFIG).actors
    assert [one.track_id for one in cast] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ValueError, match=r"actor 1: no channels \['jump'\]"):
        clip.actor(folder, 1, 26, [0.1, 0.1, 0.1], [0.1, 0.1, 0.1], [0.1, 0.1, 0.1], {"jump": [[0, 1]]})


def test_a_film_is_written_with_its_truth(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    ramp = np.arange(64, dtype=np.uint8)[None, :, None] * np.uint8(3)
    pictures = [np.ascontiguousarray(np.broadcast_to(ramp + np.uint8(n), (48, 64, 3))) for n in range(40)]
    for name in ("a.mp4", "b.mp4"):
        clip.encode(tmp_path / name, iter(pictures), 30, 20)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    with av.open(str(tmp_path / "a.mp4")) as film:
        shown = list(film.decode(video=0))
    assert [picture.key_frame for picture in shown] == [n % 30 == 0 for n in range(40)]
    assert shown[0].format.name == "yuv420p"
    assert np.abs(shown[5].to_ndarray(format="rgb24").astype(int) - pictures[5]).mean() < 4
    faces: list[list[dict]] = [[], [{"track_id": 1}]]
    clip.write_truth(tmp_path / "a.json", faces, (64, 48), 30.0)
    read = json.loads((tmp_path / "a.json").read_text())
    assert read["frames"] == faces
    assert (read["about"]["width"], read["about"]["frames"]) == (64, 2)

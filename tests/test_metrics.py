"""CLEAR, Identity and HOTA: equal to TrackEval, and what must hold for any tracks."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from edgeface.metrics import Trajectories, clear, hota, identity, overlaps, trajectories, without_hidden
from edgeface.mot import read_tracks, read_truth

GOLDEN = json.loads((ROOT / "tests" / "golden" / "metrics.json").read_text())
SHARES = ("hota", "deta", "assa", "idf1", "idp", "idr", "mota", "recall", "precision")


def figures(truth: Trajectories, tracks: Trajectories) -> dict[str, float]:
    pairs = overlaps(truth, tracks)
    return asdict(clear(pairs)) | asdict(identity(pairs)) | asdict(hota(pairs))


def box(frame: int, number: int, left: float, top: float = 0, size: float = 10) -> tuple[float, ...]:
    return frame, number, left, top, left + size, top + size


@st.composite
def films(draw: st.DrawFn) -> tuple[Trajectories, Trajectories]:
    """A few faces on a line and a few tracks about them, with gaps on both sides."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    faces, frames = draw(st.integers(0, 5)), draw(st.integers(0, 12))
    rows: tuple[list[tuple[float, ...]], ...] = ([], [])
    for frame in range(1, frames + 1):
        for face in range(faces):
            left = 7.3 * face + frame * (face - 1.7)
            if random.random() < 0.8:
                rows[0].append(box(frame, face, left))
            if random.random() < 0.8:
                rows[1].append(box(frame, face + 5 * int(random.random() < 0.2), left + random.normal(0, 2)))
    return trajectories(rows[0]), trajectories(rows[1])


@pytest.mark.parametrize("name", GOLDEN)
def test_equal_to_trackeval(name: str, tmp_path: Path) -> None:
    golden = GOLDEN[name]
    (tmp_path / "tracks.txt").write_text("\n".join(golden["tracks"]))
    tracks = read_tracks(tmp_path / "tracks.txt")
    if golden["hidden"]:  # MOT17's preprocessing takes out distractors, class 8
        rows = np.array([row.split(",") for row in golden["truth"]], float)
        rows[:, 4:6] += rows[:, 2:4]
        truth, tracks = without_hidden(trajectories(rows[:, :6].tolist()), rows[:, 7] == 1, tracks)
    else:
        (tmp_path / "truth.txt").write_text("\n".join(golden["truth"]))
        truth = read_truth(tmp_path / "truth.txt")
    found = figures(truth, tracks)
    assert found.keys() == golden["trackeval"].keys()
    assert found == pytest.approx(golden["trackeval"], abs=1e-12, rel=0)


@given(films())
def test_the_truth_itself_is_perfect(film: tuple[Trajectories, Trajectories]) -> None:
    truth, _ = film
    found = figures(truth, truth)
    for name in SHARES:
        assert found[name] == pytest.approx(1.0 if len(truth.frame) else 0.0)
    assert found["loca"] == pytest.approx(1.0)
    assert found["id_switches"] == found["false_positives"] == found["misses"] == found["mostly_lost"] == 0


@given(films(), st.randoms())
def test_names_of_ids_and_order_of_rows_mean_nothing(film: tuple[Trajectories, Trajectories], random: object) -> None:
    truth, tracks = film
    order = np.random.default_rng(random.randint(0, 9999)).permutation(len(tracks.frame))
    renamed = trajectories(np.column_stack([tracks.frame, 9 - tracks.track_id, tracks.xyxy])[order].tolist())
    assert figures(truth, renamed) == pytest.approx(figures(truth, tracks), abs=1e-12)


@given(films())
def test_the_counts_agree(film: tuple[Trajectories, Trajectories]) -> None:
    truth, tracks = film
    found = figures(truth, tracks)
    assert len(truth.frame) - found["misses"] == len(tracks.frame) - found["false_positives"]
    assert found["mostly_tracked"] + found["mostly_lost"] <= len(np.unique(truth.track_id))
    assert found["mota"] <= found["recall"] <= 1
    for name in (*SHARES, "motp", "loca"):
        assert name == "mota" or 0 <= found[name] <= 1 + 1e-12


@given(films())
def test_when_all_counts_nothing_is_taken_out(film: tuple[Trajectories, Trajectories]) -> None:
    truth, tracks = film
    same_truth, same_tracks = without_hidden(truth, np.ones(len(truth.frame), bool), tracks)
    assert same_truth.track_id.tolist() == truth.track_id.tolist()
    assert same_tracks.track_id.tolist() == tracks.track_id.tolist()


def test_ids_exchanged_at_half_time() -> None:
    truth = trajectories([box(frame, face, 100 * face) for frame in range(1, 11) for face in (1, 2)])
    swapped = np.where(truth.frame > 5, 3 - truth.track_id, truth.track_id)
    found = figures(truth, Trajectories(truth.frame, swapped, truth.xyxy))
    assert found["id_switches"] == 2
    assert found["mota"] == pytest.approx(1 - 2 / 20)
    assert found["idf1"] == pytest.approx(0.5)
    assert found["deta"] == pytest.approx(1.0)
    assert found["assa"] == pytest.approx(1 / 3)  # 5 of the 15 boxes of face and track together
    assert found["fragmentations"] == 0


def test_a_face_lost_and_found() -> None:
    truth = trajectories([box(frame, 1, 0) for frame in range(1, 11)] + [box(frame, 2, 50) for frame in range(1, 11)])
    keep = (truth.track_id == 2) | (truth.frame < 4) | (truth.frame > 8)
    found = figures(truth, truth.where(keep))
    assert (found["fragmentations"], found["id_switches"], found["misses"]) == (1, 0, 5)
    assert (found["mostly_tracked"], found["mostly_lost"]) == (1, 0)


def test_who_had_a_track_keeps_it() -> None:
    """In frame 2 both tracks lie on the face, and the new one lies better."""
    truth = trajectories([box(1, 1, 0), box(2, 1, 0)])
    tracks = trajectories([box(1, 7, 0), box(2, 7, 2), box(2, 8, 0)])
    assert clear(overlaps(truth, tracks)).id_switches == 0


def test_who_had_a_track_two_frames_ago_may_get_another() -> None:
    """7 is away in frame 2; in frame 3 the new track lies better. Another face that is always followed is no reason."""
    truth = trajectories([box(frame, 1, 0) for frame in (1, 2, 3)])
    tracks = trajectories([box(1, 7, 0), box(2, 7, 90), box(3, 7, 2), box(3, 8, 0)])
    assert clear(overlaps(truth, tracks)).id_switches == 1
    other = [box(frame, 2, 50) for frame in (1, 2, 3)]
    both = [
        trajectories([*np.column_stack([rows.frame, rows.track_id, rows.xyxy]), *other]) for rows in (truth, tracks)
    ]
    assert clear(overlaps(*both)).id_switches == 1


@pytest.mark.parametrize(
    ("found", "boxes", "tracked", "lost"), [(1, 5, 0, 0), (1, 6, 0, 1), (4, 5, 0, 0), (5, 6, 1, 0)]
)
def test_mostly_is_more_than_80_and_less_than_20_percent(found: int, boxes: int, tracked: int, lost: int) -> None:
    truth = trajectories([box(frame, 1, 0) for frame in range(boxes)])
    clear_figures = clear(overlaps(truth, truth.where(truth.frame < found)))
    assert (clear_figures.mostly_tracked, clear_figures.mostly_lost) == (tracked, lost)


def test_rows_of_a_frame_keep_their_order() -> None:
    rows = trajectories([box(2 - number % 2, number, 0) for number in range(200)])
    assert rows.track_id.tolist() == [*range(1, 200, 2), *range(0, 200, 2)]


def test_a_box_on_a_hidden_face_does_not_count() -> None:
    truth = trajectories([box(1, 1, 0), box(1, 2, 50), box(2, 2, 50)])
    tracks = trajectories([box(1, 1, 0), box(1, 2, 51), box(1, 3, 90), box(2, 4, 54)])  # 4: IoU 0.43 only
    boxes, counted = without_hidden(truth, np.array([True, False, False]), tracks)
    assert boxes.track_id.tolist() == [1]
    assert counted.track_id.tolist() == [1, 3, 4]


def test_nobody_is_defined() -> None:
    nobody, somebody = trajectories([]), trajectories([box(1, 1, 0)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for truth, tracks in ((nobody, nobody), (somebody, nobody), (nobody, somebody)):
            found = figures(truth, tracks)
            assert [found[name] for name in SHARES] == [0] * len(SHARES)  # as TrackEval
            assert found["loca"] == 1
            assert found["misses"] == len(truth.frame)
            assert found["false_positives"] == len(tracks.frame)

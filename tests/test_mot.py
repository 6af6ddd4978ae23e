"""MOTChallenge text: what is read, what is written, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import ConfigError
from edgeface.metrics import trajectories
from edgeface.mot import MAX_BOXES, read_tracks, read_truth, tracks_text, truth_text

PIXELS = st.integers(-4000, 4000).map(lambda quarter: quarter / 4)
SIDES = st.integers(0, 4000).map(lambda quarter: quarter / 4)


def put(folder: Path, text: str) -> Path:
    (folder / "boxes.txt").write_text(text)
    return folder / "boxes.txt"


def test_columns_order_and_spaces(tmp_path: Path) -> None:
    path = put(tmp_path, "\ufeff2,7,10,20,30,40,1,1,0.5\n\n1, 3, 1.5, 2, 3, 4\n1 4 0 0 1.0 1e1 0\r\n")
    assert len(read_truth(path).frame) == 2  # without the one that is marked 0
    boxes = read_tracks(path)
    assert boxes.frame.tolist() == [1, 1, 2]
    assert boxes.track_id.tolist() == [3, 4, 7]
    assert boxes.xyxy.tolist() == [[1.5, 2, 4.5, 6], [0, 0, 1, 10], [10, 20, 40, 60]]


def test_truth_marked_0_is_left_out_and_a_score_of_0_is_not(tmp_path: Path) -> None:
    path = put(tmp_path, "1,1,0,0,9,9,1,1,1\n1,2,0,0,9,9,0,1,1\n1,3,0,0,9,9,-1,-1,-1\n1,4,0,0,9,9,1,8\n")
    assert read_truth(path).track_id.tolist() == [1, 3, 4]  # classes are not looked at
    assert read_tracks(path).track_id.tolist() == [1, 2, 3, 4]


def test_tracks_are_not_taken_for_truth(tmp_path: Path) -> None:
    """TrackEval cuts their scores to marks: 0 but for those of 1."""
    path = put(tmp_path, "1,1,0,0,9,9,1.0\n1,2,0,0,9,9,0.93\n")
    assert read_tracks(path).track_id.tolist() == [1, 2]
    with pytest.raises(ConfigError, match=r"line 2: mark: expected a whole number .*, found '0.93'"):
        read_truth(path)


def test_an_empty_file_is_a_tracker_that_found_nobody_but_no_truth(tmp_path: Path) -> None:
    path = put(tmp_path, "\n")
    assert len(read_tracks(path).frame) == 0
    with pytest.raises(ConfigError, match=r"boxes.txt: no true box in it"):
        read_truth(path)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("1,2,3,4,5", r"expected frame,id,left,top,width,height, found 5 columns"),
        ("{}", r"expected .*, found 1 columns"),
        ("1,1,0,x,9,9", r"top: expected a number from -1000000 to 1000000, found 'x'"),
        ("1,1,0,,9,9", r"top: expected a number .* found ''"),
        ("1,1,nan,0,9,9", r"left: .* found 'nan'"),
        ("1,1,0,inf,9,9", r"top: .* found 'inf'"),
        ("1,1,0,0,9,9,nan", r"mark: .* found 'nan'"),
        ("1,1.5,0,0,9,9", r"id: expected a whole number from 0 to .*, found '1.5'"),
        ("1,-1,0,0,9,9", r"id: .* found '-1'"),
        ("0,1,0,0,9,9", r"frame: expected a whole number from 1 to 1000000, found '0'"),
        ("1.5,1,0,0,9,9", r"frame: .* found '1.5'"),
        ("1000000000,1,0,0,9,9", r"frame: .* found '1000000000'"),
        ("1,1,0,0,-9,9", r"width: expected a number from 0 to 1000000, found '-9'"),
        ("1,1,0,0,9,-9", r"height: .* found '-9'"),
        ("1,1,0,0,9,1e300", r"height: .* found '1e300'"),
        ("7,7,0,0,8,8", r"id 7 stands twice in frame 7"),
        ("7,8,0,0,8,8,0", r"id 8 stands twice in frame 7"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    path = put(tmp_path, f"7,7,0,0,9,9,1\n7,8,0,0,9,9,0\n{line}\n")
    for read in (read_truth, read_tracks):
        with pytest.raises(ConfigError, match=rf"boxes.txt, line 3: {complaint}"):
            read(path)


def test_too_many_boxes_in_a_frame_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "".join(f"1,{number},0,0,9,9\n" for number in range(MAX_BOXES + 1)))
    with pytest.raises(ConfigError, match=r"line 1001: more than 1000 boxes in frame 1"):
        read_tracks(path)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.txt: cannot be read: No such file"):
        read_tracks(tmp_path / "none.txt")
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        read_truth(tmp_path)
    (tmp_path / "film.mp4").write_bytes(bytes(range(256)))
    with pytest.raises(ConfigError, match=r"film.mp4: not a text file"):
        read_truth(tmp_path / "film.mp4")


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2**40), PIXELS, PIXELS, SIDES, SIDES), max_size=20))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, ...]]) -> None:
    unique = {row[:2]: (*row[:4], row[2] + row[4], row[3] + row[5]) for row in rows}
    boxes = trajectories(list(unique.values()))
    counts = boxes.track_id % 2 == 0
    folder = tmp_path_factory.mktemp("mot")
    again = read_tracks(put(folder, tracks_text(boxes, np.linspace(0, 1, len(counts)))))
    for one, other in ((again.frame, boxes.frame), (again.track_id, boxes.track_id), (again.xyxy, boxes.xyxy)):
        np.testing.assert_array_equal(one, other)
    if counts.any():
        counted = read_truth(put(folder, truth_text(boxes, counts)))
        assert counted.track_id.tolist() == boxes.track_id[counts].tolist()


def test_the_columns_that_others_read() -> None:
    boxes = trajectories([(1, 2, 0.5, 1, 2, 3), (3, 4, 5, 6, 7, 8)])
    assert tracks_text(boxes, np.array([0.98765, 1])) == (
        "1,2,0.5,1.0,1.5,2.0,0.9877,-1,-1,-1\n3,4,5.0,6.0,2.0,2.0,1.0000,-1,-1,-1\n"
    )
    assert truth_text(boxes, np.array([True, False])) == ("1,2,0.5,1.0,1.5,2.0,1,1,1\n3,4,5.0,6.0,2.0,2.0,0,8,0\n")

"""Label files: TAO's JSON, iBUG's .pts, dlib's XML; what is read and what is refused."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import ConfigError
from edgeface.evaluate.labels import LabelledPicture, demo_labels, frames, read_labels

POINTS = [(10.0, 20.0), (30.25, 22.0), (20.0, 45.5)]
FLAT = [(float(i), 20.0 if i < 68 else float(i)) for i in range(80)]  # but for the pupils and ears
COORDINATES = st.integers(-4000, 4000).map(lambda quarter: quarter / 4)
SHAPES = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=2, max_size=8).filter(
    lambda points: all(len(set(axis)) > 1 for axis in zip(*points, strict=True))
)


def put(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def picture(folder: Path, name: str = "a.png", width: int = 64, height: int = 48) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, np.full((height, width, 3), 90, np.uint8))[1].tobytes())
    return path


def pts(points: list[tuple[float, float]] = POINTS) -> str:
    return f"version: 1\nn_points:  {len(points)}\n{{\n" + "".join(f"{x!r} {y!r}\n" for x, y in points) + "}\n"


def fiducials(points: list[tuple[float, float]] = POINTS, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"class": "FiducialPoints", "tool-version": "1.0", "version": "v1"}
    for number, (x, y) in enumerate(points, 1):
        found |= {f"P{number}x": x, f"P{number}y": y}
    return found | more


def face_box(x: float, y: float, width: float, height: float) -> dict[str, Any]:
    numbers = zip(("x", "y", "width", "height"), (x, y, width, height), strict=True)
    return {"class": "FaceBbox", "Occlusionx": 0.0} | {f"face_tight_bbox{key}": value for key, value in numbers}


def tao(*annotations: dict[str, Any], name: str = "a.png") -> str:
    eyes = {"class": "eyes", "l_eyex": 1.0, "l_status": "open"}
    return json.dumps([{"class": "image", "filename": name, "annotations": [*annotations, eyes]}])


def dlib(boxes: str, name: str = "a.png") -> str:
    head = "<?xml version='1.0' encoding='ISO-8859-1'?>\n<?xml-stylesheet type='text/xsl' href='x.xsl'?>\n"
    return f"{head}<dataset><images>\n<image file='{name}'>\n{boxes}\n</image></images></dataset>\n"


def dlib_box(points: list[tuple[float, float]] = POINTS, first: int = 0, more: str = "") -> str:
    parts = [f"<part name='{number:02}' x='{x!r}' y='{y!r}'/>" for number, (x, y) in enumerate(points, first)]
    return f"<box top='8' left='4' width='30' height='40' {more}>{''.join(parts)}</box>"


def test_pixels_of_pts_count_from_1(tmp_path: Path) -> None:
    image = picture(tmp_path)
    (found,) = read_labels(put(tmp_path, "a.pts", "\ufeff" + pts()))
    assert found.xy.tolist() == [[[9.5, 19.5], [29.75, 21.5], [19.5, 45.0]]]
    assert np.isnan(found.xyxy).all()
    assert found.xyxy.shape == (1, 4)
    assert (found.occluded, found.path, found.frame, found.name) == (None, image, None, str(image))


def test_pixels_of_dlib_count_from_0_and_its_boxes_have_no_plus_1(tmp_path: Path) -> None:
    picture(tmp_path)
    ignored, empty = dlib_box(more="ignore='1'"), "<box top='1' left='1' width='9' height='9'/>"
    text = dlib(dlib_box() + ignored + empty + dlib_box(POINTS[::-1], first=1))
    (found,) = read_labels(put(tmp_path, "labels.xml", text))
    assert found.xy.tolist() == [
        [[10.5, 20.5], [30.75, 22.5], [20.5, 46.0]],
        [[20.5, 46.0], [30.75, 22.5], [10.5, 20.5]],
    ]
    assert found.xyxy.tolist() == [[4, 8, 34, 48]] * 2
    assert found.occluded is None


def test_parts_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    picture(tmp_path)
    points = [(float(number), 0.5 * number) for number in range(12)]
    text = dlib(dlib_box(points).replace("'00'", "'x'").replace("'11'", "'0'").replace("'x'", "'11'"))
    (found,) = read_labels(put(tmp_path, "labels.xml", text))
    assert found.xy[0, :, 0].tolist() == [11.5, *(number + 0.5 for number in range(1, 11)), 0.5]


def test_tao_has_occluded_points_and_a_tight_box(tmp_path: Path) -> None:
    picture(tmp_path)
    text = tao(face_box(1, 2, 30, 40), fiducials(P2occluded=True, P3occluded=False, P2x="30.25"))
    (found,) = read_labels(put(tmp_path, "labels.json", text))
    assert found.xy.tolist() == [[[10.5, 20.5], [30.75, 22.5], [20.5, 46.0]]]
    assert found.xyxy.tolist() == [[1, 2, 31, 42]]
    assert found.occluded is not None
    assert found.occluded.tolist() == [[False, True, False]]


def test_tao_without_boxes_without_faces_and_with_two(tmp_path: Path) -> None:
    picture(tmp_path)
    entries = [
        *json.loads(tao(fiducials(), fiducials(POINTS[::-1]))),
        *json.loads(tao(face_box(1, 2, 3, 4))),  # a face that nobody gave points
        *json.loads(tao(name="missing.png")),
    ]
    (found,) = read_labels(put(tmp_path, "labels.json", json.dumps(entries)))
    assert found.xy.shape == (2, 3, 2)
    assert np.isnan(found.xyxy).all()


def test_a_folder_of_pts_or_of_json_files(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png"):
        picture(tmp_path, name)
    put(tmp_path, "b.pts", pts())
    put(tmp_path, "a.pts", pts())
    put(tmp_path, "notes.txt", "")
    assert [found.path.name for found in read_labels(tmp_path)] == ["a.png", "b.JPG"]
    folder = tmp_path / "json"
    picture(folder, "a.png")
    put(folder, "1.json", tao(fiducials()))
    put(folder, "2.json", tao(fiducials()))
    assert [found.path for found in read_labels(folder)] == [folder / "a.png"] * 2


def test_pictures_may_lie_elsewhere(tmp_path: Path) -> None:
    picture(tmp_path / "pictures", "a.png")
    for name, text in (("a.pts", pts()), ("a.json", tao(fiducials())), ("a.xml", dlib(dlib_box()))):
        path = put(tmp_path, name, text)
        assert read_labels(path, tmp_path / "pictures")[0].path == tmp_path / "pictures" / "a.png"
        with pytest.raises(ConfigError, match=r"no picture .*a.png|expected one picture"):
            read_labels(path)


@given(SHAPES)
def test_all_forms_say_the_same(points: list[tuple[float, float]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture(folder)
        from_1 = [(x + 1, y + 1) for x, y in points]
        files = [("a.pts", pts(from_1)), ("a.json", tao(fiducials(points))), ("a.xml", dlib(dlib_box(points)))]
        found = [read_labels(put(folder, file, text))[0].xy for file, text in files]
    np.testing.assert_allclose(found, np.broadcast_to(np.array([points]) + 0.5, np.shape(found)), atol=1e-9)


@given(st.sampled_from(["a.pts", "a.json", "a.xml"]), st.integers(0, 400), st.integers(0, 9), st.binary(max_size=9))
def test_damaged_labels_are_refused_or_read(kind: str, at: int, gone: int, put_in: bytes) -> None:
    texts = {"a.pts": pts(), "a.json": tao(face_box(1, 2, 30, 40), fiducials()), "a.xml": dlib(dlib_box())}
    text = texts[kind].encode()
    with tempfile.TemporaryDirectory() as name:
        picture(Path(name))
        path = put(Path(name), kind, text[:at] + put_in + text[at + gone :])
        try:
            found = read_labels(path)
        except ConfigError as error:
            assert name in str(error)
        else:
            assert all(np.isfinite(labelled.xy).all() for labelled in found)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.pts", "", "expected 'version: 1', 'n_points: N'"),
        ("a.pts", pts()[:-3], "expected 'version: 1'"),
        ("a.pts", pts().replace("n_points:  3", "n_points: 4"), "n_points is 4, but there are 6 coordinates"),
        ("a.pts", pts().replace("n_points:  3", "n_points: 0"), "n_points is 0"),
        ("a.pts", pts([(1.0, 2.0)] * 1001), "n_points is 1001"),
        ("a.pts", pts().replace("45.5", "45.5 1"), "but there are 7 coordinates"),
        ("a.pts", pts().replace("45.5", "nan"), "expected a number of pixels, found 'nan'"),
        ("a.pts", pts().replace("45.5", "1e300"), "expected a number of pixels, found '1e300'"),
        ("a.pts", pts().replace("45.5", "low"), "expected a number of pixels, found 'low'"),
        ("a.pts", pts([(5.0, 5.0)] * 3), "its points are not spread over a face"),
        ("a.pts", pts([(float(i % 9), 2.0 * (i % 9)) for i in range(68)]), "not spread over a face"),  # 36 and 45
        ("a.pts", b"\xff\xfe\x00", "not a text file"),
        ("b.pts", pts(), "expected one picture"),
        ("a.json", "", "not JSON"),
        ("a.json", tao(fiducials())[:-9], "not JSON"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", "{}", "expected a list of objects"),
        ("a.json", "[1]", "expected a list of objects"),
        ("a.json", "[{}]", "picture 1: expected a filename, found 'None'"),
        ("a.json", '[{"filename": "a.png"}]', "(a.png), annotations: expected a list of objects"),
        ("a.json", "[]", "no labelled face in it"),
        ("a.json", tao(), "no labelled face in it"),
        ("a.json", tao(fiducials(), name="b.png"), "picture 1 (b.png): there is no picture"),
        ("a.json", tao(fiducials(), name="b" * 5000), "there is no picture"),
        ("a.json", tao(fiducials(), name="b\0"), "there is no picture"),
        ("a.json", tao({"class": "FiducialPoints"}), "found 0 points"),
        ("a.json", tao(fiducials(P5x=1, P5y=1)), "expected P1x, P1y to PNx, PNy without a gap; found 4 points"),
        ("a.json", tao(fiducials(P4x=1)), "without a gap; found 4 points"),
        ("a.json", tao(fiducials(P3x=None)), "expected a number of pixels, found 'None'"),
        ("a.json", tao(fiducials(P3x=True)), "expected a number of pixels, found 'True'"),
        ("a.json", tao(fiducials(P3x=float("nan"))), "expected a number of pixels, found 'nan'"),
        ("a.json", tao(fiducials(P3x=10**400)), "expected a number of pixels, found '1000"),
        ("a.json", tao(fiducials(), fiducials(POINTS[:2])), "expected 3 points as in the face before, found 2"),
        ("a.json", tao(fiducials(), fiducials(), face_box(1, 1, 9, 9)), "2 FiducialPoints, but 1 FaceBbox"),
        ("a.json", tao(fiducials(), face_box(1, 1, 9, -1)), "expected a box with a width and a height above 0"),
        ("a.json", tao(fiducials(), face_box(1, 1, 0, 9)), "expected a box with a width and a height above 0"),
        ("a.json", tao(fiducials(), {"class": "FaceBbox"}), "face_tight_bboxx: expected a number of pixels"),
        ("a.json", tao(*[fiducials()] * 1001), "expected at most 1000 faces in a picture, found 1001"),
        ("a.json", tao(fiducials(FLAT)), "its points are not spread over a face"),
        ("a.xml", "", "not XML: no element found"),
        ("a.xml", dlib(dlib_box())[:-30], "not XML"),
        ("a.xml", "<?xml version='1.0' encoding='klingon'?><a/>", "not XML"),
        ("a.xml", "<?xml version='1.0' encoding='utf-7'?><a/>", "not XML"),
        ("a.xml", "<html/>", "no labelled face in it"),
        ("a.xml", dlib(dlib_box(more="ignore='1'")), "no labelled face in it"),
        ("a.xml", dlib("") + dlib_box(), "not XML"),
        ("a.xml", dlib(f"</image>{dlib_box()}<image file='a.png'>"), "no labelled face in it"),
        ("a.xml", dlib(dlib_box(), name=""), "line 4: expected an image with its file"),
        ("a.xml", dlib(dlib_box(first=2)), "expected parts from 0 or 1 without a gap, found 3 parts"),
        ("a.xml", dlib(dlib_box().replace("'01'", "'07'")), "without a gap"),
        ("a.xml", dlib(dlib_box().replace("'01'", "'0'")), "a number of its own, found '0'"),
        ("a.xml", dlib(dlib_box().replace("'01'", "'nose'")), "a number of its own, found 'nose'"),
        ("a.xml", dlib(dlib_box().replace("x='10.0'", "")), "expected a number of pixels, found 'None'"),
        ("a.xml", dlib(dlib_box().replace("width='30'", "width='-3'")), "line 5: expected a box with a width"),
        ("a.xml", dlib(dlib_box(), name="b.png"), "there is no picture"),
        ("a.txt", "", "expected a .json (TAO), .xml (dlib) or .pts (iBUG) file, or a folder"),
    ],
)
def test_labels_that_are_not_what_they_claim(tmp_path: Path, name: str, text: str | bytes, complaint: str) -> None:
    picture(tmp_path)
    path = put(tmp_path, name, text)
    with pytest.raises(ConfigError) as caught:
        read_labels(path)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)


def test_entities_are_refused_before_they_grow(tmp_path: Path) -> None:
    picture(tmp_path)
    entities = "".join(f"<!ENTITY e{i} '{f'&e{i - 1};' * 10 if i else 'x' * 10}'>" for i in range(12))
    bomb = dlib(dlib_box().replace("'4'", "'&e11;'")).replace("<dataset>", f"<!DOCTYPE d [{entities}]><dataset>")
    with pytest.raises(ConfigError, match="a document type declaration"):
        read_labels(put(tmp_path, "a.xml", bomb))


def test_folders_that_hold_no_labels(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a folder with .*, found neither"):
        read_labels(tmp_path)
    with pytest.raises(ConfigError, match=r"none: cannot be read: No such file"):
        read_labels(tmp_path / "none")
    put(tmp_path, "a.pts", pts())
    put(tmp_path, "a.json", tao(fiducials()))
    with pytest.raises(ConfigError, match="found both"):
        read_labels(tmp_path)


def test_one_picture_for_a_name_and_equal_numbers_of_points(tmp_path: Path) -> None:
    picture(tmp_path, "a.png")
    put(tmp_path, "a.pts", pts())
    picture(tmp_path, "b.png")
    put(tmp_path, "b.pts", pts(POINTS[:2]))
    with pytest.raises(ConfigError, match=r"expected equal numbers of points; found 3 in .*a.png and 2 in .*b.png"):
        read_labels(tmp_path)
    picture(tmp_path, "a.jpg")
    with pytest.raises(ConfigError, match=r"expected one picture .*, found a.jpg and a.png"):
        read_labels(tmp_path)


def test_frames_of_pictures(tmp_path: Path) -> None:
    picture(tmp_path, width=64, height=48)
    ((frame, labelled),) = frames(read_labels(put(tmp_path, "a.pts", pts())))
    assert (frame.width, frame.height, frame.format) == (64, 48, "bgr8")
    assert frame.pixels.shape == (48, 64, 3)
    assert labelled.path == tmp_path / "a.png"


@pytest.mark.parametrize(
    "points",
    [
        [(500.0, 500.0), (520.0, 530.0)],  # a face beside the picture
        [(-20.0, 10.0), (-2.0, 30.0)],
        [(-100.0, 20.0), (120.0, 30.0)],  # a point further out than the picture is wide
        [(-10.0, 20.0), (130.0, 30.0)],
    ],
)
def test_labels_of_another_picture(tmp_path: Path, points: list[tuple[float, float]]) -> None:
    picture(tmp_path, width=64, height=48)
    with pytest.raises(ConfigError, match=r"a.png: its labels lie outside of its 64 x 48 pixels"):
        list(frames(read_labels(put(tmp_path, "a.pts", pts(points)))))


def test_a_picture_that_is_none(tmp_path: Path) -> None:
    put(tmp_path, "a.png", b"\x89PNG\r\n\x1a\n nothing")
    with pytest.raises(ConfigError, match=r"a.png: not a picture that OpenCV can read"):
        list(frames(read_labels(put(tmp_path, "a.pts", pts()))))
    (tmp_path / "a.png").rename(tmp_path / "a\udcff.png")  # as Python names the byte 255; OpenCV would crash
    with pytest.raises(ConfigError, match=r"not a picture that OpenCV can read"):
        list(frames(read_labels((tmp_path / "a.pts").rename(tmp_path / "a\udcff.pts"))))
    put(tmp_path, "a.pts", pts())
    put(tmp_path, "a.png", "P6\n100000 100000\n255\n")  # more pixels than OpenCV takes
    with pytest.raises(ConfigError, match=r"a.png: not a picture that OpenCV can read"):
        list(frames(read_labels(tmp_path / "a.pts")))


def test_the_demo_clip_has_its_truth() -> None:
    labels = demo_labels()
    assert len(labels) == 300
    assert sum(len(labelled.xy) for labelled in labels) == 1187
    assert labels[7].xy.shape == (len(labels[7].xyxy), 68, 2)
    assert labels[7].name == "demo.mp4, frame 7"
    some: list[LabelledPicture] = labels[2:12:4]
    shown = list(frames(some))
    assert [labelled.frame for _, labelled in shown] == [2, 6, 10]
    assert [frame.frame_id for frame, _ in shown] == [2, 6, 10]


def test_dlibs_own_labels(data: Path) -> None:
    found = read_labels(data / "landmarks" / "training_with_face_landmarks.xml")
    assert [len(labelled.xy) for labelled in found] == [7, 6, 2, 3]
    assert found[0].xy[0, :2].tolist() == [[201.5, 107.5], [201.5, 110.5]]
    assert found[0].xyxy[0].tolist() == [194, 90, 231, 127]
    assert [frame.pixels.shape[:2] for frame, _ in frames(found)] == [(375, 500), (375, 500), (480, 360), (375, 500)]

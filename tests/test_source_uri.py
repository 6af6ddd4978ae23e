"""Source URIs: taken apart, wrong ones refused with one line."""

from __future__ import annotations

import glob
from pathlib import Path

import pytest

from edgeface.errors import ConfigError
from edgeface.source_uri import ScenarioUri, SourceUri, camera_problem, parse_source, unpaced, without_password


@pytest.mark.parametrize(
    ("uri", "kind", "target"),
    [
        ("/a/b.mp4", "file", "/a/b.mp4"),
        ("file:///a/b.mp4", "file", "/a/b.mp4"),
        ("b.jpg", "pictures", "b.jpg"),
        ("images:/a/*.png", "pictures", "/a/*.png"),
        ("images:/a/frame?.png", "pictures", "/a/frame?.png"),
        ("0", "camera", "/dev/video0"),
        ("v4l2:///dev/video2", "camera", "/dev/video2"),
        ("rtsp://user:secret@cam/stream?profile=1", "stream", "rtsp://user:secret@cam/stream?profile=1"),
        ("http://cam/mjpeg", "stream", "http://cam/mjpeg"),
    ],
)
def test_source_uris(uri: str, kind: str, target: str) -> None:
    parsed = parse_source(uri)
    assert (parsed.kind, parsed.target) == (kind, target)


@pytest.mark.parametrize("uri", ["film\udcff.mp4", "rtsp://cam/\udcff", "images:\udcff/*.png"])
def test_a_source_that_opencv_would_crash_at(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"udcff.*': expected a name in UTF-8"):
        parse_source(uri)


def test_a_stream_may_have_a_long_name() -> None:
    uri = f"http://cam/mjpeg?token={'x' * 5000}"
    assert parse_source(uri).target == uri


def test_source_options() -> None:
    parsed = parse_source("images:/a/frame?.png?loop=1&fps=12.5&pace=0")
    assert (parsed.target, parsed.loop, parsed.fps, parsed.pace) == ("/a/frame?.png", True, 12.5, False)
    demo = parse_source("demo:?loop=1")
    assert demo.loop
    assert Path(demo.target).is_file()


def test_existing_files_are_files_whatever_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a:b.mp4", "a?b=c.mp4", "with space.mp4", "shot[1].png", "7"):
        Path(name).touch()
        parsed = parse_source(name)
        assert parsed.kind == ("pictures" if name.endswith("png") else "file")
        assert parsed.target == (glob.escape(name) if parsed.kind == "pictures" else name)
    assert parse_source("file:///a%20b.mp4").target == "/a b.mp4"
    assert parse_source("/dev/video3").kind == "camera"
    assert parse_source("/tmp/none:b.mp4").target == "/tmp/none:b.mp4"


def test_somebody_whom_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match="home"):
        parse_source("~nobody-of-that-name/a.mp4")


@pytest.mark.parametrize(
    "uri", ["file://demo.mp4", "demo:x", "a.mp4?lop=1", "a.mp4?loop=2", "a.mp4?fps=0", "a.mp4?fps=x", "gopher://x"]
)
def test_wrong_sources_are_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        parse_source(uri)


def test_scenarios_and_their_options() -> None:
    assert parse_source("scenario:crossing") == ScenarioUri("crossing", 5, 1, 30.0, 300, False, True)
    options = "faces=0&seed=4294967295&fps=12.5&frames=1000000&loop=1&pace=0"
    assert parse_source(f"scenario:leave-and-return?{options}") == ScenarioUri(
        "leave-and-return", 0, 2**32 - 1, 12.5, 1_000_000, True, False
    )


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("scenario:party?seed=1", "expected scenario:NAME with one of crossing, crowd, .*, slow; found 'party'"),
        ("scenario:", "expected scenario:NAME with one of crossing"),
        ("scenario:crowd?facs=3", "unknown field `facs`"),
        ("scenario:crowd?faces=501", r"<= 500 - at `\$.faces`"),
        ("scenario:crowd?faces=-1", r">= 0 - at `\$.faces`"),
        ("scenario:crowd?faces=", r"Expected `int`, got `str` - at `\$.faces`"),
        ("scenario:crowd?seed=-1", r">= 0 - at `\$.seed`"),
        ("scenario:crowd?seed=4294967296", r"at `\$.seed`"),
        ("scenario:crowd?fps=0.09", r">= 0.1 - at `\$.fps`"),
        ("scenario:crowd?fps=1001", r"at `\$.fps`"),
        ("scenario:crowd?fps=nan", r"at `\$.fps`"),
        ("scenario:crowd?frames=0", r">= 1 - at `\$.frames`"),
        ("scenario:crowd?frames=1000001", r"at `\$.frames`"),
        ("scenario:crowd?loop=2", r"at `\$.loop`"),
        ("scenario:crowd?seed=1&seed=2", "each key once"),
        ("scenario:crowd?name=shake", "each key once"),
    ],
)
def test_wrong_scenarios_are_refused(uri: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        parse_source(uri)
    assert uri in str(caught.value)


def test_cameras_and_their_options() -> None:
    assert parse_source("0") == SourceUri("camera", "/dev/video0")
    asked = SourceUri("camera", "/dev/video2", width=1280, height=720, fps=30)
    for name in ("2", "/dev/video2", "v4l2:///dev/video2"):
        assert parse_source(f"{name}?width=1280&height=720&fps=30") == asked
    assert parse_source("v4l2:///dev/v4l/by-id/usb-cam?fps=5") == SourceUri("camera", "/dev/v4l/by-id/usb-cam", fps=5)
    assert parse_source("csi://0") == parse_source("csi:0") == SourceUri("csi", "0")
    assert parse_source("csi://12?flip=rotate-180&fps=60") == SourceUri("csi", "12", fps=60, flip="rotate-180")


def test_a_pipeline_is_taken_as_it_is() -> None:
    pipeline = "videotestsrc pattern=ball ! videoconvert ! appsink name=a?b=1"
    assert parse_source(f"gstreamer:{pipeline} ") == SourceUri("gstreamer", pipeline)


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("csi://", "expected csi:// and the camera's number"),
        ("csi://front", "expected csi:// and the camera's number"),
        ("csi://0/1", "expected csi:// and the camera's number"),
        ("csi://100", "expected csi:// and the camera's number"),
        ("csi://0?flip=up", r"Invalid enum value 'up' - at `\$.flip`"),
        ("csi://0?width=1280", "expected width and height together"),
        ("0?height=720", "expected width and height together"),
        ("0?width=15&height=720", r">= 16 - at `\$.width`"),
        ("0?width=1280&height=16385", r"<= 16384 - at `\$.height`"),
        ("0?width=&height=720", r"at `\$.width`"),
        ("0?fps=0", r">= 1 - at `\$.fps`"),
        ("0?fps=1001", r"<= 1000 - at `\$.fps`"),
        ("0?fps=29.97", r"Expected `int`, got `str` - at `\$.fps`"),
        ("0?fps=30&fps=60", "each key once"),
        ("0?flip=none", "unknown field `flip`"),
        ("/dev/video0?loop=1", "unknown field `loop`"),
        ("v4l2:///dev/video0?pace=0", "unknown field `pace`"),
        ("csi://0?kind=file", "unknown field `kind`"),
        ("gstreamer:", "that ends in appsink"),
        ("gstreamer:videotestsrc ! fakesink", "that ends in appsink"),
    ],
)
def test_wrong_cameras_and_pipelines_are_refused(uri: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        parse_source(uri)
    assert uri in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "live"), [("demo:", False), ("a.png", False), ("0", True), ("csi://0", True), ("rtsp://cam", True)]
)
def test_cameras_and_streams_are_live(uri: str, live: bool) -> None:
    assert parse_source(uri).live == live


def test_whether_a_camera_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "video0"
    assert camera_problem(str(device)) == f"{device}: no such camera"
    device.touch()
    assert camera_problem(str(device)) == ""
    monkeypatch.setattr("os.access", lambda *_: False)
    assert camera_problem(str(device)) == f"{device}: no permission; add the user to the group 'video'"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://user:p@ss@cam/a", "rtsp://cam/a"),
        ("rtsp://cam/a", "rtsp://cam/a"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize("uri", ["demo:", "demo:?pace=1", "demo:?fps=5&pace=1", "images:shot?.png", "film?.mp4?fps=5"])
def test_any_film_may_be_read_as_fast_as_it_can(uri: str) -> None:
    before, after = parse_source(uri), parse_source(unpaced(uri))
    assert not after.pace
    assert (after.kind, after.target, after.fps) == (before.kind, before.target, before.fps)


def test_a_file_that_is_named_like_an_option_may_be_read_so_too(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4?fps=5"
    path.touch()
    source = parse_source(unpaced(str(path)))
    assert (source.target, source.pace, source.fps) == (str(path), False, 0)

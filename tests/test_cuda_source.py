"""Capture through jetson-utils: what it gives, and everything that can go wrong with it."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeDetector, FakePublisher, detections, fake_jetson_utils, tracker

from edgeface import daemon
from edgeface.cuda import jetson
from edgeface.cuda.picture import BT601, BT709, Picture
from edgeface.cuda.source import open_source
from edgeface.daemon import Health, Stop, loop
from edgeface.errors import CameraError, ConfigError, EndOfStream, SourceError
from edgeface.pipeline import Pipeline
from edgeface.schedule import KeyframeSchedule
from edgeface.seams import Source
from edgeface.source_uri import SourceUri, parse_source
from edgeface.values import Frame

S = 1_000_000_000
CAMERA = "v4l2:///dev/null"  # exists and may be opened, as far as anybody can see; /dev/null for jetson-utils too


@pytest.fixture
def utils(monkeypatch: pytest.MonkeyPatch) -> Any:
    """jetson_utils, in a time that passes only when somebody waits."""
    module = fake_jetson_utils(monkeypatch)
    module.clock = module.VirtualClock()
    monkeypatch.setattr("edgeface.cuda.source.time", module.clock)
    return module


def opened(utils: Any, device: Any, uri: str = "csi://0", **more: Any) -> Source:
    parsed = parse_source(uri)
    utils.devices[jetson.address(parsed)] = device
    return open_source(parsed, **more)


def next_frame(source: Source) -> Frame:
    frame = source.read(1.0)
    assert frame is not None
    return frame


def until(source: Source, condition: Callable[[], bool], reads: int = 5000) -> None:
    for _ in range(reads):
        if condition():
            return
        source.read(0.1)
    raise AssertionError("waited in vain")


def pixels(utils: Any, picture: Picture) -> np.ndarray:
    memory: np.ndarray = utils.memories[picture.plane]
    assert len(memory) == picture.nbytes
    return memory


# --- frames


def test_a_csi_camera_is_captured_as_it_is(utils: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    source = opened(utils, utils.Device(64, 48), stream=77)
    first, second = next_frame(source), next_frame(source)
    assert (first.width, first.height, first.format) == (64, 48, "nv12")
    assert isinstance(first.pixels, Picture)
    assert (first.pixels.pitch, first.pixels.chroma_pitch, first.pixels.nbytes) == (64, 64, 64 * 72)
    assert first.pixels.chroma - first.pixels.plane == 64 * 48
    assert first.pixels.yuv == BT601
    assert first.pixels.owner.ptr == first.pixels.plane
    assert set(pixels(utils, second.pixels)) == {second.frame_id}
    device = utils.opened[0]
    assert set(device.formats) == {"raw"}
    assert set(device.streams) == {77}
    assert source.expected_hz == 30
    assert (source.live, source.problem) == (True, "")
    assert caplog.text.count("csi://0: 64 x 48 nv12, as captured, at 30/s") == 1


@pytest.mark.parametrize(
    ("pixel_format", "size", "pitch", "rows"),
    [
        ("yuyv", (64, 48), 128, 48),
        ("yuyv", (63, 47), 128, 47),
        ("rgb8", (63, 47), 192, 47),
        ("gray8", (62, 47), 64, 47),
        ("nv12", (62, 47), 64, 72),
        ("nv12", (64, 48), 64, 72),
    ],
)
def test_rows_lie_as_gstreamer_lays_them(
    utils: Any, pixel_format: str, size: tuple[int, int], pitch: int, rows: int
) -> None:
    picture = next_frame(opened(utils, utils.Device(*size, format=pixel_format))).pixels
    assert (picture.pitch, picture.nbytes) == (pitch, pitch * rows)
    assert picture.nbytes == utils.gstreamer_size(pixel_format, *size)
    if pixel_format == "nv12":
        assert picture.chroma - picture.plane == pitch * 48
    else:
        assert (picture.chroma, picture.chroma_pitch) == (0, 0)


@pytest.mark.parametrize("pixel_format", ["i420", "uyvy"])
def test_what_the_kernels_cannot_read_is_converted(
    utils: Any, pixel_format: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source = opened(utils, utils.Device(63, 47, pixel_format), stream=5)
    frame = next_frame(source)
    assert frame.format == "rgb8"
    assert (frame.pixels.pitch, frame.pixels.nbytes) == (63 * 3, 63 * 47 * 3)
    next_frame(source)
    assert utils.opened[0].formats == ["raw", "rgb8", "rgb8"]
    assert not utils.synchronised
    assert f"63 x 47 rgb8, converted from {pixel_format}" in caplog.text


def test_a_camera_that_comes_back_is_captured_as_it_then_is(utils: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    device = utils.Device(
        format="i420", races={3}, runs=[lambda: utils.steady(frames=5), lambda: utils.steady(frames=5)]
    )
    source = opened(utils, device, CAMERA)
    frames = []
    while len(utils.opened) < 4:
        frame = source.read(0.1)
        frames += [frame] if frame else []
        device.format, device.races = ("i420", {3}) if len(utils.opened) == 1 else ("nv12", set())
    assert [frame.format for frame in frames] == ["rgb8"] * 3 + ["nv12"] * 10
    assert source.problem.endswith("no frame for 3 s")  # and nothing of the race of the first time
    assert caplog.text.count("nv12, as captured") == 1


def test_frames_lost_after_a_camera_came_back_show_too(utils: Any) -> None:
    device = utils.Device(runs=[lambda: utils.steady(frames=40), utils.steady])
    source = opened(utils, device, CAMERA)
    until(source, lambda: len(utils.opened) == 2)
    first = next_frame(source).frame_id
    utils.clock.sleep(1.0)
    assert first == 41
    assert next_frame(source).frame_id == 71


def test_an_older_version_takes_no_stream_and_is_asked_once(utils: Any) -> None:
    utils.takes_stream = False
    source = opened(utils, utils.Device(format="i420"), stream=5)
    for _ in range(5):
        next_frame(source)
    assert set(utils.opened[0].streams) == {None}
    assert len(utils.synchronised) == 5  # what it converts, it converts on a stream that ours does not wait for


def test_an_older_version_that_converts_nothing_is_not_waited_for(utils: Any) -> None:
    utils.takes_stream = False
    next_frame(opened(utils, utils.Device()))
    assert not utils.synchronised


@pytest.mark.parametrize(
    ("uri", "rows", "yuv"),
    [
        ("csi://0", 1080, BT601),
        (CAMERA, 1080, BT601),
        ("rtsp://cam/a", 1080, BT709),
        ("rtsp://cam/a", 720, BT709),
        ("rtsp://cam/a", 576, BT601),
    ],
)
def test_cameras_are_bt601_and_high_streams_bt709(utils: Any, uri: str, rows: int, yuv: tuple[float, ...]) -> None:
    assert next_frame(opened(utils, utils.Device(64, rows), uri)).pixels.yuv == yuv


def test_only_the_newest_frame_is_read_and_the_gap_shows(utils: Any) -> None:
    source = opened(utils, utils.Device())
    numbers = [next_frame(source).frame_id]
    utils.clock.sleep(0.5)
    numbers += [next_frame(source).frame_id for _ in range(3)]
    assert numbers == [1, 16, 17, 18]


def test_a_count_that_is_early_or_late_by_one_invents_at_most_one_drop(utils: Any) -> None:
    source = opened(utils, utils.Device(count_error=lambda number: (0, -1, 0, 1, 0, 0)[number % 6]))
    numbers = [next_frame(source).frame_id for _ in range(60)]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] in (60, 61)


def test_a_frame_outlives_seven_more_and_no_eighth(utils: Any) -> None:
    source = opened(utils, utils.Device())
    frame = next_frame(source)
    utils.clock.sleep(7.5 / 30 - 0.001)
    utils.opened[0].source()._receive(utils.clock.monotonic_ns())
    assert set(pixels(utils, frame.pixels)) == {1}
    utils.clock.sleep(1 / 30)
    utils.opened[0].source()._receive(utils.clock.monotonic_ns())
    assert set(pixels(utils, frame.pixels)) == {9}


@pytest.mark.parametrize(("rate", "expected"), [(60, 60), (0, 0), (2**32 - 1, 0)])
def test_a_rate_that_means_nothing_is_unknown(utils: Any, rate: int, expected: float) -> None:
    assert opened(utils, utils.Device(rate=rate)).expected_hz == expected


# --- time


def test_capture_times_are_the_pipelines_own_steps(utils: Any) -> None:
    source = opened(utils, utils.Device(runs=[lambda: utils.steady(late_ns=lambda n: n % 7 * 4_000_000)]))
    frames = [next_frame(source) for _ in range(40)]
    assert {frame.capture_clock for frame in frames} == {"pts"}
    steps = np.diff([frame.capture_ns for frame in frames[7:]])
    np.testing.assert_allclose(steps, S / 30, atol=10_000)


def test_frames_without_timestamps_are_stamped_when_they_are_read(utils: Any, caplog: pytest.LogCaptureFixture) -> None:
    source = opened(utils, utils.Device(runs=[lambda: ((at, 0) for at, _ in utils.steady())]))
    for _ in range(5):
        frame = next_frame(source)
        assert frame.capture_clock == "dequeue"
        assert 0 <= utils.clock.now_ns - frame.capture_ns < 100_000
    assert caplog.text.count("a timestamp is missing or jumps") == 1


def test_a_read_keeps_its_time_out(utils: Any) -> None:
    source = opened(utils, utils.Device(runs=[lambda: utils.steady(frames=1)]))
    next_frame(source)
    for timeout_s in (0.0, 0.02, 0.1, 1.2):
        begun_ns = utils.clock.now_ns
        assert source.read(timeout_s) is None
        assert timeout_s <= (utils.clock.now_ns - begun_ns) / 1e9 < timeout_s + 0.002


# --- what jetson-utils is told


@pytest.mark.parametrize(
    ("flip", "told"),
    [
        ("none", "rotate-180"),
        ("rotate-180", "none"),
        ("clockwise", "clockwise"),
        ("counterclockwise", "counterclockwise"),
        ("horizontal", "horizontal"),
        ("vertical", "vertical"),
    ],
)
def test_a_csi_picture_stands_as_it_should(utils: Any, flip: str, told: str) -> None:
    """For csi jetson-utils swaps "none" and "rotate-180", and so turns every picture by default."""
    opened(utils, utils.Device(), f"csi://0?flip={flip}")
    assert utils.opened[0].options["flipMethod"] == told


def test_size_and_rate_are_options_of_the_right_types(utils: Any) -> None:
    opened(utils, utils.Device(), f"{CAMERA}?width=1280&height=720&fps=60")
    options = utils.opened[0].options
    assert (options["width"], options["height"], options["framerate"]) == (1280, 720, 60.0)
    assert isinstance(options["framerate"], float)
    opened(utils, utils.Device(), CAMERA)
    assert utils.opened[1].options == {"numBuffers": 8}
    assert not utils.ignored


def test_a_link_to_a_camera_is_followed(tmp_path: Path) -> None:
    link = tmp_path / "front"
    link.symlink_to("/dev/null")
    assert jetson.address(SourceUri("camera", str(link))) == "v4l2:///dev/null"


@pytest.mark.parametrize(
    ("uri", "level", "expected"),
    [
        ("csi://0", logging.INFO, "error"),
        ("rtsp://user:secret@cam/a", logging.INFO, "silent"),
        ("rtsp://user:secret@cam/a", logging.DEBUG, "verbose"),
    ],
)
def test_its_own_log_is_kept_off_stdout_and_tells_no_password(
    utils: Any, uri: str, level: int, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level)
    opened(utils, utils.Device(), uri)
    assert utils.log == {"filename": "stderr", "level": expected}


# --- what is not opened


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("images:/tmp/*.png", "opens no pictures"),
        ("gstreamer:videotestsrc ! appsink", "opens no pipelines"),
        ("demo:?pace=0", "at their own speed: expected neither pace=0 nor fps"),
        ("demo:?fps=5", "at their own speed: expected neither pace=0 nor fps"),
        ("/tmp/film.ogv", "expected one of .mkv, .mp4"),
        ("http://user:secret@cam/mjpeg", "opens rtsp:// only"),
        ("rtsp://cam/a b", "no names with spaces"),
        ("/tmp/my film.mp4", "no names with spaces"),
        ("/tmp/100%.mp4", "no films with %"),
    ],
)
def test_what_jetson_utils_cannot_open_is_refused(utils: Any, uri: str, complaint: str) -> None:
    parsed = parse_source(uri)
    assert complaint in jetson.refusal(parsed)
    with pytest.raises(ConfigError, match=r'set capture = "opencv" under \[cuda\]') as caught:
        open_source(parsed)
    assert "secret" not in str(caught.value)
    assert not utils.opened


@pytest.mark.parametrize("uri", ["csi://0", "0", "demo:?loop=1", "rtsp://user:se%20cret@cam:554/a?b=1"])
def test_what_jetson_utils_can_open(uri: str) -> None:
    assert jetson.refusal(parse_source(uri)) == ""


MODULES = {
    "": "not installed, or hidden from this environment",
    "raise RuntimeError('no\\n libnvinfer')": "jetson-utils: no libnvinfer; build it",
    "import no_such_module_of_it": "No module named 'no_such_module_of_it'",
    "HAS_JETSON_UTILS_EXT = False": "only its Python half is here",
    "def serial(): pass": "another package of that name, maybe PyPI's: pip uninstall jetson-utils",
}


@pytest.mark.parametrize("text", MODULES)
def test_a_missing_half_or_wrong_module_is_one_line(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if text:
        (tmp_path / "jetson_utils.py").write_text(f"import logging\nlogging.setLoggerClass(logging.Logger)\n{text}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "jetson_utils", raising=False)
    with pytest.raises(ConfigError) as caught:
        open_source(parse_source("csi://0"))
    sys.modules.pop("jetson_utils", None)
    assert MODULES[text] in str(caught.value)
    assert "cmake" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_of_that_name_is_not_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jetson_utils").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "jetson_utils", raising=False)
    with pytest.raises(ConfigError, match="a folder is another package"):
        jetson.find_jetson_utils()
    sys.modules.pop("jetson_utils", None)


def test_our_log_lines_are_printed_once_though_it_sets_a_logger_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import logging\nclass Logger(logging.Logger): pass\nlogging.setLoggerClass(Logger)\nvideoSource = 1\n"
    (tmp_path / "jetson_utils.py").write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "jetson_utils", raising=False)
    before = logging.getLoggerClass()
    assert jetson.find_jetson_utils().videoSource == 1
    sys.modules.pop("jetson_utils", None)
    assert logging.getLoggerClass() is before


# --- films


@pytest.fixture
def film(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"film")
    return str(path)


def test_a_film_ends_with_a_sentence(utils: Any, film: str) -> None:
    device = utils.Device(height=720, runs=[lambda: utils.steady(frames=20)], ends=True)
    source = opened(utils, device, film)
    frames = []
    with pytest.raises(EndOfStream, match=r"film\.mp4 has ended"):
        while True:
            frames.append(source.read(0.1))
    assert [frame.frame_id for frame in frames if frame] == list(range(1, 21))
    assert (source.live, source.waiting) == (False, True)
    assert frames[0].pixels.yuv == BT709


def test_a_film_can_repeat(utils: Any, film: str) -> None:
    source = opened(utils, utils.Device(runs=[lambda: utils.steady(frames=5)], ends=True), f"{film}?loop=1")
    frames: list[Frame] = []
    while len(frames) < 12:
        frame = source.read(0.1)
        frames += [frame] if frame else []
    assert [frame.frame_id for frame in frames] == list(range(1, 13))
    assert {frame.capture_clock for frame in frames} == {"pts"}
    stamps = [frame.capture_ns for frame in frames]
    assert stamps == sorted(set(stamps))
    assert len(utils.opened) == 3


def test_a_film_that_is_not_there_or_no_film_is_an_error_at_once(utils: Any, film: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        open_source(parse_source(str(tmp_path / "none.mp4")))
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(SourceError, match="the file is empty"):
        open_source(parse_source(str(tmp_path / "empty.mp4")))
    with pytest.raises(SourceError, match=r"film\.mp4: .*failed to create videoSource"):
        opened(utils, utils.Device(present=False), film)


def test_a_film_without_frames_or_cut_off_is_an_error(utils: Any, film: str) -> None:
    source = opened(utils, utils.Device(runs=[lambda: utils.steady(frames=0)], ends=True), film)
    with pytest.raises(SourceError, match="finds no frame in it"):
        until(source, lambda: False)
    source = opened(utils, utils.Device(runs=[lambda: utils.steady(frames=3)]), film)
    with pytest.raises(SourceError, match="no frame for 3 s"):
        until(source, lambda: False)


# --- cameras that go


def test_a_camera_that_is_not_there_at_the_start_comes_later(utils: Any) -> None:
    device = utils.Device(present=False)
    source = opened(utils, device, CAMERA)
    assert "failed to create videoSource device" in source.problem
    assert source.waiting
    until(source, lambda: len(utils.opened) == 6)
    device.present = True
    until(source, lambda: source.problem == "")
    assert next_frame(source).frame_id > 0


def test_a_camera_that_does_not_start_is_opened_again(utils: Any) -> None:
    device = utils.Device(starts=False)
    source = opened(utils, device, CAMERA)
    until(source, lambda: "ended, or did not start" in source.problem)
    device.starts = True
    until(source, lambda: source.problem == "")


def test_a_missing_device_or_an_unreachable_stream_is_not_even_tried(utils: Any) -> None:
    source = open_source(parse_source("v4l2:///dev/video-none"))
    assert source.problem == "/dev/video-none: no such camera"
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))  # nobody listens
        number = port.getsockname()[1]
        source = open_source(parse_source(f"rtsp://user:secret@127.0.0.1:{number}/a"))
        assert source.problem == f"rtsp://127.0.0.1:{number}: cannot be reached: Connection refused"
        port.listen()
        until(source, lambda: len(utils.opened) == 1)
    assert source.read(0.1) is None


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("rtsp://user:secret@192.0.2.7/a", ("192.0.2.7", 554)),
        ("rtsp://[2001:db8::7]:8554/a", ("2001:db8::7", 8554)),
        ("rtsp://192.0.2.7:99999/a", None),
        ("rtsp://cam.local/a", None),
    ],
)
def test_only_addresses_are_tried_and_not_for_long(
    url: str, asked: tuple[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(address: tuple[str, int], timeout: float) -> None:
        assert address == asked
        assert timeout == 1.0
        raise TimeoutError("timed out")

    monkeypatch.setattr("socket.create_connection", connect)
    problem = jetson.obstacle(parse_source(url))
    assert problem == ("" if asked is None else f"rtsp://{asked[0]}:{asked[1]}: cannot be reached: timed out")


def test_an_unplugged_camera_is_opened_again_after_three_seconds_and_ever_more_slowly(utils: Any) -> None:
    device = utils.Device(runs=[lambda: utils.steady(frames=30), lambda: utils.steady(frames=30)])
    source = opened(utils, device, CAMERA)
    last = 0
    while last < 30:
        last = next_frame(source).frame_id
    begun_ns = utils.clock.now_ns
    device.present = False
    until(source, lambda: "no frame for 3 s" in source.problem)
    assert 3.0 < (utils.clock.now_ns - begun_ns) / 1e9 < 3.2
    assert utils.opened[0].source() is None
    launches = []
    for number in range(2, 8):
        until(source, lambda: len(utils.opened) == number)  # noqa: B023 (called at once)
        launches.append(utils.clock.now_ns / 1e9)
    np.testing.assert_allclose(np.diff(launches), [1, 2, 5, 5, 5], atol=0.15)
    device.present = True
    until(source, lambda: source.problem == "")
    assert next_frame(source).frame_id > 31
    assert [item.source() is None for item in utils.opened] == [True] * (len(utils.opened) - 1) + [False]


def test_a_ring_that_races_costs_a_frame_and_no_launch(utils: Any) -> None:
    source = opened(utils, utils.Device(races=set(range(5, 60, 3))))
    numbers = [next_frame(source).frame_id for _ in range(60)]
    assert len(utils.opened) == 1
    assert numbers == sorted(set(numbers))
    assert source.problem == ""


def test_frames_that_cannot_be_converted_are_the_problem(utils: Any) -> None:
    source = opened(utils, utils.Device(format="i420", convertible=False), CAMERA)
    until(
        source,
        lambda: source.problem.endswith("no frame for 10 s: jetson.utils -- videoSource failed to capture image"),
    )
    assert source.waiting


def test_a_stream_that_ended_is_opened_again_and_time_rises(utils: Any) -> None:
    device = utils.Device(runs=[lambda: utils.steady(frames=9), utils.steady], ends=True, search_s=5)
    source = opened(utils, device, "rtsp://cam/a")
    frames = []
    while len(frames) < 30:
        begun_ns = utils.clock.now_ns
        frame = source.read(0.1)
        assert utils.clock.now_ns - begun_ns < 6 * S  # far within a watchdog's time
        frames += [frame] if frame else []
    assert len(utils.opened) == 2
    numbers, stamps = [frame.frame_id for frame in frames], [frame.capture_ns for frame in frames]
    assert numbers == sorted(set(numbers))
    assert stamps == sorted(set(stamps))
    assert {frame.capture_clock for frame in frames} == {"pts"}


def test_a_stream_has_time_for_its_first_frame(utils: Any) -> None:
    late = [lambda: utils.steady(first=270)]  # 9 s after the start
    assert opened(utils, utils.Device(runs=late), "rtsp://cam/a").read(9.5) is not None
    assert len(utils.opened) == 1


def test_a_csi_camera_is_launched_four_times_and_then_needs_a_reset(utils: Any) -> None:
    source = opened(utils, utils.Device(runs=[lambda: utils.steady(frames=10), lambda: utils.steady(frames=0)]))
    begun_ns = utils.clock.now_ns
    with pytest.raises(CameraError, match=r"csi://0: no frame for 10 s, after 4 launches; restart nvargus-daemon"):
        until(source, lambda: False)
    assert len(utils.opened) == 4
    assert 120 < (utils.clock.now_ns - begun_ns) / 1e9 < 130  # 4 x 10 s and 5, 20, 60 s


def test_a_csi_camera_that_comes_back_is_given_all_its_launches_again(utils: Any) -> None:
    nothing, a_few = (lambda: utils.steady(frames=0)), (lambda: utils.steady(frames=10))
    source = opened(utils, utils.Device(runs=[nothing, nothing, a_few, nothing]))
    with pytest.raises(CameraError):
        until(source, lambda: False)
    assert len(utils.opened) == 2 + 4


def test_the_device_goes_when_the_source_is_closed_whoever_has_its_last_frame(utils: Any) -> None:
    source = opened(utils, utils.Device())
    frame = next_frame(source)
    assert utils.opened[0].source() is not None
    source.close()
    assert utils.opened[0].source() is None
    assert frame.pixels.plane not in utils.memories  # freed: a frame does not outlive its source


# --- the daemon


def test_the_bus_tells_when_the_camera_goes_and_comes_back(utils: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "time", utils.clock)
    device = utils.Device(runs=[lambda: utils.steady(frames=30), utils.steady])
    source = opened(utils, device, CAMERA)
    pipeline = Pipeline(FakeDetector(detections((10, 10, 30, 30))), tracker(), KeyframeSchedule(3), blind_timeout_s=1.0)
    publisher = FakePublisher()
    health = Health(publisher, source, pipeline, {}, camera_timeout_s=3.0)
    loop(source, pipeline, publisher, health, Stop(), max_frames=60)
    told = [body["event"] for topic, body in publisher.sent if topic == "events" and body["event"].startswith("camera")]
    assert told == ["camera_lost", "camera_back"]
    states = [body["state"] for topic, body in publisher.sent if topic == "status"]
    assert [state for state, before in zip(states, [None, *states], strict=False) if state != before] == [
        "starting",
        "ready",
        "camera_lost",
        "ready",
        "stopping",
        "stopped",
    ]
    lost = next(body for topic, body in publisher.sent if topic == "status" and body["state"] == "camera_lost")
    assert "no frame for 3 s" in lost["reason"]
    faces = [body for topic, body in publisher.sent if topic == "faces"]
    assert len(faces) == 60
    assert sum(len(body["faces"]) for body in faces) > 50

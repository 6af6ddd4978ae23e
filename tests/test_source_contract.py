"""What every Source does; then files, pictures and live streams on the CPU backend (scenarios: test_scenario.py)."""

from __future__ import annotations

import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import FakeSource, fake_jetson_utils, frame

from edgeface.cpu.crop import Cropper
from edgeface.cpu.source import LiveSource, _ask_for, _csi_pipeline, _open_live, open_source
from edgeface.cuda import source as jetson_source
from edgeface.cuda.picture import FORMATS, Picture
from edgeface.errors import ConfigError, EndOfStream, SourceError
from edgeface.model_card import Input
from edgeface.scenario import source as scenario
from edgeface.seams import Source
from edgeface.source_uri import parse_source
from edgeface.values import Detections, Frame

DEMO_FRAMES = 300


def write_pictures(folder: Path, count: int = 3, size: tuple[int, int] = (64, 48)) -> Path:
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:03}.png"), np.full((size[1], size[0], 3), number, np.uint8))
    return folder


def read_all(source: Source) -> list[Frame]:
    frames = []
    while True:
        try:
            frames.append(source.read(1.0))
        except EndOfStream:
            return frames


@pytest.fixture(params=["fake", "film", "pictures", "live", "scenario", "mapped"])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    opened: Source
    if request.param == "fake":
        opened = FakeSource(frame(number, pixels=np.zeros((360, 640, 3), np.uint8)) for number in range(300))
    elif request.param == "film":
        opened = open_source(parse_source("demo:?pace=0"))
    elif request.param == "pictures":
        opened = open_source(parse_source(f"images:{write_pictures(tmp_path, 20)}/*.png?pace=0"))
    elif request.param == "scenario":
        opened = scenario.open_source(parse_source("scenario:crossing?pace=0"))
    elif request.param == "mapped":
        utils = fake_jetson_utils(monkeypatch)
        utils.devices["csi://0"] = utils.Device(rate=200, runs=[lambda: utils.steady(200)])
        opened = jetson_source.open_source(parse_source("csi://0"))
    else:
        opened = LiveSource(FakeCapture)
    yield opened
    opened.close()


class FakeCapture:
    """A camera at 200 frames a second; `script` (class attribute) says what goes wrong, call by call."""

    def __init__(self) -> None:
        self.count = 0
        self.released = False

    def get(self, _: int) -> float:
        return 200.0

    def grab(self) -> bool:
        time.sleep(0.005)
        self.count += 1
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return True, np.full((4, 6, 3), self.count % 256, np.uint8)

    def release(self) -> None:
        self.released = True


def test_frames_have_rising_numbers_and_stamps(source: Source) -> None:
    frames = [source.read(2.0) for _ in range(10)]
    assert all(frames)
    numbers = [item.frame_id for item in frames]
    stamps = [item.capture_ns for item in frames]
    assert numbers == sorted(set(numbers))
    assert stamps == sorted(set(stamps))


def test_a_frame_says_its_size_and_format(source: Source) -> None:
    item = source.read(2.0)
    assert item is not None
    if item.format == "scenario":
        assert isinstance(item.pixels, Detections)
        assert (item.width, item.height) == (1920, 1080)
    elif isinstance(item.pixels, Picture):
        assert item.format in FORMATS
        assert item.pixels.nbytes >= item.width * item.height
    else:
        assert item.format == "bgr8"
        assert item.pixels.shape == (item.height, item.width, 3)
    assert item.capture_clock in ("pts", "dequeue")


def test_nothing_is_wrong_while_frames_come(source: Source) -> None:
    assert source.read(2.0) is not None
    assert source.problem == ""


def test_closing_is_quick(source: Source) -> None:
    source.read(2.0)
    begun = time.monotonic()
    source.close()
    assert time.monotonic() - begun < 1.0


# --- files


def test_a_film_drops_nothing_and_is_the_same_every_time() -> None:
    runs = [read_all(open_source(parse_source("demo:?pace=0"))) for _ in range(2)]
    for frames in runs:
        assert [item.frame_id for item in frames] == list(range(DEMO_FRAMES))
    steps = [np.diff([item.capture_ns for item in frames]).tolist() for frames in runs]
    assert steps[0] == steps[1]
    np.testing.assert_allclose(steps[0], 1e9 / 30, atol=1000)
    np.testing.assert_array_equal(runs[0][123].pixels, runs[1][123].pixels)


def test_a_film_can_repeat() -> None:
    source = open_source(parse_source("demo:?pace=0&loop=1"))
    frames = [source.read(1.0) for _ in range(DEMO_FRAMES + 2)]
    assert frames[-1].frame_id == DEMO_FRAMES + 1
    np.testing.assert_array_equal(frames[DEMO_FRAMES].pixels, frames[0].pixels)
    assert frames[DEMO_FRAMES].capture_ns - frames[DEMO_FRAMES - 1].capture_ns == pytest.approx(1e9 / 30, abs=1000)


def test_a_paced_film_keeps_its_time_and_stamps_the_moment_it_was_due(tmp_path: Path) -> None:
    source = open_source(parse_source(f"images:{write_pictures(tmp_path)}/*.png?fps=20"))
    begun = time.monotonic_ns()
    frames = []
    while len(frames) < 3:
        item = source.read(0.01)
        if item is not None:
            assert item.capture_ns <= time.monotonic_ns()
            frames.append(item)
    assert 0.095 < (time.monotonic_ns() - begun) / 1e9 < 1.0
    assert source.expected_hz == 20


def test_a_slow_reader_makes_a_paced_film_wait(tmp_path: Path) -> None:
    source = open_source(parse_source(f"images:{write_pictures(tmp_path)}/*.png?fps=100"))
    source.read(1.0)
    time.sleep(0.2)
    late = source.read(1.0)
    assert late.frame_id == 1
    assert time.monotonic_ns() - late.capture_ns < 100_000_000


def test_missing_empty_and_damaged_films(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        open_source(parse_source(str(tmp_path / "none.mp4")))
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(SourceError, match="is empty"):
        open_source(parse_source(str(tmp_path / "empty.mp4")))
    demo = Path(parse_source("demo:").target).read_bytes()
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 100)
    (tmp_path / "cut.mp4").write_bytes(demo[: len(demo) // 2])
    for name in ("noise.mp4", "cut.mp4"):
        with pytest.raises(SourceError, match="cannot|not a video|damaged"):
            read_all(open_source(parse_source(str(tmp_path / name))))


def test_a_film_that_ends_too_early_is_an_error_not_an_end(tmp_path: Path) -> None:
    """Its index promises 60 frames, but only the first half of its data is there."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(60):
        writer.write(rng.integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = open_source(parse_source(f"{path}?pace=0"))
    with pytest.raises(SourceError, match=r"ended after \d\.\d of 2\.0 s"):
        read_all(source)


def write_variable_rate(path: Path) -> None:
    """90 frames at 30 a second, then 30 at 10 a second: 6 s. OpenCV declares 178 frames for it."""
    av = pytest.importorskip("av", reason="PyAV writes this film")
    with av.open(str(path), "w") as film:
        stream = film.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(120):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number, np.uint8), format="rgb24")
            picture.pts = round(number * 1000 / 30) if number < 90 else 3000 + (number - 90) * 100
            picture.time_base = Fraction(1, 1000)
            film.mux(stream.encode(picture))
        film.mux(stream.encode(None))


def test_a_film_of_variable_rate_is_whole_and_keeps_its_own_time(tmp_path: Path) -> None:
    write_variable_rate(tmp_path / "vfr.mkv")
    frames = read_all(open_source(parse_source(f"{tmp_path}/vfr.mkv?pace=0")))
    assert len(frames) == 120
    times = np.array([item.capture_ns - frames[0].capture_ns for item in frames]) / 1e9
    np.testing.assert_allclose(times[:90], np.arange(90) / 30, atol=0.002)
    np.testing.assert_allclose(times[90:], 3 + np.arange(30) / 10, atol=0.002)


def test_a_folder_or_a_device_is_no_film(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a folder; try images:"):
        open_source(parse_source(str(tmp_path)))


# --- pictures


def test_pictures_come_by_name_and_one_picture_is_a_sequence(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path, 5)
    frames = read_all(open_source(parse_source(f"images:{folder}/*.png?pace=0")))
    assert [int(item.pixels[0, 0, 0]) for item in frames] == list(range(5))
    assert len(read_all(open_source(parse_source(f"{folder}/003.png?pace=0")))) == 1


def test_a_damaged_picture_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_pictures(tmp_path, 3)
    (folder / "001.png").write_bytes((folder / "001.png").read_bytes()[:20])
    frames = read_all(open_source(parse_source(f"images:{folder}/*.png?pace=0")))
    assert len(frames) == 2
    assert "001.png" in caplog.text


def test_a_picture_that_claims_an_absurd_size_is_passed_over(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path, 2)
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 200_000, 200_000, 8, 2, 0, 0, 0)
    (folder / "000.png").write_bytes(header + struct.pack(">I", zlib.crc32(header[12:])))
    assert len(read_all(open_source(parse_source(f"images:{folder}/*.png?pace=0")))) == 1


def test_a_picture_whose_name_is_not_utf8_is_passed_over(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path, 2)
    (folder / "000.png").rename(folder / "0\udcff.png")  # as Python names the byte 255; OpenCV would crash
    assert len(read_all(open_source(parse_source(f"images:{folder}/*.png?pace=0")))) == 1


def test_pictures_of_all_kinds_are_read_as_colour(tmp_path: Path) -> None:
    grey, half = np.full((48, 64), 128, np.uint8), np.full((48, 64), 128 * 257, np.uint16)
    alpha = cv2.merge([grey, grey, grey, np.zeros_like(grey)])
    for number, pixels in enumerate((grey, half, alpha, cv2.merge([half, half, half]))):
        cv2.imwrite(str(tmp_path / f"{number}.png"), pixels)
    frames = read_all(open_source(parse_source(f"images:{tmp_path}/*.png?pace=0")))
    assert [(item.format, item.pixels.shape, int(item.pixels[0, 0, 0])) for item in frames] == [
        ("bgr8", (48, 64, 3), 128)
    ] * 4


def test_no_picture_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such picture"):
        open_source(parse_source(f"images:{tmp_path}/*.png"))
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match="none of 1 files is a picture"):
        open_source(parse_source(f"images:{tmp_path}/*.png"))


# --- live


def test_only_the_newest_frame_is_kept_and_the_gap_shows() -> None:
    source = LiveSource(FakeCapture)
    first = source.read(1.0)
    time.sleep(0.1)
    second = source.read(1.0)
    third = source.read(1.0)
    source.close()
    assert second.frame_id - first.frame_id > 5
    assert third.frame_id > second.frame_id
    assert time.monotonic_ns() - third.capture_ns < 500_000_000
    assert source.expected_hz == 200


def test_a_live_source_times_out_with_none() -> None:
    class Silent(FakeCapture):
        def grab(self) -> bool:
            time.sleep(0.3)
            return True

    source = LiveSource(Silent)
    assert source.read(0.05) is None
    source.close()


@pytest.mark.parametrize(
    ("shape", "pixel_format"), [((4, 6), "gray8"), ((4, 6, 1), "gray8"), ((4, 6, 3), "bgr8"), ((4, 6, 4), "bgra8")]
)
def test_a_camera_says_what_its_pixels_are(shape: tuple[int, ...], pixel_format: str) -> None:
    class Camera(FakeCapture):
        def retrieve(self) -> tuple[bool, np.ndarray | None]:
            return True, np.full(shape, 90, np.uint8)

    source = LiveSource(Camera)
    item = source.read(1.0)
    source.close()
    assert (item.format, item.width, item.height) == (pixel_format, 6, 4)
    tensor = Cropper(Input(32, 32), (32, 32))(item, np.array([[0, 0, 6, 4]], np.float32))
    assert (tensor == 90).all()


@pytest.mark.parametrize(("shape", "kind"), [((4, 6), np.uint16), ((4, 6, 2), np.uint8), ((4, 6, 3), np.float32)])
def test_a_camera_with_other_pixels_is_a_problem_and_is_tried_again(shape: tuple[int, ...], kind: type) -> None:
    opened: list[FakeCapture] = []

    class Camera(FakeCapture):
        def retrieve(self) -> tuple[bool, np.ndarray | None]:
            return True, np.zeros(shape, kind) if len(opened) == 1 else np.zeros((4, 6, 3), np.uint8)

    def open_capture() -> FakeCapture:
        opened.append(Camera())
        return opened[-1]

    source = LiveSource(open_capture)
    found = f"found {np.dtype(kind)} {list(shape)}"
    wait_for(lambda: found in source.problem)
    assert source.problem.startswith("the camera: expected pixels of 8-bit grey, BGR or BGRA, ")
    assert source.waiting
    wait_for(lambda: source.read(0.1) is not None)
    source.close()
    assert opened[0].released


def test_a_camera_that_stops_is_opened_again() -> None:
    opened: list[FakeCapture] = []

    class Failing(FakeCapture):
        def grab(self) -> bool:
            return super().grab() and not (self.count > 3 and len(opened) == 1)

    def open_capture() -> FakeCapture:
        opened.append(Failing())
        return opened[-1]

    source = LiveSource(open_capture)
    wait_for(lambda: source.problem == "the camera has stopped giving frames")
    wait_for(lambda: len(opened) == 2 and source.problem == "")
    last = source.read(1.0)
    source.close()
    assert opened[0].released
    assert last.frame_id > 3


def test_a_frame_that_does_not_decode_counts_as_lost() -> None:
    class Corrupt(FakeCapture):
        def retrieve(self) -> tuple[bool, np.ndarray | None]:
            return (False, None) if self.count == 2 else super().retrieve()

    source = LiveSource(Corrupt)
    numbers = [source.read(1.0).frame_id for _ in range(5)]
    source.close()
    assert 2 not in numbers


def test_a_grab_thread_that_meets_anything_goes_on() -> None:
    opened: list[FakeCapture] = []

    def open_capture() -> FakeCapture:
        opened.append(FakeCapture())
        if len(opened) == 1:
            raise MemoryError
        return opened[-1]

    source = LiveSource(open_capture)
    wait_for(lambda: source.problem == "MemoryError")
    assert source.waiting
    wait_for(lambda: source.read(0.1) is not None)
    assert not source.waiting  # it should give frames now: silence would be a hang
    source.close()


def test_a_driver_that_hangs_is_not_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeface.cpu.source._HANG_NS", 100_000_000)
    release = threading.Event()
    source = LiveSource(lambda: release.wait(60) or FakeCapture())
    assert source.waiting
    wait_for(lambda: not source.waiting)
    assert source.problem
    release.set()
    source.close()
    monkeypatch.setattr("edgeface.cpu.source._HANG_NS", 10**12)
    source.problem = "a grab thread that has ended opens nothing again"
    source._thread.join(5)
    assert not source.waiting


def test_a_missing_camera_is_a_problem_not_an_error() -> None:
    source = open_source(parse_source("v4l2:///dev/video-none"))
    wait_for(lambda: source.problem == "/dev/video-none: no such camera")
    assert source.read(0.05) is None
    source.close()


def test_a_device_that_is_no_camera(tmp_path: Path) -> None:
    source = open_source(parse_source("v4l2:///dev/null"))
    wait_for(lambda: source.problem == "/dev/null: cannot be opened")
    source.close()


def test_a_stream_hides_its_password() -> None:
    source = open_source(parse_source("http://user:secret@127.0.0.1:9/stream"))
    wait_for(lambda: "cannot be opened" in source.problem)
    source.close()
    assert source.problem == "http://127.0.0.1:9/stream: cannot be opened"


class Choosy(FakeCapture):
    """A camera of 640 x 480 at 200 frames a second, whatever it is asked for; it remembers that."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[int, float] = {}

    def set(self, key: int, value: float) -> bool:
        self.asked[key] = value
        return False

    def get(self, key: int) -> float:
        return {cv2.CAP_PROP_FRAME_WIDTH: 640.0, cv2.CAP_PROP_FRAME_HEIGHT: 480.0}.get(key, 200.0)


def test_a_camera_that_gives_another_size_or_rate_than_asked_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    camera = Choosy()
    _ask_for(parse_source("0?width=1280&height=720&fps=30"), camera)
    assert camera.asked == {
        cv2.CAP_PROP_FRAME_WIDTH: 1280,
        cv2.CAP_PROP_FRAME_HEIGHT: 720,
        cv2.CAP_PROP_FPS: 30,
    }
    assert "/dev/video0: asked for 1280 x 720 at 30/s, it gives 640 x 480 at 200/s" in caplog.text


@pytest.mark.parametrize("uri", ["0?width=640&height=480", "0?width=640&height=480&fps=200", "0"])
def test_a_camera_that_gives_what_it_was_asked_for_is_not_logged(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    camera = Choosy()
    _ask_for(parse_source(uri), camera)
    assert 0 not in camera.asked.values()
    assert not caplog.records


def test_a_csi_camera_is_a_pipeline_that_keeps_the_newest_frame() -> None:
    assert _csi_pipeline(parse_source("csi://1?width=1920&height=1080&fps=60&flip=vertical")) == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),format=NV12,width=1920,height=1080,framerate=60/1"
        " ! nvvidconv flip-method=6 ! video/x-raw,format=BGRx"
        " ! videoconvert ! video/x-raw,format=BGR ! appsink drop=1 max-buffers=1"
    )
    plain = _csi_pipeline(parse_source("csi://0"))
    assert "width=1280,height=720,framerate=30/1" in plain
    assert "flip-method=0" in plain


@pytest.mark.skipif("GStreamer:                   YES" in cv2.getBuildInformation(), reason="this OpenCV has GStreamer")
@pytest.mark.parametrize(
    ("uri", "name"), [("csi://0", "csi://0"), ("gstreamer:videotestsrc ! appsink", "the GStreamer pipeline")]
)
def test_an_opencv_without_gstreamer_is_the_problem(uri: str, name: str) -> None:
    source = open_source(parse_source(uri))
    wait_for(lambda: source.problem == f"{name}: this OpenCV is built without GStreamer: pip's is, JetPack's is not")
    assert source.waiting
    source.close()


@pytest.mark.parametrize("uri", ["csi://0", "gstreamer:videotestsrc ! appsink"])
def test_a_pipeline_is_opened_by_gstreamer(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, int]] = []

    class Pipeline(FakeCapture):
        def __init__(self, pipeline: str, backend: int) -> None:
            super().__init__()
            opened.append((pipeline, backend))

        def isOpened(self) -> bool:
            return True

    monkeypatch.setattr("cv2.getBuildInformation", lambda: "    GStreamer:                   YES (1.20.3)")
    monkeypatch.setattr("cv2.VideoCapture", Pipeline)
    parsed = parse_source(uri)
    source = open_source(parsed)
    assert source.read(2.0) is not None
    source.close()
    assert opened == [(_csi_pipeline(parsed) if parsed.kind == "csi" else parsed.target, cv2.CAP_GSTREAMER)]


def test_a_csi_camera_is_opened_again_more_slowly_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.getBuildInformation", lambda: "")
    monkeypatch.setattr("edgeface.cpu.source._RETRY_S", (0.0,))
    opened: list[float] = []
    monkeypatch.setattr("edgeface.cpu.source._CSI_RETRY_S", (0.2, 60.0))
    original = _open_live
    monkeypatch.setattr("edgeface.cpu.source._open_live", lambda uri: (opened.append(time.monotonic()), original(uri)))
    source = open_source(parse_source("csi://0"))
    wait_for(lambda: len(opened) == 2)
    source.close()
    assert opened[1] - opened[0] >= 0.2


class Mjpeg(BaseHTTPRequestHandler):
    """A network camera."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
        part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg)
        try:
            for _ in range(100):
                self.wfile.write(part)
                time.sleep(0.02)
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        pass


def test_a_real_network_stream_comes_stops_and_comes_back() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mjpeg)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    source = open_source(parse_source(f"http://127.0.0.1:{server.server_port}/camera.mjpg"))
    try:
        wait_for(lambda: source.read(0.1) is not None, 15)
        wait_for(lambda: source.problem == "the camera has stopped giving frames", 15)
        wait_for(lambda: source.read(0.1) is not None and source.problem == "", 15)
    finally:
        source.close()
        server.shutdown()


def wait_for(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)

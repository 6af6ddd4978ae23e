"""Configuration: defaults, flags over the file, and every wrong key named."""

from __future__ import annotations

import glob
from pathlib import Path

import pytest

from edgeface.config import ScenarioUri, load_config, parse_source, unpaced
from edgeface.errors import ConfigError


def test_without_a_file_the_demo_runs() -> None:
    config = load_config(None, {})
    assert (config.source, config.detector.card, config.camera) == ("demo:", "edgeface-detector", "cam0")


def test_flags_lie_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "front.toml"
    path.write_text('camera = "front"\n[detector]\ncard = "a"\nscore_threshold = 0.4\n')
    config = load_config(str(path), {"camera": "back", "detector": {"card": "b"}})
    assert (config.camera, config.detector.card, config.detector.score_threshold) == ("back", "b", 0.4)


def test_landmarks_are_located_and_hold_the_tracks_and_nothing_more_is_asked_of_them() -> None:
    landmarks = load_config(None, {}).landmarks
    assert (landmarks.card, landmarks.hold_tracks) == ("edgeface-landmarks", True)
    assert (landmarks.pose, landmarks.eyes, landmarks.quality) == (False, False, False)
    assert (landmarks.camera_matrix, landmarks.horizontal_fov_deg) == (None, 60)


def test_a_camera_matrix_is_four_numbers(tmp_path: Path) -> None:
    path = tmp_path / "front.toml"
    path.write_text("[landmarks]\npose = true\ncamera_matrix = [910, 905.5, 641, -3.5]\n")
    landmarks = load_config(str(path), {"landmarks": {"card": "none"}}).landmarks
    assert (landmarks.camera_matrix, landmarks.pose, landmarks.card) == ((910, 905.5, 641, -3.5), True, "none")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sorce = 'demo:'", "unknown field `sorce`"),
        ("[detector]\nscore_treshold = 0.5", "unknown field `score_treshold` - at `$.detector`"),
        ("[detector]\nscore_threshold = 1.5", "<= 1.0 - at `$.detector.score_threshold`"),
        ("[detector]\nclustering = 'dbscan'", "Invalid enum value 'dbscan' - at `$.detector.clustering`"),
        ("[detector]\nmax_candidates = 0", ">= 1 - at `$.detector.max_candidates`"),
        ("[detector.deepstream_dbscan]\neps = 1.0", "< 1.0 - at `$.detector.deepstream_dbscan.eps`"),
        ("[detector.deepstream_dbscan]\nmin_boxes = 0", ">= 1 - at `$.detector.deepstream_dbscan.min_boxes`"),
        ("[detector.deepstream_dbscan]\nmin_score = -1", ">= 0.0 - at `$.detector.deepstream_dbscan.min_score`"),
        ("[detector.deepstream_dbscan]\nathr = 60", "`bool`, got `int` - at `$.detector.deepstream_dbscan.athr`"),
        ("[detector.deepstream_dbscan]\nmin_samples = 1", "unknown field `min_samples`"),
        ("[detector.tao_dbscan]\ncoverage_threshold = 0.0", "> 0.0 - at `$.detector.tao_dbscan.coverage_threshold`"),
        ("[detector.tao_dbscan]\nmin_samples = 0", "> 0.0 - at `$.detector.tao_dbscan.min_samples`"),
        ("[detector.tao_dbscan]\nmin_height = inf", "<= 8192.0 - at `$.detector.tao_dbscan.min_height`"),
        ("[detector.tao_dbscan]\nconfidence_threshold = nan", "confidence_threshold"),
        ("[detector.tao_dbscan]\nathr = true", "unknown field `athr` - at `$.detector.tao_dbscan`"),
        ("[tracker]\nkeyframe_interval = 0", ">= 1 - at `$.tracker.keyframe_interval`"),
        ("[tracker]\nkeyframe_interval = 'x'", "Invalid enum value 'x' - at `$.tracker.keyframe_interval`"),
        ("[landmarks]\ncard = ''", "length >= 1 - at `$.landmarks.card`"),
        ("[landmarks]\nhold_tracks = 1", "`bool`, got `int` - at `$.landmarks.hold_tracks`"),
        ("[landmarks]\npose = 'on'", "`bool`, got `str` - at `$.landmarks.pose`"),
        ("[landmarks]\nhold = true", "unknown field `hold` - at `$.landmarks`"),
        ("[landmarks]\nhorizontal_fov_deg = 4.9", ">= 5.0 - at `$.landmarks.horizontal_fov_deg`"),
        ("[landmarks]\nhorizontal_fov_deg = 171", "<= 170.0 - at `$.landmarks.horizontal_fov_deg`"),
        ("[landmarks]\nhorizontal_fov_deg = nan", "at `$.landmarks.horizontal_fov_deg`"),
        ("[landmarks]\ncamera_matrix = [500, 500, 320]", "length 4"),
        ("[landmarks]\ncamera_matrix = [0, 500, 320, 180]", ">= 1.0 - at `$.landmarks.camera_matrix[0]`"),
        ("[landmarks]\ncamera_matrix = [500, -1, 320, 180]", ">= 1.0 - at `$.landmarks.camera_matrix[1]`"),
        ("[landmarks]\ncamera_matrix = [inf, 500, 320, 180]", "at `$.landmarks.camera_matrix[0]`"),
        ("[landmarks]\ncamera_matrix = [500, 500, nan, 180]", "at `$.landmarks.camera_matrix[2]`"),
        ("[landmarks]\ncamera_matrix = [500, 500, 320, -inf]", "at `$.landmarks.camera_matrix[3]`"),
        ("camera = 'a/b'", "at `$.camera`"),
        ("backend = 'fast'", "Invalid enum value 'fast' - at `$.backend`"),
        ("[detector]\ninput_size = [640]", "length 2"),
        ("camera = ", "not TOML"),
        ('camera = "cam0\\n"', "at `$.camera`"),
        ("[detector]\nscore_threshold = nan", "score_threshold"),
    ],
)
def test_a_wrong_file_is_refused_with_the_path_of_the_key(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), {})
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_file_is_refused_also_where_a_flag_hides_it(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("camera = 7")
    with pytest.raises(ConfigError, match="camera"):
        load_config(str(path), {"camera": "front"})


def test_engines_on_the_command_line_add_to_the_files(tmp_path: Path) -> None:
    path = tmp_path / "front.toml"
    path.write_text("engines = ['/a', '/b']\n")
    assert load_config(str(path), {"engines": ["/c"]}).engines == ("/c", "/a", "/b")


def test_a_wrong_flag_is_refused() -> None:
    with pytest.raises(ConfigError, match="command line: .*keyframe_interval"):
        load_config(None, {"tracker": {"keyframe_interval": 0}})


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(str(tmp_path / "none.toml"), {})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(str(tmp_path / "binary.toml"), {})


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


def test_sources_that_are_not_built_yet_say_so() -> None:
    with pytest.raises(ConfigError, match="not built into this version"):
        parse_source("csi://0")


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

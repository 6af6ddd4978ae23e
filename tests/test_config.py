"""Configuration: defaults, flags over the file, and every wrong key named."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeface.config import load_config
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


@pytest.mark.parametrize(("text", "precision"), [("'int8'", "int8"), ("['int8', 'fp16']", ("int8", "fp16"))])
def test_a_precision_is_one_or_several(tmp_path: Path, text: str, precision: object) -> None:
    path = tmp_path / "front.toml"
    path.write_text(f"[cuda]\nprecision = {text}\nself_test_minutes = 30\n")
    cuda = load_config(str(path), {}).cuda
    assert (cuda.precision, cuda.self_test_minutes) == (precision, 30.0)
    assert (load_config(None, {}).cuda.precision, load_config(None, {}).cuda.self_test_minutes) == ("fp16", 0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[cuda]\nprecision = 'fp8'", "Invalid enum value 'fp8' - at `$.cuda.precision`"),
        ("[cuda]\nprecision = ['fp8']", "Invalid enum value 'fp8' - at `$.cuda.precision[0]`"),
        ("[cuda]\nprecision = []", "length >= 1 - at `$.cuda.precision`"),
        ("[cuda]\nself_test_minutes = -1", ">= 0.0 - at `$.cuda.self_test_minutes`"),
        ("[cuda]\nself_test_minutes = 1441", "<= 1440.0 - at `$.cuda.self_test_minutes`"),
        ("[cuda]\nself_test_minutes = nan", "at `$.cuda.self_test_minutes`"),
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

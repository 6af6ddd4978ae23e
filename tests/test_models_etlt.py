"""scripts/ngc_etlt: the exact command for each release, by stand-ins that write down how they are called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from edgeface.model_card import find_card

FACENETS = ["facenet:pruned_v2.0", "facenet:pruned_quantized_v2.0", "facenet:pruned_quantized_v2.0.1"]
FPENETS = ["fpenet:deployable_v1.0", "fpenet:deployable_v3.0"]
UFF = (7).to_bytes(4, "little") + b"input_1" + b"encrypted\0" * 1000
ONNX = bytes(4) + b"encrypted\0" * 1000

DECODER = """
def decrypt_stream(source, target, key, encryption, rewind):
    assert (key, encryption, rewind) == (b"nvidia_tlt", True, False)
    target.write({first!r} + source.read())
"""


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """The only folder that programs are found in: what any machine has."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "env", "head", "od", "sed", "tail", "touch", "tr"):
        (folder / name).symlink_to(str(shutil.which(name)))
    return folder


@pytest.fixture
def result(tmp_path: Path) -> Path:
    (tmp_path / "networks").mkdir()
    return tmp_path / "networks"


def put_tool(bin_folder: Path, name: str) -> Path:
    """A stand-in that writes its arguments into a file, which is returned."""
    told = bin_folder.parent / f"{name}.arguments"
    tool = bin_folder / name
    tool.write_text(f'#!/usr/bin/env bash\nprintf "%s\\n" "$@" >{told}\n')
    tool.chmod(0o755)
    return told


def put_decoder(folder: Path, first: bytes = b"\x08") -> str:
    """The decoder's package as a stand-in; its folder, for PYTHONPATH."""
    package = folder / "packages" / "eff_tao_encryption"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "tao_codec.py").write_text(DECODER.format(first=first))
    return str(package.parent)


def ngc_etlt(bin_folder: Path, *arguments: str | Path, packages: str = "") -> tuple[int, str, str]:
    environment = {"PATH": str(bin_folder), "PYTHON": sys.executable, "PYTHONPATH": packages}
    done = subprocess.run(
        [str(ROOT / "scripts" / "ngc_etlt"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def etlt(tmp_path: Path) -> Path:
    """A path for an .etlt with a blank in it."""
    return tmp_path / "the model.etlt"


def pairs(lines: list[str]) -> dict[str, str]:
    """Options with their values, and the last argument as that of ""."""
    return dict(zip(lines[:-1:2], lines[1:-1:2], strict=True)) | {"": lines[-1]}


@pytest.mark.parametrize("release", FACENETS)
def test_facedetect_by_tao_converter(bin_folder: Path, etlt: Path, result: Path, release: str) -> None:
    etlt.write_bytes(UFF)
    told = put_tool(bin_folder, "tao-converter")
    assert ngc_etlt(bin_folder, release, etlt, result) == (0, "", "")
    assert pairs(told.read_text().splitlines()) == {
        "-k": "nvidia_tlt",
        "-d": "3,416,736",
        "-m": "1",
        "-o": "output_cov/Sigmoid,output_bbox/BiasAdd",
        "-t": "fp16",
        "-w": "1073741824",
        "-e": f"{result}/tao-facedetect-736x416-fp16.tao.engine",
        "": str(etlt),
    }


@pytest.mark.parametrize(
    ("release", "card", "name", "outputs"),
    [
        (
            "fpenet:deployable_v1.0",
            "tao-fpenet-v1.0",
            "input_face_images:0",
            "softargmax/strided_slice:0,softargmax/strided_slice_1:0",
        ),
        (
            "fpenet:deployable_v3.0",
            "tao-fpenet-v3.0",
            "input_face_images",
            "softargmax,softargmax:1,conv_keypoints_m80",
        ),
    ],
)
def test_fpenet_by_tao_converter_in_int8(
    bin_folder: Path, etlt: Path, result: Path, release: str, card: str, name: str, outputs: str
) -> None:
    etlt.write_bytes(ONNX)
    cache = etlt.with_name("int8_calibration.txt")
    cache.touch()
    told = put_tool(bin_folder, "tao-converter")
    assert ngc_etlt(bin_folder, release, etlt, result, cache) == (0, "", "")
    assert pairs(told.read_text().splitlines()) == {
        "-k": "nvidia_tlt",
        "-d": "1,80,80",
        "-p": f"{name},1x1x80x80,8x1x80x80,32x1x80x80",
        "-o": outputs,
        "-t": "int8",
        "-c": str(cache),
        "-w": "1073741824",
        "-e": f"{result}/{card}-80x80-int8.tao.engine",
        "": str(etlt),
    }


@pytest.mark.parametrize(
    ("tool", "first"),
    [
        ("detectnet_v2", ["gen_trt_engine"]),
        ("tao-deploy", ["detectnet_v2", "gen_trt_engine"]),
        ("tao", ["deploy", "detectnet_v2", "gen_trt_engine"]),
    ],
)
@pytest.mark.parametrize("calibrated", [False, True])
def test_facedetect_by_tao_deploy(
    bin_folder: Path, etlt: Path, result: Path, tool: str, first: list[str], calibrated: bool
) -> None:
    etlt.write_bytes(UFF)
    cache = etlt.with_name("int8_calibration.txt")
    cache.touch()
    told, precision = put_tool(bin_folder, tool), "int8" if calibrated else "fp16"
    assert ngc_etlt(bin_folder, FACENETS[2], etlt, result, *([cache] if calibrated else [])) == (0, "", "")
    engine = f"{result}/tao-facedetect-736x416-{precision}.tao.engine"
    assert told.read_text().splitlines() == [
        *first,
        *("-m", str(etlt), "-k", "nvidia_tlt", "-e", f"{engine}.spec", "-r", str(result), "--data_type", precision),
        *(("--cal_cache_file", str(cache)) if calibrated else ()),
        *("--max_batch_size", "1", "--engine_file", engine),
    ]
    assert Path(f"{engine}.spec").read_bytes() == b""


@pytest.mark.parametrize("release", [*FACENETS, *FPENETS])
def test_onnx_comes_out_where_the_decoder_is(
    bin_folder: Path, etlt: Path, result: Path, tmp_path: Path, release: str
) -> None:
    etlt.write_bytes(ONNX)
    told = put_tool(bin_folder, "tao-converter")
    code, out, err = ngc_etlt(bin_folder, release, etlt, result, packages=put_decoder(tmp_path))
    assert (code, err) == (0, "")
    (onnx,) = result.iterdir()
    assert onnx.read_bytes() == b"\x08" + ONNX[4:]
    name = out.split()[-3]
    assert out == f"{onnx}; next: edgeface build {name} --engines {result}\n"
    assert find_card(name).onnx == onnx.name
    assert not told.exists()


def test_a_uff_is_not_decoded(bin_folder: Path, etlt: Path, result: Path, tmp_path: Path) -> None:
    etlt.write_bytes(UFF)
    told = put_tool(bin_folder, "tao-converter")
    assert ngc_etlt(bin_folder, FACENETS[0], etlt, result, packages=put_decoder(tmp_path)) == (0, "", "")
    assert told.exists()


def test_what_was_decoded_is_no_onnx(bin_folder: Path, etlt: Path, result: Path, tmp_path: Path) -> None:
    etlt.write_bytes(ONNX)
    code, _, err = ngc_etlt(bin_folder, FPENETS[0], etlt, result, packages=put_decoder(tmp_path, b"x"))
    assert (code, err) == (1, f"{etlt}: what is in it is no ONNX, or its key is another\n")
    assert list(result.iterdir()) == []


@pytest.mark.parametrize("tool", ["tao-converter", "detectnet_v2", "decoder"])
def test_a_dry_run_prints_the_command_alone(
    bin_folder: Path, etlt: Path, result: Path, tmp_path: Path, tool: str
) -> None:
    etlt.write_bytes(ONNX if tool == "decoder" else UFF)
    told = put_tool(bin_folder, tool)
    packages = put_decoder(tmp_path) if tool == "decoder" else ""
    code, out, err = ngc_etlt(bin_folder, "--dry-run", FACENETS[1], etlt, result, packages=packages)
    assert (code, err) == (0, "")
    assert (told.exists(), list(result.iterdir())) == (False, [])
    subprocess.run(
        out,
        shell=True,
        check=True,
        executable="/bin/bash",
        env=os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": packages},
    )
    if tool == "decoder":
        assert (result / "facenet.onnx").read_bytes() == b"\x08" + ONNX[4:]
    else:
        assert str(etlt) in told.read_text().splitlines()


def test_without_a_tool_it_says_what_to_install(bin_folder: Path, etlt: Path, result: Path) -> None:
    etlt.write_bytes(UFF)
    code, out, err = ngc_etlt(bin_folder, FACENETS[0], etlt, result)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "install tao-converter for TensorRT 8, https://catalog.ngc.nvidia.com/" in err
    etlt.write_bytes(ONNX)
    code, out, err = ngc_etlt(bin_folder, FPENETS[0], etlt, result)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "pip install nvidia-eff-tao-encryption" in err


def test_tao_deploy_has_no_fpenet(bin_folder: Path, etlt: Path, result: Path) -> None:
    etlt.write_bytes(ONNX)
    told = put_tool(bin_folder, "detectnet_v2")
    assert ngc_etlt(bin_folder, FPENETS[0], etlt, result)[0] == 1
    assert not told.exists()


def test_a_converter_that_fails(bin_folder: Path, etlt: Path, result: Path) -> None:
    etlt.write_bytes(UFF)
    put_tool(bin_folder, "tao-converter")
    (bin_folder / "tao-converter").write_text("#!/usr/bin/env bash\nexit 3\n")
    assert ngc_etlt(bin_folder, FACENETS[0], etlt, result)[0] == 3


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no .etlt"),
        (b"abc", "no .etlt"),
        (b"\xff\xff\xff\xff" + UFF, "no .etlt"),
        (b"\x08\x08\x12\x07pytorch", "no .etlt"),
        (
            (5).to_bytes(4, "little") + b"in\x1b\0t",
            "expected the input input_1 of facenet:pruned_v2.0, found $'in\\Et'",
        ),
    ],
)
def test_another_file(bin_folder: Path, etlt: Path, result: Path, content: bytes, complaint: str) -> None:
    etlt.write_bytes(content)
    told = put_tool(bin_folder, "tao-converter")
    code, _, err = ngc_etlt(bin_folder, FACENETS[0], etlt, result)
    assert (code, err) == (1, f"ngc_etlt: {etlt}: {complaint}\n")
    assert not told.exists()


def test_bad_arguments(bin_folder: Path, etlt: Path, result: Path, tmp_path: Path) -> None:
    etlt.write_bytes(UFF)
    onnx = tmp_path / "facenet.onnx"
    onnx.touch()
    for arguments, complaint in [
        ((FACENETS[0], tmp_path / "gone.etlt", result), "gone.etlt: no such file; get it from https://catalog.ngc"),
        ((FACENETS[0], onnx, result), f"plain ONNX goes into {result} as facenet.onnx as it is"),
        ((FACENETS[0], etlt, tmp_path / "gone"), "gone: no such folder"),
        ((FACENETS[0], etlt, result, tmp_path / "gone.txt"), "gone.txt: no such file"),
        (("facenet:v9", etlt, result), "no such release: facenet:v9"),
    ]:
        code, out, err = ngc_etlt(bin_folder, *arguments)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert complaint in err
    for few in ((), (FACENETS[0],), ("a", "b", "c", "d", "e"), ("--dry-run",)):
        code, out, err = ngc_etlt(bin_folder, *few)
        assert (code, out) == (2, "")
        assert "scripts/ngc_etlt [--dry-run] RELEASE FILE.etlt FOLDER [CACHE]" in err
        assert all(release.split(":")[1] in err for release in [*FACENETS, *FPENETS])

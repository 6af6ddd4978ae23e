"""The wheel: built, installed in a new environment, and used there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git knows, so that nothing lying about can get in."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in files.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(target), str(source)],
        capture_output=True,
        check=True,
    )
    (path,) = target.glob("*.whl")
    return path


def test_the_wheel_holds_the_networks_cards_and_clip_and_nothing_restricted(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "edgeface/engines/edgeface-detector.onnx",
        "edgeface/engines/edgeface-detector.toml",
        "edgeface/engines/edgeface-detector-0.1g.onnx",
        "edgeface/engines/edgeface-detector-2.5g.onnx",
        "edgeface/engines/edgeface-gridbox.onnx",
        "edgeface/engines/edgeface-landmarks.onnx",
        "edgeface/engines/tao-facedetect.toml",
        "edgeface/engines/scrfd-34g.toml",
        "edgeface/engines/GroceryStoreDataset-LICENSE.txt",
        "edgeface/engines/ICT-FaceKit-LICENSE.txt",
        "edgeface/build/trt.py",
        "edgeface/cuda/crop.cu",
        "edgeface/cuda/kernels/crop-cu11-sm_87.cubin",
        "edgeface/cuda/kernels/crop-cu11-compute_72.ptx",
        "edgeface/cuda/kernels/kernels.json",
        "edgeface/demo/demo.mp4",
        "edgeface/demo/demo.json",
        "edgeface/demo/golden.npz",
        "edgeface/evaluate/landmarks.py",
        "edgeface/py.typed",
        "edgeface/scenario/scenes.py",
    ):
        assert needed in names
    assert any(name.endswith("licenses/NOTICE") or name.endswith("dist-info/NOTICE") for name in names)
    weights = [name for name in names if name.endswith((".onnx", ".engine"))]
    assert all(Path(name).name.startswith("edgeface-") for name in weights)
    assert not any(name.startswith(("tests", "scripts", "systemd")) for name in names)


def test_the_installed_wheel_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    python = venv / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[cpu]"]
    subprocess.run(install, check=True, capture_output=True, timeout=600)
    endpoint = f"ipc://{tmp_path}/d.ipc"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    options = {"cwd": tmp_path, "env": environment, "text": True}
    listener = subprocess.Popen(
        [str(venv / "bin" / "edgeface"), "listen", endpoint, "--topic", "faces", "--max-messages", "5"],
        stdout=subprocess.PIPE,
        **options,
    )
    daemon = subprocess.Popen([str(venv / "bin" / "edgeface"), "run", "--endpoint", endpoint], **options)
    out, _ = listener.communicate(timeout=60)
    daemon.terminate()
    assert daemon.wait(5) == 0
    assert all(json.loads(line)["faces"] for line in out.splitlines())
    where = subprocess.run(
        [str(python), "-c", "import edgeface; print(edgeface.__file__)"], capture_output=True, check=True, **options
    ).stdout
    assert str(venv) in where
    bench = [str(venv / "bin" / "edgeface-bench"), "--frames", "5", "--warm-up", "1"]
    assert "frames/s" in subprocess.run(bench, capture_output=True, check=True, **options).stdout

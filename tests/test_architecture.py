"""The house: import layers, where device words may stand, and how long a file may get."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest
from conftest import ROOT

PACKAGE = ROOT / "edgeface"

# low to high; a module imports only from rows below its own (cpu/ is one room, its files know each other)
LAYERS = [
    {"errors", "values"},
    {
        "seams",
        "model_card",
        "passport",
        "config",
        "source_uri",
        "boxes",
        "face_crops",
        "point_sets",
        "generic_head",
        "kalman",
        "camera_motion",
        "pacing",
    },
    {"decoders", "clustering", "association", "message", "metrics", "landmark_metrics", "head_pose", "eyes", "quality"},
    {"lifecycle"},
    {
        "detector",
        "tracker",
        "schedule",
        "smoothing",
        "landmarks",
        "holding",
        "signals",
        "publisher",
        "service",
        "scenario",
        "mot",
        "cpu",
        "cuda",
    },
    {"self_test"},
    {"multiscale", "pipeline", "backend"},
    {"networks"},
    {"parts"},
    {"arguments"},
    {"daemon", "bench", "evaluate", "models"},
    {"build"},
    {"cli"},
]
EXCEPTIONS = {
    "client": {"message"},  # what subscribers import
    "cli": {"client"},
}
DEVICE_WORDS = re.compile(r"cuda|tensorrt|jetson", re.IGNORECASE)
MAY_SAY_DEVICE = {"backend.py", "config.py", "bench.py", "doctor.py", "passport.py", "models/engines.py"}

FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def room(path_or_module: str) -> str:
    return path_or_module.removeprefix("edgeface.").split(".")[0].split("/")[0]


def row(name: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if name in names)


def imports(path: str) -> set[str]:
    """Rooms of edgeface that the file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "edgeface":
            names = [alias.name for alias in node.names] if node.module == "edgeface" else [node.module]
            found |= {room(name) for name in names if not name.startswith("__")}
        elif isinstance(node, ast.Import):
            found |= {room(alias.name) for alias in node.names if alias.name.startswith("edgeface.")}
    return found


@pytest.mark.parametrize("path", [str(path.relative_to(PACKAGE)) for path in FILES])
def test_a_module_imports_only_from_lower_rows(path: str) -> None:
    own = room(path.removesuffix(".py"))
    if own == "__init__":
        assert not imports(path)
        return
    allowed = EXCEPTIONS.get(own, set()) | {own}
    if own != "client":
        allowed |= set().union(*LAYERS[: row(own)])
    assert imports(path) <= allowed


def test_the_backends_are_siblings_that_do_not_know_each_other() -> None:
    for path in (PACKAGE / "cpu").glob("*.py"):
        assert "cuda" not in imports(f"cpu/{path.name}")


def test_what_runs_for_years_knows_nothing_of_the_builder_and_of_downloads() -> None:
    for path in FILES:
        name = str(path.relative_to(PACKAGE))
        for tools in ("build", "models"):
            assert room(name.removesuffix(".py")) in (tools, "cli") or tools not in imports(name), name
    program = "import sys, edgeface.cli, edgeface.daemon, edgeface.cuda.plan; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "edgeface.cuda.plan" in loaded
    assert not [name for name in loaded if name.startswith(("edgeface.build", "onnx", "tensorrt"))]
    assert [name for name in loaded if name.startswith("edgeface.models.")] == ["edgeface.models.verbs"]


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name not in ("cuda", "build")], ids=str)
def test_device_words_stand_in_the_backends_only(path: object) -> None:
    if path.name not in MAY_SAY_DEVICE and str(path.relative_to(PACKAGE)) not in MAY_SAY_DEVICE:
        assert not DEVICE_WORDS.findall(path.read_text())


def test_every_file_says_in_its_first_line_what_it_is_for() -> None:
    for path in FILES:
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring, path
        assert docstring.splitlines()[0].endswith((".", ":")), path


def test_no_file_outgrows_its_room() -> None:
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 300, path

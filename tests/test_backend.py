"""Which backend runs the networks, and what it says when it cannot."""

from __future__ import annotations

import sys
import types
from importlib.machinery import ModuleSpec

import pytest

from edgeface import backend
from edgeface.config import load_config
from edgeface.errors import ConfigError
from edgeface.parts import build


def package(name: str, origin: str | None) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, origin=origin)
    return module


@pytest.mark.parametrize(("origin", "on_gpu"), [("/usr/lib/tensorrt.py", True), (None, False)])
def test_auto_is_the_gpu_where_its_packages_are_installed_not_their_type_stubs(
    monkeypatch: pytest.MonkeyPatch, origin: str | None, on_gpu: bool
) -> None:
    for name in ("tensorrt", "pycuda"):
        monkeypatch.setitem(sys.modules, name, package(name, origin))
    for which in ("cpu", "gpu"):
        monkeypatch.setattr(backend, f"_open_{which}", lambda networks, config, stack, which=which: which)
    assert backend.open_backend([], load_config(None, {})) == ("gpu" if on_gpu else "cpu")
    assert backend.open_backend([], load_config(None, {"backend": "cpu"})) == "cpu"
    assert backend.open_backend([], load_config(None, {"backend": "cuda"})) == "gpu"


def test_auto_is_the_cpu_where_one_of_them_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", package("pycuda", "/usr/lib/pycuda.py"))
    monkeypatch.setattr(backend, "find_spec", lambda name: None if name == "tensorrt" else sys.modules[name].__spec__)
    monkeypatch.setattr(backend, "_open_cpu", lambda networks, config, stack: "cpu")
    assert backend.open_backend([], load_config(None, {})) == "cpu"


@pytest.mark.parametrize("missing", ["tensorrt", "pycuda"])
def test_the_gpu_backend_without_a_package_names_it(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in list(sys.modules):
        if name.startswith("edgeface.cuda.") or name.split(".")[0] in ("tensorrt", "pycuda"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"^the cuda backend lacks \S+: .*docs/jetson.md"):
        build(load_config(None, {"backend": "cuda"}))


def test_the_cpu_backend_without_a_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "edgeface.cpu.engine", None)
    with pytest.raises(ConfigError, match=r"pip install 'edgeface\[cpu\]'"):
        build(load_config(None, {"backend": "cpu"}))


def test_a_scenario_needs_no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "edgeface.cuda.engine", None)
    with build(load_config(None, {"backend": "cuda", "source": "scenario:crowd"})) as parts:
        assert parts.facts["backend"] == "scenario"

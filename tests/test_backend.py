"""Which backend runs the networks, and what it says when it cannot."""

from __future__ import annotations

import sys
import types
from contextlib import closing
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from fakes import fake_jetson_utils
from gpu_kit import write_default_engines

from edgeface import backend
from edgeface.config import load_config
from edgeface.errors import ConfigError, DeviceError, EngineError
from edgeface.networks import open_networks
from edgeface.parts import build
from edgeface.source_uri import ScenarioUri, parse_source


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


def test_the_gpu_backend_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing(MetaPathFinder):
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
            if name == "edgeface.cuda.engine":
                raise ImportError("libcuda.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.delitem(sys.modules, "edgeface.cuda.engine", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(DeviceError, match=r"^no NVIDIA driver on this machine \(libcuda.so.1: .*backend = 'cpu'"):
        build(load_config(None, {"backend": "cuda"}))


def test_engines_of_the_cpu_are_closed_with_the_backend_and_when_the_next_one_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[str] = []

    def open_engine(card: Any, size: Any, **_: Any) -> Any:
        if card == "bad":
            raise EngineError("bad")
        return types.SimpleNamespace(close=lambda: closed.append(card))

    monkeypatch.setattr("edgeface.cpu.engine.open_engine", open_engine)
    settings = load_config(None, {"backend": "cpu"})
    opened = backend.open_backend([("one", None), ("two", None)], settings)  # type: ignore[list-item]
    assert closed == []
    opened.close()
    assert closed == ["two", "one"]
    with pytest.raises(EngineError):
        backend.open_backend([("three", None), ("bad", None)], settings)  # type: ignore[list-item]
    assert closed == ["two", "one", "three"]


@pytest.mark.parametrize(
    ("source", "capture", "through"),
    [
        ("csi://0", "auto", "jetson-utils"),
        ("demo:", "auto", "OpenCV"),  # of films jetson-utils drops frames
        ("http://camera/x", "auto", "OpenCV"),  # which jetson-utils does not open
        ("csi://0", "opencv", "OpenCV"),
        ("demo:", "jetson-utils", "jetson-utils"),
    ],
)
def test_who_captures(monkeypatch: pytest.MonkeyPatch, source: str, capture: str, through: str) -> None:
    fake_jetson_utils(monkeypatch)
    monkeypatch.setattr("edgeface.cuda.source.open_source", lambda uri, stream: ("jetson-utils", stream))
    monkeypatch.setattr("edgeface.cpu.source.open_source", lambda uri: ("OpenCV", uri))
    uri = parse_source(source)
    assert not isinstance(uri, ScenarioUri)
    found: Any = backend._open_source(uri, capture=capture, stream=7)
    assert found[0] == through
    assert through == "OpenCV" or found[1] == 7  # its conversions are ordered before our kernels


def test_without_jetson_utils_a_camera_comes_through_opencv_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "jetson_utils", None)
    monkeypatch.setattr("edgeface.cpu.source.open_source", lambda uri: "OpenCV")
    uri = parse_source("csi://0")
    assert not isinstance(uri, ScenarioUri)
    found: Any = backend._open_source(uri, capture="auto", stream=7)
    assert found == "OpenCV"
    assert "frames come through OpenCV: jetson-utils: not installed" in caplog.text


def test_jetson_utils_captures_on_the_first_gpu_only(gpu: Any) -> None:
    settings = {"backend": "cuda", "cuda": {"device": 1, "capture": "jetson-utils"}}
    with pytest.raises(ConfigError, match=r"cuda.device = 1: jetson-utils captures on GPU 0; set cuda.capture"):
        build(load_config(None, settings))


@pytest.mark.parametrize(("device", "how"), [(0, "auto"), (1, "opencv")])
def test_frames_for_another_gpu_come_through_opencv(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: int, how: str
) -> None:
    gpu.devices = 2
    write_default_engines(tmp_path)
    asked: dict[str, Any] = {}
    monkeypatch.setattr(backend, "_open_source", lambda uri, **options: asked.update(options))
    settings = {"backend": "cuda", "engines": [str(tmp_path)], "cuda": {"device": device}}
    with closing(open_networks(load_config(None, settings))) as networks:
        networks.backend.open_source(parse_source("csi://0"))
    assert asked["capture"] == how

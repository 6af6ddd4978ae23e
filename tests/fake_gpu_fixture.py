"""The software GPU of tests/fake_gpu for the length of a test."""

from __future__ import annotations

import gc
import importlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FOLDER = str(Path(__file__).parent / "fake_gpu")
FRESH = {"gpu", "tensorrt", "pycuda", "cuda", "jetson_utils"}  # soft and plans hold nothing
PURE = {"edgeface.cuda", "edgeface.cuda.picture"}  # need no GPU: a class of theirs must stay the one that tests know


def _replaced(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] in FRESH or (name.startswith("edgeface.cuda.") and name not in PURE)


def _forget() -> dict[str, Any]:
    """Take out of sys.modules what knows a GPU: the package's attributes too, by which `from` finds modules."""
    found = {name: module for name, module in sys.modules.items() if _replaced(name)}
    for name in found:
        del sys.modules[name]
        package, _, child = name.rpartition(".")
        if child in vars(sys.modules.get(package, object)):
            delattr(sys.modules[package], child)
    return found


def _restore(found: dict[str, Any]) -> None:
    sys.modules.update(found)
    for name, module in found.items():
        package, _, child = name.rpartition(".")
        if package in sys.modules:
            setattr(sys.modules[package], child, module)


@contextmanager
def software_gpu() -> Iterator[Any]:
    """A fresh software GPU, with tensorrt, pycuda and cuda.bindings to import.

    At the end everything must have been given back and no rule broken, but for what was taken by `gpu.take()`.
    """
    before = _forget()
    sys.path.insert(0, FOLDER)
    importlib.invalidate_caches()
    made = importlib.import_module("gpu").gpu
    try:
        yield made
        gc.collect()
        made.finish()
    finally:
        made.over = True
        _forget()
        _restore(before)
        sys.path.remove(FOLDER)
    assert made.broken == [], made.broken


@pytest.fixture
def gpu() -> Iterator[Any]:
    if shutil.which("g++") is None:
        pytest.skip("g++ is missing: apt-get install g++")
    with software_gpu() as made:
        yield made

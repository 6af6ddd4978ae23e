"""The compiled kernels that are shipped: made from the source beside them, and loadable where they should be."""

from __future__ import annotations

import hashlib
import json
import locale
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import make_kernels
import pytest
from make_kernels import KERNELS, SOURCE, TARGETS, Compiler, compile_source, options

PASSPORT = json.loads((KERNELS / "kernels.json").read_text())


def compiler(wheel: str) -> Compiler:
    try:
        return make_kernels.load(wheel)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{wheel} is not installed: pip install -e .[dev]")


def test_the_passport_is_of_the_source_and_the_files() -> None:
    assert PASSPORT["source_sha256"] == hashlib.sha256(SOURCE.read_bytes()).hexdigest(), "run scripts/make_kernels.py"
    assert set(PASSPORT["files"]) == set(TARGETS)
    assert {path.name for path in KERNELS.iterdir()} == {*TARGETS, "kernels.json"}
    for name, entry in PASSPORT["files"].items():
        assert entry["sha256"] == hashlib.sha256((KERNELS / name).read_bytes()).hexdigest()
        assert entry["options"] == options(TARGETS[name][1])


@pytest.mark.parametrize("name", TARGETS)
def test_a_kernel_made_again_is_the_same_to_the_byte(name: str) -> None:
    wheel, architecture = TARGETS[name]
    found = compiler(wheel)
    assert PASSPORT["files"][name]["compiler"] == found.wheel
    assert compile_source(found, SOURCE.read_text(), architecture) == (KERNELS / name).read_bytes()


@pytest.mark.parametrize(
    ("wheel", "architecture"), [("nvidia-cuda-nvrtc-cu11", "sm_90"), ("nvidia-cuda-nvrtc", "sm_87")]
)
def test_the_source_compiles_for_other_devices_too(wheel: str, architecture: str) -> None:
    code = compile_source(compiler(wheel), SOURCE.read_text(), architecture)
    assert {b"crop", b"glimpse"} <= kernels_of(code)


@pytest.mark.parametrize("name", [name for name in TARGETS if name.endswith(".cubin")])
def test_a_cubin_holds_both_kernels_for_its_architecture(name: str) -> None:
    code = (KERNELS / name).read_bytes()
    assert code[:4] == b"\x7fELF"
    assert struct.unpack_from("<H", code, 18)[0] == 190  # EM_CUDA
    assert kernels_of(code) == {b"crop", b"glimpse"}


def test_the_fallback_asks_for_no_newer_driver_than_it_must() -> None:
    text = (KERNELS / "crop-cu11-compute_72.ptx").read_text()
    assert re.findall(r"^\.(?:version|target) (\S+)", text, re.MULTILINE) == ["7.8", "sm_72"]
    assert re.findall(r"\.visible \.entry (\w+)\(\s*\.param \.align 8 \.b8 \w+\[(\d+)\]", text) == [
        ("crop", "112"),
        ("glimpse", "112"),
    ]


def test_an_error_has_the_compilers_words() -> None:
    with pytest.raises(RuntimeError, match=r"NVRTC error 6: crop.cu\(1\): error"):
        compile_source(compiler("nvidia-cuda-nvrtc-cu11"), "nonsense", "sm_87")


@pytest.mark.parametrize("wheel", ["nvidia-cuda-nvrtc-cu11", "nvidia-cuda-nvrtc"])
def test_compiling_leaves_the_threads_locale_alone(wheel: str) -> None:
    found = compiler(wheel)
    with ThreadPoolExecutor(1) as thread:
        before = thread.submit(locale.nl_langinfo, locale.CODESET).result()
        thread.submit(compile_source, found, "", "sm_87").result()
        assert thread.submit(locale.nl_langinfo, locale.CODESET).result() == before


def kernels_of(cubin: bytes) -> set[bytes]:
    """The names of the code sections."""
    return set(re.findall(rb"\0\.text\.(\w+)(?=\0)", cubin))

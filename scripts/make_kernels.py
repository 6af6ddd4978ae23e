"""Compile edgeface/cuda/crop.cu again, with NVRTC from its wheels: needs no GPU, no driver and no toolkit.

    python scripts/make_kernels.py

Writes edgeface/cuda/kernels/: one file a target, and their passport kernels.json. edgeface/cuda/README.md says which
file is for which device. The wheels are pinned in the extra `dev` of setup.py.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "edgeface" / "cuda" / "crop.cu"
KERNELS = SOURCE.parent / "kernels"
# file name -> wheel and architecture; the oldest toolkit that knows a device, because drivers load what is older
TARGETS = {
    "crop-cu11-sm_72.cubin": ("nvidia-cuda-nvrtc-cu11", "sm_72"),
    "crop-cu11-sm_87.cubin": ("nvidia-cuda-nvrtc-cu11", "sm_87"),
    "crop-cu11-compute_72.ptx": ("nvidia-cuda-nvrtc-cu11", "compute_72"),
    "crop-cu13-sm_110.cubin": ("nvidia-cuda-nvrtc", "sm_110"),
}


@dataclass(frozen=True, slots=True)
class Compiler:
    """NVRTC as one wheel has it."""

    library: ctypes.CDLL
    wheel: str  # name and version


def main() -> None:
    source = SOURCE.read_text()
    KERNELS.mkdir(exist_ok=True)
    compilers = {wheel: load(wheel) for wheel, _ in TARGETS.values()}
    files = {}
    for name, (wheel, architecture) in TARGETS.items():
        code = compile_source(compilers[wheel], source, architecture)
        (KERNELS / name).write_bytes(code)
        files[name] = {
            "sha256": hashlib.sha256(code).hexdigest(),
            "compiler": compilers[wheel].wheel,
            "options": options(architecture),
        }
        print(f"{name}: {len(code)} bytes")
    passport = {"source": SOURCE.name, "source_sha256": hashlib.sha256(source.encode()).hexdigest(), "files": files}
    (KERNELS / "kernels.json").write_text(json.dumps(passport, indent=2) + "\n")


def options(architecture: str) -> list[str]:
    """NVRTC's options for "sm_87" (a cubin) or "compute_72" (PTX)."""
    return [f"--gpu-architecture={architecture}", "--std=c++17"]


def load(wheel: str) -> Compiler:
    """NVRTC of an installed wheel. Raises PackageNotFoundError without it."""
    distribution = metadata.distribution(wheel)
    paths = {file.name: str(distribution.locate_file(file)) for file in distribution.files or []}
    # NVRTC 13 finds its builtins only when they are loaded already
    for name in sorted(paths, key=lambda name: "builtins" not in name):
        if name.startswith("libnvrtc") and ".alt." not in name:
            library = ctypes.CDLL(paths[name], mode=ctypes.RTLD_GLOBAL if "builtins" in name else ctypes.RTLD_LOCAL)
    return Compiler(library, f"{wheel} {distribution.version}")


def compile_source(compiler: Compiler, source: str, architecture: str) -> bytes:
    """A cubin or PTX of `source`. Raises RuntimeError with the compiler's words."""
    nvrtc, program, size = compiler.library, ctypes.c_void_p(), ctypes.c_size_t()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"crop.cu", 0, None, None))
    try:
        flags = [option.encode() for option in options(architecture)]
        arguments = program, len(flags), (ctypes.c_char_p * len(flags))(*flags)
        with ThreadPoolExecutor(1) as thread:  # NVRTC 11.8 leaves its thread in the locale C, where Python reads ASCII
            result = thread.submit(nvrtc.nvrtcCompileProgram, *arguments).result()
        _check(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
        log = ctypes.create_string_buffer(size.value)
        _check(nvrtc.nvrtcGetProgramLog(program, log))
        _check(result, log.value.decode())
        kind = "CUBIN" if architecture.startswith("sm_") else "PTX"
        _check(getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)))
        code = ctypes.create_string_buffer(size.value)
        _check(getattr(nvrtc, f"nvrtcGet{kind}")(program, code))
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return code.raw if kind == "CUBIN" else code.value  # PTX ends with a NUL that is no part of the text


def _check(result: int, log: str = "") -> None:
    if result:
        raise RuntimeError(f"NVRTC error {result}: {log}")


if __name__ == "__main__":
    main()

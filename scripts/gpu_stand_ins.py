"""Fetch and build what the GPU backend's tests need on a machine without a GPU: TensorRT's and CUDA's Python side.

    python scripts/gpu_stand_ins.py [--folder .venv/gpu]

The bindings are the real ones: TensorRT's and cuda-bindings' wheels as NVIDIA publishes them, PyCUDA compiled from its
sdist. What lies under them is not: empty libraries in TensorRT's place, and a CUDA driver that answers every call with
"no device". That is enough to import them, to read every name and signature, and to see what an error looks like. Type
stubs for mypy are read off them too: tensorrt-stubs on PyPI wants TensorRT installed, and mypy finds it no Python.

    tensorrt-VERSION/      tensorrt_bindings of one version, and `tensorrt`, as JetPack calls it
    cuda-bindings-VERSION/
    pycuda/
    libraries/             empty libnvinfer.so.10 and .so.11, with their plug-in library and parser
    no-gpu/                libcuda.so.1: a driver that finds no GPU. Leave it out, and there is no driver
    stubs/                 type stubs, a folder for each of the above

A second call does nothing. A call that was interrupted is begun again.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).parent.parent / ".venv" / "gpu"
TENSORRT = {"10.3.0": "cu12", "10.13.0.35": "cu12", "11.4.0.106": "cu13"}  # JetPack 6.1, JetPack 7.0, the newest
CUDA_BINDINGS = ("12.9.10", "13.4.4")  # the newest of each major that Python 3.10 can have
PYCUDA = "2026.1"
HEADERS = ("nvidia-cuda-runtime-cu12==12.6.77", "nvidia-cuda-profiler-api-cu12==12.6.77")  # JetPack 6's CUDA

# what the bindings look for while they are imported
ENTRY_POINTS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "getBuilderPluginRegistry",
    "getPluginRegistry",
    "initLibNvInferPlugins",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getNvOnnxParserVersion",
)
CUDA_ERROR_NO_DEVICE = 100
# what of the driver is more than that error: what the error is called, and, as CUDA 12.6 does, where functions are
NO_GPU = f"""
static int no_device(void) {{ return {CUDA_ERROR_NO_DEVICE}; }}
int cuGetErrorString(int code, const char **text) {{ *text = "no CUDA-capable device is detected"; return 0; }}
int cuGetErrorName(int code, const char **name) {{ *name = "CUDA_ERROR_NO_DEVICE"; return 0; }}
int cuGetProcAddress_v2(const char *name, void **function, int since, unsigned long long flags, int *why_not) {{
    *function = since <= 12060 ? no_device : 0;
    if (why_not) *why_not = since > 12060;
    return *function ? 0 : 500;
}}
"""

# PyCUDA's own settings file; not optimised, because nothing ever runs it for long
SITECONF = """
CUDA_ENABLE_CURAND = False
CUDA_INC_DIR = {includes}
CUDADRV_LIB_DIR = [{driver!r}]
CUDADRV_LIBNAME = ["cuda"]
CXXFLAGS = ["-w", "-O0", "-g0"]
"""


class StandInsError(Exception):
    """The stand-ins cannot be made; the text says why and what to install."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the stand-ins of the GPU libraries for the tests.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where they go (default: %(default)s)")
    folder = parser.parse_args().folder.absolute()
    try:
        if not is_complete(folder):
            make(folder)
    except StandInsError as error:
        sys.exit(f"no GPU stand-ins: {error}")


def is_complete(folder: Path) -> bool:
    """Whether the folder was filled to the end, by this very script and for this Python."""
    stamp = folder / "stamp"
    return stamp.is_file() and stamp.read_text() == _digest()


def make(folder: Path) -> None:
    """Fill the folder; what was in it is gone. Raises StandInsError."""
    _check_tools()
    print(f"making the GPU stand-ins in {folder}, a minute or two ...", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ThreadPoolExecutor(2) as threads:  # the compiler has one core, the downloads and stubs another
        pycuda = threads.submit(make_pycuda, folder)
        make_tensorrt_libraries(folder / "libraries")
        for version, cuda in TENSORRT.items():
            make_tensorrt(folder, version, cuda)
        for version in CUDA_BINDINGS:
            make_cuda_bindings(folder, version)
        pycuda.result()
    (folder / "stamp").write_text(_digest())


def make_tensorrt_libraries(folder: Path) -> None:
    """Libraries by the names that the bindings are linked to. Every function returns a null pointer."""
    source = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in ENTRY_POINTS)
    for major in sorted({version.split(".")[0] for version in TENSORRT}):
        for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
            _compile_library(folder / f"lib{name}.so.{major}", source)


def make_tensorrt(folder: Path, version: str, cuda: str) -> None:
    target, stubs = folder / f"tensorrt-{version}", folder / "stubs" / f"tensorrt-{version}"
    _pip("install", "--no-deps", "--target", target, f"tensorrt_{cuda}_bindings=={version}")
    environment = {"PYTHONPATH": target, "LD_LIBRARY_PATH": folder / "libraries"}
    _write_stubs(stubs, environment, "tensorrt_bindings", "tensorrt_bindings.tensorrt")
    alias = "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__ as __version__\n"
    for path in (target / "tensorrt" / "__init__.py", stubs / "tensorrt" / "__init__.pyi"):
        path.parent.mkdir()
        path.write_text(alias)


def make_cuda_bindings(folder: Path, version: str) -> None:
    target = folder / f"cuda-bindings-{version}"
    _pip("install", "--target", target, f"cuda-bindings=={version}")
    _write_stubs(folder / "stubs" / target.name, {"PYTHONPATH": target}, "cuda.bindings.driver")


def make_pycuda(folder: Path) -> None:
    """The driver that finds no GPU, from the names in CUDA's headers, and PyCUDA, linked to it."""
    work, driver, target = folder / "work", folder / "no-gpu", folder / "pycuda"
    _pip("install", "--no-deps", "--target", work / "headers", *HEADERS)
    headers = [next(work.glob(f"headers/nvidia/*/include/{name}")) for name in ("cuda.h", "cudaProfiler.h")]
    names = sorted({name for path in headers for name in re.findall(r"\bcu[A-Z]\w+", path.read_text())})
    others = "".join(f"int {name}(void) {{ return {CUDA_ERROR_NO_DEVICE}; }}\n" for name in names if name not in NO_GPU)
    _compile_library(driver / "libcuda.so.1", NO_GPU + others)
    (work / "libcuda.so").symlink_to(driver / "libcuda.so.1")

    fetch = ["download", "--no-deps", "--no-binary", "pycuda", "--no-build-isolation"]
    _pip(*fetch, "--dest", work, f"pycuda=={PYCUDA}")
    with tarfile.open(work / f"pycuda-{PYCUDA}.tar.gz") as archive:
        archive.extractall(work)
    source_folder = (work / f"pycuda-{PYCUDA}").rename(work / "source")  # under its own name pip would cache the wheel
    settings = SITECONF.format(includes=[str(path.parent) for path in headers], driver=str(work))
    (source_folder / "siteconf.py").write_text(settings)
    _pip("install", "--no-build-isolation", "--target", target, source_folder)
    environment = {"PYTHONPATH": target, "LD_LIBRARY_PATH": driver}
    _write_stubs(folder / "stubs" / "pycuda", environment, "pycuda", "pycuda.driver", "pycuda._driver")
    shutil.rmtree(work)


def _check_tools() -> None:
    missing = [tool for tool in ("gcc", "g++") if shutil.which(tool) is None]
    if missing:
        raise StandInsError(f"{' and '.join(missing)} missing: apt-get install gcc g++")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        raise StandInsError("Python's headers are missing: apt-get install python3-dev")


def _compile_library(path: Path, source: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = ["-w", "-shared", "-fPIC", f"-Wl,-soname,{path.name}"]
    _run(["gcc", *options, "-o", path, "-x", "c", "-"], source=source)


def _write_stubs(folder: Path, environment: Mapping[str, Path], *modules: str) -> None:
    """Type stubs of what the modules really hold, by importing them."""
    names = [argument for module in modules for argument in ("-m", module)]
    program = "import sys; from mypy.stubgen import main; main(sys.argv[1:])"
    _run([sys.executable, "-c", program, "--inspect-mode", "--quiet", "-o", str(folder), *names], environment)
    for path in folder.rglob("*.pyi"):
        path.write_text(_mend(path.read_text()))


def _mend(stub: str) -> str:
    """What stubgen gets wrong: TensorRT's `bool` hides Python's; Boost's base class; signatures that are no Python."""
    stub = re.sub(r"(?m)^(?!bool:|from ).*$", lambda line: re.sub(r"\bbool\b", "builtins.bool", line[0]), stub)
    stub = stub.replace("(Boost.Python.instance)", "")
    lines = ["import builtins", *stub.splitlines()]
    while True:
        try:
            ast.parse("\n".join(lines))
        except SyntaxError as error:
            number = (error.lineno or 1) - 1
            anything = re.sub(r"\(.*\)", "(self, *args, **kwargs)", lines[number])
            lines[number] = anything if anything != lines[number] else ""
        else:
            return "\n".join(lines) + "\n"


def _pip(verb: str, *arguments: str | Path) -> None:
    _run([sys.executable, "-m", "pip", verb, "--quiet", "--disable-pip-version-check", *arguments])


def _run(
    command: Sequence[str | Path], environment: Mapping[str, Path] | None = None, source: str | None = None
) -> None:
    """Run to the end, silently. Raises StandInsError with the last line that the program said."""
    variables = os.environ | {name: str(path) for name, path in (environment or {}).items()}
    done = subprocess.run(command, env=variables, input=source, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()] or ["nothing"]
        raise StandInsError(f"{' '.join(str(part) for part in command)[:200]} failed and said: {said[-1].strip()}")


def _digest() -> str:
    """Of all that the folder's contents depend on."""
    return hashlib.sha256(Path(__file__).read_bytes() + f"{sys.version}{platform.machine()}".encode()).hexdigest()


if __name__ == "__main__":
    main()

"""The GPU backend against the real TensorRT, PyCUDA and cuda-bindings, without a GPU: names, signatures, errors.

scripts/gpu_stand_ins.py makes what is imported here. Two checks see different things. mypy, with stubs of the real
bindings, follows the types: it knows that a name is another class's, and whether hasattr was asked before. Where the
types are lost, as for what a function takes as Any, the names themselves are looked up.
"""

from __future__ import annotations

import ctypes.util
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import gpu_stand_ins
import pytest
from conftest import ROOT
from gpu_names import Api, api_of, knows_a_gpu, missing, own_names, python_names

from edgeface.model_card import find_card

PACKAGE = ROOT / "edgeface"
FILES = sorted(path for room in ("cuda", "build") for path in (PACKAGE / room).glob("*.py"))
TENSORRT, CUDA_BINDINGS = list(gpu_stand_ins.TENSORRT), gpu_stand_ins.CUDA_BINDINGS
# what there is in no wheel: names that its C++ gives Python, read in dusty-nv/jetson-utils python/bindings @fae4b42
JETSON_UTILS = {"videoSource", "Capture", "IsStreaming", "GetFrameRate", "GetFrameCount", "cudaDeviceSynchronize"} | {
    *("Log", "SetFilename", "SetLevel"),
    *("ptr", "width", "height", "format", "timestamp"),
}
NO_SUCH_NAME = ("[attr-defined]", "[name-defined]", "[call-arg]")


@pytest.fixture(scope="module")
def apis(stand_ins: Path) -> dict[str, list[Api]]:
    """Of each module, all versions."""
    stubs = stand_ins / "stubs"
    pycuda = stubs / "pycuda" / "pycuda"
    drivers = [stubs / f"cuda-bindings-{version}" / "cuda" / "bindings" / "driver.pyi" for version in CUDA_BINDINGS]
    return {
        "tensorrt": [tensorrt_api(stand_ins, version) for version in TENSORRT],
        "pycuda.driver": [merged(api_of(pycuda / "driver.pyi"), api_of(pycuda / "_driver.pyi"))],
        "cuda.bindings.driver": [api_of(path) for path in drivers],
    }


def tensorrt_api(stand_ins: Path, version: str) -> Api:
    package = stand_ins / "stubs" / f"tensorrt-{version}" / "tensorrt_bindings"
    return merged(api_of(package / "__init__.pyi"), api_of(package / "tensorrt.pyi"))


def merged(one: Api, other: Api) -> Api:
    return {name: one.get(name, set()) | other.get(name, set()) for name in {*one, *other}}


def environment(*folders: Path, libraries: tuple[Path, ...] = ()) -> dict[str, str]:
    paths = {"PYTHONPATH": folders, "LD_LIBRARY_PATH": libraries}
    return os.environ | {name: os.pathsep.join(map(str, found)) for name, found in paths.items()}


def run(*command: str | Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def python(program: str, variables: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-c", program, *arguments, variables=variables)


def mypy(stand_ins: Path, files: list[Path], tensorrt: str, cuda_bindings: str) -> list[str]:
    """What mypy finds in the files that has no such name or takes no such arguments in these versions."""
    folders = ("pycuda", f"tensorrt-{tensorrt}", f"cuda-bindings-{cuda_bindings}")
    stubs = os.pathsep.join(str(stand_ins / "stubs" / folder) for folder in folders)
    cache = stand_ins / "mypy"
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--no-color-output", "--cache-dir", str(cache)]
    variables = os.environ | {"MYPYPATH": stubs}
    done = run(sys.executable, "-m", "mypy", *options, *files, variables=variables)
    assert "prevented further checking" not in done.stdout + done.stderr, done.stdout
    assert f"checked {len(files)} source file" in done.stdout or "no issues found" in done.stdout, done.stderr
    ours = tuple(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}:" for path in files)
    return [line for line in done.stdout.splitlines() if line.startswith(ours) and line.endswith(NO_SUCH_NAME)]


def versions() -> list[tuple[str, str]]:
    """Each TensorRT with the cuda-bindings of its time."""
    return [(version, CUDA_BINDINGS[version != TENSORRT[0]]) for version in TENSORRT]


@pytest.mark.parametrize(("tensorrt", "cuda_bindings"), versions())
def test_every_name_of_a_known_type_exists(stand_ins: Path, tensorrt: str, cuda_bindings: str) -> None:
    assert mypy(stand_ins, FILES, tensorrt, cuda_bindings) == []


def test_every_name_exists_whatever_the_type(apis: dict[str, list[Api]]) -> None:
    own = own_names(PACKAGE.rglob("*.py")) | JETSON_UTILS
    for room in ("cuda", "build"):  # what one file makes another uses
        sources = {path: path.read_text() for path in FILES if path.parent.name == room}
        sources = {path: source for path, source in sources.items() if room == "cuda" or knows_a_gpu(source)}
        known = own.union(*map(python_names, sources.values()))
        for path, source in sources.items():
            assert missing(source, apis, known) == [], path


BAD = """
from typing import Any

import pycuda.driver as cuda
import tensorrt as trt
from cuda.bindings import driver


def old(engine: trt.ICudaEngine, context: trt.IExecutionContext, builder: trt.Builder) -> None:
    engine.num_bindings  # bad: gone since 10
    context.execute_async_v2([], 0)  # bad: gone since 10
    builder.create_netwrk(0)  # bad: misspelt
    trt.Runtme(builder.logger)  # bad: misspelt
    trt.BuilderFlag.FP16  # bad: gone since 11
    engine.create_builder_config()  # bad for mypy: the builder's
    builder.create_network(0, 1)  # bad for mypy: takes one argument
    cuda.mem_aloc(1)  # bad: misspelt
    cuda.Stream().synchronise()  # bad: misspelt
    cuda.host_alloc_flags.DEVICEMAPPED  # bad: misspelt
    driver.cuGraphLunch(0, 0)  # bad: misspelt


def untyped(trt: Any, engine: Any, config: Any) -> None:
    engine.num_bindings  # bad by name: gone since 10
    config.int8_calibrator = None  # bad by name: gone since 11
    trt.BuilderFlag.INT8  # bad by name: gone since 11
    flags = trt.BuilderFlag
    flags.BF16  # bad by name: gone since 11
    trt.OnnxParserFlag.NATIVE_INSTNCENORM  # bad by name: misspelt
    hasattr(trt.OnnxParserFlag, "ADJUST_FOR_DLA")


def good(trt_11: Any, config: trt.IBuilderConfig, plan: trt.IHostMemory) -> None:
    if hasattr(trt.BuilderFlag, "FP16"):
        config.set_flag(trt.BuilderFlag.FP16)
    if hasattr(trt.OnnxParserFlag, "ADJUST_FOR_DLA"):
        trt.OnnxParserFlag.ADJUST_FOR_DLA
    getattr(trt, "IInt8EntropyCalibrator2", None)
    trt.Logger.WARNING, trt.__version__.split("."), trt.float32.itemsize, trt.volume([1]), plan.nbytes
    cuda.Context.pop(), driver.CUresult.CUDA_SUCCESS.name
"""


def lines_marked(*marks: str) -> list[int]:
    return [number for number, line in enumerate(BAD.splitlines(), 1) if any(f"# {mark}:" in line for mark in marks)]


def test_mypy_finds_names_that_do_not_exist(stand_ins: Path, tmp_path: Path) -> None:
    source = tmp_path / "bad.py"
    source.write_text(BAD)
    found = [mypy(stand_ins, [source], *pair) for pair in versions()]
    numbers = [sorted({int(line.split(":")[1]) for line in lines}) for lines in found]
    everywhere = [
        number for number in lines_marked("bad", "bad for mypy") if "FP16" not in BAD.splitlines()[number - 1]
    ]
    assert numbers == [everywhere, everywhere, lines_marked("bad", "bad for mypy")]


def test_names_that_do_not_exist_are_found_without_types(apis: dict[str, list[Api]]) -> None:
    found = missing(BAD, apis, python_names(BAD))
    numbers = sorted({int(line.split(":")[0].removeprefix("line ")) for line in found})
    assert numbers == lines_marked("bad", "bad by name")


DUMP = """
import json, sys
import {module} as module
public = {{name: member for name, member in vars(module).items() if not name.startswith("_")}}
print(json.dumps({{name: sorted(vars(member)) for name, member in public.items() if isinstance(member, type)}}))
"""


@pytest.mark.parametrize("version", TENSORRT)
def test_the_stubs_of_tensorrt_have_what_the_module_has(stand_ins: Path, version: str) -> None:
    variables = environment(stand_ins / f"tensorrt-{version}", libraries=(stand_ins / "libraries",))
    done = python("import tensorrt; print(tensorrt.__version__)", variables)
    assert done.stdout.strip() == version, done.stderr
    assert_same(python(DUMP.format(module="tensorrt_bindings"), variables).stdout, tensorrt_api(stand_ins, version))


def test_the_stubs_of_pycuda_have_what_the_module_has(stand_ins: Path, apis: dict[str, list[Api]]) -> None:
    variables = environment(stand_ins / "pycuda", libraries=(stand_ins / "no-gpu",))
    assert_same(python(DUMP.format(module="pycuda.driver"), variables).stdout, apis["pycuda.driver"][0])


@pytest.mark.parametrize("number", range(len(CUDA_BINDINGS)))
def test_the_stubs_of_cuda_bindings_have_what_the_module_has(
    stand_ins: Path, apis: dict[str, list[Api]], number: int
) -> None:
    variables = environment(stand_ins / f"cuda-bindings-{CUDA_BINDINGS[number]}")
    assert_same(
        python(DUMP.format(module="cuda.bindings.driver"), variables).stdout, apis["cuda.bindings.driver"][number]
    )


def assert_same(dump: str, api: Api) -> None:
    classes = {name: set(names) for name, names in json.loads(dump).items()}
    assert len(classes) > 30
    assert set(classes) <= api[""]
    for name, names in classes.items():
        assert {one for one in names if one.isidentifier() and not one.startswith("_")} <= api.get(name, names), name


needs_no_driver = pytest.mark.skipif(ctypes.util.find_library("cuda") is not None, reason="this machine has a driver")


@needs_no_driver
def test_pycuda_without_a_driver(stand_ins: Path) -> None:
    variables = environment(stand_ins / "pycuda")
    assert python("import pycuda", variables).returncode == 0
    done = python("import pycuda.driver", variables)
    assert done.stderr.splitlines()[-1].startswith("ImportError: libcuda.so.1: cannot open shared object file")


def test_pycuda_with_a_driver_that_finds_no_gpu(stand_ins: Path) -> None:
    program = (
        "import pycuda.driver as cuda\n"
        "try:\n    cuda.init()\n"
        "except cuda.Error as error:\n    print(isinstance(error, RuntimeError), error)"
    )
    done = python(program, environment(stand_ins / "pycuda", libraries=(stand_ins / "no-gpu",)))
    assert done.stdout.strip() == "False cuInit failed: no CUDA-capable device is detected", done.stderr


@pytest.mark.skipif(not (PACKAGE / "cuda" / "graph.py").exists(), reason="the GPU backend is not there yet")
@pytest.mark.parametrize("version", CUDA_BINDINGS)
def test_cuda_bindings_newer_than_the_driver(stand_ins: Path, version: str) -> None:
    variables = environment(stand_ins / f"cuda-bindings-{version}", libraries=(stand_ins / "no-gpu",))
    done = python("from edgeface.cuda.graph import Graph; Graph(0, bool)", variables)
    assert done.stderr.splitlines()[-1] == "edgeface.cuda.graph.GraphError: CUDA error CUDA_ERROR_NO_DEVICE"


@pytest.mark.skipif(not (PACKAGE / "cuda" / "memory.py").exists(), reason="the GPU backend is not there yet")
@pytest.mark.parametrize(
    ("driver", "words"),
    [pytest.param((), "no NVIDIA driver", marks=needs_no_driver), (("no-gpu",), "no GPU")],
)
def test_edgeface_says_in_one_line_what_is_missing(
    stand_ins: Path, tmp_path: Path, driver: tuple[str, ...], words: str
) -> None:
    write_engine_of_nothing(tmp_path)
    config = tmp_path / "config.toml"
    config.write_text(f'engines = ["{tmp_path}"]\n[detector]\nscales = [640]\n[landmarks]\ncard = "none"\n')
    folders = ("pycuda", f"tensorrt-{TENSORRT[0]}", f"cuda-bindings-{CUDA_BINDINGS[0]}")
    libraries = tuple(stand_ins / name for name in ("libraries", *driver))
    endpoint = f"ipc://{tmp_path}/bus.ipc"
    arguments = ["run", str(config), "--backend", "cuda", "--endpoint", endpoint, "--max-frames", "1"]
    variables = environment(*(stand_ins / folder for folder in folders), libraries=libraries)
    done = python("import sys; from edgeface.cli import main; sys.exit(main())", variables, *arguments)
    (line,) = done.stderr.splitlines()
    assert line.startswith("edgeface: ")
    assert words in line
    assert done.returncode == 1


def write_engine_of_nothing(folder: Path) -> None:
    """What passes for the default detector's engine until TensorRT reads it."""
    passports = pytest.importorskip("edgeface.passport")
    version = tuple(map(int, TENSORRT[0].split(".")))
    plan = b"ftrt".ljust(24, b"\0") + bytes((*version, 0))
    card = find_card("edgeface-detector")
    size = (card.input.width, card.input.height)
    passport = passports.Passport(
        schema=1,
        card=card.name,
        engine_sha256=hashlib.sha256(plan).hexdigest(),
        engine_bytes=len(plan),
        onnx_sha256=hashlib.sha256((Path(card.folders[0]) / card.onnx).read_bytes()).hexdigest(),
        built_from_sha256="0" * 64,
        tensorrt=TENSORRT[0],
        plan_version=(*version, 0),
        compute_capability="8.7",
        device="Orin",
        platform="aarch64",
        precision="fp16",
        int8_source="",
        inputs=(passports.Tensor("input", (1, 3, *size[::-1]), "float32"),),
        outputs=(),
        batch=(1, 1, 1),
        input_size=size,
        dla_core=None,
        workspace_mb=1,
        flags=(),
        date="2026-01-01T00:00:00+00:00",
    )
    passports.write_engine(folder / passports.engine_name(card.name, size, "fp16", False), plan, passport)


SCRIPT = [sys.executable, gpu_stand_ins.__file__, "--folder"]


def test_stand_ins_are_made_once(stand_ins: Path, tmp_path: Path) -> None:
    (tmp_path / "stamp").write_text((stand_ins / "stamp").read_text())
    done = run(*SCRIPT, tmp_path, variables={"PATH": ""})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("stamp", [None, "of an older script"])
def test_stand_ins_without_a_compiler(tmp_path: Path, stamp: str | None) -> None:
    if stamp is not None:
        (tmp_path / "stamp").write_text(stamp)
    done = run(*SCRIPT, tmp_path, variables={"PATH": ""})
    assert done.stderr == "no GPU stand-ins: gcc and g++ missing: apt-get install gcc g++\n"
    assert done.returncode == 1

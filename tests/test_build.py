"""The builder: every network that a card names, parsed and built by TensorRT-RTX, which needs no GPU."""

from __future__ import annotations

import hashlib
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conftest import ROOT, MakeOnnx, scrfd_outputs
from onnx import TensorProto, helper

from edgeface import cli
from edgeface.build import calibrate, engine, onnx_file, precision, quantise, trt
from edgeface.build.device import Device, current_device, machine
from edgeface.build.progress import Progress
from edgeface.build.trt import Order
from edgeface.cuda.plan import load_plan
from edgeface.errors import ConfigError, DeviceError, EngineError
from edgeface.model_card import Card, find_card, input_sizes, load_card, onnx_path, target_folder
from edgeface.passport import Passport, build_command, passport_path, read_passport

RTX = "tensorrt-rtx"
CARDS = ["edgeface-detector", "edgeface-landmarks", "scrfd-500m-kps", "scrfd-2.5g-kps"]


def order(card: Card, size: tuple[int, int] | None = None, **changes: Any) -> Order:
    usual = {"precision": "fp32", "batch": None, "dla_core": None, "workspace_mb": 256}
    return Order(card, size or (card.input.width, card.input.height), **(usual | changes))


def draft(card: Card, size: tuple[int, int] | None = None, **changes: Any) -> engine.Draft:
    return engine.draft(order(card, size, **changes), folder=Path(card.folders[0]), runtime=RTX)


def quantise_by_noise(card: Card) -> None:
    """Write the INT8 form of a card's network beside it."""
    source = onnx_path(card)
    model = onnx_file.load(source)
    rng, (width, height) = np.random.default_rng(0), (card.input.width, card.input.height)
    noise = rng.integers(0, 256, (1, card.input.channels, height, width)).astype(np.float32)
    found, _ = calibrate.histograms(model, [noise])
    form, _ = quantise.quantise(model, calibrate.scales(found, "minmax"))
    onnx.save(form, str(precision.int8_path(source, source.parent)))


@pytest.fixture(scope="module")
def card_of(
    rtx: ModuleType, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Card]:
    """A card in a folder of its own, with its network and the INT8 form of it."""
    made: dict[str, Card] = {}

    def make(name: str) -> Card:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            bundled = name.startswith("edgeface-")
            networks = ROOT / "engines" if bundled else request.getfixturevalue("data") / "networks"
            card = find_card(name, (str(networks),))
            shutil.copy(onnx_path(card), folder)
            made[name] = msgspec.structs.replace(card, folders=(str(folder),))
            quantise_by_noise(made[name])
        return made[name]

    return make


# --- networks that are


@pytest.mark.parametrize("wanted", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", CARDS)
def test_every_network_is_built_in_every_precision(
    card_of: Callable[[str], Card], rtx: ModuleType, name: str, wanted: Any
) -> None:
    card = card_of(name)
    one = draft(card, precision=wanted)
    engine.finish(one)
    data = one.path.read_bytes()
    passport = read_passport(passport_path(one.path))
    assert passport.engine_sha256 == hashlib.sha256(data).hexdigest()
    assert passport.engine_bytes == len(data)
    assert passport.onnx_sha256 == hashlib.sha256(onnx_path(card).read_bytes()).hexdigest()
    assert (passport.built_from_sha256 == passport.onnx_sha256) == (wanted == "fp32")
    assert (passport.card, passport.precision) == (name, wanted)
    assert passport.int8_source == ("qdq" if wanted == "int8" else "")
    assert passport.tensorrt == rtx.__version__ == ".".join(map(str, passport.plan_version or ()))
    assert (passport.compute_capability, passport.device) == ("", "")
    assert passport.flags == (() if wanted == "fp32" else ("TF32",))
    assert passport.inputs == (one.network.input,)
    assert {tensor.dtype for tensor in (*passport.inputs, *passport.outputs)} == {"float32"}
    session = ort.InferenceSession(str(onnx_path(card)), providers=["CPUExecutionProvider"])
    assert [tensor.name for tensor in passport.outputs] == [output.name for output in session.get_outputs()]
    free = card.task == "landmarks"
    assert passport.batch == ((1, 8, 32) if free else (1, 1, 1))
    assert {tensor.shape[0] for tensor in (*passport.inputs, *passport.outputs)} == {-1 if free else 1}


def test_the_daemon_neither_finds_nor_takes_a_plan_of_tensorrt_rtx(card_of: Callable[[str], Card]) -> None:
    card = card_of("edgeface-landmarks")
    one = draft(card, precision="fp16")
    engine.finish(one)

    def load() -> None:
        load_plan(card, None, precision="fp16", dla=False, tensorrt_version="10.3.0")

    with pytest.raises(
        EngineError, match="expected the engine edgeface-landmarks-80x80-fp16.engine in .* no such file"
    ):
        load()
    name = one.path.with_name("edgeface-landmarks-80x80-fp16.engine")
    one.path.replace(name)
    passport_path(one.path).replace(passport_path(name))
    with pytest.raises(EngineError, match="found one of TensorRT-RTX, which is for checks only; build it: edgeface"):
        load()


def test_free_sizes_are_settled(card_of: Callable[[str], Card]) -> None:
    card = card_of("edgeface-detector")
    for size in input_sizes(card):
        network = draft(card, size).network
        assert network.input.shape == (1, 1, size[1], size[0])
        rows = {tensor.name: tensor.shape[1] for tensor in network.outputs}
        assert rows["score_8"] == size[0] * size[1] // 64
    wide = draft(card, (640, 384), batch=4)
    assert (wide.network.batch, wide.network.input.shape) == ((1, 4, 4), (-1, 1, 384, 640))
    assert "batch: 1 to 4, best at 4" in str(wide)
    engine.finish(wide)
    assert read_passport(passport_path(wide.path)).batch == (1, 4, 4)


@pytest.mark.parametrize("batch", [1, 20])
def test_the_batch_can_be_chosen(card_of: Callable[[str], Card], batch: int) -> None:
    network = draft(card_of("edgeface-landmarks"), batch=batch).network
    assert network.batch == (1, min(batch, 8), batch)
    assert network.input.shape[0] == (-1 if batch > 1 else 1)


@pytest.mark.parametrize("name", ["edgeface-detector", "edgeface-landmarks"])
def test_fp16_gives_what_fp32_gives(card_of: Callable[[str], Card], tmp_path: Path, name: str) -> None:
    """Also on pictures without any contrast, where a landmark network divides by nearly 0."""
    card = card_of(name)
    half = precision.form(onnx_path(card), "fp16", strongly_typed=True, folder=tmp_path, engines=tmp_path)
    assert half.stat().st_size < 0.6 * onnx_path(card).stat().st_size
    rng, shape = np.random.default_rng(0), (1, 1, card.input.height // 4, card.input.width // 4)
    blocks = np.kron(rng.integers(0, 256, shape), np.ones((4, 4))).astype(np.float32)
    for pixels in (blocks, *(np.full(blocks.shape, value, np.float32) for value in (0, 1, 127, 255))):
        full_out, half_out = (
            ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {session_input: pixels})
            for path in (onnx_path(card), half)
            for session_input in [onnx.load(str(path)).graph.input[0].name]
        )
        for ours, theirs in zip(half_out, full_out, strict=True):
            assert ours.dtype == np.float32
            assert np.isfinite(ours).all()
            if pixels is blocks:
                np.testing.assert_allclose(ours, theirs, atol=0.25)


def test_a_weakly_typed_tensorrt_makes_fp16_itself(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    assert precision.form(path, "fp16", strongly_typed=False, folder=tmp_path, engines=tmp_path) == path
    assert precision.form(path, "fp32", strongly_typed=True, folder=tmp_path, engines=tmp_path) == path


@pytest.mark.parametrize(
    ("wanted", "dla_core", "old", "new"),
    [
        ("fp32", None, (), ()),
        ("fp16", None, ("FP16",), ()),
        ("int8", None, ("INT8", "FP16"), ()),
        ("fp16", 0, ("FP16", "GPU_FALLBACK"), ("GPU_FALLBACK",)),
        ("int8", 1, ("INT8", "FP16", "GPU_FALLBACK"), ("GPU_FALLBACK",)),
    ],
)
def test_flags_of_precision_where_there_are_some(
    rtx: ModuleType, wanted: str, dla_core: int | None, old: tuple[str, ...], new: tuple[str, ...]
) -> None:
    weak = SimpleNamespace(BuilderFlag=SimpleNamespace(FP16=0, INT8=2, GPU_FALLBACK=3))  # as TensorRT 8.6 has them
    ordered = order(find_card("edgeface-detector"), precision=wanted, dla_core=dla_core)
    assert (trt.is_strongly_typed(weak), trt.is_strongly_typed(rtx)) == (False, True)
    assert trt.builder_flags(weak, ordered) == old
    assert trt.builder_flags(rtx, ordered) == new


def test_the_builder_is_told_what_was_ordered(card_of: Callable[[str], Card], rtx: ModuleType) -> None:
    """As far as it goes here: TensorRT-RTX takes DLA's settings and passes them over."""
    card = card_of("edgeface-landmarks")
    ordered = order(card, dla_core=1, precision="int8")
    config = trt.configure(rtx, draft(card, batch=1).network, ordered)
    assert config.get_memory_pool_limit(rtx.MemoryPoolType.WORKSPACE) == 256 << 20
    assert config.max_aux_streams == 0
    assert config.default_device_type == rtx.DeviceType.DLA
    assert config.get_flag(rtx.BuilderFlag.GPU_FALLBACK)
    assert config.num_optimization_profiles == 0
    config = trt.configure(rtx, draft(card).network, order(card))
    assert config.default_device_type == rtx.DeviceType.GPU
    assert not config.get_flag(rtx.BuilderFlag.GPU_FALLBACK)
    assert config.num_optimization_profiles == 1


def test_a_timing_cache_is_handed_on(
    card_of: Callable[[str], Card],
    rtx: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """TensorRT-RTX has none; here it is made to look as if it had."""
    told: list[Any] = []
    monkeypatch.setattr(
        rtx.IBuilderConfig,
        "create_timing_cache",
        lambda config, before: None if before == b"odd" else before + b" read",
    )
    monkeypatch.setattr(
        rtx.IBuilderConfig,
        "set_timing_cache",
        lambda config, *arguments: told.append(arguments) or arguments[0] != b"of another device read",
    )
    after = SimpleNamespace(serialize=lambda: bytearray(b"after"))
    monkeypatch.setattr(rtx.IBuilderConfig, "get_timing_cache", lambda config: after)
    card = card_of("edgeface-landmarks")

    def build(cache: bytes | None) -> bytes:
        return trt.build(rtx, draft(card).network, order(card), cache, Progress()).timing_cache

    assert build(b"before") == b"after"
    assert told == [(b"before read", False)]
    assert build(None) == b""
    assert len(told) == 1
    for refused in (b"odd", b"of another device"):
        caplog.clear()
        assert build(refused) == b"after"
        assert told[-1] == (b" read", False)
        assert "TensorRT refuses what earlier builds have measured" in caplog.text


def test_an_old_tensorrt_is_told_that_the_batch_is_an_axis(
    card_of: Callable[[str], Card], rtx: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, create = [], rtx.Builder.create_network
    monkeypatch.setattr(rtx.Builder, "create_network", lambda builder, flags: told.append(flags) or create(builder, 0))
    draft(card_of("edgeface-landmarks"))
    monkeypatch.setattr(rtx, "NetworkDefinitionCreationFlag", SimpleNamespace(EXPLICIT_BATCH=2))
    draft(card_of("edgeface-landmarks"))
    assert told == [0, 1 << 2]


def test_a_builder_that_cannot_start(
    card_of: Callable[[str], Card], rtx: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(rtx, "Builder", broken)
    with pytest.raises(DeviceError, match="TensorRT cannot start"):
        draft(card_of("edgeface-landmarks"))


# --- networks that are not


def test_int8_needs_the_quantised_form(card_of: Callable[[str], Card], tmp_path: Path) -> None:
    source = onnx_path(card_of("edgeface-landmarks"))
    card = msgspec.structs.replace(card_of("edgeface-landmarks"), folders=(str(tmp_path),))
    shutil.copy(source, tmp_path)
    with pytest.raises(EngineError) as caught:
        draft(card, precision="int8")
    assert str(caught.value) == (
        f"{tmp_path}/edgeface-landmarks.int8.onnx: expected the quantised form of edgeface-landmarks.onnx "
        "(ONNX with Q/DQ nodes), found no file"
    )
    shutil.copy(source, tmp_path / "edgeface-landmarks.int8.onnx")
    with pytest.raises(EngineError, match=r"int8.onnx: expected an ONNX with Q/DQ nodes, found none in it"):
        draft(card, precision="int8")


@pytest.mark.parametrize("wanted", ["fp32", "fp16"])
@pytest.mark.parametrize(
    "cut",
    [
        lambda good: b"",
        lambda good: b"no ONNX at all",
        lambda good: b"\x00\xff" * 500,
        lambda good: good[: len(good) // 2],
        lambda good: good[:-100],
    ],
)
def test_what_is_no_onnx(rtx: ModuleType, tmp_path: Path, cut: Callable[[bytes], bytes], wanted: str) -> None:
    card = find_card("edgeface-detector")
    (tmp_path / card.onnx).write_bytes(cut(onnx_path(card).read_bytes()))
    card = msgspec.structs.replace(card, sha256="", folders=(str(tmp_path),))
    with pytest.raises(EngineError) as caught:
        draft(card, precision=wanted)
    assert "edgeface-detector" in str(caught.value)
    reasons = ("expected one float32 input [n, c, h, w], found none", "cannot parse it", "cannot be converted to FP16")
    assert any(reason in str(caught.value) for reason in reasons)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [card.onnx]


def test_damaged_weights_are_refused_before_anything_else(rtx: ModuleType, tmp_path: Path) -> None:
    card = msgspec.structs.replace(find_card("edgeface-detector"), folders=(str(tmp_path),))
    (tmp_path / card.onnx).write_bytes(b"damaged")
    with pytest.raises(EngineError, match=f"expected sha256 {card.sha256[:16]}"):
        draft(card)


def test_an_operator_that_nobody_knows(rtx: ModuleType, tmp_path: Path, make_card: Callable[..., Path]) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])
    graph = helper.make_graph([helper.make_node("Riddle", ["x"], ["y"])], "g", [value], [])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(tmp_path / "net.onnx"))
    with pytest.raises(EngineError, match=r"net.onnx: TensorRT cannot parse it: .*Plugin not found"):
        draft(load_card(make_card()))


@pytest.mark.parametrize(
    ("shape", "changes", "reason"),
    [
        ([1, 1, 64, 64], {}, r"expected an input of \[3, 64, 64\] \(channels, height, width\), found \[1, 64, 64\]"),
        ([1, 3, 64, 64], {"size": (96, 64)}, r"expected an input of \[3, 64, 96\] .* found \[3, 64, 64\]"),
        ([1, 3, 64], {}, r"expected one float32 input \[n, c, h, w\], found input \[1, 3, 64\] float32"),
        ([2, 3, 64, 64], {"batch": 4}, "expected a free batch or one of 4, found a fixed one of 2"),
    ],
)
def test_an_input_that_the_card_does_not_describe(
    rtx: ModuleType,
    make_onnx: MakeOnnx,
    make_card: Callable[..., Path],
    shape: list[int | str],
    changes: dict[str, Any],
    reason: str,
) -> None:
    make_onnx(scrfd_outputs(), shape)
    with pytest.raises(EngineError, match=reason):
        draft(load_card(make_card()), **changes)


def test_a_fixed_batch_stays(rtx: ModuleType, make_onnx: MakeOnnx, make_card: Callable[..., Path]) -> None:
    make_onnx({name: np.repeat(value, 2, axis=0) for name, value in scrfd_outputs().items()}, [2, 3, 64, 64])
    for batch in (None, 2):
        network = draft(load_card(make_card()), batch=batch).network
        assert (network.batch, network.input.shape) == ((2, 2, 2), (2, 3, 64, 64))


def test_two_inputs(rtx: ModuleType, tmp_path: Path, make_card: Callable[..., Path]) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 64, 64]) for name in "abc"]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "g", values[:2], values[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(tmp_path / "net.onnx"))
    with pytest.raises(EngineError, match=r"found a \[1, 3, 64, 64\] float32, b \[1, 3, 64, 64\] float32"):
        draft(load_card(make_card()))


def test_outputs_that_the_decoder_cannot_read(
    rtx: ModuleType, make_onnx: MakeOnnx, make_card: Callable[..., Path]
) -> None:
    make_onnx(scrfd_outputs(keypoints=False))
    with pytest.raises(EngineError, match="expected"):
        draft(load_card(make_card()))
    assert draft(load_card(make_card('type = "scrfd"\nkeypoints = false'))).network.batch == (1, 1, 1)
    make_onnx({"number": np.ones((), np.float32)})
    with pytest.raises(EngineError, match="expected outputs with rows for each crop, found a single number"):
        draft(load_card(make_card()))


def test_a_size_that_the_network_cannot_take(card_of: Callable[[str], Card]) -> None:
    with pytest.raises(EngineError, match="expected a network for an input of 300x300, found it takes none"):
        draft(card_of("edgeface-detector"), (300, 300))


def test_what_tensorrt_cannot_build_says_why(card_of: Callable[[str], Card], rtx: ModuleType) -> None:
    card = card_of("edgeface-landmarks")
    network = draft(card, batch=4).network
    broken = trt.Network(network.input, (), (8, 4, 2), network.definition, network.builder, network.parser)
    with pytest.raises(EngineError, match="edgeface-landmarks: TensorRT cannot build it: .*profile"):
        trt.build(rtx, broken, order(card), None, Progress())


# --- the machine


def test_dla_is_asked_for_in_vain(card_of: Callable[[str], Card], monkeypatch: pytest.MonkeyPatch) -> None:
    card = card_of("edgeface-landmarks")
    with pytest.raises(ConfigError, match="DLA computes in fp16 and int8, not in fp32"):
        draft(card, dla_core=0)
    with pytest.raises(EngineError, match="expected DLA core 0, found 0 cores on this machine"):
        draft(card, dla_core=0, precision="fp16")
    monkeypatch.setattr(trt, "is_strongly_typed", lambda _: False)
    with pytest.raises(EngineError, match="takes no ONNX with Q/DQ nodes for DLA: use fp16"):
        draft(card, dla_core=0, precision="int8")


def test_dla_takes_no_free_batch(
    card_of: Callable[[str], Card], rtx: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtx.Builder, "num_DLA_cores", 2)
    card = card_of("edgeface-landmarks")
    one = draft(card, dla_core=1, precision="fp16")
    assert (one.network.batch, one.network.input.shape[0]) == ((1, 1, 1), 1)
    assert one.path.name == "edgeface-landmarks-80x80-fp16-dla.rtx.engine"
    assert draft(card, dla_core=1, precision="fp16", batch=4).network.batch == (4, 4, 4)
    with pytest.raises(EngineError, match="expected DLA core 2, found 2 cores"):
        draft(card, dla_core=2, precision="fp16")


def test_without_tensorrt_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", None)
    with pytest.raises(ConfigError, match="apt-get install python3-libnvinfer.*--system-site-packages"):
        trt.load_trt("tensorrt")
    with pytest.raises(ConfigError, match="pip install tensorrt-rtx-cu13-bindings"):
        trt.load_trt(RTX)
    with pytest.raises(ConfigError, match="runtime: expected tensorrt or tensorrt-rtx, found 'tensorflow'"):
        trt.load_trt("tensorflow")


def test_without_the_converter_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxconverter_common", None)
    with pytest.raises(ConfigError, match=r"onnxconverter_common.* is missing: pip install 'edgeface\[build\]'"):
        precision.form(tmp_path / "net.onnx", "fp16", strongly_typed=True, folder=tmp_path, engines=tmp_path)


DRIVER = """
int cuInit(unsigned flags) { return %s; }
int cuDeviceGet(int *device, int ordinal) { *device = 5 + ordinal; return 0; }
int cuDeviceGetName(char *name, int size, int device) { name[0] = 'O' + device - 5; name[1] = 0; return size < 2; }
int cuDeviceGetAttribute(int *value, int which, int device)
{ *value = which == 75 ? 8 : which == 76 ? 7 : 0; return device != 5; }
"""


def driver(folder: Path, code: int) -> str:
    """A library with the four functions of the driver that are called."""
    (folder / "driver.c").write_text(DRIVER % code)
    path = folder / f"driver{code}.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(path), str(folder / "driver.c")], check=True)
    return str(path)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_gpu_is_what_its_driver_says(tmp_path: Path) -> None:
    assert current_device(driver(tmp_path, 0)) == ("8.7", "O")
    with pytest.raises(DeviceError, match="found none that answers: cuInit gave CUDA error 100"):
        current_device(driver(tmp_path, 100))
    with pytest.raises(DeviceError, match="found no driver for one: /no/driver.so"):
        current_device("/no/driver.so")


def test_the_machine_and_its_release(tmp_path: Path) -> None:
    release = tmp_path / "nv_tegra_release"
    assert machine(release) == platform.machine()
    release.write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\nTARGET\n")
    assert machine(release) == f"{platform.machine()}, R36 (release), REVISION: 4.3"
    release.write_text("")
    assert machine(release) == platform.machine()


def test_engines_go_into_the_first_folder_given_else_beside_the_card(
    tmp_path: Path, make_card: Callable[..., Path]
) -> None:
    card = load_card(make_card())
    other = tmp_path / "other"
    other.mkdir()
    assert target_folder(card, ()) == tmp_path
    assert target_folder(card, (str(other), str(tmp_path))) == other
    with pytest.raises(ConfigError, match=r"/proc: networks cannot be written there \(.*--engines DIR"):
        target_folder(card, ("/proc",))


# --- the verb


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the builder is told by the command line."""
    parsed: list[Any] = []
    monkeypatch.setattr(cli, "_build", lambda arguments: parsed.append(arguments) or 0)
    return parsed


@pytest.mark.parametrize("options", [{}, {"input_size": (640, 384), "dla_core": 1, "batch": 4, "engines": ["/my e"]}])
def test_the_command_in_an_error_is_one(ordered: list[Any], options: dict[str, Any]) -> None:
    program, *arguments = shlex.split(build_command("net", "int8", **options))
    assert program == "edgeface"
    assert cli.main(arguments) == 0
    (parsed,) = ordered
    assert (parsed.card, parsed.precision) == ("net", "int8")
    assert parsed.input_size == ([options["input_size"]] if options else None)
    assert (parsed.dla, parsed.batch) == (options.get("dla_core"), options.get("batch"))
    assert parsed.engines == options.get("engines")


@pytest.mark.parametrize("size", ["640", "0x640", "640x", "axb", "640x640x3", "-1x5"])
def test_sizes_that_are_none(size: str) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["build", "net", f"--input-size={size}"])
    assert caught.value.code == 2


def run(*arguments: str) -> int:
    return cli.main(["build", "edgeface-detector", "--runtime", RTX, "--check", "none", *arguments])


def test_the_default_network_is_built_for_both_looks(
    rtx: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ["--engines", str(tmp_path)]
    assert run("--dry-run", *folder) == 0
    out = capsys.readouterr().out
    for part in (
        f"{tmp_path}/edgeface-detector-640x640-fp16.rtx.engine, with its passport ",
        "edgeface-detector-640x640-fp16.rtx.json"
        "\n  input: input [1, 1, 640, 640] float32\n  output: score_8 [1, 6400, 1] float32\n",
        "edgeface-detector-128x128-fp16.rtx.engine",
        "  batch: 1, fixed\n",
    ):
        assert part in out
    assert not list(tmp_path.iterdir())
    assert run(*folder) == 0
    assert capsys.readouterr().out == out
    stems = ["edgeface-detector-128x128-fp16.rtx", "edgeface-detector-640x640-fp16.rtx"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{stem}.{suffix}" for stem in stems for suffix in ("engine", "json")
    ]
    assert run(*folder, "--precision", "fp32", "--input-size", "320x320", "--input-size", "64x96") == 0
    passports = [read_passport(path) for path in sorted(tmp_path.glob("*-fp32.rtx.json"))]
    assert [passport.input_size for passport in passports] == [(320, 320), (64, 96)]
    assert all(isinstance(passport, Passport) and passport.workspace_mb == 1024 for passport in passports)


def test_on_a_device_engines_are_for_it_and_share_what_was_measured(
    rtx: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT-RTX in the place of TensorRT; a driver and a timing cache are made up for it."""
    told: list[bytes] = []
    monkeypatch.setattr(trt, "load_trt", lambda runtime: {"tensorrt": rtx}[runtime])
    monkeypatch.setattr(engine, "current_device", lambda: Device("8.7", "Orin"))
    workspaces: list[int] = []
    monkeypatch.setattr(engine, "check_memory", workspaces.append)
    monkeypatch.setattr(rtx.IBuilderConfig, "set_timing_cache", lambda *_: True)
    monkeypatch.setattr(rtx.IBuilderConfig, "create_timing_cache", lambda config, before: told.append(before) or [])
    after = SimpleNamespace(serialize=lambda: b"measured %d" % len(told))
    monkeypatch.setattr(rtx.IBuilderConfig, "get_timing_cache", lambda config: after)
    assert cli.main(["build", "edgeface-detector", "--engines", str(tmp_path), "--check", "none"]) == 0
    assert cli.main(["build", "edgeface-landmarks", "--engines", str(tmp_path), "--check", "none"]) == 0  # another day
    assert told == [b"", b"measured 1", b"measured 2"]
    assert workspaces == [1024] * 3
    names = ["edgeface-detector-128x128-fp16.json", "edgeface-detector-640x640-fp16.json"]
    passports = [read_passport(tmp_path / name) for name in names]
    assert [(one.compute_capability, one.device) for one in passports] == [("8.7", "Orin")] * 2
    assert all((tmp_path / name).with_suffix(".engine").is_file() for name in names)


def test_what_cannot_be_built_is_one_line_and_an_exit_code(
    rtx: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, code in (
        (["--engines", "/proc"], 78),
        (["--engines", str(tmp_path), "--runtime", "tensorflow"], 78),
        (["--engines", str(tmp_path), "--dla", "0"], 70),
    ):
        assert run(*arguments) == code
        assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())

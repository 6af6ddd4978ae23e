"""`edgeface models`: what is listed, told, checked and pulled."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from fakes import passport
from web import Server, file, serving

from edgeface.cli import main
from edgeface.model_card import load_card
from edgeface.models.engines import built_engines
from edgeface.models.progress import shown
from edgeface.passport import passport_path, write_engine

WEIGHTS = b"weights" * 30_000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
PLAN = b"ftrt" + bytes(20) + bytes((10, 3, 0, 30)) + b"layers and weights"
ENGINE = "net-64x64-fp16.engine"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(file(WEIGHTS)) as one:
        yield one


MakeNet = Callable[..., Path]


@pytest.fixture
def make_net(make_card: Callable[..., Path]) -> MakeNet:
    """Write a card with these lines more, and weights beside it."""

    def make(*lines: str, weights: bytes | None = WEIGHTS, sha256: str = SHA256, name: str = "net") -> Path:
        path = make_card(name=name, onnx=f"{name}.onnx")
        path.write_text("\n".join([f'sha256 = "{sha256}"', *lines, path.read_text()]))
        if weights is not None:
            path.with_name(f"{name}.onnx").write_bytes(weights)
        return path

    return make


def put_engine(folder: Path, name: str = ENGINE, plan: bytes = PLAN, **changes: object) -> Path:
    says = {"onnx_sha256": SHA256, "built_from_sha256": SHA256} | changes
    write_engine(folder / name, plan, passport(plan, **says))
    return folder / name


Run = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `edgeface models ...` on the folder: exit code, lines of stdout and of stderr."""

    def run(*arguments: str) -> tuple[int, list[str], list[str]]:
        code = main(["models", *arguments, "--engines", str(tmp_path)])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run


def row(lines: list[str], name: str) -> list[str]:
    (line,) = [line for line in lines if line.split()[0] == name]
    return re.split(r"\s{2,}", line)


def test_the_list_has_every_card(models: Run, make_net: MakeNet) -> None:
    make_net("commercial = true")
    make_net("commercial = false", weights=b"damaged", name="bad")
    make_net(weights=None, name="gone")
    code, lines, _ = models("list")
    assert code == 0
    assert {path.stem for path in (ROOT / "engines").glob("*.toml")} < {line.split()[0] for line in lines}
    assert row(lines, "net") == ["net", "detect", "here", "0.2 MB", "yes", "Apache-2.0"]
    assert row(lines, "bad") == ["bad", "detect", "damaged", "0.0 MB", "no", "Apache-2.0"]
    assert row(lines, "gone") == ["gone", "detect", "missing", "-", "unknown", "Apache-2.0"]
    assert row(lines, "tao-facedetect")[4] == "see its terms"


def test_the_list_as_json(models: Run, make_net: MakeNet, tmp_path: Path) -> None:
    make_net('url = "https://a/net.onnx"')
    (tmp_path / "broken.toml").write_text("name = 1")
    code, lines, _ = models("list", "--json")
    rows = {one["name"]: one for one in json.loads("\n".join(lines))}
    assert code == 0
    assert rows["net"] == {
        "name": "net",
        "state": "here",
        "problem": "",
        "onnx": str(tmp_path / "net.onnx"),
        "bytes": len(WEIGHTS),
        "task": "detect",
        "licence": "Apache-2.0",
        "commercial": "unknown",
        "allows": "any use",
        "source": "made by a test",
        "url": "https://a/net.onnx",
        "sha256": SHA256,
    }
    assert rows["edgeface-detector"]["commercial"] is True
    assert (rows["broken"]["state"], rows["broken"]["onnx"], rows["broken"]["bytes"]) == ("damaged", "", 0)
    assert "not a model card" in rows["broken"]["problem"]


def test_a_card_that_cannot_be_read_hides_no_other(models: Run, make_net: MakeNet, tmp_path: Path) -> None:
    make_net()
    (tmp_path / "broken.toml").write_text("name = 1")
    code, lines, _ = models("list")
    assert (code, row(lines, "net")[2], row(lines, "broken")[2]) == (0, "here", "damaged")
    assert "broken.toml: not a model card" in row(lines, "broken")[-1]
    code, lines, _ = models("verify")
    assert code == 70
    assert [line for line in lines if line.startswith("BAD")] == [f"BAD  {row(models('list')[1], 'broken')[-1]}"]
    code, lines, err = models("info", "broken")
    assert (code, lines) == (70, [])
    assert "not a model card" in err[0]


def test_a_folder_that_is_not_there(models: Run) -> None:
    for verb in (["list"], ["verify"], ["info", "net"], ["pull", "net"]):
        code, _, err = models(*verb, "--engines", "/no/such/folder")
        assert code == 78
        assert "/no/such/folder: the engines folder does not exist" in err[0]


def test_all_that_is_known_of_a_network(models: Run, make_net: MakeNet, tmp_path: Path) -> None:
    make_net('commercial = "terms"', 'url = "https://a/net.onnx"', "near_look = 32")
    put_engine(tmp_path)
    put_engine(tmp_path, "net-128x96-int8-dla.engine", device="", compute_capability="")
    passport_path(put_engine(tmp_path, "net-1x1-fp32.engine")).unlink()
    put_engine(tmp_path, "net-kps-64x64-fp16.engine")  # another network's
    put_engine(tmp_path, "net-64x64-fp16.rtx.engine")  # for checks only
    code, lines, _ = models("info", "net")
    told = [tuple(re.split(r"\s{2,}", line, maxsplit=1)) for line in lines]
    says = passport(PLAN)
    assert code == 0
    for line in [
        ("name", "net"),
        ("task", "detect"),
        ("near_look", "32"),
        ("card in", str(tmp_path)),
        ("onnx", f"here: {tmp_path / 'net.onnx'}, {len(WEIGHTS)} bytes"),
        ("sha256", SHA256),
        ("licence", "Apache-2.0"),
        ("allows", "any use"),
        ("commercial", "see its terms"),
        ("source", "made by a test"),
        ("download", "https://a/net.onnx"),
    ]:
        assert line in told
    (decoder,) = [value for key, value in told if key == "decoder"]
    assert decoder.startswith('type "scrfd", strides [8, 16, 32], anchors 2, keypoints true')
    (network_input,) = [value for key, value in told if key == "input"]
    assert network_input.startswith('width 64, height 64, colour "rgb", mean [0.0], scale 1.0, resize "letterbox"')
    assert [value for key, value in told if key == "engine"] == [
        f"{tmp_path}/net-128x96-int8-dla.engine: fp16, TensorRT {says.tensorrt}, for no device, built {says.date}",
        f"{tmp_path}/net-1x1-fp32.json: the engine's passport is missing",
        f"{tmp_path}/{ENGINE}: fp16, TensorRT {says.tensorrt}, for {says.device} ({says.compute_capability}), "
        f"built {says.date}",
    ]


def test_what_is_known_of_a_network_that_is_not_here(models: Run, make_net: MakeNet, tmp_path: Path) -> None:
    make_net(weights=None, sha256="")
    told = "\n".join(models("info", "net")[1])
    assert f"missing: net.onnx is not in {tmp_path}" in told
    for key, value in [("sha256", "not known"), ("near_look", "none"), ("engine", "none built")]:
        assert re.search(f"^{key} +{value}$", told, re.M)
    assert re.search("^download +by hand, from its source$", told, re.M)
    make_net(weights=b"damaged")
    assert f"damaged: {tmp_path}/net.onnx: expected sha256" in "\n".join(models("info", "net")[1])


def test_of_two_engines_of_one_name_the_daemons(make_net: MakeNet, tmp_path: Path) -> None:
    path = make_net()
    (tmp_path / "more").mkdir()
    put_engine(tmp_path / "more")
    put_engine(tmp_path / "more", "net-32x32-fp32.engine")
    put_engine(tmp_path)
    card = load_card(path)
    card = type(card)(
        **{name: getattr(card, name) for name in card.__struct_fields__}
        | {"folders": (str(tmp_path), str(tmp_path / "more"), str(tmp_path))}
    )
    assert [engine.path for engine in built_engines(card)] == [
        tmp_path / ENGINE,
        tmp_path / "more" / "net-32x32-fp32.engine",
    ]


def test_everything_is_good(models: Run, make_net: MakeNet, tmp_path: Path) -> None:
    make_net()
    make_net(name="unknown", sha256="")
    make_net(name="gone", weights=None)
    put_engine(tmp_path)
    code, lines, err = models("verify")
    assert (code, err) == (0, [])
    assert f"good {tmp_path}/net.onnx" in lines
    assert f"good {tmp_path}/{ENGINE}" in lines
    assert f"good {tmp_path}/unknown.onnx: not checked, its card has no sha256" in lines
    assert not [line for line in lines if "gone" in line]
    assert models("verify", "net") == (0, [f"good {tmp_path}/net.onnx", f"good {tmp_path}/{ENGINE}"], [])


def test_damaged_weights(models: Run, make_net: MakeNet, tmp_path: Path) -> None:
    make_net(weights=b"damaged")
    for arguments in (["verify"], ["verify", "net"]):
        code, lines, _ = models(*arguments)
        assert code == 70
        (bad,) = [line for line in lines if line.startswith("BAD")]
        assert f"{tmp_path}/net.onnx: expected sha256 {SHA256[:16]}..." in bad


@pytest.mark.parametrize(
    ("plan", "changes", "complaint"),
    [
        (PLAN + b"more", {}, "bytes as its passport says"),
        (PLAN[:-1] + b"x", {}, "damaged, or its passport is another's"),
        (PLAN, {"onnx_sha256": "0" * 64}, "the network has changed"),
        (PLAN, {"precision": "fp32"}, "expected precision fp16, found fp32"),
        (PLAN, {"plan_version": (8, 6, 1, 6)}, "its passport says TensorRT"),
        (PLAN, {"tensorrt": "8.6.1"}, "expected an engine of TensorRT 8.6.1"),
        (b"", {}, "found an empty file"),
        (b"vtrt" + PLAN[4:], {}, "TensorRT-RTX"),
    ],
)
def test_an_engine_that_the_daemon_would_refuse(
    models: Run, make_net: MakeNet, tmp_path: Path, plan: bytes, changes: dict[str, object], complaint: str
) -> None:
    make_net()
    put_engine(tmp_path, **changes).write_bytes(plan)
    code, lines, _ = models("verify", "net")
    assert code == 70
    assert lines[0] == f"good {tmp_path}/net.onnx"
    assert lines[1].startswith(f"BAD  {tmp_path}/{ENGINE}: ")
    assert complaint in lines[1]
    assert "build it: edgeface build net --precision fp16" in lines[1]


def test_an_engine_runs_without_its_weights(models: Run, make_net: MakeNet, tmp_path: Path) -> None:
    make_net(weights=None)
    put_engine(tmp_path)
    assert models("verify", "net") == (0, [f"good {tmp_path}/{ENGINE}"], [])


def test_a_network_of_which_nothing_is_here(models: Run, make_net: MakeNet) -> None:
    make_net(weights=None)
    code, lines, err = models("verify", "net")
    assert (code, lines) == (70, [])
    assert err == ["edgeface: net: neither its weights nor an engine of it are here: edgeface models pull net"]


def test_a_network_is_pulled(models: Run, make_net: MakeNet, server: Server, tmp_path: Path) -> None:
    make_net(f'url = "{server.url}/net.onnx"', "commercial = true", weights=None)
    code, out, err = models("pull", "net", "--profile", "commercial")
    assert (code, out) == (0, [f"{tmp_path}/net.onnx: good; licence: Apache-2.0; any use"])
    assert err[0] == "net.onnx: 0.0 of 0.2 MB, 0 %"
    assert err[-1].startswith("net.onnx: 0.2 of 0.2 MB, 100 %")
    assert (tmp_path / "net.onnx").read_bytes() == WEIGHTS
    assert models("pull", "net")[:2] == (
        0,
        [f"{tmp_path}/net.onnx: here already, and good; licence: Apache-2.0; any use"],
    )
    assert models("verify", "net")[0] == 0


def test_a_network_that_is_not_pulled(models: Run, make_net: MakeNet, server: Server) -> None:
    make_net(f'url = "{server.url}/net.onnx"', "commercial = false", weights=None, sha256="")
    code, out, err = models("pull", "net", "--profile", "commercial")
    assert (code, out, len(err)) == (78, [], 1)
    assert "refused under --profile commercial" in err[0]
    assert models("pull", "net")[0] == 78  # nothing to check it by
    assert models("pull", "net", "--sha256", "0" * 64)[0] == 70
    assert models("pull", "net", "--sha256", SHA256.upper())[0] == 0


@pytest.mark.parametrize("text", ["", "0" * 63, "g" * 64, "0" * 65])
def test_a_checksum_that_is_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["models", "pull", "net", "--sha256", text])
    assert "expected the 64 hexadecimal digits of a SHA-256" in capsys.readouterr().err


def test_the_networks_whose_licence_forbids_it_are_refused_by_name(models: Run) -> None:
    for path in sorted((ROOT / "engines").glob("scrfd-*.toml")):
        code, _, err = models("pull", path.stem, "--profile", "commercial")
        assert code == 78
        assert "Non-commercial research only" in err[0]
    code, _, err = models("pull", "tao-facedetect", "--profile", "commercial")
    assert code == 78
    assert "no address to download it from; get it from https://catalog.ngc.nvidia.com" in err[0]


def test_ctrl_c_is_no_success(make_net: MakeNet, server: Server, tmp_path: Path) -> None:
    make_net(f'url = "{server.url}/net.onnx"', weights=None)
    started = (
        "import _thread, signal, sys; from edgeface.cli import main; from edgeface.models import pull\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # also where the tests run in the background
        "whole = pull.download\n"
    )
    stopped = "def half(*a, **k): whole(*a, **k); _thread.interrupt_main(); import time; time.sleep(5)\n"
    program = started + stopped + "pull.download = half; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "models", "pull", "net", "--engines", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "net: stopped; the same command goes on with what has come" in done.stderr
    assert not (tmp_path / "net.onnx").exists()
    assert (tmp_path / ".net.onnx.partial").read_bytes() == WEIGHTS


def test_a_terminal_has_one_line() -> None:
    ours, theirs = pty.openpty()
    times = iter([0.0, 0.1, 0.5, 0.6])
    with os.fdopen(theirs, "w") as stream, shown("net.onnx", stream, lambda: next(times)) as show:
        show(0, 10_000_000)
        show(1_000_000, 10_000_000)  # too soon
        show(5_000_000, 10_000_000)
        show(10_000_000, 10_000_000)
    text = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while part := os.read(ours, 10_000):
            text += part
    os.close(ours)
    assert [part.strip() for part in text.decode().split("\r")] == [
        "",
        "net.onnx: 0.0 of 10.0 MB, 0 %",
        "net.onnx: 5.0 of 10.0 MB, 50 %, 10.0 MB/s",
        "net.onnx: 10.0 of 10.0 MB, 100 %, 50.0 MB/s",
        "",
    ]


def test_elsewhere_it_is_a_line_every_ten_seconds() -> None:
    times, stream = iter([0.0, 9.0, 10.0, 10.0]), io.StringIO()
    with shown("net.onnx", stream, lambda: next(times)) as show:
        for received in (0, 1_000_000, 2_000_000, 3_000_000):
            show(received, None)
    assert stream.getvalue().splitlines() == ["net.onnx: 0.0 MB", "net.onnx: 2.0 MB, 0.2 MB/s"]


def test_nothing_came_so_nothing_is_shown() -> None:
    stream = io.StringIO()
    with shown("net.onnx", stream):
        pass
    assert stream.getvalue() == ""

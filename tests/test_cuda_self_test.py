"""The self-test on the software GPU: at start, with what it falls back to, and in mid-run."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import ROOT
from fakes import FakePublisher
from gpu_kit import write_soft_engine
from msgspec.structs import replace
from onnx import helper, numpy_helper

from edgeface import self_test
from edgeface.build.golden import expected_answer
from edgeface.config import Config, load_config
from edgeface.daemon import Health, Stop, loop
from edgeface.errors import EngineError
from edgeface.model_card import Card, find_card, onnx_path
from edgeface.parts import build
from edgeface.passport import Golden

DETECTOR, LANDMARKS = find_card("edgeface-detector"), find_card("edgeface-landmarks")
SIZES = {"edgeface-detector": (320, 192), "edgeface-landmarks": (80, 80)}
NAN = float("nan")
RUN = [sys.executable, "-c", "import sys; from edgeface.cli import main; sys.exit(main())", "run"]
Change = Callable[[onnx.ModelProto], None]


@functools.cache
def answer(name: str, precision: Any) -> Golden | None:
    return expected_answer(find_card(name), SIZES[name], precision)


def write_engine(
    folder: Path, card: Card, precision: str = "fp16", change: Change | None = None, **options: Any
) -> Path:
    """An engine of the card as it is built, with its golden answer; `change`: of a network that is not the card's."""
    size, source = SIZES[card.name], onnx_path(card)
    golden = options.pop("golden", ...)
    if golden is ...:
        golden = answer(card.name, precision)
    says = {"golden": golden, "onnx_sha256": card.sha256}
    if change is not None:
        network = onnx.load(str(source))
        change(network)
        onnx.save(network, str(folder / card.onnx))
        card = replace(card, folders=(str(folder),), sha256="")
    path = write_soft_engine(folder, card, size, precision=precision, passport=says, **options)
    (folder / card.onnx).unlink(missing_ok=True)
    return path


def outputs_through(operator: str, number: float, only: str = "") -> Change:
    """Every output whose name has `only` in it goes through one more operator, with a number."""

    def change(network: onnx.ModelProto) -> None:
        network.graph.initializer.append(numpy_helper.from_array(np.float32(number), "number"))
        for output in network.graph.output:
            if only in output.name:
                for node in network.graph.node:
                    node.output[:] = [f"{name}_" if name == output.name else name for name in node.output]
                    node.input[:] = [f"{name}_" if name == output.name else name for name in node.input]
                network.graph.node.append(helper.make_node(operator, [f"{output.name}_", "number"], [output.name]))

    return change


def scaled(number: float) -> Change:
    return outputs_through("Mul", number)


def other_weights(network: onnx.ModelProto) -> None:
    rng = np.random.default_rng(1)
    for tensor in network.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim == 4:
            tensor.CopyFrom(numpy_helper.from_array(rng.permutation(values.ravel()).reshape(values.shape), tensor.name))


NONSENSE = (other_weights, scaled(0.0), scaled(1.3), scaled(NAN))


def config(folder: Path, **cuda: Any) -> Config:
    settings: dict[str, Any] = {
        "backend": "cuda",
        "source": "demo:?pace=0&loop=1",
        "engines": [str(folder)],
        "detector": {"scales": [320], "input_size": list(SIZES["edgeface-detector"])},
        "cuda": cuda,
    }
    return load_config(None, settings)


# --- at start


@pytest.mark.parametrize("half_io", [False, True])
@pytest.mark.parametrize("integrated", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_right_engines_pass(gpu: Any, tmp_path: Path, precision: str, integrated: bool, half_io: bool) -> None:
    gpu.integrated = integrated
    for card in (DETECTOR, LANDMARKS):
        write_engine(tmp_path, card, precision, half_io=half_io)
    with build(config(tmp_path, precision=precision)) as parts:
        assert parts.networks is not None
        checks = parts.networks.backend.checks
        assert [check() if check else None for check in checks] == ["", ""]
        assert parts.facts["precision"] == precision
        assert "fallback" not in parts.facts
        assert parts.networks.self_test is None  # not asked for while it runs


@pytest.mark.parametrize(
    ("card", "change"),
    [
        *((DETECTOR, change) for change in NONSENSE),
        *((LANDMARKS, change) for change in NONSENSE),
        (DETECTOR, outputs_through("Add", 9.0, "bbox")),
        (DETECTOR, outputs_through("Add", 30.0, "kps")),
        (DETECTOR, outputs_through("Mul", 0.6, "score")),
        (LANDMARKS, outputs_through("Add", 9.0, "softargmax")),
    ],
)
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_an_engine_that_computes_something_else_is_refused(
    gpu: Any, tmp_path: Path, card: Card, change: Change, precision: str
) -> None:
    write_engine(tmp_path, LANDMARKS if card is DETECTOR else DETECTOR, precision)
    path = write_engine(tmp_path, card, precision, change)
    with pytest.raises(EngineError) as found:
        build(config(tmp_path, precision=precision))
    text = str(found.value)
    assert text.startswith(f"{path}: expected ")
    assert ", found " in text
    assert f"build it anew: edgeface build {card.name} --precision {precision}" in text
    assert "\n" not in text
    assert found.value.exit_code == 70
    assert gpu.alive == []
    assert not gpu.contexts


def test_an_engine_without_an_answer_is_loaded_and_it_is_said(
    gpu: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write_engine(tmp_path, DETECTOR, golden=None)
    write_engine(tmp_path, LANDMARKS)
    with build(config(tmp_path, self_test_minutes=1)) as parts:
        assert parts.networks is not None
        first, second = parts.networks.backend.checks
        assert first is None
        assert second is not None
        assert parts.networks.self_test is not None
    assert caplog.text.count("no self-test, its passport has no answer") == 1
    assert "edgeface-detector: no self-test" in caplog.text


# --- precisions in order of preference


def fallback(parts: Any) -> tuple[str, str | None]:
    return parts.facts["precision"], parts.facts.get("fallback")


BROKEN = scaled(0.0)


@pytest.mark.parametrize("what", ["wrong", "missing", "damaged", "refused", "foreign"])
def test_the_next_precision_that_is_there_and_right_is_taken(
    gpu: Any, tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    for card in (DETECTOR, LANDMARKS):
        write_engine(tmp_path, card, "fp16")
    write_engine(tmp_path, LANDMARKS, "int8")
    if what == "wrong":
        path = write_engine(tmp_path, DETECTOR, "int8", BROKEN)
        said = "found none there, 0 elsewhere"
    elif what == "missing":
        said = "found no such file"
    elif what == "damaged":
        path = write_engine(tmp_path, DETECTOR, "int8")
        path.write_bytes(path.read_bytes()[:-1])
        said = "bytes as its passport says"
    elif what == "refused":
        gpu.fail("deserialize_cuda_engine", error="CUDA_ERROR_INVALID_VALUE")
        write_engine(tmp_path, DETECTOR, "int8")
        said = "TensorRT cannot load it"
    else:
        write_engine(tmp_path, DETECTOR, "int8", compute_capability=(8, 6))
        said = "found one for 8.6"
    with build(config(tmp_path, precision=["int8", "fp16"])) as parts:
        assert fallback(parts) == ("fp16", "edgeface-detector 320x192 fp16 instead of int8")
        assert parts.networks is not None
        assert [engine.precision for engine in parts.networks.backend.engines] == ["fp16", "int8"]
        messages = [message for message in caplog.messages if "fp16 instead of int8" in message]
        assert len(messages) == 1
        assert said in messages[0]
        assert "edgeface build edgeface-detector --precision int8" in messages[0]
        _, body = parts.pipeline.step(parts.source.read(10))[0]
        assert len(body["faces"]) >= 2


def test_nothing_is_said_of_a_precision_that_was_not_needed(
    gpu: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for card in (DETECTOR, LANDMARKS):
        write_engine(tmp_path, card, "fp16")
    with build(config(tmp_path, precision=["fp16", "int8", "fp16"])) as parts:
        assert fallback(parts) == ("fp16", None)
    assert "instead" not in caplog.text


def test_when_none_is_left_all_reasons_are_given(gpu: Any, tmp_path: Path) -> None:
    write_engine(tmp_path, LANDMARKS, "int8")
    write_engine(tmp_path, DETECTOR, "int8", BROKEN)
    write_engine(tmp_path, DETECTOR, "fp16", scaled(NAN))
    with pytest.raises(EngineError) as found:
        build(config(tmp_path, precision=["int8", "fp16", "fp32"]))
    assert gpu.alive == []
    parts = str(found.value).split("; ")
    assert [sum(name in part for part in parts) for name in ("-int8.engine", "-fp16.engine", "-fp32.engine")] == [
        1,
        1,
        1,
    ]
    assert str(found.value).count("edgeface build edgeface-detector") == 3
    assert found.value.exit_code == 70


def test_a_process_ends_with_one_line_and_exit_code_70(gpu: Any, tmp_path: Path) -> None:
    write_engine(tmp_path, LANDMARKS)
    path = write_engine(tmp_path, DETECTOR, change=BROKEN)
    settings = tmp_path / "edgeface.toml"
    settings.write_text(
        f'backend = "cuda"\nengines = ["{tmp_path}"]\n[detector]\nscales = [320]\ninput_size = [320, 192]\n'
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'fake_gpu'}", "FAKE_GPU": json.dumps({})}
    done = subprocess.run([*RUN, str(settings)], env=environment, capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("edgeface: ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"edgeface: {path}: expected a face of score 0.9")
    assert "found none there, 0 elsewhere; build it anew: edgeface build edgeface-detector" in lines[0]
    assert done.returncode == 70


# --- in mid-run


@pytest.fixture
def sick(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A GPU that gives zeros for networks with an output of the name in "network"; "runs" counts."""
    from soft.networks import Network

    state: dict[str, Any] = {"network": None, "runs": 0}
    run = Network.run

    def run_sick(network: Any, inputs: Any) -> Any:
        state["runs"] += 1
        outputs = run(network, inputs)
        if state["network"] in outputs:
            return {name: np.zeros_like(values) for name, values in outputs.items()}
        return outputs

    monkeypatch.setattr(Network, "run", run_sick)
    monkeypatch.setattr(self_test, "_RETRY_NS", 0)
    yield state


def watched(parts: Any, at: Callable[[int], None], frames: int) -> FakePublisher:
    """The daemon's loop, with something done before each frame."""

    class Watched(FakePublisher):
        def serve(self) -> None:
            at(len(self.bodies("faces")))

    publisher = Watched()
    health = Health(publisher, parts.source, parts.pipeline, parts.facts, camera_timeout_s=3.0)
    loop(parts.source, parts.pipeline, publisher, health, Stop(), max_frames=frames)
    return publisher


@pytest.mark.parametrize("which", ["detector", "landmarks"])
def test_an_engine_that_goes_wrong_and_comes_back(gpu: Any, tmp_path: Path, sick: dict[str, Any], which: str) -> None:
    for card in (DETECTOR, LANDMARKS):
        write_engine(tmp_path, card)
    with build(config(tmp_path, self_test_minutes=1e-6)) as parts:
        output = {"detector": "score_8", "landmarks": "softargmax"}[which]

        def at(frame: int) -> None:
            sick["network"] = output if 31 <= frame < 60 else None  # after a look

        publisher = watched(parts, at, 90)
    faces, statuses = publisher.bodies("faces"), publisher.bodies("status")
    before, during, after = faces[10:30], faces[36:60], faces[70:]
    assert all(body["faces"] for body in (*before, *during, *after))
    has_landmarks = [{"landmarks" in face for face in body["faces"]} for body in faces]
    assert all(True in found for found in (*has_landmarks[10:30], *has_landmarks[70:]))
    if which == "detector":
        assert {body["mode"] for body in during} == {"degraded"}
        assert not any(body["keyframe"] for body in during)
        assert {face["source"] for body in during for face in body["faces"]} <= {"predicted", "landmarks"}
        ids = [{face["track_id"] for face in body["faces"]} for body in (before[-1], during[0], during[-1])]
        assert ids[0] >= ids[1] >= ids[2]  # nobody new
    else:
        assert {body["mode"] for body in during} == {"fixed"}
        assert any(body["keyframe"] for body in during)
        assert all(found == {False} for found in has_landmarks[36:60])
    assert {body["mode"] for body in (*before, *after)} == {"fixed"}
    states = [body["state"] for body in statuses]
    assert [state for number, state in enumerate(states) if state != states[number - 1]][:4] == (
        ["starting", "ready", "degraded", "ready"]
    )
    reason = statuses[states.index("degraded")]["reason"]
    assert re.fullmatch(rf"edgeface-{which} \d+x\d+ fails its self-test: expected .*", reason)


def test_a_test_costs_one_inference_between_two_frames_and_none_after_a_look(
    gpu: Any, tmp_path: Path, sick: dict[str, Any]
) -> None:
    for card in (DETECTOR, LANDMARKS):
        write_engine(tmp_path, card)
    with build(config(tmp_path, self_test_minutes=1e-6)) as parts:
        alive = 0
        for _ in range(60):
            messages = parts.pipeline.step(parts.source.read(10))
            runs = sick["runs"]
            parts.pipeline.self_test()
            assert sick["runs"] - runs == (0 if messages[0][1]["keyframe"] else 1)
            alive = alive or len(gpu.alive)
            assert len(gpu.alive) == alive
    assert sick["runs"] > 60


def test_on_the_cpu_nothing_is_tested() -> None:
    with build(load_config(None, {"backend": "cpu", "cuda": {"self_test_minutes": 1}})) as parts:
        assert parts.networks is not None
        assert parts.networks.self_test is None
        assert parts.networks.backend.checks == ()

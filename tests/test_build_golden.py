"""The expected answer in the passport, as the builder makes it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from conftest import MakeOnnx, scrfd_outputs

from edgeface import cli
from edgeface.build.golden import expected_answer
from edgeface.model_card import find_card, load_card
from edgeface.passport import read_passport
from edgeface.self_test import golden_picture


def test_what_is_built_has_the_answer_for_its_size_and_precision(rtx: ModuleType, tmp_path: Path) -> None:
    for options in (["edgeface-detector"], ["edgeface-landmarks", "--precision", "fp32"]):
        assert cli.main(["build", *options, "--runtime", "tensorrt-rtx", "--engines", str(tmp_path)]) == 0
    passports = {path.name.split(".")[0]: read_passport(path) for path in tmp_path.glob("*.rtx.json")}
    assert len(passports) == 3
    for name, passport in passports.items():
        card = find_card(passport.card)
        assert passport.golden == expected_answer(card, passport.input_size, passport.precision), name
        assert passport.golden is not None
        assert passport.golden.picture == golden_picture()[2]
    tolerances = [passports[f"edgeface-{name}"].golden for name in ("detector-640x640-fp16", "landmarks-80x80-fp32")]
    assert [one.place_tolerance for one in tolerances if one] == [0.06, 0.01]


def test_without_onnx_runtime_there_is_none_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "edgeface.cpu.engine", None)
    assert expected_answer(find_card("edgeface-landmarks"), (80, 80), "fp16") is None
    assert "no self-test: edgeface.cpu.engine is missing, pip install 'edgeface[cpu]'" in caplog.text


def test_a_network_that_the_cpu_cannot_run_or_that_sees_nobody_has_none(
    make_onnx: MakeOnnx, make_card: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    path = make_onnx(scrfd_outputs())
    card = load_card(make_card())
    assert expected_answer(card, (64, 64), "fp16") is None
    assert "net: no self-test: the network is sure of no face in the golden picture" in caplog.text
    path.write_bytes(b"no ONNX")
    assert expected_answer(card, (64, 64), "fp16") is None
    assert "net: no self-test: " in caplog.messages[-1]
    assert "cannot load it" in caplog.messages[-1]

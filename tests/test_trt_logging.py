"""What TensorRT says is heard: in the log, and by a recorder."""

from __future__ import annotations

import logging
import threading
from types import ModuleType

import pytest

from edgeface.cuda.trt_logging import Recorder, reporting


def test_the_logger_is_the_only_one_of_the_process(rtx: ModuleType) -> None:
    assert reporting(rtx) is reporting(rtx)
    assert isinstance(reporting(rtx).logger, rtx.ILogger)


@pytest.mark.parametrize(
    ("severity", "level"), [("INTERNAL_ERROR", 40), ("ERROR", 40), ("WARNING", 30), ("INFO", 10), ("VERBOSE", None)]
)
def test_severities_are_levels(
    rtx: ModuleType, caplog: pytest.LogCaptureFixture, severity: str, level: int | None
) -> None:
    with caplog.at_level(logging.DEBUG, "edgeface.tensorrt"):
        reporting(rtx).logger.log(getattr(rtx.ILogger, severity), "two\nlines of 100 %s")
    expected = [] if level is None else [("edgeface.tensorrt", level, "two lines of 100 %s")]
    assert caplog.record_tuples == expected


def test_what_is_wrong_with_an_onnx_is_logged(rtx: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    network = rtx.Builder(reporting(rtx).logger).create_network(0)
    with caplog.at_level(logging.ERROR, "edgeface.tensorrt"):
        assert not rtx.OnnxParser(network, reporting(rtx).logger).parse(b"\x08\x08garbage")
    assert any("Failed to parse the ONNX model" in text for text in caplog.messages)


def test_a_recorder_hears_why_nothing_was_built(rtx: ModuleType) -> None:
    builder = rtx.Builder(reporting(rtx).logger)
    network, config = builder.create_network(0), builder.create_builder_config()
    recorder = reporting(rtx).recorder()
    builder.error_recorder = recorder
    assert recorder.reasons() == ""
    assert builder.build_serialized_network(network, config) is None
    assert "Network must have at least one output" in recorder.reasons()
    assert recorder.num_errors() == 1
    assert recorder.get_error_code(0) == rtx.ErrorCodeTRT.INVALID_CONFIG
    assert recorder.get_error_desc(0) in recorder.take()
    assert (recorder.reasons(), recorder.num_errors()) == ("", 0)


def test_a_recorder_hears_why_nothing_was_loaded(rtx: ModuleType) -> None:
    runtime = rtx.Runtime(reporting(rtx).logger)
    recorder = reporting(rtx).recorder()
    runtime.error_recorder = recorder
    assert runtime.deserialize_cuda_engine(b"garbage" * 100) is None
    assert "kEXPECTED_MAGIC_TAG" in recorder.take()


def test_reasons_are_one_line_each_said_once() -> None:
    recorder = Recorder()
    for text in ("first\n line", "second", "first line"):
        assert recorder.report_error(1, text) is False
    assert recorder.reasons() == "first line; second"


def test_a_recorder_of_many_years_does_not_grow() -> None:
    recorder = Recorder()
    assert not recorder.has_overflowed()
    threads = [
        threading.Thread(target=lambda: [recorder.report_error(1, str(number)) for number in range(1000)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.num_errors() == 32
    assert recorder.has_overflowed()
    recorder.clear()
    assert (recorder.num_errors(), recorder.has_overflowed()) == (0, False)

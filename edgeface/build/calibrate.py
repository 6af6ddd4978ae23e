"""Pictures -> scales of a network's tensors: the float32 ONNX on ONNX Runtime, on the crops that the pipeline makes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from edgeface.build import ranges
from edgeface.build.onnx_file import with_outputs
from edgeface.build.ranges import Histogram
from edgeface.build.scales import LEVELS, Method
from edgeface.config import load_config
from edgeface.cpu.crop import Cropper
from edgeface.detector import whole_frame
from edgeface.errors import ConfigError, EngineError, one_line
from edgeface.face_crops import RULES, usable
from edgeface.model_card import Card, Fpenet, input_sizes
from edgeface.networks import Networks, open_networks, score_thresholds
from edgeface.values import F32, Frame

log = logging.getLogger(__name__)

FINDER = "edgeface-detector"  # finds the faces that landmark networks are shown
_MOST_CROPS = 8  # at once: all their tensors are in memory
_SAY_EVERY_S = 5.0


def histograms(model: ModelProto, crops: Iterable[F32]) -> tuple[dict[str, Histogram], int]:
    """How the float32 tensors of a network are distributed over `crops` ([n, c, h, w], its input), and how many crops.

    All of them, though Q/DQ nodes need few: calibration caches hold all. Raises EngineError.
    """
    names = _tensors(model)
    session = _session(model, names)
    feed = session.get_inputs()[0]
    rows = feed.shape[0] if isinstance(feed.shape[0], int) else _MOST_CROPS
    fetched = [output.name for output in session.get_outputs() if output.name in names]
    found = {name: Histogram() for name in names}
    count, said = 0, time.monotonic()
    for tensor in crops:
        for start in range(0, len(tensor), rows):
            part = tensor[start : start + rows]
            if isinstance(feed.shape[0], int):  # a full batch, the last crop repeated
                part = np.concatenate([part, np.repeat(part[-1:], rows - len(part), axis=0)])
            values = dict(zip(fetched, _run(session, fetched, {feed.name: part}), strict=True))
            for name in names:
                _add(found[name], name, values.get(name, part))
        count += len(tensor)
        if time.monotonic() - said > _SAY_EVERY_S:
            said = time.monotonic()
            log.info("calibrating: %d crops", count)
    return {name: one for name, one in found.items() if one.counts.any()}, count


def scales(found: dict[str, Histogram], method: Method, percentile: float = ranges.PERCENTILE) -> dict[str, float]:
    """Scales of tensors, each exactly a float32; a tensor that was always 0 has none."""
    largest = {name: ranges.largest_kept(one, method, percentile) for name, one in found.items()}
    return {name: float(np.float32(value / LEVELS)) for name, value in largest.items() if value > 0}


def detector_crops(card: Card, frames: Iterable[Frame]) -> Iterator[F32]:
    """What a detector's network is shown of `frames`, by each of its looks; each array is valid until the next."""
    fit = whole_frame(card)
    croppers = [(size, Cropper(card.input, size)) for size in input_sizes(card)]
    for frame in frames:
        for size, cropper in croppers:
            yield cropper(frame, fit((frame.width, frame.height), size))


def face_crops(card: Card, frames: Iterable[Frame], faces: Callable[[Frame], F32]) -> Iterator[F32]:
    """What a landmark network is shown of the `faces` (boxes [n, 4]) on `frames`. Raises ConfigError for no face."""
    assert isinstance(card.decoder, Fpenet)
    cropper, rule = Cropper(card.input, (card.input.width, card.input.height)), RULES[card.decoder.border]
    pictures = found = 0
    for frame in frames:
        size = frame.width, frame.height
        crops = rule(faces(frame), card.decoder.crop_scale, size)
        crops = crops[usable(crops, size)]
        pictures, found = pictures + 1, found + len(crops)
        if len(crops):
            yield cropper(frame, crops)
    if not found:
        raise ConfigError(f"expected pictures with faces for {card.name}, found no face on {pictures} of them")


def pipeline_crops(card: Card, frames: Iterable[Frame], engines: Sequence[str]) -> Iterator[F32]:
    """What the pipeline shows the card's network of `frames`; faces are those that FINDER finds."""
    if card.task == "detect":
        yield from detector_crops(card, frames)
        return
    choice = {"detector": {"card": FINDER}, "landmarks": {"card": "none"}}
    config = load_config(None, {"backend": "cpu", "engines": list(engines)} | choice)
    with closing(open_networks(config)) as networks:
        least = score_thresholds(networks.thresholds, config)[1]
        yield from face_crops(card, frames, lambda frame: _faces(networks, frame, least))


def _faces(networks: Networks, frame: Frame, least_score: float) -> F32:
    found = networks.detector.detect(frame)
    boxes: F32 = found.xyxy[found.score >= least_score]
    return boxes


def _tensors(model: ModelProto) -> list[str]:
    """Names of what is computed, in the graph's order."""
    made = [name for node in model.graph.node if node.op_type != "Constant" for name in node.output if name]
    return [*[one.name for one in model.graph.input], *made]


def _session(model: ModelProto, names: list[str]) -> ort.InferenceSession:
    """The network with these tensors as outputs, too."""
    network = with_outputs(model, names).SerializeToString()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no narrower base that Python sees
        raise EngineError(f"ONNX Runtime cannot load the network: {one_line(error)[:300]}") from error


def _run(session: ort.InferenceSession, names: list[str], feed: dict[str, F32]) -> list[NDArray[Any]]:
    try:
        outputs: list[NDArray[Any]] = session.run(names, feed)
    except Exception as error:
        raise EngineError(f"ONNX Runtime cannot run the network: {one_line(error)[:300]}") from error
    return outputs


def _add(histogram: Histogram, name: str, values: NDArray[Any]) -> None:
    if values.dtype != np.float32:  # shapes and the like
        return
    try:
        histogram.add(values)
    except ValueError as error:
        raise EngineError(f"{name}: the network's own numbers are not finite there: it cannot be calibrated") from error

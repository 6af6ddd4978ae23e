"""Networks on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edgeface.cpu.crop import Cropper
from edgeface.errors import EngineError, one_line
from edgeface.model_card import Card, onnx_path
from edgeface.values import F32, Frame

_MOST_CROPS = 32  # in one run of a network with a free batch: 300 faces at once take 650 MB


class OnnxEngine:
    """A network on ONNX Runtime, warmed up. The outputs of `infer` are fresh arrays: yours to keep."""

    backend = "cpu"
    precision = "fp32"

    def __init__(self, session: ort.InferenceSession, card: Card, input_size: tuple[int, int]) -> None:
        self.input_size = input_size
        self._session, self._onnx = session, card.onnx
        self._input = session.get_inputs()[0].name
        self._names = [output.name for output in session.get_outputs()]
        batch = session.get_inputs()[0].shape[0]
        self._fixed = isinstance(batch, int) and batch > 0
        self._batch = batch if self._fixed else _MOST_CROPS
        self.crop = Cropper(card.input, input_size)
        self._spec = card.input
        self._tensor: F32 = np.zeros((0, card.input.channels, input_size[1], input_size[0]), np.float32)
        # two faces show whether a free batch is one; whole frames come one at a time
        rows = self._batch if self._fixed else 2 if card.task == "landmarks" else 1
        blank = self.run(np.zeros((rows, *self._tensor.shape[1:]), np.float32))
        if not all(out.ndim for out in blank.values()):
            raise EngineError(f"{card.onnx}: expected outputs with rows for each crop, found a single number")
        self.outputs: Mapping[str, tuple[int, ...]] = {
            name: (len(out) // rows, *out.shape[1:]) for name, out in blank.items()
        }

    def infer(self, frame: Frame, crops: F32) -> Mapping[str, NDArray[Any]]:
        """Raw outputs for `crops` [n, 4] of the frame; see seams.Engine."""
        if not len(crops):
            self._tensor = self._tensor[:0]
            return {name: np.zeros((0, *shape[1:]), np.float32) for name, shape in self.outputs.items()}
        tensor = self._tensor = self.crop(frame, crops)
        if len(crops) == self._batch or (len(crops) < self._batch and not self._fixed):
            return self.run(tensor)
        parts = []
        for start in range(0, len(crops), self._batch):
            part = batch = tensor[start : start + self._batch]
            if self._fixed:  # full batches, the last one filled up
                batch = np.concatenate([part, np.repeat(part[-1:], self._batch - len(part), axis=0)])
            # without a batch axis the crops' rows follow one another
            parts.append({n: out[: len(out) // len(batch) * len(part)] for n, out in self.run(batch).items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in self._names}

    def pictures(self) -> F32:
        """What the network saw at the last `infer`; see seams.Engine."""
        mean = np.array(self._spec.mean, np.float32)[:, None, None]
        grey: F32 = (self._tensor / np.float32(self._spec.scale) + mean).mean(axis=1)
        return grey

    def run(self, tensor: F32) -> dict[str, NDArray[Any]]:
        """The network alone: input tensor [n, c, h, w] -> outputs by name. Raises EngineError."""
        try:
            outputs = self._session.run(self._names, {self._input: tensor})
        except Exception as error:  # ONNX Runtime's errors share no narrower base that Python sees
            raise EngineError(f"{self._onnx}: ONNX Runtime cannot run the network: {one_line(error)[:300]}") from error
        return dict(zip(self._names, outputs, strict=True))

    def close(self) -> None:
        del self._session


def open_engine(card: Card, input_size: tuple[int, int] | None, *, threads: int, spinning: bool) -> OnnxEngine:
    """Load and warm up the card's network.

    `input_size` (width, height) instead of the card's needs an ONNX with free height and width. `spinning` lets idle
    threads burn their core, which pays only on a machine that does nothing else. Raises EngineError.
    """
    path = onnx_path(card)
    cv2.setNumThreads(threads)
    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # 13 MB less resident with SCRFD-500M, same speed
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # truncated, not ONNX, an operator it lacks: all come as different classes
        raise EngineError(f"{path}: ONNX Runtime cannot load it: {one_line(error)[:300]}") from error
    for output in session.get_outputs():
        if output.type not in ("tensor(float)", "tensor(float16)", "tensor(double)"):
            raise EngineError(f"{path}: expected outputs of floating-point tensors, found {output.name} {output.type}")
    size = input_size or (card.input.width, card.input.height)
    _check_input(session, card, size, path)
    return OnnxEngine(session, card, size)


def _check_input(session: ort.InferenceSession, card: Card, size: tuple[int, int], path: Path) -> None:
    """Refuse an ONNX whose input is not what the card says."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != "tensor(float)":
        found = ", ".join(f"{i.name} {i.shape} {i.type}" for i in inputs)
        raise EngineError(f"{path}: expected one float32 input [n, c, h, w], found {found}")
    wanted = (card.input.channels, size[1], size[0])
    for axis, (want, have) in enumerate(zip(wanted, inputs[0].shape[1:], strict=True)):
        if isinstance(have, int) and have != want:
            raise EngineError(
                f"{path}: expected an input of {list(wanted)} (channels, height, width), "
                f"found {inputs[0].shape[1:]}: {('colour', 'height', 'width')[axis]} in card or config is wrong"
            )

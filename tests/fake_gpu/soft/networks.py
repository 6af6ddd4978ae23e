"""Networks on ONNX Runtime, kept from test to test."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache

import numpy as np
import onnxruntime as ort

Shape = tuple[int, ...]
TYPES = {
    "tensor(float)": "FLOAT",
    "tensor(float16)": "HALF",
    "tensor(int8)": "INT8",
    "tensor(uint8)": "UINT8",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(bool)": "BOOL",
}
DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


class Network:
    """`inputs` and `outputs`: shape, -1 where an axis is free, and type, by name."""

    def __init__(self, onnx: bytes) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self.inputs = {tensor.name: _tensor(tensor) for tensor in self._session.get_inputs()}
        self.outputs = {tensor.name: _tensor(tensor) for tensor in self._session.get_outputs()}
        self._shapes = cache(self._shapes)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        inputs = {name: array.astype(DTYPES[self.inputs[name][1]], copy=False) for name, array in inputs.items()}
        return dict(zip(self.outputs, self._session.run(list(self.outputs), inputs), strict=True))

    def output_shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        return self._shapes(tuple(inputs.items()))

    def _shapes(self, inputs: tuple[tuple[str, Shape], ...]) -> dict[str, Shape]:
        return {name: array.shape for name, array in self.run({n: np.zeros(s) for n, s in inputs}).items()}


def _tensor(tensor: ort.NodeArg) -> tuple[Shape, str]:
    return tuple(size if isinstance(size, int) else -1 for size in tensor.shape), TYPES[tensor.type]


@lru_cache(maxsize=16)
def network(onnx: bytes) -> Network:
    """Raises what ONNX Runtime does."""
    return Network(onnx)

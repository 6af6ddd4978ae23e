"""A network on TensorRT with memory bound to every tensor."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import pycuda.driver as cuda
import tensorrt as trt
from numpy.typing import NDArray

from edgeface.cuda.graph import Graph, GraphError
from edgeface.cuda.memory import Gpu, Shared
from edgeface.cuda.plan import Plan
from edgeface.cuda.trt_logging import reporting
from edgeface.errors import ConfigError, DeviceError, DeviceLostError, EngineError

_TYPES: dict[Any, np.dtype[Any]] = {trt.DataType.FLOAT: np.dtype(np.float32), trt.DataType.HALF: np.dtype(np.float16)}


class Network:
    """A loaded plan that runs batches on the GPU's stream: fill `tensor`, then `run`. Only inside `with gpu:`."""

    def __init__(
        self, gpu: Gpu, plan: Plan, input_shape: tuple[int, int, int], dla_core: int | None, resources: ExitStack
    ) -> None:
        """`input_shape`: channels, height, width that it must have; `resources` gives back all that this takes.

        Raises EngineError, DeviceError, ConfigError.
        """
        self._gpu, self._path, self._rebuild = gpu, plan.path, plan.rebuild  # not its bytes, which are many
        self._recorder = reporting(trt).recorder()
        self._graph: Graph | None = None
        self._on_dla = dla_core is not None
        self._resources = resources
        self._buffers = resources.enter_context(ExitStack())  # freed after all that uses them
        self._load(plan.data, dla_core)
        self._bind_input(input_shape)
        self._bind_outputs()

    def _load(self, data: bytes, dla_core: int | None) -> None:
        self._runtime = trt.Runtime(reporting(trt).logger)
        self._resources.callback(delattr, self, "_runtime")
        self._runtime.error_recorder = self._recorder
        if dla_core is not None:
            count = self._runtime.num_DLA_cores
            if dla_core >= count:
                raise ConfigError(
                    f"cuda.dla_core = {dla_core}: TensorRT {trt.__version__} sees {count} DLA cores on {self._gpu.name}"
                )
            self._runtime.DLA_core = dla_core
        self._engine = self._runtime.deserialize_cuda_engine(data)
        self._resources.callback(delattr, self, "_engine")
        if self._engine is None:
            raise self._refusal("cannot load it")
        self._context = self._engine.create_execution_context()
        self._resources.callback(delattr, self, "_context")
        if self._context is None:
            raise self._refusal("cannot make an execution context")

    def _refusal(self, what: str) -> EngineError | DeviceError:
        reason = self._recorder.take() or "it says no more"
        if "out of memory" in reason.lower() or "outofmemory" in reason.lower():
            free, total = (size >> 20 for size in cuda.mem_get_info())
            return DeviceError(f"{self._path}: TensorRT {what}: {reason} ({free} of {total} MiB are free)")
        return EngineError(f"{self._path}: TensorRT {what}: {reason}; build it anew: {self._rebuild}")

    def _wrong(self, wanted: str, found: str) -> EngineError:
        return EngineError(f"{self._path}: expected {wanted}, found {found}; build it anew: {self._rebuild}")

    def _bind_input(self, input_shape: tuple[int, int, int]) -> None:
        # no local names for TensorRT's objects: the traceback of an error would keep them beyond their release
        names = [self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        shapes = [tuple(self._engine.get_tensor_shape(name)) for name in inputs]
        if len(inputs) != 1 or shapes[0][1:] != input_shape:
            raise self._wrong(
                f"one input [n, {', '.join(map(str, input_shape))}]", f"{dict(zip(inputs, shapes, strict=True))}"
            )
        self._input, self._input_shape = inputs[0], input_shape
        self._names = [name for name in names if name != self._input]
        self.fixed = shapes[0][0] > 0
        self.batch: int = shapes[0][0] if self.fixed else self._engine.get_tensor_profile_shape(self._input, 0)[2][0]
        self._rows = self.batch if self.fixed else 0  # of the input's shape as it is now
        self._set_rows(self.batch)
        self.dtype = self._dtype(self._input)
        size = self.batch * int(np.prod(input_shape)) * self.dtype.itemsize
        memory = cuda.mem_alloc(size)
        self._buffers.callback(memory.free)
        self.tensor = int(memory)  # its address: [batch, channels, height, width] of dtype
        cuda.memset_d8_async(self.tensor, 0, size, self._gpu.stream)  # rows that no crop fills are run, too
        self._gpu.synchronize()
        self._bind(self._input, self.tensor)

    def _bind_outputs(self) -> None:
        self.outputs: dict[str, Shared] = {}  # rows of the first crop, of the second, ...
        for name in self._names:
            shape = tuple(self._context.get_tensor_shape(name))
            if not shape or min(shape) < 1 or shape[0] % self.batch:
                raise self._wrong("outputs with rows for each crop", f"{name} {list(shape)}")
            # a DLA may write outputs itself, and then wants memory of the GPU
            mapped = self._gpu.integrated and not self._on_dla
            shared = Shared(self._gpu, shape, self._dtype(name), mapped=mapped)
            self._buffers.callback(shared.free)
            self.outputs[name] = shared
            self._bind(name, shared.address)

    def _dtype(self, name: str) -> np.dtype[Any]:
        dtype, layout = self._engine.get_tensor_dtype(name), self._engine.get_tensor_format(name)
        if dtype not in _TYPES or layout != trt.TensorFormat.LINEAR:
            raise self._wrong("tensors of float32 or float16, row by row", f"{name} of {dtype}, {layout}")
        return _TYPES[dtype]

    def _bind(self, name: str, address: int) -> None:
        if not self._context.set_tensor_address(name, address):
            raise self._refusal(f"refuses the memory of {name}")

    def _set_rows(self, rows: int) -> None:
        """So many crops are run from now on."""
        if rows != self._rows and not self.fixed:
            if not self._context.set_input_shape(self._input, (rows, *self._input_shape)):
                raise self._refusal(f"refuses {rows} crops")
            self._rows = rows

    def _enqueue(self) -> bool:
        return bool(self._context.execute_async_v3(self._gpu.stream.handle))

    def capture(self) -> None:
        """Run by a CUDA graph from now on. It must have run before, and have a fixed batch. Raises GraphError."""
        try:
            self._graph = Graph(self._gpu.stream.handle, self._enqueue)
        except GraphError as error:
            said = self._recorder.take()  # now, or a later error would say it
            raise GraphError(f"{error}: {said}" if said else str(error)) from error
        self._resources.callback(self._graph.close)

    def run(self, count: int) -> dict[str, NDArray[Any]]:
        """The outputs for the first `count` crops in `tensor`: views of `outputs`, valid until the next run.

        Waits for the GPU. Raises DeviceLostError.
        """
        self._set_rows(count)
        if self._graph is not None:
            self._graph.launch()
        elif not self._enqueue():
            raise DeviceLostError(f"{self._path}: TensorRT cannot run it: {self._recorder.take() or 'it says no more'}")
        parts = {}
        for name, shared in self.outputs.items():
            parts[name] = shared.host[: len(shared.host) // self.batch * count]
            shared.to_host(parts[name])
        self._gpu.synchronize()
        return parts

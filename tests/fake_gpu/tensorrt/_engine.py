"""Engines and execution contexts: a network of ONNX Runtime on the bytes at the addresses that it was given."""

from __future__ import annotations

import operator
import time
import weakref
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from gpu import gpu
from soft.errors import Refused
from soft.memory import Allocation
from soft.networks import Network
from soft.streams import Stream, Work

from ._values import (
    DataType,
    Dims,
    ErrorCodeTRT,
    Reporter,
    Severity,
    TensorFormat,
    TensorIOMode,
    TensorLocation,
    called_back,
    nptype,
)

if TYPE_CHECKING:
    from ._runtime import Runtime

Shape = tuple[int, ...]
ALIGNMENT = 256  # bytes, of a tensor's address: NvInferRuntime.h, setTensorAddress


def _index(value: Any, function: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{function}(): incompatible function arguments.") from None


class ICudaEngine(Reporter):
    num_aux_streams, num_layers, num_optimization_profiles = 0, 1, 1
    name = "Unnamed Network 0"

    def __init__(self, runtime: Runtime, told: dict[str, Any], network: Network) -> None:
        super().__init__(runtime, runtime.logger)
        self._network, self._told = network, told
        tensors = {**network.inputs, **network.outputs}
        self._shapes = {name: tuple(told["shapes"].get(name, shape)) for name, (shape, _) in tensors.items()}
        self._types = {
            name: DataType.HALF if told["half_io"] and kind == "FLOAT" else DataType.__members__[kind]
            for name, (_, kind) in tensors.items()
        }
        free = [name for name in network.inputs if -1 in self._shapes[name]]
        if set(free) != set(told["profile"]):
            raise ValueError(f"a plan needs a profile of {free}, and of nothing else: found {list(told['profile'])}")
        if not free:
            self._shapes |= network.output_shapes({name: self._shapes[name] for name in network.inputs})
        self._thing = gpu.add("engine", uses=[runtime._thing])

    @property
    def num_io_tensors(self) -> int:
        return len(self._shapes)

    def get_tensor_name(self, index: int) -> str:
        return list(self._shapes)[index]

    def get_tensor_mode(self, name: str) -> Any:
        if name not in self._shapes:
            return TensorIOMode.NONE
        return TensorIOMode.INPUT if name in self._network.inputs else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims(self._shapes[name])

    def get_tensor_dtype(self, name: str) -> Any:
        return self._types[name]

    def get_tensor_location(self, name: str) -> Any:
        return TensorLocation.DEVICE

    def get_tensor_format(self, name: str) -> Any:
        return TensorFormat.LINEAR

    def get_tensor_format_desc(self, name: str) -> str:
        return "Row-major linear FP16 format" if self._types[name] is DataType.HALF else "Row-major linear FP32 format"

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        if name not in self._network.inputs or profile_index != 0:
            raise RuntimeError(f"get_tensor_profile_shape({name}, {profile_index})")
        return [Dims(shape) for shape in self._told["profile"].get(name, [self._shapes[name]] * 3)]

    def create_execution_context(self) -> IExecutionContext | None:
        self._require_context("create_execution_context")
        try:
            gpu.call("create_execution_context", unsafe=True)
        except Refused as refused:
            self._report(ErrorCodeTRT.FAILED_ALLOCATION, f"createExecutionContext: {refused.text}")
            return None
        return IExecutionContext(self)

    def __getattr__(self, name: str) -> Any:
        version = int(gpu.tensorrt_version.split(".")[0])
        if (name == "device_memory_size" and version < 11) or (name == "device_memory_size_v2" and version >= 10):
            return 1 << 20
        raise AttributeError(f"'tensorrt_bindings.tensorrt.ICudaEngine' object has no attribute {name!r}")


class IExecutionContext(Reporter):
    active_optimization_profile, debug_sync, persistent_cache_limit = 0, False, 0

    def __init__(self, engine: ICudaEngine) -> None:
        super().__init__(engine, engine.logger)
        self.engine, self.profiler, self.enqueue_emits_profile = engine, None, True
        network = engine._network
        self._inputs = {name: engine._shapes[name] for name in network.inputs}
        self._addresses = dict.fromkeys(engine._shapes, 0)
        self._refused = ""  # a shape that was not taken, and so is not what runs
        self._warm = False  # has it run with these shapes?
        self._milliseconds = 0.0
        self._thing = gpu.add("execution context", uses=[engine._thing], addresses=self._addresses)

    def _fail(self, call: str, text: str) -> bool:
        self._report(
            ErrorCodeTRT.INVALID_ARGUMENT, f"IExecutionContext::{call}: Error Code 3: API Usage Error ({text})"
        )
        return False

    def set_tensor_address(self, name: str, memory: int) -> bool:
        memory = _index(memory, "set_tensor_address")
        if name not in self._addresses:
            return self._fail("setTensorAddress", f"Given invalid tensor name: {name}")
        self._addresses[name] = memory
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses[name]

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        if not isinstance(shape, (tuple, list, Dims)):
            raise TypeError("set_input_shape(): incompatible function arguments.")
        shape = tuple(int(size) for size in shape)
        if name not in self._inputs:
            return self._fail("setInputShape", f"Given invalid tensor name: {name}")
        least, _, most = (tuple(each) for each in self.engine.get_tensor_profile_shape(name, 0))
        if len(shape) != len(least) or not all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True)):
            self._refused = f"shape {shape} of {name}"
            least, shape, most = (str(list(each)).replace(" ", "") for each in (least, shape, most))
            return self._fail(
                "setInputShape",
                f"Parameter check failed, condition: satisfyProfile. Set dimension {shape} for tensor {name} does not "
                f"satisfy any optimization profiles. Valid range for profile 0: {least}..{most}.",
            )
        self._refused = ""
        if self._inputs[name] != shape:
            self._inputs[name], self._warm = shape, False
        return True

    def get_tensor_shape(self, name: str) -> Dims:
        if name in self._inputs:
            return Dims(self._inputs[name])
        if self.infer_shapes():
            return self.engine.get_tensor_shape(name)
        return Dims(self.engine._network.output_shapes(self._inputs)[name])

    def infer_shapes(self) -> list[str]:
        """The inputs whose shapes are still to be set."""
        return [name for name, shape in self._inputs.items() if -1 in shape]

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        return profile_index == 0

    def report_to_profiler(self) -> bool:
        if self.profiler is not None:
            called_back("report_layer_time", self.profiler.report_layer_time, "network", self._milliseconds)
        return self.profiler is not None

    def execute_async_v3(self, stream_handle: int) -> bool:
        handle = _index(stream_handle, "execute_async_v3")
        self._require_context("execute_async_v3")
        stream = gpu.streams.get(handle)
        if stream is None:
            gpu.rule(f"execute_async_v3 on {handle:#x}, which is no stream (any more)")
        try:
            gpu.call("execute_async_v3", stream=stream.handle, shapes=dict(self._inputs))
        except Refused as refused:
            self._report(ErrorCodeTRT.FAILED_EXECUTION, f"IExecutionContext::enqueueV3: {refused.text}")
            return False
        problem = self._problem(stream)
        if problem:
            gpu.fault(f"execute_async_v3: {problem}")
            return self._fail("enqueueV3", problem)
        self._enqueue(stream)
        return True

    def _problem(self, stream: Stream) -> str:
        missing = [name for name, address in self._addresses.items() if not address]
        if self._refused:
            return f"{self._refused} was refused"
        if self.infer_shapes():
            return f"the shape of input {self.infer_shapes()[0]} is not set"
        if missing:
            return f"Address is not set for tensor {missing[0]}. Call setTensorAddress before enqueue/execute."
        if stream.capture is not None and not self._warm:
            stream.capture.spoilt = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
            return "captured before it has run once with these shapes"
        return ""

    def _enqueue(self, stream: Stream) -> None:
        network = self.engine._network
        shapes = {**self._inputs, **network.output_shapes(self._inputs)}
        types = {name: np.dtype(nptype(kind)) for name, kind in self.engine._types.items()}
        memory: dict[str, Allocation] = {}
        for name, address in self._addresses.items():
            if address % ALIGNMENT:
                gpu.rule(f"tensor {name} is at {address:#x}, not a multiple of {ALIGNMENT}")
            nbytes = prod(shapes[name]) * types[name].itemsize
            memory[name] = gpu.device_memory(address, nbytes, f"tensor {name} {shapes[name]}")
        for other in gpu.streams.values():
            if other is not stream and other.pending(self._thing):
                gpu.rule("one execution context runs on two streams at a time")
        start = {name: address - memory[name].device_address for name, address in self._addresses.items()}

        def view(name: str) -> np.ndarray:
            size = prod(shapes[name]) * types[name].itemsize
            return memory[name].device[start[name] : start[name] + size].view(types[name]).reshape(shapes[name])

        owner = weakref.ref(self)  # work keeps no execution context alive

        def run() -> None:
            began = time.perf_counter()
            if gpu.compute:
                for name, array in network.run({name: view(name) for name in network.inputs}).items():
                    view(name)[...] = array
            execution = owner()
            execution._milliseconds = (time.perf_counter() - began) * 1e3
            if execution.profiler is not None and execution.enqueue_emits_profile:
                execution.report_to_profiler()

        stream.enqueue(Work("network", run, tuple(memory.values()), (self._thing,)))
        self._warm = self._warm or stream.capture is None
        if stream.handle == 0:
            called_back("log", self.logger.log, Severity.WARNING, "Using default stream in enqueueV3() may be slow")
            for each in list(gpu.streams.values()):
                each.run()
        elif stream.thing not in self._thing.facts["uses"]:
            self._thing.facts["uses"].append(stream.thing)

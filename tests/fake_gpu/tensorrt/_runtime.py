"""The runtime: engine files, and why they are refused."""

from __future__ import annotations

import weakref
from typing import Any

from gpu import gpu
from plans import HEADER, read_plan
from soft.errors import Refused
from soft.networks import network

from ._engine import ICudaEngine
from ._values import ErrorCodeTRT, ILogger, Reporter, Severity

_logger: list[weakref.ref[ILogger]] = []  # the first that was given: TensorRT keeps no other


def init_libnvinfer_plugins(logger: ILogger, namespace: str) -> bool:
    return True


class Runtime(Reporter):
    def __init__(self, logger: ILogger) -> None:
        if not isinstance(logger, ILogger):
            raise TypeError("__init__(): incompatible constructor arguments.")
        super().__init__(None, logger)
        self._require_context("Runtime")
        try:
            gpu.call("Runtime")
        except Refused:
            raise TypeError("pybind11::init(): factory function returned nullptr") from None
        _register(logger)
        self._thing = gpu.add("runtime")
        self.engine_host_code_allowed, self.max_threads, self._dla_core = False, 1, -1

    @property
    def num_DLA_cores(self) -> int:
        return gpu.dla_cores

    @property
    def DLA_core(self) -> int:
        return self._dla_core

    @DLA_core.setter
    def DLA_core(self, core: int) -> None:
        if not 0 <= core < gpu.dla_cores:
            self._report(ErrorCodeTRT.INVALID_ARGUMENT, f"Cannot set DLA core {core}, {gpu.dla_cores} available")
            return
        self._dla_core = core

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        self._require_context("deserialize_cuda_engine")
        plan = bytes(memoryview(serialized_engine))
        try:
            gpu.call("deserialize_cuda_engine", nbytes=len(plan), dla_core=self._dla_core)
            problem = self._problem(plan)
            if problem:
                raise Refused(problem)
        except Refused as refused:
            self._report(ErrorCodeTRT.INTERNAL_ERROR, refused.text)
            return None
        told, onnx = read_plan(plan)
        return ICudaEngine(self, told, network(onnx))

    def _problem(self, plan: bytes) -> str:
        if not plan:
            return "Cannot deserialize with an empty memory buffer"
        if plan[:4] != b"ftrt" or len(plan) < HEADER.size:
            return (
                "Serialization assertion header.magicTag == kEXPECTED_MAGIC_TAG failed.Trying to load an engine "
                "created with incompatible serialization version."
            )
        _, _, size, *version = HEADER.unpack_from(plan)
        own = _version()
        if size != len(plan):
            return f"Assertion plan.header.size == blobSize failed. {size} != {len(plan)}"
        told, onnx = read_plan(plan)
        if told["version_compatible"] and not self.engine_host_code_allowed:
            return "Cannot deserialize engine with lean runtime since IRuntime::getEngineHostCodeAllowed() is false."
        if tuple(version) != own and not (told["version_compatible"] and 0 <= own[0] - version[0] <= 2):
            wanted, found = (".".join(map(str, numbers)) for numbers in (own, version))
            return (
                "The engine plan file is not compatible with this version of TensorRT, expecting library version "
                f"{wanted} got {found}, please rebuild."
            )
        if tuple(told["compute_capability"]) != gpu.compute_capability:
            wanted, found = (".".join(map(str, n)) for n in (gpu.compute_capability, told["compute_capability"]))
            return (
                f"The engine plan file is generated on an incompatible device, expecting compute {wanted} got compute "
                f"{found}, please rebuild."
            )
        if told["dla"] and not gpu.dla_cores:
            return "Cannot create DLA engine, 0 not available"
        try:
            network(onnx)
        except Exception as error:  # noqa: BLE001  # ONNX Runtime's errors share no narrower base
            return f"Assertion engine failed. {error}"
        return ""


def _version() -> tuple[int, ...]:
    numbers = tuple(int(part) for part in gpu.tensorrt_version.split("."))
    return numbers if len(numbers) == 4 else (*numbers, gpu.tensorrt_build)


def _register(logger: ILogger) -> None:
    if not _logger:
        _logger.append(weakref.ref(logger))
    first = _logger[0]()
    if first is None:
        gpu.fault("the logger that TensorRT was first given is gone, and TensorRT still calls it")
    elif first is not logger:
        gpu.fault("a second logger: TensorRT keeps the first one that it was given")
        first.log(
            Severity.WARNING,
            "The logger passed into createInferRuntime differs from one already registered for an existing builder, "
            "runtime, or refitter.",
        )

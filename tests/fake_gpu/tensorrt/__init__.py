"""TensorRT's names for running engines, those that are in 8.6, 10 and 11 alike, on the software GPU."""

# ruff: noqa: F401
from gpu import gpu

from ._engine import ICudaEngine, IExecutionContext
from ._runtime import Runtime, init_libnvinfer_plugins
from ._values import (
    DataType,
    Dims,
    ErrorCodeTRT,
    IErrorRecorder,
    ILogger,
    IProfiler,
    Logger,
    TensorFormat,
    TensorIOMode,
    TensorLocation,
    nptype,
    volume,
)

float32, float16, int8, int32 = DataType.FLOAT, DataType.HALF, DataType.INT8, DataType.INT32


def __getattr__(name: str) -> str:
    if name == "__version__":
        return gpu.tensorrt_version
    raise AttributeError(f"module 'tensorrt' has no attribute {name!r}")

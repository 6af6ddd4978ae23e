"""CUDA's errors, by name: number and text, as cuda.h and cuGetErrorString have them."""

from __future__ import annotations

CODES = {
    "CUDA_SUCCESS": (0, "no error"),
    "CUDA_ERROR_INVALID_VALUE": (1, "invalid argument"),
    "CUDA_ERROR_OUT_OF_MEMORY": (2, "out of memory"),
    "CUDA_ERROR_NOT_INITIALIZED": (3, "initialization error"),
    "CUDA_ERROR_DEINITIALIZED": (4, "driver shutting down"),
    "CUDA_ERROR_NO_DEVICE": (100, "no CUDA-capable device is detected"),
    "CUDA_ERROR_INVALID_DEVICE": (101, "invalid device ordinal"),
    "CUDA_ERROR_INVALID_IMAGE": (200, "device kernel image is invalid"),
    "CUDA_ERROR_INVALID_CONTEXT": (201, "invalid device context"),
    "CUDA_ERROR_NO_BINARY_FOR_GPU": (209, "no kernel image is available for execution on the device"),
    "CUDA_ERROR_ECC_UNCORRECTABLE": (214, "uncorrectable ECC error encountered"),
    "CUDA_ERROR_INVALID_PTX": (218, "a PTX JIT compilation failed"),
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": (222, "the provided PTX was compiled with an unsupported toolchain."),
    "CUDA_ERROR_INVALID_HANDLE": (400, "invalid resource handle"),
    "CUDA_ERROR_ILLEGAL_STATE": (401, "the operation cannot be performed in the present state"),
    "CUDA_ERROR_NOT_FOUND": (500, "named symbol not found"),
    "CUDA_ERROR_NOT_READY": (600, "device not ready"),
    "CUDA_ERROR_ILLEGAL_ADDRESS": (700, "an illegal memory access was encountered"),
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES": (701, "too many resources requested for launch"),
    "CUDA_ERROR_LAUNCH_TIMEOUT": (702, "the launch timed out and was terminated"),
    "CUDA_ERROR_CONTEXT_IS_DESTROYED": (709, "context is destroyed"),
    "CUDA_ERROR_HARDWARE_STACK_ERROR": (714, "hardware stack error"),
    "CUDA_ERROR_ILLEGAL_INSTRUCTION": (715, "an illegal instruction was encountered"),
    "CUDA_ERROR_MISALIGNED_ADDRESS": (716, "misaligned address"),
    "CUDA_ERROR_LAUNCH_FAILED": (719, "unspecified launch failure"),
    "CUDA_ERROR_NOT_SUPPORTED": (801, "operation not supported"),
    "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED": (900, "operation not permitted when stream is capturing"),
    "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED": (901, "operation failed due to a previous error during capture"),
    "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED": (903, "capture was not ended in the same stream as it began"),
    "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT": (
        906,
        "operation would make the legacy stream depend on a capturing blocking stream",
    ),
    "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD": (
        908,
        "attempt to terminate a thread-local capture sequence from another thread",
    ),
    "CUDA_ERROR_UNKNOWN": (999, "unknown error"),
}
# what work on the GPU dies of: every later call gives the same error, until the process has ended
STICKY = {
    "CUDA_ERROR_ECC_UNCORRECTABLE",
    "CUDA_ERROR_ILLEGAL_ADDRESS",
    "CUDA_ERROR_LAUNCH_TIMEOUT",
    "CUDA_ERROR_HARDWARE_STACK_ERROR",
    "CUDA_ERROR_ILLEGAL_INSTRUCTION",
    "CUDA_ERROR_MISALIGNED_ADDRESS",
    "CUDA_ERROR_LAUNCH_FAILED",
}


class RuleBroken(AssertionError):
    """What would crash, corrupt memory or hang on hardware, or be right there by luck only."""


class Refused(Exception):
    """A driver call that returns an error. `code` is a name in CODES, or any text for TensorRT's calls."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code)
        self.code, self.detail = code, detail

    @property
    def text(self) -> str:
        return CODES[self.code][1] if self.code in CODES else self.code

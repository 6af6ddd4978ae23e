"""Crops of a frame -> the network's input tensor, and its glimpse, by the kernels of crop.cu."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pycuda.driver as cuda

from edgeface.cuda.memory import Gpu, Shared
from edgeface.cuda.picture import BT601, FORMATS, Picture
from edgeface.errors import DeviceError, EngineError, one_line
from edgeface.model_card import Input
from edgeface.values import U8, Frame

_FOLDER = Path(__file__).parent / "kernels"
_CUBINS = {(7, 2): "crop-cu11-sm_72.cubin", (8, 7): "crop-cu11-sm_87.cubin", (11, 0): "crop-cu13-sm_110.cubin"}
_PTX = "crop-cu11-compute_72.ptx"
_TASK = struct.Struct("<4Q9i11f")  # crop.cu's Task
_BLOCK = (32, 8, 1)
_FORMAT_NUMBER = {name: number for number, name in enumerate(FORMATS)}
_HOST_FORMATS = {"gray8": 1, "bgr8": 3, "bgra8": 4}  # bytes a pixel
_ORDERS = {"rgb": 0, "bgr": 1, "luma": 2, "luma3": 3}
_GLIMPSE = 128, 72  # columns, rows, as on the CPU

Launch = Callable[[Picture, Frame, int, int, int], None]  # picture, its frame, addresses of crops and tensor, crops


class Kernels:
    """The two kernels, loaded for this GPU. Raises DeviceError when none of the files suits it."""

    def __init__(self, gpu: Gpu) -> None:
        refusals = []
        for name in filter(None, (_CUBINS.get(gpu.compute_capability), _PTX)):
            try:
                self._module = cuda.module_from_buffer((_FOLDER / name).read_bytes() + b"\0")
                break
            except cuda.Error as error:
                refusals.append(f"{name}: {one_line(error)}")
        else:
            raise DeviceError(f"{gpu.name}: no kernel can be loaded ({'; '.join(refusals)})")
        self._gpu = gpu
        self._functions: dict[str, Any] = {}
        gpu.resources.callback(self._unload)
        for name in ("crop", "glimpse"):
            self._functions[name] = self._module.get_function(name)
            self._functions[name].prepare([f"{_TASK.size}s"])

    def cropper(self, spec: Input, size: tuple[int, int], *, half: bool) -> Launch:
        """What fills a tensor of `size` (width, height) as the card's `spec` says; `half`: float16."""
        mean = np.broadcast_to(np.array(spec.mean, np.float64), 3)
        padding = -1.0 if spec.padding == "edge" else float(spec.padding)
        fixed = (_ORDERS[spec.colour], int(half), padding, spec.scale, *(-mean * spec.scale).tolist())
        return self._launcher("crop", size, fixed)

    def glimpser(self) -> Launch:
        """What makes a picture of 128 x 72 grey bytes."""
        return self._launcher("glimpse", _GLIMPSE, (0, 0, 0.0, 0.0, 0.0, 0.0, 0.0))

    def _launcher(self, name: str, size: tuple[int, int], fixed: tuple[float, ...]) -> Launch:
        width, height = size
        columns, rows = -(-width // _BLOCK[0]), -(-height // _BLOCK[1])
        pack, gpu, functions = _TASK.pack, self._gpu, self._functions

        def launch(picture: Picture, frame: Frame, crops: int, tensor: int, count: int) -> None:
            task = pack(
                picture.plane,
                picture.chroma,
                crops,
                tensor,
                picture.pitch,
                picture.chroma_pitch,
                frame.width,
                frame.height,
                _FORMAT_NUMBER[frame.format],
                width,
                height,
                *fixed,
                *picture.yuv,
            )
            functions[name].prepared_async_call((columns, rows, count), _BLOCK, gpu.stream, task)

        return launch

    def _unload(self) -> None:
        """Whoever still has what launches the functions."""
        self._functions.clear()
        del self._module


class FrameMemory:
    """Where the kernels find a frame: where it was captured (`mapped`), or copied into memory of the GPU.

    Frames of the host (OpenCV's) go through one pinned buffer, which grows with the largest frame seen.
    """

    def __init__(self, gpu: Gpu, *, mapped: bool) -> None:
        self._gpu, self._mapped = gpu, mapped
        self._staging: Shared | None = None  # of the host's frames
        self._copy: Any = None  # of captured frames
        self._copy_size = 0
        self._frame: Frame | None = None  # the last one, and where it is
        self._picture: Any = None
        gpu.resources.callback(self._free)

    def picture(self, frame: Frame) -> Picture:
        """The frame for the kernels, brought there once; valid until the next frame. Raises EngineError."""
        if frame is not self._frame:
            self._frame = None  # should this fail, the last one may be gone already
            captured = type(frame.pixels) is Picture
            self._picture = self._captured(frame) if captured else self._uploaded(frame)
            self._frame = frame
        return cast(Picture, self._picture)

    def _captured(self, frame: Frame) -> Picture:
        picture: Picture = frame.pixels
        if frame.format not in _FORMAT_NUMBER:
            raise EngineError(f"the GPU backend expects frames of {', '.join(FORMATS)}, found {frame.format}")
        if self._mapped:
            return picture
        if self._copy_size < picture.nbytes:
            if self._copy is not None:
                self._copy.free()
                self._copy, self._copy_size = None, 0
            self._copy = cuda.mem_alloc(picture.nbytes)
            self._copy_size = picture.nbytes
        plane = int(self._copy)
        cuda.memcpy_dtod_async(plane, picture.plane, picture.nbytes, self._gpu.stream)
        chroma = plane + picture.chroma - picture.plane if picture.chroma else 0
        return Picture(plane, picture.pitch, picture.nbytes, chroma, picture.chroma_pitch, picture.yuv, picture.owner)

    def _uploaded(self, frame: Frame) -> Picture:
        pixel = _HOST_FORMATS.get(frame.format)
        if pixel is None:
            raise EngineError(
                f"the GPU backend expects host frames of {', '.join(_HOST_FORMATS)}, found {frame.format}"
            )
        pitch, size = frame.width * pixel, frame.width * frame.height * pixel
        if self._staging is None or self._staging.host.nbytes < size:
            self._free_staging()
            self._staging = Shared(self._gpu, (size,), np.uint8, mapped=self._mapped)
        part = self._staging.host[:size]
        np.copyto(part.reshape(frame.pixels.shape), frame.pixels)
        self._staging.to_gpu(part)
        return Picture(self._staging.address, pitch, size, yuv=BT601)

    def _free_staging(self) -> None:
        if self._staging is not None:
            self._staging.free()
            self._staging = None

    def _free(self) -> None:
        self._free_staging()
        if self._copy is not None:
            self._copy.free()
        self._frame = self._picture = None


class GpuGlimpse:
    """A grey picture [72, 128] of a frame; see seams.Glimpse."""

    def __init__(self, gpu: Gpu, kernels: Kernels, frames: FrameMemory) -> None:
        self._gpu, self._frames = gpu, frames
        self._launch = kernels.glimpser()
        self._grey = Shared(gpu, _GLIMPSE[::-1], np.uint8, mapped=gpu.integrated)
        gpu.resources.callback(self._grey.free)

    def __call__(self, frame: Frame) -> U8:
        """Raises EngineError."""
        with self._gpu:
            self._launch(self._frames.picture(frame), frame, 0, self._grey.address, 1)
            self._grey.to_host(self._grey.host)
            self._gpu.synchronize()
        grey: U8 = self._grey.host.copy()
        return grey

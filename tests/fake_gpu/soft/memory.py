"""Memory that has real addresses: the device's, and the host's that is pinned."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

import numpy as np

from .errors import RuleBroken

NEW, FREED = 0xA5, 0xDD  # what memory holds that nobody has written yet, and nobody should read any more
KINDS = ("device", "pinned", "mapped")  # mapped: pinned, and the GPU sees it through its own address


def address_of(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


class Allocation:
    """`host` and `device` are bytes at the addresses by which host and GPU know the same memory, or None."""

    def __init__(self, kind: str, nbytes: int, same_address: bool) -> None:
        self.kind, self.nbytes, self.alive = kind, nbytes, True
        self._file = os.memfd_create("fake-gpu")
        os.ftruncate(self._file, nbytes)
        self._map = mmap.mmap(self._file, nbytes)
        first = np.frombuffer(self._map, np.uint8)
        self.host = None if kind == "device" else first
        self.device = None if kind == "pinned" else first
        if kind == "mapped" and not same_address:
            self.device = np.frombuffer(mmap.mmap(self._file, nbytes), np.uint8)
        os.close(self._file)
        first[:] = NEW
        self.host_address = 0 if self.host is None else address_of(self.host)
        self.device_address = 0 if self.device is None else address_of(self.device)

    def __repr__(self) -> str:
        return f"{self.nbytes} bytes of {self.kind} memory at {self.device_address or self.host_address:#x}"

    def on_device(self, address: int) -> bool:
        return self.device is not None and 0 <= address - self.device_address < self.nbytes

    def on_host(self, address: int) -> bool:
        return self.host is not None and 0 <= address - self.host_address < self.nbytes

    def retire(self) -> None:
        """Free it. The address is never given again; what it held is gone."""
        self.alive = False
        np.frombuffer(self._map, np.uint8)[: 1 << 20] = FREED
        if self.nbytes > 1 << 20:  # the rest reads as zeros, and costs no memory
            self._map.madvise(mmap.MADV_REMOVE, 1 << 20, self.nbytes - (1 << 20))


class Memory:
    """All allocations of one GPU, the freed ones too: an address that was freed is told from one that never was."""

    def __init__(self) -> None:
        self.allocations: list[Allocation] = []
        self._freed: list[Allocation] = []

    def allocate(self, kind: str, nbytes: int, same_address: bool = True) -> Allocation:
        allocation = Allocation(kind, nbytes, same_address)
        self.allocations.append(allocation)
        return allocation

    def free(self, allocation: Allocation) -> None:
        self.allocations.remove(allocation)
        self._freed.append(allocation)
        allocation.retire()

    def on_device(self, address: int, nbytes: int, what: str) -> Allocation:
        """The live allocation that the GPU may use from `address` on. Raises RuleBroken."""
        for allocation in self.allocations:
            if allocation.on_device(address):
                if address - allocation.device_address + nbytes > allocation.nbytes:
                    raise RuleBroken(f"{what}: {nbytes} bytes at {address:#x} reach beyond {allocation}")
                return allocation
        raise RuleBroken(f"{what}: {nbytes} bytes at {address:#x}: {self._why(address)}")

    def _why(self, address: int) -> str:
        for allocation in self._freed:
            if allocation.on_host(address) or allocation.on_device(address):
                return f"use after free of {allocation}"
        for allocation in self.allocations:
            if allocation.on_host(address):
                return f"the host's address of {allocation} is not one of the GPU's"
        return "the GPU sees no memory there"

    def pinned(self, address: int, nbytes: int) -> Allocation | None:
        """The live pinned allocation that the host knows by this address."""
        for allocation in self.allocations:
            if allocation.on_host(address) and address - allocation.host_address + nbytes <= allocation.nbytes:
                return allocation
        return None

    def was_pinned(self, address: int) -> bool:
        return any(allocation.on_host(address) for allocation in self._freed)


def move(target: int, source: int, nbytes: int) -> None:
    ctypes.memmove(target, source, nbytes)


def buffer_of(thing: Any, writable: bool = False) -> tuple[int, int]:
    """The address and length of a contiguous buffer. Raises what Python does for what is none."""
    view = memoryview(thing)
    if writable and view.readonly:
        raise BufferError("Object is not writable.")
    if not view.contiguous:
        raise ValueError("ndarray is not contiguous")
    array = thing if isinstance(thing, np.ndarray) else np.frombuffer(view, np.uint8) if view.nbytes else np.empty(0)
    return address_of(array), view.nbytes

"""How much memory a piece of work took at its peak, beyond what was there before."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak:
    """`with Peak(device) as peak: ...`, then `peak.bytes`: the highest use within minus the use before; None where nobody counts it.

    On CUDA what torch had allocated; on the CPU of Linux the resident size of the process (VmHWM, set back first). glibc is asked to give
    back what is free first; another allocator may keep it, and what fits into that counts as nothing.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes: int | None = None
        self._before: int | None = None

    def __enter__(self) -> Peak:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        elif self.device.type == "cpu":
            trim()
            with suppress(OSError):
                RESET.write_text("5")  # proc(5): sets the high-water mark back to the present size
                self._before = resident("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            return
        highest = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else resident("VmHWM")
        self.bytes = None if highest is None else max(0, highest - self._before)


def trim() -> None:
    """Give free memory back to the system, where the C library can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def resident(name: str) -> int | None:
    """VmRSS or VmHWM of this process in bytes; None where there is no such record."""
    with suppress(OSError, ValueError):
        for line in STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None


def room(device: torch.device) -> int | None:
    """Bytes that are free on a device now; None where nobody counts them.

    On CUDA what the driver has and what torch holds without using it; on Linux what the system says is available, and no more than the
    control group of the process leaves (a container's or a batch system's limit).
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type != "cpu":
        return None
    found: list[int] = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024)
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(0, min(found)) if found else None

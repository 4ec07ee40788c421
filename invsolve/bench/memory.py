"""How much memory a piece of work took at its peak, beyond what was there before."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak:
    """`with Peak(device) as peak: ...`, then `peak.bytes`: the highest use within minus the use before; None where nobody counts it.

    On CUDA what torch had allocated; on the CPU of Linux the resident size of the process (VmHWM, set back first), which allocators round
    up and reuse: what fits into memory that is free but not given back counts as nothing.

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
            with suppress(OSError):
                RESET.write_text("5")  # proc(5): sets the high-water mark back to the present size
                self._before = resident("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            return
        highest = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else resident("VmHWM")
        self.bytes = None if highest is None else max(0, highest - self._before)


def resident(name: str) -> int | None:
    """VmRSS or VmHWM of this process in bytes; None where there is no such record."""
    with suppress(OSError, ValueError):
        for line in STATUS.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None

"""Where a result was made: versions and hardware, without names of hosts, users or paths."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("invsolve", "torch", "deepinv", "numpy", "scipy", "torchmetrics")


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware(device: torch.device) -> str:
    """Processor, threads and accelerator in one line."""
    text = f"{_processor()}, {platform.system()} {platform.machine()}, {torch.get_num_threads()} torch threads"
    return f"{torch.cuda.get_device_name(device)}; {text}" if device.type == "cuda" else text


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "unknown processor"

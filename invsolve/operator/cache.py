"""What is computed from a buffer and kept until the buffer changes: conversions, factors, compiled matrices."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

R = TypeVar("R")
PLACE = "_from_buffers"  # the attribute of the module, which no class may have as a method; left out of pickles and copies


def kept(module: nn.Module, source: Tensor, key: Hashable, make: Callable[[], R]) -> R:
    """make(), remembered under `key` while `source` is the same tensor and nobody has written into it.

    Args:
        module: who remembers.
        source: the buffer that the value is computed from.
        key: which value.
        make: computes it; runs outside inference mode, since a tensor made in that mode could take no part in a later backward pass.
    """
    cache: dict[Hashable, tuple[Tensor, int, Any]] = vars(module).setdefault(PLACE, {})  # pyright: ignore[reportAttributeAccessIssue]
    version = written(source)
    held = cache.get(key)
    if held is None or held[0] is not source or held[1] != version:
        with torch.inference_mode(False):
            cache[key] = held = (source, version, make())
    return held[2]


def written(source: Tensor) -> int:
    """How often somebody wrote into a tensor, as load_state_dict does; 0 of one made in inference mode, which does not count."""
    return 0 if source.is_inference() else source._version


def converted(module: nn.Module, name: str, buffer: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A buffer in another dtype and place; itself where it has them already, fresh where a gradient must pass."""
    if buffer.dtype == dtype and buffer.device == device and not buffer.is_inference():
        return buffer
    if buffer.requires_grad:
        return buffer.to(device, dtype)
    return kept(module, buffer, (name, dtype, device), lambda: buffer.to(device, dtype, copy=buffer.is_inference()))

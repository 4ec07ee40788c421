"""Networks on the meta device: shapes without memory, and no more layers than a file has weights for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from invsolve.errors import InputError


def skeleton(build: Callable[[], nn.Module], tensors: int) -> nn.Module:
    """A network on the meta device, given up as soon as it is larger than its file can be.

    Sizes come from files and command lines: a depth of 10^9 would be built for hours before its keys could be compared.

    Args:
        build: makes the network; what it raises goes on.
        tensors: in the file. Twice as many and some more parameters are allowed, since a constructor may replace what it made.

    Raises:
        InputError: more parameters than that.
    """
    here, limit, count = threading.get_ident(), 2 * tensors + 64, 0

    def counted(_module: nn.Module, _name: str, _parameter: Any) -> None:
        nonlocal count
        count += threading.get_ident() == here
        if count > limit:
            raise InputError(f"it has more layers than the {tensors} tensors of its file can fill")

    import deepinv.physics  # noqa: F401 (its modules make tensors when they are imported, which must not happen on the meta device)

    hook = register_module_parameter_registration_hook(counted)
    try:
        with torch.device("meta"):
            return build()
    finally:
        hook.remove()

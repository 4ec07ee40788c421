"""Devices by name, as files and the shell say them."""

from __future__ import annotations

import torch

from invsolve.errors import InputError


def usable_device(name: str) -> torch.device:
    """The device, tried with one number.

    Raises:
        InputError: no such device here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device '{name}' cannot be used here: {str(error).splitlines()[0]}") from error
    return device

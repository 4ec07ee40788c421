"""Stored measurements: their hashes, and whether one is still the measurement that is drawn now."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.bench.cells import cell_key
from invsolve.data import tensor_sha256
from invsolve.operator.measurement import Measurement, parts

# Of the largest |y|: how far one drawn again, on another processor or with other threads, may be from the stored one.
ROUNDINGS = 1000


def alike(held: dict[str, Tensor], fresh: dict[str, Tensor]) -> bool:
    """Whether a stored measurement is the one drawn now, up to rounding on another processor; the truth to the bit."""
    if held.keys() != fresh.keys() or not torch.equal(held["truth"], fresh["truth"]):
        return False
    for name, new in fresh.items():
        old = held[name]
        if old.shape != new.shape or old.dtype != new.dtype:
            return False
        if new.numel() and not float((old - new).abs().max()) <= ROUNDINGS * torch.finfo(new.dtype).eps * float(new.abs().max()):
            return False
    return True


def sha256_of(y: Measurement) -> str:
    """Of a measurement; of several parts, of their hashes."""
    hashes = [tensor_sha256(part) for part in parts(y)]
    return hashes[0] if len(hashes) == 1 else cell_key({"parts": hashes})

"""In which floating-point type networks compute: float32, or bfloat16 where the processor multiplies it itself.

A processor without such instructions emulates bfloat16: ten times slower than float32 (measured on one with AVX2 only), for
an answer with fewer digits.
"""

from __future__ import annotations

import logging
from functools import cache

import torch

PRECISIONS = ("float32", "float64", "bfloat16", "auto")
log = logging.getLogger("invsolve")


@cache
def multiplies_bfloat16(kind: str) -> bool:
    """Whether devices of a kind ("cpu", "cuda", ...) have bfloat16 instructions: AVX512-BF16 or AMX, or CUDA's from Ampere on.

    Other kinds are taken not to.
    """
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return False
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def resolved(precision: str, kind: str) -> str:
    """What "auto" means on a kind of device: "bfloat16" where that is the faster one, else "float32"; the others are themselves."""
    if precision == "auto":
        return "bfloat16" if multiplies_bfloat16(kind) else "float32"
    if precision == "bfloat16" and kind == "cpu":
        warn_of_emulation()
    return precision


@cache
def warn_of_emulation() -> None:
    """Say once that bfloat16 was asked for where it is slow."""
    if not multiplies_bfloat16("cpu"):
        log.warning('this processor emulates bfloat16, many times slower than float32; precision="auto" takes the faster one')

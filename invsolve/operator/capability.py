"""What an operator can do, by name."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

Shape = tuple[int, ...]
MAX_VOXELS = 2**29  # of a volume, all channels: 2 GiB in float32
MAX_PIXELS = 89_478_485  # of a picture that is read, and of an image that an operator is made for: its spectrum takes 2 GiB


class Capability(StrEnum):
    """What a solver may ask of an operator; every one is exact."""

    LINEAR = "linear"
    ADJOINT = "adjoint"
    PINV = "pinv"
    SVD = "svd"
    PROX = "prox"
    MASK = "mask"
    DIFFERENTIABLE = "differentiable"


@lru_cache(maxsize=256)  # every adjoint, pinv and prox asks
def closure(traits: frozenset[Capability], overridden: tuple[str, ...]) -> frozenset[Capability]:
    """What an operator can do, from its traits, the methods it has of its own, and what follows exactly from them."""
    found = {*traits, *map(Capability, overridden)}
    if Capability.SVD in found:
        found |= {Capability.LINEAR, Capability.ADJOINT, Capability.PINV, Capability.PROX}
    if Capability.LINEAR in found:
        found |= {Capability.ADJOINT, Capability.DIFFERENTIABLE}
    return frozenset(found)


def listed(capabilities: frozenset[Capability]) -> str:
    """Capabilities by name, sorted."""
    return ", ".join(sorted(capability.value for capability in capabilities)) or "nothing"

"""What an operator can do, by name."""

from __future__ import annotations

from enum import StrEnum

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


def listed(capabilities: frozenset[Capability]) -> str:
    """Capabilities by name, sorted."""
    return ", ".join(sorted(capability.value for capability in capabilities)) or "nothing"

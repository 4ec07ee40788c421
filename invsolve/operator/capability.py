"""What an operator can do, by name."""

from __future__ import annotations

from enum import StrEnum

Shape = tuple[int, ...]


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

"""The operator of this plug-in: y = the image mirrored left to right."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from invsolve import Capability, Operator


class Flip(Operator):
    """Mirror the image left to right: (H x)[..., j] = x[..., W - 1 - j].

    Args:
        in_shape: (C, H, W).
    """

    traits: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR})  # so the adjoint follows, exactly
    output_range = (0.0, 1.0)

    def __init__(self, in_shape: Sequence[int]) -> None:
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)

    def forward(self, x: Tensor) -> Tensor:
        """The mirrored image."""
        return x.flip(-1)

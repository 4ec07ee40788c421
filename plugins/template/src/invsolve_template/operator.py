"""The operator of this plug-in: light that falls off towards the corners of the picture."""

from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve import SVD, InputError, Operator


class Vignette(Operator):
    """Falling light: (H x)[c, i, j] = w[i, j] x[c, i, j] with w = 1 / (1 + strength r^2), r = 0 in the middle and 1 in the corners.

    A diagonal operator: U = V = I and s = w. The SVD brings the adjoint, the pseudo-inverse and the prox.

    Args:
        in_shape: (C, H, W).
        strength: how much darker the corners are: they keep 1 / (1 + strength) of their light; not negative.

    Raises:
        InputError: in_shape is not (C, H, W), or the strength is negative.
    """

    output_range = (0.0, 1.0)  # images in [0, 1] give values in [0, 1]
    weight: Tensor

    def __init__(self, in_shape: Sequence[int], strength: float = 1.0) -> None:
        super().__init__()
        if len(in_shape) != 3:
            raise InputError(f"in_shape must be (channels, height, width); given {tuple(in_shape)}")
        if not 0 <= strength < float("inf"):
            raise InputError(f"strength must be finite and not negative; given {strength}")
        self.in_shape = self.out_shape = tuple(in_shape)
        rows, columns = (torch.linspace(-1, 1, side, dtype=torch.float64) for side in self.in_shape[1:])
        square = (rows[:, None] ** 2 + columns**2) / 2
        # A buffer moves with operator.to(device); `like` gives it in the precision of the data.
        self.register_buffer("weight", (1 / (1 + strength * square)).expand(self.in_shape).clone())

    def forward(self, x: Tensor) -> Tensor:
        """w * x."""
        return self.like("weight", x) * x

    def svd(self) -> SVD:
        """U = V = I and s = w."""
        return SVD(self.weight, U=torch.clone, Ut=torch.clone, V=torch.clone, Vt=torch.clone)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Grey and colour, neither square nor even: what the conformance checks run on."""
        return [cls((1, 8, 8)), cls((3, 5, 7), strength=3.0)]

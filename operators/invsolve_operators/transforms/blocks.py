"""Block compressed sensing: every block of pixels through some rows of one random orthogonal matrix.

With Q an orthogonal matrix of the r^2 pixels of a block and T = I (x) Q over the blocks, y = m * T x keeps the first rows of Q.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Operator, image_shape
from invsolve.rng import Rng
from invsolve_operators.common import divided, from_phases, to_phases
from invsolve_operators.sampled import SampledTransform, checked_count, checked_ratio

LARGEST = 64


class BlockOrthogonal(SampledTransform):
    """y = the first rows of a random orthogonal matrix times each block of pixels, channel by channel.

    y has the shape of the image: coefficient k = row r + column of a block stands at the place of its pixel (row, column), 0 from
    round(ratio r^2) on.

    Args:
        in_shape: (C, H, W).
        ratio: part of the rows that is kept: exactly round(ratio r^2), at least one.
        block: side r of the blocks, at most 64; must divide H and W.
        seed: of the matrix.

    Raises:
        InputError: a block that does not divide both sides or is too large, ratio outside (0, 1].

    References:
        Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model (Wang et al., 2023), arXiv:2212.00490: compressed
        sensing by blocks of 32 x 32. The matrix there is a file; here it is drawn: the orthogonal factor of a Gaussian
        matrix, uniform over the orthogonal group.
    """

    matrix: Tensor

    def __init__(self, in_shape: Sequence[int], ratio: float = 0.25, block: int = 32, seed: int = 0) -> None:
        shape = image_shape(in_shape)
        side = checked_count(block, "block", 1)
        if side > LARGEST:
            raise InputError(f"block must be at most {LARGEST}: its matrix has block^4 entries; given {block}")
        _, rows, columns = divided(shape, side)
        count = max(1, round(checked_ratio(ratio) * side * side))
        mask = (torch.arange(side * side) < count).reshape(side, side).repeat(rows, columns)
        super().__init__(shape, mask)
        self.block = side
        draws = Rng(seed, (0,), purpose="block-orthogonal").normal((side * side, side * side), torch.empty(0, dtype=torch.float64))[0]
        q, r = torch.linalg.qr(draws)
        self.register_buffer("matrix", q * r.diagonal().sign())  # the signs make it uniform

    def transform(self, x: Tensor) -> Tensor:
        """Q on every block."""
        return from_phases(torch.einsum("kp,bcphw->bckhw", self.like("matrix", x), to_phases(x, self.block)), self.block)

    def inverse(self, c: Tensor) -> Tensor:
        """Q^T on every block."""
        return from_phases(torch.einsum("kp,bckhw->bcphw", self.like("matrix", c), to_phases(c, self.block)), self.block)

    def select(self, items: range) -> Operator:
        """One matrix serves every item."""
        return self

    @classmethod
    def examples(cls) -> list[Operator]:
        """Colour, not square, blocks of one pixel, everything kept."""
        return [cls((3, 8, 8), 0.25, 4), cls((1, 6, 9), 0.5, 3, seed=2), cls((2, 3, 2), 1.0, 1), cls((1, 4, 8), 1.0, 2)]

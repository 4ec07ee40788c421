"""The mean of a denoiser's answers to the picture turned and mirrored."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.priors.base import Denoiser, Prior, Wrapping, a_denoiser
from invsolve.priors.gaussian import GaussianPrior

# Of two a half turn, which keeps the picture's shape and brings every side to another one; of four the turns without mirroring.
INDICES = {2: (0, 2), 4: (0, 1, 2, 3), 8: tuple(range(8))}


def turned(x: Tensor, index: int) -> Tensor:
    """One of the eight symmetries of the square: index % 4 quarter turns, then a flip from 4 on."""
    x = torch.rot90(x, index % 4, (-2, -1))
    return x.flip(-1) if index % 8 >= 4 else x


def turned_back(x: Tensor, index: int) -> Tensor:
    """The inverse of `turned`."""
    x = x.flip(-1) if index % 8 >= 4 else x
    return torch.rot90(x, -(index % 4), (-2, -1))


class SelfEnsemble(Wrapping):
    """A denoiser without a place, asked about the picture in several turns.

        D(x, sigma) = mean over g of g^-1 d(g x, sigma),    g of the symmetries of the square

    Where images are as likely turned as not, the best denoiser turns with them; a network only nearly does, and the mean is nearer: its
    error is never above the mean of theirs. The whole group (8) makes it turn exactly. Any shape (..., H, W), sigma in data units.

    Args:
        denoiser: one that is `placeless`; of photographs, not of faces or digits.
        turns: 2 (a half turn), 4 (quarter turns) or 8 (mirrored, too): how many calls of the denoiser one call is.

    Raises:
        InputError: no denoiser, one that knows places, gives draws or goes by the problem, or another number of turns.

    References:
        Seven ways to improve example-based single image super resolution (Timofte, Rothe, Van Gool, 2016), arXiv:1511.02228, section 3.4:
            of enlarged images; denoisers alike.
    """

    def __init__(self, denoiser: Denoiser, turns: int = 8) -> None:
        super().__init__()
        if not isinstance(denoiser, Denoiser):
            raise InputError(f"denoiser must be one of pictures, such as load_prior('natural'); given {type(denoiser).__name__}")
        if turns not in INDICES or not isinstance(turns, int) or isinstance(turns, bool):
            raise InputError(f"turns must be 2, 4 or 8; given {turns!r:.60}")
        if type(denoiser).given is not Denoiser.given:
            raise InputError(
                f"{type(denoiser).__name__} is another one for each problem; put the self-ensemble inside of it, "
                "around the denoiser of pictures"
            )
        if denoiser.few_step:
            raise InputError(
                f"{type(denoiser).__name__} gives draws (`few_step`), whose mean is none; take the denoiser that it was made from"
            )
        if not denoiser.placeless or denoiser.sees_y:
            raise InputError(
                f"{type(denoiser).__name__} does not say that it knows no place (`placeless`): the picture turned is another one to it; "
                "take one of photographs, such as load_prior('natural')"
            )
        self.denoiser, self.turns = denoiser, int(turns)
        self.take_after(denoiser)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0_hat, of x's shape and dtype."""
        answers = [turned_back(self.denoiser(turned(x, index), sigma), index) for index in INDICES[self.turns]]
        return torch.stack(answers).mean(0)

    def select(self, items: Sequence[int]) -> Prior:
        """The same of some items' prior."""
        inner = a_denoiser(self.denoiser.select(items), self.denoiser)
        return self if inner is self.denoiser else SelfEnsemble(inner, self.turns)

    @classmethod
    def examples(cls) -> list[Prior]:
        """The closed form of white images, which turns by itself: the mean of all turns and of two."""
        return [cls(GaussianPrior(0.4, 0.3)), cls(GaussianPrior(0.4, 0.3), 2)]

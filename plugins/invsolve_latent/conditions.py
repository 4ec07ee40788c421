"""What a network of codes looks at besides z_t, in training and in use: an image of few pixels, or a masked image's code and its mask."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from invsolve.errors import InputError
from invsolve.training.pairs import Degraded, Pairs
from invsolve_latent.networks import Autoencoder

# Value of a hole in [0, 1], and of the mask's channel where pixels are (shown, hidden). LDM's own inpainting network has the first line's,
# in [-1, 1] a hole of -1; those after Stable Diffusion the second's, a hole of 0. A network shown the other one's fills badly.
HOLES = {"black": (0.0, (-1.0, 1.0)), "grey": (0.5, (0.0, 1.0))}


@torch.no_grad()
def pooled(condition: Tensor, factor: int) -> Tensor:
    """Means of factor x factor pixels: one for every place of the code, (B, C, h, w)."""
    return functional.avg_pool2d(condition, factor)


@torch.no_grad()
def masked(coder: Autoencoder, image: Tensor, mask: Tensor, hole: str) -> Tensor:
    """[E(image with its hole filled), mask], (B, codes + 1, h, w); of the mask the first pixel of every place.

    Args:
        coder: E.
        image: (B, C, H, W); what the mask hides is not looked at.
        mask: 0 where hidden, (1 or B, 1 or C, H, W).
        hole: a name in HOLES.
    """
    if hole not in HOLES:
        raise InputError(f"hole must be one of {', '.join(HOLES)}; given {hole!r}")
    value, (shown, hidden) = HOLES[hole]
    seen = (mask != 0).amin(-3, keepdim=True).expand(len(image), 1, *image.shape[-2:])
    code = coder.encode(torch.where(seen, image, value))
    channel = torch.where(seen, shown, hidden)[..., :: coder.factor, :: coder.factor].to(code)
    return torch.cat([code, channel], 1)


class CodedPairs(Pairs):
    """(E(x0), the inner pairs' condition at the codes' size).

    Args:
        pairs: of images.
        coder: the autoencoder.
    """

    def __init__(self, pairs: Pairs, coder: Autoencoder) -> None:
        self.pairs, self.coder = pairs, coder

    @torch.no_grad()
    def __call__(self, x0: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The code, and the condition."""
        target, condition = self.pairs(x0, rng)
        return self.coder.encode(target), pooled(condition, self.coder.factor)


class MaskedPairs(Pairs):
    """(E(x0), the masked image's code and the mask), one of the masks for each item.

    Args:
        pairs: of images, whose operators are masks.
        coder: the autoencoder.
        hole: a name in HOLES.

    Raises:
        InputError: operators that are no masks.
    """

    def __init__(self, pairs: Pairs, coder: Autoencoder, hole: str) -> None:
        operators = [one for kind in pairs.kinds for one in kind] if isinstance(pairs, Degraded) else []
        masks = [getattr(one, "mask", None) for one in operators]
        if not masks or not all(isinstance(mask, Tensor) for mask in masks):
            raise InputError("data.hole is for a [condition] whose operators are masks")
        self.masks, self.coder, self.hole = [mask[None] if mask.ndim == 3 else mask for mask in masks if mask is not None], coder, hole

    @torch.no_grad()
    def __call__(self, x0: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The code, and the condition."""
        chosen = rng.integers(len(self.masks), size=len(x0))
        mask = torch.cat([self.masks[index][:, :1] for index in chosen]).to(x0)
        return self.coder.encode(x0), masked(self.coder, x0, mask, self.hole)

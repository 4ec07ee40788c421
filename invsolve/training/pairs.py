"""Training pairs: what a network is to estimate, and what it looks at besides.

    L = E_{pair, n, sigma} w(sigma) f(sigma) mean |D(noised(target, sigma, n), sigma, condition) - target|^2

`noised` is target + sigma n and f is 1 but for `Partial`. A new kind of pair is a class here or in a file of its own, made by a table
of the config (`invsolve.training.conditions`).
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from invsolve.operator import Operator
from invsolve.priors.conditional import MovingNetwork, Unnoised
from invsolve.priors.conditions import image_condition, magnification_value, with_map
from invsolve.priors.moving import Moving
from invsolve.training.loop import Training, psnr_at
from invsolve.training.objectives import paired_losses

if TYPE_CHECKING:
    from invsolve.training.data import Crops


class Pairs(ABC):
    """(x0, rng) -> (target, condition): target (B, C, H, W), condition a tensor whose first axis is the batch.

    Whatever is drawn comes from `rng`, whose state is part of the checkpoint: a run that goes on ends at the same bits.
    """

    @abstractmethod
    def __call__(self, x0: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Target and condition of images x0 (B, C, H, W)."""

    def draw(self, crops: Crops, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Pairs of `count` crops; overridden where the crops bring more than images, such as labels."""
        return self(crops.sample(count, rng), rng)

    def noised(self, target: Tensor, condition: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """What the network sees at the level sigma (B, 1, 1, 1)."""
        del condition
        return target + sigma * noise

    def factors(self, sigma: Tensor) -> Tensor:
        """f(sigma) of each item, (B,)."""
        return torch.ones_like(sigma)

    def top(self, high: float) -> float:
        """The level of x0 + sigma n at which next to nothing is seen of x0; `high` is the highest that is trained on."""
        return high

    def denoiser(self, network: nn.Module) -> nn.Module:
        """The network as (x0 + sigma n, sigma, condition) -> x0_hat."""
        return network

    def fixed(self, x0: Tensor) -> Tensor:
        """A condition of these images that is the same at every call: for validation, pictures and the trial before a run."""
        return self(x0.cpu(), np.random.default_rng(0))[1].to(x0.device)


class Degraded(Pairs):
    """(x0, the measurement of x0 as an image): y = H x0 + s n, one of the operators drawn for each item.

    Args:
        operators: of the crops' shape, each as likely; in the place of one several of its kind, which share its part.
        noise: ends of the range that s is uniform on, in y's units.
        up: how y comes to x0's size, see `priors.conditions.image_condition`.
        fill: whether noise fills the holes of masks.
        told: whether a further channel of the condition tells s: conditioning augmentation, where s is noise that the training adds.

    References:
        Image Super-Resolution via Iterative Refinement (Saharia et al., 2021), arXiv:2104.07636, algorithm 1.
        Palette: Image-to-Image Diffusion Models (Saharia et al., 2022), arXiv:2111.05826.
        Deviation: the error is that of D over all pixels, also where a mask leaves them known.
    """

    def __init__(
        self,
        operators: Sequence[Operator | Sequence[Operator]],
        noise: tuple[float, float] = (0.0, 0.0),
        up: str = "bicubic",
        *,
        fill: bool = True,
        told: bool = False,
    ) -> None:
        self.kinds = [[one] if isinstance(one, Operator) else list(one) for one in operators]
        self.noise, self.up, self.fill, self.told = noise, up, fill, told

    def __call__(self, x0: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """x0 and its measurement."""
        kinds = rng.integers(len(self.kinds), size=len(x0))
        members = rng.integers([len(self.kinds[kind]) for kind in kinds])
        condition = x0.new_empty(len(x0), x0.shape[1] + self.told, *x0.shape[2:])
        for kind, member in dict.fromkeys(zip(kinds.tolist(), members.tolist(), strict=True)):
            rows = torch.from_numpy(np.flatnonzero((kinds == kind) & (members == member)))
            condition[rows] = self._condition(self.kinds[kind][member], x0[rows], rng)
        return x0, condition

    def _condition(self, operator: Operator, x0: Tensor, rng: np.random.Generator) -> Tensor:
        def normal(like: Tensor) -> Tensor:
            return torch.from_numpy(rng.standard_normal(like.shape, dtype=np.float32))

        with torch.no_grad():
            y = operator(x0)
            level = torch.from_numpy(rng.uniform(self.noise[0], self.noise[1], len(x0))).float()
            if self.noise[1] > 0:
                y = y + level.reshape(-1, 1, 1, 1) * normal(y)
            image = image_condition(operator, y, self.up, normal if self.fill else None)
            return with_map(image, level) if self.told else image


class Continuous(Pairs):
    """(x0, fewer pixels of x0 as an image and a map of the magnification): sizes are drawn for each batch, x0's own too.

    Args:
        make: (shape, size) -> the operator that brings images of a shape to a size.
        sides: least and largest side of x0, whose crops have the largest.
        zoom: ends of the magnification, which is log-uniform.
        least: smallest side of the measurement.
        up: see Degraded.

    References:
        Implicit Diffusion Models for Continuous Super-Resolution (Gao et al., 2023), arXiv:2303.16491: sizes drawn for each batch.
        Deviation: a map of the magnification beside the upsampled measurement, in place of features at continuous places.
    """

    def __init__(
        self,
        make: Callable[[tuple[int, int, int], int], Operator],
        sides: tuple[int, int],
        zoom: tuple[float, float],
        least: int,
        up: str = "bicubic",
    ) -> None:
        self.make, self.sides, self.zoom, self.least, self.up = functools.cache(make), sides, zoom, least, up

    def draw(self, crops: Crops, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Crops brought to a drawn side."""
        x0, side = crops.sample(count, rng), int(rng.integers(self.sides[0], self.sides[1] + 1))
        return self(x0 if side == x0.shape[-1] else self.make((x0.shape[1], *x0.shape[2:]), side)(x0).clamp(0, 1), rng)

    def __call__(self, x0: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """x0 and its smaller self, at a drawn magnification."""
        channels, height, width = x0.shape[1:]
        factor = math.exp(rng.uniform(math.log(self.zoom[0]), math.log(self.zoom[1])))
        size = max(self.least, round(height / factor))
        operator = self.make((channels, height, width), size)
        with torch.no_grad():
            image = image_condition(operator, operator(x0), self.up)
        return x0, with_map(image, magnification_value(height / size))


class Partial(Pairs):
    """Pairs whose noised image moves from x0 to the condition as sigma rises: see `priors.moving.Moving`.

        noised = w x0 + (1 - w) condition + sigma n,   w = Moving.share(sigma)

    The network estimates x0 in both alignments. "paper" measures the error of the moving image w x0 + (1 - w) condition, which is
    w^2 times that of x0; "exact" that of x0 itself.

    References:
        PartDiff: Image Super-resolution with Partial Diffusion Models (Zhao et al., 2023), arXiv:2307.11926.
        Deviation: the paper's network estimates the noise, from which x0 cannot be told at t = K, where w = 0.
    """

    def __init__(self, pairs: Pairs, moving: Moving, align: str = "exact") -> None:
        self.pairs, self.moving, self.align = pairs, moving, align

    def __call__(self, x0: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Those of the inner pairs."""
        return self.pairs(x0, rng)

    def noised(self, target: Tensor, condition: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """The moving image with noise."""
        return self.moving.between(target, condition[:, : target.shape[1]], sigma) + sigma * noise

    def denoiser(self, network: nn.Module) -> nn.Module:
        """See `MovingNetwork`."""
        return MovingNetwork(network, self.moving)

    def factors(self, sigma: Tensor) -> Tensor:
        """w^2 or 1."""
        return self.moving.share(sigma) ** 2 if self.align == "paper" else torch.ones_like(sigma)

    def top(self, high: float) -> float:
        """That of the step before the last, as a level of x0."""
        return self.moving.outer()[-1]


class Regression(Pairs):
    """Pairs for a network without diffusion: it sees a grey image in place of x_t, and learns E[x0 | condition].

    References:
        Image Super-Resolution via Iterative Refinement (Saharia et al., 2021), arXiv:2104.07636, section 4: the regression baseline.
    """

    def __init__(self, pairs: Pairs, level: float) -> None:
        self.pairs, self.level = pairs, level

    def __call__(self, x0: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Those of the inner pairs."""
        return self.pairs(x0, rng)

    def noised(self, target: Tensor, condition: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        """1/2 everywhere."""
        return torch.full_like(target, 0.5)

    def denoiser(self, network: nn.Module) -> nn.Module:
        """See `Unnoised`."""
        return Unnoised(network, self.level)


class Bound(nn.Module):
    """A conditional network as a map (x, sigma) of a few images: the condition of the first ones is put in, in turn for more.

    Args:
        network: (x, sigma, condition), as it is trained.
        pairs: what makes the condition.
        images: (N, C, H, W).
    """

    def __init__(self, network: nn.Module, pairs: Pairs, images: Tensor) -> None:
        super().__init__()
        self.network, self.condition = pairs.denoiser(network), pairs.fixed(images)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D(x, sigma, condition)."""
        rows = torch.arange(len(x), device=self.condition.device) % len(self.condition)
        return self.network(x, sigma, self.condition[rows].to(x.device))


class PairTraining(Training):
    """A run of a network (x, sigma, condition).

    Args:
        arguments: those of `Training`.
        pairs: what is estimated of crops, and what is looked at.
        options: those of `Training`.
    """

    def __init__(self, *arguments: Any, pairs: Pairs, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.pairs = pairs

    def _sample(self) -> tuple[Tensor, Tensor]:
        return self.pairs.draw(self.crops, self.recipe.batch, self.rng)

    def _losses(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, float]:
        target, condition = batch[0], batch[1].to(self.device)

        def losses(x0: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
            return paired_losses(self.model, self.pairs, (x0, condition), sigma, noise, self.recipe.s0, self.recipe.target)

        return self._weighed(target, losses)

    def _grey_loss(self, network: nn.Module, grey: Tensor) -> float:
        return super()._grey_loss(Bound(network, self.pairs, grey), grey)

    def _measures(self) -> dict[str, float]:
        """Beside the PSNR at the levels that of the estimate at the highest one, where x_t says nothing."""
        if self.validation is None:
            return {}
        network, high = Bound(self.ema, self.pairs, self.validation), self.pairs.top(self.recipe.sigmas.high)
        levels = {f"psnr{one:g}": one / 255 for one in self.recipe.levels if one / 255 <= high} | {"psnr_top": high}
        return {name: round(psnr_at(network, self.validation, sigma, bf16=self.bf16), 3) for name, sigma in levels.items()}

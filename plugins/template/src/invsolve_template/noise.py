"""The noise model of this plug-in: heavy tails, so that a few entries of y are far off."""

import math

import torch
from torch import Tensor

from invsolve import InputError, NoiseModel, Rng
from invsolve.operator.measurement import Measurement, flat, mapped, minus, parts


class LaplaceNoise(NoiseModel):
    """y = clean + n with p(n) = exp(-|n| / b) / (2 b), b = sigma / sqrt(2); nll = sum |y - clean| / b.

    `sample` draws it. The other two are abilities: `nll` serves solvers that minimise an objective, `sigma` those that take the noise
    for Gaussian of that width. With a sigma there are a variance and `scaled` too.

    Args:
        sigma: standard deviation in data units ([0, 1] images), one number for all items.

    Raises:
        InputError: a sigma that is not positive and finite, or complex data.
    """

    sigma: Tensor

    def __init__(self, sigma: float = 0.05) -> None:
        super().__init__()
        if not 0 < float(sigma) < float("inf"):
            raise InputError(f"sigma must be a number above 0; given {sigma}")
        self.register_buffer("sigma", torch.tensor(float(sigma), dtype=torch.float64))

    @property
    def width(self) -> float:
        """b."""
        return float(self.sigma) / math.sqrt(2)

    def sample(self, clean: Measurement, rng: Rng) -> Measurement:
        """By the inverse of the distribution function, -b sign(u) log(1 - 2 |u|), u uniform on [-1/2, 1/2)."""
        if any(part.is_complex() for part in parts(clean)):
            raise InputError("Laplace noise is of real data; of complex y take GaussianNoise")
        return mapped(lambda part: self._noisy(part, rng.uniform(part.shape[1:], part) - 0.5), clean)

    def _noisy(self, clean: Tensor, u: Tensor) -> Tensor:
        # u = -1/2 is drawn once in 2^24: its logarithm must be finite.
        return clean - self.width * u.sign() * (1 - 2 * u.abs()).clamp_min(1e-12).log()

    def nll(self, y: Measurement, clean: Measurement) -> Tensor:
        """sum |y - clean| / b, (B,)."""
        return flat(minus(y, clean)).abs().sum(1) / self.width

    @classmethod
    def examples(cls) -> list[NoiseModel]:
        """What the conformance checks run on: about a tenth of the range of images."""
        return [cls(0.1)]

"""Subjects that set global state to a constant, that lie in what they declare, or that are right at small sizes only."""

import random
from dataclasses import dataclass

import numpy as np
import planted_faults_solvers as solvers
import torch
from planted_faults import LINEAR, SHAPE, LinearOnly, Sound

from invsolve import Capability, Operator
from invsolve.noise import NoiseModel
from invsolve.operator.measurement import mapped
from invsolve.priors.base import Denoiser, Regulariser
from invsolve.priors.gaussian import GaussianPrior

# What people write, each as a constant: whoever looks twice finds what the first call has left.
CONSTANTS = {
    "torch's global generator": lambda: torch.manual_seed(0),
    "numpy's global generator": lambda: np.random.seed(0),
    "Python's global generator": lambda: random.seed(0),
    "the default dtype": lambda: torch.set_default_dtype(torch.float64),
    "the default dtype ": lambda: torch.set_default_dtype(torch.float32),
    "the number of threads": lambda: torch.set_num_threads(1),
    "the gradient mode": lambda: torch.set_grad_enabled(False),
    "the gradient mode ": lambda: torch.set_grad_enabled(True),
    "the choice of deterministic algorithms": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "the precision of float32 products": lambda: torch.set_float32_matmul_precision("medium"),
    "numpy's error handling": lambda: np.seterr(all="ignore"),
}


class Setting(LinearOnly):
    """y = 2 x, and a piece of global state set."""

    constant = staticmethod(CONSTANTS["torch's global generator"])

    def forward(self, x):
        self.constant()
        return 2 * x

    def adjoint(self, y):
        return 2 * y


class SettingDenoiser(Denoiser):
    """The closed form for N(1/2, 1/16), and a piece of global state set."""

    constant = staticmethod(CONSTANTS["torch's global generator"])

    def forward(self, x, sigma):
        self.constant()
        return GaussianPrior(0.5, 0.25)(x, sigma)


class SettingRegulariser(Regulariser):
    """|x|^2 / 2, and a piece of global state set."""

    constant = staticmethod(CONSTANTS["torch's global generator"])

    def value(self, x):
        self.constant()
        return x.flatten(1).square().sum(1) / 2


class SettingNoise(NoiseModel):
    """Gaussian, and a piece of global state set."""

    constant = staticmethod(CONSTANTS["torch's global generator"])

    def sample(self, clean, rng):
        self.constant()
        return mapped(lambda part: part + 0.1 * rng.normal_like(part), clean)


@dataclass(frozen=True)
class SettingSolver(solvers.Sound):
    """Sound, and a piece of global state set in every step."""

    steps: int = 8

    def fresh(self, problem, rng):
        type(self).constant()
        return super().fresh(problem, rng)


SettingSolver.constant = staticmethod(CONSTANTS["torch's global generator"])


class SaysComplex(Sound):
    """complex_output where y is real."""

    complex_output = True


class SaysReal(Operator):
    """A Fourier transform that does not say that y is complex."""

    traits = LINEAR

    def __init__(self, in_shape=SHAPE):
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)

    def forward(self, x):
        return torch.fft.fft2(x, norm="ortho")


class MixesChannels(LinearOnly):
    """channelwise, with a channel that leaks into the other."""

    channelwise = True

    def forward(self, x):
        return x + 0.1 * x.flip(1)


class ChannelsDiffer(LinearOnly):
    """channelwise, with a gain per channel."""

    channelwise = True

    def forward(self, x):
        return x * torch.arange(1, x.shape[1] + 1, dtype=x.dtype, device=x.device).reshape(-1, 1, 1)


class MixesPixels(LinearOnly):
    """pointwise, with a pixel that leaks into its mirror image."""

    pointwise = True

    def forward(self, x):
        return x + 0.1 * x.flip(2, 3)


class PixelsDiffer(LinearOnly):
    """pointwise, with a gain per row."""

    pointwise = True

    def forward(self, x):
        return x * torch.arange(1, x.shape[2] + 1, dtype=x.dtype, device=x.device).reshape(-1, 1)


class TwiceFromWidth32(LinearOnly):
    """A factor 2 from width 32 on, with an adjoint that has none."""

    def forward(self, x):
        return 2 * x if x.shape[-1] >= 32 else x.clone()

    def adjoint(self, y):
        return y.clone()


class LastTileForgotten(LinearOnly):
    """A loop over tiles of 8 that stops after the fourth."""

    traits = frozenset({Capability.LINEAR})

    def forward(self, x):
        out = torch.zeros_like(x)
        for first in range(0, 32, 8):
            out[..., first : first + 8] = 2 * x[..., first : first + 8]
        return out

    def adjoint(self, y):
        return 2 * y


class TakesDefaultDtype(LinearOnly):
    """A factor in torch's default dtype: 0.3 to 8 digits or to 16, as the process has it."""

    def forward(self, x):
        return x * torch.tensor([0.3]).to(x)

    def adjoint(self, y):
        return y * torch.tensor([0.3]).to(y)


class MadeInDefaultDtype(Sound):
    """A buffer that is rounded as the process had it when it was made."""

    def __init__(self, in_shape=SHAPE):
        super().__init__(in_shape)
        self.gain = self.gain.to(torch.get_default_dtype()).double()

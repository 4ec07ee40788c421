"""DDPM: unconditional ancestral sampling from a diffusion prior."""

from __future__ import annotations

from dataclasses import dataclass, field

from invsolve.solvers.diffusion.ddim import DDIM


@dataclass(frozen=True)
class DDPM(DDIM):
    """Draw from the prior by ancestral steps: the generic step with eta = 1.

        x_s = x0_hat + sigma_s (sqrt(1 - r) eps_hat + sqrt(r) z),   r = 1 - sigma_s^2 / sigma_t^2

    Its noise is the posterior's, beta-tilde, also where steps are skipped.

    Args:
        steps: network evaluations.
        grid: name of the sigma grid; a DiffusionPrior brings its own levels.
        sigma_max: first noise level in data units; None for the top of the prior's range.

    References:
        Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv:2006.11239, algorithm 2 with variance beta-tilde.
        Deviation: in VE form on [0, 1] data, which is the same map in other variables.
    """

    steps: int = 200
    eta: float = field(default=1.0, init=False, repr=False)

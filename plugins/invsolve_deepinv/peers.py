"""deepinv's own methods as solvers of a suite: the same operator (as deepinv's physics), the same y, the same network, their settings.

They are compared with and not offered: `invsolve list solver` leaves them out, and they are held to none of our solvers' promises. An
item is solved by itself, with a seed of its own, so that its row does not depend on the batch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import deepinv
import numpy as np
import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.noise import GaussianNoise, sigma_of
from invsolve.operator import Capability
from invsolve.operator.measurement import parts
from invsolve.priors.base import Denoiser, Prior
from invsolve.problem import Problem
from invsolve.rng import Rng, derive
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.testing.world import World, kept
from invsolve_deepinv.views import to_deepinv


class Network(deepinv.models.Denoiser):
    """A prior by deepinv's call: x in [0, 1], sigma in the same unit."""

    def __init__(self, prior: Denoiser) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """D(x, sigma)."""
        level = sigma.reshape(-1).to(x.dtype) if isinstance(sigma, Tensor) else float(sigma)
        return self.prior(x, level)


@dataclass(frozen=True)
class Peer(Solver):
    """A method of deepinv 0.5.0, which is told H, y, the network and the noise's level; a subclass writes `restored`."""

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.LINEAR, Capability.ADJOINT}))
    gradient: ClassVar[bool] = False
    silent: ClassVar[bool] = True

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """Several measurements, or levels of noise that differ from item to item."""
        several = ["deepinv's methods take one measurement, no stack of them"] if isinstance(problem.y, tuple) else []
        return several + (["the noise differs from item to item"] if problem.noise.batch not in (None, 1) else [])

    def iterate(self, problem: Problem, prior: Any, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """One step: what deepinv answers."""
        if start is not None:
            raise InputError("deepinv's methods begin where they begin; leave out x_init and start")
        y = parts(problem.y)[0]
        sigma, found = float(sigma_of(problem.noise, y)), []
        with kept(), torch.set_grad_enabled(self.gradient):
            for index, item in enumerate(problem.items):
                seed = derive(rng.seed, "deepinv", rng.sample, item) % 2**31
                World(seed, torch.float32).place()  # deepinv draws some of its numbers from torch's global generator
                physics = to_deepinv(problem.operator, GaussianNoise(sigma))
                found.append(self.restored(Network(prior), physics, y[index : index + 1].clone(), sigma, seed).detach())
        x = torch.cat(found).to(problem.image.dtype)
        yield Step(0, 1, x, x)

    @abstractmethod
    def restored(self, network: Network, physics: Any, y: Tensor, sigma: float, seed: int) -> Tensor:
        """deepinv's answer for one item."""


@dataclass(frozen=True)
class PeerDPS(Peer):
    """deepinv.sampling.DPS: its DDPM sampler with a gradient through the network.

    Args:
        steps: of the sampler.
        guidance: "norm" (its default) or "annealed".

    References:
        Diffusion Posterior Sampling (Chung et al., 2022), arXiv:2209.14687, as deepinv has it.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.LINEAR, Capability.ADJOINT}), gradient=True)
    gradient: ClassVar[bool] = True
    steps: int = 1000
    guidance: str = "norm"

    def restored(self, network: Network, physics: Any, y: Tensor, sigma: float, seed: int) -> Tensor:
        """steps + 1 times, as the last one evaluates nothing."""
        draws = torch.Generator().manual_seed(seed)
        made = deepinv.sampling.DPS(network, num_steps=self.steps + 1, guidance=self.guidance, dtype=torch.float32, rng=draws)
        return made(y, physics, x_init=(len(y), *physics.img_size), seed=seed)


@dataclass(frozen=True)
class PeerDiffPIR(Peer):
    """deepinv.sampling.DiffPIR, told the noise's level; from the pseudoinverse where y is no image, which it needs there.

    Args:
        steps: evaluations.
        zeta, weight: its zeta and lambda_.

    References:
        Denoising Diffusion Models for Plug-and-Play Image Restoration (Zhu et al., 2023), arXiv:2305.08995, as deepinv has it.
    """

    steps: int = 100
    zeta: float = 0.1
    weight: float = 7.0

    def restored(self, network: Network, physics: Any, y: Tensor, sigma: float, seed: int) -> Tensor:
        """Its answer."""
        fidelity = deepinv.optim.data_fidelity.L2()
        made = deepinv.sampling.DiffPIR(network, fidelity, sigma=sigma, max_iter=self.steps, zeta=self.zeta, lambda_=self.weight)
        same = y.shape[1:] == torch.Size(physics.img_size)
        return made(y, physics, seed=seed, x_init=None if same else physics.A_dagger(y))


@dataclass(frozen=True)
class PeerDDRM(Peer):
    """deepinv.sampling.DDRM.

    Args:
        steps: levels.
        levels: "theirs", evenly from 1 to 0, or "prior", geometric from the prior's own highest.

    Raises:
        InputError: other levels.

    References:
        Denoising Diffusion Restoration Models (Kawar et al., 2022), arXiv:2201.11793, as deepinv has it.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.SVD}))
    steps: int = 100
    levels: str = "theirs"

    def __post_init__(self) -> None:
        if self.levels not in ("theirs", "prior"):
            raise InputError(f"levels must be 'theirs' or 'prior'; given {self.levels!r}")

    def restored(self, network: Network, physics: Any, y: Tensor, sigma: float, seed: int) -> Tensor:
        """Its answer; its mask must have a value for each channel."""
        if hasattr(physics, "mask"):
            physics.mask = physics.mask.expand(1, *physics.U_adjoint(y).shape[1:]).clone()
        own = np.linspace(1, 0, self.steps) if self.levels == "theirs" else np.array(network.prior.sigmas(self.steps)[:-1])
        return deepinv.sampling.DDRM(network, sigmas=own)(y, physics, seed=seed)


@dataclass(frozen=True)
class PeerDPIR(Peer):
    """deepinv.optim.DPIR: eight half-quadratic steps, told the noise's level.

    References:
        Plug-and-Play Image Restoration with Deep Denoiser Prior (Zhang et al., 2021), arXiv:2008.13751, as deepinv has it.
    """

    def restored(self, network: Network, physics: Any, y: Tensor, sigma: float, seed: int) -> Tensor:
        """Its answer."""
        return deepinv.optim.DPIR(sigma=sigma, denoiser=network)(y, physics)


@dataclass(frozen=True)
class PeerADMM(Peer):
    """deepinv.optim.ADMM with its plug-and-play prior; deepinv leaves its two numbers to the user.

    Args:
        steps: iterations, its default.
        stepsize: its default.
        denoiser_sigma: the level that the network is told, in [0, 1] units; None for the noise's own level, and at least .01.

    References:
        Plug-and-Play Priors for Model Based Reconstruction (Venkatakrishnan et al., 2013), as deepinv has it.
    """

    steps: int = 100
    stepsize: float = 1.0
    denoiser_sigma: float | None = None

    def restored(self, network: Network, physics: Any, y: Tensor, sigma: float, seed: int) -> Tensor:
        """Its answer."""
        level = max(sigma, 0.01) if self.denoiser_sigma is None else self.denoiser_sigma
        made = deepinv.optim.ADMM(
            data_fidelity=deepinv.optim.data_fidelity.L2(),
            prior=deepinv.optim.prior.PnP(denoiser=network),
            stepsize=self.stepsize,
            sigma_denoiser=level,
            max_iter=self.steps,
            early_stop=True,
        )
        return made(y, physics)

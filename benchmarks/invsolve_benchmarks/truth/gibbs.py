"""Posterior draws of a Levy process under y = A x0 + n by Gibbs sampling with latent variances, many chains at once.

x0 = 1/2 + S w, S the sums, w the start and the increments, w_k | tau_k ~ N(0, tau_k):  the chain goes round
    (jumps) given the variances they would have, w integrated out;   w | tau, y, a Gaussian;   tau | w, independent
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.rng import Rng
from invsolve_benchmarks.truth.increments import BernoulliLaplace, normal, uniform
from invsolve_benchmarks.truth.priors import LevyPrior


@dataclass(frozen=True)
class Gibbs:
    """The sampler of one problem.

    Args:
        prior: the process.
        matrix: A, (m, n).
        sigma: noise level.
        burn: sweeps thrown away.
        thin: sweeps between two that are kept.
    """

    prior: LevyPrior
    matrix: Tensor
    sigma: float
    burn: int = 100
    thin: int = 5

    def draws(self, y: Tensor, chains: int, kept: int, seed: int) -> Tensor:
        """(D, chains, kept, n) draws for y (D, m): chains start at draws of the prior and are independent of each other."""
        law, size = self.prior.law, self.matrix.shape[1]
        sums = torch.ones(size, size, dtype=torch.float64).tril()
        design, rng = self.matrix @ sums, Rng(seed, [0], purpose="gibbs")
        residual = (y - 0.5 * self.matrix.sum(1)).repeat_interleave(chains, 0)
        tau = law.variances(rng, torch.zeros(len(residual), size, dtype=torch.float64))
        scales, found = tau.clone(), []
        for sweep in range(self.burn + self.thin * kept):
            tau[:, 0] = self.prior.start**2
            if isinstance(law, BernoulliLaplace):
                tau = self._switches(law, design, residual, scales, tau, rng)
            w = self._signal(design, residual, tau, rng)
            scales = law.conditional(w, rng)
            tau = scales * (tau > 0) if isinstance(law, BernoulliLaplace) else scales.clone()
            if sweep >= self.burn and (sweep - self.burn) % self.thin == 0:
                found.append(0.5 + w @ sums.T)
        return torch.stack(found, 1).reshape(len(y), chains, kept, size)

    def _signal(self, design: Tensor, residual: Tensor, tau: Tensor, rng: Rng) -> Tensor:
        """w | tau, y by perturbing and solving: w0 + T A' (A T A' + sigma^2)^-1 (r - A w0 - e); exact where tau is 0."""
        w = tau.sqrt() * normal(rng, tau)
        missing = residual - w @ design.T - self.sigma * normal(rng, residual)
        weighted = tau[:, :, None] * design.T
        return w + (weighted @ torch.linalg.solve(self._spread(design, weighted), missing[:, :, None]))[:, :, 0]

    def _spread(self, design: Tensor, weighted: Tensor) -> Tensor:
        return design @ weighted + self.sigma**2 * torch.eye(len(design), dtype=torch.float64)

    def _switches(self, law: BernoulliLaplace, design: Tensor, residual: Tensor, scales: Tensor, tau: Tensor, rng: Rng) -> Tensor:
        """tau_k = scales_k or 0, one k after the other, by the odds that y gives a jump: M = A T A' + sigma^2 is kept by rank-one updates.

        log odds = log(p / (1 - p)) - log(1 + t s) / 2 + t q^2 / (2 (1 + t s)),   s = a' M_k^-1 a, q = a' M_k^-1 r, t = scales_k, without k
        """
        tau, prior_odds = tau.clone(), math.log(law.p / (1 - law.p))
        inverse = torch.linalg.inv(self._spread(design, tau[:, :, None] * design.T))
        chance = uniform(rng, tau)
        for k in range(1, tau.shape[1]):
            column, scale, on = design[:, k], scales[:, k], tau[:, k]
            p = inverse @ column
            s, q = p @ column, (p * residual).sum(1)
            without = 1 - on * s  # of M with k taken out; 1 where it was out
            s, q = s / without, q / without
            odds = prior_odds - 0.5 * (scale * s).log1p() + 0.5 * scale * q.square() / (1 + scale * s)
            new = torch.where(chance[:, k].logit() < odds, scale, 0.0)
            change = new - on
            inverse = inverse - (change / (1 + change * (p @ column)))[:, None, None] * p[:, :, None] * p[:, None, :]
            tau[:, k] = new
        return tau

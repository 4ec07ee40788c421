"""What the guided samplers share: the network's Jacobian, the one place where guidance enters, and the walk down the levels.

With D = E[x0 | x_t], sigma the level and g an approximation of grad_{x_t} log p(y | x_t), Tweedie's formula for p(x_t | y) is

    D^y = E[x0 | x_t, y] = D + sigma^2 g

and the generic step is taken from D^y in place of D. In VP variables the same insertion changes x0_hat and eps_hat both.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from invsolve.operator.measurement import Measurement, parts
from invsolve.priors.base import Denoiser
from invsolve.priors.meter import network_time
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solvers.diffusion.common import Restorer, clipped, generic_step, initial, proximal
from invsolve.solvers.ranges import need_between

Product = Callable[[Tensor], Tensor]


def guided(x0_hat: Tensor, gradient: Tensor, sigma: float) -> Tensor:
    """D^y = D + sigma^2 g."""
    return x0_hat + sigma**2 * gradient


def linearised(prior: Denoiser, x: Tensor, sigma: float) -> tuple[Tensor, Product]:
    """(x0_hat, v -> J^T v), J = dD / dx at x item by item, both without a graph.

    x0_hat is clipped to the prior's interval, J is that of the network: the clipped one's is 0 where a pixel is saturated, which would
    say that x0 is known there.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        estimate = prior(x, sigma)

    def pulled(v: Tensor) -> Tensor:
        with network_time():
            (product,) = torch.autograd.grad(estimate, x, v, retain_graph=True)
        return product

    return clipped(prior, estimate.detach()), pulled


def rows_of(y: Measurement) -> Tensor:
    """A measurement as real rows (B, m): a tuple's parts one after the other, a complex number as two entries."""
    return torch.cat([(torch.view_as_real(part.resolve_conj()) if part.is_complex() else part).flatten(1) for part in parts(y)], 1)


def from_rows(rows: Tensor, like: Measurement) -> Measurement:
    """The inverse of `rows_of`, as `like` is."""
    found, first = [], 0
    for part in parts(like):
        size = part[0].numel() * (2 if part.is_complex() else 1)
        piece = rows[:, first : first + size]
        first += size
        found.append(torch.view_as_complex(piece.reshape(*part.shape, 2).contiguous()) if part.is_complex() else piece.reshape(part.shape))
    return tuple(found) if isinstance(like, tuple) else found[0]


class Guided(Restorer):
    """A sampler that is its `given_y`, the approximation of E[x0 | x_t, y]: a subclass has the field eta besides those of a Restorer.

    It starts at argmin_x |y - Hx|^2 / sigma_y^2 + |x - centre|^2 / s0^2, the prior's own two numbers, plus sigma_max z, where H is linear.
    """

    eta: float

    def __post_init__(self) -> None:
        need_between(self, "eta", 0, 1, ends="[]")

    @abstractmethod
    def given_y(self, problem: Problem, prior: Denoiser, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """(D, D^y): the estimates of x0 given x_t alone, and given y too."""

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        first, x = initial(problem, prior, rng, sigmas[0], start, proximal(problem))
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0_hat, x0_given = self.given_y(problem, prior, x, sigma)
            x = generic_step(x, x0_given, sigma, following, self.eta, rng)
            yield Step(index, total, x, x0_hat, following)

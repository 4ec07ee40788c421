"""Priors whose network was trained with the measurement as a condition: D(x, sigma, c) = E[x0 | x0 + sigma n = x, c]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.operator.measurement import column
from invsolve.priors.base import Denoiser, Prior
from invsolve.priors.convert import NetworkDenoiser
from invsolve.priors.moving import Moving

if TYPE_CHECKING:
    from invsolve.priors.made_for import MadeFor
    from invsolve.problem import Problem


class ConditionalPrior(NetworkDenoiser):
    """A network (x, sigma, condition) -> x0_hat with what it was made for: its samplers draw from p(x | y), and take nothing else from y.

        D(x, sigma) = network(x, sigma, c),   c = condition of the problem's y

    Any sampler of a prior (ddpm, ddim, heun, dpm-solver) then is the solver, as the prior has looked at y. Without a problem the network
    is given what H makes of the noisy image itself.

    Args:
        network: x (B, C, H, W) in [0, 1], sigma (B,) in their units, condition (B, C, H, W).
        made_for: operators, noise and size; a problem of others is refused.
        moving: for a network of PartDiff's moving image (`priors.moving`): it is made one of x0.
        options: those of NetworkDenoiser: sigma_range, clip, s0, centre, precision, channels_last.

    Raises:
        InputError: see NetworkDenoiser.

    References:
        Image Super-Resolution via Iterative Refinement (Saharia et al., 2021), arXiv:2104.07636. Deviation: continuous noise levels in VE
        form, and any sampler in place of 100 to 2000 ancestral steps.
    """

    sees_y = True

    def __init__(self, network: nn.Module, made_for: MadeFor, *, moving: Moving | None = None, **options: Any) -> None:
        options = {"channels": made_for.shape[0], **options}
        super().__init__(network if moving is None else MovingNetwork(network, moving), **options)  # pyright: ignore[reportArgumentType]
        self.made_for, self.moving, self.options = made_for, moving, options
        self.in_shape = None if made_for.any_size else made_for.shape

    def gaps(self, problem: Problem) -> list[str]:
        """Another operator, noise or size than the network was trained for, and what that was."""
        return [f"prior {type(self).__name__} does not serve {gap}" for gap in self.made_for.gaps(problem)]

    def given(self, problem: Problem) -> Denoiser:
        """The network with the problem's y put in."""
        return Conditioned(self, self.made_for.condition(problem))

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0_hat where what H makes of x itself is the condition."""
        return self.given(self.made_for.example(x.detach()))(x, sigma)

    def example_problem(self, x: Tensor) -> Problem | None:
        """One that the network was made for."""
        return self.made_for.example(x)

    @classmethod
    def examples(cls) -> list[Prior]:
        """Gaussian pairs in closed form, whose noised image is that of x0 and the moving one."""
        from invsolve.priors.pairs import GaussianPairsPrior

        return GaussianPairsPrior.examples()


class Conditioned(NetworkDenoiser):
    """A conditional network with the conditions of some items put in.

    Args:
        prior: the network, and how it is called.
        condition: (B, Cc, H, W), or whatever has a row per item.
    """

    condition: Tensor
    sees_y = True

    def __init__(self, prior: ConditionalPrior, condition: Tensor) -> None:
        super().__init__(WithCondition(prior.net, condition), **prior.options)  # pyright: ignore[reportArgumentType]
        self.take_after(prior)
        self.batch = len(condition)
        self.prior, self.moving = [prior], prior.moving  # in a list: its weights are the network's own, counted once

    @property
    def image(self) -> Tensor:
        """The condition's image, (B, C, H, W): its first channels."""
        return self.net.condition[:, : self.channels]  # pyright: ignore[reportAttributeAccessIssue, reportIndexIssue, reportCallIssue]

    def select(self, items: Sequence[int]) -> Prior:
        """The conditions of some items."""
        return Conditioned(self.prior[0], self.net.condition[list(items)])  # pyright: ignore[reportAttributeAccessIssue, reportIndexIssue, reportCallIssue]


class WithCondition(nn.Module):
    """(x, sigma) -> network(x, sigma, condition)."""

    condition: Tensor

    def __init__(self, network: nn.Module, condition: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("condition", condition)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x0_hat; a condition of one row serves every item."""
        condition = self.condition.to(x) if self.condition.is_floating_point() else self.condition
        if len(condition) not in (1, len(x)):
            raise InputError(f"conditions for {len(condition)} items, images of {len(x)}")
        return self.network(x, sigma, condition.expand(len(x), *condition.shape[1:]))


class MovingNetwork(nn.Module):
    """A network of PartDiff's moving image as one of x0: x0 + s n, brought to where the moving image has the level s.

        D(x, s, c) = network(w x + (1 - w) c, sigma, c),   sigma / w(sigma) = s

    Args:
        network: (w x0 + (1 - w) c + sigma n, sigma, c) -> x0_hat.
        moving: w(sigma).
    """

    def __init__(self, network: nn.Module, moving: Moving) -> None:
        super().__init__()
        self.network, self.moving = network, moving

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """x0_hat."""
        inner = self.moving.inner(sigma.double())  # near the last step w is a small difference
        w = column(self.moving.share(inner), x)
        return self.network(w * x + (1 - w) * condition[:, : x.shape[1]], inner.to(sigma), condition)


class Unnoised(nn.Module):
    """A regression network, which takes no noised image, as a denoiser: D(x, sigma, c) = network(1/2, top, c) = E[x0 | c] at every level.

    Args:
        network: (x, sigma, condition).
        top: the level it is called with.
    """

    def __init__(self, network: nn.Module, top: float) -> None:
        super().__init__()
        self.network, self.top = network, top

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """x0_hat; neither x nor sigma changes it."""
        return self.network(torch.full_like(x, 0.5), torch.full_like(sigma, self.top), condition)

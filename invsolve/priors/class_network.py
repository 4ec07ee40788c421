"""A network that is told a class, as a prior conditional on labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.priors.base import Denoiser, Prior
from invsolve.priors.classes import ByClass, a_label
from invsolve.priors.conditional import WithCondition
from invsolve.priors.convert import NetworkDenoiser
from invsolve.unit import whole


class ClassPrior(ByClass):
    """A network (x, sigma, labels) -> x0_hat that was trained with and without its labels, by `problem.context["label"]`.

        D(x, sigma) = network(x, sigma, c),   c from 0 to classes - 1, or classes for none

    Without a problem, and as `unconditional()`, it is the network without a label. `Guided(prior, scale)` leads it further.

    Args:
        network: x (B, C, H, W), sigma (B,), labels (B,), int64; put into evaluation mode and frozen, itself.
        classes: how many there are.
        label: of all items; None for those of the context.
        options: those of NetworkDenoiser: sigma_range, clip, s0, centre, channels, precision, channels_last.

    Raises:
        InputError: a label that does not exist; see NetworkDenoiser.

    References:
        Classifier-Free Diffusion Guidance (Ho, Salimans, 2022), arXiv:2207.12598: one network for both.
    """

    def __init__(self, network: nn.Module, classes: int, label: int | None = None, **options: Any) -> None:
        super().__init__()
        self.classes = whole("classes", classes, 100_000)
        self.label, self.options = a_label(label, self.classes), options
        self.whole = NetworkDenoiser(WithCondition(network, torch.tensor([self.classes])), **options)
        self.take_after(self.whole)

    @property
    def network(self) -> nn.Module:
        """As it was given."""
        return self.whole.net.network  # pyright: ignore[reportFunctionMemberAccess, reportReturnType]

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The estimate without a label."""
        return self.whole(x, sigma)

    def of(self, labels: Tensor) -> Denoiser:
        """The network with a label for each item."""
        return OfLabels(self, labels)

    def unconditional(self) -> Denoiser:
        """The network without a label."""
        return self.whole


class OfLabels(NetworkDenoiser):
    """A class prior's network with labels (B,) put in."""

    def __init__(self, prior: ClassPrior, labels: Tensor) -> None:
        super().__init__(WithCondition(prior.network, labels), **prior.options)
        self.take_after(prior)
        self.batch, self.prior = len(labels), [prior]  # in a list: its weights are the network's own, counted once

    def select(self, items: Sequence[int]) -> Prior:
        """The labels of some items."""
        return OfLabels(self.prior[0], self.net.condition[list(items)])  # pyright: ignore[reportFunctionMemberAccess]

    def unconditional(self) -> Denoiser:
        """The network without a label."""
        return self.prior[0].whole

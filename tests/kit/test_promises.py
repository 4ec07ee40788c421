"""Priors with faults that denoising alone does not show: each is caught by the check that is named for it, and sound ones by none."""

import dataclasses
from typing import Any

import pytest
import torch

from invsolve import Operator
from invsolve.priors import Denoiser, GaussianPrior, Guided, LabelledMixturePrior, LatentPrior
from invsolve.priors.pairs import GaussianPairsPrior
from invsolve.testing.promises import check_codes, check_condition, check_guidance, check_level

MEANS = torch.stack([torch.full((1, 8, 8), 0.3), torch.full((1, 8, 8), 0.7)])
WIDEN = torch.eye(32, dtype=torch.float64).repeat_interleave(2, 0) / 2**0.5


class Told(Denoiser):
    """The inner denoiser, told another level than there is."""

    def __init__(self, inner, factor):
        super().__init__()
        self.inner, self.factor = inner, factor
        self.take_after(inner)
        self.batch = inner.batch

    def forward(self, x, sigma):
        return self.inner(x, torch.as_tensor(sigma) * self.factor)

    def sample(self, shape, rng, like):
        return self.inner.sample(shape, rng, like)

    def select(self, items):
        return Told(self.inner.select(items), self.factor)


class Mixed(LabelledMixturePrior):
    """A mixture whose label the context says, told another level."""

    factor = 1.0

    def given(self, problem):
        return Told(super().given(problem), self.factor)


class Mirrored(GaussianPairsPrior):
    """Shown y with its columns in the other order."""

    def given(self, problem):
        return super().given(dataclasses.replace(problem, y=torch.as_tensor(problem.y).flip(-1)))


class OthersY(GaussianPairsPrior):
    """Every item is shown the next one's y."""

    def given(self, problem):
        return super().given(dataclasses.replace(problem, y=torch.as_tensor(problem.y).roll(1, 0)))


class WrongWay(Guided):
    """Led away from its condition."""

    def given(self, problem):
        found: Any = super().given(problem)
        found.scale = -found.scale
        return found


def latent(encode):
    return LatentPrior(GaussianPrior(0.7, 0.3), Operator.from_matrix(WIDEN, (1, 8, 4), (1, 8, 8)), encode=encode)


def coded(x):
    return (x.flatten(1) @ WIDEN.to(x)).reshape(-1, 1, 8, 4)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("kind", ["plain", "context"])
def test_a_level_that_is_off_by_two_is_found(kind, factor):
    prior = Told(GaussianPrior(0.5, 0.25), factor) if kind == "plain" else Mixed(MEANS, [0, 1], std=0.1)
    prior.factor = factor
    if factor == 1:
        check_level(prior)
        return
    with pytest.raises(AssertionError, match="another level than it is"):
        check_level(prior)


@pytest.mark.parametrize("fault", [Mirrored, OthersY])
def test_a_condition_in_another_order_is_found(fault):
    check_condition(GaussianPairsPrior())
    with pytest.raises(AssertionError, match="than to y"):
        check_condition(fault())


def test_guidance_with_another_sign_is_found():
    check_guidance(Guided(LabelledMixturePrior(MEANS, [0, 1], std=0.1), 2.0))
    with pytest.raises(AssertionError, match=r"scale 2 at sigma .* leads away"):
        check_guidance(WrongWay(LabelledMixturePrior(MEANS, [0, 1], std=0.1), 2.0))


@pytest.mark.parametrize("factor", [0.4, 2.0, -1.0])
def test_an_encoder_of_another_decoder_is_found(factor):
    check_codes(latent(coded))
    with pytest.raises(AssertionError, match="decoded, encoded and decoded again"):
        check_codes(latent(lambda x: factor * coded(x)))

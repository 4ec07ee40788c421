"""The mean of a denoiser's answers to turned pictures."""

import pytest
import torch
from invsolve_operators import Mask

from invsolve import GaussianNoise, InputError, Problem, load_prior
from invsolve.priors import Denoiser, DiffusionPrior, GaussianPrior, SelfEnsemble, TotalVariation
from invsolve.priors.self_ensemble import turned
from invsolve.schedule import VP
from invsolve.solvers import DiffPIR


def draw(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Leaning(Denoiser):
    """A filter with a kernel that has no symmetry at all, which says that it knows no place."""

    placeless = True

    def forward(self, x, sigma):
        level = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
        kernel = draw(1, 1, 3, 3, seed=5).to(x)
        return torch.nn.functional.conv2d(x.flatten(0, 1)[:, None], kernel, padding=1).reshape(x.shape) * (1 + level)

    @classmethod
    def examples(cls):
        return [cls()]


class Drawing(Leaning):
    """The same, said to be a few-step map."""

    few_step = True


@pytest.mark.parametrize(("turns", "group"), [(2, (0, 2)), (4, (0, 1, 2, 3)), (8, range(8))])
def test_the_answer_turns_with_the_picture(turns, group):
    """D(g x) = g D(x) for every g of the group, which the denoiser itself does not do."""
    x, inner = draw(2, 3, 12, 10), Leaning()
    prior = SelfEnsemble(inner, turns)
    for index in group:
        assert torch.allclose(prior(turned(x, index), 0.1), turned(prior(x, 0.1), index), atol=1e-12)
    assert not torch.allclose(inner(turned(x, 2), 0.1), turned(inner(x, 0.1), 2), atol=1e-3)


def test_it_is_the_filter_of_the_mean_kernel():
    """Of a linear filter: that whose kernel is the mean of the kernel's turns, here with eight of them."""
    x, kernel = draw(1, 1, 9, 9), draw(1, 1, 3, 3, seed=5)
    mean = torch.stack([turned(kernel, index) for index in range(8)]).mean(0)
    assert torch.allclose(SelfEnsemble(Leaning())(x, 0.0), torch.nn.functional.conv2d(x, mean, padding=1), atol=1e-12)


def test_levels_of_items_and_gradients_go_through():
    x, sigma = draw(2, 1, 6, 8).requires_grad_(), torch.tensor([0.1, 0.4], dtype=torch.float64)
    prior = SelfEnsemble(Leaning(), 4)
    both = prior(x, sigma)
    assert torch.allclose(both[1:], prior(x[1:], 0.4))
    (gradient,) = torch.autograd.grad(both.sum(), x)
    assert gradient.abs().min() > 0


def test_a_white_prior_is_left_as_it_is_and_every_call_counts():
    x, white = draw(1, 1, 8, 8), GaussianPrior(0.5, 0.2)
    assert torch.allclose(SelfEnsemble(white)(x, 0.3), white(x, 0.3), atol=1e-12)
    problem = Problem.simulate(Mask(x.shape[1:], keep=0.5).double(), x, GaussianNoise(0.05), generator=0)
    plain, fuller = (DiffPIR(steps=4).solve(problem, prior, generator=0) for prior in (white, SelfEnsemble(white, 4)))
    assert torch.allclose(plain.x, fuller.x, atol=1e-9)
    assert fuller.nfe == 4 * plain.nfe


def test_a_network_does_better_by_it_and_the_registry_knows_it():
    """The squared error of a mean is at most the mean of the squared errors, each that of the network on a turned picture."""
    x = draw(1, 3, 16, 16)
    y = x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    natural = load_prior("natural")
    prior = load_prior("self-ensemble", denoiser=natural)
    assert isinstance(prior, SelfEnsemble)
    y, x = y.float(), x.float()
    single = [(natural(turned(y, index), 0.2) - turned(x, index)).square().mean() for index in range(8)]
    assert float((prior(y, 0.2) - x).square().mean()) < float(torch.stack(single).mean())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"denoiser": TotalVariation()}, "load_prior"),
        ({"denoiser": GaussianPrior(draw(1, 4, 4))}, "placeless"),
        ({"denoiser": DiffusionPrior(Leaning(), VP())}, "inside of it"),
        ({"denoiser": Drawing()}, "few_step"),
        ({"denoiser": Leaning(), "turns": 3}, "2, 4 or 8"),
        ({"denoiser": Leaning(), "turns": 8.0}, "2, 4 or 8"),
        ({"denoiser": Leaning(), "turns": True}, "2, 4 or 8"),
    ],
)
def test_what_cannot_be_turned_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        SelfEnsemble(**given)

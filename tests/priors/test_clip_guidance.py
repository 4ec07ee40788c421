"""ClipGuided: the cosine of two embeddings, risen through the noisy state or through the estimate."""

import pytest
import torch
from torch import nn

from invsolve import CapabilityError, CompatibilityError, InputError, Problem
from invsolve.priors import ClipGuided, GaussianPrior
from invsolve.solvers import DDIM
from invsolve.testing.oracle import normal

SHAPE, STD, SIGMA = (1, 2, 3), 0.2, 0.4
TARGET = normal(6, seed=1)
MATRIX = normal(6, 6, seed=4) + torch.eye(6, dtype=torch.float64) * 3


class Linear(nn.Module):
    """f(u) = A u, f(x, sigma) = A x / (1 + sigma)."""

    def __init__(self):
        super().__init__()
        self.register_buffer("matrix", MATRIX)

    def forward(self, x, *sigma):
        out = x.flatten(1) @ self.matrix.T
        return out / (1 + sigma[0][:, None]) if sigma else out


def cosine_gradient(u):
    """d/du of (A u . g) / (|A u| |g|), written out: A^T (g_1 - s f_1) / |A u|, f_1 and g_1 of length 1."""
    f = u @ MATRIX.T
    f_1, g_1 = f / f.norm(dim=1, keepdim=True), TARGET / TARGET.norm()
    return (g_1 - (f_1 @ g_1)[:, None] * f_1) / f.norm(dim=1, keepdim=True) @ MATRIX


def problem(batch=3, **context):
    return Problem.unconditional(SHAPE, batch, dtype=torch.float64, context=context)


def state():
    return 0.5 + 0.4 * normal(3, 6, seed=2).reshape(3, *SHAPE)


def led(clip, **options):
    return ClipGuided(GaussianPrior(0.5, STD), Linear(), TARGET, 0.7, clip, **options)


@pytest.mark.parametrize("clip", ["noised", "x0"])
def test_the_shift_is_the_gradient_in_closed_form(clip):
    """The Gaussian's estimate is m + g (x - m), so that through it the gradient at the estimate has a factor g."""
    x, gain = state(), STD**2 / (STD**2 + SIGMA**2)
    estimate = 0.5 + gain * (x - 0.5)
    slope = cosine_gradient(x.flatten(1)) if clip == "noised" else gain * cosine_gradient(estimate.flatten(1))
    found = led(clip).given(problem())(x, SIGMA)
    assert torch.allclose(found, estimate + 0.7 * SIGMA**2 * slope.reshape(x.shape), rtol=0, atol=1e-13)


def test_targets_of_the_items_come_from_the_context():
    prior = ClipGuided(GaussianPrior(0.5, STD), Linear(), None, 0.7)
    targets = torch.stack([TARGET, -TARGET, TARGET])
    found = prior.given(problem(target=targets))(state(), SIGMA)
    same = led("x0").given(problem())(state(), SIGMA)
    assert torch.allclose(found[[0, 2]], same[[0, 2]], rtol=0, atol=1e-14)
    assert not torch.allclose(found[1], same[1], atol=1e-3)
    with pytest.raises(CompatibilityError, match=r"needs target=.*given neither"):
        DDIM(steps=2).solve(problem(), prior, generator=0)


@pytest.mark.parametrize(("clip", "backward"), [("noised", 1), ("x0", 2)])
def test_evaluations_are_what_was_called(clip, backward):
    """The encoder is called and gone back through; by x0 the prior is gone back through too."""
    found = DDIM(steps=4).solve(problem(), led(clip), generator=0)
    assert (found.nfe, found.backward) == (8, 4 * backward)


@pytest.mark.parametrize("clip", ["noised", "x0"])
def test_gradients_go_through(clip):
    x = state().requires_grad_(True)
    prior, direction, other, step = led(clip).given(problem()), normal(3, *SHAPE, seed=6), normal(3, *SHAPE, seed=7), 1e-5
    (found,) = torch.autograd.grad((prior(x, SIGMA) * direction).sum(), x)
    with torch.no_grad():
        ahead, behind = ((prior(x + sign * step * other, SIGMA) * direction).sum() for sign in (1, -1))
    assert float((found * other).sum()) == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-6)  # step^2, and eps / step


class Closed(GaussianPrior):
    differentiable = False


REFUSED = {
    "clip": (lambda: led("clean"), InputError, '"noised" .* or "x0"'),
    "target": (lambda: ClipGuided(GaussianPrior(), Linear(), TARGET[None]), InputError, r"one embedding \(d,\)"),
    "encoder": (lambda: ClipGuided(GaussianPrior(), 3, TARGET), InputError, "encoder must be a network"),
    "not differentiable": (lambda: ClipGuided(Closed(), Linear(), TARGET), CapabilityError, "goes back through the prior.*noised"),
    "embedding": (lambda: led("x0").given(problem(2))(state(), SIGMA), InputError, r"must give embeddings \(2, 6\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_are_refused(name):
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        call()

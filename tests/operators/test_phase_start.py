"""Where solvers begin with phase retrieval: the operator's guess, of each item and channel by itself, in every unit; better than grey."""

import pytest
import torch
from invsolve_operators import PhaseRetrieval
from sweeps import thinned

from invsolve import Capability, GaussianNoise, Operator, Problem
from invsolve.priors import TotalVariation
from invsolve.rng import Rng
from invsolve.solvers import AdamTV
from invsolve.solvers.start import first_image

SHAPE = (1, 10, 12)


def pictures(count, shape=SHAPE, seed=0):
    """Smooth and not negative: white noise, averaged over 3 x 3, in [0, 1]."""
    x = torch.nn.functional.avg_pool2d(Rng(seed, range(count)).uniform(shape, torch.zeros(1, dtype=torch.float64)), 3, 1, 1)
    x = x - x.amin((-2, -1), keepdim=True)
    return x / x.amax((-2, -1), keepdim=True)


def misfit(problem, x):
    return (problem.operator(x) - problem.y).flatten(1).square().sum(1)


KINDS = [(signed, dtype) for signed in (False, True) for dtype in (torch.float32, torch.float64)]


@pytest.mark.parametrize(("signed", "dtype"), thinned(KINDS, lambda place: place in (1, 2)))
def test_an_item_is_guessed_as_it_is_alone(signed, dtype):
    operator = PhaseRetrieval((2, 10, 12), signed=signed)
    y = operator(pictures(3, (2, 10, 12)).to(dtype))
    together = operator.guess(y)
    assert together.dtype == dtype
    assert together.shape == (3, 2, 10, 12)
    assert together.amin() >= 0
    for item in range(3):
        assert torch.equal(operator.guess(y[item : item + 1])[0], together[item])
    mono = PhaseRetrieval(SHAPE, signed=signed)
    assert torch.equal(mono.guess(y[:, 1:])[:, 0], together[:, 1])  # a channel by itself


@pytest.mark.parametrize("factor", [1e-4, 0.5, 3.0, 1e4])
def test_the_unit_of_y_does_not_matter(factor):
    """c H and c y: to rounding, though 250 steps of a chaotic map lie between."""
    operator = PhaseRetrieval(SHAPE)
    y = operator(pictures(2))
    assert (operator.guess(y) - (factor * operator).guess(factor * y)).abs().max() < 1e-12


def test_solvers_begin_there_and_end_lower_than_from_grey():
    """The mean misfit of 8 pictures after the same solve; noise leaves m sigma^2 = .036 of it."""
    problem = Problem.simulate(PhaseRetrieval(SHAPE), pictures(8), GaussianNoise(0.01), generator=0)
    prior = TotalVariation(5.0)
    guess = problem.operator.guess(problem.y)
    assert torch.equal(first_image(problem, None), guess)
    begun = AdamTV(steps=150).solve(problem, prior).x
    grey = AdamTV(steps=150).solve(problem, prior, x_init=torch.full_like(begun, 0.5)).x
    assert misfit(problem, begun).mean() < 0.8 * misfit(problem, grey).mean()
    few = AdamTV(steps=10)
    assert torch.equal(few.solve(problem[:1], prior).x, few.solve(problem[:1], prior, x_init=guess[:1]).x)


def test_a_dark_picture_and_nothing_at_all():
    operator = PhaseRetrieval(SHAPE)
    assert torch.equal(operator.guess(torch.zeros(1, *operator.out_shape)), torch.zeros(1, *SHAPE))
    faint = operator(1e-6 * pictures(1))
    assert torch.isfinite(operator.guess(faint)).all()


class Square(Operator):
    """y = x^2, with a start of its own."""

    traits = frozenset({Capability.DIFFERENTIABLE})

    def __init__(self, in_shape=SHAPE):
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)

    def forward(self, x):
        return x.square()

    def guess(self, y):
        return y.clamp_min(0).sqrt()


def test_an_operator_of_ones_own_says_where_to_begin():
    x = pictures(2)
    problem = Problem.simulate(Square(), x, GaussianNoise(1e-6), generator=0)
    assert (first_image(problem, None) - x).abs().max() < 1e-2  # sqrt of the noise where x is 0
    scaled = Problem(4.0 * Square(), 4.0 * problem.y, GaussianNoise(4e-6))
    assert torch.equal(first_image(scaled, None), first_image(problem, None))
    assert Operator.from_function(torch.square, SHAPE, linear=False).guess(problem.y) is None

"""The unit of y: what a scaled problem keeps, and the kit's view of it."""

from unittest import SkipTest

import pytest
import torch

from invsolve import GaussianNoise, Problem
from invsolve.errors import CapabilityError
from invsolve.noise import NoiseModel, NoNoise, PoissonNoise
from invsolve.plugins import registry
from invsolve.priors import GaussianPrior, TotalVariation
from invsolve.solvers import DPS, HQS, RLTV, AdamTV, DiffPIR, ScoreALD
from invsolve.testing.settings import Coupled, Kept, truth
from invsolve.testing.units import check_unit_invariance, gaussian_answer, in_units, matrix_of, perturbed

SHAPE = (1, 6, 7)


@pytest.mark.parametrize("name", ["mask", "block-mean", "walsh-hadamard", "mosaic"])
@pytest.mark.parametrize("factor", [1e-4, 0.3, 1e4])
def test_singular_values_in_another_unit_are_double(name, factor):
    """Held as 0 and 1 in single precision, times 1e-4 they were 2e-8 off."""
    operator = registry().load("operator", name).examples()[0]
    s, scaled = operator.svd().s.double(), (factor * operator).svd().s
    assert scaled.dtype == torch.float64
    assert torch.equal(scaled, factor * s)


@pytest.mark.parametrize("noise", [GaussianNoise(0.1), GaussianNoise(torch.tensor([0.1, 0.2])), NoNoise(), PoissonNoise(0.01)], ids=repr)
def test_noise_in_units_of_the_image_does_not_depend_on_the_unit(noise):
    problem = Problem.simulate(Kept(SHAPE), truth(SHAPE, 2, torch.float64), noise, generator=0)
    for factor in (1e-4, 0.5, 1e4):
        other = in_units(problem, factor)
        # a product and a quotient: two roundings
        assert torch.allclose(other.sigma_x, problem.sigma_x, rtol=1e-14, atol=0)
        assert torch.allclose(other.gain, factor * problem.gain, rtol=1e-14, atol=0)


@pytest.mark.parametrize("solver", [HQS(steps=4), HQS(steps=4, noise=1.0), ScoreALD(steps=4, precondition=False), DPS(steps=4)], ids=repr)
def test_an_item_of_which_nothing_is_measured_has_no_unit_but_its_noises(solver):
    """|H| = 0 was taken for 1, so that sigma_x, and with it the answer, followed the unit of y."""
    masks = torch.stack([torch.zeros(1, 6, 7), Kept(SHAPE).mask.float()])
    operator = registry().build("operator", "mask", in_shape=SHAPE, mask=masks)
    problem = Problem.simulate(operator, truth(SHAPE, 2, torch.float64), GaussianNoise(0.05), generator=0)
    assert problem.sigma_x.tolist() == pytest.approx([1.0, 0.05])
    plain = solver.solve(problem, GaussianPrior(0.5, 0.25), generator=1).x
    for factor in (1e-4, 1e4):
        other = in_units(problem, factor)
        assert other.sigma_x.tolist() == pytest.approx([1.0, 0.05])
        x = solver.solve(other, GaussianPrior(0.5, 0.25), generator=1).x
        assert float((x - plain).abs().max()) < 1e-9


def test_counts_of_which_nothing_is_measured():
    """The pixels had no weight at all: NaN in the first step."""
    masks = torch.stack([torch.zeros(1, 6, 7), Kept(SHAPE).mask.float()])
    operator = registry().build("operator", "mask", in_shape=SHAPE, mask=masks)
    problem = Problem.simulate(operator, truth(SHAPE, 2, torch.float64), PoissonNoise(0.01), generator=0)
    plain = RLTV(steps=6).solve(problem, TotalVariation(weight=1.0)).x
    for factor in (1e-4, 1e4):
        assert float((RLTV(steps=6).solve(in_units(problem, factor), TotalVariation(weight=1.0)).x - plain).abs().max()) < 1e-9
    alone = RLTV(steps=6).solve(problem[1], TotalVariation(weight=1.0)).x
    assert float((alone[0] - plain[1]).abs().max()) < 1e-12


def test_the_closed_form_of_the_kit_does_not_depend_on_the_unit():
    """The yardstick itself: the posterior's mean and spread of (cH, cy, c sigma)."""
    problem = Problem.simulate(Coupled(SHAPE), truth(SHAPE, 2, torch.float64), GaussianNoise(0.1), generator=0)
    mean, std = gaussian_answer(problem, GaussianPrior(0.5, 0.25))
    for factor in (1e-4, 1e4):
        other, spread = gaussian_answer(in_units(problem, factor), GaussianPrior(0.5, 0.25))
        assert torch.allclose(other, mean, rtol=0, atol=1e-9)
        assert torch.allclose(spread, std, rtol=0, atol=1e-9)


def test_perturbations_are_of_the_size_they_say():
    operator = Coupled(SHAPE)
    matrix = matrix_of(operator)
    x = truth(SHAPE, 1, torch.float64)
    assert torch.allclose((matrix @ x.flatten()).reshape(1, *SHAPE), operator(x), atol=1e-12)
    for (_, other), wanted in zip(perturbed(operator), (1e-3, 0.0, 1e-3), strict=True):
        size = torch.linalg.matrix_norm(matrix_of(other) - matrix, 2) / torch.linalg.matrix_norm(matrix, 2)
        assert float(size) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_a_refusal_in_another_unit_is_a_failure_and_not_a_skip():
    class Picky(DiffPIR):
        def gaps(self, problem, prior):
            return ["sigma_y above 1"] if float(problem.sigma.max()) > 1 else []

    with pytest.raises(AssertionError, match=r"with c = 10000 is refused: sigma_y above 1"):
        check_unit_invariance(Picky(steps=2))


def test_noise_that_does_not_say_how_it_scales_is_a_skip_with_the_reason():
    class Fixed(NoiseModel):
        def sample(self, clean, rng):
            return clean

        def nll(self, y, clean):
            return (y - clean).square().flatten(1).sum(1)

        @classmethod
        def examples(cls):
            return [cls()]

    class Only(AdamTV):
        requires = type(AdamTV.requires)(AdamTV.requires.operator, AdamTV.requires.prior, (Fixed,))

    with pytest.raises(CapabilityError, match=r"write scaled\(factor\)"):
        Fixed().scaled(2.0)
    with pytest.raises(SkipTest, match="Fixed does not say what it is in another unit"):
        check_unit_invariance(Only(steps=2))

"""A solver from where another one ends: the same as doing it by hand."""

import pytest
import torch
from invsolve_operators import BoxMask

from invsolve import CompatibilityError, GaussianNoise, InputError, Problem, Rng, Solution
from invsolve.priors import GaussianPrior, TotalVariation
from invsolve.solvers import DDIM, HQS, AdamTV, DiffPIR, SDEdit, WarmStart
from invsolve.solvers.warm_start import warm_start

SHAPE = (1, 6, 6)
PRIOR = GaussianPrior()


def problem():
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Problem.simulate(BoxMask(SHAPE, box=2), x, GaussianNoise(0.1), generator=0)


def test_a_sampler_begins_at_the_answer_with_the_noise_of_its_first_level():
    first, then, rng = HQS(steps=4), DiffPIR(steps=5, sigma_max=0.5), Rng(3, range(2))
    image = first.solve(problem(), TotalVariation(2.0)).x
    state = image + then.sigmas(PRIOR)[0] * rng.normal_like(image)
    expected = then.solve(problem(), PRIOR, generator=rng, x_init=state)
    found = warm_start(first, then=then, first_prior=TotalVariation(2.0)).solve(problem(), PRIOR, generator=3)
    assert torch.equal(found.x, expected.x)
    assert (found.nfe, found.steps) == (5, 9)


def test_an_editor_takes_the_answer_as_its_guide():
    image = HQS(steps=4).solve(problem(), TotalVariation(2.0)).x
    expected = SDEdit(steps=4).solve(problem(), PRIOR, generator=3, x_init=image).x
    assert torch.equal(WarmStart(HQS(steps=4), SDEdit(steps=4), TotalVariation(2.0)).solve(problem(), PRIOR, generator=3).x, expected)


def test_three_one_after_the_other():
    first = HQS(steps=4).solve(problem(), TotalVariation(2.0)).x
    second = AdamTV(steps=5).solve(problem(), TotalVariation(1.0), x_init=first).x
    third = HQS(steps=2).solve(problem(), TotalVariation(2.0), x_init=second).x
    pair = WarmStart(HQS(steps=4), AdamTV(steps=5), TotalVariation(2.0))
    found = WarmStart(pair, HQS(steps=2), TotalVariation(1.0)).solve(problem(), TotalVariation(2.0))
    assert torch.equal(found.x, third)


def test_it_is_a_value_that_files_hold(tmp_path):
    one, same, other = (WarmStart(HQS(steps=4), SDEdit(steps=4), TotalVariation(weight)) for weight in (2.0, 2.0, 3.0))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    one.solve(problem(), PRIOR, generator=3).save(tmp_path / "kept")
    assert Solution.load(tmp_path / "kept").solver == one


def test_what_does_not_fit_is_said_of_which():
    blur = Problem(BoxMask(SHAPE, box=2) @ (2.0 * BoxMask(SHAPE, box=2)), problem().y, GaussianNoise(0.1), check_range=False)
    with pytest.raises(CompatibilityError, match=r"then, SDEdit: .*mask"):
        WarmStart(HQS(), SDEdit(mask=True), TotalVariation(2.0)).solve(blur, PRIOR)
    with pytest.raises(InputError, match="takes no measurement"):
        WarmStart(HQS(), DDIM())
    with pytest.raises(InputError, match="first must be a solver"):
        WarmStart("hqs", SDEdit())  # pyright: ignore[reportArgumentType]

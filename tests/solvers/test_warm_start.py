"""A solver from where another one ends: the same as doing it by hand."""

import sys

import pytest
import torch
from invsolve_operators import BoxMask, GaussianBlur

from invsolve import CompatibilityError, GaussianNoise, InputError, Problem, Rng, Solution, registry
from invsolve.priors import GaussianPrior, TotalVariation
from invsolve.solvers import DDIM, HQS, AdamTV, DiffPIR, REDDiff, SDEdit, WarmStart
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


class Begun(Exception):  # noqa: N818 (it is no error: it ends a run at its first line)
    def __init__(self, sigma):
        super().__init__(sigma)
        self.sigma = float(sigma)


def stated():
    """One of each class whose first state is made by `initial`, that is told the noise in it; solvers of codes have their own tests."""
    found = [(entry.name, entry.load().examples()[0]) for entry in registry().of("solver")]
    made = [(name, solver) for name, solver in found if hasattr(sys.modules[type(solver).__module__], "initial")]
    return [pytest.param(solver, id=name) for name, solver in made if not solver.mismatches(given_to(solver), PRIOR)]


def given_to(solver):
    return problem() if solver.requires.measurement else Problem.unconditional(SHAPE, 2)


@pytest.mark.parametrize("solver", stated())
def test_a_warm_state_has_the_noise_of_a_cold_one(solver, monkeypatch):
    """A state with a noise that its solver does not expect is what nothing after it takes away again (RED-diff: -12 dB)."""

    def begun(problem, prior, rng, sigma, start, prox=None):
        raise Begun(sigma)

    monkeypatch.setattr(sys.modules[type(solver).__module__], "initial", begun)
    with pytest.raises(Begun) as found:
        list(solver.iterate(given_to(solver), PRIOR, Rng(0, range(2))))
    image = torch.full((2, 1, 64, 64), 0.5, dtype=torch.float64)
    noise = solver.warmed(image, PRIOR, Rng(0, range(2))).x - image
    # the standard deviation of n normal numbers has a standard error of 1 / sqrt(2 n) of it; five of them
    assert float(noise.std()) == pytest.approx(found.value.sigma, rel=5 / (2 * noise.numel()) ** 0.5)


def test_red_diff_goes_on_from_an_answer():
    given = Problem.simulate(GaussianBlur((1, 8, 8), sigma=1.0), torch.rand(2, 1, 8, 8).double(), GaussianNoise(0.05), generator=0)
    cold = REDDiff(steps=20).solve(given, PRIOR, generator=0).x
    warm = warm_start(HQS(), REDDiff(steps=20)).solve(given, PRIOR, generator=0).x
    least = HQS().solve(given, PRIOR, generator=0).x
    # 20 steps of at most lr = .05, falling as a cosine to 0, move a pixel by .05 * 20 / 2 = .5 at most
    assert float((warm - least).abs().max()) <= 0.5
    assert float((warm - cold).square().mean().sqrt()) < 0.25  # the prior's s.d.: what either is worth without looking at y


def test_the_call_of_a_pipeline_is_where_people_look_for_it():
    import invsolve

    assert invsolve.warm_start(HQS(), then=SDEdit()) == WarmStart(HQS(), SDEdit())

"""What is chosen, for problems whose right answer is known otherwise, and that it is said."""

import pytest
import torch
from invsolve_operators import BlockMean, BoxMask, GaussianBlur, Identity, Mask, PhaseRetrieval

from invsolve import CompatibilityError, GaussianNoise, InputError, NoNoise, Operator, PoissonNoise, Problem, Solution, Status
from invsolve.priors import GaussianPrior, TotalVariation
from invsolve.solvers import HQS, PDHGTV, Auto, OneShot, Spectral

SHAPE = (1, 8, 8)


def problem(operator, noise=None):
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Problem.simulate(operator, x, noise or GaussianNoise(0.1), generator=0)


@pytest.mark.parametrize(
    ("operator", "noise", "prior", "name"),
    [
        (Identity(SHAPE), None, GaussianPrior(), "one-shot"),
        (3.0 * Identity(SHAPE), GaussianNoise(0.3), GaussianPrior(), "one-shot"),
        (BoxMask(SHAPE, box=3), None, GaussianPrior(), "spectral"),
        (2.0 * BoxMask(SHAPE, box=3), None, GaussianPrior(), "spectral"),
        (Mask(SHAPE, keep=0.6), None, GaussianPrior(), "admm"),
        (Mask(SHAPE, keep=0.08), None, GaussianPrior(), "spectral"),  # one known pixel in twelve: most have no known neighbour
        (GaussianBlur(SHAPE, sigma=1.0), None, GaussianPrior(), "hqs"),
        (GaussianBlur(SHAPE, sigma=1.0), GaussianNoise(0.8), GaussianPrior(), "diffpir"),
        (BlockMean(SHAPE, factor=4), GaussianNoise(0.05), GaussianPrior(), "hqs"),  # sigma_x .2
        (BlockMean(SHAPE, factor=4), GaussianNoise(0.2), GaussianPrior(), "diffpir"),  # .8
        (7.0 * BlockMean(SHAPE, factor=4), GaussianNoise(1.4), GaussianPrior(), "diffpir"),
        (BlockMean(SHAPE, factor=2) @ BoxMask(SHAPE, box=3), None, GaussianPrior(), "spectral"),
        (PhaseRetrieval(SHAPE), None, GaussianPrior(), "dps"),
        (GaussianBlur(SHAPE, sigma=1.0), None, TotalVariation(4.0), "pdhg-tv"),
        (PhaseRetrieval(SHAPE), None, TotalVariation(4.0), "lbfgs"),
        (GaussianBlur(SHAPE, sigma=1.0), PoissonNoise(0.02), TotalVariation(4.0), "rl-tv"),
    ],
)
def test_what_is_chosen(operator, noise, prior, name):
    choice = Auto(steps=4).choose(problem(operator, noise), prior)
    assert choice is not None
    assert choice.why.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("hide", "name"),
    [
        ((slice(None), slice(0, 8)), "ccdf"),  # one half
        ((slice(2, 14), slice(2, 14)), "ccdf"),  # all but a frame
        ((slice(4, 12), slice(4, 12)), "spectral"),  # a quarter
        ((slice(None, None, 2), slice(None)), "admm"),  # every other row
    ],
)
def test_large_holes(hide, name):
    shape = (1, 16, 16)
    mask = torch.ones(shape)
    mask[0][hide] = 0
    given = Problem.simulate(Mask(shape, mask=mask), torch.rand(1, *shape), GaussianNoise(0.1), generator=0)
    choice = Auto().choose(given, GaussianPrior())
    assert choice is not None
    assert choice.why.startswith(f"{name}: ")


def test_the_answer_is_the_chosen_solvers_and_says_so(tmp_path):
    given = problem(BoxMask(SHAPE, box=3))
    found = Auto(steps=4).solve(given, GaussianPrior(), generator=3, samples=2)
    assert torch.equal(found.x, Spectral(steps=4).solve(given, GaussianPrior(), generator=3, samples=2).x)
    assert found.solver == Spectral(steps=4)
    assert found.why.startswith("spectral: a mask")
    found.save(tmp_path / "kept")
    assert Solution.load(tmp_path / "kept").why == found.why


def test_denoising_is_the_posterior_mean_in_one_evaluation():
    given = problem(Identity(SHAPE))
    found = Auto().solve(given, GaussianPrior(0.5, 0.25), generator=0)
    assert (found.nfe, found.solver) == (1, OneShot())
    assert torch.allclose(found.x, 0.5 + 0.25**2 / (0.25**2 + 0.1**2) * (given.y - 0.5))  # pyright: ignore[reportOperatorIssue]


def test_a_prior_that_nothing_serves_is_refused_solver_by_solver():
    blind = GaussianPrior()
    blind.differentiable = False
    with pytest.raises(CompatibilityError, match=r"diffpir: .*lacks 'prox'(.|\n)*dps: prior GaussianPrior is not differentiable"):
        Auto().solve(problem(PhaseRetrieval(SHAPE)), blind)
    with pytest.raises(CompatibilityError, match="no measurement"):
        Auto().solve(Problem.unconditional(SHAPE), GaussianPrior())


@pytest.mark.parametrize("steps", [0, -1, 2.5])
def test_steps(steps):
    with pytest.raises((InputError, TypeError), match="steps must be"):
        Auto(steps=steps)


def test_how_many_steps():
    given = problem(GaussianBlur(SHAPE, sigma=1.0))
    assert Auto(steps=7).solve(given, GaussianPrior(), generator=0).solver == HQS(steps=7)
    assert Auto().solve(given, GaussianPrior(), generator=0).solver == HQS(steps=20)


def test_fewer_evaluations_than_steps_are_fewer_steps():
    """A run cut off at five of twenty steps is behind one of five steps."""
    given = problem(GaussianBlur(SHAPE, sigma=1.0))
    found = Auto().solve(given, GaussianPrior(), generator=0, budget_nfe=5)
    assert (found.solver, found.nfe, found.status) == (HQS(steps=5), 5, Status.FINISHED)
    assert torch.equal(found.x, Auto(steps=5).solve(given, GaussianPrior(), generator=0).x)
    assert Auto().solve(given, GaussianPrior(), generator=0, budget_nfe=40).solver == HQS(steps=20)
    assert Auto().solve(given, GaussianPrior(), generator=0, budget_nfe=15, samples=3).solver == HQS(steps=5)
    assert Auto(steps=9).solve(given, GaussianPrior(), generator=0, budget_nfe=5).solver == HQS(steps=9)  # what is asked for is kept


def test_items_with_noise_of_their_own_are_solved_alike_and_as_alone():
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = Problem.simulate(GaussianBlur(SHAPE, sigma=1.0), x, GaussianNoise(torch.tensor([0.1, 0.9])), generator=0)
    found = Auto(steps=4).solve(given, GaussianPrior(), generator=0)
    for item in range(2):
        assert torch.allclose(found.x[item], Auto(steps=4).solve(given[item], GaussianPrior(), generator=0).x[0], rtol=0, atol=1e-12)


def test_a_batch_of_one_is_solved_as_an_item_without():
    """A level or a mask with a batch axis is the same problem: to the bit, by the same solver and for the same reason."""
    mask = torch.ones(SHAPE)
    mask[..., 2:7, 2:7] = 0
    y = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    blur = GaussianBlur(SHAPE, sigma=1.0)
    pairs = [
        [Problem(blur, y, GaussianNoise(sigma)) for sigma in (0.9, torch.tensor([0.9], dtype=torch.float64))],
        [Problem(Mask(SHAPE, mask=one), y * mask, GaussianNoise(0.05)) for one in (mask, mask[None])],
    ]
    for plain, single in pairs:
        one, other = (Auto(steps=4).solve(given, GaussianPrior(), generator=0) for given in (plain, single))
        assert (one.solver, one.why) == (other.solver, other.why)
        assert torch.equal(one.x, other.x)
    assert Auto().choose(pairs[0][1], GaussianPrior()).solver != HQS(steps=20)  # pyright: ignore[reportOptionalMemberAccess]


def test_items_that_ask_for_several_solvers_have_theirs(tmp_path):
    """Answers, draws, numbers and traces are those of each alone, in the batch's order; the run on disk goes on to the same bits."""
    prior = GaussianPrior()
    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = GaussianNoise(torch.tensor([0.9, 0.05, 0.8]))
    given = Problem.simulate(GaussianBlur(SHAPE, sigma=1.0), x, noise, generator=0)
    alone = [Auto(steps=4).solve(given[item], prior, generator=5, samples=2, keep=1) for item in range(3)]
    assert [type(one.solver).__name__ for one in alone] == ["DiffPIR", "HQS", "DiffPIR"]
    found = Auto(steps=4).solve(given, prior, generator=5, samples=2, keep=1)
    assert torch.allclose(found.x, torch.cat([one.x for one in alone], 1), rtol=0, atol=1e-12)
    assert found.solver == Auto(steps=4)
    assert found.why.startswith("items 0, 2: diffpir: ")
    assert "items 1: hqs: " in found.why
    assert found.nfe == round(sum(one.nfe for one in alone) / 3)
    last = torch.stack([one.trace[-1].x for one in alone], 1)  # (sample, item, ...) as the rows of a trace lie
    assert torch.allclose(found.trace[-1].x, last.flatten(0, 1), rtol=0, atol=1e-12)
    assert all(torch.allclose(value.unflatten(0, (2, 3))[:, 1], alone[1].stats[name], atol=1e-12) for name, value in found.stats.items())
    begun = {"x_init": torch.rand(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))}
    plain = Auto(steps=4).solve(given, prior, generator=None, checkpoint=tmp_path, **begun)
    assert torch.equal(plain.x, Auto(steps=4).solve(given, prior, generator=plain.seed, **begun).x)
    assert torch.equal(plain.x, Auto(steps=4).solve(given, prior, checkpoint=tmp_path, **begun).x)  # nothing is computed again
    with pytest.raises(InputError, match="ask for several"):
        Auto(steps=4).solve(given, prior, generator=5, start=found.trace[0].select([0, 1, 2]))


def test_out_of_budget_it_goes_on_from_its_folder(tmp_path):
    given = problem(GaussianBlur(SHAPE, sigma=1.0))
    first = Auto().solve(given, GaussianPrior(), generator=0, budget_nfe=5, checkpoint=tmp_path)  # a folder that is there, and empty
    assert (first.status, first.nfe) == (Status.BUDGET, 5)
    then = Auto().solve(given, GaussianPrior(), generator=0, checkpoint=tmp_path)
    assert (then.status, then.nfe) == (Status.FINISHED, 20)
    assert torch.equal(then.x, Auto().solve(given, GaussianPrior(), generator=0).x)


def test_without_noise_the_identity_shows_the_image():
    given = Problem(2.0 * Identity(SHAPE), 2.0 * torch.rand(2, *SHAPE, dtype=torch.float64), NoNoise(), check_range=False)
    found = Auto().solve(given, GaussianPrior(), generator=0)
    assert found.solver == OneShot()
    assert torch.allclose(found.x, given.y / 2, rtol=0, atol=1e-15)  # pyright: ignore[reportOperatorIssue]


def test_an_item_is_solved_as_it_would_be_alone_whatever_its_mask_shows():
    mask = torch.ones(2, *SHAPE)
    mask[1, ..., :4] = 0
    given, prior = problem(Mask(SHAPE, mask=mask)), GaussianPrior()
    found = Auto(steps=4).solve(given, prior, generator=0)
    for item in range(2):
        assert torch.allclose(found.x[item], Auto(steps=4).solve(given[item], prior, generator=0).x[0], rtol=0, atol=1e-12)


def test_tv_is_for_images():
    """A vector's neighbours are found in the next item of the batch, and the prox ended in an error of torch's."""
    x = torch.rand(2, 7, dtype=torch.float64)
    given = Problem.simulate(Operator.from_matrix(torch.rand(5, 7, dtype=torch.float64), in_shape=(7,)), x, GaussianNoise(0.1))
    for solver in (Auto(), HQS(), PDHGTV()):
        shapes = r"images \(C, H, W\) and volumes \(C, D, H, W\), the operator's have shape \(7,\)"
        with pytest.raises(CompatibilityError, match=f"TotalVariation is for {shapes}"):
            solver.solve(given, TotalVariation(1.0))

"""Draws: their law, their streams, and what is refused."""

import pytest
import torch
from invsolve_operators import BlockMean, BoxMask, GaussianBlur, Identity, Mask

from invsolve import GaussianNoise, PoissonNoise, Problem, Rng
from invsolve.errors import InputError
from invsolve.io.writing import write_image
from invsolve.predictive import draw
from invsolve.predictive.draws import window
from invsolve.priors import Denoiser, GaussianPrior, TotalVariation

SHAPE = (1, 8, 8)


class Bare(Denoiser):
    """N(.3, .2^2) without a `sample` of its own, so that it is drawn from by a sampler."""

    moves = False

    def __init__(self):
        super().__init__()
        self.register_buffer("centre_of_all", torch.tensor(0.3))

    def forward(self, x, sigma):
        sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))
        return 0.3 + 0.04 / (0.04 + sigma**2) * (x - 0.3)


def measured(operator=None, noise=None, seed=3):
    x = GaussianPrior(0.5, 0.2).sample(SHAPE, Rng(seed, [0]), torch.zeros(1))
    return Problem.simulate(operator or Identity(SHAPE), x, noise or GaussianNoise(0.1), generator=seed)


def test_the_law_of_truths_and_measurements():
    found = draw(measured(), GaussianPrior(0.5, 0.2), 200)
    # 12,800 independent pixels: 4.5 standard errors of the mean and of the standard deviation
    error = 4.5 / 12_800**0.5
    assert abs(float(found.truths.mean()) - 0.5) < 0.2 * error
    assert abs(float(found.truths.std()) / 0.2 - 1) < error / 2**0.5
    noise = found.problem.y - found.truths
    assert abs(float(noise.mean())) < 0.1 * error
    assert abs(float(noise.std()) / 0.1 - 1) < error / 2**0.5
    assert abs(float((noise * (found.truths - 0.5)).mean())) < 0.1 * 0.2 * error
    assert found.nfe == 0
    assert "exact" in found.origin


def test_a_sampler_draws_where_the_prior_does_not():
    found = draw(measured(), Bare(), 100)
    error = 4.5 / 6400**0.5
    assert found.nfe == 35  # Heun's 18 steps, the last one of one call
    # the sampler's own error, of 18 steps on N(m, s^2), measured on float64 at 1 % of s; the rest is chance
    assert abs(float(found.truths.mean()) - 0.3) < 0.2 * (error + 0.02)
    assert abs(float(found.truths.std()) / 0.2 - 1) < error + 0.02


@pytest.mark.parametrize("prior", [GaussianPrior(0.5, 0.2), Bare()], ids=["exact", "sampled"])
def test_a_draw_is_the_same_in_any_number_of_them(prior):
    few, many = draw(measured(), prior, 3, generator=7), draw(measured(), prior, 5, generator=7)
    assert torch.allclose(few.truths, many.truths[:3], atol=1e-6)  # batches of another size may round otherwise
    assert torch.allclose(few.problem.y, many.problem.y[:3], atol=1e-6)
    other = draw(measured(), prior, 3, generator=8)
    assert not torch.allclose(few.truths, other.truths)
    assert not torch.allclose(few.problem.y - few.truths, other.problem.y - other.truths)


def test_truth_and_noise_have_streams_of_their_own():
    found = draw(measured(), GaussianPrior(0.5, 0.2), 8)
    standard = (found.truths - 0.5) / 0.2
    assert not torch.allclose(standard, (found.problem.y - found.truths) / 0.1, atol=0.1)


def test_items_with_an_operator_of_their_own_take_turns():
    masks = torch.zeros(2, 1, 8, 8)
    masks[0, ..., :4], masks[1, ..., 4:] = 1, 1
    problem = Problem(Mask(SHAPE, mask=masks), torch.zeros(2, 1, 8, 8), GaussianNoise(torch.tensor([0.1, 0.3])))
    found = draw(problem, GaussianPrior(0.5, 0.2), 5)
    for index in range(5):
        kept = masks[index % 2].bool()
        assert not found.problem.y[index][~kept].any()
        assert found.problem.y[index][kept].abs().min() > 0
    assert found.problem.noise.sigma.tolist() == pytest.approx([0.1, 0.3, 0.1, 0.3, 0.1])


def test_the_measurement_itself_is_not_looked_at():
    problem = measured()
    other = Problem(problem.operator, problem.y + 0.1, problem.noise)
    assert torch.equal(draw(problem, GaussianPrior(), 2).problem.y, draw(other, GaussianPrior(), 2).problem.y)


def test_a_pool_of_pictures(tmp_path):
    pictures = torch.rand(3, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    found = draw(measured(), TotalVariation(), 7, pool=pictures)
    grey = (pictures * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    for index, truth in enumerate(found.truths):
        windows = grey[index % 3].unfold(0, 8, 1).unfold(1, 8, 1)
        assert (windows - truth[0]).abs().amax((-2, -1)).min() < 1e-6  # it is a window of that picture
    for index, picture in enumerate(pictures):
        write_image(tmp_path / f"{index}.png", picture)
    from_files = draw(measured(), TotalVariation(), 7, pool=tmp_path)
    assert torch.allclose(from_files.truths, found.truths, atol=1 / 255)
    with pytest.raises(InputError, match="fewer than"):
        draw(measured(), TotalVariation(), 2, pool=torch.rand(1, 1, 7, 30))
    with pytest.raises(InputError, match="at least one picture"):
        draw(measured(), TotalVariation(), 2, pool=[])


def test_another_prior_can_be_drawn_from():
    one = draw(measured(), TotalVariation(), 2, pool=GaussianPrior(0.2, 0.05))
    assert float(one.truths.mean()) == pytest.approx(0.2, abs=0.05)


class Narrow(GaussianPrior):
    sigma_range = (0.01, 0.2)
    sample = None


class Conditional(GaussianPrior):
    sees_y = True


@pytest.mark.parametrize(
    ("prior", "words"),
    [(TotalVariation(), "penalty"), (Narrow(), "too little"), (Conditional(), "looks at a measurement")],
    ids=["regulariser", "narrow", "conditional"],
)
def test_what_cannot_be_drawn_from_says_what_to_do(prior, words):
    with pytest.raises(InputError, match=f"{words}.*pool="):
        draw(measured(), prior, 2)


@pytest.mark.parametrize("count", [0, -1, 2.5, True, "8"])
def test_how_many_is_checked(count):
    with pytest.raises(InputError, match="whole number"):
        draw(measured(), GaussianPrior(), count)


def test_nothing_measured_is_refused():
    blank = Problem(Mask(SHAPE, mask=torch.zeros(SHAPE)), torch.zeros(1, *SHAPE), GaussianNoise(0.1))
    for problem in (blank, Problem.unconditional(SHAPE)):
        with pytest.raises(InputError, match="measure"):
            draw(problem, GaussianPrior(), 2)


def test_draws_are_kept_on_disk(tmp_path, monkeypatch):
    from invsolve.predictive import draws

    monkeypatch.setattr(draws, "_held", type(draws._held)())
    first = draw(measured(), Bare(), 4, cache=tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    monkeypatch.setattr(draws, "_held", type(draws._held)())
    again = draw(measured(), Bare(), 3, cache=tmp_path)
    assert again.held
    assert torch.equal(again.truths, first.truths[:3])
    monkeypatch.setattr(draws, "_held", type(draws._held)())
    assert not draw(measured(), Bare(), 4, generator=1, cache=tmp_path).held  # another seed
    file.write_bytes(file.read_bytes()[:40])
    monkeypatch.setattr(draws, "_held", type(draws._held)())
    torn = draw(measured(), Bare(), 4, cache=tmp_path)
    assert not torn.held
    assert torch.equal(torn.truths, first.truths)


def test_another_state_of_the_prior_is_another_key(tmp_path):
    prior = Bare()
    draw(measured(), prior, 2, cache=tmp_path)
    prior.centre_of_all += 1
    second = draw(measured(), prior, 2, cache=tmp_path)
    assert not second.held


def test_counts_are_drawn_as_counts():
    problem = Problem.simulate(Identity(SHAPE), torch.full((1, *SHAPE), 0.5), PoissonNoise(0.05), generator=0)
    found = draw(problem, GaussianPrior(0.5, 0.05), 4)
    counts = found.problem.y / 0.05
    assert torch.allclose(counts, counts.round(), atol=1e-4)


LARGE = (1, 96, 80)


@pytest.mark.parametrize("operator", [GaussianBlur(LARGE, 1.0), BlockMean(LARGE, 4), Identity(LARGE)], ids=["blur", "mean", "identity"])
def test_a_window_stands_for_a_large_problem(operator):
    problem = Problem.simulate(operator, torch.rand(1, *LARGE), GaussianNoise(0.1), generator=0)
    small = window(problem, 32)
    assert max(small.operator.in_shape[1:]) <= 32
    assert small.noise.sigma == problem.noise.sigma
    assert window(small, 32) is small


def test_the_window_of_a_mask_hides_about_as_much_as_the_whole():
    box = BoxMask(LARGE, 40)  # hides .21 of the image, all of it in the middle
    small = window(Problem.simulate(box, torch.rand(1, *LARGE), GaussianNoise(0.1), generator=0), 48)
    hidden = 1 - float(small.operator.supports[0].double().mean())
    assert 0.05 < hidden < 0.6

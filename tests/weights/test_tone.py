"""The closed form at large noise: against a dense covariance, finite differences and draws from its own law."""

import json
import math
from dataclasses import replace

import pytest
import torch
from invsolve_priors.tone import blended, fitted
from invsolve_weights.carded import OwnNetwork
from invsolve_weights.cards import read_card
from invsolve_weights.places import FOLDER
from invsolve_weights.tone import powers, tone_of
from torch import nn
from train_cases import TOY, run, toy_folder

from invsolve import GaussianNoise, Problem, load_prior
from invsolve.errors import InputError
from invsolve.priors import Denoiser, Guided
from invsolve.rng import Rng
from invsolve.solvers import DDIM, DPS

CARDED = [path.stem for path in sorted(FOLDER.glob("*.json")) if read_card(path).tone]


def law(name="natural"):
    card = read_card(FOLDER / f"{name}.json")
    tone = tone_of(card.tone, card.arguments["channels"])
    assert tone is not None
    return tone


def cosines(count):
    """The orthonormal DCT-II, entry by entry."""
    rows = [[math.cos(math.pi * (place + 0.5) * k / count) for place in range(count)] for k in range(count)]
    norms = torch.tensor([math.sqrt((1 if k == 0 else 2) / count) for k in range(count)], dtype=torch.float64)
    return norms[:, None] * torch.tensor(rows, dtype=torch.float64)


def log_power(tone, axis, row, column, height, width):
    """log S of one component, from the formula in the module's head."""
    down, right = (max(index, tone.width) / (2 * side) for index, side in ((row, height), (column, width)))
    place = math.log(math.hypot(down, right))
    knots, values = [math.log(knot) for knot in tone.knots], tone.power[axis]
    found = values[0] - 2 * (place - knots[0])
    if place >= knots[0]:
        cell = max(index for index in range(len(knots) - 1) if knots[index] <= place)
        found = values[cell] + (values[cell + 1] - values[cell]) * (place - knots[cell]) / (knots[cell + 1] - knots[cell])
    return found + tone.corner[axis] * math.cos(4 * math.atan2(down, right))


def dense(tone, height, width):
    """Mean and covariance of flat pictures (C H W) of a tone's law, by sums of outer products."""
    basis = torch.kron(cosines(height), cosines(width))
    axes = torch.tensor(tone.axes, dtype=torch.float64)
    covariance = torch.zeros(len(axes), height * width, len(axes), height * width, dtype=torch.float64)
    for axis, turn in enumerate(axes):
        power = [math.exp(log_power(tone, axis, row, column, height, width)) for row in range(height) for column in range(width)]
        spatial = basis.T @ torch.diag(torch.tensor(power, dtype=torch.float64)) @ basis
        covariance += torch.einsum("a,b,pq->apbq", turn, turn, spatial)
    mean = torch.tensor(tone.mean, dtype=torch.float64)[:, None].expand(-1, height * width)
    return mean.reshape(-1), covariance.reshape(mean.numel(), mean.numel())


def test_the_shipped_photograph_priors_have_one():
    assert set(CARDED) == {"natural", "natural-gray"}


@pytest.mark.parametrize("shape", [(5, 8), (7, 4), (1, 6)])
@pytest.mark.parametrize("name", CARDED)
def test_at_large_noise_the_prior_is_the_dense_filter(name, shape):
    """Every level of a batch its own; float64 in, float64 inside: what is left is rounding, 1e-16 times the conditioning sigma^2 / S."""
    tone = law(name)
    prior = load_prior(name)
    mean, covariance = dense(tone, *shape)
    sigma = torch.tensor([tone.blend[1], 2 * tone.blend[1], 70.0], dtype=torch.float64)
    x = 0.5 + sigma.reshape(-1, 1, 1, 1) * Rng(0, (0, 1, 2)).normal((len(tone.mean), *shape), torch.empty(0, dtype=torch.float64))
    found = prior(x, sigma)
    eye = torch.eye(len(mean), dtype=torch.float64)
    for item, level in enumerate(sigma):
        wanted = mean + covariance @ torch.linalg.solve(covariance + level**2 * eye, x[item].flatten() - mean)
        assert torch.allclose(found[item].flatten(), wanted, atol=1e-9, rtol=0)


def test_grey_pictures_have_the_law_of_the_channels_mean():
    """Through the colour prior: the mean of the channels of its own law, with a noise sqrt(3) smaller than in each channel."""
    tone, prior = law(), load_prior("natural", channels=1)
    mean, covariance = dense(tone, 4, 6)
    average = torch.eye(24, dtype=torch.float64).repeat(1, 3) / 3
    mean, covariance = average @ mean, average @ covariance @ average.T
    x = 3 + 30 * Rng(0, (0,)).normal((1, 4, 6), torch.empty(0, dtype=torch.float64))
    level = tone.blend[1] / math.sqrt(3) * (1 + 1e-9)
    wanted = mean + covariance @ torch.linalg.solve(covariance + level**2 * torch.eye(24, dtype=torch.float64), x.flatten() - mean)
    assert torch.allclose(prior(x, level).flatten(), wanted, atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", CARDED)
def test_below_it_is_the_network_to_the_bit_and_between_a_mean_of_both(name):
    prior, plain, tone = load_prior(name), load_prior(name, tone=False), law(name)
    x = 0.5 + 2 * Rng(0, (0, 1)).normal((len(tone.mean), 16, 8), torch.empty(0))
    low, high = tone.blend
    for level in (0.0, 0.1, low):
        assert torch.equal(prior(x, level), plain(x, level))
    level = torch.tensor([low, math.sqrt(low * high)])
    mixed, network = prior(x, level), plain(x, level)
    assert torch.equal(mixed[0], network[0])
    filtered = tone.filtered(x, level)
    assert torch.allclose(mixed[1], (network[1] + filtered[1]) / 2, atol=1e-5)  # halfway in log sigma: half of each
    assert torch.allclose(prior(x[1:], level[1:]), mixed[1:], atol=1e-5)  # an item alone: its network's kernels may sum in another order


def test_the_weight_is_smooth_in_log_sigma():
    tone = replace(law(), blend=(1.5, 3.0))
    level = torch.tensor([1e-3, 1.5, 1.5 * 2**0.25, 1.5 * 2**0.5, 1.5 * 2**0.75, 3.0, 80.0], dtype=torch.float64)
    u = torch.tensor([0, 0, 0.25, 0.5, 0.75, 1, 1], dtype=torch.float64)
    assert torch.allclose(tone.weight(level), 3 * u**2 - 2 * u**3, atol=1e-12)


class Shrink(nn.Module):
    """A network in closed form, for derivatives in float64."""

    def forward(self, x, sigma):
        return torch.tanh(x / (1 + sigma.reshape(-1, 1, 1, 1)))


@pytest.mark.parametrize("level", [1.7, 2.1, 9.0])
def test_its_derivative_is_the_one_of_finite_differences(level):
    tone = replace(law(), blend=(1.5, 3.0))
    x = Rng(0, (0,)).normal((3, 4, 5), torch.empty(0, dtype=torch.float64))
    sigma = torch.full((1,), level, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, sigma: tone.joined(Shrink(), x, sigma), (x.requires_grad_(), sigma))


def test_vmap_and_mixed_batches_agree_with_one_at_a_time():
    tone = replace(law(), blend=(1.5, 3.0))
    x = Rng(0, (0, 1, 2)).normal((3, 6, 5), torch.empty(0, dtype=torch.float64))
    sigma = torch.tensor([0.3, 2.0, 20.0], dtype=torch.float64)
    alone = torch.cat([tone.joined(Shrink(), x[i : i + 1], sigma[i : i + 1]) for i in range(3)])
    assert torch.allclose(tone.joined(Shrink(), x, sigma), alone, atol=1e-12)
    mapped = torch.vmap(lambda x, sigma: tone.joined(Shrink(), x[None], sigma[None])[0])(x, sigma)
    assert torch.allclose(mapped, alone, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_any_type_of_images(dtype):
    """Computed in float32 or better; what the narrow types lose is the rounding of x, sigma eps, shrunk at least twofold."""
    tone, sigma = law(), torch.tensor([8.0])
    x = 0.5 + 8 * Rng(0, (0,)).normal((3, 8, 8), torch.empty(0, dtype=torch.float64))
    found = tone.filtered(x.to(dtype), sigma)
    assert found.dtype == dtype
    assert torch.allclose(found.double(), tone.filtered(x, sigma), atol=32 * torch.finfo(dtype).eps * 8)


def test_autocast_leaves_the_filter_alone():
    tone, x, sigma = law(), torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([8.0])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tone.filtered(x, sigma), tone.filtered(x, sigma.float()))
        assert tone.filtered(x, sigma).dtype == torch.float32
    prior = load_prior("natural", precision="bfloat16")
    assert torch.equal(prior(x, 60.0), load_prior("natural")(x, 60.0))


def drawn(tone, count, height, width):
    """(count, C, height, width) of the law, in float64."""
    rows, columns = (torch.arange(side, dtype=torch.float64) / (2 * side) for side in (height, width))
    root = powers(tone, rows[:, None], columns[None], (height, width)).sqrt()
    z = root * Rng(0, tuple(range(count))).normal((len(tone.mean), height, width), torch.empty(0, dtype=torch.float64))
    z = torch.einsum("kp,bckl,lq->bcpq", cosines(height), z, cosines(width))
    return torch.tensor(tone.mean).reshape(-1, 1, 1) + torch.einsum("ac,bahw->bchw", torch.tensor(tone.axes, dtype=torch.float64), z)


def test_on_draws_of_its_law_no_shrinkage_is_better():
    """The posterior mean has the least error: 256 draws see twice and half the level at four standard errors or more."""
    tone = law()
    x, sigma = drawn(tone, 256, 16, 16), torch.full((256,), 5.0, dtype=torch.float64)
    noisy = x + 5 * Rng(1, tuple(range(256))).normal((3, 16, 16), torch.empty(0, dtype=torch.float64))

    def errors(level):
        return (tone.filtered(noisy, sigma * level) - x).square().flatten(1).mean(1)

    best = errors(1.0)
    for factor in (0.5, 2.0):
        worse = errors(factor) - best
        assert worse.mean() > 4 * worse.std() / 16


def test_samples_of_its_law_have_its_colours():
    """DDIM with 40 steps from sigma 80 by the filter alone: variance of the mean colour's and of all pixels', against the law's own.

    512 draws know a variance to 6.25 %; the Euler step on this grid leaves less than 8 % (measured with exact propagation: the map is
    linear, so one run on unit vectors would tell the same).
    """
    tone = replace(law(), blend=(1e-6, 2e-6))

    class Filter(Denoiser):
        channels = 3

        def forward(self, x, sigma):
            level = torch.as_tensor(sigma, dtype=x.dtype).expand(len(x))
            return tone.joined(Shrink(), x, level) if float(level.max()) > 0 else x

    draws = DDIM(steps=40).solve(Problem.unconditional((3, 8, 8), 512), Filter(), generator=0).x.double()
    _, covariance = dense(tone, 8, 8)
    blocks = covariance.reshape(3, 64, 3, 64)
    means = draws.mean((2, 3))
    assert torch.allclose(means.T.cov().diagonal(), blocks.mean((1, 3)).diagonal(), rtol=4 * 0.0625 + 0.08)
    pixels = blocks.diagonal(dim1=1, dim2=3)  # (3, 3, 64): the colour covariance at every place
    assert torch.allclose(draws.var(0).mean((1, 2)), pixels.mean(2).diagonal(), rtol=4 * 0.0625 + 0.08)
    colours = blocks.mean((1, 3))
    together = float(colours[0, 2] / (colours[0, 0] * colours[2, 2]).sqrt())
    assert float(torch.corrcoef(means.T)[0, 2]) == pytest.approx(together, abs=0.12)


def test_the_filter_counts_as_the_network_and_goes_through_guidance_and_gradients():
    prior = load_prior("natural")
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    from invsolve_operators import Mask

    problem = Problem.simulate(Mask((3, 16, 16), keep=0.5), x, GaussianNoise(0.05), generator=0)
    with_tone = DPS(steps=6).solve(problem, prior, generator=0)
    assert with_tone.nfe == DPS(steps=6).solve(problem, load_prior("natural", tone=False), generator=0).nfe
    assert torch.isfinite(with_tone.x).all()
    assert torch.equal(Guided(prior, 1.0)(x, 30.0), prior(x, 30.0))


def test_a_fit_finds_the_law_of_draws():
    """Of 120 crops of 8, 16 and 32: within .3 dB of the filter with the true figures (a power from 120 crops is off by 13 %)."""
    tone = law()
    made = drawn(tone, 60, 48, 48).float()
    pictures = {side: torch.cat([made[..., :side, :side], made[..., -side:, -side:]]).numpy() for side in (8, 16, 32)}
    found = fitted(pictures)
    assert found.mean == pytest.approx(made.mean((0, 2, 3)).tolist(), abs=0.15)
    x = drawn(tone, 96, 32, 32)[60:]
    for sigma in (1.0, 5.0, 20.0):
        level = torch.full((len(x),), sigma, dtype=torch.float64)
        noisy = x + sigma * Rng(2, tuple(range(len(x)))).normal((3, 32, 32), torch.empty(0, dtype=torch.float64))
        own, best = ((one.filtered(noisy, level) - x).square().mean() for one in (found, tone))
        assert 10 * math.log10(float(own / best)) < 0.3


def test_network_and_filter_meet_where_that_errs_least():
    """A network that knows nothing is left at once; one that is the best filter itself is not left at all."""
    tone = law()
    images = drawn(tone, 12, 16, 16).float()

    class Best(nn.Module):
        def forward(self, x, sigma):
            return 0.9 * tone.filtered(x, sigma) + 0.1 * images  # knows a part of the truth

    grey = nn.Module()
    grey.forward = lambda x, sigma: torch.full_like(x, 0.5)
    left = blended(tone, grey, [images], 80.0)
    assert left is not None
    assert left.blend == (1.5, 3.0)
    assert blended(tone, Best(), [images], 80.0) is None
    assert blended(tone, grey, [images], 2.0) is None  # no levels at which the filter could answer alone


def test_a_training_ends_with_a_tone_where_it_helps(tmp_path, monkeypatch):
    """An untrained network of all levels on three pictures: its card gets the filter, and the prior in the file is the filter there."""
    monkeypatch.setattr("invsolve_priors.tone.COUNTS", (40, 20, 10))
    toy_folder(tmp_path)
    config = TOY.replace('"uniform", low = 0.05, high = 0.3', '"log-normal", mean = -1.2, std = 1.2, low = 0.01, high = 80.0').replace(
        "steps = 30", "steps = 2"
    )
    (tmp_path / "toy.toml").write_text(config)
    done = run(tmp_path / "toy.toml", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    file = tmp_path / "out" / "toy.safetensors"
    tone = tone_of(read_card(file).tone, 3)
    assert tone is not None
    x, level = 40 * Rng(0, (0,)).normal((3, 16, 16), torch.empty(0)), torch.tensor([40.0])
    assert torch.allclose(OwnNetwork(str(file), check=False)(x, level), tone.filtered(x, level), atol=1e-5)
    assert not torch.allclose(OwnNetwork(str(file), check=False, tone=False)(x, level), tone.filtered(x, level), atol=1e-2)


def test_cards_with_other_figures_are_refused():
    good = law().table()
    again = tone_of(json.loads(json.dumps(good)), 3)
    assert again is not None
    assert again.power == law().power
    assert torch.allclose(torch.tensor(again.axes), torch.tensor(law().axes), atol=1e-6)
    assert tone_of({}, 3) is None
    bad = [
        {"mean": [0.5]},
        {"axes": [[1, 0, 0], [1, 0, 0], [0, 0, 1]]},
        {"knots": [0.2, 0.1]},
        {"knots": "x"},
        {"power": [[1]]},
        {"corner": [math.nan, 0, 0]},
        {"width": 0},
        {"blend": [3, 1.5]},
        {"power": [[1e6] * len(good["knots"])] * 3},
        {"other": 1},
    ]
    for change in bad:
        with pytest.raises(InputError, match="tone"):
            tone_of({**good, **change}, 3)
    with pytest.raises(InputError, match="tone"):
        tone_of(good, 1)

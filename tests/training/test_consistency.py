"""The consistency objective against paths in closed form, and `invsolve train` with it."""

import math
import re
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from few_step_maps import GaussianMap, Scaled
from places import ROOT
from torch import nn
from train_cases import TOY, run, toy_folder, weights

from invsolve import InputError, load_prior
from invsolve.priors import GaussianMixturePrior, GaussianPrior
from invsolve.schedule import karras
from invsolve.training.config import TrainConfig
from invsolve.training.consistency import (
    ConsistencyRecipe,
    ConsistencyTraining,
    consistency_losses,
    ladder,
    levels_at,
    neighbours,
    ode_step,
)
from invsolve.training.objectives import LogSigma

MEAN, STD, LOW, HIGH = 0.4, 0.2, 0.002, 20.0
CONSISTENCY = 'kind = "consistency"\n'


def column(values):
    return torch.tensor(values, dtype=torch.float64)


def gain(sigma, variance=STD**2):
    """f - m over x - m."""
    return math.sqrt(variance / (variance + sigma**2))


def euler(t, s, variance=STD**2):
    """Of the exact ODE's x - m in one direction: 1 + (s - t) t / (l + t^2)."""
    return 1 + (s - t) * t / (variance + t**2)


def heun(t, s, variance=STD**2):
    """The mean of both slopes, the second where Euler's step ends; Euler's to 0."""
    if s == 0:
        return euler(t, s, variance)
    return 1 + (s - t) / 2 * (t / (variance + t**2) + euler(t, s, variance) * s / (variance + s**2))


def test_rungs_double_and_pairs_are_neighbours():
    assert [levels_at(done, 10, 80) for done in (0, 0.24, 0.26, 0.5, 0.76, 1.0)] == [10, 10, 20, 40, 80, 80]
    assert [levels_at(done, 12, 30) for done in (0.0, 0.4, 0.99)] == [12, 24, 30]
    assert levels_at(0.5, 7, 7) == 7
    rungs = ladder(9, LOW, HIGH)
    assert rungs.tolist() == karras(9, LOW, HIGH)[::-1]
    assert rungs[:2].tolist() == pytest.approx([0, LOW], rel=1e-12)
    sigma = torch.tensor([LOW, LOW * 1.01, float(rungs[4]), HIGH])
    t, s = neighbours(sigma, rungs)
    index = [1, 2, 4, 9]
    assert torch.allclose(t.double(), rungs[index], rtol=1e-6)
    assert torch.allclose(s.double(), rungs[[one - 1 for one in index]], rtol=1e-6)


@pytest.mark.parametrize(("ode", "factor"), [("euler", euler), ("heun", heun)])
def test_a_step_of_the_teacher_is_the_integrators(ode, factor):
    teacher = GaussianPrior(MEAN, STD)
    x = torch.linspace(-1, 2, 12, dtype=torch.float64).reshape(3, 1, 2, 2)
    t, s = column([3.0, 0.3, LOW]), column([1.0, 0.1, 0.0])
    wanted = column([factor(float(a), float(b)) for a, b in zip(t, s, strict=True)]).reshape(-1, 1, 1, 1)
    # float64: some roundings of values below 3
    assert torch.allclose(ode_step(teacher, x, t, s, ode) - MEAN, wanted * (x - MEAN), atol=1e-14)


@pytest.mark.parametrize(("ode", "factor", "order"), [("euler", euler, 2), ("heun", heun, 3)])
def test_at_the_exact_map_what_is_left_is_the_step_of_the_teacher(ode, factor, order):
    """f(x_t, t) - f(x_s, s) = (g(t) - g(s) h(t, s)) (x - m): the loss has a closed form, its gradient falls with the step's order."""
    exact, teacher = GaussianMap(MEAN, STD), GaussianPrior(MEAN, STD)
    generator = torch.Generator().manual_seed(0)
    x0 = MEAN + STD * torch.randn(64, 1, 4, 4, generator=generator, dtype=torch.float64)
    noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    slopes = []
    for step in (0.02, 0.01, 0.005):
        t, s = 0.4, 0.4 - step
        network = Scaled(exact)
        pair = (torch.full((64,), t, dtype=torch.float64), torch.full((64,), s, dtype=torch.float64))
        losses = consistency_losses(network, x0, pair, noise, STD, 10.0, teacher, ode)
        error = (gain(t) - gain(s) * factor(t, s)) ** 2 * (x0 + t * noise - MEAN).square().flatten(1).mean(1)
        wanted = STD / (t - s) * error / STD**2 / 20  # d is e / (2 c) (1 - e / (4 c^2) ...), and e below 1e-2
        # float64: the difference is 1e-5 of what it is taken of
        assert torch.allclose(losses, wanted, rtol=1e-4, atol=1e-20)
        losses.mean().backward()
        slopes.append(float(network.a.grad.abs()))
    # Half the step halves t - s and divides the error, to which the gradient is proportional, by 2^order, to the order of step / t = .05
    for coarse, fine in pairwise(slopes):
        assert abs(math.log2(coarse / fine) - (order - 1)) < 0.1
    far = Scaled(lambda x, sigma: teacher(x, sigma))
    consistency_losses(far, x0, pair, noise, STD, 10.0, teacher, ode).mean().backward()
    assert slopes[-1] < float(far.a.grad.abs()) / 10  # the mean is far from the draw


def test_the_loss_by_hand_and_its_boundary():
    """Two levels, no teacher: x_s has the same noise; at s = 0 the target is the picture, whatever the network says there."""
    x0, noise = torch.full((2, 1, 1, 2), 0.5), torch.tensor([[1.0, -1.0], [2.0, 0.0]]).reshape(2, 1, 1, 2)

    def network(x, sigma):
        return x * (1 - sigma.reshape(-1, 1, 1, 1))

    t, s = torch.tensor([0.2, 0.2]), torch.tensor([0.1, 0.0])
    found = consistency_losses(network, x0, (t, s), noise, 0.25, 0.5)
    first = np.array([0.5 + 0.2, 0.5 - 0.2]) * 0.8 - np.array([0.5 + 0.1, 0.5 - 0.1]) * 0.9
    second = np.array([0.5 + 0.4, 0.5]) * 0.8 - 0.5
    wanted = [0.25 / step * (math.sqrt((error**2).mean() / 0.25**2 + 0.25) - 0.5) for step, error in ((0.1, first), (0.2, second))]
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)  # float32


def test_without_a_teacher_the_gradient_is_that_of_the_exact_teacher_on_average():
    """E[x_s | x_t] is Euler's step of the exact ODE, and the gradient of squares is linear in the target: equal to 4 standard errors."""
    prior, count = GaussianPrior(MEAN, STD), 20_000
    generator = torch.Generator().manual_seed(1)
    x0 = MEAN + STD * torch.randn(count, 1, 1, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    pair = (torch.full((count,), 0.4, dtype=torch.float64), torch.full((count,), 0.25, dtype=torch.float64))
    network = Scaled(GaussianMap(MEAN, STD))
    network.a.data.fill_(0.3)
    slopes = []
    for teacher in (None, prior):
        losses = consistency_losses(network, x0, pair, noise, STD, 10.0, teacher, "euler")
        (slope,) = torch.autograd.grad(losses.mean(), network.b)
        slopes.append(float(slope))
    below = x0 + 0.25 * noise
    moved = ode_step(prior, x0 + 0.4 * noise, *pair, "euler")
    apart = (network(below, pair[1]) - network(moved, pair[1])).detach().flatten()
    weight = STD / 0.15 / STD**2 / 10  # of squares: d is e / (2 c) for e far below c^2
    assert abs(float(apart.mean())) < 4 * float(apart.std()) / math.sqrt(count)
    # d is not quite quadratic, by e / (4 c^2) of errors e of order .1 s0^-2: 1e-2
    assert slopes[0] == pytest.approx(slopes[1] - weight * float(apart.mean()), rel=1e-2)


class Flat:
    """Crops of pixels N(m, s^2), as Training asks for them."""

    channels, size, pools = 1, 4, ()

    def sample(self, count, rng):
        return torch.from_numpy(rng.normal(MEAN, STD, (count, 1, 4, 4))).float()


class Power(nn.Module):
    """m + (1 + (sigma / e^a)^2)^-b (x - m): at b = 1 the mean of N(m, e^2a), at b = 1/2 its few-step map."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(math.log(STD))), nn.Parameter(torch.tensor(1.0))

    def forward(self, x, sigma):
        return MEAN + (1 + (sigma * (-self.a).exp()) ** 2).pow(-self.b).reshape(-1, 1, 1, 1) * (x - MEAN)


@pytest.mark.parametrize("distilled", [True, False], ids=["distilled", "alone"])
def test_a_map_is_learnt(tmp_path, distilled):
    """The whole loop, begun at the mean: of 40 rungs, the exact map to what the steps' errors sum to along the path, computed here.

    The family holds the exact map, which is off by that much from what the rungs ask. Beside it, of the optimiser: Adam's last rate of .001
    moves log g by .001 log(1 + (sigma / s)^2) = .008 at the top at most a step, .02 with its memory of ten steps by chance. Without a
    teacher x_s is noise about what it is taken for, and the rate's walk is as long as the memory of the average, 8000 / 64 = 125 steps
    back, when it was .01: .05. A mean in place of the draw is off by log g itself, .1 at sigma = .1, 2.3 at 2 and 3.9 at 10.
    """
    recipe = ConsistencyRecipe(
        LogSigma(-1.0, 1.5, LOW, HIGH, 0.5), s0=STD, hours=0, batch=64, lr=0.05, warmup=1, steps=300, bf16=False, ema_images=4000,
        levels=(76.5,), rungs=(20, 40), huber=0.1, ode="heun", clip=10.0, channels_last=False,
    )  # fmt: skip
    teacher = GaussianPrior(MEAN, STD) if distilled else None
    learning = ConsistencyTraining(Power(), Flat(), recipe, tmp_path, Flat().sample(4, np.random.default_rng(0)), teacher=teacher)
    average = learning.run(lambda line: None)
    step, summed = heun if distilled else euler, 0.0
    for s, t in pairwise(ladder(40, LOW, HIGH).tolist()):
        summed += math.log(step(t, s))
        found = float((average(torch.full((1, 1, 1, 1), MEAN + 1.0), torch.tensor([t])) - MEAN).log())
        assert abs(found - math.log(gain(t))) < abs(summed - math.log(gain(t))) + (0.02 if distilled else 0.05), t
    if distilled:  # f - end is off by .02 of f - m at most, whose rms is s: -20 log10(.02 .2) = 48 dB
        assert learning.rows[-1]["path76.5"] > 48


def test_two_modes_by_a_fine_path():
    """A mixture's map has no closed form: the loss at a map made by 400 Heun steps is nearly 0, that of the mean is not."""
    prior = GaussianMixturePrior(torch.tensor([0.2, 0.8]).reshape(2, 1, 1, 1), std=0.05)

    def fine(x, sigma):
        """Rows at one level."""
        levels = karras(400, 1e-4, float(sigma[0]))
        for high, low in pairwise(levels):
            ends = (torch.full_like(sigma, one) for one in (high, low))
            x = ode_step(prior, x, *ends, "heun")
        return x

    generator = torch.Generator().manual_seed(2)
    x0 = prior.means[torch.randint(2, (64,), generator=generator)] + 0.05 * torch.randn(64, 1, 1, 1, generator=generator)
    noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    pair = (torch.full((64,), 0.3, dtype=torch.float64), torch.full((64,), 0.28, dtype=torch.float64))
    at_map, at_mean = (float(consistency_losses(one, x0, pair, noise, 0.3, 10.0, prior).mean()) for one in (fine, prior))
    # A Heun step of .02 where the ODE bends over .05: (.4)^3 / 12 of a step of at most .02 a row, against what the mean moves in it, .02
    # times its slope in sigma, of order 1: errors apart by 100, squares by 10^4; rows at the watershed are spread wider
    assert at_map < at_mean / 300
    ends = fine(prior.centre + 80 * torch.randn(4000, 1, 1, 1, generator=generator, dtype=torch.float64), torch.full((4000,), 80.0))
    share = float((ends > 0.5).double().mean())
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(4000)
    assert float((ends - 0.2).abs().minimum((ends - 0.8).abs()).square().mean().sqrt()) == pytest.approx(0.05, rel=0.06)  # 4 / sqrt(2 4000)


@pytest.fixture
def folder(tmp_path):
    return toy_folder(tmp_path)


def few_toml(folder, extra="", start=""):
    """TOY as a few-step map of dncnn's levels."""
    text = TOY.replace("[objective]", f"[objective]\n{CONSISTENCY}{extra}").replace('name = "toy"', f'name = "toy"\n{start}')
    (folder / "few.toml").write_text(text)
    return folder / "few.toml"


def test_invsolve_train_makes_a_few_step_prior_from_a_teacher_of_its_own(folder):
    assert run(folder / "toy.toml", "--out", folder / "teacher").exit_code == 0
    path = few_toml(folder, 'teacher = "teacher/toy.safetensors"\nlevels = [4, 8]\n')
    config = TrainConfig.load(path)
    assert config.start == "teacher/toy.safetensors"
    result = run(path, "--out", folder / "few")
    assert result.exit_code == 0, result.output
    prior = load_prior(str(folder / "few" / "toy.safetensors"))
    assert prior.few_step
    assert not load_prior(str(folder / "teacher" / "toy.safetensors")).few_step
    training = prior.card.training
    assert training["kind"] == "consistency"
    assert training["teacher"] == "teacher/toy.safetensors"
    assert training["levels"] == [4, 8]
    assert (folder / "few" / "log.csv").read_text().splitlines()[0] == "step,images,minutes,loss,path15,path25,path50"
    state = weights(folder / "few")
    first = weights(folder / "teacher")["ema"]
    assert not all(torch.equal(first[key], state["ema"][key]) for key in first)
    assert run("--resume", folder / "few").exit_code == 0
    wrong = run(few_toml(folder, 'teacher = "teacher/toy.safetensors"\ns0 = 0.9\n'), "--out", folder / "other")
    assert wrong.exit_code == 2
    assert re.search(r"objective.s0 = 0.9, and the teacher .* write s0 = 0\.\d+", wrong.output)


def test_without_a_teacher_it_trains_too(folder):
    result = run(few_toml(folder), "--out", folder / "few")
    assert result.exit_code == 0, result.output
    assert load_prior(str(folder / "few" / "toy.safetensors")).few_step


BAD = {
    "levels": ("levels = [40, 20]\n", r"levels = \[first, last\] with first <= last; given \[40, 20\]"),
    "one level": ("levels = [1, 20]\n", "greater than or equal to 2"),
    "target": ('target = "v"\n', "target: of other kinds; a consistency objective has teacher"),
    "ode": ('ode = "rk4"\n', "'heun' or 'euler'"),
    "unknown key": ("rungs = 4\n", "rungs"),
    "no such teacher": ('teacher = "nobody"\n', "objective.teacher = 'nobody': no prior of that name"),
    "a regulariser": ('teacher = "tv"\n', "tv"),
    "grey teacher": ('teacher = "natural-gray"\n', "natural-gray"),
    "another network": ('teacher = "dncnn"\n', r"objective.teacher = 'dncnn': another network.*unless `start` names others"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_configs_are_refused_in_a_line(folder, what):
    extra, words = BAD[what]
    result = run(few_toml(folder, extra), "--out", folder / "few")
    assert result.exit_code != 0
    assert "Traceback" not in result.output
    assert re.search(words, str(result.exception) + result.output), (result.output, result.exception)


def test_a_burst_trains_denoisers_only(folder, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "training"))
    burst = pytest.importorskip("burst", reason="benchmarks/ is not beside the tests")
    with pytest.raises(SystemExit):
        burst.main(["run", str(few_toml(folder)), "--out", str(folder / "out")])
    assert "a burst trains denoisers; given objective.kind 'consistency'" in capsys.readouterr().err
    for name in ("burst", "burst_pool"):
        sys.modules.pop(name, None)


def test_a_condition_and_codes_are_refused(folder):
    few_toml(folder)
    text = (folder / "few.toml").read_text()
    for more, words in (("[condition]\nlabels = true\nclasses = 3\n", "leave the table"), ("", "leave data.autoencoder out")):
        (folder / "few.toml").write_text((text if more else text.replace("side = 16\n[[", 'side = 16\nautoencoder = "a"\n[[')) + more)
        with pytest.raises(InputError, match=words):
            TrainConfig.load(folder / "few.toml")


def test_a_teacher_that_cannot_serve_is_refused(tmp_path):
    recipe = ConsistencyRecipe(LogSigma(-1.0, 1.0, 0.001, 100.0), s0=STD, hours=0, steps=1)
    for teacher, words in (
        (GaussianPrior(MEAN, STD), "0.001 to 100, but the teacher is good for 0.002 to 80"),
        (GaussianMap(MEAN, STD), "it is a few-step map itself"),
    ):
        with pytest.raises(InputError, match=words):
            ConsistencyTraining(Power(), Flat(), recipe, tmp_path, teacher=teacher)

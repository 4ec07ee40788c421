"""Training with a condition: what the network sees, exact resume, the config's refusals, the card of the weights."""

import json
import math

import numpy as np
import pytest
import torch
from invsolve_priors.train import fitted
from invsolve_weights.conditional import CardedConditional
from invsolve_weights.networks import ConditionalDRUNet, EDMDRUNet
from train_cases import TOY, run, toy_folder, weights

from invsolve import NoNoise, Problem, load_prior
from invsolve.errors import InputError
from invsolve.operator import Operator
from invsolve.plugins import registry
from invsolve.priors.conditional import MovingNetwork, Unnoised
from invsolve.priors.conditions import image_condition
from invsolve.priors.moving import Moving
from invsolve.solvers import DDIM
from invsolve.training.config import TrainConfig
from invsolve.training.objectives import paired_losses
from invsolve.training.pairs import Continuous, Degraded, Partial, Regression

CONDITION = '[condition]\noperator = { name = "block-mean", factor = 2 }\nnoise = [0.0, 0.1]\n'
SR = (
    TOY.replace("EDMDRUNet", "ConditionalDRUNet")
    .replace("channels = 3, nc", "channels = 3, condition = 3, nc")
    .replace("[objective]", '[objective]\nkind = "conditional"')
    .replace("steps = 30", "steps = 6")
    .replace("[run]", CONDITION + "[run]")
)


@pytest.fixture
def folder(tmp_path):
    toy_folder(tmp_path)
    (tmp_path / "sr.toml").write_text(SR)
    return tmp_path


@pytest.fixture(autouse=True)
def _same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def images(count=3, side=8):
    return torch.from_numpy(np.random.default_rng(5).random((count, 3, side, side), dtype=np.float32))


def test_a_run_with_a_condition_resumes_to_the_bit_and_its_card_says_what_it_is_for(folder):
    whole, halved = folder / "whole", folder / "halved"
    assert run(folder / "sr.toml", "--out", whole).exit_code == 0
    config = TrainConfig.load(folder / "sr.toml")
    from invsolve_priors.runs import Places
    from invsolve_priors.train import prepared

    torch.set_num_threads(1)
    half = prepared(config, Places(folder, folder), halved)
    for _ in range(3):
        half._train_step()
    half.save(lambda line: None)
    again = prepared(config, Places(folder, folder), halved)
    again.run(lambda line: None)
    assert again.step == 6
    one, other = weights(whole)["network"], weights(halved)["network"]
    assert all(torch.equal(one[key], other[key]) for key in one)
    card = json.loads((whole / "toy.json").read_text())
    assert card["network"] == "conditional-drunet"
    assert card["training"]["condition"]["operator"] == [{"name": "block-mean", "factor": 2}]
    assert (card["training"]["kind"], card["training"]["condition"]["noise"]) == ("conditional", [0.0, 0.1])


def test_the_pairs_are_the_image_and_its_measurement_brought_to_its_size():
    operator = registry().build("operator", "block-mean", in_shape=(3, 8, 8), factor=2)
    x0 = images()
    target, condition = Degraded([operator], up="nearest")(x0, np.random.default_rng(0))
    means = x0.reshape(3, 3, 4, 2, 4, 2).mean((3, 5))
    assert torch.equal(target, x0)
    assert torch.allclose(condition, means.repeat_interleave(2, -1).repeat_interleave(2, -2), atol=1e-6)
    bicubic = Degraded([operator])(x0, np.random.default_rng(0))[1]
    assert torch.allclose(bicubic, torch.nn.functional.interpolate(means, size=(8, 8), mode="bicubic", align_corners=False), atol=1e-6)


def test_measurements_are_exact_under_the_autocast_of_a_training():
    shape = (3, 16, 16)
    operators = [
        registry().build("operator", "jpeg", in_shape=shape, quality=20),
        registry().build("operator", "block-mean", in_shape=shape, factor=2),
    ]
    pairs, x0 = Degraded(operators), torch.rand(8, *shape, generator=torch.Generator().manual_seed(0))
    wanted = pairs.fixed(x0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(pairs.fixed(x0), wanted)


def test_noise_of_the_measurement_has_the_range_asked_for():
    """9216 numbers of one level each item: a standard deviation is known to 1 / sqrt(2 n) = .74 %, of which four are 3 %."""
    identity = registry().build("operator", "identity", in_shape=(1, 96, 96))
    x0 = torch.full((4, 1, 96, 96), 0.5)
    condition = Degraded([identity], (0.2, 0.2))(x0, np.random.default_rng(3))[1]
    assert ((condition - x0).flatten(1).std(1) / 0.2 - 1).abs().max() < 0.03
    spread = (Degraded([identity], (0.0, 0.2))(x0.repeat(10, 1, 1, 1), np.random.default_rng(3))[1] - 0.5).flatten(1).std(1)
    assert spread.min() < 0.05 < 0.15 < spread.max() < 0.21


def test_every_item_gets_one_of_the_operators_and_holes_are_filled_with_noise():
    box = registry().build("operator", "box-mask", in_shape=(3, 8, 8), box=4)
    grey = registry().build("operator", "grey", in_shape=(3, 8, 8))
    x0 = images(40)
    condition = Degraded([box, grey])(x0, np.random.default_rng(1))[1]
    hole = (box(torch.ones(1, 3, 8, 8)) == 0).expand(40, -1, -1, -1)
    greyed = (condition[:, :1] == condition[:, 1:2]).flatten(1).all(1)
    assert 8 < int(greyed.sum()) < 32  # four standard deviations of 40 coins
    assert torch.allclose(condition[greyed], grey(x0[greyed]).expand(-1, 3, -1, -1))
    masked = condition[~greyed]
    assert torch.equal(masked[~hole[~greyed]], x0[~greyed][~hole[~greyed]])
    filled = masked[hole[~greyed]]
    assert abs(float(filled.mean()) - 0.5) < 4 * 0.5 / len(filled) ** 0.5
    assert abs(float(filled.std()) - 0.5) < 4 * 0.5 / (2 * len(filled)) ** 0.5
    zeros = Degraded([box], fill=False)(x0, np.random.default_rng(1))[1]
    assert float(zeros[hole].abs().max()) == 0


class Sees(torch.nn.Module):
    """Keeps what it was called with; estimates half of it."""

    def forward(self, x, sigma, condition):
        self.seen = (x, sigma, condition)
        return 0.5 * x


def test_the_loss_of_each_objective_is_that_of_its_definition():
    operator = registry().build("operator", "block-mean", in_shape=(3, 8, 8), factor=2)
    x0, noise, sigma = images(), images().flip(0) - 0.5, torch.tensor([0.05, 0.2, 0.4])
    plain, moving, net = Degraded([operator]), Moving(100, 25), Sees()
    pair = plain(x0, np.random.default_rng(0))
    column = sigma.reshape(3, 1, 1, 1)
    found = paired_losses(net, plain, pair, sigma, noise, 0.5, "x0")
    assert torch.allclose(found, 4 * (0.5 * (x0 + column * noise) - x0).square().flatten(1).mean(1))
    w = moving.share(sigma).reshape(3, 1, 1, 1)
    state = w * x0 + (1 - w) * pair[1] + column * noise
    for align, factor in (("exact", 1.0), ("paper", w.flatten() ** 2)):
        found = paired_losses(net, Partial(plain, moving, align), pair, sigma, noise, 0.5, "x0")
        assert torch.allclose(net.seen[0], state)
        assert torch.allclose(found, factor * 4 * (0.5 * state - x0).square().flatten(1).mean(1))
    found = paired_losses(net, Regression(plain, 80.0), pair, sigma, noise, 0.5, "x0")
    assert torch.equal(net.seen[0], torch.full_like(x0, 0.5))
    assert torch.allclose(found, 4 * (0.25 - x0).square().flatten(1).mean(1))


def test_the_moving_image_begins_at_the_measurement_and_ends_at_the_picture():
    """The levels by the product of 1 - beta; at step t the picture's share is 1 - t / K, at its inverse the level is what it was."""
    moving = Moving(100, 25)
    betas = np.linspace(2e-5, 0.2, 100)
    a = np.cumprod(1 - betas)[:25]
    assert np.allclose(moving.levels, np.sqrt((1 - a) / a) / 2)
    levels = torch.tensor([0.0, *moving.levels], dtype=torch.float64)
    assert torch.allclose(moving.share(levels), 1 - torch.arange(26, dtype=torch.float64) / 25)
    assert np.allclose(moving.outer(), np.array(moving.levels[:-1]) / (1 - np.arange(1, 25) / 25))
    asked = torch.tensor([1e-3, 0.05, 0.7, 10.0, 80.0], dtype=torch.float64)
    inner = moving.inner(asked)
    assert torch.allclose(inner / moving.share(inner), asked, rtol=1e-9)
    for bad in ((10, 5), (100, 1), (100, 101), (3000, 25)):
        with pytest.raises(InputError, match="part <= total"):
            Moving(*bad)


@pytest.mark.parametrize(("total", "part"), [(25, 2), (25, 25), (100, 25), (100, 100), (1000, 500), (2000, 2), (2000, 2000)])
def test_the_level_of_the_moving_image_is_that_of_any_level_of_the_image(total, part):
    """sigma / w gives back what was asked, rising with it; from nothing to the last step's. 1 - t / K rounds by eps / w, w >= 1e-6 here."""
    moving = Moving(total, part)
    outer = torch.tensor(moving.outer(), dtype=torch.float64)
    asked = torch.cat([torch.logspace(-8, 2, 200, dtype=torch.float64), outer[outer < 100]]).sort().values
    inner = moving.inner(asked)
    assert torch.allclose(inner / moving.share(inner), asked, rtol=1e-9, atol=0)
    assert (inner.diff() >= 0).all()
    ends = moving.inner(torch.tensor([0.0, 1e30, torch.inf], dtype=torch.float64))
    assert torch.allclose(ends, torch.tensor([0.0, moving.levels[-1], moving.levels[-1]], dtype=torch.float64), rtol=1e-12, atol=0)
    assert torch.allclose(moving.inner(asked.float()), inner.float(), rtol=1e-6)


def test_a_network_of_the_moving_image_is_one_of_the_image():
    """What it is shown for x0 + s n has the law that it was trained on: w x0 + (1 - w) c + sigma n."""
    moving, net = Moving(100, 50), Sees()
    x0, c, n, s = images(), images().flip(0), images().flip(1), torch.tensor([0.1, 1.0, 30.0])
    MovingNetwork(net, moving)(x0 + s.reshape(3, 1, 1, 1) * n, s, c)
    state, sigma, _ = net.seen
    w = moving.share(sigma).reshape(3, 1, 1, 1)
    assert torch.allclose(sigma / w.flatten(), s, rtol=1e-4)
    assert torch.allclose(state, w * x0 + (1 - w) * c + sigma.reshape(3, 1, 1, 1) * n, atol=1e-4)
    Unnoised(net, 80.0)(x0, s, c)
    assert torch.equal(net.seen[0], torch.full_like(x0, 0.5))
    assert net.seen[1].tolist() == [80.0] * 3


def test_a_network_with_a_condition_begins_as_the_one_without():
    plain, seeing = EDMDRUNet(nc=(4, 4, 4, 4), nb=1).eval(), ConditionalDRUNet(nc=(4, 4, 4, 4), nb=1, condition=4).eval()
    seeing.load_state_dict(fitted(plain.state_dict(), seeing.state_dict(), "plain"))
    x, sigma = images(), torch.tensor([0.1, 1.0, 30.0])
    condition = torch.rand(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(seeing(x, sigma, condition), plain(x, sigma), atol=1e-6)
        seeing.get_parameter("net.m_head.weight")[:, 0] += 0.1  # the condition comes first
        moved = condition.clone()
        moved[:, 1:] = 0
        assert torch.equal(seeing(x, sigma, condition), seeing(x, sigma, moved))
        assert not torch.allclose(seeing(x, sigma, condition), plain(x, sigma), atol=1e-3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (CONDITION, "", "go together"),
        ('kind = "conditional"', "", "go together"),
        ("factor = 2", "factor = 3", "divide"),
        ("[0.0, 0.1]", "[0.1, 0.0]", "low <= high"),
        ('"block-mean"', '"block-means"', "block-mean"),
        ("noise = [", 'up = "lanczos"\nnoise = [', "pinv"),
        ('kind = "conditional"', 'kind = "partial"\npart = 200', "at most total"),
        ('kind = "conditional"', 'kind = "partial"\npart = 2', "at most the level"),
        ("condition = 3", "condition = 2", "(x, sigma, condition)"),
        ("ConditionalDRUNet", "EDMDRUNet", "condition"),
    ],
)
def test_configs_that_do_not_fit_are_refused(folder, old, new, message):
    assert old in SR
    (folder / "sr.toml").write_text(SR.replace(old, new))
    found = run(folder / "sr.toml", "--out", folder / "out")
    assert found.exit_code != 0
    assert message in found.output


@pytest.mark.parametrize("kind", ["partial", "regression"])
def test_the_other_objectives_train_too(folder, kind):
    text = SR.replace('"conditional"', f'"{kind}"').replace("steps = 6", "steps = 2")
    (folder / "sr.toml").write_text(text)
    assert run(folder / "sr.toml", "--out", folder / "out").exit_code == 0
    card = json.loads((folder / "out" / "toy.json").read_text())
    assert card["training"]["kind"] == kind
    assert ("part" in card["training"]) == (kind == "partial")


def test_masks_with_a_seed_are_drawn_anew(folder):
    """`draws` masks of an operator that takes a seed; one of those that do not."""
    text = SR.replace('{ name = "block-mean", factor = 2 }', '["random-box-mask", "box-mask"]\ndraws = 5')
    (folder / "sr.toml").write_text(text)
    pairs = TrainConfig.load(folder / "sr.toml").pairs((3, 16, 16), folder)
    assert isinstance(pairs, Degraded)
    assert [len(kind) for kind in pairs.kinds] == [5, 1]
    assert all(isinstance(one, Operator) for kind in pairs.kinds for one in kind)
    masks = {tuple(one(torch.ones(1, 3, 16, 16)).flatten().tolist()) for one in pairs.kinds[0]}
    assert len(masks) >= 4


def test_a_told_level_is_the_level_of_the_noise():
    """The last channel says s, and y differs from the plain measurement by s n: 768 numbers of each item give s to 2.6 %."""
    identity = registry().build("operator", "identity", in_shape=(3, 16, 16))
    x0 = torch.full((6, 3, 16, 16), 0.5)
    condition = Degraded([identity], (0.1, 0.3), told=True)(x0, np.random.default_rng(2))[1]
    told = condition[:, 3].flatten(1)
    assert torch.equal(told.amin(1), told.amax(1))
    assert 0.1 <= float(told.min()) < float(told.max()) <= 0.3
    spread = (condition[:, :3] - 0.5).flatten(1).std(1)
    assert ((spread / told[:, 0] - 1).abs() < 4 / math.sqrt(2 * 768)).all()


def test_continuous_pairs_have_sizes_of_their_own_and_tell_the_magnification(folder):
    table = 'kind = "continuous"\noperator = { name = "resize" }\nsides = [8, 16]\nmagnification = [1.5, 4.0]\nleast = 3\n'
    text = SR.replace(CONDITION, "[condition]\n" + table).replace("condition = 3", "condition = 4").replace("steps = 6", "steps = 2")
    (folder / "sr.toml").write_text(text)
    config = TrainConfig.load(folder / "sr.toml")
    pairs = config.pairs((3, 16, 16), folder)
    assert isinstance(pairs, Continuous)

    class Waves:
        def sample(self, count, rng):
            return images(count, 16)

    rng, seen = np.random.default_rng(0), set()
    for _ in range(30):
        x0, condition = pairs.draw(Waves(), 2, rng)
        side, told = x0.shape[-1], float(condition[0, 3, 0, 0])
        size = round(side / 2 ** (4 * told))
        assert condition.shape == (2, 4, side, side)
        assert abs(told - math.log2(side / size) / 4) < 1e-6
        operator = registry().build("operator", "resize", in_shape=(3, side, side), size=size)
        assert torch.allclose(condition[:, :3], image_condition(operator, operator(x0)), atol=1e-5)
        seen.add((side, size))
    assert len({side for side, _ in seen}) == 9
    assert min(size for _, size in seen) == 3
    assert run(folder / "sr.toml", "--out", folder / "out").exit_code == 0
    prior = load_prior(str(folder / "out" / "toy.safetensors"))
    assert "magnifications of 1.5 to 4, 3-channel images of sides 8 to 16" in prior.made_for.words
    assert [round(len(prior.gaps(problem_of(prior, side, size)))) for side, size in ((13, 6), (16, 3), (12, 11), (20, 10))] == [0, 1, 1, 1]
    solution = DDIM(steps=2).solve(problem_of(prior, 13, 6), prior, generator=0)
    assert solution.x.shape == (1, 3, 13, 13)
    fixed = CardedConditional(str(folder / "out" / "toy.safetensors"), side=12)
    assert fixed.in_shape == (3, 12, 12)
    assert fixed.made_for.example(images(1, 12)).operator.out_shape == (3, 3, 3)


def problem_of(prior, side, size):
    operator = registry().build("operator", "resize", in_shape=(3, side, side), size=size)
    return Problem.simulate(operator, images(1, side), NoNoise(), generator=0)

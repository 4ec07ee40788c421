"""Autoencoders: their networks, their loss by hand, their runs through the command, their weight files, and networks of their codes."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from invsolve_latent import Autoencoder, Latent, load_autoencoder
from invsolve_latent.conditions import HOLES, CodedPairs, MaskedPairs, masked
from invsolve_operators import BlockMean, Mask
from invsolve_weights.conditional import made_for
from PIL import Image

from invsolve import GaussianNoise, NoNoise, Problem, load_prior
from invsolve.cli import main
from invsolve.errors import InputError
from invsolve.solvers import DDIM, DPS, PSLD, LatentRePaint
from invsolve.training.autoencoder import autoencoder_losses, edges_apart
from invsolve.training.config import TrainConfig
from invsolve.training.pairs import Degraded


def tiny(factor=4, book=0):
    torch.manual_seed(0)
    return Autoencoder(3, factor, 3, 6, 1, book)


@pytest.mark.parametrize(("factor", "book"), [(2, 0), (4, 0), (8, 0), (4, 16)])
def test_codes_have_the_size_the_factor_says(factor, book):
    net, x = tiny(factor, book).eval(), torch.rand(2, 3, 16, 24)
    assert net.encode(x).shape == (2, 3, 16 // factor, 24 // factor)
    made, penalty = net(x)
    assert made.shape == x.shape
    assert penalty.shape == (2,)
    if not book:  # a word's rounding is the same both ways, but for its bits
        assert float((net.decode(net.encode(x)) - made).abs().max()) < 1e-5


def test_codes_are_scaled_by_what_training_met():
    net = tiny()
    x = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        raw = net._raw(x)[0]
        for _ in range(1500):  # a running mean with memory .99: 3e-7 of the first value is left
            net._meet(raw)
        code = net.eval().encode(x)
    assert code.mean((0, 2, 3)).abs().max() < 0.02
    assert (code.transpose(0, 1).flatten(1).std(1) - 1).abs().max() < 0.02


def test_the_kl_penalty_by_hand():
    """0.5 sum(m^2 + s^2 - 1 - log s^2) over the code, for each number of the image; drawn in training, the mean after it."""
    net, x = tiny(), torch.rand(2, 3, 8, 8)
    mean, log = net._raw(x)
    wanted = 0.5 * (mean**2 + log.exp() - 1 - log).sum((1, 2, 3)) / (3 * 64)
    net.eval()
    assert torch.allclose(net(x)[1], wanted)
    assert torch.equal(net(x)[0], net(x)[0])
    net.train()
    with torch.no_grad():
        assert not torch.equal(net(x)[0], net(x)[0])


def test_words_are_the_nearest_and_move_to_the_means_of_their_codes():
    net = tiny(book=2)
    net.words.copy_(torch.tensor([[0.0, 0, 0], [1, 1, 1]]))
    net.uses.fill_(1.0)
    raw = torch.tensor([[0.2, 0.1, 0.0], [0.9, 1.2, 1.0], [1.0, 1.0, 1.3]]).T.reshape(1, 3, 1, 3).requires_grad_(True)
    near = net._rounded(raw)
    assert near[0, :, 0].T.tolist() == [[0, 0, 0], [1, 1, 1], [1, 1, 1]]
    near.sum().backward()
    assert raw.grad is not None
    assert raw.grad.unique().tolist() == [1.0]  # as if nothing had been rounded
    net._meet(raw.detach())
    share = 0.01 * 2 / (0.99 * 1 + 0.01 * 2)  # two codes beside a use of 1, memory .99
    assert torch.allclose(net.words[1], 1 + share * (torch.tensor([0.95, 1.1, 1.15]) - 1))
    assert net.uses.tolist() == pytest.approx([1.0, 1.01])
    net.uses[0] = 0.0
    net._meet(raw.detach())
    assert any(torch.allclose(net.words[0], row, atol=0.05) for row in raw[0, :, 0].T.detach())  # an idle word begins anew at a code


def test_the_loss_by_hand():
    class Fixed(torch.nn.Module):
        def forward(self, x):
            return x + 0.1 * torch.arange(4.0).reshape(1, 1, 1, 4), torch.tensor([2.0])

    x = torch.zeros(1, 1, 4, 4)
    # |e| has mean .15; along rows neighbours differ by .1, their means over 2 pixels by .2, those over 4 have no neighbour
    edges = (0.1 + 0) / 2 + (0.2 + 0) / 2
    assert float(autoencoder_losses(Fixed(), x, 0.0, 0.0)) == pytest.approx(0.3)
    assert float(edges_apart(x, Fixed()(x)[0])) == pytest.approx(edges)
    assert float(autoencoder_losses(Fixed(), x, 0.5, 0.25)) == pytest.approx(0.3 + 0.5 * 2 * edges + 0.5)


CONFIG = """
name = "coder"
[network]
class = "invsolve_latent.networks:Autoencoder"
arguments = {{ channels = 3, factor = 4, codes = 3, width = 6, blocks = 1, book = {book} }}
[data]
side = 16
[[data.source]]
folder = "pictures"
[validation]
folder = "pictures"
count = 2
side = 16
[objective]
kind = "autoencoder"
penalty = {penalty}
[run]
steps = {steps}
batch = 2
save_minutes = 60
"""
CODES = """
name = "{name}"
[network]
class = "invsolve_weights.networks:{network}"
arguments = {{ channels = 3, {condition}nc = [4, 4, 4, 4], nb = 1, mean = 0.0, s0 = 1.0 }}
[data]
side = 16
autoencoder = "coder.safetensors"
{hole}
[[data.source]]
folder = "pictures"
[validation]
folder = "pictures"
count = 2
side = 16
[objective]
{kind}
s0 = 1.0
sigmas = {{ kind = "log-normal", mean = -0.5, std = 1.2, low = 0.002, high = 80.0 }}
{table}
[run]
steps = 3
batch = 2
"""
PLAIN = {"name": "plain", "network": "EDMDRUNet", "condition": "", "hole": "", "kind": "", "table": ""}
MEANS = '[condition]\noperator = { name = "block-mean", factor = 4 }\nup = "nearest"'
MASKS = '[condition]\noperator = { name = "mask", keep = 0.5 }\nalso = ["mask"]\nfill = false'
PAIRED = {**PLAIN, "network": "ConditionalDRUNet", "kind": 'kind = "conditional"'}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with weights of an autoencoder and of three networks of its codes, all trained by the command for a few steps."""
    root = tmp_path_factory.mktemp("runs")
    (root / "pictures").mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 255, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "pictures" / f"{seed}.png")

    def train(name, text):
        (root / f"{name}.toml").write_text(text)
        result = CliRunner().invoke(main, ["train", str(root / f"{name}.toml"), "--out", str(root / "of" / name)])
        assert result.exit_code == 0, result.output
        for suffix in ("json", "safetensors"):
            shutil.copy(root / "of" / name / f"{name}.{suffix}", root)

    train("coder", CONFIG.format(book=0, penalty=1e-6, steps=6))
    train("plain", CODES.format(**PLAIN))
    train("sr", CODES.format(**{**PAIRED, "name": "sr", "condition": "condition = 3, ", "table": MEANS}))
    for hole in HOLES:
        given = {"name": hole, "condition": "condition = 4, ", "table": MASKS, "hole": f'hole = "{hole}"'}
        train(hole, CODES.format(**{**PAIRED, **given}))
    return root


def test_the_command_trains_logs_and_exports(runs):
    log = (runs / "of" / "coder" / "log.csv").read_text().splitlines()
    assert log[0] == "step,images,minutes,loss,ceiling"
    assert (runs / "of" / "coder" / "reconstructed.png").is_file()
    assert (runs / "of" / "plain" / "log.csv").read_text().startswith("step,images,minutes,loss,db0.2,db0.5,db1,db2")
    net, card = load_autoencoder(runs / "coder.safetensors")
    assert card.autoencoder == {"channels": 3, "factor": 4, "codes": 3, "width": 6, "blocks": 1, "book": 0}
    assert card.training["steps"] == 6
    assert card.training["penalty"] == 1e-6
    assert card.ceiling is not None
    assert not any(value.requires_grad for value in net.parameters())


def test_an_interrupted_run_ends_at_the_same_bits(runs, tmp_path):
    (tmp_path / "pictures").symlink_to(runs / "pictures")
    for name, steps in (("half", 3), ("whole", 6)):
        (tmp_path / f"{name}.toml").write_text(
            CONFIG.format(book=8, penalty=0.25, steps=steps).replace('name = "coder"', f'name = "{name}"')
        )
        CliRunner().invoke(main, ["train", str(tmp_path / f"{name}.toml"), "--out", str(tmp_path / name)], catch_exceptions=False)
    (tmp_path / "half" / "config.toml").write_text(CONFIG.format(book=8, penalty=0.25, steps=6))
    # the rate falls along a cosine of the whole run: three steps of six and of three are not the same, what is resumed is
    state = torch.load(tmp_path / "whole" / "checkpoint.pt", weights_only=True)
    twice = []
    for copy in ("one", "two"):
        shutil.copytree(tmp_path / "half", tmp_path / copy)
        CliRunner().invoke(main, ["train", "--resume", str(tmp_path / copy)], catch_exceptions=False)
        twice.append(torch.load(tmp_path / copy / "checkpoint.pt", weights_only=True))
    assert twice[0]["step"] == state["step"] == 6
    assert all(torch.equal(twice[0]["network"][key], twice[1]["network"][key]) for key in state["network"])


def test_weight_files_that_are_not_what_they_say(runs, tmp_path):
    for suffix in ("json", "safetensors"):
        shutil.copy(runs / f"coder.{suffix}", tmp_path)
    path = tmp_path / "coder.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="sha256"):
        load_autoencoder(path)
    path.write_bytes(content)
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "autoencoder": {**card["autoencoder"], "width": 8}}))
    with pytest.raises(InputError, match="the network needs F16"):
        load_autoencoder(path)
    path.with_suffix(".json").write_text(json.dumps({**card, "autoencoder": {"factor": 3}}))
    with pytest.raises(InputError, match="no autoencoder is made"):
        load_autoencoder(path)
    with pytest.raises(InputError, match="not the card of an autoencoder"):
        load_autoencoder(runs / "plain.safetensors")


def test_a_latent_prior_by_its_path(runs):
    prior = load_prior(str(runs / "plain.safetensors"))
    assert isinstance(prior, Latent)
    assert (prior.in_shape, prior.image_shape, prior.clip, prior.centre, prior.s0) == ((3, 4, 4), (3, 16, 16), None, 0.0, 1.0)
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    net = load_autoencoder(runs / "coder.safetensors")[0]
    assert torch.equal(prior.ceiling(x), net.decode(net.encode(x.float())).double())
    assert DDIM(steps=2).solve(Problem.unconditional((3, 16, 16), 2), prior, generator=0).x.shape == (2, 3, 16, 16)
    mask = Problem.simulate(Mask((3, 16, 16), keep=0.9), x, GaussianNoise(0.05), generator=0)
    for solver in (DPS(steps=2), PSLD(steps=2), LatentRePaint(steps=2, repeats=2)):
        assert solver.solve(mask, prior, generator=0).x.shape == x.shape
    assert load_prior(str(runs / "plain.safetensors"), side=24).image_shape == (3, 24, 24)
    with pytest.raises(InputError, match="multiple of 4"):
        Latent(str(runs / "plain.safetensors"), side=18)
    with pytest.raises(InputError, match="an autoencoder, no prior"):
        load_prior(str(runs / "coder.safetensors"))
    with pytest.raises(InputError, match="names no autoencoder"):
        Latent("mnist")


def test_ldm_sr_sees_the_measurement_itself(runs):
    """Means of 4 x 4 pixels beside a code of 4 x 4 places: the condition is y; another operator is refused."""
    prior, x = load_prior(str(runs / "sr.safetensors")), torch.rand(2, 3, 16, 16)
    problem = Problem.simulate(BlockMean((3, 16, 16), factor=4), x, NoNoise(), generator=0)
    inner = prior.space(problem)[0]
    assert float((prior.given(inner).denoiser.net.condition - problem.y).abs().max()) < 1e-6
    assert DDIM(steps=2).solve(problem, prior, generator=0).x.shape == x.shape
    wrong = Problem.simulate(Mask((3, 16, 16)), x, NoNoise(), generator=0)
    assert "trained for block-mean(factor=4)" in str(DDIM().mismatches(wrong, prior))
    pairs = CodedPairs(Degraded([BlockMean((3, 16, 16), factor=4)], up="nearest"), load_autoencoder(runs / "coder.safetensors")[0])
    assert float((pairs(x, np.random.default_rng(0))[1] - problem.y).abs().max()) < 1e-6


@pytest.mark.parametrize("hole", HOLES)
def test_the_two_conventions_of_holes_are_the_cards(runs, hole):
    """LDM's: a black hole, its mask -1 and 1; Stable Diffusion's: a grey one, 0 and 1, hidden being the larger. In training and in use."""
    net, x = load_autoencoder(runs / "coder.safetensors")[0], torch.rand(2, 3, 16, 16)
    keep = torch.ones(1, 16, 16)
    keep[:, 4:8, 8:12] = 0
    value, shown, hidden = (0.0, -1.0, 1.0) if hole == "black" else (0.5, 0.0, 1.0)
    channel = torch.full((2, 1, 4, 4), shown)
    channel[:, :, 1, 2] = hidden
    wanted = torch.cat([net.encode(torch.where(keep > 0, x, value)), channel], 1)
    prior = load_prior(str(runs / f"{hole}.safetensors"))
    assert json.loads((runs / f"{hole}.json").read_text())["training"]["hole"] == hole
    problem = Problem.simulate(Mask((3, 16, 16), mask=keep), x, NoNoise(), generator=0)
    found = prior.given(prior.space(problem)[0]).denoiser.net.condition
    assert torch.allclose(found, wanted, atol=1e-6)
    pairs = MaskedPairs(Degraded([Mask((3, 16, 16), mask=keep)]), net, hole)
    assert torch.allclose(pairs(x, np.random.default_rng(0))[1], wanted, atol=1e-6)
    answer = DDIM(steps=2).solve(problem, prior, generator=0).x
    assert torch.equal(answer[:, :, keep[0] > 0], x[:, :, keep[0] > 0])  # pasted in the image


def test_what_is_refused(runs, tmp_path):
    with pytest.raises(InputError, match="hole must be one of"):
        masked(tiny(), torch.rand(1, 3, 8, 8), torch.ones(1, 1, 8, 8), "white")
    with pytest.raises(InputError, match="whose operators are masks"):
        MaskedPairs(Degraded([BlockMean((3, 16, 16), factor=4)]), tiny(), "grey")
    text = CONFIG.format(book=0, penalty=1e-6, steps=1)
    for old, new, words in (
        ("side = 16", "side = 18", "its factor is 4"),
        ("invsolve_latent.networks:Autoencoder", "torch.nn:Identity", "must be invsolve_latent"),
        ('kind = "autoencoder"', 'kind = "autoencoder"\nsigmas = 1', "sigmas"),
        ("[run]", '[condition]\noperator = { name = "mask" }\n[run]', "leave the table"),
    ):
        (tmp_path / "bad.toml").write_text(text.replace(old, new, 1))
        (tmp_path / "pictures").exists() or (tmp_path / "pictures").symlink_to(runs / "pictures")
        result = CliRunner().invoke(main, ["train", str(tmp_path / "bad.toml"), "--out", str(tmp_path / "out")])
        assert result.exit_code != 0
        assert words in result.output.replace("\n", " "), result.output
    assert TrainConfig.load(runs / "coder.toml").recipe().penalty == 1e-6
    assert math.isclose(made_for(Latent(str(runs / "sr.safetensors")).card).noise[1], 0.0)

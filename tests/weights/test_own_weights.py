"""Weights from anywhere: recognised by keys and shapes, loaded into their class, and put to the test."""

import json
import math
import os
from pathlib import Path

import deepinv
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from invsolve_weights.cards import load_network
from invsolve_weights.containers import open_weights
from invsolve_weights.formats import Convention, recognise, reorder_qkv
from invsolve_weights.own import Inspected, inspect_weights, load_weights, network_of
from invsolve_weights.places import FOLDER, names
from invsolve_weights.selftest import promised_test, self_test
from safetensors.torch import save_file

from invsolve import InputError, load_prior
from invsolve.cli import main
from invsolve.errors import ArgumentError
from invsolve.priors import Denoiser, as_denoiser
from invsolve.schedule import DiscreteVP

X = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def seeded(build):
    torch.manual_seed(0)
    return build().eval()


def drunet():
    return seeded(lambda: deepinv.models.DRUNet(3, 3, nc=(8, 8, 16, 16), nb=2, pretrained=None))


def chain(inside, out, depth=4):
    layers = []
    for k in range(depth):
        layers += [torch.nn.Conv2d(inside if k == 0 else 8, out if k == depth - 1 else 8, 3, padding=1), torch.nn.ReLU()]
    return seeded(lambda: torch.nn.Sequential(*layers[:-1]))


def saved(path, state):
    {".safetensors": lambda: save_file(state, path), ".npz": lambda: np.savez(path, **{k: v.numpy() for k, v in state.items()})}.get(
        path.suffix, lambda: torch.save(state, path)
    )()
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".npz"])
def test_drunet_gives_what_its_class_gives(tmp_path, suffix):
    """To rounding of single precision: the same network on the same input."""
    net = drunet()
    path = saved(tmp_path / f"mine{suffix}", {key: value.detach().clone() for key, value in net.state_dict().items()})
    prior = load_prior(str(path), check=False)
    with torch.no_grad():
        wanted = net(X, torch.tensor([0.1, 0.1]))
    assert float((prior(X, 0.1) - wanted).abs().max()) < 1e-5
    assert inspect_weights(path).found.format == "deepinv DRUNet"
    assert prior.weights_sha256 == open_weights(path).sha256()


def test_dncnn_of_deepinv(tmp_path):
    net = seeded(lambda: deepinv.models.DnCNN(3, 3, depth=5, nf=8, pretrained=None))
    path = saved(tmp_path / "mine.pt", {"step": 3, "params_ema": {f"module.{k}": v for k, v in net.state_dict().items()}})
    prior = load_prior(str(path), check=False, sigma_range=(0.01, 0.1))
    with torch.no_grad():
        assert float((prior(X, 0.1) - net(X)).abs().max()) < 1e-6
    assert prior.blind
    assert prior.sigma_range == (0.01, 0.1)
    assert open_weights(path).within == "params_ema"


def test_published_chains(tmp_path):
    net = chain(3, 3)
    path = saved(tmp_path / "dncnn.pth", {f"model.{key}": value for key, value in net.state_dict().items()})
    with torch.no_grad():
        assert torch.allclose(load_prior(str(path), check=False)(X, 0.1), X - net(X), atol=1e-6)
    net = chain(13, 12)
    path = saved(tmp_path / "ffdnet.pth", {f"model.{key}": value for key, value in net.state_dict().items()})
    small = torch.cat([torch.nn.functional.pixel_unshuffle(X, 2), torch.full((2, 1, 12, 12), 0.1)], 1)
    with torch.no_grad():
        wanted = torch.nn.functional.pixel_shuffle(net(small), 2)
    prior = load_prior(str(path), check=False)
    assert torch.allclose(prior(X, 0.1), wanted, atol=1e-6)
    assert prior(X[..., :23, :21], 0.1).shape == (2, 3, 23, 21)


def as_halves(value):
    """Weights that half precision holds, a short draw again and again: drawing 93 million and rounding them takes seconds."""
    short = torch.randint(-1024, 1025, (9973,), generator=torch.Generator().manual_seed(0)) / 1024
    size = 2.0 ** (1 - round(math.log2(max(1, value[0].numel())) / 2))  # every layer has a say: q, k, v in another order move x0 by .5
    return (short * size).repeat(-(-value.numel() // len(short)))[: value.numel()].reshape(value.shape)


def test_guided_diffusion_checkpoint(tmp_path):
    """The FFHQ size, weights in half precision: eps is what deepinv's class gives, the learned variance is split off."""
    with torch.device("meta"):
        net = deepinv.models.DiffUNet(3, 3, pretrained=None).eval()  # pyright: ignore[reportArgumentType]
    state = {key: as_halves(value) for key, value in net.named_parameters()}
    net.load_state_dict(state, strict=False, assign=True)
    path = saved(tmp_path / "ffhq.pt", {key: value.half() for key, value in state.items()})
    prior = load_weights(path, check=False)
    schedule, t = DiscreteVP(), 400
    sigma = schedule.sigmas[t]
    x = X[:1, :, :, :].repeat(1, 1, 2, 2)[..., :32, :32]
    with torch.no_grad():
        x_t = (2 * x - 1) / (1 + sigma**2) ** 0.5
        eps = net.forward_diffusion(x_t, torch.tensor([float(t)]))
    assert eps.shape[1] == 6
    wanted = ((2 * x - 1) - sigma * eps[:, :3] + 1) / 2
    # sigma -> t by interpolation in log sigma is good to 1e-4 of a step, of which 20 move eps by .7: 4e-6; some 60 layers round as much
    assert float((prior(x, sigma / 2) - wanted).abs().max()) < 1e-4 * (1 + float(wanted.abs().max()))
    assert inspect_weights(path).convention == Convention("eps", (-1.0, 1.0), "linear", None)
    stored = open_weights(path)
    stored.shapes["label_emb.weight"] = (1000, 512)
    with pytest.raises(InputError, match="label"):
        network_of(Inspected(stored, recognise(stored.shapes), Convention()))


def test_order_of_q_k_v():
    """deepinv's two attention layers, the weights turned from one order to the other: the same output."""
    from deepinv.models import diffunet

    heads, width = 3, 8
    qkv = torch.randn(1, 3 * heads * width, 10, generator=torch.Generator().manual_seed(0))
    new = diffunet.QKVAttention(heads)(qkv)
    turned = reorder_qkv({"a.qkv.weight": qkv[0]}, width)["a.qkv.weight"][None]
    assert torch.allclose(diffunet.QKVAttentionLegacy(heads)(turned), new, atol=1e-6)
    assert not torch.allclose(diffunet.QKVAttentionLegacy(heads)(qkv), new, atol=1e-2)


def test_networks_whose_sizes_are_not_in_the_file(tmp_path):
    sizes = {"img_resolution": 16, "model_channels": 32, "channel_mult": (1, 2), "num_blocks": 1, "attn_resolutions": (8,)}
    net = seeded(lambda: deepinv.models.ADMUNet(pretrained=None, **sizes))
    path = saved(tmp_path / "adm.safetensors", {k: v.detach().clone().contiguous() for k, v in net.state_dict().items()})
    with pytest.raises(InputError, match="arguments"):
        load_weights(path)
    prior = load_weights(path, arguments=sizes, check=False)
    x = X[..., :16, :16]
    with torch.no_grad():
        assert torch.allclose(prior(x, 0.1), net(x, torch.tensor([0.1, 0.1])), atol=1e-5)


def test_unknown_and_misfitting_files(tmp_path):
    with pytest.raises(InputError, match="no known format"):
        load_prior(str(saved(tmp_path / "odd.pt", {"weight": torch.zeros(3)})))
    state = {k: v.detach().clone() for k, v in drunet().state_dict().items()}
    state["m_down2.0.res.0.weight"] = torch.zeros(16, 16, 3, 3)
    with pytest.raises(InputError, match="shapes"):
        load_prior(str(saved(tmp_path / "wrong.pt", state)))
    with pytest.raises(InputError, match="NaN"):
        load_prior(str(saved(tmp_path / "nan.pt", {k: v * float("nan") for k, v in drunet().state_dict().items()})))
    with pytest.raises(InputError, match="cannot be read"):
        load_prior(str(tmp_path / "nowhere.pt"))
    with pytest.raises(InputError, match="EDM"):
        load_prior(str(tmp_path / "edm.pkl"))
    with pytest.raises(ArgumentError, match="prediction"):
        load_prior(str(tmp_path / "wrong.pt"), prediction="eps")
    with pytest.raises(InputError, match="kind"):
        load_prior(str(tmp_path / "wrong.pt"), kind="noise")


class Eps(torch.nn.Module):
    """eps of a network called with one of 1000 times."""

    def __init__(self):
        super().__init__()
        self.table = DiscreteVP()

    def forward(self, x_t, t):
        scale, std = self.table(t)
        scale, std = scale.reshape(-1, 1, 1, 1), std.reshape(-1, 1, 1, 1)
        return (x_t - scale * Smoothing(x_t / scale, (std / scale).flatten())) / std


def Smoothing(x, sigma):  # noqa: N802 (stands for a network)
    """Enough of a denoiser for a smooth picture: a mean over 9 x 9, reflected at the border."""
    return torch.nn.functional.avg_pool2d(torch.nn.functional.pad(x, (4, 4, 4, 4), mode="reflect"), 9, 1)


def test_a_wrong_target_is_named():
    def make(convention):
        return as_denoiser(Eps(), convention.kind, range=convention.range, schedule=DiscreteVP(), channels=3)

    right = Convention("eps", (-1.0, 1.0), "linear", None)
    assert self_test(make, right, 3).passed
    for kind in ("x0", "v"):
        stated = Convention(kind, (-1.0, 1.0), "linear", None)
        result = self_test(make, stated, 3)
        assert not result.passed
        assert "kind='eps'" in result.text(stated)


class Centred(torch.nn.Module):
    """A denoiser that knows its images lie in [-1, 1]: what is outside is pulled in, hard; and it trusts sigma."""

    def forward(self, x, sigma):
        assert sigma.shape == (len(x),)
        return torch.where(
            (sigma > 0.03).reshape(-1, 1, 1, 1), 2.5 * (Smoothing(x, sigma) / 2.5).tanh() - 0.9 * (Smoothing(x, sigma).mean() > 0.3), x
        )


def test_a_wrong_range_is_named():
    """Pictures in [0, 1] have a mean that this network does not expect of pictures in [-1, 1]."""

    def make(convention):
        return as_denoiser(Centred(), convention.kind, range=convention.range, channels=3, sigma_range=(0.05, 1.0))

    stated = Convention("x0", (0.0, 1.0))
    result = self_test(make, stated, 3)
    assert not result.passed
    assert "range=(-1.0, 1.0)" in result.text(stated)
    assert self_test(make, Convention("x0", (-1.0, 1.0)), 3).passed


def test_untrained_weights_are_refused(tmp_path):
    path = saved(tmp_path / "fresh.pt", drunet().state_dict())
    with pytest.raises(InputError, match="trained"):
        load_prior(str(path))
    assert isinstance(load_prior(str(path), check=False), Denoiser)


def test_the_shipped_networks_pass_the_test_and_are_found_out_when_misread():
    for name in ("natural", "dncnn"):
        network, card = load_network(name)

        def make(one, network=network, card=card):
            return as_denoiser(network, one.kind, range=one.range, sigma_range=card.sigma_range, channels=3)

        assert self_test(make, Convention(sigma_range=card.sigma_range), 3).passed
        stated = Convention("eps", sigma_range=card.sigma_range)
        assert "kind='x0'" in self_test(make, stated, 3).text(stated)


def test_a_promise_on_the_card_is_measured_again():
    """The digits' network leaves much of a smooth picture's noise; its card says how much, and another network is found out."""
    network, card = load_network("mnist")
    assert card.promise
    assert card.size < 1_000_000

    def result(scale):
        return promised_test(as_denoiser(lambda x, sigma: scale * network(x, sigma), "x0", channels=1), 1, card.promise)

    assert result(1.0).passed
    assert "what its card promises" in result(1.0).text(Convention())
    assert not result(0.97).passed
    assert "other than what" in result(0.97).text(Convention())


def test_commands(tmp_path):
    run = CliRunner().invoke
    result = run(main, ["weights", "list"])
    assert result.exit_code == 0
    assert "natural" in result.output
    result = run(main, ["weights", "verify"])
    assert result.exit_code == 0, result.output
    assert result.output.count("ok ") == len(names())
    assert {path.stem for path in FOLDER.glob("*.json")} <= set(names())
    path = saved(tmp_path / "mine.pth", drunet().state_dict())
    facts = json.loads(run(main, ["weights", "inspect", str(path), "--json"]).output)
    assert facts["format"] == "deepinv DRUNet"
    assert facts["parameters"] == sum(value.numel() for value in drunet().parameters())
    assert run(main, ["weights", "verify", str(path)]).exit_code == 1  # untrained
    out = tmp_path / "new.safetensors"
    result = run(main, ["weights", "convert", str(path), "--out", str(out), "--sigma-range", "0.01", "0.15", "--dtype", "float16"])
    assert result.exit_code == 0, result.output
    prior = load_prior(str(out), check=False)
    assert prior.sigma_range == (0.01, 0.15)
    assert run(main, ["weights", "convert", str(path), "--out", str(out)]).exit_code == 2  # taken
    save_file({"m_head.weight": torch.zeros(1)}, out)
    with pytest.raises(InputError, match="sha256"):
        load_prior(str(out))


def test_files_that_export_made_are_loaded_by_their_card(tmp_path):
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"dncnn{suffix}").write_bytes((FOLDER / f"dncnn{suffix}").read_bytes())
    prior = load_prior(str(tmp_path / "dncnn.safetensors"))
    assert torch.equal(prior(X, 0.1), load_prior("dncnn")(X, 0.1))


DATA = os.environ.get("INVSOLVE_DATA")


@pytest.mark.skipif(not DATA, reason="INVSOLVE_DATA (published weights) is not set")
@pytest.mark.parametrize(
    "name", ["dncnn_gray_s25.pth", "dncnn_gray_blind.pth", "dncnn_color_blind.pth", "ffdnet_color.pth", "dncnn_gray_s15.npz"]
)
def test_published_files(name):
    """Loads as it is, or with the range of levels it was trained for, and passes the test."""
    single = {"dncnn_gray_s25.pth": 25, "dncnn_gray_s15.npz": 15}.get(name)
    ends = {} if single is None else {"sigma_range": (0.7 * single / 255, 1.1 * single / 255)}
    prior = load_prior(str(Path(str(DATA)) / "weights" / name), **ends)
    assert isinstance(prior, Denoiser)


def test_diffusers_folder(tmp_path):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    sizes = {"sample_size": 16, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    net = seeded(lambda: diffusers.UNet2DModel(**sizes, **blocks))
    for kind, ours in (("epsilon", "eps"), ("sample", "x0"), ("v_prediction", "v")):
        folder = tmp_path / kind
        net.save_pretrained(folder / "unet")
        diffusers.DDPMScheduler(prediction_type=kind).save_pretrained(folder / "scheduler")
        prior = load_prior(str(folder), check=False)
        wanted = as_denoiser(lambda x, t: net(x, t).sample, ours, range=(-1.0, 1.0), schedule=DiscreteVP(), channels=3)
        with torch.no_grad():
            assert torch.allclose(prior(X[..., :16, :16], 0.5), wanted(X[..., :16, :16], 0.5), atol=1e-5)

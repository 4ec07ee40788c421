"""DDPM's first networks and diffusers' schedules, against an independent forward pass and diffusers' own numbers."""

import math

import numpy as np
import pytest
import torch
from invsolve_weights.own import inspect_weights, load_weights
from torch.nn import functional

from invsolve import InputError, load_prior
from invsolve.priors import as_denoiser
from invsolve.schedule import LAWS, DiscreteVP

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
WIDTH, LEVELS, BLOCKS, ATTENDED = 32, (32, 64), 2, (1,)
X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def made():
    """Random weights under the keys of the DDPM networks: two scales, two blocks each, attention on the second."""
    generator, state = torch.Generator().manual_seed(0), {}

    def layer(name, *shape):
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))
        state[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)

    def norm(name, width):
        state[f"{name}.weight"] = 1 + 0.1 * torch.randn(width, generator=generator)
        state[f"{name}.bias"] = 0.1 * torch.randn(width, generator=generator)

    def block(name, inside, out):
        norm(f"{name}.norm1", inside)
        layer(f"{name}.conv1", out, inside, 3, 3)
        layer(f"{name}.temb_proj", out, 4 * WIDTH)
        norm(f"{name}.norm2", out)
        layer(f"{name}.conv2", out, out, 3, 3)
        if inside != out:
            layer(f"{name}.nin_shortcut", out, inside, 1, 1)

    def attention(name, width):
        norm(f"{name}.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            layer(f"{name}.{part}", width, width, 1, 1)

    layer("temb.dense.0", 4 * WIDTH, WIDTH)
    layer("temb.dense.1", 4 * WIDTH, 4 * WIDTH)
    layer("conv_in", WIDTH, 3, 3, 3)
    skips, width = [WIDTH], WIDTH
    for level, out in enumerate(LEVELS):
        for index in range(BLOCKS):
            block(f"down.{level}.block.{index}", width, out)
            width = out
            skips.append(width)
            if level in ATTENDED:
                attention(f"down.{level}.attn.{index}", width)
        if level < len(LEVELS) - 1:
            layer(f"down.{level}.downsample.conv", width, width, 3, 3)
            skips.append(width)
    block("mid.block_1", width, width)
    attention("mid.attn_1", width)
    block("mid.block_2", width, width)
    for level in reversed(range(len(LEVELS))):
        for index in range(BLOCKS + 1):
            block(f"up.{level}.block.{index}", width + skips.pop(), LEVELS[level])
            width = LEVELS[level]
            if level in ATTENDED:
                attention(f"up.{level}.attn.{index}", width)
        if level > 0:
            layer(f"up.{level}.upsample.conv", width, width, 3, 3)
    norm("norm_out", width)
    layer("conv_out", 3, width, 3, 3)
    return state


def forward(state, x, t):
    """The network of Ho et al. by its keys: the second opinion."""

    def convolution(name, h, **options):
        return functional.conv2d(h, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def dense(name, h):
        return functional.linear(h, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name, h):
        return functional.group_norm(h, 32, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)

    def block(name, h):
        inner = convolution(f"{name}.conv1", functional.silu(norm(f"{name}.norm1", h)), padding=1)
        inner = inner + dense(f"{name}.temb_proj", functional.silu(emb))[:, :, None, None]
        inner = convolution(f"{name}.conv2", functional.silu(norm(f"{name}.norm2", inner)), padding=1)
        return inner + (convolution(f"{name}.nin_shortcut", h) if f"{name}.nin_shortcut.weight" in state else h)

    def attention(name, h):
        normed = norm(f"{name}.norm", h)
        q, k, v = (convolution(f"{name}.{part}", normed).flatten(2) for part in "qkv")
        weights = torch.softmax(q.mT @ k / math.sqrt(h.shape[1]), dim=-1)
        return h + convolution(f"{name}.proj_out", (v @ weights.mT).reshape(h.shape))

    half = WIDTH // 2
    angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / (half - 1))
    emb = dense("temb.dense.1", functional.silu(dense("temb.dense.0", torch.cat([angles.sin(), angles.cos()], 1))))
    h = convolution("conv_in", x, padding=1)
    kept = [h]
    for level in range(len(LEVELS)):
        for index in range(BLOCKS):
            h = block(f"down.{level}.block.{index}", h)
            h = attention(f"down.{level}.attn.{index}", h) if level in ATTENDED else h
            kept.append(h)
        if level < len(LEVELS) - 1:
            h = convolution(f"down.{level}.downsample.conv", functional.pad(h, (0, 1, 0, 1)), stride=2)
            kept.append(h)
    h = block("mid.block_2", attention("mid.attn_1", block("mid.block_1", h)))
    for level in reversed(range(len(LEVELS))):
        for index in range(BLOCKS + 1):
            h = block(f"up.{level}.block.{index}", torch.cat([h, kept.pop()], 1))
            h = attention(f"up.{level}.attn.{index}", h) if level in ATTENDED else h
        if level > 0:
            h = convolution(f"up.{level}.upsample.conv", functional.interpolate(h, scale_factor=2), padding=1)
    return convolution("conv_out", functional.silu(norm("norm_out", h)), padding=1)


def test_a_ddpm_network_computes_what_its_keys_say(tmp_path):
    state = made()
    torch.save(state, tmp_path / "ddpm.ckpt")
    one = inspect_weights(tmp_path / "ddpm.ckpt")
    assert one.found.format == "DDPM (pytorch-diffusion)"
    assert (one.convention.kind, one.convention.range, one.convention.schedule) == ("eps", (-1.0, 1.0), "linear")
    prior = load_weights(tmp_path / "ddpm.ckpt", check=False)
    wanted = as_denoiser(lambda x, t: forward(state, x, t), "eps", range=(-1.0, 1.0), schedule=DiscreteVP(), channels=3)
    for sigma in (0.05, 0.5, 5.0):
        # twenty float32 layers in another order of summation; x0 = x - sigma eps
        assert float((prior(X, sigma) - wanted(X, sigma)).abs().max()) < 1e-4 * (1 + sigma)


def test_a_ddpm_file_that_is_not_whole_is_refused(tmp_path):
    state = made()
    del state["mid.block_1.conv1.weight"]
    torch.save(state, tmp_path / "ddpm.ckpt")
    with pytest.raises(InputError, match="missing"):
        load_prior(str(tmp_path / "ddpm.ckpt"), check=False)


@pytest.mark.parametrize("law", LAWS)
def test_schedules_are_diffusers_own(law):
    name = {"linear": "linear", "scaled-linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}[law]
    theirs = diffusers.DDPMScheduler(num_train_timesteps=400, beta_start=0.0015, beta_end=0.0195, beta_schedule=name)
    kept = theirs.alphas_cumprod.double().numpy()
    sigmas = np.array(DiscreteVP(400, 0.0015, 0.0195, law=law).sigmas)
    # their products of 400 float32 numbers are good to 400 eps; a_t itself is at least 1e-5 but for the cosine's last step
    ours = 1 / (1 + sigmas**2)
    assert np.allclose(ours, kept, rtol=0, atol=400 * 6e-8)


def test_folders_of_every_schedule_are_read(tmp_path):
    torch.manual_seed(0)
    sizes = {"sample_size": 16, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    net = diffusers.UNet2DModel(**sizes, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2).eval()
    for law, name in (("linear", "linear"), ("scaled-linear", "scaled_linear"), ("cosine", "squaredcos_cap_v2")):
        folder = tmp_path / law
        net.save_pretrained(folder)
        diffusers.DDPMScheduler(num_train_timesteps=500, beta_start=0.001, beta_end=0.015, beta_schedule=name).save_pretrained(folder)
        prior = load_prior(str(folder), check=False)
        schedule = DiscreteVP(500, 0.001, 0.015, law=law)
        wanted = as_denoiser(lambda x, t: net(x, t).sample, "eps", range=(-1.0, 1.0), schedule=schedule, channels=3)
        with torch.no_grad():
            assert torch.allclose(prior(X, 0.5), wanted(X, 0.5), atol=1e-5)
    diffusers.DDPMScheduler(beta_schedule="sigmoid").save_pretrained(folder)
    with pytest.raises(InputError, match="linear, scaled_linear, squaredcos_cap_v2"):
        load_prior(str(folder))


@pytest.mark.parametrize("values", [{"law": "square"}, {"steps": 1}, {"low": 0.0}, {"low": 0.1, "high": 0.05}, {"high": 1.0}])
def test_impossible_schedules_are_refused(values):
    with pytest.raises(InputError, match="need a law"):
        DiscreteVP(**values)

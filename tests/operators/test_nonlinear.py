"""Nonlinear operators against their definitions, other encoders, and in the solvers that take them."""

import io

import numpy as np
import pytest
import scipy.fft
import torch
from invsolve_operators import HDR, JPEG, GaussianBlur, Mask, PhaseRetrieval, Quantise, SaturatingBlur
from invsolve_operators.nonlinear.jpeg import cosine_matrix
from PIL import Image

from invsolve import Capability, CompatibilityError, GaussianNoise, InputError, Problem, load_prior
from invsolve.solvers import DDRM, DPS

TOL = 1e-12


def draw(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def photo(side=48):
    """A smooth colour picture with an edge."""
    rows, columns = torch.meshgrid(torch.linspace(0, 3, side), torch.linspace(0, 4, side), indexing="ij")
    smooth = torch.stack([0.5 + 0.3 * (k + rows).sin() * columns.cos() for k in range(3)])
    return (smooth + 0.2 * (columns > 2)).clamp(0, 1).double()[None]


def test_hdr_is_daps_clip_in_the_other_range():
    x = draw(2, 3, 4, 5)
    theirs = (2 * (2 * x - 1)).clamp(-1, 1)
    assert (HDR((3, 4, 5))(x) - (theirs + 1) / 2).abs().max() <= TOL


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_quantise(bits):
    x = draw(2, 1, 6, 5)
    y = Quantise((1, 6, 5), bits)(x)
    assert len(y.unique()) <= 2**bits
    assert (y - x).abs().max() <= 0.5 / (2**bits - 1) + TOL
    assert torch.equal(Quantise((1, 6, 5), bits)(y), y)


def test_a_surrogate_is_declared_and_shown():
    operator = Quantise((1, 4, 4))
    assert "straight-through" in repr(operator)
    x = draw(1, 1, 4, 4).requires_grad_()
    operator(x).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_saturating_blur():
    x = draw(2, 1, 8, 9)
    assert torch.equal(SaturatingBlur((1, 8, 9), gain=1.5)(x), (1.5 * GaussianBlur((1, 8, 9))(x)).clamp(0, 1))


@pytest.mark.parametrize("signed", [False, True])
def test_phase_retrieval(signed):
    x = draw(1, 2, 8, 12)
    frame = np.pad(2 * x[0].numpy() - 1 if signed else x[0].numpy(), ((0, 0), (2, 2), (3, 3)))
    found = PhaseRetrieval((2, 8, 12), signed=signed)(x)
    assert np.abs(found[0].numpy() - np.fft.fftshift(np.abs(np.fft.fft2(frame, norm="ortho")), axes=(-2, -1))).max() <= TOL
    assert PhaseRetrieval((1, 256, 256)).out_shape == (1, 384, 384)


def test_the_modulus_has_a_gradient_at_zero():
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    PhaseRetrieval((1, 4, 4))(x).sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_cosines():
    assert (cosine_matrix() - torch.from_numpy(scipy.fft.dct(np.eye(8), axis=0, norm="ortho"))).abs().max() <= TOL


def pillow(x, quality, subsampling):
    levels = (255 * x[0]).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    decoded = torch.from_numpy(np.array(Image.open(buffer))).double()
    return (decoded[None] if decoded.ndim == 2 else decoded.permute(2, 0, 1))[None]


@pytest.mark.parametrize("quality", [10, 25, 50, 75, 95])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_an_encoder_makes(quality, channels):
    """Without halved chroma. Both round colours and results to whole levels, and the encoder computes its cosines in whole numbers:
    a level of difference is rounding; a coefficient that lies within 2 % of a step of the boundary may fall to the other side, which
    moves its block by up to a quarter of the step. So: 97 of 100 pixels within two levels."""
    x = photo()[:, :channels]
    x = (255 * x).round() / 255
    found = 255 * JPEG((channels, 48, 48), quality)(x)
    gap = (found - pillow(x, quality, 0)).abs()
    assert (gap <= 2).double().mean() >= 0.97
    assert gap.mean() <= 0.75


@pytest.mark.parametrize("quality", [25, 75])
def test_jpeg_with_halved_chroma_is_what_an_encoder_makes(quality):
    """As above; the interpolation rounds once more, and the mean of two by two is rounded up and down in turn there."""
    x = (255 * photo()).round() / 255
    found = 255 * JPEG((3, 48, 48), quality, subsample=True)(x)
    gap = (found - pillow(x, quality, 2)).abs()
    assert (gap <= 3).double().mean() >= 0.95
    assert gap.mean() <= 1.0
    assert not torch.equal(found, 255 * JPEG((3, 48, 48), quality)(x))


def test_jpeg_gets_better_with_quality():
    x = photo()
    errors = [float((JPEG((3, 48, 48), quality)(x) - x).square().mean()) for quality in (5, 20, 50, 90, 100)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < (2 / 255) ** 2


NONLINEAR = [
    HDR((1, 16, 16)),
    Quantise((1, 16, 16), 2),
    SaturatingBlur((1, 16, 16)),
    PhaseRetrieval((1, 16, 16)),
    JPEG((1, 16, 16), 20),
    Mask((1, 16, 16), keep=0.7) @ HDR((1, 16, 16)),
    HDR((1, 16, 16)) @ GaussianBlur((1, 16, 16)),
]


@pytest.mark.parametrize("operator", NONLINEAR, ids=lambda one: one.label)
def test_dps_brings_the_image_nearer_to_the_data(operator):
    """The residual of what DPS gives is below that of what the same sampler gives without its step (scale 1e-6), on average."""
    truth = 0.5 + 0.2 * torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    problem = Problem.simulate(operator, truth, GaussianNoise(0.02), generator=0)
    prior = load_prior("gaussian", mean=0.5, std=0.2)

    def residual(scale):
        x = DPS(steps=40, scale=scale).solve(problem, prior, generator=1).x
        return (operator(x) - problem.y).flatten(1).norm(dim=1).mean()

    assert residual(1.0) < 0.95 * residual(1e-6)


@pytest.mark.parametrize("operator", NONLINEAR, ids=lambda one: one.label)
def test_solvers_that_need_more_refuse_and_name_others(operator):
    assert Capability.DIFFERENTIABLE in operator.capabilities
    assert Capability.LINEAR not in operator.capabilities
    problem = Problem.simulate(operator, draw(1, 1, 16, 16), GaussianNoise(0.02), generator=0)
    with pytest.raises(CompatibilityError, match=r"can: .*dps"):
        DDRM().solve(problem, load_prior("gaussian"))


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: HDR((1, 4, 4), 0), "factor"),
        (lambda: Quantise((1, 4, 4), 0), "bits"),
        (lambda: Quantise((1, 4, 4), 17), "at most 16"),
        (lambda: SaturatingBlur((1, 4, 4), gain="a"), "gain"),
        (lambda: PhaseRetrieval((1, 4, 4), -1), "oversampling"),
        (lambda: JPEG((2, 8, 8)), "grey"),
        (lambda: JPEG((3, 8, 8), 101), "at most 100"),
        (lambda: JPEG((3, 8, 8), 0), "quality"),
    ],
)
def test_refusals(make, word):
    with pytest.raises(InputError, match=word):
        make()

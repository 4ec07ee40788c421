"""Noise levels from the measurement alone, against the level that was simulated."""

import math

import pytest
import torch
from click.testing import CliRunner
from invsolve_benchmarks.datasets import quick_photos
from invsolve_operators import BayerMask, BlockMean, BoxMask, GaussianBlur, Grey, Identity, LineMask, Mask, Mosaic, SeparableGaussianBlur
from torch.utils._python_dispatch import TorchDispatchMode

from invsolve import GaussianNoise, InputError, Operator, Problem, Stack, estimate_noise
from invsolve.cli import main
from invsolve.io.images import write_image
from invsolve.rng import Rng

SIDE = 96


def waves(channels=3, items=2, side=SIDE):
    """Smooth pictures in [0, 1]: a few low frequencies, another mixture in each channel, so that all noise-free patches lie in
    a space of few dimensions."""
    grid = torch.arange(side, dtype=torch.float64) / side * 2 * math.pi
    weights = Rng(0, range(items), purpose="test").uniform((channels, 4), torch.empty(0, dtype=torch.float64))
    flat = torch.zeros(side, side, dtype=torch.float64)
    basis = torch.stack([grid.sin()[:, None] + flat, (2 * grid).cos() + flat, (grid[:, None] + grid).sin(), grid.cos() + flat])
    return 0.5 + 0.1 * torch.einsum("bck,khw->bchw", weights, basis)


def measured(operator, sigma, channels=3):
    return Problem.simulate(operator, waves(channels), GaussianNoise(sigma), generator=0).y


def scatter(count):
    """Five standard errors of a standard deviation from `count` normal numbers, relative."""
    return 5 / math.sqrt(2 * count)


@pytest.mark.parametrize("sigma", [0.002, 0.05, 0.5])
@pytest.mark.parametrize(
    "operator", [GaussianBlur((3, SIDE, SIDE), 2.0), SeparableGaussianBlur((3, SIDE, SIDE), 2.0)], ids=lambda one: one.label
)
def test_what_an_operator_cannot_produce_is_noise(operator, sigma):
    """Unbiased: only the chance of `count` numbers is left."""
    found = estimate_noise(operator, measured(operator, sigma))
    assert found.method == "null-space"
    assert found.sigma.shape == (2,)
    assert (found.sigma / sigma - 1).abs().max() < scatter(found.count)


@pytest.mark.parametrize("sigma", [0.01, 0.1])
@pytest.mark.parametrize(
    "operator",
    [Identity((3, SIDE, SIDE)), BoxMask((3, SIDE, SIDE)), Mask((3, SIDE, SIDE), keep=0.6), Grey((3, SIDE, SIDE))],
    ids=lambda one: one.label,
)
def test_smooth_pictures(operator, sigma):
    """Signal in few dimensions: what is left is the chance of the patches and the choice of the last eigenvalues.

    The patches overlap, so the numbers behind an estimate are the pixels; the choice "mean = median" moves with the scatter of
    the eigenvalues, sqrt(size / patches): 10 % at the fewest patches that are accepted.
    """
    found = estimate_noise(operator, measured(operator, sigma))
    assert found.method == "patches"
    assert (found.sigma / sigma - 1).abs().max() < 0.1


@pytest.mark.parametrize("sigma", [0.01, 0.1])
@pytest.mark.parametrize("kind", [Mosaic, BayerMask, LineMask])
def test_places_of_a_lattice(kind, sigma):
    """A sensor's colours, place by place, are smooth pictures; of 4 of the 12 places of a Bayer mask there are data.

    4 x 4 pixels at 4 places (6 of the lines') are 64 (96) numbers; some thousand patches without texture scatter the eigenvalues by
    sqrt(96 / 2000) = 22 %, the root of their mean, of which the smaller are taken, by a third of that.
    """
    x = waves(side=2 * SIDE)
    operator = kind((3, 2 * SIDE, 2 * SIDE))
    found = estimate_noise(operator, Problem.simulate(operator, x, GaussianNoise(sigma), generator=0).y)
    assert found.method == "patches"
    assert (found.sigma / sigma - 1).abs().max() < 0.08


def test_a_bayer_mask_and_its_mosaic_have_one_answer():
    """The same numbers, laid out in another way."""
    y = measured(Mosaic((3, SIDE, SIDE)), 0.05)
    masked = Mosaic((3, SIDE, SIDE)).adjoint(y)
    one, other = estimate_noise(Mosaic((3, SIDE, SIDE)), y), estimate_noise(BayerMask((3, SIDE, SIDE)), masked)
    torch.testing.assert_close(one.sigma, other.sigma, rtol=1e-9, atol=0)


class Largest(TorchDispatchMode):
    """The bytes of the largest storage that any operation gave."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else (out,):
            if isinstance(one, torch.Tensor):
                self.bytes = max(self.bytes, one.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("operator", [Identity((3, 800, 1000)), Mosaic((3, 800, 1000))], ids=lambda one: one.label)
def test_a_large_picture_is_sampled_before_patches_are_copied(operator):
    """Nothing is larger than the picture in float32 twice, or than 65,536 patches of 7 x 7 x 3 in float64: all of them would take .9 GB."""
    y = operator(torch.rand(1, 3, 800, 1000, generator=torch.Generator().manual_seed(0)))
    with Largest() as seen:
        estimate_noise(operator, y)
    assert seen.bytes <= max(2 * 4 * 3 * 1200 * 1000, 65_536 * 7 * 7 * 3 * 8)


def test_detail_that_a_wrong_operator_cannot_produce_is_no_noise():
    """A sharp picture said to be blurred: what H cannot produce is ten times its noise, and its patches say so. One item of the two is."""
    blur, noise = SeparableGaussianBlur((3, SIDE, SIDE), 1.6, "symmetric"), 0.01
    sharp = next(one.image for one in quick_photos() if one.id == "chelsea")[:, :SIDE, :SIDE].double()
    drawn = torch.randn(2, *sharp.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.stack([sharp, blur(sharp[None])[0]]) + noise * drawn
    by_null_space, found = (estimate_noise(blur, y, method=method).sigma for method in ("null-space", "auto"))
    assert float(by_null_space[0]) > 2.5 * noise
    assert found[0] == pytest.approx(noise, rel=0.5)  # patches of a textured picture, which read too much
    assert found[1] == by_null_space[1] == pytest.approx(noise, rel=0.05)


def test_coefficients_of_a_transform():
    """Few large numbers and noise: 1 % of the entries are signal, so the core is biased by no more than those within 3 sigma."""

    class Spectrum(Operator):
        traits = frozenset({"linear"})

        def __init__(self, in_shape):
            super().__init__()
            self.in_shape = self.out_shape = in_shape

        def forward(self, x):
            return torch.fft.fft2(x, norm="ortho").real + torch.fft.fft2(x, norm="ortho").imag

    operator = Spectrum((3, SIDE, SIDE))
    y = measured(operator, 0.05)
    found = estimate_noise(operator, y)
    assert found.method == "coefficients"
    assert (found.sigma / 0.05 - 1).abs().max() < 0.01 + scatter(found.count)
    with pytest.raises(InputError, match="cannot be told apart"):
        estimate_noise(operator, torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))


def test_stack_joins_its_parts():
    operator = Stack(GaussianBlur((3, SIDE, SIDE), 2.0), BoxMask((3, SIDE, SIDE)))
    found = estimate_noise(operator, measured(operator, 0.05))
    assert found.method == "null-space+patches"
    assert (found.sigma / 0.05 - 1).abs().max() < 0.1


def test_an_item_alone_and_in_its_batch():
    operator = GaussianBlur((3, SIDE, SIDE), torch.tensor([1.5, 3.0]))
    y = measured(operator, 0.05)
    together = estimate_noise(operator, y).sigma
    for item in range(2):
        alone = estimate_noise(operator[item], y[item : item + 1]).sigma
        assert (alone - together[item]).abs() < 1e-12


def test_precision_and_no_noise():
    operator = Identity((3, SIDE, SIDE))
    found = estimate_noise(operator, measured(operator, 0.05).float())
    assert found.sigma.dtype == torch.float32
    assert estimate_noise(operator, torch.full((1, 3, SIDE, SIDE), 0.5)).sigma.item() < 1e-7


def test_refusals():
    operator = Mask((3, SIDE, SIDE), keep=0.02)
    with pytest.raises(InputError) as error:
        estimate_noise(operator, measured(operator, 0.05))
    assert all(word in str(error.value) for word in ("null-space", "patches", "coefficients", "Give sigma"))
    with pytest.raises(InputError, match="did you mean patches"):
        estimate_noise(operator, measured(operator, 0.05), method="patchs")
    with pytest.raises(InputError, match="shape"):
        estimate_noise(operator, torch.zeros(1, 3, 4, 4))
    with pytest.raises(InputError, match="directions"):
        estimate_noise(BlockMean((3, 8, 8), 2), torch.zeros(1, 3, 4, 4), method="null-space")
    with pytest.raises(InputError, match="no items"):
        estimate_noise(operator, torch.zeros(0, 3, SIDE, SIDE))


@pytest.fixture
def photo(tmp_path):
    """A noisy picture, level 0.05; clipping to [0, 1] touches less than a millionth of it."""
    y = measured(Identity((3, SIDE, SIDE)), 0.05)[0]
    write_image(tmp_path / "photo.png", y)
    return tmp_path / "photo.png"


def test_command(photo):
    done = CliRunner().invoke(main, ["noise", str(photo)])
    assert done.exit_code == 0, done.output
    assert abs(float(done.output.split()[1]) / 0.05 - 1) < 0.1
    assert "patches" in done.output


def test_restore_with_the_level_estimated(photo, monkeypatch):
    monkeypatch.chdir(photo.parent)  # where the picture is written
    arguments = ["restore", str(photo), "--operator", "identity", "--solver", "hqs", "--prior", "tv", "--noise", "auto"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    (level,) = [line.split()[1] for line in done.output.splitlines() if line.startswith("sigma")]
    assert abs(float(level) / 0.05 - 1) < 0.1
    refused = CliRunner().invoke(main, [*arguments, "--simulate"])
    assert refused.exit_code == 2
    assert "give the level" in refused.output
    assert CliRunner().invoke(main, [*arguments[:-1], "loud"]).exit_code == 2


@pytest.mark.parametrize("factor", [1e-4, 0.5, 1e4])
@pytest.mark.parametrize("operator", [GaussianBlur((3, 48, 48), sigma=2.0), BlockMean((3, 96, 96), factor=2), Identity((1, 48, 48))])
def test_the_level_is_in_the_unit_of_the_data(operator, factor):
    """c H gives c y and so c sigma: the same numbers but for the rounding of the factor."""
    x = torch.rand(1, operator.in_shape[0], 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.nn.functional.interpolate(x, size=operator.in_shape[-2:], mode="bicubic").clamp(0, 1)
    y = Problem.simulate(operator, x, GaussianNoise(0.05), generator=0).y
    plain, scaled = estimate_noise(operator, y), estimate_noise(factor * operator, factor * y)
    assert scaled.method == plain.method
    assert float(scaled.sigma / factor / plain.sigma - 1) == pytest.approx(0, abs=1e-9)

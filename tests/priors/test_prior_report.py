"""The report on priors: its measures on denoisers whose values are known, and the page."""

import json
import math

import pytest
import torch
from click.testing import CliRunner

from invsolve import InputError, load_prior
from invsolve.bench import prior_measures as measures
from invsolve.bench.prior_report import measure, write_prior_report
from invsolve.bench.prior_samples import gradient_kurtosis, patches, spectrum_slope
from invsolve.cli import main
from invsolve.io.images import picture_grid
from invsolve.priors import Denoiser, GaussianPrior, NetworkDenoiser

MEAN, STD = 0.5, 0.2


class Elsewhere(Denoiser):
    """A Gaussian posterior mean at `factor` times the sigma it is told."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.inner, self.factor = GaussianPrior(MEAN, STD), factor

    def forward(self, x, sigma):
        return self.inner(x, self.factor * sigma)


class Rolled(Denoiser):
    """D(x) = x moved by one pixel: a permutation, whose Jacobian is not symmetric."""

    def forward(self, x, sigma):
        return x.roll(1, dims=-1)


class ByMean(Denoiser):
    """The mean of the whole image everywhere: a statistic that tiles do not share."""

    def forward(self, x, sigma):
        return x.mean((-2, -1), keepdim=True).expand_as(x).clone()


def gaussian_images(count=4, side=48):
    """Draws of N(MEAN, STD^2), what GaussianPrior is the exact prior of; (1, 3, side, side)."""
    draws = torch.randn(count, 1, 3, side, side, generator=torch.Generator().manual_seed(0))
    return list(MEAN + STD * draws)


def test_an_exact_posterior_mean_is_in_balance():
    """|x-D|^2 + |D-x0|^2 over sigma^2 n is 1 but for the sampling error of a sum of 2 (x-D)(D-x0), of standard deviation below
    2 / sqrt(n) with n = 27,648 numbers: 5 of these, halved by the root."""
    for level in measures.measure_levels(GaussianPrior(MEAN, STD), gaussian_images()):
        assert level.balance == pytest.approx(1, abs=5 / math.sqrt(27_648))
        shrink = level.sigma / math.sqrt(level.sigma**2 + STD**2)
        assert level.residual == pytest.approx(shrink, rel=5 / math.sqrt(2 * 27_648))


def test_a_prior_that_means_another_sigma_is_found_out():
    """The least error lies at 1 / factor; the parabola through a smooth curve at steps of .1 to .15 hits it within .03."""
    for factor in (0.8, 1.0, 1.25):
        found = measures.best_ratio(Elsewhere(factor), gaussian_images(1, 128), 0.2)
        assert found == pytest.approx(1 / factor, abs=0.03)
    assert math.isnan(measures.best_ratio(GaussianPrior(MEAN, STD), gaussian_images(1), 1e-3))  # out of range
    off = measures.measure_levels(Elsewhere(0.5), gaussian_images(), (0.2,))[0]
    assert abs(off.balance - 1) > 0.05


def test_symmetry_of_the_jacobian():
    image = gaussian_images(1, 12)[0]
    assert measures.asymmetry(GaussianPrior(MEAN, STD), image, 0.1) < 1e-6
    # P v and P^T v of white v are independent of each other: sqrt(2) |v| / (2 |v|).
    assert measures.asymmetry(Rolled(), image, 0.1) == pytest.approx(1 / math.sqrt(2), abs=0.1)
    still = GaussianPrior(MEAN, STD)
    still.differentiable = False
    assert math.isnan(measures.asymmetry(still, image, 0.1))


def test_tiles():
    x = torch.arange(2 * 6 * 9, dtype=torch.float32).reshape(1, 2, 6, 9)
    assert torch.equal(measures.tiles(x, 3)[1], x[0, :, :3, 3:6])
    assert torch.equal(measures.join(measures.tiles(x, 3), 6, 9), x)
    images = [image * torch.linspace(0, 1, 100) for image in gaussian_images(2, 100)]
    assert all(tile.whole == tile.inside == 0 for tile in measures.measure_tiles(GaussianPrior(MEAN, STD), images))
    assert [tile.side for tile in measures.measure_tiles(ByMean(), images)] == [40, 64]
    assert measures.measure_tiles(ByMean(), images)[0].inside > 0.5  # the mean of a tile is the better estimate here: known sign


def test_ways_to_run_a_network():
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 3, 3, padding=1)
    prior = NetworkDenoiser(Net(layer), sigma_range=(0.01, 1.0), channels=3)
    twin = measures.configured(prior, "bfloat16", channels_last=True)
    assert isinstance(twin, NetworkDenoiser)
    assert (twin.precision, twin.channels_last, prior.precision, prior.channels_last) == ("bfloat16", True, "float32", False)
    speeds = measures.measure_speed(prior, gaussian_images(1), repeats=2)
    assert [one.name for one in speeds] == list(measures.WAYS)
    assert speeds[0].ratio == 1
    assert speeds[0].change == 0
    assert all(one.seconds > 0 for one in speeds)
    assert speeds[2].change != 0  # eight bits of mantissa do change the estimate
    assert measures.measure_speed(GaussianPrior(), gaussian_images(1)) == []


class Net(torch.nn.Module):
    """x and a convolution of it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, sigma):
        return x + self.layer(x)


def test_statistics_of_images():
    """Spectra made to measure: power f^slope, 64 images of 64 x 64; a ring's mean over 64 images x 2 pi k / 2 numbers errs by < 6 %,
    which moves the slope over ln 8 by < .1. Kurtosis of white noise is 3 (a difference of normals is normal)."""
    frequency = (torch.fft.fftfreq(64).square()[:, None] + torch.fft.fftfreq(64).square()).sqrt()
    frequency[0, 0] = 1
    white = torch.fft.fft2(torch.randn(64, 1, 64, 64, generator=torch.Generator().manual_seed(0)))
    for slope in (0.0, -1.0, -2.0):
        images = torch.fft.ifft2(white * frequency ** (slope / 2)).real
        assert spectrum_slope(images) == pytest.approx(slope, abs=0.15)
    noise = torch.randn(16, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    assert gradient_kurtosis(noise) == pytest.approx(3, abs=0.1)
    edge = (torch.arange(64) > 30).float().expand(1, 1, 64, 64)
    assert gradient_kurtosis(edge) > 60
    with pytest.raises(InputError, match="at least 16"):
        spectrum_slope(noise[..., :12, :12])


def test_patches_and_grids():
    images = [torch.rand(1, 3, 20, 30), torch.rand(1, 3, 8, 8)]
    found = patches(images, 16, 5)
    assert found is not None
    assert found.shape == (5, 3, 16, 16)
    assert patches(images, 32) is None
    assert picture_grid(torch.ones(5, 1, 4, 4), 3).shape == (1, 8, 12)
    assert float(picture_grid(torch.ones(5, 1, 4, 4), 3).sum()) == 80


def test_the_page(tmp_path):
    runner = CliRunner()
    out = tmp_path / "report"
    result = runner.invoke(main, ["prior-report", "gaussian", "--out", str(out), "--count", "1", "--samples", "2", "--side", "16"])
    assert result.exit_code == 0, result.output
    page, numbers = (out / "priors.html").read_text(), json.loads((out / "priors.json").read_text())
    assert "http" not in page.split("</style>")[1]
    assert page.count("<section>") == 1
    assert [level["sigma"] for level in numbers["priors"][0]["levels"]] == list(measures.LEVELS)
    assert {one["sampler"] for one in numbers["priors"][0]["samples"]} == {"DDIM, 50 steps", "Heun, 18 steps"}


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(InputError, match="denoisers"):
        measure("tv", load_prior("tv"), [torch.rand(3, 32, 32)])
    narrow = NetworkDenoiser(lambda x, sigma: x, sigma_range=(0.001, 0.002))
    with pytest.raises(InputError, match="good for sigma"):
        measure("narrow", narrow, [torch.rand(3, 32, 32)])
    result = CliRunner().invoke(main, ["prior-report", "nothing-of-the-kind"])
    assert result.exit_code == 2


def test_a_prior_of_one_shape_gets_its_part_and_several_stand_side_by_side(tmp_path):
    bound = GaussianPrior(torch.full((3, 16, 16), 0.5), 0.2)
    bound.in_shape = (3, 16, 16)
    images = [torch.rand(3, 24, 30, generator=torch.Generator().manual_seed(0))]
    found = [measure(name, prior, images, count=0) for name, prior in (("bound", bound), ("free", GaussianPrior(MEAN, STD)))]
    html, _ = write_prior_report(found, "noise", tmp_path)
    assert found[0].pictures[0][0].shape == (3, 16, 16)
    assert html.read_text().count("<section>") == 2
    with pytest.raises(InputError, match="shape"):
        measure("bound", bound, [torch.rand(3, 8, 8)])

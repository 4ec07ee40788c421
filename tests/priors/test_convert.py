"""Border crossings: networks of every convention, made from one closed-form denoiser, give that denoiser back."""

import math
from functools import partial

import pytest
import torch

from invsolve.errors import InputError
from invsolve.priors import DiffusionPrior, GaussianPrior, NetworkDenoiser, as_denoiser, rescale
from invsolve.priors.gaussian import GaussianMixturePrior
from invsolve.schedule import VE, DiscreteVP
from invsolve.testing.cases import failures
from invsolve.testing.denoisers import prior_checks
from invsolve.testing.settings import truth

SHAPE = (3, 6, 5)
SIGMAS = torch.tensor([0.006, 0.3, 5.0, 70.0], dtype=torch.float64)


def mixture():
    """Not affine, so that a wrong mean or factor cannot hide."""
    generator = torch.Generator().manual_seed(0)
    return GaussianMixturePrior(torch.rand(3, *SHAPE, generator=generator, dtype=torch.float64), std=0.1)


def column(value):
    return value.reshape(-1, 1, 1, 1)


def images(sigmas):
    noise = torch.randn(len(sigmas), *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return truth(SHAPE, len(sigmas), torch.float64) + column(sigmas) * noise


class InRange:
    """D of [0, 1] images as a function of images in (low, high), in network units: x' = low + width x, sigma' = width sigma."""

    def __init__(self, inner, low, high):
        self.inner, self.low, self.width = inner, low, high - low

    def __call__(self, x, sigma):
        return self.low + self.width * self.inner((x - self.low) / self.width, sigma / self.width)


RANGES = [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)]


@pytest.mark.parametrize("bounds", RANGES, ids=str)
@pytest.mark.parametrize("kind", ["x0", "eps", "score"])
def test_variance_exploding_networks(kind, bounds):
    """In float64 only roundings are left: eps |x| sigma-independent for x0; eps and score divide by sigma and multiply again."""
    inner = mixture()
    wide = InRange(inner, *bounds)

    def net(x, sigma):
        level = column(sigma)
        x0 = wide(x, sigma)
        return {"x0": x0, "eps": (x - x0) / level, "score": (x0 - x) / level**2}[kind]

    denoiser = as_denoiser(net, kind, range=bounds, precision="float64")
    x = images(SIGMAS)
    assert torch.allclose(denoiser(x, SIGMAS), inner(x, SIGMAS), rtol=0, atol=1e-11)


SCHEDULE = DiscreteVP()
TABLE = torch.tensor(SCHEDULE.sigmas, dtype=torch.float64)


def level_at(t):
    """sigma at a fractional index: straight in log sigma, the convention of DiscreteVP.index, here by torch."""
    low = t.floor().clamp(0, len(TABLE) - 2).long()
    share = t - low
    return (TABLE[low].log() * (1 - share) + TABLE[low + 1].log() * share).exp()


def vp_net(inner, kind, bounds):
    """net(x_t, t) of the VP form: x_t = scale x0' + std n with x0' in bounds."""
    return partial(vp_output, InRange(inner, *bounds), kind)


def vp_output(wide, kind, x_t, t):
    """What such a network predicts; a function of the module, so that what holds it can be pickled."""
    sigma = level_at(t)
    scale = (1 + sigma**2).rsqrt()
    std, scale, level = column(sigma * scale), column(scale), sigma
    x0 = wide(x_t / scale, level)
    eps = (x_t - scale * x0) / std
    return {"x0": x0, "eps": eps, "v": scale * eps - std * x0, "score": -eps / std}[kind]


def gaussian_eps(x, sigma):
    """eps of a centred Gaussian prior in [-1, 1]."""
    return (x - GaussianPrior(0.0, 0.5)(x, sigma)) / column(sigma)


@pytest.mark.parametrize("bounds", RANGES[:2], ids=str)
@pytest.mark.parametrize("kind", ["x0", "eps", "v", "score"])
def test_variance_preserving_networks(kind, bounds):
    """sigma -> t -> sigma by the same interpolation: t rounds by eps * 1000, log sigma by 2e-13 * 0.05, D by |x| <= 300 times that,
    which is 3e-12; eps, v and score subtract values of size |x| / scale <= 3e4: 7e-12. Allowed: 1e-9."""
    inner = mixture()
    denoiser = as_denoiser(vp_net(inner, kind, bounds), kind, range=bounds, schedule=SCHEDULE, precision="float64")
    assert isinstance(denoiser, DiffusionPrior)
    sigmas = SIGMAS.clamp_min(1.1 * denoiser.sigma_range[0])
    x = images(sigmas)
    assert torch.allclose(denoiser(x, sigmas), inner(x, sigmas), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["x0", "eps", "v"])
def test_a_network_with_its_own_clock_between_the_indices(kind):
    """A network trained at integer t holds sigma(t) of the continuous schedule between them; ours is straight in log sigma.

    With h = 1 the error of linear interpolation of g(t) = log sigma is at most max |g''| / 8. Around the levels tested (t > 20)
    |g''| <= 1 / t^2 roughly, so it is below 1 / (8 * 400) = 3.2e-4 relative in sigma; D changes by |dD / dlog sigma| <= 2 sigma^2
    s^2 |x - m| / (s^2 + sigma^2)^2 <= |x - m| / 2 times that. Measured against this bound, and shown not to be zero.
    """
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)

    def smooth(t):
        """Continuous log a: the integral of the piecewise linear log(1 - beta)."""
        logs = torch.log1p(-(1e-4 + (0.02 - 1e-4) * t / 999))
        whole = torch.log1p(-beta).cumsum(0)
        low = t.floor().clamp(0, 998).long()
        share = t - low
        begin = torch.log1p(-beta[low])
        log_a = whole[low] + share * 0.5 * (begin + logs) + share * 0.5 * (torch.log1p(-beta[low + 1]) - begin)
        return (torch.expm1(-log_a)).sqrt()

    inner = GaussianPrior(0.5, 0.25)
    wide = InRange(inner, -1.0, 1.0)

    def net(x_t, t):
        sigma = smooth(t)
        scale = (1 + sigma**2).rsqrt()
        x0 = wide(x_t / column(scale), sigma)
        eps = (x_t / column(scale) - x0) / column(sigma)
        return {"x0": x0, "eps": eps, "v": column(scale) * eps - column(sigma * scale) * x0}[kind]

    denoiser = as_denoiser(net, kind, range=(-1.0, 1.0), schedule=SCHEDULE, precision="float64")
    sigmas = (TABLE[[30, 200, 500, 900]] * TABLE[[31, 201, 501, 901]]).sqrt() / 2
    x = images(sigmas)
    error = (denoiser(x, sigmas) - inner(x, sigmas)).abs().flatten(1).amax(1)
    allowed = 3.2e-4 * ((x - 0.5).abs().flatten(1).amax(1) + 1)
    assert bool((error <= allowed).all())
    assert float(error.max()) > 0


def test_rescale_doubles_sigma_and_halves_what_is_said():
    inner = GaussianPrior(0.0, 0.5)
    inner.clip, inner.channels = (-1.0, 1.0), 3
    outer = rescale(inner, (-1.0, 1.0))
    assert outer.sigma_range == (0.001, 40.0)
    assert outer.clip == (0.0, 1.0)
    assert outer.s0 == 0.25
    assert outer.channels == 3
    x = images(SIGMAS)
    assert torch.allclose(outer(x, SIGMAS), GaussianPrior(0.5, 0.25)(x, SIGMAS), rtol=0, atol=1e-12)
    wrong = (inner(2 * x - 1, SIGMAS) + 1) / 2  # sigma not doubled: the silent error
    assert float((wrong - outer(x, SIGMAS)).abs().max()) > 0.1


def test_converted_denoisers_conform():
    eps = as_denoiser(gaussian_eps, "eps", range=(-1.0, 1.0), precision="float64")
    assert failures(eps, prior_checks(eps)) == {}
    vp = as_denoiser(vp_net(GaussianPrior(0.5, 0.25), "eps", (-1.0, 1.0)), "eps", range=(-1.0, 1.0), schedule=SCHEDULE, precision="float64")
    assert failures(vp, prior_checks(vp)) == {}


def test_a_network_is_cast_at_its_border_only():
    seen = []

    def net(x, sigma):
        seen.append((x.dtype, sigma.dtype, tuple(sigma.shape)))
        return 0.5 * x

    out = NetworkDenoiser(net)(torch.zeros(2, 1, 4, 4, dtype=torch.float64), 0.1)
    assert out.dtype == torch.float64
    assert seen == [(torch.float32, torch.float32, (2,))]


def test_bfloat16_runs_inside_only():
    layer = torch.nn.Conv2d(1, 1, 3, padding=1)
    seen = []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    out = NetworkDenoiser(lambda x, sigma: layer(x), precision="bfloat16")(torch.zeros(1, 1, 8, 8), 0.1)
    assert (out.dtype, seen) == (torch.float32, [torch.bfloat16])


def test_a_network_is_frozen_and_in_evaluation_mode():
    """Batch statistics would let an item's answer depend on its batch."""
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3, padding=1), torch.nn.BatchNorm2d(1))
    denoiser = NetworkDenoiser(WithSigma(net))
    assert not denoiser.net.training
    assert all(not parameter.requires_grad for parameter in denoiser.parameters())
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(denoiser(x, 0.1)[1:2], denoiser(x[1:2], 0.1), atol=1e-6)


class WithSigma(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, sigma):
        return self.net(x)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: as_denoiser(lambda x, t: x, "noise"), "x0, eps, v, score.*noise"),
        (lambda: as_denoiser(lambda x, t: x, "v"), "needs its schedule"),
        (lambda: as_denoiser(lambda x, t: x, "v", schedule=VE()), "DiscreteVP.*given VE"),
        (lambda: rescale(GaussianPrior(), (1.0, -1.0)), r"low < high; given \(1\.0, -1\.0\)"),
        (lambda: NetworkDenoiser(lambda x, s: x, precision="float8"), "precision.*float8"),
    ],
)
def test_nonsense_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize("schedule", [None, DiscreteVP()])
@pytest.mark.parametrize("kind", ["x0", "eps"])
def test_an_output_of_another_shape_is_refused(kind, schedule):
    """A network that learns its variance has twice the channels; one channel would be broadcast."""
    x = images(SIGMAS)
    both = as_denoiser(lambda x, _: torch.cat([x, x], 1), kind, schedule=schedule)
    with pytest.raises(InputError, match=r"gives \(4, 6, 6, 5\) for images of shape \(4, 3, 6, 5\); .*learned variance.*\[:, :3\]"):
        both(x, 1.0)
    with pytest.raises(InputError, match=r"gives \(4, 1, 6, 5\) for images of shape \(4, 3, 6, 5\)$"):
        as_denoiser(lambda x, _: x[:, :1], kind, schedule=schedule)(x, 1.0)


def test_the_range_of_a_scheduled_network_follows_its_schedule():
    denoiser = as_denoiser(lambda x, t: x, "x0", range=(-1.0, 1.0), schedule=SCHEDULE)
    assert denoiser.sigma_range == (SCHEDULE.sigmas[0] / 2, SCHEDULE.sigmas[-1] / 2)
    assert math.isclose(denoiser.sigma_range[1], 78.7, rel_tol=1e-3)


@pytest.mark.parametrize("interval", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_the_spread_of_the_data_does_not_depend_on_the_range_of_the_network(interval):
    """A network that says nothing is taken for one of images whose spread is a quarter of the range, and whose mean is its middle."""
    prior = as_denoiser(lambda x, sigma: x, range=interval)
    assert prior.s0 == 0.25
    assert prior.centre == 0.5
    said = as_denoiser(lambda x, sigma: x, range=interval, s0=0.1 * (interval[1] - interval[0]))
    assert said.s0 == pytest.approx(0.1)

"""Networks of every schedule and kind, written in closed form for a Gaussian, are its denoiser: on the way in and through solvers."""

import math
from itertools import pairwise

import pytest
import torch

from invsolve.errors import InputError
from invsolve.noise import GaussianNoise
from invsolve.priors import Denoiser, DiffusionPrior, GaussianPrior, NetworkDenoiser, as_denoiser, rescale
from invsolve.problem import Problem
from invsolve.schedule import EDM, VE, VP, Cosine, DiscreteVP, Flow, Schedule, karras
from invsolve.solvers import DDIM, DiffPIR, Heun
from invsolve.testing.cases import failures
from invsolve.testing.denoisers import prior_checks
from invsolve.testing.settings import Kept, truth
from invsolve.unit import Unit

SHAPE = (3, 6, 5)
MEAN, STD = 0.4, 0.2
RANGES = [(0.0, 1.0), (-1.0, 1.0)]
EPS = torch.finfo(torch.float32).eps


def column(value):
    return value.reshape(-1, 1, 1, 1)


def of_vp(t):
    """scale = exp(-1/2 integral of beta), beta = 0.1 + 19.9 t."""
    log = -(0.1 * t + 19.9 * t**2 / 2) / 2
    return log.exp(), (-torch.expm1(2 * log)).sqrt()


def of_cosine(t):
    scale = torch.cos((t + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)
    return scale, (1 - scale**2).sqrt()


def of_edm(t):
    return torch.ones_like(t), (80 ** (1 / 7) * t + 0.002 ** (1 / 7) * (1 - t)) ** 7


LAWS = {  # (scale, std) of t, written again from the papers
    "vp": (VP(), of_vp),
    "cosine": (Cosine(), of_cosine),
    "ve": (VE(), lambda t: (torch.ones_like(t), 0.01 * 5000**t)),
    "edm": (EDM(), of_edm),
    "flow": (Flow(), lambda t: (t, 1 - t)),
}


def gaussian_net(law, kind, bounds):
    """E[. | x_t] for x_t = a x0 + b n, x0 ~ N(m, s^2): every one is linear in r = x_t - a m, whose variance is a^2 s^2 + b^2."""
    low, high = bounds
    mean, std = low + (high - low) * MEAN, (high - low) * STD

    def net(x_t, t):
        a, b = (column(value) for value in law(t))
        r = x_t - a * mean
        variance = a**2 * std**2 + b**2
        x0, n = mean + a * std**2 / variance * r, b / variance * r
        return {
            "x0": x0,
            "eps": n,
            "score": -r / variance,
            "v": a * n - b * x0,
            "velocity": mean + (a * std**2 - b) / variance * r,
        }[kind]

    return net


PAIRS = [(name, kind) for name in LAWS for kind in ("x0", "eps", "score")]
PAIRS += [("vp", "v"), ("cosine", "v"), ("flow", "velocity")]


def states(prior, dtype=torch.float64):
    """Levels 0.01 .. 70 as far as the prior goes, and images at them, one level an item."""
    low, high = max(prior.sigma_range[0], 0.01), min(prior.sigma_range[1], 70.0)
    sigma = torch.logspace(math.log10(low), math.log10(high), 12, dtype=torch.float64)
    noise = torch.randn(len(sigma), *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (truth(SHAPE, len(sigma), torch.float64) + column(sigma) * noise).to(dtype), sigma


@pytest.mark.parametrize("bounds", RANGES, ids=str)
@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_a_closed_form_network_is_the_closed_form_denoiser(name, kind, bounds):
    """Rounding: eps and score take sigma n <= 300 away from x, 300 * 2^-53 = 3e-14 a few times."""
    schedule, law = LAWS[name]
    prior = as_denoiser(gaussian_net(law, kind, bounds), kind, range=bounds, schedule=schedule, precision="float64")
    assert isinstance(prior, DiffusionPrior)
    assert prior.unit == Unit(*bounds)
    x, sigma = states(prior)
    exact = GaussianPrior(MEAN, STD)
    assert torch.allclose(prior(x, sigma), exact(x, sigma), rtol=0, atol=1e-12)
    level = float(sigma[5])
    assert torch.allclose(prior(x, level), exact(x, level), rtol=0, atol=1e-12)


def test_a_velocity_network_reaches_all_levels_of_interest():
    """The range of the test above is 0.01 .. 70 for a flow, whichever interval its network lives in."""
    for bounds in RANGES:
        low, high = as_denoiser(lambda x, t: x, "velocity", range=bounds, schedule=Flow()).sigma_range
        assert low < 0.01
        assert high > 70


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_float32(name, kind):
    """x0 = x - sigma n rounds as x does, x_t before that; t rounds too, to eps, and d log sigma / d log t is at most 20 (VP, t = 1) to
    220 (Cosine at 70: sigma is the tangent of an angle near a right one), times |dD / d log sigma| <= |x - m| 2 s^2 / sigma^2."""
    schedule, law = LAWS[name]
    prior = as_denoiser(gaussian_net(law, kind, (-1.0, 1.0)), kind, range=(-1.0, 1.0), schedule=schedule)
    x, sigma = states(prior, torch.float32)
    out = prior(x, sigma)
    assert out.dtype == torch.float32
    error = (out.double() - GaussianPrior(MEAN, STD)(x.double(), sigma)).abs().flatten(1).amax(1)
    size = 1 + (x.double() - MEAN).abs().flatten(1).amax(1)
    assert bool((error <= 16 * EPS * size).all()), (error / size / EPS).max()


@pytest.mark.parametrize(("name", "kind"), [("flow", "velocity"), ("vp", "v"), ("edm", "x0")])
def test_they_conform(name, kind):
    prior = as_denoiser(Pickled(name, kind), kind, range=(-1.0, 1.0), schedule=LAWS[name][0], precision="float64", s0=2 * STD)
    assert failures(prior, prior_checks(prior)) == {}


class Pickled:
    """A closed-form network that can be pickled."""

    def __init__(self, name, kind):
        self.made_of = name, kind

    def __call__(self, x, t):
        name, kind = self.made_of
        return gaussian_net(LAWS[name][1], kind, (-1.0, 1.0))(x, t)


def twins():
    """The same Gaussian as a VE prior and as a flow prior of the same levels, mean and standard deviation."""
    net = gaussian_net(LAWS["flow"][1], "velocity", (-1.0, 1.0))
    flow = as_denoiser(net, "velocity", range=(-1.0, 1.0), schedule=Flow(), precision="float64", s0=2 * STD, centre=2 * MEAN - 1)
    exploding = GaussianPrior(MEAN, STD)
    exploding.sigma_range = flow.sigma_range
    return exploding, flow


def test_the_twins_say_the_same():
    exploding, flow = twins()
    assert flow.s0 == pytest.approx(exploding.s0, rel=1e-15)
    assert flow.centre == pytest.approx(exploding.centre, rel=1e-15)
    assert flow.sigmas(20, "karras", 30.0) == exploding.sigmas(20, "karras", 30.0)


@pytest.mark.parametrize("solver", [DDIM(steps=20, sigma_max=20.0), DDIM(steps=20, eta=1.0, sigma_max=20.0), Heun(steps=9, sigma_max=20.0)])
def test_one_seed_draws_the_same_from_a_flow_and_an_exploding_prior(solver):
    problem = Problem.unconditional(SHAPE, batch=2, dtype=torch.float64)
    exploding, flow = (solver.solve(problem, prior, generator=3).x for prior in twins())
    assert torch.allclose(exploding, flow, rtol=0, atol=1e-11)
    assert float(exploding.std()) > 0.5 * STD  # a draw, no constant


def test_one_seed_solves_the_same_with_a_flow_and_an_exploding_prior():
    problem = Problem.simulate(Kept(SHAPE), truth(SHAPE, 2, torch.float64), GaussianNoise(0.05), generator=0)
    solver = DiffPIR(steps=20, sigma_max=20.0)
    exploding, flow = (solver.solve(problem, prior, generator=3).x for prior in twins())
    assert torch.allclose(exploding, flow, rtol=0, atol=1e-11)


def test_a_flow_state_maps_to_ve_form():
    """at(x_t, t): x_t = t x0 + (1 - t) n' with n' of standard deviation 1/2 in [0, 1] units."""
    _, flow = twins()
    t = torch.tensor([0.1, 0.7], dtype=torch.float64)
    x_t = truth(SHAPE, 2, torch.float64)
    wanted = GaussianPrior(MEAN, STD)(x_t / column(t), (1 - t) / t / 2)
    assert torch.allclose(flow.at(x_t, t), wanted, rtol=0, atol=1e-12)


def test_what_the_network_is_called_with():
    seen = []

    def net(x_t, t):
        seen.append((x_t, t))
        return torch.zeros_like(x_t)

    x = truth(SHAPE, 2, torch.float64)
    sigma = torch.tensor([0.5, 4.5], dtype=torch.float64)
    prior = as_denoiser(net, "velocity", range=(-1.0, 1.0), schedule=Flow(), time_scale=1000, precision="float64")
    assert torch.allclose(prior(x, sigma), ((2 * x - 1) * column(torch.tensor([0.5, 0.1])) + 1) / 2, atol=1e-12)  # x_t + 0
    assert torch.allclose(seen[0][1], torch.tensor([500.0, 100.0], dtype=torch.float64), rtol=1e-12)
    assert torch.allclose(seen[0][0], (2 * x - 1) * column(torch.tensor([0.5, 0.1])), rtol=1e-12)


class Backwards(Schedule):
    """A stranger's flow that counts from data to noise, with nothing but __call__."""

    def __call__(self, t):
        return 1 - t, t


class Falling(Schedule):
    """A stranger's flow that counts from noise to data: scale 0 at the first time of some, noise 0 at the last."""

    def __call__(self, t):
        return t, 1 - t


class StrangersVP(Schedule):
    def __call__(self, t):
        return of_vp(t)


@pytest.mark.parametrize(
    ("schedule", "kind", "law"),
    [(Falling(), "velocity", lambda t: (t, 1 - t)), (Backwards(), "velocity", lambda t: (1 - t, t)), (StrangersVP(), "v", of_vp)],
)
def test_a_schedule_of_nothing_but_a_call(schedule, kind, law):
    prior = as_denoiser(gaussian_net(law, kind, (-1.0, 1.0)), kind, range=(-1.0, 1.0), schedule=schedule, precision="float64")
    x, sigma = states(prior)
    assert len(prior.sigmas(12)) == 13
    assert torch.allclose(prior(x, sigma), GaussianPrior(MEAN, STD)(x, sigma), rtol=0, atol=1e-12)


class Wandering(Schedule):
    def __call__(self, t):
        return torch.ones_like(t), 1 + torch.sin(7 * t)


class Blank(Schedule):
    def __call__(self, t):
        return t * math.nan, t


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net: as_denoiser(net, "velocity"), r"velocity-network needs its schedule.*Flow\(\)"),
        (lambda net: as_denoiser(net, "velocity", schedule=VP()), r"scale \+ std = 1 \(Flow\); given VP"),
        (lambda net: as_denoiser(net, "velocity", schedule=EDM()), r"scale \+ std = 1 \(Flow\); given EDM"),
        (lambda net: as_denoiser(net, "v", schedule=VE()), r"scale\^2 \+ std\^2 = 1 \(VP, .*given VE.*x0, eps or score"),
        (lambda net: as_denoiser(net, "v", schedule=Flow()), r"scale\^2 \+ std\^2 = 1.*given Flow"),
        (lambda net: as_denoiser(net, "eps", schedule="linear"), "schedule must be one of invsolve.schedule.*'linear'"),
        (lambda net: as_denoiser(net, "eps", schedule=Wandering()), "rise or fall strictly"),
        (lambda net: as_denoiser(net, "eps", schedule=Blank()), "rise or fall strictly"),
        (lambda net: as_denoiser(net, "eps", time_scale=1000), "time_scale is for networks that are called with a time.*1000"),
        (lambda net: as_denoiser(net, "eps", schedule=VP(), time_scale=0), "time_scale must be a positive number; given 0"),
        (lambda net: as_denoiser(net, "eps", schedule=VP(), time_scale="1"), "time_scale must be a positive number; given '1'"),
        (lambda net: DiffusionPrior(GaussianPrior(), VP(), unit=-1), "unit must be a Unit.*given -1"),
        (lambda net: Unit(1.0, 1.0), r"a unit must be two finite numbers \(low, high\) with low < high; given \(1.0, 1.0\)"),
        (lambda net: Flow(t_min=0), "Flow needs 0 < t_min.*t_min=0"),
        (lambda net: Flow(shift=math.inf), "0 < shift < inf; given"),
        (lambda net: VE(0.0, 1.0), "VE needs 0 < low < high < inf; given VE"),
        (lambda net: EDM(rho=0.0), "rho > 0; given"),
        (lambda net: VP(2.0, 1.0), "low <= high"),
        (lambda net: Cosine(-1.0), "0 <= s"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call(lambda x, t: x)


class TestGrids:
    """Of a prior with a continuous schedule."""

    prior = as_denoiser(lambda x, t: x, "velocity", range=(-1.0, 1.0), schedule=Flow())

    def test_karras_is_exact_between_the_ends(self):
        low, high = self.prior.sigma_range
        assert low == pytest.approx(0.001 / 0.999 / 2, rel=1e-12)
        assert high == pytest.approx(0.999 / 0.001 / 2, rel=1e-12)
        assert self.prior.sigmas(15) == karras(15, low, high)
        assert self.prior.sigmas(15, sigma_max=3.0) == karras(15, low, 3.0)
        assert self.prior.sigmas(15, sigma_max=1e6) == karras(15, low, high)

    def test_the_vp_rules_pick_from_evenly_spaced_times(self):
        """The rule picks 999, 749, 500, 250 and 0 of the rising levels, which are 0, 250, 499, 749 and 999 steps from t = 0.001."""
        t = [0.001 + 0.998 * index / 999 for index in (0, 250, 499, 749, 999)]
        wanted = [(1 - value) / value / 2 for value in t]
        assert self.prior.sigmas(5, "vp-respaced") == pytest.approx([*wanted, 0.0], rel=1e-9)

    def test_sigma_range_is_kept_to_the_digit(self):
        part = as_denoiser(lambda x, t: x, "velocity", range=(-1.0, 1.0), schedule=Flow(), sigma_range=(0.1, 2.0))
        assert part.sigma_range == (0.05, 1.0)
        assert part.sigmas(7) == karras(7, 0.05, 1.0)
        table = part.sigmas(1000, "vp-respaced")[:-1]
        assert 0.05 <= table[-1] < table[0] <= 1.0

    def test_a_ceiling_below_every_level(self):
        for prior in (self.prior, DiffusionPrior(GaussianPrior(), DiscreteVP())):
            with pytest.raises(InputError, match=r"sigma_max must be at least the lowest level.*given 1e-09"):
                prior.sigmas(5, sigma_max=1e-9)

    def test_shift(self):
        """s -> 3 s / (1 + 2 s) of evenly spaced s between the two whose images are the ends."""
        levels = Flow(shift=3.0).levels()
        plain = Flow().levels()
        assert levels[0] == pytest.approx(plain[0], rel=1e-12)
        assert levels[-1] == pytest.approx(plain[-1], rel=1e-12)
        shifted = [sigma / (1 + sigma) for sigma in levels]
        even = [s / (3 - 2 * s) for s in shifted]
        steps = [b - a for a, b in pairwise(even)]
        assert max(steps) == pytest.approx(min(steps), rel=1e-9)


class Told(Denoiser):
    """A prior whose mean is told by the problem, in its own range."""

    def __init__(self, mean=0.0):
        super().__init__()
        self.centre = mean

    def given(self, problem):
        return Told(0.5)

    def select(self, items):
        return Told(float(items[0]))

    def gaps(self, problem):
        return ["not this one"]

    def forward(self, x, sigma):
        return torch.full_like(x, self.centre)


def test_wrappers_pass_on_what_concerns_the_problem():
    problem = Problem.unconditional(SHAPE)
    x = torch.zeros(1, *SHAPE)
    for prior in (rescale(Told()), DiffusionPrior(rescale(Told()), VP(), unit=0.5), rescale(DiffusionPrior(Told(), VP(), unit=1))):
        assert float(prior(x, 1.0).mean()) == 0.5
        bound = prior.given(problem)
        assert type(bound) is type(prior)
        assert float(bound(x, 1.0).mean()) == 0.75
        assert bound.centre == 0.75
        assert float(prior.select([1])(x, 1.0).mean()) == 1.0
        assert prior.gaps(problem) == ["not this one"]
    plain = DiffusionPrior(GaussianPrior(), VP())
    assert plain.given(problem) is plain.select([0]) is plain


def test_a_rescaled_diffusion_prior_keeps_its_schedule():
    inner = DiffusionPrior(GaussianPrior(0.0, 0.5), DiscreteVP(), unit=1)
    outer = rescale(inner, (-1.0, 1.0))
    assert isinstance(outer, DiffusionPrior)
    assert outer.unit == Unit(-1.0, 1.0)
    assert outer.sigmas(20, "vp-sqrt") == [sigma / 2 for sigma in inner.sigmas(20, "vp-sqrt")]
    x, sigma = states(outer)
    assert torch.allclose(outer(x, sigma), GaussianPrior(0.5, 0.25)(x, sigma), rtol=0, atol=1e-12)


def test_the_mean_of_a_network_is_the_middle_of_its_range_unless_said():
    for bounds in [*RANGES, (0.0, 255.0)]:
        assert as_denoiser(lambda x, t: x, range=bounds).centre == 0.5
        assert as_denoiser(lambda x, t: x, range=bounds, schedule=VP(), kind="eps").centre == 0.5
    assert as_denoiser(lambda x, t: x, range=(-1.0, 1.0), centre=0.0, schedule=VP(), kind="eps").centre == 0.5
    assert as_denoiser(lambda x, t: x, range=(-1.0, 1.0), centre=-0.5).centre == 0.25
    assert NetworkDenoiser(lambda x, t: x, centre=0.1).centre == 0.1
    assert rescale(GaussianPrior(0.5, 0.5), (-1.0, 1.0)).centre == 0.75
    assert rescale(Wrapper(NetworkDenoiser(lambda x, t: x)), (-1.0, 1.0)).centre == 0.5
    assert rescale(Wrapper(GaussianPrior(0.0, 0.5)), (-1.0, 3.0)).centre == 0.25


class Wrapper(Denoiser):
    """Says what another says."""

    def __init__(self, inner):
        super().__init__()
        self.take_after(inner)
        self.inner = inner

    def forward(self, x, sigma):
        return self.inner(x, sigma)

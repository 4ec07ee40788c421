"""Classifier-free and classifier guidance against mixtures of Gaussians with classes, where every density is known."""

import math
from itertools import pairwise

import pytest
import torch

from invsolve import CapabilityError, CompatibilityError, GaussianNoise, InputError, Operator, Problem
from invsolve.priors import ClassifierGuided, DiffusionPrior, GaussianPrior, Guided, LabelledMixturePrior, LatentPrior, rescale
from invsolve.schedule import DiscreteVP
from invsolve.solvers import DDIM, DPS, Heun
from invsolve.testing.conditions import check_given
from invsolve.testing.oracle import normal

SHAPE, STD = (1, 2, 3), 0.15
WEIGHTS = torch.tensor([1.0, 2.0, 3.0, 1.0, 1.0], dtype=torch.float64)
CLASS = torch.tensor([0, 0, 1, 2, 2])
MEANS = 0.5 + 0.3 * normal(5, 6, seed=3)
LEVELS = [0.02, 0.3, 2.0, 60.0]
# Sums of a few terms of size |x| <= 400 in float64, and logarithms of densities of size |x - m|^2 / (2 v) <= 200 before they are derived.
ROUNDING = 2e-12


def mixture(**options):
    return LabelledMixturePrior(MEANS.reshape(5, *SHAPE), CLASS, STD, WEIGHTS, **options)


def classifier():
    return mixture().classifier()


def log_density(x, sigma, label):
    """log p_t(x | label) up to a constant, all components for label 3; x (B, 6), sigma (B,)."""
    own = (label[:, None] == CLASS) | (label[:, None] == 3)
    spread = STD**2 + sigma[:, None] ** 2
    logs = torch.where(own, WEIGHTS, 0.0).log() - (x[:, None] - MEANS).square().sum(2) / (2 * spread)
    return logs.logsumexp(1)


def tweedie(x, sigma, label):
    """x + sigma^2 grad log p_t(x | label)."""
    leaf = x.flatten(1).clone().requires_grad_(True)
    level = torch.as_tensor(sigma, dtype=x.dtype).expand(len(x))
    (score,) = torch.autograd.grad(log_density(leaf, level, label).sum(), leaf)
    return (x.flatten(1) + level[:, None] ** 2 * score).reshape(x.shape)


def states(sigma, count=4):
    return (MEANS[: count - 1].mean(0) + math.hypot(STD, sigma) * normal(count, 6, seed=5)).reshape(count, *SHAPE)


def asked(labels, shape=SHAPE):
    return Problem.unconditional(shape, len(labels), dtype=torch.float64, context={"label": torch.as_tensor(labels)})


LABELS = torch.tensor([0, 2, 1, 3])
NONE = torch.full((4,), 3)


@pytest.mark.parametrize("sigma", LEVELS)
class TestClosedForm:
    def test_the_mixture_of_a_class_and_of_none(self, sigma):
        x = states(sigma)
        assert torch.allclose(mixture().given(asked(LABELS))(x, sigma), tweedie(x, sigma, LABELS), rtol=0, atol=ROUNDING)
        assert torch.allclose(mixture().unconditional()(x, sigma), tweedie(x, sigma, NONE), rtol=0, atol=ROUNDING)
        assert torch.allclose(mixture(label=2).given(asked(LABELS))(x, sigma), tweedie(x, sigma, NONE - 1), rtol=0, atol=ROUNDING)

    @pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.5, 7.0])
    def test_free_of_a_classifier(self, sigma, scale):
        x = states(sigma)
        without, towards = tweedie(x, sigma, NONE), tweedie(x, sigma, LABELS)
        found = Guided(mixture(), scale).given(asked(LABELS))(x, sigma)
        assert torch.allclose(found, (1 - scale) * without + scale * towards, rtol=0, atol=ROUNDING * (1 + scale))

    @pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.5, 7.0])
    def test_by_a_classifier(self, sigma, scale):
        """By Bayes' rule sigma^2 grad log p(c | x) is D_c - D_u, so that both are the same prior."""
        x, labels = states(sigma, 3), LABELS[:3]
        without, towards = tweedie(x, sigma, NONE[:3]), tweedie(x, sigma, labels)
        prior = ClassifierGuided(mixture().unconditional(), classifier(), scale)
        found = prior.given(asked(labels))(x, sigma)
        assert torch.allclose(found, (1 - scale) * without + scale * towards, rtol=0, atol=ROUNDING * (1 + scale))


def test_a_perfect_classifier_says_p_of_c_given_x():
    x, sigma = states(0.4), torch.full((4,), 0.4, dtype=torch.float64)
    joint = torch.stack([log_density(x.flatten(1), sigma, torch.full((4,), label)) for label in range(3)], 1)
    assert torch.allclose(classifier()(x, sigma).exp(), joint.softmax(1), rtol=0, atol=1e-13)


def test_the_interval_is_asked_item_by_item():
    """low < sigma <= high is led, every other item is the conditional prior's own."""
    level = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    x = states(0.3)
    found = Guided(mixture(), 3.0, interval=(0.1, 0.3)).given(asked([2, 2, 2, 2]))(x, level)
    towards, without = tweedie(x, level, NONE - 1), tweedie(x, level, NONE)
    assert torch.allclose(found[[0, 3]], towards[[0, 3]], rtol=0, atol=ROUNDING)
    assert torch.allclose(found[1:3], (3 * towards - 2 * without)[1:3], rtol=0, atol=ROUNDING)
    assert not torch.allclose(found[1:3], towards[1:3], atol=1e-3)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_rescaling_sets_the_spread_back(share):
    """phi (centre + (x - centre) std_c / std) + (1 - phi) x, the standard deviations over the pixels of each item."""
    x, centre = states(0.3), mixture().centre
    towards, without = tweedie(x, 0.3, LABELS), tweedie(x, 0.3, NONE)
    led = 4 * towards - 3 * without
    ratio = torch.tensor([float(a.std() / b.std()) for a, b in zip(towards, led, strict=True)], dtype=torch.float64)
    wanted = share * (centre + (led - centre) * ratio[:, None, None, None]) + (1 - share) * led
    assert torch.allclose(Guided(mixture(), 4.0, rescale=share).given(asked(LABELS))(x, 0.3), wanted, rtol=0, atol=1e-12)


def test_rescaling_of_a_flat_image_leaves_it():
    flat = LabelledMixturePrior(torch.tensor([0.2, 0.7]).reshape(2, 1, 1, 1).expand(2, 1, 2, 2), [0, 1])
    out = Guided(flat, 2.0, rescale=1.0).given(asked([1], (1, 2, 2)))(torch.full((1, 1, 2, 2), 0.6, dtype=torch.float64), 0.5)
    assert bool(torch.isfinite(out).all())


COUNTS = {  # scale, interval, evaluations of a run of 6 levels: 2, 1.4, .9, .5, .2, .1
    "none": (1.0, None, 6),
    "forgotten": (0.0, None, 6),
    "led": (2.0, None, 12),
    "forgotten within an interval": (0.0, (0.3, 1.0), 8),
    "led within an interval": (2.0, (0.3, 1.0), 8),
}


@pytest.mark.parametrize("name", COUNTS)
def test_evaluations_are_what_was_called(name):
    class Grid(LabelledMixturePrior):
        def sigmas(self, steps, grid="karras", sigma_max=None):
            return [2.0, 1.4, 0.9, 0.5, 0.2, 0.1, 0.0]

    scale, interval, wanted = COUNTS[name]
    prior = Guided(Grid(MEANS.reshape(5, *SHAPE), CLASS, STD, WEIGHTS), scale, interval=interval)
    assert DDIM(steps=6).solve(asked(LABELS), prior, generator=0).nfe == wanted


def test_a_classifier_is_an_evaluation_and_a_way_back():
    prior = ClassifierGuided(mixture().unconditional(), classifier(), 2.0)
    found = DDIM(steps=5).solve(asked([0, 1, 2]), prior, generator=0)
    assert (found.nfe, found.backward) == (10, 5)
    idle = DDIM(steps=5).solve(asked([0, 1, 2]), ClassifierGuided(mixture().unconditional(), classifier(), 0.0), generator=0)
    assert (idle.nfe, idle.backward) == (5, 0)


LED = {
    "free": lambda scale: Guided(mixture(), scale),
    "classifier": lambda scale: ClassifierGuided(mixture().unconditional(), classifier(), scale),
}


@pytest.mark.parametrize("led", LED)
@pytest.mark.parametrize("solver", [DDIM(steps=60), Heun(steps=30)])
def test_samples_at_scale_1_are_the_class(led, solver):
    """Class 0 has two components, 1 and 2 in 3: mean and second moment of 3000 draws within 4 standard errors.

    The levels are fine enough that DDIM's own bias, measured once with 2000 levels, is below half a standard error.
    """
    count = 3000
    x = solver.solve(asked([0] * count), LED[led](1.0), generator=2).x.flatten(1)
    share = torch.tensor([1 / 3, 2 / 3], dtype=torch.float64)
    mean = share @ MEANS[:2]
    second = share @ (MEANS[:2] ** 2) + STD**2
    fourth = share @ (MEANS[:2] ** 4 + 6 * MEANS[:2] ** 2 * STD**2 + 3 * STD**4)
    assert float(((x.mean(0) - mean).abs() / ((second - mean**2) / count).sqrt()).max()) < 4
    assert float(((x.square().mean(0) - second).abs() / ((fourth - second**2) / count).sqrt()).max()) < 4


# ---- the known bias: two classes on a line, N(.3, .1^2) and N(.6, .1^2), led to the second ----


def flow_of(scale, points=400, steps=400, top=30.0):
    """What the led ODE dx / dsigma = (x - D) / sigma makes of N(.45, top^2), by its quantiles (the flow of a line keeps their order).

    D_c = m_c + g (x - m_c), D_u = D_c's average with the weights p(c | x); g = v / (v + sigma^2). Heun on karras levels.
    """
    u = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    x = 0.45 + top * math.sqrt(2) * torch.erfinv(2 * u - 1)
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    sigmas = [*((top ** (1 / 7) + ramp * (0.002 ** (1 / 7) - top ** (1 / 7))) ** 7).tolist(), 0.0]

    def slope(x, sigma):
        v = 0.01 + sigma**2
        gain, towards = 0.01 / v, torch.sigmoid(((x - 0.3) ** 2 - (x - 0.6) ** 2) / (2 * v))
        led = scale * 0.6 + (1 - scale) * (0.3 + 0.3 * towards)
        return (x - (led + gain * (x - led))) / sigma

    for high, low in pairwise(sigmas):
        first = slope(x, high)
        ahead = x + (low - high) * first
        x = ahead if low == 0 else x + (low - high) * (first + slope(ahead, low)) / 2
    return float(x.mean()), float(x.std(correction=0))


def tilted(scale):
    """Mean and standard deviation of p(x) p(c | x)^scale / Z, on a fine grid: what guidance is often said to draw from."""
    x = torch.linspace(-1, 3, 40001, dtype=torch.float64)
    one, two = (-((x - mean) ** 2) / 0.02 for mean in (0.3, 0.6))
    whole = torch.logaddexp(one, two)
    weight = (whole + scale * (two - whole)).softmax(0)
    mean = float((weight * x).sum())
    return mean, math.sqrt(float((weight * x**2).sum()) - mean**2)


def line(scale, led):
    means = torch.tensor([0.3, 0.6], dtype=torch.float64).reshape(2, 1, 1, 1)
    prior = LabelledMixturePrior(means, [0, 1], 0.1)
    return Guided(prior, scale) if led == "free" else ClassifierGuided(prior.unconditional(), prior.classifier(), scale)


# Mean and standard deviation of what is drawn, and those of p(x) p(c | x)^scale.
RECORDED = {
    1.0: ((0.600, 0.100), (0.600, 0.100)),
    2.0: ((0.664, 0.072), (0.616, 0.089)),
    4.0: ((0.735, 0.058), (0.629, 0.082)),
}


@pytest.mark.parametrize("scale", RECORDED)
def test_the_bias_at_other_scales_is_the_recorded_one(scale):
    drawn, aimed = flow_of(scale), tilted(scale)
    assert drawn == pytest.approx(RECORDED[scale][0], abs=1e-3)
    assert aimed == pytest.approx(RECORDED[scale][1], abs=1e-3)


@pytest.mark.parametrize("led", ["free", "classifier"])
def test_samples_at_scale_4_have_the_bias_and_not_the_tilted_law(led):
    """4000 draws: mean within 4 standard errors of the flow's, and many from that of p(x) p(c | x)^4."""
    count = 4000
    x = Heun(steps=40).solve(asked([1] * count, (1, 1, 1)), line(4.0, led), generator=0).x.flatten()
    (mean, std), (other, _) = flow_of(4.0), tilted(4.0)
    error = std / math.sqrt(count)
    assert abs(float(x.mean()) - mean) < 4 * error
    assert abs(float(x.std()) / std - 1) < 4 / math.sqrt(2 * count)
    assert abs(float(x.mean()) - other) > 20 * error


# ---- as priors ----

CODES = (1, 2, 3)
DECODER = torch.eye(6, dtype=torch.float64).repeat_interleave(2, 0) / 2**0.5
WRAPPED = {
    "outside of a schedule": lambda: Guided(DiffusionPrior(mixture(), DiscreteVP()), 2.0),
    "inside of a schedule": lambda: DiffusionPrior(Guided(mixture(), 2.0), DiscreteVP()),
    "outside of a range": lambda: Guided(rescale(mixture()), 2.0),
    "inside of a range": lambda: rescale(Guided(mixture(), 2.0)),
}


@pytest.mark.parametrize("side", ["schedule", "range"])
def test_inside_and_outside_of_a_wrapper_are_the_same(side):
    x, given = states(0.3), asked(LABELS)
    inside, outside = (WRAPPED[f"{where} of a {side}"]().given(given)(x, 0.3) for where in ("inside", "outside"))
    assert torch.allclose(inside, outside, rtol=0, atol=1e-13)


def test_codes_are_led_inside_and_outside_of_their_decoder():
    given = asked(LABELS, (1, 4, 3))
    decoder = Operator.from_matrix(DECODER, CODES, (1, 4, 3))
    inside, outside = LatentPrior(Guided(mixture(), 2.0), decoder), Guided(LatentPrior(mixture(), decoder), 2.0)
    assert outside.decoder is decoder
    found = [DDIM(steps=5).solve(given, prior, generator=0) for prior in (inside, outside)]
    assert torch.equal(found[0].x, found[1].x)
    assert [one.nfe for one in found] == [10, 10]


@pytest.mark.parametrize("led", LED)
def test_gradients_go_through(led):
    """DPS differentiates the estimate: through a classifier that is its second derivative."""
    problem, x = asked([0, 1, 2]), states(0.3, 3).requires_grad_(True)
    direction, step = normal(3, *SHAPE, seed=1), 1e-5
    prior = LED[led](3.0).given(problem)
    (found,) = torch.autograd.grad((prior(x, 0.3) * direction).sum(), x)
    other = normal(3, *SHAPE, seed=2)
    with torch.no_grad():
        ahead, behind = ((prior(x + sign * step * other, 0.3) * direction).sum() for sign in (1, -1))
    assert float((found * other).sum()) == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-6)  # step^2, and eps / step
    eye = Operator.from_matrix(torch.eye(6, dtype=torch.float64), SHAPE, SHAPE)
    measured = Problem.simulate(eye, states(0.1, 3), GaussianNoise(0.1), generator=0, context=problem.context)
    assert torch.isfinite(DPS(steps=3).solve(measured, LED[led](3.0), generator=0).x).all()


def test_without_an_unconditional_form_it_is_refused_at_once():
    with pytest.raises(CapabilityError, match=r"GaussianPrior has no unconditional\(\)"):
        Guided(GaussianPrior(), 2.0)
    assert Guided(GaussianPrior(), 1.0).given(asked(LABELS)) is not None


REFUSED = {
    "scale": (lambda: Guided(mixture(), -1.0), "scale must be a number, 0 or more"),
    "scale inf": (lambda: Guided(mixture(), math.inf), "scale must be a number, 0 or more"),
    "rescale": (lambda: Guided(mixture(), 2.0, rescale=1.5), "rescale must be between 0"),
    "interval": (lambda: Guided(mixture(), 2.0, interval=(1.0, 0.5)), "interval .* low < high"),
    "interval below 0": (lambda: Guided(mixture(), 2.0, interval=(-1.0, 0.5)), "0 <= low < high"),
    "no prior": (lambda: Guided(torch.nn.Identity()), "leads a Denoiser; given Identity"),
    "no classifier": (lambda: ClassifierGuided(GaussianPrior(), 3), "classifier must be a network"),
    "label of a classifier": (lambda: ClassifierGuided(GaussianPrior(), classifier(), label=3), "label must be a whole number from 0 to 2"),
    "label": (lambda: mixture(label=4), "label must be a whole number from 0 to 2, or 3 for none; given 4"),
    "classes with a gap": (lambda: LabelledMixturePrior(MEANS[:2].reshape(2, *SHAPE), [0, 2]), "without a gap"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_are_refused(name):
    call, words = REFUSED[name]
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize("led", LED)
@pytest.mark.parametrize(
    ("context", "words"),
    [({}, "given none"), ({"label": torch.tensor([0, 7, -1, 2])}, "given -1, 7"), ({"label": torch.ones(4)}, "given torch.float32")],
)
def test_labels_that_are_none_are_refused_before_anything_runs(led, context, words):
    problem = Problem.unconditional(SHAPE, 4, dtype=torch.float64, context=context)
    with pytest.raises(CompatibilityError, match=f"one label for each item: whole numbers from 0 to 2.*{words}"):
        DDIM(steps=2).solve(problem, LED[led](2.0), generator=0)


def test_a_classifier_of_another_shape_or_without_a_gradient_is_named():
    prior = ClassifierGuided(GaussianPrior(), lambda x, sigma: x.flatten(1)[:, :2], 1.0)
    with pytest.raises(InputError, match=r"a class for label 2; it gave \(4, 2\)"):
        prior.given(asked([0, 1, 2, 0]))(states(0.3), 0.3)
    cut = ClassifierGuided(GaussianPrior(), lambda x, sigma: x.detach().flatten(1)[:, :3], 1.0)
    with pytest.raises(CapabilityError, match="autograd does not go through"):
        cut.given(asked([0, 1, 2, 0]))(states(0.3), 0.3)


def test_the_labelled_mixture_is_conditional_as_the_kit_asks():
    check_given(LabelledMixturePrior.examples()[0])

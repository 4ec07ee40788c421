"""What priors promise beyond denoising: the level that they are told, the condition that they look at, guidance, codes and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invsolve.operator.measurement import flat, mapped
from invsolve.priors.base import Denoiser
from invsolve.priors.guidance import Guided, Leading
from invsolve.priors.latent import LatentPrior
from invsolve.rng import Rng
from invsolve.testing.cases import need
from invsolve.testing.conditions import CLOSED, FirstItem, conditional, problem_for
from invsolve.testing.settings import same

# Of the squared error: a denoiser is best at the level that there is, a network's estimate of images that it drew itself nearly so.
LEVEL_SLACK = 1.05
NUMBERS = 2000  # drawn in all: the squared error's own standard error is 3 %, that of two errors of the same draws less


def check_level(prior: Denoiser) -> None:
    """Of its own draws with noise, the estimate is nearer when it is told the noise that there is than half of it, or twice.

    E[x0 | x] has the least squared error of all functions of x. Asked where the prior draws exactly (`sample`), and not of guidance or of
    few-step maps, which are no such mean. Without draws nothing tells: a Gaussian's D(x, 2 sigma) is D(x, sigma) of one that is half as
    wide.
    """
    if isinstance(prior, Leading) or prior.blind or prior.few_step:
        return
    shape = prior.in_shape or (prior.channels or 3, 12, 13)
    count = max(4, -(-NUMBERS // math.prod(shape)))
    one = FirstItem(prior).bound(count, torch.float64) if prior.batch is not None or conditional(prior) else prior
    draw = getattr(one, "sample", None)
    if draw is None:
        return
    low, high = one.sigma_range
    rng = Rng(22, range(count), purpose="level")
    clean = draw(shape, rng, torch.zeros(1, dtype=torch.float64))
    for sigma in sorted({min(max(value, low), high) for value in (0.05, float(one.s0))}):
        x = clean + sigma * rng.normal_like(clean)

        def error(told: float, x: Tensor = x) -> float:
            return float((one(x, told) - clean).square().mean())

        right = error(sigma)
        for told in (sigma / 2, 2 * sigma):
            if low <= told <= high:
                other = error(told)
                need(
                    right <= LEVEL_SLACK * other,
                    f"of noise {sigma:.3g} the squared error is {right:.3g} where that is told, and {other:.3g} where {told:.3g} is: "
                    "sigma is taken for another level than it is (twice or half of it? see Unit)",
                )


def check_few_step(prior: Denoiser) -> None:
    """A few-step map shows a picture where noise is all there is: at the top of its range its answers spread as the data do.

    The end of the ODE's path has the law of the data, standard deviation s0, where a mean says the same of all noise. Asked where the range
    ends above 30 s0, so that a mean of white pictures spreads by s0 / 30 at most; ten times less and more than s0 are allowed, for pictures
    here are smaller than most priors' own, and a corner of a digit is black.
    """
    if not prior.few_step or prior.sigma_range[1] < 30 * prior.s0:
        return
    one = FirstItem(prior) if prior.batch is not None or conditional(prior) else prior
    shape = prior.in_shape or (prior.channels or 3, 12, 13)
    count = max(4, -(-NUMBERS // math.prod(shape)))
    noise = Rng(24, range(count), purpose="few-step").normal(shape, torch.zeros(1, dtype=torch.float64))
    found = one(one.centre + one.sigma_range[1] * noise, one.sigma_range[1])
    spread = float((found - found.mean(0)).square().mean().sqrt()) / one.s0
    need(
        0.1 < spread < 10,
        f"few_step is said, but of pure noise the answers spread by {spread:.3g} s0, those of a map by 1: it is a mean, or s0 is wrong",
    )


def check_condition(prior: Denoiser) -> None:
    """A prior that looks at y: its means given y, over all items, fit no other item's y better, nor y mirrored."""
    if not prior.sees_y:
        return
    problem = problem_for(prior)
    bound = prior.given(prior.space(problem)[0])
    grey = torch.full_like(prior.space(problem)[0].image, float(bound.centre))
    mean = prior.space(problem)[1](bound(grey, bound.sigma_range[1]))
    seen = problem.operator(mean)

    def apart(other: object) -> float:
        return float((flat(seen) - flat(other)).abs().square().sum())  # pyright: ignore[reportArgumentType]

    own = apart(problem.y)
    others = {
        "another item's y": apart(mapped(lambda part: part.roll(1, 0), problem.y)),
        "its y mirrored": apart(mapped(lambda part: part.flip(-1), problem.y)),
    }
    for what, away in others.items():
        need(own <= away, f"what H makes of the mean given y is nearer to {what} than to y: {away:.3g} and {own:.3g} over all items")


def check_guidance(prior: Denoiser) -> None:
    """Classifier-free guidance, not rescaled and at all levels, is D_u + scale (D_c - D_u); a subclass leads to the same side."""
    if not isinstance(prior, Guided) or prior.rescale or prior.interval or prior.scale == 0:
        return
    problem = problem_for(prior)
    inner = prior.space(problem)[0]
    low, high = prior.sigma_range
    for sigma in (min(max(0.3, low), high), min(max(0.05, low), high)):
        x = inner.image + 0.4
        with_it, without = prior.conditional(inner)(x, sigma), prior.opposite(inner)(x, sigma)
        wanted = without + prior.scale * (with_it - without)
        led = prior.given(inner)(x, sigma)
        toward = ((led - without) * (with_it - without)).sum()
        need(float(toward) > 0, f"scale {prior.scale:g} at sigma {sigma:.3g} leads away from the condition")
        if type(prior) is not Guided:  # a rule of its own
            continue
        single = any(parameter.dtype == torch.float32 for parameter in prior.parameters())
        same(led, wanted, 1e-4 if single else CLOSED, f"scale {prior.scale:g} at sigma {sigma:.3g}")


def check_codes(prior: Denoiser) -> None:
    """An encoder goes with its decoder: D(E(D(z))) is nearer to D(z) than half of what that is from the mean code's image."""
    if not isinstance(prior, LatentPrior) or prior.encode is None:
        return
    problem = problem_for(prior)
    inner, decode = prior.space(problem)
    rng = Rng(23, range(inner.batch), purpose="codes")
    middle = torch.full_like(inner.image, float(prior.centre))
    with torch.no_grad():
        image, grey = (decode(code) for code in (middle + float(prior.s0) * rng.normal_like(middle), middle))
        back = decode(prior.encode(image))
    away, spread = (value.square().mean().sqrt() for value in (back - image, image - grey))
    need(
        bool(away < spread / 2),
        f"decoded, encoded and decoded again, images move by {float(away):.3g}, their spread is {float(spread):.3g}",
    )


PROMISES = (check_level, check_few_step, check_condition, check_guidance, check_codes)

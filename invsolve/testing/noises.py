"""Conformance of noise models: what `sample` draws, and whether nll, variance, sigma and `scaled` are those of what it draws.

    for noise, check in noise_cases(MyNoise()):
        check(noise)                         # raises AssertionError with what was found and what is allowed

Statistics are of N independent entries with a fixed seed; a mean may be 5 of its standard errors off.
"""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Mapping
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from invsolve.errors import CapabilityError, InputError
from invsolve.gain import noise_level
from invsolve.noise import Ability, NoiseModel
from invsolve.operator.measurement import Measurement, flat, mapped, parts
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solver import asked_noise
from invsolve.testing.cases import Check, Checks, build_cases, chosen, need
from invsolve.testing.objects import check_buffers
from invsolve.testing.settings import Kept, fitting_priors, frozen_state, registered, same, truth
from invsolve.testing.world import kept, unmoved, worlds

SHAPE, DRAWS, ERRORS = (1, 3, 4), 40_000, 5.0
POWERS = (2.0**-13, 2.0**13)  # by these a product is exact, so that counts are the same counts


def clean_of(noise: NoiseModel, dtype: torch.dtype = torch.float64) -> Tensor:
    """(B, 1, 3, 4) images, as many as the model has parameters for, else 3."""
    return truth(SHAPE, noise.batch or 3, dtype)


def drawn(noise: NoiseModel, clean: Measurement, seed: int = 0) -> Measurement:
    """A draw with one stream per item."""
    return noise.sample(clean, Rng(seed, range(len(parts(clean)[0])), purpose="noise"))


def entries(noise: NoiseModel, level: float) -> tuple[Tensor, Tensor]:
    """(clean, y): N independent entries (N, 1) of a constant; of the first item's parameters where items have their own."""
    clean = torch.full((1, DRAWS), level, dtype=torch.float64)
    y = drawn(one_item(noise, 1), clean)
    assert isinstance(y, Tensor)
    return clean.T, y.T


def one_item(noise: NoiseModel, count: int) -> NoiseModel:
    """The model of item 0, for that many items."""
    return noise if noise.batch is None else noise.select([0] * count)  # pyright: ignore[reportArgumentType]


def within(values: Tensor, wanted: float, what: str) -> None:
    """AssertionError unless the mean of independent values is within 5 standard errors of what it should be."""
    error = float(values.std()) / math.sqrt(len(values)) + 1e-9 * abs(wanted) + 1e-15
    mean = float(values.mean())
    need(abs(mean - wanted) <= ERRORS * error, f"{what}: {mean:.6g}, expected {wanted:.6g}; one standard error is {error:.2g}")


def check_sample(noise: NoiseModel) -> None:
    """A draw has the shape and dtype of the clean measurement, also of a tuple, and `check` accepts it."""
    for dtype in (torch.float32, torch.float64):
        clean = clean_of(noise, dtype)
        for measurement in (clean, (clean, clean.flatten(1)[:, :5])):
            y = drawn(noise, measurement)
            need(isinstance(y, tuple) == isinstance(measurement, tuple), f"y of {type(measurement).__name__} is {type(y).__name__}")
            for part, wanted in zip(parts(y), parts(measurement), strict=True):
                need(
                    part.shape == wanted.shape and part.dtype == dtype,
                    f"y is {tuple(part.shape)} {part.dtype}, clean {tuple(wanted.shape)}",
                )
                need(torch.isfinite(part).all(), "NaN or Inf in y")
            noise.check(y)
    need(math.isfinite(noise.spread()) and noise.spread() >= 0, f"spread() is {noise.spread()}")


def check_level(noise: NoiseModel) -> None:
    """A solver can know how strong the noise is: `noise_level` at a mid-grey is the standard deviation of y there, found by other draws.

    Whatever gives it, sigma, variance, spread or draws. Its square may be 5 standard errors of two such numbers off. Of a noise without a
    variance (a Cauchy's) the standard error is of the order of the number itself however much is drawn: a tenth of it is too much.
    """
    clean, model = torch.full((1, DRAWS), 0.5, dtype=torch.float64), one_item(noise, 1)
    squares = (flat(drawn(model, clean, 1)) - flat(drawn(model, clean, 2))).square()[0] / 2
    wanted, error = float(squares.mean()), float(squares.std()) / math.sqrt(DRAWS)
    need(error <= 0.1 * wanted, f"it has no level: the variance of y at clean = 0.5 is {wanted:.3g}, its standard error {error:.2g}")
    try:
        level = noise_level(model, clean)
    except InputError as found:
        raise AssertionError(f"its level cannot be had: {found}") from found
    need(tuple(level.shape) == (1,), f"the level has shape {tuple(level.shape)}, expected (1,)")
    gap, allowed = abs(float(level) ** 2 - wanted), ERRORS * math.sqrt(2) * error + 1e-9 * wanted
    need(gap <= allowed, f"its level is {float(level):.4g}; the standard deviation of y at clean = 0.5 is {math.sqrt(wanted):.4g}")


def check_solved(noise: NoiseModel) -> None:
    """Every solver of the core that takes the noise by what it has solves a small problem under it; the answer is finite, of y's type."""
    asked = 0
    for cls in registered("solver", {"invsolve"}):
        solver = cls.examples()[0]
        if not solver.requires.measurement or asked_noise(solver.requires, noise):
            continue
        for prior in fitting_priors(solver)[:1]:
            x = truth(SHAPE, noise.batch or 3, torch.float64)
            problem = Problem.simulate(Kept(SHAPE), x, noise, generator=0, context=prior.example_context(len(x)))
            if solver.mismatches(problem, prior):
                continue
            try:
                found = solver.solve(problem, prior, generator=0).x
            except Exception as error:
                raise AssertionError(f"{solver} accepts it and fails: {type(error).__name__}: {error}") from error
            need(found.dtype == x.dtype and bool(torch.isfinite(found).all()), f"{solver} gives NaN, Inf or {found.dtype}")
            asked += 1
    if not asked:
        raise SkipTest("no solver of the core takes it")


def check_streams(noise: NoiseModel) -> None:
    """The same streams give the same bits, others other ones, an item alone its own; clean and the global generators are as they were."""
    clean = clean_of(noise)
    held = [clean.clone(), *frozen_state(noise)]
    with unmoved("a draw"):
        first, again, other = drawn(noise, clean), drawn(noise, clean), drawn(noise, clean, 1)
    same(flat(again), flat(first), 0, "two draws from the same streams")
    for old, new in zip(held, [clean, *frozen_state(noise)], strict=True):
        same(old, new, 0, "clean or a buffer was changed")
    random_one = not torch.equal(flat(first), flat(clean))
    need(not random_one or not torch.equal(flat(first), flat(other)), "seeds 0 and 1 give the same noise")
    for item in range(len(clean)):
        alone = noise.select(range(item, item + 1)).sample(clean[item : item + 1], Rng(0, [item], purpose="noise"))
        same(flat(alone)[0], flat(first)[item], 0, f"item {item} alone and in a batch")


def check_nll(noise: NoiseModel) -> None:
    """nll is (B,), finite at a draw, an item's own, and its gradient in clean is the derivative."""
    clean = clean_of(noise)
    y = drawn(noise, clean)
    value = noise.nll(y, clean)
    need(tuple(value.shape) == (len(clean),), f"nll has shape {tuple(value.shape)}, expected {(len(clean),)}")
    need(torch.isfinite(value).all(), f"nll at a draw is {value.tolist()}")
    for item in range(len(clean)):
        piece = slice(item, item + 1)
        alone = noise.select(range(item, item + 1)).nll(mapped(lambda part, p=piece: part[p], y), clean[piece])
        same(alone[0], value[item], 1e-12 * max(1.0, float(value[item].abs())), f"nll of item {item} alone and in a batch")
    leaf = clean.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(noise.nll(y, leaf).sum(), leaf)
    need(torch.isfinite(gradient).all(), "the gradient of nll has NaN or Inf")
    aim = Rng(4, range(len(clean)), purpose="direction").normal_like(clean)
    step = 1e-6
    found = (noise.nll(y, clean + step * aim) - noise.nll(y, clean - step * aim)) / (2 * step)
    slope = flat(gradient * aim).sum(1)
    size = float(flat(gradient * aim).abs().sum(1).max())
    # truncation step^2 of the third derivative, rounding eps |nll| / step: both far below 1e-6 of the sum of the terms
    same(found, slope, 1e-6 * max(1.0, size), "the derivative of nll along a direction and its finite difference")


def check_likelihood(noise: NoiseModel) -> None:
    """nll is -log of the density that `sample` draws from: E[p(y | c') / p(y | c)] = 1 for y drawn at c, whatever c'.

    A factor forgotten in nll, or a noise of another width, breaks this; c' is half a standard deviation away on either side.
    """
    for level in (0.3, 0.7):
        clean, y = entries(noise, level)
        model = one_item(noise, DRAWS)
        here = model.nll(y, clean)
        for side in (-0.5, 0.5):
            there = model.nll(y, clean + side * y.std())
            within((here - there).exp(), 1.0, f"E[p(y | c') / p(y | c)] at c = {level}, c' {side:+g} standard deviations away")


def check_variance(noise: NoiseModel) -> None:
    """variance(clean) is of clean's shape and is the variance of the draws."""
    clean = clean_of(noise)
    value = noise.variance(clean)
    need(flat(value).shape == flat(clean).shape, f"variance has shape {tuple(flat(value).shape)}, clean {tuple(flat(clean).shape)}")
    need(bool((flat(value) >= 0).all()) and bool(torch.isfinite(flat(value)).all()), "a variance is negative, NaN or infinite")
    for level in (0.3, 0.7):
        constant, y = entries(noise, level)
        wanted = float(flat(one_item(noise, DRAWS).variance(constant))[0, 0])
        within((y - y.mean()).square()[:, 0], wanted, f"the variance of y at clean = {level}")


def check_sigma(noise: NoiseModel) -> None:
    """sigma is a scalar or (B,), and the standard deviation of the draws."""
    sigma = torch.as_tensor(noise.sigma, dtype=torch.float64)
    need(
        sigma.ndim == 0 or tuple(sigma.shape) == (noise.batch,), f"sigma has shape {tuple(sigma.shape)}, the model a batch of {noise.batch}"
    )
    need(bool((sigma >= 0).all()), f"sigma is {sigma.tolist()}")
    clean, y = entries(noise, 0.5)
    within((y - clean).square()[:, 0], float(sigma.flatten()[0]) ** 2, "the mean square of y - clean, and sigma^2")


def check_scaled(noise: NoiseModel) -> None:
    """scaled(c) draws c y where the model draws y, from c clean; its nll differs by a constant only, its variance by c^2."""
    clean = clean_of(noise)
    y = drawn(noise, clean)
    for factor in POWERS:
        try:
            other = noise.scaled(factor)
        except CapabilityError as error:
            raise SkipTest(str(error)) from error
        need(other.abilities == noise.abilities, f"scaled({factor:g}) has {other.listed}, the model {noise.listed}")
        up = mapped(lambda part, c=factor: c * part, y)
        same(flat(drawn(other, factor * clean)) / factor, flat(y), 1e-12, f"a draw of scaled({factor:g}) in units of it, and a draw")
        if Ability.NLL in noise.abilities:
            moved = clean + 0.01
            change = other.nll(up, factor * moved) - other.nll(up, factor * clean)
            wanted = noise.nll(y, moved) - noise.nll(y, clean)
            same(
                change, wanted, 1e-9 * max(1.0, float(noise.nll(y, clean).abs().max())), f"how nll of scaled({factor:g}) changes with clean"
            )
        if Ability.VARIANCE in noise.abilities:
            again = flat(other.variance(factor * clean)) / factor**2
            same(again, flat(noise.variance(clean)), 1e-12, f"the variance of scaled({factor:g}) in units of it")


def check_copies(noise: NoiseModel) -> None:
    """A pickled and a deep copy draw the same bits."""
    clean = clean_of(noise)
    y = drawn(noise, clean)
    for kind, twin in (("pickled", pickle.loads(pickle.dumps(noise))), ("deep", copy.deepcopy(noise))):
        same(flat(drawn(twin, clean)), flat(y), 0, f"a draw of a {kind} copy")


def check_unmoved(noise: NoiseModel) -> None:
    """No draw, nll or variance changes what it is given, the model's tensors or the process (generators, default dtype, threads, modes)."""
    clean = clean_of(noise)
    y = drawn(noise, clean)
    held = frozen_state(clean, y, noise)
    maps: dict[str, Callable[[], object]] = {"sample": lambda: drawn(noise, clean), "check": lambda: noise.check(y)}
    if Ability.NLL in noise.abilities:
        maps["nll"] = lambda: noise.nll(y, clean)
    if Ability.VARIANCE in noise.abilities:
        maps["variance"] = lambda: noise.variance(clean)
    for world in worlds("noise"):
        with kept():
            world.place()
            for name, call in maps.items():
                with unmoved(name):
                    call()
    for old, new in zip(held, frozen_state(clean, y, noise), strict=True):
        same(old, new, 0, "clean, y or a buffer was changed")


ALWAYS: tuple[Check, ...] = (
    check_sample,
    check_level,
    check_solved,
    check_streams,
    check_unmoved,
    check_scaled,
    check_buffers,
    check_copies,
)
BY_ABILITY: dict[Ability, tuple[Check, ...]] = {
    Ability.NLL: (check_nll, check_likelihood),
    Ability.VARIANCE: (check_variance,),
    Ability.SIGMA: (check_sigma,),
}


def noise_checks(noise: NoiseModel, expected_failures: Mapping[str, str] | None = None) -> Checks:
    """The checks of a noise model by name, those of the abilities it has. What its class declares as `expected_failures` must fail."""
    fitting = [check for ability, checks in BY_ABILITY.items() if ability in noise.abilities for check in checks]
    every = [*ALWAYS, *(check for checks in BY_ABILITY.values() for check in checks)]
    return chosen(noise, [*ALWAYS, *fitting], every, expected_failures)


def noise_cases(*noises: NoiseModel, expected_failures: Mapping[str, str] | None = None) -> list[Any]:
    """Every noise model with every check, for `pytest.mark.parametrize("noise, check", ...)`."""
    return build_cases(noises, noise_checks, expected_failures)

"""Whether an answer depends on what it must not depend on: the unit of y, a thousandth of the operator, a claim of convergence.

The problem (cH, cy, c sigma) has the posterior and the minimisers of (H, y, sigma). Whatever a solver compares with y, or with sigma_y (a
floor, a step, a stopping rule, a denoiser's level), shows here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from invsolve.errors import CapabilityError
from invsolve.noise import GaussianNoise
from invsolve.operator import Operator
from invsolve.operator.measurement import flat, mapped, minus
from invsolve.priors.base import Denoiser, Prior
from invsolve.priors.gaussian import GaussianPrior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Solver
from invsolve.testing.cases import need
from invsolve.testing.oracle import Gaussian
from invsolve.testing.pooled import Pooled
from invsolve.testing.posterior import at_length, draws
from invsolve.testing.settings import SHAPE, Setting, part, truth, under_every_noise
from invsolve.testing.shared import made_of, once_made
from invsolve.testing.subjects import Coupled, Kept, NegativeLog

FACTORS = (1e-4, 0.5, 1e4)
WALK = 25  # steps
RELATIVE = 1e-6  # of the largest value of the answer, float64: what the sums of some thousand products may round, and no rule's constant


def in_units(problem: Problem, factor: float) -> Problem:
    """(cH, cy, c sigma).

    Raises:
        CapabilityError: the noise model does not say what it is in another unit.
    """
    y = mapped(lambda part: factor * part, problem.y)
    return Problem(factor * problem.operator, y, problem.noise.scaled(factor), problem.items, False, problem.context)


def rescaled(problem: Problem, factor: float) -> Problem:
    """The same, made once."""
    return made_of(problem, ("in units of", factor), lambda: in_units(problem, factor))


def check_unit_invariance(solver: Solver) -> None:
    """The problem (cH, cy, c sigma) has the answer of (H, y, sigma), to 1e-6 of its size in float64.

    Under every noise model that the solver takes; c is 1e-4, .5 and 1e4 by turns, 1e-4 and 1e4 where a noise has one setting.
    At the solver's default number of steps (of samplers at most 25) where the prior is in closed form. `authors=True` is excepted: such
    a recurrence mixes units where its authors' does.
    """
    if not solver.requires.measurement or getattr(solver, "authors", False):
        return
    missed: list[str] = []
    compared = 0
    known: dict[int, Tensor] = {}  # what is asked in two units is solved as it stands once
    for setting, factor in in_turn([*under_every_noise(solver), *closed_forms(solver)], FACTORS):
        try:
            problem = rescaled(setting.problem, factor)
        except CapabilityError as error:
            missed.append(str(error))
            continue
        gaps = solver.mismatches(problem, setting.prior)
        if gaps:
            # what 1 H is refused for as well is a capability that a scaled operator does not have, such as MASK
            same = solver.mismatches(rescaled(setting.problem, 1.0), setting.prior)
            need(bool(same), f"{setting.label}: (cH, cy, c sigma) with c = {factor:g} is refused: {'; '.join(gaps)}")
            missed += same
            continue
        if id(setting) not in known:
            known[id(setting)] = solved(solver, setting.problem, setting.prior)
        plain, x = known[id(setting)], solved(solver, problem, setting.prior)
        size, gap = float(plain.abs().max()), float((x - plain).abs().max())
        need(
            gap <= RELATIVE * size,
            f"{setting.label}: (cH, cy, c sigma) with c = {factor:g} gives an answer {gap / size:.2g} off, allowed is {RELATIVE:g}",
        )
        compared += 1
    if not compared:
        raise SkipTest(f"no problem can be written in another unit: {'; '.join(dict.fromkeys(missed))}")


def in_turn(found: list[Setting], factors: tuple[float, ...]) -> Iterator[tuple[Setting, float]]:
    """Each setting with one of the factors by turns; one that is alone with its noise with the smallest and the largest."""
    alone = Counter(type(one.problem.noise) for one in found)
    for turn, setting in enumerate(found):
        both = alone[type(setting.problem.noise)] == 1
        yield from ((setting, factor) for factor in ((FACTORS[0], FACTORS[-1]) if both else (factors[turn % len(factors)],)))


def solved(solver: Solver, problem: Problem, prior: Prior) -> Tensor:
    """The answer; at the solver's full length where an iteration costs little."""
    return (lengthened(solver) if cheap(prior) else solver).solve(problem, prior, generator=1).x


def lengthened(solver: Solver) -> Solver:
    """At its default length, so that an iteration comes to its stopping rule; a walk down noise levels meets all in 25 steps too."""
    return at_length(solver, WALK) if hasattr(solver, "sigma_max") else at_length(solver)


def cheap(prior: Prior) -> bool:
    """Whether the prior is a Gaussian in closed form."""
    return isinstance(prior, GaussianPrior | NegativeLog)


def closed_forms(solver: Solver, sigmas: tuple[float, ...] = (0.005, 0.5)) -> list[Setting]:
    """Gaussian problems with the exact denoiser or -log p, as far as the solver takes them, at weak and strong noise."""
    found = []
    exact = GaussianPrior(0.5, 0.25)
    for sigma in sigmas:
        for operator in (Kept(SHAPE), Coupled(SHAPE)):
            problem = once_made(
                ("closed form", type(operator), sigma),
                lambda o=operator, s=sigma: Problem.simulate(o, truth(SHAPE, 2, torch.float64), GaussianNoise(s), generator=5),
            )
            for prior in (exact, NegativeLog(exact)):
                if not solver.mismatches(problem, prior):
                    label = f"{type(solver).__name__} on {operator.label}, sigma {sigma:g}, with {type(prior).__name__}"
                    found.append(Setting(problem, prior, label))
    return part(found)


def check_converged(solver: Solver) -> None:
    """No run says that it has converged before it has: not with its first step and, where the answer is known, not with its last one.

    Where the answer is known (a Gaussian prior and one level of Gaussian noise) it must be right to a tenth of the posterior's standard
    deviation; where it is not (under every other noise that the solver takes), a run that goes on from the first step must not move by more
    than a thousandth of the image's range. In units of 1, 1e-4 and 1e4 by turns.
    """
    if not solver.requires.measurement:
        return
    long = lengthened(solver)
    for setting, factor in in_turn([*under_every_noise(solver), *closed_forms(solver)], (1.0, FACTORS[0], FACTORS[-1])):
        try:
            problem = setting.problem if factor == 1 else rescaled(setting.problem, factor)
        except CapabilityError:
            continue
        if solver.mismatches(problem, setting.prior):
            continue
        steps: list[Step] = []
        known = knows(setting)  # else one step is enough
        long.solve(problem, setting.prior, generator=1, callback=lambda step, s=steps, k=known: s.append(step) or k)
        for step, when in ((steps[0], "the first step"), *(((steps[-1], f"{len(steps)} steps"),) if known else ())):
            if step.converged:
                error, what = distance(solver, setting, step.x)
                need(error <= 1, f"{setting.label}, in units of {factor:g}: 'converged' after {when}, {what}")


def knows(setting: Setting) -> bool:
    """Whether the posterior is known in closed form."""
    return cheap(setting.prior) and isinstance(setting.problem.noise, GaussianNoise)


def distance(solver: Solver, setting: Setting, x: Tensor) -> tuple[float, str]:
    """How far an answer is from right, 1 being allowed, and in words."""
    if knows(setting):
        mean, std = gaussian_answer(setting.problem, setting.prior)
        error = float(((x - mean).square().mean() / std.square().mean()).sqrt())
        return 10 * error, f"but {error:.3g} posterior standard deviations from the answer"
    problem, on = setting.problem, x
    for _ in range(3):
        on = solver.solve(problem, setting.prior, generator=1, x_init=on).x
    moved = float((on - x).square().mean().sqrt())
    return 1e3 * moved, f"but it moves by {moved:.3g} when it goes on"


def gaussian_answer(problem: Problem, prior: Prior) -> tuple[Tensor, Tensor]:
    """Mean (B, *in_shape) and standard deviation of the posterior of a linear problem with one Gaussian noise level, a Gaussian prior."""
    law, matrix = gaussian_law(prior, problem), matrix_of(problem.operator)
    exact = [law.posterior(matrix, one, float(problem.noise.sigma)) for one in flat(problem.y).double()]
    mean = torch.stack([one.mean for one in exact]).reshape(problem.image.shape)
    return mean, exact[0].cov.diagonal().sqrt().reshape(1, *problem.operator.in_shape)


def gaussian_law(prior: Any, problem: Problem) -> Gaussian:
    """The law of a Gaussian prior (or of one seen as -log p) on the problem's images."""
    exact: GaussianPrior = prior.prior if isinstance(prior, NegativeLog) else prior
    size = problem.image[0].numel()
    cov = exact.std**2 * torch.eye(size, dtype=torch.float64)
    if exact.full:
        cov = exact.vectors @ (exact.values[:, None] * exact.vectors.T)
    return Gaussian(exact.mean.expand(problem.operator.in_shape).flatten(), cov)


def matrix_of(operator: Operator) -> Tensor:
    """A, (m, n), of a linear operator without parameters per item."""
    size = math.prod(operator.in_shape)
    return flat(operator(torch.eye(size, dtype=torch.float64).reshape(size, *operator.in_shape))).T


PERTURBED = ("H (1 + 1e-3)", "H as a matrix", "H as a matrix + 1e-3 |H|")
PERTURBATION, FACTOR, REST, CHAINS = 1e-3, 10.0, 0.01, 200


def perturbed(operator: Operator) -> list[tuple[str, Operator]]:
    """H (1 + 1e-3); H as a matrix, which knows nothing of H's structure; and that plus a matrix of norm 1e-3 |H| which has none."""
    matrix = matrix_of(operator)
    noise = Rng(0, [0], purpose="perturbation").normal(matrix.shape, matrix)[0]
    size = PERTURBATION * torch.linalg.matrix_norm(matrix, 2) / torch.linalg.matrix_norm(noise, 2)
    shapes: Any = (operator.in_shape, operator.out_shape)
    made = [
        (1 + PERTURBATION) * operator,
        Operator.from_matrix(matrix, *shapes),
        Operator.from_matrix(matrix + size * noise, *shapes),
    ]
    return list(zip(PERTURBED, made, strict=True))


def disturbed(problem: Problem) -> list[Problem]:
    """The problem with each of them in place of H."""
    return [replace(problem, operator=operator, check_range=False) for _, operator in perturbed(problem.operator)]


def check_perturbed_operator(solver: Solver) -> None:
    """A thousandth of the operator changes an answer by what it changes the posterior's mean, times 10, and a hundredth of its spread.

    Gaussian prior, mask and coupled pixels, sigma .05 and .5; H' = 1.001 H, H as a plain matrix, and that plus a matrix of norm 1e-3 |H|
    that leaves nothing of H's null space. The posterior's mean moves by K (E^T r - H^T E m_y) / sigma^2 + O(E^2), K its covariance, r the
    residual; the exact difference is computed. Ten times that is for solvers that stop early or whose law is wider; a hundredth of the
    posterior's standard deviation is what an iteration may keep of its start, which may be another where H shows less of itself.

    Gaussian noise only: under no other is the posterior known that says how much is allowed; what is done by rule of H is done under all.

    The same random numbers are used for both. Where they meet other directions (a spectrum's basis, which is not unique), the means of 200
    chains are compared, with three standard errors of their difference to spare.
    """
    if not solver.requires.measurement or getattr(solver, "authors", False):
        return
    missed: list[str] = []
    compared = 0
    for setting in closed_forms(solver, (0.05, 0.5)):
        mean, std = gaussian_answer(setting.problem, setting.prior)
        plain: Tensor | None = None
        for name, problem in zip(PERTURBED, made_of(setting.problem, "perturbed", partial(disturbed, setting.problem)), strict=True):
            gaps = solver.mismatches(problem, setting.prior)
            if gaps:
                missed += gaps
                continue
            sensitivity = rms(gaussian_answer(problem, setting.prior)[0] - mean)
            plain = lengthened(solver).solve(setting.problem, setting.prior, generator=1).x if plain is None else plain
            moved, error = movement(solver, setting, problem, FACTOR * sensitivity + REST * rms(std), plain)
            allowed = FACTOR * sensitivity + REST * rms(std) + 3 * error
            need(
                moved <= allowed,
                f"{setting.label}: with {name} the answer moves by {moved:.3g} (rms); the posterior's mean by {sensitivity:.3g}, "
                f"its standard deviation is {rms(std):.3g}, allowed is {allowed:.3g}",
            )
            compared += 1
    if not compared:
        raise SkipTest(f"nothing to compare: {'; '.join(dict.fromkeys(missed)) or 'no Gaussian prior or noise is taken'}")


def movement(solver: Solver, setting: Setting, problem: Problem, allowed: float, plain: Tensor) -> tuple[float, float]:
    """(rms difference to the plain answer, its standard error): with the same random numbers, or of means where that is too much."""
    long = lengthened(solver)
    moved = rms(long.solve(problem, setting.prior, generator=1).x - plain)
    if moved <= allowed or not draws(solver, problem, setting.prior):
        return moved, 0.0
    rows = [*range(problem.batch)] * CHAINS
    chains = [long.solve(one.rows(rows), setting.prior, generator=Pooled(1, rows)).x for one in (setting.problem, problem)]
    first, second = (x.reshape(CHAINS, *problem.image.shape) for x in chains)
    return rms(second.mean(0) - first.mean(0)), math.hypot(rms(first.std(0)), rms(second.std(0))) / math.sqrt(CHAINS)


def moved_by_response(solver: Solver, problem: Problem, prior: Denoiser) -> float:
    """The movement by a thousandth of H over what is allowed, 1 being the bound, where the posterior has no closed form (a network).

    A solver meets H where it compares y with H x, and where it carries the residual back by H^T. With H' = H + E the first is, at its
    answer x, the problem of H with y - E x in place of y; so the solver's own answer to that y is the yardstick, the largest over all E
    here, since a network that is not smooth answers unevenly (of one with ReLU the Jacobian jumps, and with it a gradient through it).
    The second, E^T r, is what it moves the mean of a white Gaussian posterior, N(centre, s0^2), by: its covariance K is larger than the
    posterior's under any narrower law, and K E^T r / sigma^2 grows with it. Ten times the larger of both is allowed, as with a Gaussian.

    What a solver does by rule of H (a pseudo-inverse, a rank, another recursion where a capability is missing) moves its answer with H'
    and not with y.
    """
    plain = solver.solve(problem, prior, generator=1).x
    white = GaussianPrior(prior.centre, prior.s0)
    mean = gaussian_answer(problem, white)[0]
    moved: list[tuple[float, float]] = []
    response = 0.0
    for _, operator in perturbed(problem.operator):
        other = replace(problem, operator=operator, check_range=False)
        if solver.mismatches(other, prior):
            continue
        moved.append((rms(solver.solve(other, prior, generator=1).x - plain), rms(gaussian_answer(other, white)[0] - mean)))
        change = minus(problem.operator(plain), operator(plain))
        if rms(flat(change)) > PERTURBATION**2 * rms(plain) * float(problem.gain.max()):  # not the rounding of H as a matrix
            same = replace(problem, y=mapped(torch.add, problem.y, change), check_range=False)
            response = max(response, rms(solver.solve(same, prior, generator=1).x - plain))
    tiny = torch.finfo(plain.dtype).eps * rms(plain)
    return max((far / (FACTOR * max(response, direct) + tiny) for far, direct in moved), default=0.0)


def rms(x: Tensor) -> float:
    """Root mean square."""
    return float(x.square().mean().sqrt())

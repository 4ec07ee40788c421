"""Whether a solver's answers have to do with the posterior: small Gaussian problems whose answer is known in closed form.

x0 ~ N(m, C) with the exact denoiser (or -log p as a regulariser), y = A x0 + n behind a dense A or a mask, two y for every problem. What
the solver gives at its default settings, its mean and covariance over many chains, is held against the posterior's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InvsolveError
from invsolve.noise import Ability, GaussianNoise
from invsolve.operator import Capability, Operator
from invsolve.operator.measurement import column, flat, minus
from invsolve.priors.base import Prior, Regulariser
from invsolve.priors.gaussian import GaussianPrior
from invsolve.priors.latent import LatentPrior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Solution
from invsolve.solver import Solver
from invsolve.testing.cases import need
from invsolve.testing.oracle import Bias, DenseOperator, Gaussian, empirical, gaussian_case, normal, wasserstein
from invsolve.testing.pooled import Pooled
from invsolve.testing.settings import settings, truth
from invsolve.testing.shared import made_of, once_made
from invsolve.testing.subjects import Kept, NegativeLog

SIZE, CHAINS, STEPS, SAMPLES = 8, 400, 100, 8
CASES = {
    "S": "white prior, dense operator",
    "G": "correlated prior, dense operator",
    "I": "correlated prior, mask",
    "N": "white prior, dense operator, strong noise",
}
WHITE = ("S", "N")
SIGMAS = {"S": 0.05, "G": 0.05, "I": 0.05, "N": 0.5}


@dataclass(frozen=True)
class Row:
    """What was found on one problem.

    Args:
        case: the problem, a name in CASES.
        kind: the kind of prior.
        found: the mean over two y of the distances from the posterior.
        prior: the same of the prior, which looks at no y.
        distance: Wasserstein-2 distance from the posterior over the prior's: below 1, better than not looking; of the mean alone where
            nothing is drawn.
        slope: by how much the mean followed the posterior's from one y to the other: 1 wholly, 0 not at all.
        draws: whether the solver draws random numbers.
        errors: one standard error of the found figures, by name; 0 where nothing is drawn.
    """

    case: str
    kind: str
    found: Bias
    prior: Bias
    distance: float
    slope: float
    draws: bool
    errors: Mapping[str, float]

    def __str__(self) -> str:
        spread = f"{self.found.cov:10.2f} {self.found.trace:8.2f}" if self.draws else f"{'-':>10} {'-':>8}"
        return f"{self.case:<4} {self.kind:<12} {self.found.mean:10.2f} {spread} {self.distance:10.2f} {self.slope:8.2f}"


HEADING = f"{'case':<4} {'prior':<12} {'mean/s.d.':>10} {'cov. err.':>10} {'trace':>8} {'W2/prior':>10} {'slope':>8}"


def at_length(solver: Solver, most: int = STEPS) -> Solver:
    """The solver with as many steps as its class has by default, at most so many; itself where it cannot be made so."""
    default = {field.name: field.default for field in dataclasses.fields(solver)}.get("steps", dataclasses.MISSING)  # pyright: ignore
    if default is dataclasses.MISSING:
        return solver
    try:
        return dataclasses.replace(solver, steps=min(default, most) if isinstance(default, int) else default)  # pyright: ignore
    except (InvsolveError, ValueError, TypeError):  # tied to another field of the example
        return solver


def free(solver: Solver) -> Solver:
    """The solver without the constraint x >= 0, which the law of x0 does not have."""
    return dataclasses.replace(solver, positive=False) if getattr(solver, "positive", False) else solver  # pyright: ignore


def problem_of(name: str) -> tuple[Gaussian, Operator, Tensor, Tensor]:
    """(law of x0, operator, A, y of two draws (2, m)) of a case."""
    law, _, matrix, _ = gaussian_case("S" if name == "N" else name, size=SIZE, rows=SIZE // 2)
    operator: Operator = DenseOperator(matrix)
    if name == "I":
        operator = kept = Kept((1, 1, SIZE))
        matrix = torch.eye(SIZE, dtype=torch.float64)[kept.mask.flatten() > 0]
    y = law.sample(2, 200) @ matrix.T + SIGMAS[name] * normal(2, len(matrix), seed=300)
    return law, operator, matrix, y


def prior_of(kind: str, law: Gaussian) -> Prior:
    """The law as a prior of a kind."""
    exact = GaussianPrior(law.mean.reshape(1, 1, -1), cov=law.cov)
    if kind == "codes":  # x = 2 z
        doubled = Operator.from_matrix(2 * torch.eye(SIZE, dtype=torch.float64), (1, 1, SIZE), (1, 1, SIZE))
        return LatentPrior(GaussianPrior(law.mean.reshape(1, 1, -1) / 2, cov=law.cov / 4), doubled)
    return exact if kind == "denoiser" else NegativeLog(exact)


def first_draw(solver: Solver, problem: Problem, prior: Prior) -> tuple[bool, Solution]:
    """Whether a run moves the random streams, and its solution: stopped at the step that does, the whole answer where none does."""
    rng = Rng(0, problem.items)
    before = rng.state()

    def unmoved(_step: object = None) -> bool:
        return all(torch.equal(old, new) for old, new in zip(before, rng.state(), strict=True))

    solution = solver.solve(problem, prior, generator=rng, callback=unmoved)
    return not unmoved(), solution


def draws(solver: Solver, problem: Problem, prior: Prior) -> bool:
    """Whether a run moves the random streams."""
    return first_draw(solver, problem, prior)[0]


def rows(solver: Solver, chains: int = CHAINS, cases: Iterable[str] = tuple(CASES)) -> Iterator[Row]:
    """A row for every case and kind of prior that the solver takes; none for one that takes no kind, or no Gaussian noise.

    The law as one of codes, x = 2 z, is for solvers that take no denoiser of images.
    """
    solver, found = free(at_length(solver)), 0
    for kind in ("denoiser", "regulariser", "codes"):
        if kind == "codes" and found:
            return
        for name in cases:
            law, operator, matrix, y = problem_of(name)
            prior = prior_of(kind, law)
            if solver.requires.measurement:
                shaped = y if not isinstance(operator, Kept) else (y @ matrix).reshape(2, 1, 1, SIZE)
                short = once_made(("posterior", name), lambda o=operator, y=shaped, s=SIGMAS[name]: Problem(o, y, GaussianNoise(s)))
            else:
                short = Problem.unconditional((1, 1, SIZE), 2, dtype=torch.float64)
            if solver.mismatches(short, prior) or (not solver.requires.measurement and name in ("I", "N")):
                continue
            found += 1
            random, answer = first_draw(solver, short, prior)
            if random:
                many = made_of(short, ("chains", chains), lambda p=short: p.rows([0] * chains + [1] * chains))
                answer = solver.solve(many, prior, generator=Pooled(0, many.items))
            x = answer.x.flatten(1).double().reshape(2, -1, SIZE)
            yield row(name, kind, law, matrix if solver.requires.measurement else None, y, x, random)


def row(name: str, kind: str, law: Gaussian, matrix: Tensor | None, y: Tensor, x: Tensor, random: bool) -> Row:
    """The figures of one case, x being (2, chains, n).

    Their standard errors, of N chains of covariance C from a posterior of covariance P, the worse y's: sqrt(tr C / (N tr P)) of the mean's
    distance in standard deviations; sqrt(((tr C)^2 + |C|^2) / N) / |P| of the covariance's, since E|C_N - C|^2 is that of Gaussian chains;
    sqrt(2 |C|^2 / N) / tr P of the trace's ratio.
    """
    exact = [law if matrix is None else law.posterior(matrix, one, SIGMAS[name]) for one in y]
    means = x.mean(1)
    found = [empirical(one) if random else Gaussian(one[0], torch.zeros_like(law.cov)) for one in x]
    # without a measurement there is no prior to beat: the yardstick is then its mean, a law without a spread
    point = torch.zeros_like(law.cov)
    posts = exact if random else [Gaussian(one.mean, point) for one in exact]
    other = law if matrix is not None and random else Gaussian(law.mean, point)
    near, far = (math.hypot(*(wasserstein(one, two) for one, two in zip(these, posts, strict=True))) for these in (found, [other] * 2))
    moved = exact[0].mean - exact[1].mean
    slope = float((means[0] - means[1]) @ moved / (moved @ moved)) if matrix is not None else math.nan
    both = [mean_bias([Bias.of(one, two) for one, two in zip(these, exact, strict=True)]) for these in (found, [law] * 2)]
    count = x.shape[1]
    errors = {"mean": 0.0, "cov": 0.0, "trace": 0.0}
    for law_of, true in zip(found, exact, strict=True):
        size, square = float(law_of.cov.trace()), float(law_of.cov.square().sum())
        errors["mean"] = max(errors["mean"], math.sqrt(size / count / float(true.cov.trace())))
        errors["cov"] = max(errors["cov"], math.sqrt((size**2 + square) / count) / float(true.cov.norm()))
        errors["trace"] = max(errors["trace"], math.sqrt(2 * square / count) / float(true.cov.trace()))
    return Row(name, kind, both[0], both[1], near / far, slope, random, errors)


def mean_bias(several: list[Bias]) -> Bias:
    """Their root mean square (mean, cov) and mean (trace)."""
    count = len(several)
    mean, cov = (math.sqrt(sum(getattr(one, name) ** 2 for one in several) / count) for name in ("mean", "cov"))
    return Bias(mean, cov, sum(one.trace for one in several) / count)


def bias_table(solver: Solver) -> list[str]:
    """The rows as text, with a heading; [] where there are none."""
    found = [str(one) for one in rows(solver)]
    return [HEADING, *found] if found else []


def check_posterior(solver: Solver) -> None:
    """The answer depends on y, is nearer to the posterior than the prior is, and stays within the bias that the class declares.

    On every case: the solver's mean follows the posterior's by a quarter at least when y changes; its law (or answer, where it draws
    nothing) is nearer to the posterior than the prior's; what `stated_bias` says of its settings holds, three standard errors to spare.
    Strong noise (case N) is in everybody's table, and asked of a solver that states its bias. x >= 0 is left out: the law does not have it.
    Samplers of the prior are held to the prior: nearer than half of what its mean alone is. And in every setting an item's answer fits its
    own y better than the other items' answers do; that of a regulariser's solver has a lower objective than grey, y, H^T y and the truth.
    """
    check_fits(solver)
    says = free(solver).stated_bias()
    for row in rows(solver, cases=[name for name in CASES if name != "N" or says]):
        where = f"case {row.case} ({CASES[row.case]}), {row.kind}"
        if solver.requires.measurement:
            need(row.slope >= 0.25, f"{where}: the answer hardly depends on y: it follows the posterior's mean by {row.slope:.2f}")
        most, yardstick = (1.0, "the prior is") if solver.requires.measurement else (0.5, "the prior's mean is")
        far = f"{row.distance:.2f} times as far from the truth as {yardstick}; less than {most:g} is asked for"
        need(row.distance < most, f"{where}: {far}\n{HEADING}\n{row}")
        declared(says, row, where)


def declared(says: Mapping[str, Any], row: Row, where: str) -> None:
    """AssertionError where a figure is beyond what is stated by more than three of its standard errors."""
    unknown = set(says) - {"mean", "cov", "trace", "white"}
    need(not unknown, f"a declared bias knows mean, cov, trace and white; it has {sorted(unknown)}")
    found, slack = row.found, {name: 3 * error for name, error in row.errors.items()}
    for name, words in (("mean", "the mean is {} s.d. off"), ("cov", "the covariance is off by {}")):
        if name in says and (row.draws or name == "mean"):
            most, what = says[name] + slack[name], words.format(f"{getattr(found, name):.2f}")
            need(getattr(found, name) <= most, f"{where}: {what}; declared is {says[name]:g}, with sampling {most:.2f}")
    if "trace" in says and row.draws:
        low, high = says["trace"]
        need(
            low - slack["trace"] <= found.trace <= high + slack["trace"],
            f"{where}: {found.trace:.2f} of the posterior's variance; declared are {low:g} to {high:g}, "
            f"with sampling {slack['trace']:.2f} more",
        )
    if "white" in says and row.case in WHITE:
        declared(says["white"], row, f"{where}, white")


def check_fits(solver: Solver) -> None:
    """AssertionError unless an item's answer fits its own y best, and a regulariser's objective is below that of simple candidates."""
    if not solver.requires.measurement:
        return
    long = at_length(solver)
    for setting in settings(solver):
        problem = setting.problem
        random, answer = first_draw(long, problem, setting.prior)
        # all samples at once: small images cost by the call
        x = long.solve(problem, setting.prior, generator=1, samples=SAMPLES, chunk=SAMPLES * problem.batch).mean if random else answer.x
        own = misfit(problem, x)
        for shift in range(1, problem.batch):
            other = misfit(problem, x.roll(shift, 0))
            need(own.sum() < other.sum(), f"{setting.label}: |y - H x| is {own.tolist()}, with other items' answers {other.tolist()}")
        if isinstance(setting.prior, Regulariser) and Ability.NLL in problem.noise.abilities:
            best = objective(problem, setting.prior, x)
            for name, candidate in candidates(problem):
                value = objective(problem, setting.prior, candidate)
                need((best <= value).all(), f"{setting.label}: the objective is {best.tolist()}, that of {name} {value.tolist()}")


def misfit(problem: Problem, x: Tensor) -> Tensor:
    """|y - H x| per item, (B,)."""
    return flat(minus(problem.y, problem.operator(x))).abs().square().sum(1).sqrt()


def objective(problem: Problem, prior: Regulariser, x: Tensor) -> Tensor:
    """nll + weight R per item, (B,)."""
    return problem.noise.nll(problem.y, problem.operator(x)) + prior.weight * prior.value(x)


def candidates(problem: Problem) -> Iterator[tuple[str, Tensor]]:
    """Images that cost no solver, none of them below what Poisson noise can be seen at."""
    grey = problem.image + 0.5
    yield "grey", grey
    if isinstance(problem.y, Tensor) and problem.y.shape == grey.shape:
        yield "y", problem.y.clamp_min(1e-3)
    if problem.operator.has(Capability.ADJOINT):
        yield "H^T y / |H|^2", (problem.operator.adjoint(problem.y) / column(problem.gain, grey) ** 2).clamp_min(1e-3)
    yield "the truth", truth(problem.operator.in_shape, problem.batch, grey.dtype)

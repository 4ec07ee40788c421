"""What the solver and prior checks run on: small problems and priors, chosen by what a solver requires.

The subjects say it themselves: `examples()` of the noise models and priors that are registered, or that a solver names in what it
requires, `Prior.example_context`, and `Solver.settings()` for problems of a solver's own. Nothing here needs an installed
operator: a solver is checked on y = mask * x and on a y of which every entry depends on every pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InputError, InvsolveError, PluginError
from invsolve.noise import GaussianNoise, NoiseModel, NoNoise, PoissonNoise
from invsolve.operator import Operator, Shape
from invsolve.operator.measurement import mapped, parts
from invsolve.plugins import registry
from invsolve.plugins.former import without
from invsolve.plugins.interrupts import attempted
from invsolve.priors.base import DiffusionPrior, Prior
from invsolve.priors.gaussian import GaussianPrior
from invsolve.priors.latent import LatentPrior
from invsolve.priors.tv import TotalVariation
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.schedule import DiscreteVP
from invsolve.solution import Solution
from invsolve.solver import Solver, asked_noise
from invsolve.testing.cases import need
from invsolve.testing.shared import once_made, versions
from invsolve.testing.subjects import Coupled, Hidden, Kept, NegativeLog, ValueOnly, Watched, evaluations, poisoned, watched

__all__ = [
    "SHAPE",
    "Coupled",
    "Hidden",
    "Kept",
    "NegativeLog",
    "Setting",
    "ValueOnly",
    "Watched",
    "evaluations",
    "fitting_noise",
    "fitting_priors",
    "frozen_state",
    "noises",
    "poisoned",
    "refused",
    "run",
    "same",
    "settings",
    "small",
    "truth",
    "watched",
]

SHAPE = (1, 6, 7)  # neither square nor even
BUILT_IN = (Kept, Coupled)
SMALL = 10_000  # parameters: above, a prior is a network, which is checked by itself


def same(first: Tensor, second: Tensor, tolerance: float, what: str) -> None:
    """AssertionError unless both have one shape and dtype and differ by at most the tolerance (0: bit for bit)."""
    need(first.shape == second.shape, f"{what}: shapes {tuple(first.shape)} and {tuple(second.shape)} differ")
    need(first.dtype == second.dtype, f"{what}: dtypes {first.dtype} and {second.dtype} differ")
    gap = float((first.double() - second.double()).abs().max()) if first.numel() else 0.0
    need(gap <= tolerance, f"{what}: the largest difference is {gap:.3g}, allowed is {tolerance:.3g}")


def refused(call: Callable[[], object], kind: type[InvsolveError], *words: str) -> str:
    """The message of the error that the call must raise; it has to contain every word."""
    try:
        call()
    except kind as error:
        message = str(error)
    else:
        raise AssertionError(f"nothing was refused; expected {kind.__name__} naming {', '.join(words)}")
    missing = [word for word in words if word.lower() not in message.lower()]
    need(not missing, f"the message does not name {', '.join(missing)}: {message}")
    return message


def truth(shape: Shape, batch: int, dtype: torch.dtype, *, texture: float = 0.1) -> Tensor:
    """(B, *shape) images in [0.1, 0.9]: a smooth wave per item and channel, with a little white texture."""
    rng = Rng(7, range(batch), purpose="truth")
    like = torch.zeros(1, dtype=dtype)
    phase = rng.uniform((shape[0], 1, 1), like) * 6.3
    rows, columns = torch.arange(shape[1], dtype=dtype)[:, None], torch.arange(shape[2], dtype=dtype)
    wave = torch.sin(0.35 * rows + 0.25 * columns + phase)
    return 0.5 + 0.3 * wave + texture * (rng.uniform(shape, like) * 2 - 1)


@dataclass(frozen=True)
class Setting:
    """A problem and a prior that a solver accepts."""

    problem: Problem
    prior: Prior
    label: str

    @property
    def inner(self) -> Problem:
        """The problem in the prior's own space."""
        return self.prior.space(self.problem)[0]


@cache
def examples(cls: Any, kind: type) -> tuple[Any, ...]:
    """What a class gives as examples, of the kind and small; () of one that cannot be made: its own checks say so."""
    made = attempted(lambda: [one for one in cls.examples() if isinstance(one, kind)])
    if isinstance(made, BaseException):
        return ()
    return tuple(one for one in made if sum(part.numel() for part in one.parameters()) < SMALL)


def registered(kind: str, packages: set[str] | None = None) -> list[Any]:
    """The classes registered as a kind, from everywhere or some packages; one that cannot be imported is left out."""
    found = []
    for entry in registry().of(kind):
        if packages is None or entry.target.partition(":")[0].partition(".")[0] in packages:
            with suppress(PluginError):  # a stranger's broken entry is his own check's affair
                found.append(entry.load())
    return found


def once(candidates: list[Any]) -> list[Any]:
    """The first of every class."""
    return list({type(one): one for one in reversed(candidates)}.values())[::-1]


@cache
def core_noises() -> tuple[NoiseModel, ...]:
    """The core's, one of a kind."""
    return GaussianNoise(0.1), NoNoise(), PoissonNoise(0.01)


@cache
def core_priors() -> tuple[Prior, ...]:
    """Those in closed form, one of a kind."""
    return (
        TotalVariation(weight=1.0, tol=1e-3, max_iter=20),
        GaussianPrior(0.5, 0.25),
        DiffusionPrior(GaussianPrior(0.5, 0.25), DiscreteVP()),
    )


def noises(solver: Solver | None = None) -> list[NoiseModel]:
    """An example of every noise model: the core's, those a solver names in what it requires, those registered."""
    named = solver.requires.noise if solver is not None and isinstance(solver.requires.noise, tuple) else ()
    others = [one for cls in (*named, *registered("noise")) for one in examples(cls, NoiseModel)]
    return once([*core_noises(), *others])


def fitting_noises(solver: Solver) -> list[NoiseModel]:
    """The noise models that the solver takes."""
    return [noise for noise in noises(solver) if not asked_noise(solver.requires, noise)]


def fitting_noise(solver: Solver) -> NoiseModel | None:
    """The first of them, None where there is none."""
    return next(iter(fitting_noises(solver)), None)


def fitting_priors(solver: Solver) -> list[Prior]:
    """The priors of the kinds a solver takes: closed forms of the core, examples of the classes it names and of its own plug-in's.

    A class that says `costly` (its prox takes hundreds of iterations) is left out where the solver does not name it.
    """
    simple = core_priors()
    classes = [*solver.requires.prior, LatentPrior, *registered("prior", {"invsolve", type(solver).__module__.partition(".")[0]})]
    named = [cls for cls in classes if cls in solver.requires.prior or not getattr(cls, "costly", False)]
    others = [one for cls in named for one in examples(cls, Prior) if type(one) not in map(type, simple)]
    return [one for one in [*simple, *once(others)] if isinstance(one, solver.requires.prior)]


def settings(
    solver: Solver,
    *,
    shape: Shape = SHAPE,
    batch: int = 3,
    dtype: torch.dtype = torch.float64,
    operators: list[Operator] | None = None,
    every: bool = False,
) -> list[Setting]:
    """Pairs of a problem and a prior that the solver accepts; never empty, but for another shape than the usual one.

    On each operator a prior of every kind the solver takes; with `every` also all priors that fit, and all noise models with the first one,
    by turns on one of the operators (on another one where they do not fit there).
    Last the solver's own, `Solver.settings()`.

    Raises:
        AssertionError: there is none, with every reason, or the solver refuses a problem of its own.
    """
    key = (shape, batch, dtype, every)
    if operators is None and (held := remembered(solver, key)) is not None:
        return part(held)
    reasons: list[str] = []
    found = [
        one
        for index in range(len(operators or BUILT_IN))
        for one in on_operator(solver, index, shape, batch, dtype, operators, every, reasons)
    ]
    if shape == SHAPE and operators is None:
        found += own(solver, dtype)
        need(bool(found), "no problem fits:\n" + "\n".join(dict.fromkeys(reasons)))
    return part(remember(solver, key, found) if operators is None else found)


def part(found: list[Setting]) -> list[Setting]:
    """All of them; a run of tests that goes by turns has another function here."""
    return found


LAST: dict[Any, tuple[list[Setting], list[int]]] = {}  # the settings of one solver: its checks follow each other


def of_solver(solver: Solver) -> Any:
    """What the settings of a solver depend on."""
    entries = tuple(one for (kind, _), one in registry().entries.items() if kind in ("noise", "prior"))
    return type(solver), repr(solver), solver.requires, id(type(solver).settings), entries


def remembered(solver: Solver, key: Any) -> list[Setting] | None:
    """What was found for the solver, if it was the last one that was asked for and nobody wrote into it."""
    held = LAST.get((of_solver(solver), key))
    if held is None or held[1] != versions([one.problem for one in held[0]]):
        return None
    return list(held[0])


def remember(solver: Solver, key: Any, found: list[Setting]) -> list[Setting]:
    """Keep it for the next check."""
    whose = of_solver(solver)
    if any(other != whose for other, _ in LAST):
        LAST.clear()
    LAST[whose, key] = (list(found), versions([one.problem for one in found]))
    return found


def under_every_noise(solver: Solver) -> list[Setting]:
    """The usual settings, and one under every other noise model that the solver takes, with the first prior."""
    usual = settings(solver)
    met = {type(one.problem.noise) for one in usual}
    others = {type(one.problem.noise): one for one in reversed(settings(solver, every=True))}
    return [*usual, *(one for noise, one in others.items() if noise not in met)]


def on_operator(
    solver: Solver,
    index: int,
    shape: Shape,
    batch: int,
    dtype: torch.dtype,
    operators: list[Operator] | None,
    every: bool,
    reasons: list[str],
) -> list[Setting]:
    """The settings on one operator; why others do not fit is added to the reasons."""
    priors, models = fitting_priors(solver), fitting_noises(solver) or [NoNoise()]
    made: dict[tuple[int, int], Setting] = {}

    def attempt(prior: Prior, noise: NoiseModel) -> bool:
        setting = fitted(solver, prior, noise, index, shape, batch, dtype, operators)
        if isinstance(setting, Setting):
            made[id(prior), id(noise)] = setting
        else:
            reasons.extend([setting] if setting else [])
        return isinstance(setting, Setting)

    firsts: list[tuple[Prior, NoiseModel]] = []
    for kind in solver.requires.prior:
        pairs = ((prior, noise) for prior in priors if isinstance(prior, kind) for noise in models)
        firsts += [pair for pair in [next((pair for pair in pairs if attempt(*pair)), None)] if pair is not None]
    if every and firsts:
        first, model = firsts[0]
        for place, pair in enumerate([*((prior, model) for prior in priors), *((first, noise) for noise in models)]):
            if (id(pair[0]), id(pair[1])) in made:
                continue
            turn = place % len(operators or BUILT_IN)
            if turn == index or not isinstance(fitted(solver, *pair, turn, shape, batch, dtype, operators), Setting):
                attempt(*pair)
    return list(made.values())


def fitted(
    solver: Solver,
    prior: Prior,
    noise: NoiseModel,
    index: int,
    shape: Shape,
    batch: int,
    dtype: torch.dtype,
    operators: list[Operator] | None,
) -> Setting | str:
    """A setting, or why there is none ("" where the shape is not the prior's, and another one is asked for)."""
    wanted = prior.image_shape or (getattr(prior, "channels", None) or shape[0], *shape[1:])
    if wanted != tuple(shape) and (shape != SHAPE or operators is not None):
        return ""
    count = prior.batch or batch
    context = prior.example_context(count)
    if not solver.requires.measurement:
        if index:
            return ""
        problem, label = (
            Problem.unconditional(wanted, count, dtype=dtype, context=context),
            f"{type(solver).__name__} with {type(prior).__name__}",
        )
    else:
        operator = built_in(index, wanted) if operators is None else operators[index]
        label = f"{type(solver).__name__} on {operator.label} under {type(noise).__name__} with {type(prior).__name__}"
        if isinstance(operator, Coupled) and counts(noise):
            return f"{label}: what cannot be negative is not measured with negative weights"
        try:
            if operators is None:
                problem = measured(index, wanted, count, dtype, noise)
                problem = replace(problem, context=context) if context else problem
            else:
                problem = Problem.simulate(operator, truth(wanted, count, dtype), noise, generator=5, context=context)
        except InputError as error:  # such as counts of a negative H(x)
            return f"{label}: {error}"
    gaps = solver.mismatches(problem, prior)
    return f"{label}: {'; '.join(gaps)}" if gaps else Setting(problem, prior, label)


def measured(index: int, shape: Shape, count: int, dtype: torch.dtype, noise: NoiseModel) -> Problem:
    """What an operator that is built in measures of the truth: once for all checks and solvers, and anew after somebody wrote into it.

    Raises:
        InputError: such as counts of a negative H(x).
    """
    return once_made(
        (index, shape, count, dtype, noise),
        lambda: Problem.simulate(BUILT_IN[index](shape), truth(shape, count, dtype), noise, generator=5),
    )


@cache
def built_in(index: int, shape: Shape) -> Operator:
    """An operator that is built in, to be asked what it is; problems have their own."""
    return BUILT_IN[index](shape)


def counts(noise: NoiseModel) -> bool:
    """Whether the model takes no negative y."""
    try:
        noise.check(-torch.ones(1, 1))
    except InputError:
        return True
    return False


def own(solver: Solver, dtype: torch.dtype) -> Iterator[Setting]:
    """The solver's own problems, in a precision."""
    for index, (problem, prior) in enumerate(type(solver).settings()):
        label = f"{type(solver).__name__} on settings()[{index}]"
        y = mapped(lambda part: part.to(torch.promote_types(dtype, torch.complex32) if part.is_complex() else dtype), problem.y)
        cast = replace(problem, y=y)
        gaps = solver.mismatches(cast, prior)
        need(not gaps, f"{label}: refused: {'; '.join(gaps)}")
        yield Setting(cast, prior, label)


def small(solver: Solver, **options: Any) -> Setting:
    """The first problem that fits."""
    return settings(solver, **options)[0]


def run(solver: Solver, setting: Setting, seed: Any = 1, **options: Any) -> Solution:
    """Solve it."""
    return solver.solve(setting.problem, setting.prior, generator=seed, **options)


def frozen_state(*objects: Any) -> list[Tensor]:
    """Copies of every tensor that must be as it was afterwards: y, buffers and parameters."""
    tensors: list[Tensor] = []
    for thing in objects:
        values = parts(thing) if isinstance(thing, Tensor | tuple) else [*thing.buffers(), *thing.parameters()]
        tensors.extend(value.detach().clone() for value in values)
    return tensors


without(
    __name__,
    {"WatchedRegulariser": "poisoned(regulariser, call), which stands here", "problems": "[one.problem for one in settings(solver)]"},
)

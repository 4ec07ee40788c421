"""Conformance of solvers: what every solver promises, checked on small problems in closed form.

    for solver, check in solver_cases(MySolver(steps=8)):
        check(solver)                        # raises AssertionError with what was found and what is allowed

With pytest: `@pytest.mark.parametrize("solver, check", solver_cases(MySolver(steps=8)))`. pytest is not needed here. The
problems are chosen by what the solver says it requires: see `invsolve.testing.settings`.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from invsolve.errors import DivergedError
from invsolve.operator import Operator
from invsolve.plugins import registry
from invsolve.priors.base import Denoiser
from invsolve.priors.convert import rescale
from invsolve.priors.gaussian import GaussianPrior
from invsolve.recipe.storage import load_solution
from invsolve.rng import Rng
from invsolve.solution import Solution, Status, Step
from invsolve.solver import Solver
from invsolve.testing.cases import Check, Checks, build_cases, chosen, need
from invsolve.testing.covers import check_covers
from invsolve.testing.posterior import check_posterior
from invsolve.testing.refusals import REFUSALS
from invsolve.testing.settings import (
    Kept,
    Setting,
    evaluations,
    frozen_state,
    poisoned,
    refused,
    run,
    same,
    settings,
    small,
    truth,
    watched,
)
from invsolve.testing.shared import items as items_of
from invsolve.testing.shifts import check_moved, check_positive
from invsolve.testing.units import check_converged, check_perturbed_operator, check_unit_invariance
from invsolve.testing.world import kept, unmoved, worlds

DOUBLE = 1e-10  # float64: some 1e6 roundings of values below 100; nothing but a coupling of items or a lost digit is larger


def check_finite_answer(solver: Solver) -> None:
    """Every fitting problem is solved, in y's shape, dtype and device, without a gradient graph."""
    for dtype, every in ((torch.float32, True), (torch.float64, False)):  # in float64 the other checks meet the rest
        for setting in settings(solver, dtype=dtype, every=every):
            solution, image = run(solver, setting), setting.problem.image
            need(solution.x.shape == image.shape, f"{setting.label}: x has shape {tuple(solution.x.shape)}, an image {tuple(image.shape)}")
            need(solution.x.dtype == dtype, f"{setting.label}: x is {solution.x.dtype}, y {dtype}")
            need(solution.x.device == image.device, f"{setting.label}: x is on {solution.x.device}, y on {image.device}")
            need(torch.isfinite(solution.x).all(), f"{setting.label}: NaN or Inf in the answer")
            need(not solution.x.requires_grad, f"{setting.label}: the answer carries a graph")
            need(solution.status in (Status.FINISHED, Status.CONVERGED), f"{setting.label}: status {solution.status}")


def check_same_seed(solver: Solver) -> None:
    """The same seed (0 too; an int, a torch.Generator or an Rng) gives the same bits; None records the seed it drew.

    In every setting for 0; how a seed is given is asked once with every prior, since no solver sees more of it than the Rng.
    """
    met: set[type] = set()
    for setting in settings(solver):
        ids, kind = setting.problem.items, type(setting.prior)
        for seed, other in ((0, 0), (1, Rng(1, ids)))[: 1 if kind in met else 2]:
            first = run(solver, setting, seed)
            need(first.seed == seed, f"{setting.label}: Solution.seed is {first.seed}, given {seed}")
            same(run(solver, setting, other).x, first.x, 0, f"{setting.label}, {seed} and {other}")
        if kind in met:
            continue
        met.add(kind)
        drawn = [run(solver, setting, torch.Generator().manual_seed(3)) for _ in range(2)]
        same(drawn[0].x, drawn[1].x, 0, f"{setting.label}, a torch.Generator twice")
        fresh = run(solver, setting, None)
        same(run(solver, setting, fresh.seed).x, fresh.x, 0, f"{setting.label}, the recorded seed")


def check_other_seed(solver: Solver) -> None:
    """A solver that draws gives another answer for another seed, and for a second run with the same generator object."""
    for setting in settings(solver):
        rng = Rng(0, setting.problem.items)
        before = rng.state()
        zero = run(solver, setting, rng).x
        draws = any(not torch.equal(old, new) for old, new in zip(before, rng.state(), strict=True))
        if draws:
            need(not torch.equal(zero, run(solver, setting, 1).x), f"{setting.label}: seeds 0 and 1 give the same answer")
            generator = torch.Generator().manual_seed(3)
            first, second = (run(solver, setting, generator).x for _ in range(2))
            need(not torch.equal(first, second), f"{setting.label}: two runs from one torch.Generator are equal")


def check_item_alone(solver: Solver) -> None:
    """Every item alone equals that item in a batch of 3; its random stream bit for bit. With priors of the same kind one item, by turns."""
    usual = {one.label for one in settings(solver)}
    for turn, setting in enumerate(settings(solver, every=True)):
        rng = Rng(2, setting.problem.items)
        batch = run(solver, setting, rng)
        items = range(setting.problem.batch)
        for item in items if setting.label in usual else [items[1 + turn % (len(items) - 1)] if len(items) > 1 else 0]:
            one = items_of(setting.problem, item)
            alone_rng = Rng(2, one.items)
            alone = solver.solve(one, setting.prior[item], generator=alone_rng)
            need(torch.equal(alone_rng.state()[0], rng.state()[item]), f"{setting.label}: item {item} drew other numbers than in the batch")
            same(alone.x[0], batch.x[item], DOUBLE, f"{setting.label}: item {item} alone and in a batch of 3")


def check_parts(solver: Solver) -> None:
    """chunk=2 gives the bits of the runs of problem[0:2] and problem[2:3]; with samples too, as many images as it says at a time.

    With the usual priors, and a third of the further ones by turns from solver to solver: to be cut is a matter of a prior by itself.
    """
    usual = {type(one.prior): one for one in settings(solver)}
    further = {type(one.prior): one for one in settings(solver, every=True) if type(one.prior) not in usual}
    sampled: set[bool] = set()
    for setting in [*usual.values(), *list(further.values())[zlib.crc32(repr(solver).encode()) % 3 :: 3]]:
        problem, prior = setting.problem, setting.prior
        pieces = [slice(first, first + 2) for first in range(0, problem.batch, 2)]
        parts = [solver.solve(items_of(problem, piece.start, piece.stop), prior[piece], generator=1) for piece in pieces]
        cut = run(solver, setting, chunk=2)
        same(cut.x, torch.cat([part.x for part in parts]), 0, f"{setting.label}: chunk=2 and the parts' own runs")
        if (kind := isinstance(prior, Denoiser)) in sampled:  # samples are runs beside each other: no matter of the prior
            continue
        sampled.add(kind)
        many = run(solver, setting, samples=2, chunk=2)
        same(many.x[0], cut.x, 0, f"{setting.label}: sample 0 and the plain run, both with chunk=2")
        same(many.x[1], run(solver, setting, samples=2).x[1], DOUBLE, f"{setting.label}: sample 1 with and without chunk=2")


def check_samples(solver: Solver) -> None:
    """samples=n stacks n runs; the first is the plain run; mean and std have the image's shape."""
    for setting in settings(solver):
        plain, many = run(solver, setting, 4), run(solver, setting, 4, samples=3)
        shape = tuple(plain.x.shape)
        need(tuple(many.x.shape) == (3, *shape), f"{setting.label}: samples=3 gives {tuple(many.x.shape)}, expected {(3, *shape)}")
        same(many.x[0], plain.x, 0, f"{setting.label}: sample 0 and the plain run")
        need(tuple(many.mean.shape) == shape and tuple(many.std.shape) == shape, f"{setting.label}: shape of mean or std")
        need(many.samples == 3 and plain.samples is None, f"{setting.label}: Solution.samples")
        same(plain.mean, plain.x, 0, f"{setting.label}: the mean of a plain run")
        need(solver.adaptive or many.nfe == 3 * plain.nfe, f"{setting.label}: nfe {many.nfe} for three samples, {plain.nfe} for one")
        if not torch.equal(many.x[0], run(solver, setting, 5).x):
            need(not torch.equal(many.x[0], many.x[1]), f"{setting.label}: samples 0 and 1 are equal")


def watched_steps(solver: Solver, setting: Setting, **options: Any) -> tuple[Solution, list[Step]]:
    """A run and deep copies of its steps, taken when they were made."""
    steps: list[Step] = []
    solution = run(solver, setting, callback=lambda step: steps.append(copy.deepcopy(step)), **options)
    return solution, steps


def check_steps(solver: Solver) -> None:
    """Indices count up from 0, `total` is what the run makes (or more, if it converged), tensors are detached and of y's dtype."""
    for setting in settings(solver):
        solution, steps = watched_steps(solver, setting)
        need([step.index for step in steps] == list(range(len(steps))), f"{setting.label}: indices {[step.index for step in steps]}")
        need(len({step.total for step in steps}) == 1, f"{setting.label}: total changes during the run")
        total, made = steps[0].total, len(steps)
        fits = made <= total if solution.status == Status.CONVERGED else made == total
        need(fits, f"{setting.label}: {made} steps were made, total says {total}, status {solution.status}")
        need(solution.steps == made, f"{setting.label}: Solution.steps is {solution.steps}, {made} were made")
        for step in steps:
            for tensor in (step.x, step.x0_hat, *step.state.values(), *step.stats.values()):
                need(not tensor.requires_grad, f"{setting.label}: step {step.index} carries a graph")
            images = (step.x, step.x0_hat)
            need(
                all(x.shape == solution.x.shape and x.dtype == solution.x.dtype for x in images),
                f"{setting.label}: shape or dtype of a step",
            )
            need(all(len(value) == setting.problem.batch for value in step.stats.values()), f"{setting.label}: stats must be (B,)")


def check_stop(solver: Solver) -> None:
    """A callback that returns False stops the run at once, with a finite image; None and True go on."""
    for setting in settings(solver):
        total = watched_steps(solver, setting)[1][0].total
        for last in {0, min(1, total - 1)}:
            solution = run(solver, setting, callback=lambda step, last=last: step.index < last)
            need(solution.status == Status.STOPPED, f"{setting.label}: stopped at step {last}, status {solution.status}")
            need(solution.steps == last + 1, f"{setting.label}: stopped at step {last}, {solution.steps} steps were made")
            need(torch.isfinite(solution.x).all(), f"{setting.label}: NaN or Inf after a stop")


def check_keep(solver: Solver) -> None:
    """keep=2 keeps every second step, on the CPU, as it was when it was made; nothing by default."""
    for setting in settings(solver):
        solution, steps = watched_steps(solver, setting, keep=2)
        need([step.index for step in solution.trace] == [step.index for step in steps[::2]], f"{setting.label}: which steps are kept")
        for held, made in zip(solution.trace, steps[::2], strict=True):
            need(held.x.device.type == "cpu", f"{setting.label}: a kept step is on {held.x.device}")
            same(held.x, made.x.cpu(), 0, f"{setting.label}: kept step {held.index} was changed later")
            for name, value in made.state.items():
                same(held.state[name], value.cpu(), 0, f"{setting.label}: state '{name}' of kept step {held.index} was changed later")
        need(not run(solver, setting).trace, f"{setting.label}: steps are kept unasked")


def check_resume(solver: Solver) -> None:
    """Going on from any kept step, with the Rng at its position, gives the bits of the uninterrupted run."""
    for setting in settings(solver):
        rng, positions = Rng(6, setting.problem.items), []
        whole = run(solver, setting, rng, keep=1, callback=lambda _, r=rng, p=positions: p.append(r.state()))
        for step, position in zip(whole.trace, positions, strict=True):
            again = Rng(6, setting.problem.items).restore(position)
            rest = run(solver, setting, again, start=step)
            same(rest.x, whole.x, 0, f"{setting.label}: resumed after step {step.index} of {step.total}")
            need(rest.steps == whole.steps, f"{setting.label}: resumed after step {step.index}, ended at {rest.steps}, not {whole.steps}")


def check_start(solver: Solver) -> None:
    """x_init is accepted, matters to nobody else, and is left as it was."""
    for setting in settings(solver):
        x_init = truth(setting.inner.operator.in_shape, setting.problem.batch, torch.float64)
        kept = x_init.clone()
        solution = run(solver, setting, x_init=x_init)
        same(x_init, kept, 0, f"{setting.label}: x_init was changed")
        need(torch.isfinite(solution.x).all(), f"{setting.label}: NaN or Inf from x_init")
        alone = solver.solve(items_of(setting.problem, 1), setting.prior[1], generator=1, x_init=x_init[1:2])
        same(alone.x[0], solution.x[1], DOUBLE, f"{setting.label}: item 1 from x_init, alone and in a batch")


def check_nfe(solver: Solver) -> None:
    """Solution.nfe is the number of calls that the prior saw, each as many as the denoisers it calls itself; 0 for a regulariser."""
    for setting in settings(solver, every=True):
        prior, calls = watched(setting.prior)
        solution, each = solver.solve(setting.problem, prior, generator=1), 0
        if isinstance(setting.prior, Denoiser):
            each = evaluations(setting.prior, setting.problem)
        wanted = calls.count * each
        need(solution.nfe == wanted, f"{setting.label}: nfe says {solution.nfe}, the prior was called {calls.count} times, {each} a call")
        need(0 <= solution.network_seconds <= solution.seconds, f"{setting.label}: {solution.network_seconds} s in the network")


# A `with` block inside a generator stays open while the caller has the step; the decorator closes it at every yield.
GRADIENT_HINT = "decorate iterate with @torch.no_grad(), in place of a with block around a yield"


def check_untouched(solver: Solver) -> None:
    """y, operator, noise and prior are as they were, and so is the process: global generators, default dtype, threads, modes."""
    for setting in settings(solver):
        problem, prior = setting.problem, setting.prior
        things = (problem.y, problem.operator, problem.noise, prior)
        for world in worlds(setting.label):
            with kept():
                world.place()
                held, modes = frozen_state(*things), []
                with unmoved(f"{setting.label}: the run", GRADIENT_HINT):
                    solver.solve(problem, prior, generator=1, callback=lambda _, m=modes: m.append(torch.is_grad_enabled()))
                need(set(modes) == {world.grad}, f"{setting.label}: the gradient mode was changed; {GRADIENT_HINT}")
            for old, new in zip(held, frozen_state(*things), strict=True):
                same(old, new, 0, f"{setting.label}: y, operator, noise or prior was changed")
            need(all(parameter.grad is None for parameter in prior.parameters()), f"{setting.label}: the prior got gradients")


def check_divergence(solver: Solver) -> None:
    """A prior that turns NaN: DivergedError names the step; throw=False gives a finite image and the status."""
    for setting in settings(solver):
        made = watched_steps(solver, setting)[0]
        for call in {1, max(1, made.nfe // 2)}:
            error = refused(
                lambda s=setting, c=call: solver.solve(s.problem, poisoned(s.prior, c), generator=1), DivergedError, "step", "NaN"
            )
            need(any(word.isdigit() for word in error.split()), f"{setting.label}: no step number in: {error}")
            solution = solver.solve(setting.problem, poisoned(setting.prior, call), generator=1, throw=False)
            need(solution.status == Status.DIVERGED, f"{setting.label}: status {solution.status} after NaN")
            need(torch.isfinite(solution.x).all(), f"{setting.label}: throw=False gave NaN")


def check_value(solver: Solver) -> None:
    """A solver is a value: frozen, equal and hashable by its hyperparameters; repr, pickle and replace give it back; no trace of a run."""
    field = next((one.name for one in dataclasses.fields(solver)), "any")  # pyright: ignore[reportArgumentType]
    try:
        setattr(solver, field, getattr(solver, field, None))
    except dataclasses.FrozenInstanceError:
        pass
    else:
        raise AssertionError(f"{solver} is not frozen: '{field}' could be set")
    before = dict(vars(solver))
    run(solver, small(solver))
    need(vars(solver) == before, f"{solver}: a run changed its attributes: {sorted(set(vars(solver)) ^ set(before))}")
    inner = {type(value).__name__: type(value) for value in vars(solver).values()}
    names = {**inner, type(solver).__name__: type(solver), "inf": float("inf"), "nan": float("nan")}
    need(eval(repr(solver), names) == solver, f"repr does not give the solver back: {solver!r}")
    need(pickle.loads(pickle.dumps(solver)) == solver, f"pickle does not give the solver back: {solver!r}")
    need(dataclasses.replace(solver) == solver and hash(solver) == hash(copy.deepcopy(solver)), f"{solver!r}: replace or hash")  # pyright: ignore


def check_range(solver: Solver) -> None:
    """A denoiser that lives in [-1, 1], rescaled, gives the image of the same denoiser written for [0, 1]."""
    for setting in settings(solver):
        prior = setting.prior
        if type(prior) is GaussianPrior and not prior.full:
            wide = GaussianPrior(2 * prior.mean - 1, 2 * prior.std)  # N(m, s^2) in [0, 1] is N(2 m - 1, 4 s^2) in [-1, 1]
            wide.sigma_range = tuple(2 * end for end in prior.sigma_range)  # pyright: ignore[reportAttributeAccessIssue]
            other = solver.solve(setting.problem, rescale(wide, (-1.0, 1.0)), generator=1)
            same(other.x, run(solver, setting).x, DOUBLE, f"{setting.label}: a prior in [-1, 1] and the same one in [0, 1]")


def check_sizes(solver: Solver, operators: Callable[[tuple[int, int, int]], list[Operator]] | None = None) -> None:
    """Odd and other than square sizes, grey and colour; `operators` makes others than the mask for a shape."""
    for shape in ((1, 45, 61), (3, 45, 61)):
        made = [Kept(shape)] if operators is None else operators(shape)
        for setting in settings(solver, shape=shape, batch=1, dtype=torch.float32, operators=made):
            solution = run(solver, setting)
            need(solution.x.shape == (1, *shape), f"{setting.label}: shape {tuple(solution.x.shape)} for images {shape}")
            need(torch.isfinite(solution.x).all(), f"{setting.label}: NaN or Inf at {shape}")


def check_storage(solver: Solver) -> None:
    """A saved solution reads back: image, status, numbers, seed and solver."""
    setting = small(solver)
    for options in ({}, {"samples": 2}):
        solution = run(solver, setting, **options)
        with tempfile.TemporaryDirectory() as folder:
            solution.save(Path(folder) / "solution")
            known = registry().name_of("solver", solver) is not None
            loaded = load_solution(Path(folder) / "solution", solver=None if known else solver)
        same(loaded.x, solution.x, 0, f"{setting.label}: the image read back")
        need(loaded.summary() == solution.summary(), f"{setting.label}: read back {loaded.summary()}, saved {solution.summary()}")


CHECKS: tuple[Check, ...] = (
    *REFUSALS,
    check_finite_answer,
    check_same_seed,
    check_other_seed,
    check_item_alone,
    check_parts,
    check_samples,
    check_steps,
    check_stop,
    check_keep,
    check_resume,
    check_start,
    check_nfe,
    check_untouched,
    check_divergence,
    check_value,
    check_range,
    check_sizes,
    check_storage,
    check_covers,
    check_posterior,
    check_unit_invariance,
    check_perturbed_operator,
    check_converged,
    check_moved,
    check_positive,
)


def solver_checks(solver: Solver, expected_failures: Mapping[str, str] | None = None) -> Checks:
    """All checks by name, but those of what it does not say (`moves`) or have (`positive`); each raises AssertionError with what it found.

    Args:
        solver: an instance with few steps. What its class declares as `expected_failures` must fail.
        expected_failures: reason by check name; such a check must fail too.
    """
    left_out = [check for check, fits in ((check_moved, solver.moves), (check_positive, hasattr(solver, "positive"))) if not fits]
    return chosen(solver, [check for check in CHECKS if check not in left_out], CHECKS, expected_failures)


def solver_cases(*solvers: Solver, expected_failures: Mapping[str, str] | None = None) -> list[Any]:
    """Every solver with every check, for `pytest.mark.parametrize("solver, check", ...)`.

    Args:
        solvers: instances with few steps; `Solver.examples()` gives some.
        expected_failures: reason by check name, for what is known not to hold; a check that passes all the same fails.
    """
    return build_cases(solvers, solver_checks, expected_failures)

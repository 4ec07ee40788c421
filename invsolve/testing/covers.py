"""Whether the examples of a solver reach what it is made of: a line that no check runs is a line that no check has seen."""

from __future__ import annotations

import functools
import inspect
import linecache
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from types import CodeType, FrameType
from typing import Any

import torch

from invsolve.rng import Rng
from invsolve.solution import Solution
from invsolve.solver import Solver
from invsolve.testing.cases import need
from invsolve.testing.settings import settings, truth


def check_covers(solver: Solver) -> None:
    """Every line of `iterate`, and of the methods of the class that it calls, runs in the examples or at the default settings.

    The class's `examples()`, the solver itself and (in the first setting of a kind) the solver with all defaults are run: plain, from an
    x_init, and from a kept step. What cannot be reached so is declared with its reason: `unreached = {"a piece of the line": "why"}`; the
    declaration is strict. A branch that depends on a parameter needs an example with that parameter.
    """
    codes = methods(type(solver))
    every = frozenset(line for code in codes for line in lines(code))
    wanted = enough(type(solver), every)
    missed = every - ran(type(solver), tuple(codes), wanted, None if in_examples(solver) else solver)
    unreached, used = [], set()
    for where in sorted(missed):
        text = linecache.getline(*where).strip()
        reasons = [piece for piece in solver.unreached if piece in text]
        used.update(reasons)
        if not reasons:
            unreached.append(f"line {where[1]}: {text or '(its source is not there)'}")
    name = type(solver).__name__
    need(not unreached, f"no example of {name} reaches {'; '.join(unreached)}. Give examples() one that does, or declare it in `unreached`")
    idle = sorted(set(solver.unreached) - used)
    need(not idle, f"{name}.unreached names {idle}, which are reached (or not there): remove them")
    need(all(solver.unreached.values()), f"{name}.unreached needs a reason for each")


def in_examples(solver: Solver) -> bool:
    """Whether its class names it as an example."""
    return solver in type(solver).examples()


@functools.lru_cache(maxsize=64)
def ran(
    cls: type[Solver], codes: tuple[CodeType, ...], wanted: frozenset[tuple[str, int]], solver: Solver | None
) -> frozenset[tuple[str, int]]:
    """The lines that run in the examples of a class, and in a solver that is none; once for all its examples, until the wanted have."""
    with traced(list(codes)) as seen:
        for _ in by_turns(cls, solver):
            if wanted <= seen:
                break
    return frozenset(seen)


def enough(_: type[Solver], every: frozenset[tuple[str, int]]) -> frozenset[tuple[str, int]]:
    """The lines after which a class needs no more runs: all, so that one that is declared to be unreached and is not shows."""
    return every


def by_turns(cls: type[Solver], solver: Solver | None) -> Iterator[Solution]:
    """Runs of a class: each short one in its first setting, since one of full length costs most; then of all by turns."""
    exercises = [(exercise(one, short), short) for one, short in runs(cls, solver)]
    for one in [one for one, short in exercises if short]:
        yield from islice(one, RUNS)
    waiting = deque(one for one, _ in exercises)
    while waiting:
        one = waiting.popleft()
        if (solution := next(one, None)) is not None:
            waiting.append(one)
            yield solution


def runs(cls: type[Solver], solver: Solver | None) -> Iterator[tuple[Solver, bool]]:
    """(solver, whether it is short): the one that is checked, the examples of its class, and the one that has all defaults."""
    seen = [*cls.examples(), *([] if solver is None else [solver])]
    yield from ((one, True) for one in seen)
    try:
        default = cls()
    except Exception:  # without defaults the examples are all there is
        return
    if default not in seen:
        yield default, False


RUNS = 4  # of a short solver in a setting


def exercise(solver: Solver, short: bool) -> Iterator[Solution]:
    """Runs as users make them: plain, going on from kept steps, and from x_init."""
    for setting in settings(solver, every=short, batch=2):
        problem, prior = setting.problem, setting.prior
        plain = solver.solve(problem, prior, generator=1, keep=1)
        yield plain
        steps = plain.trace
        yield solver.solve(problem, prior, generator=Rng(1, problem.items), start=steps[-1])
        if short:
            yield solver.solve(problem, prior, generator=Rng(1, problem.items), start=steps[len(steps) // 2])
            yield solver.solve(problem, prior, generator=1, x_init=truth(setting.inner.operator.in_shape, problem.batch, torch.float64))


def methods(cls: type) -> list[CodeType]:
    """The code of `iterate` and of what it calls by name among the methods of the class, as far as they are not the base's."""
    own: dict[str, Any] = {}
    for base in cls.__mro__:
        if base in (Solver, object):
            break
        for name, value in vars(base).items():
            own.setdefault(name, value)
    found: dict[str, CodeType] = {}
    waiting = ["iterate"]
    while waiting:
        name = waiting.pop()
        code = code_of(own.get(name))
        if name not in found and code is not None:
            found[name] = code
            waiting += [called for inner in nested(code) for called in inner.co_names]
    return list(found.values())


def code_of(member: Any) -> CodeType | None:
    """The code behind a method, a property or a decorated function; None for anything else."""
    if isinstance(member, property):
        member = member.fget
    if isinstance(member, functools.cached_property):
        member = member.func
    member = getattr(member, "__func__", member)  # staticmethod, classmethod
    return getattr(inspect.unwrap(member), "__code__", None) if callable(member) else None


def nested(code: CodeType) -> Iterator[CodeType]:
    """The code and the functions, comprehensions and generators in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)


def lines(code: CodeType) -> set[tuple[str, int]]:
    """(file, line) of what can run in a function: all but its head."""
    found = {(code.co_filename, line) for inner in nested(code) for _, _, line in inner.co_lines() if line is not None}
    return {where for where in found if where[1] != code.co_firstlineno} or found


@contextmanager
def traced(codes: list[CodeType]) -> Iterator[set[tuple[str, int]]]:
    """The lines of some functions that run inside; a debugger's or a coverage tool's own tracing waits meanwhile."""
    wanted = {inner for code in codes for inner in nested(code)}
    seen: set[tuple[str, int]] = set()

    def local(frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
        if event == "line":
            seen.add((frame.f_code.co_filename, frame.f_lineno))
        return local

    def called(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if frame.f_code not in wanted:
            return None
        seen.add((frame.f_code.co_filename, frame.f_lineno))
        return local

    before = sys.gettrace()
    sys.settrace(called)
    try:
        yield seen
    finally:
        sys.settrace(before)

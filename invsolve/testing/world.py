"""The global state of the process around a check: odd before it, compared where nothing may change it, put back at its end.

Code that sets global state to a constant, `torch.manual_seed(0)` in every step, is invisible once an earlier call has left that very
constant behind. So every check starts from a state that nobody would choose: generators of torch, numpy and Python seeded by a number
that is drawn once a process (the environment variable INVSOLVE_CHECK_SEED gives another run the same one; a failure's message names
it), and a default dtype drawn with it. `worlds` are two that differ in all that has few values, so that no constant fits both.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invsolve.rng import derive
from invsolve.testing.cases import need

VARIABLE = "INVSOLVE_CHECK_SEED"


@dataclass(frozen=True)
class Part:
    """One piece of global state.

    Args:
        name: for messages.
        get: a copy of its value.
        put: sets it to such a copy.
    """

    name: str
    get: Callable[[], Any]
    put: Callable[[Any], object]


PARTS: tuple[Part, ...] = (
    Part("torch's global generator", torch.get_rng_state, torch.default_generator.set_state),
    Part("numpy's global generator", np.random.get_state, np.random.set_state),
    Part("Python's global generator", random.getstate, random.setstate),
    Part("the default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Part("the number of threads", torch.get_num_threads, torch.set_num_threads),
    Part("the gradient mode", torch.is_grad_enabled, torch.set_grad_enabled),
    Part("the choice of deterministic algorithms", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    Part("the precision of float32 products", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    Part("numpy's error handling", np.geterr, lambda value: np.seterr(**value)),
    Part("the working directory", os.getcwd, os.chdir),
)


@dataclass(frozen=True)
class World:
    """What is put in place of the state that was there; None leaves a thing as it is.

    Args:
        seed: of the three global generators.
        dtype: the default one.
        grad: the gradient mode.
        strict: whether torch looks for deterministic algorithms; it only warns where there is none.
        precision: of float32 products.
        numpy: what numpy does on a division by 0 and the like.
    """

    seed: int
    dtype: torch.dtype
    grad: bool | None = None
    strict: bool | None = None
    precision: str | None = None
    numpy: str | None = None

    def place(self) -> None:
        """Set it."""
        of_torch, of_numpy, of_python = generators(self.seed)
        torch.default_generator.set_state(of_torch)
        np.random.set_state(of_numpy)
        random.setstate(of_python)
        torch.set_default_dtype(self.dtype)
        if self.grad is not None:
            torch.set_grad_enabled(self.grad)
        if self.strict is not None:
            # the same as `use_deterministic_algorithms`, which imports torch's compiler, some seconds
            torch.set_deterministic_debug_mode("warn" if self.strict else "default")
        if self.precision is not None:
            torch.set_float32_matmul_precision(self.precision)
        if self.numpy is not None:
            np.seterr(all=self.numpy)  # pyright: ignore[reportArgumentType]


@lru_cache(maxsize=256)
def generators(seed: int) -> tuple[Tensor, Any, Any]:
    """The states of torch's, numpy's and Python's generators of a seed: a check has one world for all its subjects."""
    of_numpy = np.random.RandomState(seed % 2**32).get_state()
    return torch.Generator().manual_seed(seed).get_state(), of_numpy, random.Random(seed).getstate()


@cache
def run_seed() -> int:
    """The number that this process' worlds are drawn by: INVSOLVE_CHECK_SEED, else a fresh one."""
    given = os.environ.get(VARIABLE, "")
    return int(given) if given.isdecimal() else secrets.randbits(31)


def drawn(*key: object) -> World:
    """The world of a check."""
    seed = derive(run_seed(), *key)
    return World(seed, torch.float64 if seed % 2 else torch.float32)


def worlds(*key: object) -> tuple[World, World]:
    """Two that differ in everything, so that one of them shows what is set to a constant."""
    seeds = (derive(run_seed(), index, *key) for index in range(2))
    first = (torch.float32, True, False, "highest", "warn")
    second = (torch.float64, False, True, "high", "print")
    return World(next(seeds), *first), World(next(seeds), *second)


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, Tensor):
        return torch.equal(old, new)
    if isinstance(old, np.ndarray):
        return bool((old == new).all())
    if isinstance(old, tuple) and any(isinstance(one, Tensor | np.ndarray) for one in old):  # what == cannot compare
        return len(old) == len(new) and all(map(_same, old, new))
    return old == new


@contextmanager
def kept() -> Iterator[dict[str, Any]]:
    """The state as it is, put back at the end, whatever has happened."""
    held = {part.name: part.get() for part in PARTS}
    try:
        yield held
    finally:
        for part in PARTS:
            if not _same(held[part.name], part.get()):
                part.put(held[part.name])


THREADS = 7


@contextmanager
def pretended_threads() -> Iterator[Callable[[], int]]:
    """torch's number of threads, THREADS, as code inside sees and sets it; gives what it is.

    Not a real one: kernels on more threads than there are idle cores take seconds.
    """
    real, now = (torch.get_num_threads, torch.set_num_threads), [THREADS]
    torch.get_num_threads, torch.set_num_threads = (lambda: now[0]), (lambda count: now.__setitem__(0, count))
    try:
        yield lambda: now[0]
    finally:
        torch.get_num_threads, torch.set_num_threads = real


@contextmanager
def unmoved(what: str, hint: str = "") -> Iterator[None]:
    """What is done inside changes none of the state.

    Args:
        what: for messages: who might change it.
        hint: what to do where the gradient mode is changed.

    Raises:
        AssertionError: some of it has been changed; the message names all.
    """
    held = {part.name: part.get() for part in PARTS}
    with pretended_threads() as threads:
        yield
        asked = threads()
    changed = [part.name for part in PARTS if not _same(held[part.name], part.get())]
    if asked != THREADS and "the number of threads" not in changed:
        changed.append("the number of threads")
    advice = f"; {hint}" if hint and "the gradient mode" in changed else ""
    need(not changed, f"{what} changes {', '.join(changed)}{advice}")


@dataclass(frozen=True)
class InOddWorld:
    """A check, run in an odd world of its own; a failure's first line says which, so that it can be met again.

    Args:
        check: of one subject.
    """

    check: Callable[[Any], None]

    @property
    def __name__(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return getattr(self.check, "__name__", type(self.check).__name__)

    def __call__(self, subject: Any) -> None:
        """Raise AssertionError with what the check found."""
        try:
            with kept():
                drawn(self.__name__).place()
                self.check(subject)
        except AssertionError as error:
            first, *others = str(error).split("\n")
            raise AssertionError("\n".join([f"{first} [{VARIABLE}={run_seed()}]", *others])) from error

"""Fields of solvers that are of another kind than their annotations say: refused when the solver is made, with what was given."""

from dataclasses import dataclass, fields
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from invsolve import InputError, Requires, Solver
from invsolve.errors import ArgumentError
from invsolve.plugins import registry
from invsolve.solvers import ADMM, DDRM, DPS, HQS, AdamTV, DiffPIR

SOLVERS = [entry.load() for entry in registry().of("solver")]


def allowed(cls, name):
    hint = get_type_hints(cls)[name]
    return set(get_args(hint) or [hint])


CASES = [(cls, field.name) for cls in SOLVERS for field in fields(cls) if not allowed(cls, field.name) & {Any}]


@pytest.mark.parametrize(("cls", "name"), CASES, ids=lambda one: getattr(one, "__name__", one))
def test_every_field_of_every_solver(cls, name):
    """A text for a number, a list for anything, a number for a truth value, a truth value for a number, a fraction for a count."""
    kinds = allowed(cls, name)
    wrong: list[Any] = [[1, 2, 3], object()]
    wrong += [] if str in kinds else ["a", "no"]
    wrong += [True, False] if bool not in kinds else [0, 1, 2, 1.0]
    wrong += [2.5] if float not in kinds else []
    wrong += [None] if type(None) not in kinds else []
    for value in wrong:
        with pytest.raises((InputError, ArgumentError), match=name):
            cls(**{name: value})


@pytest.mark.parametrize(
    "make",
    [
        lambda: DPS(zeta="x"),
        lambda: DDRM(eta="a"),
        lambda: HQS(fidelity="a"),
        lambda: ADMM(tol="a"),
        lambda: AdamTV(betas=3),
        lambda: AdamTV(betas=("a", 1)),
        lambda: HQS(positive="x"),
        lambda: AdamTV(positive=2),
        lambda: DiffPIR(variance=3),
    ],
)
def test_what_a_reviewer_gave(make):
    with pytest.raises((InputError, ArgumentError), match=r"must .*; given"):
        make()


def test_numbers_of_any_library_are_numbers():
    assert DPS(steps=np.int64(5), scale=np.float32(1.0)) == DPS(steps=5, scale=1.0)
    assert DiffPIR(weight=2).weight == 2
    assert DiffPIR(steps=3, zeta=0).zeta == 0


def test_a_stranger_s_annotations_are_his():
    """What is neither a number nor a text nor a truth value is left to his class."""

    @dataclass(frozen=True)
    class Strange(Solver):
        requires = Requires()
        rule: "Undefined" = None  # noqa: F821  # pyright: ignore
        steps: int = 3

        def iterate(self, problem, prior, rng, start=None):
            yield from ()

    assert Strange(rule=object()).steps == 3

"""Compositions by name: how a file, a suite and the shell write H_n @ ... @ H_1, and how a saved problem does."""

from __future__ import annotations

from functools import reduce
from typing import ClassVar

import torch

from invsolve.errors import InputError
from invsolve.operator.algebra import AdjointView
from invsolve.operator.contract import Operator
from invsolve.operator.matrix import MatrixOperator
from invsolve.operator.structure import exact


def check_operators(name: str, operators: tuple[object, ...]) -> None:
    """Raise InputError for none, or for something else."""
    wrong = [type(one).__name__ for one in operators if not isinstance(one, Operator)]
    if wrong or not operators:
        raise InputError(f"{name} takes operators; given {', '.join(wrong) or 'none'}")


class Chain:
    """H_n ... H_2 H_1, operators in the order they are applied: what `H_n @ ... @ H_1` gives, with all the structure it keeps.

        { name = "chain", operators = [{ name = "gaussian-blur", sigma = 1.5 }, { name = "mask", keep = 0.5 }] }

    Args:
        operators: the first sees the image, the last gives y.

    Raises:
        InputError: none, something else than operators, or shapes that do not meet.
    """

    in_order: ClassVar[bool] = True  # in a file, each is made for what the one before it gives

    def __call__(self, *operators: Operator) -> Operator:
        """The composition."""
        check_operators("chain", operators)
        return reduce(lambda inner, outer: outer @ inner, operators)

    def examples(self) -> list[Operator]:
        """One operator alone, two that keep their SVD, three that do not."""
        turn, wide, tall = small_matrices()
        return [self(wide), self(turn, wide), self(wide, tall, AdjointView(tall))]


chain = Chain()


class Kept:
    """H G where the two keep an SVD together by a rule of this module: how a file names what `H @ G` then gives.

    Args:
        outer: H.
        inner: G.

    Raises:
        InputError: no rule applies, so that `chain` has to serve.
    """

    def __call__(self, outer: Operator, inner: Operator) -> Operator:
        """By the first rule that applies."""
        check_operators("structured", (outer, inner))
        found = exact(outer, inner)
        if found is None:
            raise InputError(f"{outer.label} and {inner.label} keep no SVD together; chain composes any two")
        return found

    def examples(self) -> list[Operator]:
        """A rotation before, an isometry after."""
        turn, wide, _ = small_matrices()
        return [self(wide, turn), self(MatrixOperator(torch.eye(9, 7, dtype=torch.float64).roll(1, 0), (7,)), wide)]


structured = Kept()


def small_matrices() -> tuple[Operator, Operator, Operator]:
    """For examples: a rotation of (3, 2, 2), a map of it to 7 numbers, and one of those to 10."""
    wave = torch.linspace(-1, 1, 7 * 12, dtype=torch.float64).sin().reshape(7, 12) + torch.eye(7, 12)
    turn = MatrixOperator(torch.eye(12, dtype=torch.float64).roll(1, 0), (3, 2, 2), (3, 2, 2))
    return turn, MatrixOperator(wave, (3, 2, 2)), MatrixOperator(wave.flip(1)[:, :7].repeat(2, 1)[:10], (7,))

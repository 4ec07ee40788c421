"""Conformance of operators at a second size: what holds for 8 x 8 pixels may not hold where a loop, a table or a kernel ends."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from unittest import SkipTest

from invsolve.errors import InvsolveError
from invsolve.operator import Operator
from invsolve.plugins.arguments import signature_of
from invsolve.testing.cases import Check

SIDE = 33  # pixels at least along both sides: more than one tile, block or warp of 32


def resizable(operator: Operator) -> bool:
    """Whether the constructor takes the shape of its images, (..., H, W)."""
    return "in_shape" in signature_of(type(operator)).parameters and len(operator.in_shape) == 3


def larger(operator: Operator) -> Operator:
    """The operator made again for images 2, 4, 8, ... times as high and wide, of SIDE pixels at least: sides keep their divisors.

    Raises:
        SkipTest: its other arguments (a mask, a matrix, maps) are made for its own size.
    """
    *lead, height, width = operator.in_shape
    factor = 1
    while factor * min(height, width) < SIDE:
        factor *= 2
    arguments = {**copy.deepcopy(operator.arguments), "in_shape": (*lead, factor * height, factor * width)}
    try:
        return type(operator)(**arguments).to(operator.device)
    except InvsolveError as error:
        raise SkipTest("its other arguments are made for its own size") from error


def larger_check(checks: Iterable[Check], without: Collection[str]) -> Check:
    """`check_larger`: these checks, but those named, on the operator at the second size."""
    chosen = [check for check in checks if getattr(check, "__name__", "") not in without]

    def check_larger(operator: Operator) -> None:
        """Shapes, range, adjoint, SVD, pinv and prox at a second, larger size."""
        if operator.in_shape != (again := larger(operator)).in_shape:
            for check in chosen:
                try:
                    check(again)
                except AssertionError as error:
                    raise AssertionError(f"{getattr(check, '__name__', '')} of images {again.in_shape}: {error}") from error

    return check_larger

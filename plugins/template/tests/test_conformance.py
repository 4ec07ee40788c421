"""What every operator promises, checked on ours."""

from collections.abc import Callable

import pytest
import torch
from invsolve_template.flip import Flip

from invsolve import Operator, registry
from invsolve.testing.operators import operator_cases


@pytest.mark.parametrize(("op", "check"), operator_cases(Flip((1, 8, 6))))
def test_conformance(op: Operator, check: Callable[[Operator], None]) -> None:
    """The public checks."""
    check(op)


def test_flip() -> None:
    """Left becomes right."""
    assert Flip((1, 1, 3))(torch.tensor([[[[1.0, 2.0, 3.0]]]])).tolist() == [[[[3.0, 2.0, 1.0]]]]


def test_registered() -> None:
    """The entry point of the installed distribution brings it in."""
    assert registry().load("operator", "flip") is Flip

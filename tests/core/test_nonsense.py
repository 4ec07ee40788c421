"""Nonsense in any argument of any first-party operator: an error of ours that says what was given, never a raw traceback."""

import inspect

import pytest
import torch
from invsolve_operators import BlockMean, GaussianBlur, Mask

from invsolve import registry
from invsolve.errors import InputError, InvsolveError

NONSENSE = ["a", -1, 0, float("nan"), 1.5, None, [], (1, 2), {}, torch.zeros(2, 3, 4, 5), torch.tensor(float("nan"))]
NAMES = [entry.name for entry in registry().of("operator") if entry.name != "deepinv" and isinstance(entry.load(), type)]


@pytest.mark.parametrize("name", NAMES)
def test_nonsense_is_refused_or_taken(name):
    target = registry().load("operator", name)
    arguments, messages = dict(target.examples()[0].arguments), []
    for parameter in inspect.signature(target.__init__).parameters:
        if parameter == "self":
            continue
        for value in NONSENSE:
            try:
                target(**{**arguments, parameter: value})
            except InvsolveError as error:
                messages.append(str(error))
    assert messages
    assert all(messages)


def test_the_error_says_what_was_given():
    with pytest.raises(InvsolveError, match=r"Identity: in_shape must be .*; given 5"):
        registry().load("operator", "identity")(5)
    with pytest.raises(InvsolveError, match="factor"):
        registry().build("operator", "block-mean", in_shape=(1, 8, 8), factor="a")


@pytest.mark.parametrize("value", NONSENSE, ids=str)
def test_nonsense_in_a_composition(value):
    operator = Mask((1, 2, 2))
    for name, arguments in (("chain", {"operators": [operator, value]}), ("structured", {"outer": operator, "inner": value})):
        with pytest.raises(InvsolveError, match=f"{type(value).__name__}"):
            registry().build("operator", name, **arguments)


@pytest.mark.parametrize("cls", [GaussianBlur, BlockMean, Mask])
def test_tensors_of_another_kind_are_refused(cls):
    operator = cls((3, 8, 8))
    x = torch.rand(2, 3, 8, 8)
    with pytest.raises(InputError, match="takes a tensor"):
        operator([1, 2])
    with pytest.raises(InputError, match="floating"):
        operator((255 * x).long())
    with pytest.raises(InputError, match="one for each of 2"):
        operator.prox(x, operator(x), torch.ones(5))
    if cls is not Mask:
        for dtype in (torch.float16, torch.bfloat16):
            with pytest.raises(InputError, match="float32 or float64"):
                operator(x.to(dtype))

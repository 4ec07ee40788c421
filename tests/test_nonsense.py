"""Nonsense in any argument of any first-party operator: an error of ours that says what was given, never a raw traceback."""

import inspect

import pytest
import torch

from invsolve import registry
from invsolve.errors import InvsolveError

NONSENSE = ["a", -1, 0, float("nan"), 1.5, None, [], (1, 2), {}, torch.zeros(2, 3, 4, 5), torch.tensor(float("nan"))]
NAMES = [entry.name for entry in registry().of("operator") if entry.name != "deepinv"]


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
    with pytest.raises(InvsolveError, match="Identity cannot be made with in_shape=5"):
        registry().load("operator", "identity")(5)
    with pytest.raises(InvsolveError, match="factor"):
        registry().build("operator", "block-mean", in_shape=(1, 8, 8), factor="a")

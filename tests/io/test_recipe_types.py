"""Typed building: whatever a file gives to any parameter of anything registered either builds or is refused in the project's words."""

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from invsolve import InvsolveError, registry
from invsolve.data import Here
from invsolve.errors import ArgumentError, InputError
from invsolve.plugins.arguments import signature_of
from invsolve.plugins.typed import fitted
from invsolve.recipe import build, check
from invsolve.recipe.tables import Part, part_of

# Text, lists, tables, negative, zero, not finite, nothing, huge, truth values, ragged lists, files that are none.
WRONG = ["three", [], [1, "a"], {"a": 1}, {"name": "tv"}, -1, -2.5, 0, float("nan"), float("inf"), None]
WRONG += [10**30, 2**62, 10**9, 1e308, True, [[1], [2, 3]], {"file": 3}, {"file": "nowhere.npy"}]
KINDS = ("operator", "prior", "solver", "noise", "metric", "dataset")
ENTRIES = [pytest.param(kind, entry.name, id=f"{kind}-{entry.name}") for kind in KINDS for entry in registry().of(kind)]


def late(*_):
    raise TimeoutError("longer than 20 s")


@pytest.fixture
def limited():
    """One construction may not take longer than 20 s: 40 times what the slowest takes."""
    before = signal.signal(signal.SIGALRM, late)
    yield lambda: signal.alarm(20)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_no_value_of_a_file_makes_a_foreign_exception(kind, name, limited, pytestconfig):
    """Every other one of the values in a plain run, by turns from entry to entry."""
    values = WRONG if pytestconfig.getoption("--whole") else WRONG[[one.values for one in ENTRIES].index((kind, name)) % 2 :: 2]
    target = registry().load(kind, name)
    others = dict(target.examples()[0].arguments) if kind == "operator" and name != "deepinv" and hasattr(target, "examples") else {}
    others = {"in_shape": (3, 16, 16), **others} if kind == "operator" else others
    said = []
    for parameter in signature_of(target).parameters:
        for value in values:
            limited()
            try:
                build(kind, part_of({"name": name, parameter: value}, name), Here(), **_without(others, parameter))
            except InvsolveError as error:
                said.append(str(error))
    assert said or not signature_of(target).parameters
    assert all(said)


def _without(values, name):
    return {key: value for key, value in values.items() if key != name}


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_types_are_refused_before_anything_is_made(kind, name):
    """`check` alone refuses text for a number, a fraction for a whole number and truth values for both, by the parameter's name."""
    target = registry().load(kind, name)
    for parameter in signature_of(target).parameters.values():
        wrong = {"int": ("3", 2.5, True), "float": ("0.5", True, float("nan")), "bool": ("yes", 1), "str": (3, True)}
        for value in wrong.get(str(parameter.annotation), ()):
            with pytest.raises(InvsolveError, match=parameter.name):
                check(kind, part_of({"name": name, parameter.name: value}, name), Here(), **_without(_all(target), parameter.name))


def _all(target):
    return {name: None for name, one in signature_of(target).parameters.items() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}


def took(hint, value, paths=None):
    def target(x):
        return x

    target.__annotations__ = {"x": hint}
    return fitted(value, "x", "it", target, paths)


@pytest.mark.parametrize(
    ("hint", "value", "found"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (float | Tensor, 2, 2.0),
        (Sequence[int], [1, 2], (1, 2)),
        (int | Sequence[int] | None, [1, 2], (1, 2)),
        (tuple[float, float], [1, 2.5], (1.0, 2.5)),
        (Tensor | Sequence[Sequence[float]], [[0.5, 0.5]], ((0.5, 0.5),)),
        (Literal["a", "b"], "b", "b"),
        (dict[str, Any] | None, {"nc": [1, 2]}, {"nc": [1, 2]}),
        (Any, [1, [2]], (1, (2,))),
        (Path, "a/b", Path("a/b")),
        ("no such name", [1], (1,)),
    ],
)
def test_values_as_their_annotations_want_them(hint, value, found):
    made = took(hint, value)
    assert made == found
    assert type(made) is type(found)


def test_lists_of_numbers_are_tensors_where_the_annotation_says_so():
    assert torch.equal(took(Tensor | None, [[1, 0], [0, 1]]), torch.eye(2, dtype=torch.int64))
    assert torch.equal(took(float | Tensor, [0.5, 1]), torch.tensor([0.5, 1]))
    assert took(Tensor | None, [[True, False]]).dtype == torch.bool
    assert took(Tensor | None, None) is None


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (int, "3", "it: x must be int; given '3'"),
        (float | Tensor, "k.npy", r'x must be Tensor or float; given the text \'k.npy\'.*x = \{ file = "k.npy" \}'),
        (Tensor | None, [[1], [1, 2]], "lists of equal length"),
        (Tensor | None, [1e308], "finite, in float32"),
        (int, 2**63, "x must be int"),
        (float, float("nan"), "x must be float; given nan"),
        (Any, [float("inf")], "must be finite"),
        (dict[str, Any], {"a": [float("nan")]}, "must be finite"),
        (tuple[float, float], [1.0], "list of 2 float"),
        (Literal["a", "b"], "c", "x must be 'a' or 'b'; given 'c'"),
        (Sequence[int], "123", "list of int; given '123'"),
    ],
)
def test_refusals_say_what_is_allowed_and_what_was_given(hint, value, message):
    with pytest.raises(ArgumentError, match=message):
        took(hint, value)


def test_a_constructor_that_fails_in_its_own_way_is_told_in_ours(monkeypatch):
    monkeypatch.setattr("invsolve.plugins.Registry.build", lambda *a, **k: {}["nothing"])
    with pytest.raises(InputError, match=r"solver 'dps' cannot be made with steps=3: KeyError: 'nothing'"):
        build("solver", Part(name="dps", steps=3), Here())


def test_images_beyond_any_memory_are_refused_before_it_is_taken():
    with pytest.raises(InputError, match="at most 536870912 numbers"):
        build("operator", Part(name="mask", in_shape=[3, 20_000, 20_000]), Here())


def test_chain_and_stack_are_written_out():
    blur, mean = {"name": "gaussian-blur", "sigma": 1.0}, {"name": "block-mean", "factor": 2}
    written, named = part_of({"chain": [blur, mean]}, "it"), part_of({"name": "chain", "operators": [blur, mean]}, "it")
    assert json.dumps(written.model_dump()) == json.dumps(named.model_dump())
    made = build("operator", written, Here(), in_shape=(3, 8, 8))
    assert made.out_shape == (3, 4, 4)
    both = build("operator", part_of({"stack": [blur, {"chain": [blur, mean]}]}, "it"), Here(), in_shape=(3, 8, 8))
    assert both.out_shape == ((3, 8, 8), (3, 4, 4))
    inside = {"name": "iterative-prox", "operator": {"chain": [blur, mean]}}
    assert build("operator", part_of(inside, "it"), Here(), in_shape=(3, 8, 8)).out_shape == (3, 4, 4)
    with pytest.raises(InputError, match=r"it\.name: missing"):
        part_of({"chain": [blur], "stack": [blur]}, "it")

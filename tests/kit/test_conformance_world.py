"""The state of the process around the conformance checks: constants are caught, the state is put back, a failure can be met again."""

import random

import numpy as np
import planted_faults_world as planted
import pytest
import torch

from invsolve.testing import denoiser_checks, failures, noise_checks, operator_checks, regulariser_checks, solver_checks
from invsolve.testing.cases import chosen
from invsolve.testing.world import PARTS, VARIABLE, InOddWorld, _same, kept, run_seed, worlds

KINDS = {
    "operator": (planted.Setting, operator_checks, "check_untouched"),
    "denoiser": (planted.SettingDenoiser, denoiser_checks, "check_untouched"),
    "regulariser": (planted.SettingRegulariser, regulariser_checks, "check_unmoved"),
    "noise": (planted.SettingNoise, noise_checks, "check_unmoved"),
    "solver": (planted.SettingSolver, solver_checks, "check_untouched"),
}


# A solver's own decorator, @torch.no_grad(), puts the gradient mode back at every yield: what its loop sets there moves nothing.
UNMOVED = {("solver", "the gradient mode"), ("solver", "the gradient mode ")}
CASES = [(kind, constant) for kind in KINDS for constant in planted.CONSTANTS if (kind, constant) not in UNMOVED]


@pytest.mark.parametrize(("kind", "constant"), CASES)
def test_a_constant_is_caught_also_where_an_earlier_call_has_left_it(kind, constant, monkeypatch):
    base, checks, name = KINDS[kind]
    monkeypatch.setattr(base, "constant", staticmethod(planted.CONSTANTS[constant]))
    subject = base.examples()[0] if kind == "solver" else base()
    check = dict(checks(subject))[name]
    with kept():
        planted.CONSTANTS[constant]()
        with pytest.raises(AssertionError, match=constant.strip()):
            check(subject)


@pytest.mark.parametrize("constant", planted.CONSTANTS, ids=str.strip)
def test_the_state_is_put_back_after_a_check_that_fails(constant):
    before = [part.get() for part in PARTS]

    def spoils(subject):
        planted.CONSTANTS[constant]()
        torch.randn(1), np.random.rand(), random.random()
        raise AssertionError(subject)

    with pytest.raises(AssertionError, match="found"):
        InOddWorld(spoils)("found")
    assert all(map(_same, before, [part.get() for part in PARTS]))


def test_the_state_is_put_back_after_an_interrupt(tmp_path):
    before = [part.get() for part in PARTS]

    def interrupted(subject):
        import os

        os.chdir(subject)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        InOddWorld(interrupted)(tmp_path)
    assert all(map(_same, before, [part.get() for part in PARTS]))


def test_two_worlds_share_nothing_that_a_constant_could_be():
    first, second = worlds("any")
    assert first.seed != second.seed
    assert {first.dtype, second.dtype} == {torch.float32, torch.float64}
    assert (first.strict, first.precision, first.numpy) != (second.strict, second.precision, second.numpy)
    assert first.grad != second.grad


def test_every_check_starts_from_a_world_that_another_does_not_have():
    found = []

    def check_one(subject):
        found.append(torch.initial_seed() if subject else torch.get_rng_state())

    def check_two(subject):
        found.append(torch.get_rng_state())

    torch.manual_seed(0)
    fixed = torch.get_rng_state()
    for _, check in chosen(None, [check_one, check_two], [check_one, check_two]):
        check(None)
    assert not any(torch.equal(*pair) for pair in ((found[0], found[1]), (found[0], fixed), (found[1], fixed)))
    assert torch.equal(torch.get_rng_state(), fixed)


def test_a_failure_names_the_seed_that_gives_it_again(monkeypatch):
    message = failures(planted.TwiceFromWidth32(), operator_checks(planted.TwiceFromWidth32()))["check_larger"]
    assert f"[{VARIABLE}={run_seed()}]" in message.splitlines()[0]
    monkeypatch.setenv(VARIABLE, "7")
    assert run_seed.__wrapped__() == 7  # what a process asks once
    monkeypatch.setenv(VARIABLE, "")
    assert run_seed.__wrapped__() != run_seed.__wrapped__()


def test_the_message_of_a_wrong_size_says_which():
    found = failures(planted.TwiceFromWidth32(), operator_checks(planted.TwiceFromWidth32()))
    assert list(found) == ["check_larger"]
    assert "check_adjoint of images (2, 64, 80)" in found["check_larger"]

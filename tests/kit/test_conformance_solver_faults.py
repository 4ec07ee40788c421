"""Planted faults in solvers: each is caught by the check that is named for it, and the sound ones by none."""

import planted_faults_solvers as base
import pytest
import torch
from setting_turns import in_turn

from invsolve.errors import InputError
from invsolve.testing.cases import failures
from invsolve.testing.posterior import CHAINS, rows
from invsolve.testing.solvers import check_item_alone, solver_checks

CAUGHT = {
    base.CoupledItems: "check_item_alone",
    base.GlobalNoise: "check_untouched",
    base.OneStream: "check_item_alone",
    base.ForgetfulState: "check_resume",
    base.LongerThanSaid: "check_steps",
    base.ChangesY: "check_untouched",
    base.AlwaysDouble: "check_finite_answer",
    base.OverwritesSteps: "check_keep",
    base.CarriesAGraph: "check_finite_answer",
    base.SameForAllSeeds: "check_other_seed",
    base.HiddenCalls: "check_nfe",
    base.CountsItsOwn: "check_nfe",
    base.LeavesNoGrad: "check_untouched",
    base.NotCut: "check_parts",
    # Has the answer to do with the problem?
    base.IgnoresY: "check_posterior",
    base.HardlyLooks: "check_posterior",
    base.WrongSide: "check_posterior",
    base.NoiseDoubled: "check_posterior",
    base.NoNoiseAtAll: "check_posterior",
    base.SigmaForgotten: "check_posterior",
    base.DeafToStrongNoise: "check_posterior",
    base.HugeJump: "check_posterior",
    base.JumpNobodySees: "check_covers",
    base.DeclaredForNothing: "check_covers",
    base.DeclaredWithoutReason: "check_covers",
    # Does it depend on what it must not depend on?
    base.StartsAtPinv: "check_perturbed_operator",
    base.FloorInUnitsOfY: "check_unit_invariance",
    base.StepInUnitsOfY: "check_unit_invariance",
    base.SamplerFloor: "check_unit_invariance",
    base.SaysConverged: "check_converged",
    base.StopsByUnitsOfY: "check_converged",
}


def example(cls):
    return cls.examples()[0]


def found_in(cls, place, config):
    """What the checks find in a solver, each with a part of its settings in a plain run."""
    checks = solver_checks(example(cls))
    return failures(example(cls), [(name, lambda one, check=check: in_turn(check, one, place, config)) for name, check in checks])


SOUND = [base.Sound, base.SoundSampler, base.RePaint]


@pytest.mark.parametrize("sound", SOUND, ids=lambda cls: cls.__name__)
def test_a_sound_solver_passes(sound, pytestconfig):
    assert found_in(sound, SOUND.index(sound), pytestconfig) == {}


@pytest.mark.parametrize("faulty", CAUGHT, ids=lambda cls: cls.__name__)
def test_a_planted_fault_is_found(faulty):
    check = dict(solver_checks(example(faulty)))[CAUGHT[faulty]]
    with pytest.raises((AssertionError, InputError)):  # InputError: solve itself refuses it, which `invsolve check` shows as a failure too
        check(example(faulty))
    torch.manual_seed(0)


def test_a_jump_that_no_check_ran_passes_all_the_others(pytestconfig):
    """What the kit said before it asked which lines had run: nothing wrong, with noise of a million in the solver."""
    found = found_in(base.JumpNobodySees, 0, pytestconfig)
    assert list(found) == ["check_covers"]
    assert "x = self.back(" in found["check_covers"]
    assert found_in(base.Declared, 1, pytestconfig) == {}


def test_the_message_says_what_is_wrong_and_by_how_much():
    def message(faulty):
        name = CAUGHT[faulty]
        return failures(example(faulty), [(name, dict(solver_checks(example(faulty)))[name])])[name]

    assert "gradient mode was changed; decorate iterate with @torch.no_grad()" in message(base.LeavesNoGrad)
    assert "hardly depends on y" in message(base.IgnoresY) or "with other items' answers" in message(base.IgnoresY)
    assert "c = 0.0001 gives an answer" in message(base.FloorInUnitsOfY)
    assert "c = 10000 gives an answer" in message(base.StepInUnitsOfY)
    assert "the answer moves by" in message(base.StartsAtPinv)
    assert "in units of 1: 'converged' after the first step, but" in message(base.SaysConverged)
    assert "in units of 0.0001: 'converged' after the first step, but" in message(base.StopsByUnitsOfY)


def test_the_item_check_sees_every_item():
    """A coupling that leaves the first item alone, as x - x.cumsum(0) of the others would."""

    class LaterItems(base.Sound):
        def made(self, index, x, speed):
            x = torch.cat([x[:1], x[1:] - 1e-6 * x[:1].expand_as(x[1:])]) if len(x) > 1 else x
            return super().made(index, x, speed)

    with pytest.raises(AssertionError, match="item 1"):
        check_item_alone(LaterItems(steps=4))


def test_figures_are_those_of_a_law_that_is_known():
    """A solver that draws from the posterior of a white prior itself: no bias but that of sampling, 3 standard errors of the chains."""

    class Exact(base.SoundSampler):
        def iterate(self, problem, prior, rng, start=None):
            x = self.drawn(problem, problem.image + 0.5, 0.5, rng)
            yield base.Step(0, 1, x, x)

    row = next(iter(rows(Exact())))
    assert row.case == "S"
    assert row.found.mean < 3 / CHAINS**0.5
    assert abs(row.found.trace - 1) < 3 * (2 / CHAINS) ** 0.5
    assert row.found.cov < 3 * (9 / CHAINS) ** 0.5
    assert abs(row.slope - 1) < 0.1
    # the prior's own mean and spread: 4 of 8 directions measured, so about twice the variance
    assert 1.5 < row.prior.trace < 2.5

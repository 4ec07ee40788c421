"""invsolve check: skips, the bias table of a solver, noise models."""

import re
from unittest import SkipTest

import pytest
from click.testing import CliRunner
from places import ROOT

from invsolve.cli import main
from invsolve.testing.cases import ExpectedFailure, failures

HERE = ROOT / "tests" / "faults"


def check(*arguments):
    return CliRunner().invoke(main, ["check", *arguments])


@pytest.fixture
def strangers(monkeypatch):
    """The plug-in of the tests, as a module that lies about, not registered."""
    monkeypatch.syspath_prepend(str(HERE))


def test_a_strangers_solver_gets_its_bias_table_after_the_checks(strangers):
    done = check("solver", "planted_faults_solvers:SoundSampler", "-k", "check_posterior")
    assert done.exit_code == 0, done.stdout
    lines = done.stdout.splitlines()
    heading = next(
        index for index, line in enumerate(lines) if re.match(r"case +prior +mean/s\.d\. +cov\. err\. +trace +W2/prior +slope", line)
    )
    assert lines[0].startswith("PASS  solver planted_faults_solvers:SoundSampler  check_posterior")
    assert "SoundSampler(steps=8), at its default number of steps" in lines[heading - 1]
    rows = [line.split() for line in lines[heading + 1 : heading + 4]]
    assert [row[:2] for row in rows] == [["S", "denoiser"], ["G", "denoiser"], ["I", "denoiser"]]
    assert all(0 < float(row[2]) < 1 and 0.5 < float(row[4]) < 2 for row in rows)
    assert lines[-1] == "1 passed, 0 failed"


def test_a_failure_has_its_table_too_and_the_exit_code(strangers):
    done = check("solver", "planted_faults_solvers:NoiseDoubled", "-k", "check_posterior")
    assert done.exit_code == 1
    assert "FAIL  solver planted_faults_solvers:NoiseDoubled  check_posterior" in done.stdout
    assert "mean/s.d." in done.stdout
    assert done.stdout.splitlines()[-1] == "0 passed, 1 failed"


def test_without_the_posterior_check_there_is_no_table(strangers):
    assert "mean/s.d." not in check("solver", "planted_faults_solvers:SoundSampler", "-k", "check_value").output
    assert "mean/s.d." not in check("noise", "gaussian").output


def test_a_check_that_finds_nothing_to_look_at_is_skipped_with_the_reason(strangers):
    done = check("solver", "contract_plugin:Twice", "-k", "check_unit")
    assert done.exit_code == 0, done.stdout
    assert done.stdout.startswith("SKIP  solver contract_plugin:Twice  check_unit_invariance  no problem can be written in another unit: ")
    assert done.stdout.splitlines()[-1] == "0 passed, 1 skipped, 0 failed"


def test_noise_models_are_checked():
    done = check("noise", "poisson")
    assert done.exit_code == 0, done.stdout
    assert "PASS  noise poisson  check_likelihood" in done.stdout
    assert "there are checks for operator, prior, noise, solver; not for suite" in check("suite", "quick").output


def test_a_skip_is_neither_a_failure_nor_a_pass_that_was_not_expected():
    def nothing(subject):
        raise SkipTest("nothing there")

    assert failures(None, [("check_nothing", nothing)]) == {}
    with pytest.raises(SkipTest):
        ExpectedFailure("check_nothing", nothing, "known")(None)

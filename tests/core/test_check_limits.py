"""invsolve check: a check that never ends, or leaves by another door, is a failure with its name; Ctrl-C stops."""

import signal
import sys
import time
from dataclasses import dataclass

import pytest
from click.testing import CliRunner

from invsolve.cli import main
from invsolve.cli.check import fault_of
from invsolve.operator import Capability
from invsolve.solution import Step
from invsolve.solver import Requires, Solver


@dataclass(frozen=True)
class Endless(Solver):
    """Never yields."""

    requires = Requires(operator=frozenset({Capability.ADJOINT}))

    def iterate(self, problem, prior, rng, start=None):
        while True:
            time.sleep(0.01)
        yield Step(0, 1, problem.image, problem.image)


@dataclass(frozen=True)
class Exits(Solver):
    """Calls a library that calls sys.exit."""

    requires = Requires(operator=frozenset({Capability.ADJOINT}))

    def iterate(self, problem, prior, rng, start=None):
        sys.exit(3)
        yield Step(0, 1, problem.image, problem.image)


@dataclass(frozen=True)
class NoExamples(Solver):
    """Skips a test where examples are wanted."""

    @classmethod
    def examples(cls):
        pytest.skip("not installed")


@pytest.fixture(autouse=True)
def here(monkeypatch, request):
    monkeypatch.syspath_prepend(str(request.path.parent))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an alarm signal")
def test_a_check_that_never_ends_is_named_while_it_runs_and_fails_at_the_limit(monkeypatch):
    monkeypatch.setattr("invsolve.cli.check.NOTICE", 0.1)
    done = CliRunner().invoke(main, ["check", "solver", f"{__name__}:Endless", "-k", "check_steps", "--limit", "1"])
    assert done.exit_code == 1
    assert f"running: solver {__name__}:Endless  check_steps (for 0.1 s so far)" in done.stderr
    assert "FAIL" in done.stdout
    assert "it took more than 1 seconds (--limit)" in done.stdout


def test_sys_exit_is_a_failure_of_its_check():
    done = CliRunner().invoke(main, ["check", "solver", f"{__name__}:Exits", "-k", "check_steps"])
    assert done.exit_code == 1
    assert "check_steps  SystemExit: 3" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 passed, 1 failed"


def test_examples_that_skip_are_a_failure():
    done = CliRunner().invoke(main, ["check", "solver", f"{__name__}:NoExamples"])
    assert done.exit_code == 1
    assert "FAIL" in done.stdout
    assert "Skipped: not installed" in done.stdout


def test_ctrl_c_goes_through():
    with pytest.raises(KeyboardInterrupt):
        fault_of(lambda _: signal.raise_signal(signal.SIGINT), None)

"""Every operator in the registry, on its own examples, against every check that applies: a new entry is tested unasked."""

import re
import subprocess
import sys
from pathlib import Path

import invsolve_operators
import pytest
from invsolve_operators.catalogue import ENTRIES

from invsolve import Capability, Operator, registry
from invsolve.errors import UnknownNameError
from invsolve.testing import failures, operator_cases, operator_checks
from invsolve.testing.cases import ExpectedFailure

EXAMPLES = [operator for entry in registry().of("operator") for operator in entry.load().examples()]
OURS = tuple(name for name, *_ in ENTRIES)


@pytest.mark.parametrize(("operator", "check"), operator_cases(*EXAMPLES))
def test_conformance(operator, check):
    check(operator)


@pytest.mark.parametrize("name", OURS)
def test_first_party_examples_cover_what_breaks(name):
    """Every first-party operator has several examples, one of them not square."""
    examples = registry().load("operator", name).examples()
    assert len(examples) >= 2
    assert any(operator.in_shape[1] != operator.in_shape[2] for operator in examples)


def test_the_stub_names_what_the_catalogue_has():
    """Type checkers read __init__.pyi, everybody else the catalogue."""
    stub = (Path(invsolve_operators.__file__).parent / "__init__.pyi").read_text()
    named = set(re.findall(r"^from \.([\w.]+) import (\w+) as \2$", stub, re.MULTILINE))
    assert named == {(module, cls) for _, cls, module, _ in ENTRIES}


def test_registry_names():
    assert set(OURS) <= set(registry().names("operator"))


def test_import_needs_no_torch():
    code = (
        "import sys, invsolve_operators as o; assert 'torch' not in sys.modules; "
        "from invsolve_operators import GaussianBlur, Mask; print(len(o.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(len(OURS))


def test_checks_need_no_pytest():
    code = (
        "import sys; from invsolve.testing import operator_cases; from invsolve_operators import Mask; "
        "[check(operator) for operator, check in operator_cases(Mask((1, 4, 4)))]; assert 'pytest' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Double(Operator):
    """y = 2 x, linear by trait, with a wrong pinv."""

    traits = frozenset({Capability.LINEAR})

    def __init__(self, in_shape=(1, 3, 3)):
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)

    def forward(self, x):
        return 2 * x

    def pinv(self, y):
        return y


def test_expected_failures_are_strict():
    wrong = {"check_pinv": "returns y instead of y / 2"}
    assert "check_pinv" in failures(Double(), operator_checks(Double()))
    assert failures(Double(), operator_checks(Double(), wrong)) == {}
    stale = failures(Double(), operator_checks(Double(), {**wrong, "check_adjoint": "was wrong once"}))
    assert list(stale) == ["check_adjoint"]
    assert "remove it from expected_failures" in stale["check_adjoint"]


def test_expected_failures_need_a_known_name_and_a_reason():
    with pytest.raises(UnknownNameError, match="check_pinv"):
        operator_cases(Double(), expected_failures={"check_pniv": "misspelt"})
    with pytest.raises(ValueError, match="reason"):
        operator_cases(Double(), expected_failures={"check_pinv": " "})


def test_expected_failure_may_apply_to_some_operators_only():
    operators = (Double(), registry().build("operator", "identity", in_shape=(1, 3, 3)))
    cases = operator_cases(*operators, expected_failures={"check_pinv": "one is wrong"})
    turned = {case.values[0]: case.values[1] for case in cases if isinstance(case.values[1], ExpectedFailure)}
    turned[operators[0]](operators[0])
    with pytest.raises(AssertionError, match="remove it"):
        turned[operators[1]](operators[1])

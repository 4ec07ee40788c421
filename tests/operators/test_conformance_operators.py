"""Every operator in the registry against every check that applies, by turns on one of its examples: a new entry is tested unasked."""

import subprocess
import sys
from pathlib import Path

import invsolve_operators
import pytest
import torch
from fresh_cases import run_fresh
from invsolve_operators.preset import Preset
from turns import by_turns, sparser

import invsolve.solvers
from invsolve import Capability, Operator, registry
from invsolve.errors import UnknownNameError
from invsolve.plugins.listing import listed
from invsolve.testing import failures, operator_cases, operator_checks
from invsolve.testing.cases import ExpectedFailure

EXAMPLES = [operator for entry in registry().of("operator") for operator in entry.load().examples()]
OURS = tuple(entry.name for entry in registry().of("operator") if entry.target.startswith("invsolve_operators."))


def cell(operator, check):
    """A class and a check; tensors among the arguments fit one size, so that `check_larger` skips what has some."""
    one_size = check.__name__ == "check_larger" and any(isinstance(value, torch.Tensor) for value in operator.arguments.values())
    return type(operator), (check.__name__, one_size)


def cases():
    """A check of a class by one of its examples; of the presets, which are classes of ours with their arguments fixed, a third each."""
    return sparser(3, by_turns(operator_cases(*EXAMPLES), cell), lambda operator: isinstance(operator, Preset))


@pytest.mark.parametrize(("operator", "check"), cases())
def test_conformance(operator, check):
    check(operator)


@pytest.mark.parametrize("name", OURS)
def test_first_party_examples_cover_what_breaks(name):
    """Every first-party operator has several examples, one of them not square."""
    examples = registry().load("operator", name).examples()
    assert len(examples) >= 2
    assert any(operator.in_shape[1] != operator.in_shape[2] for operator in examples)


@pytest.mark.parametrize("package", [invsolve_operators, invsolve.solvers], ids=lambda package: package.__name__)
def test_every_line_of_the_list_of_a_package_is_an_entry(package):
    """Type checkers and the registry read the same lines of `__init__.pyi`; one whose comment is malformed would be no entry.

    A line without a comment is a public name and no entry: cascade is a call that makes a solution.
    """
    stub = (Path(package.__file__).parent / "__init__.pyi").read_text()
    imports = [line for line in stub.splitlines() if line.startswith("from ") and "#" in line]
    without = [line.split()[-1] for line in stub.splitlines() if line.startswith("from ") and "#" not in line]
    assert without == (["Stage", "cascade"] if package is invsolve.solvers else [])
    assert len(imports) == len(list(listed(package.__file__)))
    for name, target, summary in listed(package.__file__):
        kind = "solver" if package is invsolve.solvers else "operator"
        entry = registry().entry(kind, name)
        assert entry.target == package.__name__ + target
        assert entry.summary == summary
        assert getattr(package, target.partition(":")[2]) is entry.load()


def test_a_line_without_a_name_and_a_summary_is_no_entry(tmp_path):
    lines = [
        "from .a.b import C as C  # c-c: what it is",
        "from .a import D as D",
        "from .a import E as F  # e: not itself",
        "x: int  # y: z",
    ]
    (tmp_path / "__init__.pyi").write_text("\n".join(lines))
    assert list(listed(str(tmp_path / "__init__.py"))) == [("c-c", ".a.b:C", "what it is")]


def test_import_needs_no_torch():
    code = "import sys, invsolve_operators as o; print(len(o.__all__)); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(len(OURS))


def test_checks_need_no_pytest(tmp_path):
    code = (
        "import sys; from invsolve.testing import operator_cases; from invsolve_operators import Mask; "
        "[check(operator) for operator, check in operator_cases(Mask((1, 4, 4)))]; assert 'pytest' not in sys.modules"
    )
    done = run_fresh(code, tmp_path)
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

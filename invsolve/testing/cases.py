"""What all conformance checks share: checks by name, cases for pytest, failures that are expected.

A check is a function of one subject (an operator, a prior, a solver) that raises AssertionError with what it found. pytest is
not needed to run one.

What is known not to hold is stated where everybody sees it, in the class, and then holds for `invsolve check` and the cases alike:

    class Ringing(Operator):
        expected_failures = {"check_pinv": "the filter is truncated at 1e-3"}

It is strict: a check that is listed and passes is a failure. A property in place of the class attribute lets instances differ.

A check that finds nothing to look at raises unittest.SkipTest with the reason, which pytest and `invsolve check` show as skipped.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from unittest import SkipTest

from torch import Tensor

from invsolve.errors import UnknownNameError, did_you_mean

Subject = TypeVar("Subject")
Check = Callable[[Any], None]
Checks = list[tuple[str, Check]]


def need(condition: bool | Tensor, message: str) -> None:
    """AssertionError unless the condition holds; a plain assert would vanish under python -O."""
    if not bool(condition):
        raise AssertionError(message)


def named(*checks: Check) -> Checks:
    """(name, check) pairs, the name being the function's."""
    return [(getattr(check, "__name__", type(check).__name__), check) for check in checks]


@dataclass(frozen=True)
class ExpectedFailure:
    """A check that must fail, for a stated reason; if it passes, the statement is out of date and that is the failure.

    Args:
        name: of the check.
        check: the check.
        reason: why it fails.
    """

    name: str
    check: Check
    reason: str

    @property
    def __name__(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return f"{self.name}-expected-to-fail"

    def __call__(self, subject: Any) -> None:
        """Raise AssertionError if the check passes."""
        try:
            self.check(subject)
        except SkipTest:
            raise
        except Exception:
            return
        raise AssertionError(f"{self.name} passes, but was expected to fail ({self.reason}): remove it from expected_failures")


def with_expected(checks: Checks, expected_failures: Mapping[str, str] | None, known: Iterable[str] = ()) -> Checks:
    """The checks, those named in `expected_failures` turned round.

    Args:
        checks: of one subject.
        expected_failures: reason by check name.
        known: further names that are legal although they do not apply to this subject.

    Raises:
        UnknownNameError: a name that is no check's.
        ValueError: a reason is missing.
    """
    expected = dict(expected_failures or {})
    legal = {name for name, _ in checks} | set(known)
    for name, reason in expected.items():
        if name not in legal:
            raise UnknownNameError(f"no check '{name}'{did_you_mean(name, legal)} There are: {', '.join(sorted(legal))}")
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(f"the expected failure of '{name}' needs a reason")
    plain = [(name, check.check if isinstance(check, ExpectedFailure) and name in expected else check) for name, check in checks]
    return [(name, ExpectedFailure(name, check, expected[name]) if name in expected else check) for name, check in plain]


def declared(subject: Any) -> Mapping[str, str]:
    """The failures that the subject itself expects, reason by check name; none unless it says so."""
    return getattr(subject, "expected_failures", None) or {}


def chosen(subject: Any, checks: Iterable[Check], every: Iterable[Check], expected_failures: Mapping[str, str] | None = None) -> Checks:
    """Checks of one subject by name, with what it declares itself turned round, and what the caller adds.

    Args:
        subject: the object.
        checks: those that apply to it.
        every: all of its kind: what a class may declare, though it does not apply to each of its instances.
        expected_failures: reason by check name.
    """
    from invsolve.testing.world import InOddWorld

    odd: Checks = [(name, InOddWorld(check)) for name, check in named(*checks)]
    own = with_expected(odd, declared(subject), (name for name, _ in named(*every)))
    return with_expected(own, expected_failures)


def build_cases(
    subjects: Iterable[Subject], checks_of: Callable[[Subject], Checks], expected_failures: Mapping[str, str] | None = None
) -> list[Any]:
    """(subject, check) pairs for pytest.mark.parametrize("subject, check", ...), with readable ids under pytest.

    Args:
        subjects: the objects.
        checks_of: the checks that apply to one.
        expected_failures: reason by check name; each must be the name of a check of at least one subject.

    Raises:
        UnknownNameError: an expected failure that is no check's.
    """
    listed = [(subject, checks_of(subject)) for subject in subjects]
    known = {name for _, checks in listed for name, _ in checks}
    pytest = sys.modules.get("pytest")
    cases: list[Any] = []
    for index, (subject, checks) in enumerate(listed):
        for name, check in with_expected(checks, expected_failures, known):
            label = f"{type(subject).__name__}-{index}-{name}"
            cases.append((subject, check) if pytest is None else pytest.param(subject, check, id=label))
    return cases


def failures(subject: Any, checks: Checks) -> dict[str, str]:
    """What does not hold, by check name: empty when the subject conforms. For command lines and reports."""
    found = {}
    for name, check in checks:
        try:
            check(subject)
        except SkipTest:
            continue
        except AssertionError as error:
            found[name] = str(error)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found

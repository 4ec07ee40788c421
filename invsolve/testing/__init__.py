"""Conformance checks that anyone can run on their own operators, priors, noise models and solvers; pytest is not needed to run them.

@pytest.mark.parametrize("operator, check", operator_cases(*MyOperator.examples()))
def test_conformance(operator, check):
    check(operator)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invsolve.testing.cases import failures
    from invsolve.testing.denoisers import denoiser_cases, denoiser_checks, prior_cases, prior_checks, regulariser_cases, regulariser_checks
    from invsolve.testing.noises import noise_cases, noise_checks
    from invsolve.testing.operators import operator_cases, operator_checks
    from invsolve.testing.solvers import solver_cases, solver_checks

_HOME = {
    "denoiser_cases": "denoisers",
    "denoiser_checks": "denoisers",
    "failures": "cases",
    "noise_cases": "noises",
    "noise_checks": "noises",
    "operator_cases": "operators",
    "operator_checks": "operators",
    "prior_cases": "denoisers",
    "prior_checks": "denoisers",
    "regulariser_cases": "denoisers",
    "regulariser_checks": "denoisers",
    "solver_cases": "solvers",
    "solver_checks": "solvers",
}

__all__ = [
    "denoiser_cases",
    "denoiser_checks",
    "failures",
    "noise_cases",
    "noise_checks",
    "operator_cases",
    "operator_checks",
    "prior_cases",
    "prior_checks",
    "regulariser_cases",
    "regulariser_checks",
    "solver_cases",
    "solver_checks",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"invsolve.testing.{_HOME[name]}"), name)
    raise AttributeError(f"module 'invsolve.testing' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""What every operator, noise model, prior and solver promises, checked on ours."""

from collections.abc import Callable
from typing import Any

import pytest
from invsolve_template.noise import LaplaceNoise
from invsolve_template.operator import Vignette
from invsolve_template.prior import Ridge
from invsolve_template.solver import ProximalGradient

from invsolve import registry
from invsolve.testing import noise_cases, operator_cases, prior_cases, solver_cases

Check = Callable[[Any], None]


@pytest.mark.parametrize(("operator", "check"), operator_cases(*Vignette.examples()))
def test_operator(operator: Vignette, check: Check) -> None:
    """Shapes, precision, items, linearity, adjoint, SVD, pseudo-inverse, prox."""
    check(operator)


@pytest.mark.parametrize(("noise", "check"), noise_cases(*LaplaceNoise.examples()))
def test_noise(noise: LaplaceNoise, check: Check) -> None:
    """What is drawn against nll, sigma and variance; streams and units."""
    check(noise)


@pytest.mark.parametrize(("prior", "check"), prior_cases(*Ridge.examples()))
def test_prior(prior: Ridge, check: Check) -> None:
    """The value per item and its gradient, the prox against its own objective."""
    check(prior)


@pytest.mark.parametrize(("solver", "check"), solver_cases(*ProximalGradient.examples()))
def test_solver(solver: ProximalGradient, check: Check) -> None:
    """Refusals, seeds, items, callbacks, resuming, honest counts."""
    check(solver)


def test_registered() -> None:
    """The entry point of the installed distribution brings all of them in."""
    assert registry().load("operator", "template-vignette") is Vignette
    assert registry().load("noise", "template-laplace") is LaplaceNoise
    assert registry().load("prior", "template-ridge") is Ridge
    assert registry().load("solver", "template-proximal-gradient") is ProximalGradient

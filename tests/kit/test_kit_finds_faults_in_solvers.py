"""One line of a built-in solver changed, as a slip would: a check of the kit finds it, and passes the solver as it is."""

import inspect
import sys
import types
from unittest import SkipTest

import pytest
from sweeps import thinned

from invsolve.solvers import ADMM, DDRM, DPS, HQS, AdamTV, DiffPIR, ScoreALD
from invsolve.testing.posterior import check_posterior
from invsolve.testing.shifts import check_moved, check_positive
from invsolve.testing.units import check_converged, check_unit_invariance

# solver, the line as it is, the slip, the check that finds it
FAULTS = {
    "adam-tv: the cut at 0": (
        AdamTV,
        "            x = x.clamp_min(0) if self.positive else x\n            value,",
        "            value,",
        check_positive,
    ),
    "hqs, TV: the answer's cut": (HQS, "answer = z[:, 0].clamp_min(0) if self.positive else z[:, 0]", "answer = z[:, 0]", check_positive),
    "hqs, denoiser: the cut": (HQS, "            z = z.clamp_min(0) if self.positive else z\n", "", check_positive),
    "admm, TV: the answer's cut": (ADMM, "answer = z[:, 0].clamp_min(0) if self.positive else z[:, 0]", "answer = z[:, 0]", check_positive),
    "admm, denoiser: the cut": (ADMM, "            new = new.clamp_min(0) if self.positive else new\n", "", check_positive),
    "admm: sigma / level not squared": (
        ADMM,
        "rho = self.strength * (sigma / level) ** 2",
        "rho = self.strength * (sigma / level)",
        check_posterior,
    ),
    "admm: a dual tolerance in no unit": (
        ADMM,
        "small = torch.maximum(rho * rms(u), sigma**2)",
        "small = torch.ones_like(sigma)",
        check_converged,
    ),
    "diffpir: tau three times": (
        DiffPIR,
        "return spread / (self.weight * noise_of(problem) ** 2)",
        "return 3 * spread / (self.weight * noise_of(problem) ** 2)",
        check_posterior,
    ),
    "diffpir: a root forgotten": (
        DiffPIR,
        "renoised(x, x0_hat, sigma, following, self.zeta, rng)",
        "x0_hat + following / sigma * (1 - self.zeta) * (x - x0_hat) + following * math.sqrt(self.zeta) * rng.normal_like(x)",
        check_posterior,
    ),
    "ddrm: a level not squared": (DDRM, "- (pull * measured.level).square()", "- (pull * measured.level)", check_posterior),
    "ddrm: eta lost where nothing is measured": (
        DDRM,
        "(1 - trust.square()).sqrt() * kept",
        "(1 - trust.square()).sqrt()",
        check_posterior,
    ),
    "dps: a floor of counts in no unit": (DPS, ".clamp_min(problem.noise.quantum**2)", ".clamp_min(1e-4)", check_unit_invariance),
    "ddrm: starts about 1/2": (DDRM, "problem.image + prior.centre", "problem.image + 0.5", check_moved),
    "diffpir: starts about 1/2": (
        DiffPIR,
        "first, x = initial(problem, prior,",
        "first, x = initial(problem, about_half(prior),",
        check_moved,
    ),
    "dps: starts about 1/2": (DPS, "first, x = initial(problem, prior,", "first, x = initial(problem, about_half(prior),", check_moved),
    "score-ald: starts about 1/2": (
        ScoreALD,
        "first, x = initial(problem, prior,",
        "first, x = initial(problem, about_half(prior),",
        check_moved,
    ),
    "dps: estimates cut to images": (DPS, "clean = problem.operator(x0_hat)", "clean = problem.operator(x0_hat.clamp(0, 1))", check_moved),
}

HALF = """

def about_half(prior):
    import copy
    twin = copy.copy(prior)
    twin.centre = 0.5
    return twin
"""


def planted(cls, right, wrong):
    """The class from its module's text with one line changed."""
    source = inspect.getsource(sys.modules[cls.__module__])
    assert source.count(right) == 1, f"{source.count(right)} times in {cls.__module__}: {right!r}"
    module = types.ModuleType(f"planted_{cls.__name__}")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(source.replace(right, wrong) + HALF, f"{module.__name__}.py", "exec"), module.__dict__)
    return getattr(module, cls.__name__)


def found(cls, check):
    """What the check says of the class's examples, until one fails; None where all pass."""
    for example in cls.examples():
        try:
            check(example)
        except SkipTest:
            continue
        except AssertionError as error:
            return str(error)
    return None


@pytest.mark.parametrize("name", FAULTS)
def test_a_slip_is_found(name):
    cls, right, wrong, check = FAULTS[name]
    assert found(planted(cls, right, wrong), check) is not None


SOUND = [
    pytest.param(*one, id="-".join(part.__name__ for part in one)) for one in {fault[0]: fault[::3] for fault in FAULTS.values()}.values()
]


# In a plain run each check with one class; the others are conformance's.
@pytest.mark.parametrize(
    ("cls", "check"), thinned(SOUND, set({one.values[1]: place for place, one in enumerate(SOUND)}.values()).__contains__)
)
def test_the_solver_itself_passes(cls, check):
    """What the planting leaves of a class is that class; its other checks are those of test_conformance_solvers."""
    assert found(planted(cls, "from __future__ import annotations\n", "from __future__ import annotations\n"), check) is None

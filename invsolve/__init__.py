"""invsolve: imaging inverse problems y = H(x) + n, composed of an operator, a noise model, a prior and a solver.

Names are imported at first use, so that `import invsolve` and the command line's help do not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invsolve.algebra import Stack
    from invsolve.complex_data import AsComplex
    from invsolve.errors import CapabilityError, CompatibilityError, InputError, InvsolveError
    from invsolve.estimate import estimate_noise
    from invsolve.hookspecs import hookimpl
    from invsolve.krylov import KrylovSVD
    from invsolve.linalg import IterativePinv, IterativeProx
    from invsolve.noise import Ability, GaussianNoise, NoiseModel, NoNoise, PoissonNoise
    from invsolve.operator import Capability, Operator
    from invsolve.plugins import load_prior, registry
    from invsolve.problem import Problem
    from invsolve.rng import Rng
    from invsolve.solution import Solution, Status, Step
    from invsolve.solver import Requires, Solver
    from invsolve.svd import SVD
    from invsolve.which import which_solvers

_HOME = {
    "Ability": "noise",
    "AsComplex": "complex_data",
    "Capability": "operator",
    "CapabilityError": "errors",
    "CompatibilityError": "errors",
    "GaussianNoise": "noise",
    "InputError": "errors",
    "InvsolveError": "errors",
    "IterativePinv": "linalg",
    "IterativeProx": "linalg",
    "KrylovSVD": "krylov",
    "NoNoise": "noise",
    "NoiseModel": "noise",
    "Operator": "operator",
    "PoissonNoise": "noise",
    "Problem": "problem",
    "Requires": "solver",
    "Rng": "rng",
    "SVD": "svd",
    "Solution": "solution",
    "Solver": "solver",
    "Stack": "algebra",
    "Status": "solution",
    "Step": "solution",
    "estimate_noise": "estimate",
    "hookimpl": "hookspecs",
    "load_prior": "plugins",
    "registry": "plugins",
    "which_solvers": "which",
}

__all__ = [
    "SVD",
    "Ability",
    "AsComplex",
    "Capability",
    "CapabilityError",
    "CompatibilityError",
    "GaussianNoise",
    "InputError",
    "InvsolveError",
    "IterativePinv",
    "IterativeProx",
    "KrylovSVD",
    "NoNoise",
    "NoiseModel",
    "Operator",
    "PoissonNoise",
    "Problem",
    "Requires",
    "Rng",
    "Solution",
    "Solver",
    "Stack",
    "Status",
    "Step",
    "estimate_noise",
    "hookimpl",
    "load_prior",
    "registry",
    "which_solvers",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"invsolve.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'invsolve' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Which problems there are: names and arguments, without anything that takes time to import."""

from __future__ import annotations

from dataclasses import dataclass

OPERATORS = ("mask", "blur", "decimation", "dense")
SIGMAS = (0.005, 0.05, 0.5)
INCREMENTS = ("laplace", "student", "bernoulli-laplace")


@dataclass(frozen=True)
class Spec:
    """One problem.

    Args:
        name: what it is called.
        maker: the function of `problems` that makes it.
        arguments: of that function.
        most: evaluations beyond which it is too dear for the run.
    """

    name: str
    maker: str
    arguments: tuple[str | int | float, ...]
    most: int = 1000


def gaussian(cov: str, operator: str, sigma: float, most: int = 1000) -> Spec:
    """A Gaussian vector or field."""
    return Spec(f"{cov} {operator} {sigma:g}", "gaussian", (cov, operator, sigma), most)


def field(sigma: float) -> Spec:
    """A blurred 256 x 256 field: 20 evaluations are seconds."""
    return Spec(f"field 256 blur {sigma:g}", "field", (sigma,), most=20)


def two_modes(operator: str, sigma: float) -> Spec:
    """Two modes."""
    return Spec(f"two modes {operator} {sigma:g}", "two_modes", (operator, sigma))


def grid(size: int, rows: int, most: int = 1000) -> Spec:
    """MCGdiff's 25 modes."""
    return Spec(f"25 modes d={size} m={rows}", "grid", (size, rows), most)


def levy(increments: str, operator: str, sigma: float, most: int = 1000) -> Spec:
    """A Levy process."""
    return Spec(f"{increments} {operator} {sigma:g}", "levy", (increments, operator, sigma), most)


SHORT: dict[str, Spec] = {
    one.name: one
    for one in (
        gaussian("white", "dense", 0.05),
        gaussian("correlated", "mask", 0.05),
        gaussian("correlated", "dense", 0.005),
        gaussian("exponential", "mask", 0.005),
        gaussian("exponential", "decimation", 0.05, most=20),
        gaussian("exponential", "dense", 0.5, most=20),
        gaussian("smooth", "mask", 0.5, most=20),
        gaussian("smooth", "blur", 0.05),
        gaussian("smooth", "dense", 0.005),
        field(0.05),
        two_modes("dense", 0.05),
        grid(8, 1),
        grid(80, 1),
        grid(800, 1, most=20),
        levy("laplace", "blur", 0.05, most=20),
        levy("student", "decimation", 0.05, most=20),
        levy("bernoulli-laplace", "mask", 0.05),
    )
}
FULL: dict[str, Spec] = {
    one.name: one
    for one in (
        *(gaussian(c, o, s) for c in ("white", "correlated", "exponential", "smooth") for o in OPERATORS for s in SIGMAS),
        *(field(s) for s in SIGMAS),
        *(two_modes(o, s) for o in ("mask", "dense") for s in SIGMAS),
        *(grid(d, m) for d in (8, 80, 800) for m in (1, 2, 4)),
        *(levy(k, o, s, most=100) for k in INCREMENTS for o in OPERATORS for s in SIGMAS),
    )
}


@dataclass(frozen=True)
class Control:
    """A setting that the oracle is held by.

    Args:
        target: "module:attribute".
        budgets: evaluations.
        rows: rows of noise up to which its law is exact.
    """

    target: str
    budgets: tuple[int, ...]
    rows: int = 4500


CONTROLS: dict[str, Control] = {
    "ot-ode, all products": Control("invsolve_benchmarks.truth.controls:OT_ODE", (100,)),
    "mmps, all products": Control("invsolve_benchmarks.truth.controls:MMPS_ALL", (100, 250)),
}


def controlled(spec: Spec) -> bool:
    """Whether the controls run on a problem: Gaussian, y of at most 16 entries; 144 are a hundred times as dear to solve for."""
    if spec.maker != "gaussian":
        return False
    cov, operator, _ = spec.arguments
    return cov in ("white", "correlated") or operator in ("decimation", "dense")

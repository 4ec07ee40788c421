"""The ends of every hyperparameter's range: what is allowed to the end, and refused just beyond it."""

import math

import pytest

from invsolve.errors import InputError
from invsolve.solvers import ADMM, DDIM, DDRM, DPS, HQS, RLTV, AdamTV, DiffPIR, Heun, ScoreALD

ABOVE, BELOW = 1 + 1e-9, -1e-9
WHOLE = (0, -1, 2.5)

# class, hyperparameter, what is allowed (the ends too), what is not (just beyond them)
RANGES = [
    (DDIM, "eta", (0, 0.5, 1), (BELOW, ABOVE, math.nan)),
    (DDRM, "eta", (0, 1), (BELOW, ABOVE, math.nan)),
    (DDRM, "eta_b", (0, 1), (BELOW, ABOVE, math.nan)),
    (DiffPIR, "zeta", (0, 1), (BELOW, ABOVE, math.nan)),
    (DiffPIR, "weight", (1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
    (DiffPIR, "variance", ("posterior", "noise"), ("other",)),
    (DPS, "scale", (None, 0, 1.999), (BELOW, 2.0, math.inf, math.nan)),
    (DPS, "zeta", (None, 0, 1), (BELOW, ABOVE, math.nan)),
    (Heun, "churn", (0, 1e9), (BELOW, math.inf, math.nan)),
    (Heun, "s_noise", (1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
    (ScoreALD, "inner", (1, 5), (0, -1, 1.5)),
    (ScoreALD, "step", (1e-9, 1 - 1e-9), (0, 1, -0.5, math.nan)),
    (ScoreALD, "gamma", (0, 1e9), (BELOW, math.inf, math.nan)),
    (ScoreALD, "noise", ("consistent", "langevin"), ("other",)),
    (HQS, "steps", (None, 1, 100), WHOLE),
    (HQS, "growth", (None, 1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
    (HQS, "sigma_start", (None, 1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
    (HQS, "fidelity", (None, 1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
    (HQS, "noise", (None, 0, 1), (BELOW, ABOVE, math.nan)),
    (HQS, "relaxation", (None, 1e-9, 1), (0, BELOW, ABOVE, math.nan)),
    (HQS, "sigma_end", (None, 1e-9, 49 / 255), (0, -1.0, 49 / 255 + 1e-9, math.nan)),
    (ADMM, "steps", (None, 1, 100), WHOLE),
    (ADMM, "rho", (None, 1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
    (ADMM, "strength", (1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
    (ADMM, "tol", (0, 1e9), (BELOW, math.nan)),
    (ADMM, "relaxation", (1e-9, 2 - 1e-9), (0, 2, BELOW, math.nan)),
    (AdamTV, "steps", (1, 100), WHOLE),
    (AdamTV, "lr", (1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
    (AdamTV, "eps", (1e-9, 1.0), (0, -1.0, math.nan)),
    (AdamTV, "betas", ((0, 0), (0.9, 1 - 1e-9)), ((0.9,), (0.9, 0.9, 0.9), (0.9, 1.0), (1.0, 0.9), (BELOW, 0.9), (0.9, BELOW))),
    (RLTV, "steps", (1, 100), WHOLE),
    (RLTV, "inner", (1, 100), WHOLE),
]


@pytest.mark.parametrize(
    ("cls", "name", "inside", "outside"), RANGES, ids=lambda one: getattr(one, "__name__", one if isinstance(one, str) else "")
)
def test_the_ends_of_every_range(cls, name, inside, outside):
    for value in inside:
        assert getattr(cls(**{name: value}), name) == value
    for value in outside:
        with pytest.raises(InputError, match=name):
            cls(**{name: value})

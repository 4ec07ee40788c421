"""The prior of this plug-in: images are near mid grey."""

import math

from torch import Tensor

from invsolve import InputError
from invsolve.operator.measurement import column
from invsolve.priors import Regulariser


class Ridge(Regulariser):
    """R(x) = 1/2 sum (x - 1/2)^2, whose prox is (x + tau / 2) / (1 + tau).

    Args:
        weight: in front of R: solvers minimise nll(y, Hx) + weight R(x).

    Raises:
        InputError: a weight that is negative or not finite.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        if not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"weight must be finite and not negative; given {weight}")
        self.weight = float(weight)

    def value(self, x: Tensor) -> Tensor:
        """R(x) per item, (B,), without the weight."""
        return (x - 0.5).square().flatten(1).sum(1) / 2

    def prox(self, x: Tensor, tau: float | Tensor) -> Tensor:
        """argmin_u R(u) + |u - x|^2 / (2 tau); tau a float or (B,)."""
        tau = column(tau, x)
        return (x + tau / 2) / (1 + tau)

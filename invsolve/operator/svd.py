"""The singular value decomposition of an operator as a value: H = U diag(s) V^T on the whole image space.

Contract. `Vt(x)` is real and orthonormal on the image space, of shape (B, *spec) with prod(spec) = n; `s` has shape spec
or (B, *spec), non-negative, 0 marking the null space; `Ut(y)` returns (B, *spec), 0 where s = 0, and `U` ignores those
entries. Nothing is sorted. U is an isometry on s > 0 only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.operator.measurement import column


def rank_rule(s: Tensor, rows: int, columns: int) -> Tensor:
    """s with every entry <= eps max(rows, columns) s_max set to 0, eps of s's dtype; for one operator: a batched
    one goes item by item, or an item's rank would depend on its neighbours.

    The matrix-rank rule of numerical linear algebra; nothing above it is dropped.
    """
    largest = s.max() if s.numel() else torch.zeros((), dtype=s.dtype)
    return torch.where(s > torch.finfo(s.dtype).eps * max(rows, columns) * largest, s, torch.zeros_like(s))


@dataclass(frozen=True)
class SVD:
    """H = U diag(s) V^T with callables for the factors; see the module for the contract.

    Args:
        s: singular values, shape spec or (B, *spec).
        U, Ut: spectrum (B, *spec) -> (B, *out_shape) and back.
        V, Vt: spectrum (B, *spec) -> (B, *in_shape) and back.
    """

    s: Tensor
    U: Callable[[Tensor], Tensor]
    Ut: Callable[[Tensor], Tensor]
    V: Callable[[Tensor], Tensor]
    Vt: Callable[[Tensor], Tensor]

    def values(self, like: Tensor) -> Tensor:
        """s in like's real dtype and device."""
        return self.s.to(like.device, like.real.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """H x."""
        return self.U(self.values(x) * self.Vt(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """H^T y."""
        return self.V(self.values(y) * self.Ut(y))

    def pinv(self, y: Tensor) -> Tensor:
        """H^+ y: minimum-norm least squares."""
        return self.V(reciprocal(self.values(y)) * self.Ut(y))

    def prox(self, z: Tensor, y: Tensor, tau: float | Tensor) -> Tensor:
        """argmin_x 1/2 |Hx - y|^2 + 1/(2 tau) |x - z|^2, in the residual form z + V [s / (s^2 + 1/tau) (U^T y - s V^T z)].

        tau = inf projects z onto the least-squares solutions; tau = 0 returns z.
        """
        s = self.values(z)
        tau = torch.as_tensor(tau, dtype=s.dtype, device=s.device)
        spectrum = self.Vt(z)
        tau = column(tau, spectrum) if tau.ndim else tau
        gain = torch.where(s > 0, tau.clamp_max(torch.finfo(s.dtype).max) * s / (1 + tau * s * s), torch.zeros_like(s))
        gain = torch.where(torch.isinf(tau * s * s), reciprocal(s).expand_as(gain), gain)
        return z + self.V(gain * (self.Ut(y) - s * spectrum))

    def null(self, x: Tensor) -> Tensor:
        """The part of x that H does not see: x - V (1[s > 0] V^T x)."""
        return x - self.V((self.values(x) > 0) * self.Vt(x))


def reciprocal(s: Tensor) -> Tensor:
    """1 / s, and 0 where s = 0."""
    return torch.where(s > 0, 1 / s.clamp_min(torch.finfo(s.dtype).tiny), torch.zeros_like(s))

"""A truncated SVD of any linear operator: the explicit door to solvers that work in the spectrum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.measurement import parts
from invsolve.operator import Capability, Operator
from invsolve.rng import Rng
from invsolve.svd import SVD, rank_rule

# Bytes that the two bases may take: above it the numbers are named instead.
LIMIT = 2 << 30
CHECKS = 10


class KrylovSVD(Operator):
    """H_k = U_k S_k V_k^T, the part of H on its k largest singular values, as an operator with an exact SVD of its own.

    An approximation of H that must be asked for. By block subspace iteration in float64 on a random start; V is completed to an
    orthonormal basis of the whole image space by k Householder reflections, so memory is k (n + m) numbers. `residual` bounds
    |H - H_k| (spectral norm): it is below that but with probability 1e-10.

    Args:
        operator: linear, with an adjoint and one set of parameters for all items.
        rank: k, at most min(n, m).
        iterations: of the subspace; each costs 2 (k + 10) products with H and H^T.
        seed: of the random start.

    Raises:
        InputError: rank out of range or larger than 2 GiB allow, parameters per item, complex measurements, a Stack.
        CapabilityError: no adjoint.

    References:
        Finding Structure with Randomness (Halko, Martinsson, Tropp, 2011), SIAM Review 53(2), arXiv:0909.4061: algorithm 4.4 for
        the subspace, equation 4.3 for the bound (10 probes).
    """

    values: Tensor
    left: Tensor
    reflectors: Tensor
    scales: Tensor
    signs: Tensor

    def __init__(self, operator: Operator, rank: int, iterations: int = 4, seed: int = 0) -> None:
        super().__init__()
        if not isinstance(operator, Operator):
            raise InputError(f"KrylovSVD takes an operator; given {type(operator).__name__}")
        operator.need(Capability.LINEAR)
        operator.need(Capability.ADJOINT)
        if operator.stacked or operator.complex_output or operator.batch is not None:
            raise InputError(f"KrylovSVD takes one real operator for all items; take {operator.label}[i], or its parts, one by one")
        n, m = math.prod(operator.in_shape), math.prod(operator.out_shapes[0])
        if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= min(n, m):
            raise InputError(f"rank must be a whole number from 1 to {min(n, m)} for {n} pixels and {m} measurements; given {rank!r}")
        if not isinstance(iterations, int) or iterations < 0:
            raise InputError(f"iterations must be a whole number, at least 0; given {iterations!r}")
        size = 8 * (rank + 10) * (n + m)
        if size > LIMIT:
            most = LIMIT // (8 * (n + m)) - 10
            raise InputError(f"rank {rank} of {n} x {m} takes {size / 2**30:.1f} GiB; at most {max(most, 0)} fits into {LIMIT >> 30} GiB")
        self.in_shape, self.out_shape = operator.in_shape, operator.out_shape
        self.output_range = None
        self.support = operator.supports[0]
        left, values, right = subspace(operator, rank, iterations, seed)
        values = rank_rule(values, m, n)
        self.register_buffer("values", values)
        self.register_buffer("left", left)
        reflectors, scales = torch.geqrf(right)
        self.register_buffer("reflectors", reflectors)
        self.register_buffer("scales", scales)
        self.register_buffer("signs", reflectors.diagonal().sign())
        self.residual = remainder(operator, right, values > 0, seed)

    @property
    def supports(self) -> tuple[Tensor | None, ...]:
        """The operator's own."""
        return (self.support,)

    def forward(self, x: Tensor) -> Tensor:
        """H_k x."""
        return self.svd().forward(x)

    def _turn(self, c: Tensor, transpose: bool) -> Tensor:
        """Q c or Q^T c of (B, n), Q the product of the reflections: its first k columns are V_k but for signs."""
        out = torch.ormqr(self.like("reflectors", c), self.like("scales", c), c.mT.contiguous(), left=True, transpose=transpose)
        return out.mT

    def svd(self) -> SVD:
        """s on a flat spectrum (n,), 0 from the rank on."""
        rank = len(self.values)
        s = torch.nn.functional.pad(self.values, (0, math.prod(self.in_shape) - rank))

        def signed(c: Tensor) -> Tensor:
            return torch.cat([c[:, :rank] * self.like("signs", c), c[:, rank:]], dim=1)

        def known(c: Tensor) -> Tensor:
            return c[:, :rank] * (self.like("values", c) > 0)

        def left_transposed(y: Tensor) -> Tensor:
            first = known(y.flatten(1) @ self.like("left", y))
            return torch.nn.functional.pad(first, (0, len(s) - rank))

        return SVD(
            s,
            lambda c: (known(c) @ self.like("left", c).mT).reshape(len(c), *self.out_shapes[0]),
            left_transposed,
            lambda c: self._turn(signed(c), transpose=False).reshape(len(c), *self.in_shape),
            lambda x: signed(self._turn(x.flatten(1), transpose=True)),
        )

    def extra_repr(self) -> str:
        """The rank, the largest value and what is left out."""
        most = float(self.values.max()) if len(self.values) else 0.0
        return f"{super().extra_repr()}, rank {len(self.values)}, |H_k| = {most:.4g}, |H - H_k| <= {self.residual:.2g}"


def products(operator: Operator, columns: Tensor, *, adjoint: bool = False) -> Tensor:
    """H (or H^T) on the columns of a matrix (n, k), as a matrix (m, k)."""
    shape = operator.out_shapes[0] if adjoint else operator.in_shape
    stack = columns.mT.reshape(-1, *shape)
    out = []
    for chunk in stack.split(max(1, (1 << 22) // max(1, stack[0].numel()))):
        out.append(parts(operator.adjoint(chunk) if adjoint else operator(chunk))[0].flatten(1))
    return torch.cat(out).mT


@torch.no_grad()
def subspace(operator: Operator, rank: int, iterations: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """U (m, k), s (k,) and V (n, k) of H's largest singular values, float64."""
    n, m = math.prod(operator.in_shape), math.prod(operator.out_shapes[0])
    width = min(rank + 10, n, m)
    like = torch.empty(0, dtype=torch.float64, device=operator.device)
    start = Rng(seed, (0,), purpose="krylov").normal((n, width), like)[0]
    basis = torch.linalg.qr(start).Q
    for _ in range(iterations):
        image = torch.linalg.qr(products(operator, basis)).Q
        basis = torch.linalg.qr(products(operator, image, adjoint=True)).Q
    image, triangle = torch.linalg.qr(products(operator, basis))
    inner, values, turned = torch.linalg.svd(triangle)
    return (image @ inner)[:, :rank].contiguous(), values[:rank].contiguous(), (basis @ turned.mT)[:, :rank].contiguous()


@torch.no_grad()
def remainder(operator: Operator, right: Tensor, kept: Tensor, seed: int) -> float:
    """10 sqrt(2 / pi) max_i |(H - H_k) w_i| over ten normal vectors w_i: above |H - H_k| but with probability 1e-10."""
    probes = Rng(seed, (1,), purpose="krylov").normal((len(right), CHECKS), right)[0]
    held = right[:, kept]
    rest = products(operator, probes - held @ (held.mT @ probes))
    return 10 * math.sqrt(2 / math.pi) * float(rest.norm(dim=0).max())

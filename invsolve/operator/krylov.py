"""A truncated SVD of any linear operator: the explicit door to solvers that work in the spectrum."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator.contract import Capability, Operator
from invsolve.operator.matrix import MatrixOperator
from invsolve.operator.measurement import Measurement, parts
from invsolve.operator.svd import SVD, rank_rule
from invsolve.rng import Rng

# Bytes that the two bases may take: above it the numbers are named instead.
LIMIT = 2 << 30
CHECKS = 10


class KrylovSVD(Operator):
    """H_k = U_k S_k V_k^T, the part of H on its k largest singular values, as an operator with an exact SVD of its own.

    An approximation of H that must be asked for. By block subspace iteration in float64 on a random start; V is completed to an
    orthonormal basis of the whole image space by k Householder reflections, so memory is k (n + m) numbers, for each item where
    the parameters differ per item. `residual` bounds |H - H_k| (spectral norm, the largest item's) but with probability 1e-10.
    A complex measurement counts as two real ones.

    Args:
        operator: linear, with an adjoint.
        rank: k, at most min(n, m).
        iterations: of the subspace; each costs 2 (k + 10) products with H and H^T.
        seed: of the random start.

    Raises:
        InputError: rank out of range or larger than 2 GiB allow, complex images, a Stack.
        CapabilityError: no adjoint.

    References:
        Finding Structure with Randomness (Halko, Martinsson, Tropp, 2011), SIAM Review 53(2), arXiv:0909.4061: algorithm 4.4 for
        the subspace, equation 4.3 for the bound (10 probes).
    """

    door: ClassVar[str] = "rank=..."  # how `which_solvers` writes it, see `Registry.add`
    values: Tensor
    left: Tensor
    reflectors: Tensor
    scales: Tensor
    signs: Tensor
    support: Tensor | None

    def __init__(self, operator: Operator, rank: int, iterations: int = 4, seed: int = 0) -> None:
        super().__init__()
        if not isinstance(operator, Operator):
            raise InputError(f"KrylovSVD takes an operator; given {type(operator).__name__}")
        operator.need(Capability.LINEAR)
        operator.need(Capability.ADJOINT)
        if operator.stacked or operator.complex_input:
            raise InputError(f"KrylovSVD takes real images and gives one measurement; take the parts of {operator.label} one by one")
        n, m = math.prod(operator.in_shape), math.prod(operator.out_shapes[0]) * (2 if operator.complex_output else 1)
        if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= min(n, m):
            raise InputError(f"rank must be a whole number from 1 to {min(n, m)} for {n} pixels and {m} measurements; given {rank!r}")
        if not isinstance(iterations, int) or not 0 <= iterations <= 1000:  # far beyond where anything still moves
            raise InputError(f"iterations must be a whole number from 0 to 1000; given {iterations!r}")
        count = operator.batch or 1
        size = 8 * (rank + 10) * (n + m) * count
        if size > LIMIT:
            most = LIMIT // (8 * (n + m) * count) - 10
            each = "" if operator.batch is None else f" for {count} items"
            raise InputError(f"rank {rank} of {n} x {m}{each} takes {size / 2**30:.1f} GiB; {max(most, 0)} fits into {LIMIT >> 30} GiB")
        self.batch = operator.batch
        self.in_shape, self.out_shape, self.complex_output = operator.in_shape, operator.out_shape, operator.complex_output
        support = operator.supports[0]
        self.register_buffer("support", None if support is None else support.clone())
        left, values, right = subspace(operator, rank, iterations, seed)
        values = torch.stack([rank_rule(one, m, n) for one in values])
        self.residual = remainder(operator, right, values > 0, seed)
        reflectors, scales = torch.geqrf(right)
        signs = reflectors.diagonal(dim1=-2, dim2=-1).sign()
        held = {"values": values, "left": left, "reflectors": reflectors, "scales": scales, "signs": signs}
        for name, value in held.items():
            self.register_buffer(name, value[0].contiguous() if self.batch is None else value)

    def select(self, items: range) -> Operator:
        """The items' factors; not computed anew, or vectors of equal singular values could turn."""
        chosen = object.__new__(type(self))
        inner = self.arguments["operator"].select(items)
        state = {**self.__getstate__(), "arguments": {**self.arguments, "operator": inner}, "batch": len(items)}
        held = {name: None if value is None else value[list(items)] for name, value in self._buffers.items() if name != "support"}
        support = inner.supports[0]
        vars(chosen).update(state, _buffers={**held, "support": None if support is None else support.to(self.device)})
        return chosen

    @property
    def supports(self) -> tuple[Tensor | None, ...]:
        """The operator's own."""
        return (self.support,)

    @staticmethod
    def opens(operator: Operator) -> bool:
        """Whether it can be made of a linear operator: not of a Stack."""
        return not operator.stacked

    @classmethod
    def examples(cls) -> list[Operator]:
        """Less than the rank of a wide and a tall matrix, and of one per image."""
        wide, tall, each = MatrixOperator.examples()
        return [cls(wide, 4), cls(tall, 3), cls(each, 2)]

    def forward(self, x: Tensor) -> Tensor:
        """H_k x."""
        return self.svd().forward(x)

    def _turn(self, c: Tensor, transpose: bool) -> Tensor:
        """Q c or Q^T c of (B, n), Q the product of the reflections: its first k columns are V_k but for signs."""
        columns = c.mT.contiguous() if self.batch is None else c.unsqueeze(-1)
        out = torch.ormqr(self.like("reflectors", c), self.like("scales", c), columns, left=True, transpose=transpose)
        return out.mT if self.batch is None else out.squeeze(-1)

    def svd(self) -> SVD:
        """s on a flat spectrum, (n,) or (B, n), 0 from the rank on."""
        rank, size = self.values.shape[-1], math.prod(self.in_shape)

        def signed(c: Tensor) -> Tensor:
            return torch.cat([c[:, :rank] * self.like("signs", c), c[:, rank:]], dim=1)

        def known(c: Tensor) -> Tensor:
            return c[:, :rank] * (self.like("values", c) > 0)

        def left_transposed(y: Tensor) -> Tensor:
            first = known(rows_times(rows_of(y), self.like("left", y)))
            return torch.nn.functional.pad(first, (0, size - rank))

        return SVD(
            torch.nn.functional.pad(self.values, (0, size - rank)),
            lambda c: from_rows(rows_times(known(c), self.like("left", c).mT), self),
            left_transposed,
            lambda c: self._turn(signed(c), transpose=False).reshape(len(c), *self.in_shape),
            lambda x: signed(self._turn(x.flatten(1), transpose=True)),
        )

    def extra_repr(self) -> str:
        """The rank, the largest value and what is left out."""
        most = float(self.values.max()) if self.values.numel() else 0.0
        rank = self.values.shape[-1]
        return f"{super().extra_repr()}, rank {rank}, |H_k| = {most:.4g}, |H - H_k| <= {self.residual:.2g}"


def rows_times(c: Tensor, matrix: Tensor) -> Tensor:
    """c A, row by row, with one matrix (n, k) for all or one for each, (B, n, k)."""
    return c @ matrix if matrix.ndim == 2 else (c.unsqueeze(-2) @ matrix).squeeze(-2)


def rows_of(y: Measurement) -> Tensor:
    """A measurement as real rows (B, m), a complex number as two of its entries."""
    part = parts(y)[0]
    return (torch.view_as_real(part.resolve_conj()) if part.is_complex() else part).flatten(1)


def from_rows(rows: Tensor, operator: Operator) -> Tensor:
    """The inverse of `rows_of`, (B, *out_shape) as the operator gives it."""
    shape = operator.out_shapes[0]
    if not operator.complex_output:
        return rows.reshape(len(rows), *shape)
    return torch.view_as_complex(rows.reshape(len(rows), *shape, 2).contiguous())


def products(operator: Operator, columns: Tensor, *, adjoint: bool = False) -> Tensor:
    """H (or H^T) on the columns of matrices (B, n, k), B = 1 for an operator that serves all items; (B, m, k)."""

    def product(rows: Tensor) -> Tensor:
        if adjoint:
            return operator.adjoint(from_rows(rows, operator)).flatten(1)
        return rows_of(operator(rows.reshape(len(rows), *operator.in_shape)))

    if operator.batch is not None:  # one column of every item at a time
        return torch.stack([product(one) for one in columns.unbind(-1)], dim=-1)
    rows = columns[0].mT
    return torch.cat([product(chunk) for chunk in rows.split(max(1, (1 << 22) // max(1, rows.shape[1])))]).mT[None]


@torch.no_grad()
def subspace(operator: Operator, rank: int, iterations: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """U (B, m, k), s (B, k) and V (B, n, k) of H's largest singular values, float64; B = 1 for one operator."""
    n, m = math.prod(operator.in_shape), math.prod(operator.out_shapes[0]) * (2 if operator.complex_output else 1)
    width = min(rank + 10, n, m)
    like = torch.empty(0, dtype=torch.float64, device=operator.device)
    start = Rng(seed, (0,), purpose="krylov").normal((n, width), like)
    basis = torch.linalg.qr(start).Q.expand(operator.batch or 1, n, width)
    for _ in range(iterations):
        image = torch.linalg.qr(products(operator, basis)).Q
        basis = torch.linalg.qr(products(operator, image, adjoint=True)).Q
    image, triangle = torch.linalg.qr(products(operator, basis))
    inner, values, turned = torch.linalg.svd(triangle)
    return (image @ inner)[..., :rank].contiguous(), values[:, :rank].contiguous(), (basis @ turned.mT)[..., :rank].contiguous()


@torch.no_grad()
def remainder(operator: Operator, right: Tensor, kept: Tensor, seed: int) -> float:
    """10 sqrt(2 / pi) max_i |(H - H_k) w_i| over ten normal vectors w_i: above |H - H_k| but with probability 1e-10."""
    probes = Rng(seed, (1,), purpose="krylov").normal((right.shape[1], CHECKS), right).expand(len(right), -1, -1)
    held = right * kept.unsqueeze(-2)
    rest = products(operator, probes - held @ (held.mT @ probes))
    return 10 * math.sqrt(2 / math.pi) * float(rest.norm(dim=-2).max())

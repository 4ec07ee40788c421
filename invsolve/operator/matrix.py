"""Matrices as operators: y = A x for a dense A (with its SVD by LAPACK below a stated size) or a sparse one (which stays sparse).

An image is read in the order of its memory: x.flatten(1), channel by channel, row by row.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator.cache import kept
from invsolve.operator.complex_data import AsComplex
from invsolve.operator.contract import Capability, Operator, Shape
from invsolve.operator.function import checked_shape, linear_map
from invsolve.operator.measurement import Measurement, check_kind
from invsolve.operator.svd import SVD, rank_rule

SVD_SIDE = 2048  # LAPACK takes about 4 s there on one core, and V holds 32 MiB
FLOATS = (torch.float32, torch.float64)
LINEAR_ONLY = frozenset({Capability.LINEAR, Capability.ADJOINT, Capability.DIFFERENTIABLE})


class MatrixOperator(Operator):
    """y = A x with a dense A, also one per image; made by `Operator.from_matrix`.

    Up to 2048 rows and columns it has an SVD, and with it pinv and prox, by LAPACK in float64: computed at the first use (the time is
    spent there, the capability is there from the start) and kept. Larger ones are linear with an adjoint; `IterativeProx(H)` is
    the explicit approximation. Singular values follow the rank rule eps max(m, n) s_max, eps of float64.

    Args:
        matrix: (m, n), or (B, m, n) for one per image; numbers or a numpy array too. float32 and float64 are kept.
        in_shape: prod(in_shape) = n.
        out_shape: prod(out_shape) = m; default (m,).

    Raises:
        InputError: another rank, a size that does not fit, not finite entries, complex ones (`Operator.from_matrix` takes them).
    """

    out_shape: Shape
    matrix: Tensor

    def __init__(self, matrix: Any, in_shape: Sequence[int], out_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        dense = numbers(matrix)
        if dense.ndim not in (2, 3):
            raise InputError(f"a matrix must be (m, n), or (B, m, n) for one per image; given {tuple(dense.shape)}")
        self.in_shape, self.out_shape = fitted_shapes(tuple(dense.shape[-2:]), in_shape, out_shape)
        self.batch = len(dense) if dense.ndim == 3 else None
        self.register_buffer("matrix", dense)

    def _complete(self) -> None:
        """Remember the matrix as it was taken: the user's own may change, and one copy is enough."""
        super()._complete()
        self.arguments["matrix"] = self.matrix

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All of the SVD's up to the stated size, else linear with an adjoint."""
        found = LINEAR_ONLY | {Capability.SVD, Capability.PINV, Capability.PROX}
        return found if max(self.matrix.shape[-2:]) <= SVD_SIDE else LINEAR_ONLY

    def select(self, items: range) -> Operator:
        """The items' matrices."""
        return MatrixOperator(self.matrix[list(items)], self.in_shape, self.out_shape)

    def forward(self, x: Tensor) -> Tensor:
        """A x."""
        expected(self, x, self.in_shape, "x")
        return times(self.like("matrix", x), x).reshape(len(x), *self.out_shape)

    def adjoint(self, y: Measurement) -> Tensor:
        """A^T y."""
        assert isinstance(y, Tensor)
        expected(self, y, self.out_shape, "y")
        return times(self.like("matrix", y).mT, y).reshape(len(y), *self.in_shape)

    def _factors(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """U (m, k), s (n,) and V (n, n), or one of each per image, in like's precision and place."""
        with torch.no_grad():
            exact = kept(self, self.matrix, "factors", lambda: factored(self.matrix.detach().to(torch.float64, copy=True)))
        dtype, device = like.real.dtype, like.device
        return kept(
            self,
            self.matrix,
            ("factors", dtype, device),
            lambda: (exact[0].to(device, dtype), exact[1].to(device, dtype), exact[2].to(device, dtype)),
        )

    def svd(self) -> SVD:
        """U and V by LAPACK, s padded with 0 to n values."""
        self.need(Capability.SVD)

        def seen(c: Tensor) -> Tensor:
            left, s, _ = self._factors(c)
            return (c * (s > 0))[:, : left.shape[-1]]

        def left(c: Tensor) -> Tensor:
            return times(self._factors(c)[0], seen(c)).reshape(len(c), *self.out_shape)

        def left_transposed(y: Tensor) -> Tensor:
            matrix, s, _ = self._factors(y)
            c = times(matrix.mT, y)
            return torch.nn.functional.pad(c, (0, s.shape[-1] - c.shape[1])) * (s > 0)

        def right(c: Tensor) -> Tensor:
            return times(self._factors(c)[2], c).reshape(len(c), *self.in_shape)

        def right_transposed(x: Tensor) -> Tensor:
            return times(self._factors(x)[2].mT, x)

        s = self._factors(torch.empty(0, dtype=torch.float64, device=self.matrix.device))[1]
        return SVD(s, left, left_transposed, right, right_transposed)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Wide, tall without full rank, and one per image."""
        wide = torch.linspace(-1, 1, 7 * 12, dtype=torch.float64).sin().reshape(7, 12) + torch.eye(7, 12)
        tall = torch.arange(60, dtype=torch.float32).cos().reshape(10, 6)
        tall[:, 5] = tall[:, 0] + tall[:, 1]
        each = torch.arange(3 * 4 * 6, dtype=torch.float64).mul(1.7).sin().reshape(3, 4, 6)
        return [cls(wide, (3, 2, 2)), cls(tall, (1, 2, 3), (2, 5)), cls(each, (1, 3, 2), (1, 2, 2))]


class TwoProducts(Operator):
    """Base of what knows y = A x and x = A^T y only as two products that autograd cannot see into: each is the other's derivative."""

    out_shape: Shape

    @abstractmethod
    def _ahead(self, x: Tensor) -> Tensor:
        """A x."""

    @abstractmethod
    def _back(self, y: Tensor) -> Tensor:
        """A^T y."""

    def forward(self, x: Tensor) -> Tensor:
        """A x."""
        expected(self, x, self.in_shape, "x")
        return linear_map(x, self._ahead, self._back)

    def adjoint(self, y: Measurement) -> Tensor:
        """A^T y; of a complex A the real part of A^H y."""
        assert isinstance(y, Tensor)
        expected(self, y, self.out_shape, "y")
        return linear_map(y, self._back, self._ahead)


class SparseMatrixOperator(TwoProducts):
    """y = A x with a sparse A, kept as the list of its entries; made by `Operator.from_matrix`. Linear, with the exact adjoint.

    An SVD of a small one: `Operator.from_matrix(A.toarray(), ...)`; of a large one, the leading part:
    `scipy.sparse.linalg.svds(H.to_scipy())`.

    Args:
        matrix: (m, n): anything of scipy.sparse, or a sparse torch tensor.
        in_shape: prod(in_shape) = n.
        out_shape: prod(out_shape) = m; default (m,).

    Raises:
        InputError: not sparse, a size that does not fit, complex or not finite entries.
    """

    traits = LINEAR_ONLY
    values: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, matrix: Any, in_shape: Sequence[int], out_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        if not is_sparse(matrix):
            raise InputError(f"expected a matrix of scipy.sparse or a sparse tensor; given {type(matrix).__name__}")
        if len(matrix.shape) != 2:
            raise InputError(f"a sparse matrix must be (m, n); given {tuple(matrix.shape)}")
        self.in_shape, self.out_shape = fitted_shapes(tuple(matrix.shape), in_shape, out_shape)
        if isinstance(matrix, Tensor):
            entries = matrix.detach().to_sparse_coo().coalesce()
            (rows, columns), values = entries.indices(), entries.values()
        else:
            entries = matrix.tocsr(copy=True)
            entries.sum_duplicates()
            entries = entries.tocoo()
            rows, columns, values = entries.row, entries.col, entries.data
        for name, index in (("rows", rows), ("columns", columns)):
            self.register_buffer(name, torch.as_tensor(index).to(torch.int64, copy=True))
        self.register_buffer("values", numbers(values))

    def _ahead(self, x: Tensor) -> Tensor:
        return self._product(x, transposed=False).reshape(len(x), *self.out_shape)

    def _back(self, y: Tensor) -> Tensor:
        return self._product(y, transposed=True).reshape(len(y), *self.in_shape)

    def _product(self, x: Tensor, *, transposed: bool) -> Tensor:
        return (self._compiled(x, transposed=transposed) @ x.flatten(1).mT).mT

    def _compiled(self, like: Tensor, *, transposed: bool) -> Tensor:
        """A or A^T as a sparse tensor in like's precision and place, made once."""

        def compiled() -> Tensor:
            size = (math.prod(self.out_shape), math.prod(self.in_shape))
            index = torch.stack([self.columns, self.rows] if transposed else [self.rows, self.columns])
            with torch.no_grad():
                values, turned = self.values.detach().to(like.dtype, copy=True), size[::-1] if transposed else size
                return torch.sparse_coo_tensor(index, values, turned, check_invariants=True).coalesce().to(like.device)

        return kept(self, self.values, (like.dtype, like.device, transposed), compiled)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Horizontal differences, and a matrix with empty rows."""
        index = torch.tensor([[0, 0, 2, 4], [0, 5, 3, 3]])
        some = torch.sparse_coo_tensor(index, torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64), (5, 6), check_invariants=True)
        return [cls(some, (1, 2, 3)), cls(torch.eye(12).roll(1, 0).to_sparse(), (3, 2, 2), (3, 4))]


def matrix_operator(matrix: Any, in_shape: Sequence[int], out_shape: Sequence[int] | None = None) -> Operator:
    """The operator of a matrix: sparse stays sparse, A + iB is [A; B] with a complex y put together."""
    kind = SparseMatrixOperator if is_sparse(matrix) else MatrixOperator
    size = tuple(getattr(matrix, "shape", None) or np.shape(matrix)) if has_complex(matrix) else ()
    if len(size) not in (2, 3):
        return kind(matrix, in_shape, out_shape)
    _, shape = fitted_shapes(size[-2:], in_shape, out_shape)
    doubled = (2 * shape[0], *shape[1:])
    return AsComplex(doubled) @ kind(both_parts(matrix), in_shape, doubled)


def has_complex(matrix: Any) -> bool:
    """Whether it holds complex numbers; False for what is no matrix, which the constructors refuse."""
    if isinstance(matrix, Tensor):
        return matrix.is_complex()
    try:
        return np.iscomplexobj(matrix)
    except (TypeError, ValueError):
        return False


def both_parts(matrix: Any) -> Any:
    """[A; B] of A + iB: (2m, n), of a batch (B, 2m, n)."""
    if not is_sparse(matrix):
        dense = matrix.detach() if isinstance(matrix, Tensor) else torch.as_tensor(np.asarray(matrix))
        return torch.cat([dense.real, dense.imag], dim=-2)
    if isinstance(matrix, Tensor):
        entries = matrix.detach().to_sparse_coo().coalesce()
        values = entries.values()
        halves = (values.real, values.imag)
        return torch.cat([torch.sparse_coo_tensor(entries.indices(), half, entries.shape, check_invariants=True) for half in halves])
    from scipy.sparse import vstack

    return vstack([matrix.real, matrix.imag])


def is_sparse(matrix: Any) -> bool:
    """Whether it is a sparse tensor, or a matrix or array of scipy.sparse."""
    if isinstance(matrix, Tensor):
        return matrix.layout != torch.strided
    from scipy.sparse import issparse

    return bool(issparse(matrix))


def numbers(values: Any) -> Tensor:
    """A copy as a finite float32 or float64 tensor; whole numbers become float64, half precision float32.

    Raises:
        InputError: not numbers, complex, or not finite.
    """
    try:
        tensor = values.detach() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"a matrix is a tensor, an array or something of scipy.sparse; given {type(values).__name__}") from error
    if tensor.is_complex():
        raise InputError(
            "the matrix is complex: Operator.from_matrix(A + iB, ...) gives complex y of real images; of complex images, as pairs of real "
            "ones, it is from_matrix(A + iB, ...) @ AsComplex(...), or the real matrix [[A, -B], [B, A]]"
        )
    dtype = tensor.dtype if tensor.dtype in FLOATS else torch.float32 if tensor.is_floating_point() else torch.float64
    tensor = tensor.to(dtype, copy=True).contiguous()
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"the matrix has {int((~torch.isfinite(tensor)).sum())} NaN or infinite entries")
    return tensor


def fitted_shapes(size: tuple[int, ...], in_shape: Any, out_shape: Any) -> tuple[Shape, Shape]:
    """in_shape and out_shape, checked against (m, n).

    Raises:
        InputError: their numbers of entries are not n and m.
    """
    rows, columns = size
    shapes = checked_shape(in_shape, "in_shape"), checked_shape((rows,) if out_shape is None else out_shape, "out_shape")
    for what, shape, wanted, side in (("in_shape", shapes[0], columns, "columns"), ("out_shape", shapes[1], rows, "rows")):
        if math.prod(shape) != wanted:
            raise InputError(f"the matrix has {wanted} {side}, but {what} {shape} has {math.prod(shape)} entries")
    return shapes


def expected(operator: Operator, x: Tensor, shape: Shape, what: str) -> None:
    """Raise InputError unless x is a floating tensor (B, *shape), with the operator's B if it has one."""
    if not isinstance(x, Tensor):
        raise InputError(f"{what} must be a tensor, given {type(x).__name__}; torch.as_tensor makes one")
    # The matrix is taken in x's dtype, where whole numbers would cut off its fractions.
    check_kind(what, x, complex_too=True, halves=True)
    if x.shape[1:] != shape or operator.batch not in (None, len(x)):
        wanted = ", ".join(map(str, shape))
        raise InputError(f"{operator.label} takes {what} of shape ({operator.batch or 'B'}, {wanted}); given {tuple(x.shape)}")


def times(matrix: Tensor, x: Tensor) -> Tensor:
    """(B, m) from a matrix (m, n) or (B, m, n) and (B, ...) with n entries per item."""
    rows = x.flatten(1)
    return rows @ matrix.mT if matrix.ndim == 2 else (matrix @ rows[..., None])[..., 0]


def factored(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U (m, min(m, n)), s (n,) under the rank rule and V (n, n) of a matrix, or of each in a batch."""
    rows, columns = matrix.shape[-2:]
    left, s, right = torch.linalg.svd(matrix, full_matrices=True)
    s = torch.nn.functional.pad(s, (0, columns - s.shape[-1]))
    kept = torch.stack([rank_rule(one, rows, columns) for one in s]) if s.ndim == 2 else rank_rule(s, rows, columns)
    return left[..., : min(rows, columns)].contiguous(), kept, right.mT.contiguous()

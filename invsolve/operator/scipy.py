"""scipy.sparse.linalg.LinearOperator in and out; PyLops' operators, and whatever else has shape, matvec and rmatvec, come in too.

H = Operator.from_scipy(L, (1, 64, 64))          # through numpy, on the CPU; autograd goes through, by L's own rmatvec
scipy.sparse.linalg.lsqr(H.to_scipy(), y)        # one item, flattened
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from invsolve.errors import CapabilityError, InputError
from invsolve.operator.complex_data import continued, continued_adjoint
from invsolve.operator.contract import Capability, Operator, Shape
from invsolve.operator.matrix import TwoProducts, fitted_shapes, is_sparse
from invsolve.operator.measurement import flat
from invsolve.rng import Rng

Product = Callable[[np.ndarray], Any]


class ScipyOperator(TwoProducts):
    """y = L x for a linear operator of numpy vectors, item by item; made by `Operator.from_scipy`.

    Data go to the CPU and back, in their own precision. A complex L gives complex y; the adjoint on real images is the real part of
    L^H y, and `H @ AsComplex((2 C, H, W))` measures complex ones. Pickling works where L can be pickled.

    Args:
        foreign: has `shape` (m, n), and matvec and rmatvec (or _matvec and _rmatvec, or `@` and `.H`).
        in_shape: prod(in_shape) = n; an image is read channel by channel, row by row.
        out_shape: prod(out_shape) = m; default (m,).

    Raises:
        InputError: no products, no adjoint or a wrong one, or sizes that do not fit.
    """

    traits = frozenset({Capability.LINEAR})

    def __init__(self, foreign: Any, in_shape: Sequence[int], out_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        if isinstance(foreign, np.ndarray | Tensor) or is_sparse(foreign):
            raise InputError("a matrix comes in by Operator.from_matrix, which knows more about it")
        size = getattr(foreign, "shape", None)
        if not isinstance(size, tuple | list) or len(size) != 2:
            raise InputError(f"expected a linear operator with shape (m, n), matvec and rmatvec; given {type(foreign).__name__}")
        self.foreign = foreign
        self.in_shape, self.out_shape = fitted_shapes(tuple(map(int, size)), in_shape, out_shape)
        self.complex_output = False
        self._check()

    @property
    def label(self) -> str:
        """The foreign class, for messages."""
        return f"from_scipy({type(self.foreign).__name__})"

    def _check(self) -> None:
        """Both products once on white noise: kind, determinism, linearity and the dot test to half of the digits."""
        x, z = (Rng(seed, (0,), purpose="probe").normal(self.in_shape, torch.empty(0, dtype=torch.float64)) for seed in (0, 1))
        first = np.asarray(self._call("matvec", x.numpy().reshape(-1).copy()))
        declared = getattr(self.foreign, "dtype", None)
        self.complex_output = bool(np.iscomplexobj(first) or (declared is not None and np.dtype(declared).kind == "c"))
        image = self._ahead(x)
        y = Rng(2, (0,), purpose="probe").normal_like(image)
        back = self._through("rmatvec", y, self.in_shape)
        # L may compute in single precision whatever it is given: half of those digits then.
        slack = torch.finfo(torch.float32).eps ** 0.5
        if not torch.equal(image, self._ahead(x)):
            raise InputError(f"{self.label} gives another result for the same vector")
        size = float(image.norm())
        combined = self._ahead(2 * x - 3 * z) - 2 * image + 3 * self._ahead(z)
        if float(combined.norm()) > slack * max(size, float(x.norm()) * 1e-6) * 5:
            raise InputError(f"{self.label} is not linear: L(2x - 3z) differs from 2 Lx - 3 Lz by {float(combined.norm()):.3g}")
        left, right = (image.conj() * y).sum(), (x.conj() * back).sum()
        if float((left - right).abs()) > slack * (size * float(y.norm()) + float(x.norm()) * float(back.norm())):
            raise InputError(f"rmatvec of {self.label} is not the adjoint of matvec: <Lx, y> = {left:.6g}, <x, L^H y> = {right:.6g}")

    def _call(self, name: str, vector: np.ndarray) -> Any:
        try:
            return self._product(name)(vector)
        except (NotImplementedError, AttributeError) as error:
            need = "rmatvec (y -> L^H y), or L.H" if name == "rmatvec" else "matvec, or @"
            raise InputError(f"{self.label} has no {name}, and H must have its adjoint: give it {need}") from error

    def _product(self, name: str) -> Product:
        """matvec or rmatvec by the first name it is known under."""
        for known in (name, f"_{name}"):
            if callable(getattr(self.foreign, known, None)):
                return getattr(self.foreign, known)
        turned = self.foreign if name == "matvec" else self.foreign.H
        if not hasattr(turned, "__matmul__"):
            raise AttributeError(name)
        return turned.__matmul__

    def _through(self, name: str, x: Tensor, shape: Shape) -> Tensor:
        """A product of every item, by way of numpy."""
        dtype = x.dtype
        if self.complex_output and not x.is_complex():
            dtype = torch.promote_types(dtype, torch.complex64)
        rows = x.detach().cpu().resolve_conj().resolve_neg().flatten(1).numpy()
        out = np.zeros((len(rows), math.prod(shape)), dtype=np.dtype(str(dtype).removeprefix("torch.")))
        for index, row in enumerate(rows):
            result = np.asarray(self._call(name, row.copy())).reshape(-1)
            if result.size != out.shape[1]:
                raise InputError(f"{name} of {self.label} returned {result.size} values; its shape says {out.shape[1]}")
            if np.iscomplexobj(result) and not self.complex_output:
                raise InputError(f"{name} of {self.label} returned complex values; give it a complex dtype")
            out[index] = result
        return torch.from_numpy(out).reshape(len(rows), *shape).to(x.device)

    def _ahead(self, x: Tensor) -> Tensor:
        return self._through("matvec", x, self.out_shape)

    def _back(self, y: Tensor) -> Tensor:
        return self._through("rmatvec", y, self.in_shape).real

    def extra_repr(self) -> str:
        """The foreign class, shapes and abilities."""
        return f"{self.label}, {super().extra_repr()}"

    @classmethod
    def examples(cls) -> list[Operator]:
        """A matrix of scipy.sparse as a LinearOperator."""
        from scipy.sparse import eye_array
        from scipy.sparse.linalg import aslinearoperator

        return [cls(aslinearoperator(eye_array(12, format="csr") - eye_array(12, k=1, format="csr")), (1, 4, 3), (3, 4))]


class ScipyView(LinearOperator):
    """One item of an operator as scipy sees it: flat numpy vectors, (m, n); made by `operator.to_scipy`.

    A complex operator is continued to complex vectors, H x = H Re x + i H Im x: scipy's methods then look for a complex image.

    Args:
        operator: linear; without parameters of its own per image.
        dtype: numpy's; float64 (complex128 for a complex operator) unless said.

    Raises:
        CapabilityError: the operator is not linear.
        InputError: parameters for several images, or a dtype that does not fit.
    """

    def __init__(self, operator: Operator, dtype: Any = None) -> None:
        if not operator.has(Capability.LINEAR):
            raise CapabilityError(f"{operator.label} is not linear, and scipy's LinearOperator is")
        if operator.batch not in (None, 1):
            raise InputError(f"{operator.label} has parameters for {operator.batch} images; take one of them: operator[0].to_scipy()")
        kind = "c" if operator.complex_output else "f"
        try:
            chosen = np.dtype(("complex128" if kind == "c" else "float64") if dtype is None else dtype)
        except TypeError as error:
            raise InputError(f"dtype must be one of numpy's, such as 'float64'; given {dtype!r}") from error
        if chosen.kind != kind or chosen.name not in ("float32", "float64", "complex64", "complex128"):
            allowed = "complex64 or complex128" if kind == "c" else "float32 or float64"
            raise InputError(f"dtype must be {allowed} for {operator.label}; given {chosen.name}")
        self.operator = operator
        shapes = operator.out_shapes
        super().__init__(chosen, (sum(math.prod(shape) for shape in shapes), math.prod(operator.in_shape)))

    def _tensor(self, columns: np.ndarray) -> Tensor:
        """Columns as a batch of flat items."""
        rows = np.array(columns.reshape(len(columns), -1).T, dtype=self.dtype, order="C")
        return torch.from_numpy(rows).to(self.operator.device or "cpu")

    def _image(self, rows: Tensor) -> Tensor:
        return flat(continued(self.operator, rows.reshape(-1, *self.operator.in_shape)))

    def _behind(self, rows: Tensor) -> Tensor:
        shapes, pieces = self.operator.out_shapes, []
        for shape, piece in zip(shapes, rows.split([math.prod(shape) for shape in shapes], dim=1), strict=True):
            pieces.append(piece.reshape(-1, *shape))
        y = tuple(pieces) if self.operator.stacked else pieces[0]
        return (continued_adjoint(self.operator, y) if self.operator.complex_output else self.operator.adjoint(y)).flatten(1)

    def _apply(self, call: Callable[[Tensor], Tensor], columns: np.ndarray) -> np.ndarray:
        rows = self._tensor(columns)
        with torch.no_grad():
            # An operator made for a batch of one takes its columns one by one.
            done = call(rows) if self.operator.batch is None else torch.cat([call(row) for row in rows.split(1)])
        return done.cpu().resolve_conj().numpy().T

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._apply(self._image, x)[:, 0]

    def _rmatvec(self, x: np.ndarray) -> np.ndarray:
        return self._apply(self._behind, x)[:, 0]

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        return self._apply(self._image, X)

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        return self._apply(self._behind, X)

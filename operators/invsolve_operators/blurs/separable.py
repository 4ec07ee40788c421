"""Separable operators: Y = A_v X A_h^T per channel with two small dense matrices.

With A = U diag(s) V^T by LAPACK in float64 for each axis, when it is first asked for, H has V = V_v (x) V_h, U = U_v (x) U_h and
s = s_v s_h^T; the rank rule acts on the product. Cost: four matrix products of side length per channel, memory 2 (H^2 + W^2) numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Operator, Shape, image_shape
from invsolve.operator.cache import PLACE, kept, written
from invsolve.operator.svd import SVD
from invsolve_operators.blurs.kernels import gaussian_1d
from invsolve_operators.common import check_boundary, damping, expect, rank_is_sure, rank_text, ranked, size
from invsolve_operators.transforms.fourier import question_kernel

SIDES = ("vertical", "horizontal")
BOUNDARIES = ("zero", "reflect", "symmetric", "circular")
VALID = "valid"
SOON = 512  # a side that is decomposed in a tenth of a second


def factor(name: str, place: int) -> property:
    """One of `Separable.factors` as an attribute."""
    return property(lambda self: self.factors(name)[place])


class Separable(Operator):
    """Y = A_v X A_h^T, the base of separable blur and bicubic downsampling; of volumes the depth is multiplied by A_d, too.

    Args:
        in_shape: (C, H, W), or (C, D, H, W) of volumes.
        vertical: A_v, (h, H), or one per image (B, h, H).
        horizontal: A_h, (w, W), or (B, w, W).
        depth: A_d, (d, D), or (B, d, D), of volumes; the identity unless said.

    Raises:
        InputError: matrices that are not real and finite, or whose columns are not H, W and D.
    """

    channelwise = True
    out_shape: Shape
    vertical: Tensor
    horizontal: Tensor
    depth: Tensor

    def __init__(self, in_shape: Sequence[int], vertical: Tensor, horizontal: Tensor, depth: Tensor | None = None) -> None:
        super().__init__()
        self.in_shape = image_shape(in_shape, volumes=True)
        given = {"vertical": vertical, "horizontal": horizontal}
        if len(self.in_shape) == 4:
            given["depth"] = torch.eye(self.in_shape[1], dtype=torch.float64) if depth is None else depth
        elif depth is not None:
            raise InputError(f"depth is for volumes (C, D, H, W); given in_shape {self.in_shape}")
        for name, side in zip(given, (*self.in_shape[-2:], self.in_shape[1]), strict=False):
            check_matrix(name, given[name], side)
        sizes = {name: len(matrix) for name, matrix in given.items() if matrix.ndim == 3}
        if len(set(sizes.values())) > 1:
            raise InputError(", ".join(f"{name} is for {count} images" for name, count in sizes.items()))
        self.batch = next(iter(sizes.values()), None)
        self.counts = []
        for name, matrix in given.items():
            # One matrix per image stands before the channels (and slices): (B, 1, rows, columns).
            held = matrix.to(torch.float64)
            held = held.reshape(len(held), *[1] * (len(given) - 1), *held.shape[-2:]) if held.ndim == 3 else held
            # Columns of U beyond the number of columns of A have no partner in the image space.
            self.counts.append(min(held.shape[-2:]))
            self.register_buffer(name, held.contiguous())
        self.out_shape = (self.in_shape[0], *(m.shape[-2] for m in self.matrices()))
        low, high = self.interval()
        if low == 0 and high <= 1 + 1e-6:
            self.output_range = (0.0, 1.0)
        elif all(bool(((m.sum(-1) - 1).abs() < 1e-6).all()) for m in self.matrices()):
            self.output_range = (low, high)  # averages with negative weights, such as bicubic ones

    def factors(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """U, s and V of a side, made when they are first asked for, and anew after somebody wrote into its matrix."""
        matrix, place = getattr(self, name), (*SIDES, "depth").index(name)

        def made() -> tuple[Tensor, Tensor, Tensor]:
            for other in (*SIDES, "depth")[:place]:  # one decomposition serves sides with the same matrix
                known = getattr(self, other)
                if known.shape == matrix.shape and torch.equal(known, matrix):
                    return self.factors(other)
            left, singular, right = decomposed(self._exact(name).to("cpu", torch.float64), self.counts[place])
            return left.to(matrix.device), singular.to(matrix.device), right.to(matrix.device)

        return kept(self, matrix, (name, "factors"), made)

    left_vertical, right_vertical = factor("vertical", 0), factor("vertical", 2)
    left_horizontal, right_horizontal = factor("horizontal", 0), factor("horizontal", 2)
    left_depth, right_depth = factor("depth", 0), factor("depth", 2)

    @property
    def s(self) -> Tensor:
        """The products of the sides' singular values, 0 below the rank: (C or 1, H, W), of several (B, 1, H, W)."""
        matrices, state = self.matrices(), [written(one) for one in self.matrices()]
        cache = vars(self).setdefault(PLACE, {})
        known = cache.get("spectrum")
        if known is None or known[1] != state or any(one is not other for one, other in zip(known[0], matrices, strict=True)):
            product: Any = math.prod(self._spread([self.factors(name)[1] for name in self._order()]))
            with torch.inference_mode(False):
                found = ranked(product, size(self.out_shape), size(self.in_shape), batched=self.batch is not None)
            known = cache["spectrum"] = (matrices, state, found)
        return known[2]

    def _exact(self, name: str) -> Tensor:
        """A matrix with the digits that it had before a cast, if nobody has written into it since."""
        return kept(self, getattr(self, name), (name, "exact"), lambda: getattr(self, name))

    def _apply(self, fn: Any, *args: Any, **options: Any) -> Any:
        """As torch's; what matrices were before it is kept for their decomposition."""
        before = {name: self._exact(name) for name in self._order()}
        super()._apply(fn, *args, **options)
        for name, exact in before.items():
            kept(self, getattr(self, name), (name, "exact"), lambda exact=exact: exact)
        return self

    def _order(self) -> tuple[str, ...]:
        """The sides as the axes of an image have them."""
        return SIDES if len(self.in_shape) == 3 else ("depth", *SIDES)

    def matrices(self) -> list[Tensor]:
        """A_v and A_h, of volumes A_d before them; one per image as (B, 1, rows, columns), of volumes (B, 1, 1, rows, columns)."""
        return [getattr(self, name) for name in self._order()]

    def select(self, items: range) -> Operator:
        """The items' matrices."""
        chosen = [m[list(items)] if m.ndim > 2 else m for m in self.matrices()]
        return Separable(self.in_shape, *sides_first(chosen)).to(self.device)

    def _along(self, kind: str, x: Tensor, *, transposed: bool = False, seen: bool = False) -> Tensor:
        """A_v X A_h^T with the matrices of a kind: "" A itself, "left_" U, "right_" V, of which `seen` takes what H sees."""
        sides = [self.like(f"{kind}{name}", x) for name in (*SIDES, "depth")[: len(self.in_shape) - 1]]
        sides = [m[..., :count] for m, count in zip(sides, self.counts, strict=True)] if seen else sides
        sides = [m.mT for m in sides] if transposed else sides
        out = sides[0] @ x @ sides[1].mT
        if len(sides) == 3:
            depth = sides[2].squeeze(1) if sides[2].ndim > 2 else sides[2]
            out = (depth @ out.flatten(-2)).unflatten(-1, out.shape[-2:])
        return out

    def _spread(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Values of the sides, in the order of the axes, so that their product is one number for every place of an image."""
        leads = [(len(one), 1) if one.ndim > 1 else () for one in values]  # one per image, or one for all
        last = len(values) - 1
        return [one.reshape(*leads[side], *[1] * side, -1, *[1] * (last - side)) for side, one in enumerate(values)]

    def _seen(self, c: Tensor) -> Tensor:
        """The part of a spectrum that a measurement has a place for."""
        counts = [self.counts[(*SIDES, "depth").index(name)] for name in self._order()]
        return c[(..., *(slice(count) for count in counts))]

    def forward(self, x: Tensor) -> Tensor:
        """A_v X A_h^T."""
        expect(self, x)
        return self._along("", x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A_v^T Y A_h."""
        return self._along("", y, transposed=True)

    def pinv(self, y: Tensor) -> Tensor:
        """V (1 / s) U^T y."""
        return self._solve(y, torch.zeros((), dtype=y.dtype, device=y.device))

    def prox(self, z: Tensor, y: Tensor, tau: float | Tensor) -> Tensor:
        """z + V [s / (s^2 + 1 / tau)] U^T (y - H z): the part of V that H does not see is never computed."""
        return z + self._solve(y - self(z), damping(tau, z))

    def compose(self, inner: Operator) -> Operator | None:
        """Two separable operators are one, by the products of their matrices; None where its rank would be a matter of rounding."""
        if not isinstance(inner, Separable):
            return None
        products = [outer @ other for outer, other in zip(self.matrices(), inner.matrices(), strict=True)]
        product = Separable(inner.in_shape, *sides_first(products)).to(self.device)
        return product if rank_is_sure(product, self.s, inner.s) else None

    def _solve(self, residual: Tensor, weight: Tensor) -> Tensor:
        """V [s / (s^2 + weight)] U^T of a measurement, 0 where s = 0."""
        s = self._seen(self.like("s", residual))
        gain = torch.where(s > 0, s / (s.square() + weight), 0)
        return self._along("right_", gain * self._along("left_", residual, transposed=True), seen=True)

    def svd(self) -> SVD:
        """s = s_v s_h^T on the spectrum (C, H, W), of volumes times s_d on (C, D, H, W)."""

        def left(c: Tensor) -> Tensor:
            return self._along("left_", self._seen(c * (self.like("s", c) > 0)))

        def left_transposed(y: Tensor) -> Tensor:
            c, s = self._along("left_", y, transposed=True), self.like("s", y)
            lost = [number for axis in range(-1, -len(self.in_shape), -1) for number in (0, s.shape[axis] - c.shape[axis])]
            return torch.nn.functional.pad(c, lost) * (s > 0)

        s = self.s.expand(*self.s.shape[: -len(self.in_shape)], *self.in_shape) if self.batch is not None else self.s.expand(self.in_shape)
        right = partial(self._along, "right_")
        return SVD(s, left, left_transposed, right, partial(right, transposed=True))

    def interval(self) -> tuple[float, float]:
        """The least interval that holds H x for every x in [0, 1]."""
        rising, falling = (self._spread([(sign * m).clamp_min(0).sum(-1) for m in self.matrices()]) for sign in (1, -1))
        high, low = rising[0], falling[0]
        for up, down in zip(rising[1:], falling[1:], strict=True):
            high, low = high * up + low * down, high * down + low * up
        return (-float(low.max()) + 0.0, float(high.max()))

    def extra_repr(self) -> str:
        """The rank, where it is soon known."""
        rank = f", {rank_text(self.s, self.in_shape[0])}" if max(self.in_shape[1:]) <= SOON else ""
        return super().extra_repr() + rank

    @classmethod
    def examples(cls) -> list[Operator]:
        """More columns than rows, more rows than columns, a matrix of rank one."""
        generator = torch.Generator().manual_seed(0)
        a, b = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((3, 5), (6, 4)))
        return [cls((2, 5, 4), a, b), cls((1, 4, 5), torch.ones(4, 4), a)]


class SeparableBlur(Separable):
    """Convolution with the outer product of 1-D kernels: y = k_v k_h^T * x, with a boundary of one's choice.

    Args:
        in_shape: (C, H, W), or (C, D, H, W) of volumes.
        vertical: kernel along the height, odd or even length, centre at index k // 2; not normalised. (B, k) for one per image.
        horizontal: kernel along the width, (k,) or (B, k); default the vertical one.
        boundary: how the image goes on: "zero", "reflect" (edge pixel not repeated), "symmetric" (repeated) or "circular"; or "valid":
            only pixels whose whole neighbourhood is in the image, (H - kh + 1, W - kw + 1) of them.
        depth: kernel along the depth of volumes; default the vertical one.

    Raises:
        InputError: a kernel that is not a finite vector, or larger than a "valid" image, or another boundary.
    """

    uniform = True

    def __init__(
        self,
        in_shape: Sequence[int],
        vertical: Tensor | Sequence[float],
        horizontal: Tensor | Sequence[float] | None = None,
        boundary: str = "zero",
        depth: Tensor | Sequence[float] | None = None,
    ) -> None:
        shape = image_shape(in_shape, volumes=True)
        kernel_v = checked_vector(vertical)
        kernel_h = kernel_v if horizontal is None else checked_vector(horizontal)
        if type(self) is SeparableBlur:  # others say so themselves
            question_kernel(kernel_v[..., :, None] * kernel_h[..., None, :])
        along = [blur_matrix(kernel, side, boundary) for kernel, side in zip((kernel_v, kernel_h), shape[-2:], strict=True)]
        if len(shape) == 4:
            along.append(blur_matrix(kernel_v if depth is None else checked_vector(depth), shape[1], boundary))
        elif depth is not None:
            raise InputError(f"depth is for volumes (C, D, H, W); given in_shape {shape}")
        super().__init__(shape, *along)
        longest = max(kernel_v.shape[-1], kernel_h.shape[-1])
        # The place of an entry is its window's first pixel where nothing goes on, and the middle one elsewhere.
        self.reach = longest - 1 if boundary == VALID else longest // 2

    @classmethod
    def examples(cls) -> list[Operator]:
        """Every boundary, an asymmetric and an even kernel, odd sizes, colour."""
        slope = [0.5, 0.3, 0.2]
        even = [0.1, 0.4, 0.4, 0.1]
        return [
            cls((3, 8, 8), slope),
            cls((1, 9, 7), slope, even, "reflect"),
            cls((1, 6, 5), even, slope, "symmetric"),
            cls((2, 5, 6), even, None, "circular"),
            cls((1, 8, 7), even, slope, "valid"),
        ]


class SeparableGaussianBlur(SeparableBlur):
    """Gaussian blur with a boundary of one's choice.

    Args:
        in_shape: (C, H, W), or (C, D, H, W) of volumes.
        sigma: standard deviation in pixels; (B,) for one per image, (B, 2) for (vertical, horizontal) per image, of volumes (B, 3) for
            (depth, vertical, horizontal); (1, 2) and (1, 3) hold for every image of a batch of one.
        boundary: as in SeparableBlur.
        truncate: the kernel ends at floor(truncate sigma + 1/2) pixels from its centre.

    Raises:
        InputError: sigma or truncate is not positive and finite, or another boundary.
    """

    def __init__(self, in_shape: Sequence[int], sigma: float | Tensor = 1.5, boundary: str = "reflect", truncate: float = 4.0) -> None:
        *depth, vertical, horizontal = gaussians(sigma, truncate, sides=len(image_shape(in_shape, volumes=True)) - 1)
        super().__init__(in_shape, vertical, horizontal, boundary, *depth)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Colour with zero boundary, odd grey with reflection."""
        return [
            cls((3, 8, 8), 1.0, "zero"),
            cls((1, 9, 7), 0.8),
            cls((1, 10, 12), 3.0, "symmetric"),
            cls((2, 5, 6), torch.tensor([0.5, 1.0, 2.0]), "zero"),
        ]


def check_matrix(name: str, matrix: Tensor, side: int) -> None:
    """Raise InputError unless it is real and finite, (rows, side) or (B, rows, side)."""
    usable = isinstance(matrix, Tensor) and matrix.ndim in (2, 3) and matrix.shape[-1] == side and matrix.numel()
    if not usable or matrix.is_complex() or not bool(torch.isfinite(matrix).all()):
        raise InputError(f"{name} must be a real, finite matrix of {side} columns; given {getattr(matrix, 'shape', matrix)!r}")


def sides_first(matrices: Sequence[Tensor]) -> list[Tensor]:
    """`Separable.matrices` in the order of the constructor, the depth last; one per image as (B, rows, columns)."""
    plain = [m.reshape(len(m), *m.shape[-2:]) if m.ndim > 2 else m for m in matrices]
    return [*plain[-2:], *plain[:-2]]


def decomposed(matrix: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """`count` columns of U, s with a place for every column and V of a matrix (or several); of a symmetric one in a third of the time."""
    if matrix.shape[-1] == matrix.shape[-2] and torch.equal(matrix, matrix.mT):
        values, vectors = torch.linalg.eigh(matrix)
        signs = torch.where(values < 0, -1.0, 1.0)
        return vectors * signs[..., None, :], values.abs(), vectors
    left, values, right = torch.linalg.svd(matrix, full_matrices=True)
    wide = torch.nn.functional.pad(values, (0, matrix.shape[-1] - count))
    return left[..., :count].contiguous(), wide, right.mT.contiguous()


def gaussians(sigma: float | Tensor, truncate: float, sides: int = 2) -> list[Tensor]:
    """The kernel of each side, (k,) or (B, k): vertical and horizontal, of three sides that of the depth before them."""
    wanted = f"sigma must be a number, (B,) or (B, {sides})"
    try:
        value = torch.as_tensor(sigma, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{wanted}; given {sigma!r}") from None
    if value.ndim > 2 or not value.numel() or (value.ndim == 2 and value.shape[1] != sides):
        raise InputError(f"{wanted}; given shape {tuple(value.shape)}")
    if value.ndim == 0:
        return [gaussian_1d(float(value), truncate)] * sides
    each = value if value.ndim == 2 else value[:, None].expand(-1, sides)
    radius = max(len(gaussian_1d(float(one), truncate)) // 2 for one in each.flatten())
    return [torch.stack([gaussian_1d(float(one), truncate, radius) for one in column]) for column in each.T]


def checked_vector(kernel: Tensor | Sequence[float]) -> Tensor:
    """A 1-D kernel in float64."""
    value = torch.as_tensor(kernel)
    if value.ndim not in (1, 2) or value.numel() == 0 or value.is_complex() or not bool(torch.isfinite(value).all()):
        given = f"shape {tuple(value.shape)}, {value.dtype}"
        raise InputError(f"a 1-D kernel must be a real, finite, non-empty vector, or one per image (B, k); given {given}")
    return value.to(torch.float64) if isinstance(kernel, Tensor) else torch.as_tensor(kernel, dtype=torch.float64)


def fold(index: Tensor, count: int, boundary: str) -> tuple[Tensor, Tensor]:
    """Where an index outside 0..count-1 reads, and whether it reads at all (1 or 0, float64).

    Raises:
        InputError: no such boundary.
    """
    check_boundary(boundary, BOUNDARIES)
    inside = torch.ones(index.shape, dtype=torch.float64)
    if boundary == "zero":
        inside = ((index >= 0) & (index < count)).to(torch.float64)
        return index.clamp(0, count - 1), inside
    if boundary == "circular":
        return index % count, inside
    period = max(1, 2 * count - 2) if boundary == "reflect" else 2 * count
    last = period if boundary == "reflect" else period - 1
    folded = index % period
    return torch.minimum(folded, last - folded), inside


def blur_matrix(kernel: Tensor, count: int, boundary: str) -> Tensor:
    """A of y[i] = sum_t k[t] x[i - (t - k // 2)], (count, count), or (B, count, count); "valid" the rows that stay inside.

    Raises:
        InputError: no such boundary, or a kernel that is nowhere inside.
    """
    if kernel.ndim == 2:
        return torch.stack([blur_matrix(one, count, boundary) for one in kernel])
    if boundary == VALID:
        if len(kernel) > count:
            raise InputError(f"a valid blur needs a side at least as long as the kernel; given {count} and {len(kernel)}")
        before = len(kernel) - 1 - len(kernel) // 2
        return blur_matrix(kernel, count, "zero")[before : count - len(kernel) + 1 + before]
    check_boundary(boundary, (*BOUNDARIES, VALID))
    shift = torch.arange(len(kernel)) - len(kernel) // 2
    index = torch.arange(count)[:, None] - shift
    target, inside = fold(index, count, boundary)
    return torch.zeros(count, count, dtype=torch.float64).scatter_add_(1, target, kernel * inside)

"""Separable operators: Y = A_v X A_h^T per channel with two small dense matrices.

With A = U diag(s) V^T by LAPACK in float64 for each axis, H has V = V_v (x) V_h, U = U_v (x) U_h and s = s_v s_h^T; the rank
rule acts on the product. Cost: four matrix products of side length per channel, memory 2 (H^2 + W^2) numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.errors import InputError, did_you_mean
from invsolve.operator import Operator, Shape, image_shape
from invsolve.operator.svd import SVD
from invsolve_operators.blurs.kernels import gaussian_1d
from invsolve_operators.common import damping, expect, rank_is_sure, rank_text, ranked, size
from invsolve_operators.transforms.fourier import question_kernel

BOUNDARIES = ("zero", "reflect", "symmetric", "circular")


class Separable(Operator):
    """Y = A_v X A_h^T, the base of separable blur and bicubic downsampling.

    Args:
        in_shape: (C, H, W).
        vertical: A_v, (h, H), or one per image (B, h, H).
        horizontal: A_h, (w, W), or (B, w, W).

    Raises:
        InputError: matrices that are not real and finite, or whose columns are not H and W.
    """

    channelwise = True
    out_shape: Shape
    vertical: Tensor
    horizontal: Tensor
    left_v: Tensor
    left_h: Tensor
    right_v: Tensor
    right_h: Tensor
    s: Tensor

    def __init__(self, in_shape: Sequence[int], vertical: Tensor, horizontal: Tensor) -> None:
        super().__init__()
        self.in_shape = image_shape(in_shape)
        for name, matrix, side in (("vertical", vertical, self.in_shape[1]), ("horizontal", horizontal, self.in_shape[2])):
            usable = isinstance(matrix, Tensor) and matrix.ndim in (2, 3) and matrix.shape[-1] == side and matrix.numel()
            if not usable or matrix.is_complex() or not bool(torch.isfinite(matrix).all()):
                raise InputError(f"{name} must be a real, finite matrix of {side} columns; given {getattr(matrix, 'shape', matrix)!r}")
        sizes = {len(matrix) for matrix in (vertical, horizontal) if matrix.ndim == 3}
        if len(sizes) > 1:
            raise InputError(f"vertical is for {len(vertical)} images, horizontal for {len(horizontal)}")
        self.batch = next(iter(sizes), None)
        self.out_shape = (self.in_shape[0], vertical.shape[-2], horizontal.shape[-2])
        s, factors = [], None
        same = vertical.shape == horizontal.shape and torch.equal(vertical, horizontal)  # then one SVD serves both sides
        for name, given in (("v", vertical), ("h", horizontal)):
            # One matrix per image stands before the channels: (B, 1, rows, columns).
            matrix = given.to(torch.float64).unsqueeze(-3) if given.ndim == 3 else given.to(torch.float64)
            left, values, right = factors = factors if factors is not None and same else decomposed(matrix)
            # Columns of U beyond the number of columns of A have no partner in the image space.
            count = min(matrix.shape[-2:])
            self.register_buffer(f"left_{name}", left[..., :count].contiguous())
            self.register_buffer(f"right_{name}", right)
            s.append(torch.nn.functional.pad(values, (0, matrix.shape[-1] - count)))
            self.register_buffer({"v": "vertical", "h": "horizontal"}[name], matrix.contiguous())
        product = s[0][..., :, None] * s[1][..., None, :]
        self.register_buffer("s", ranked(product, size(self.out_shape), size(self.in_shape), batched=self.batch is not None))
        low, high = self.interval()
        if low == 0 and high <= 1 + 1e-6:
            self.output_range = (0.0, 1.0)
        elif all(bool(((m.sum(-1) - 1).abs() < 1e-6).all()) for m in (self.vertical, self.horizontal)):
            self.output_range = (low, high)  # averages with negative weights, such as bicubic ones

    def select(self, items: range) -> Operator:
        """The items' matrices."""
        chosen = [m[list(items), 0] if m.ndim == 4 else m for m in (self.vertical, self.horizontal)]
        return Separable(self.in_shape, *chosen).to(self.device)

    def forward(self, x: Tensor) -> Tensor:
        """A_v X A_h^T."""
        expect(self, x)
        return self.like("vertical", x) @ x @ self.like("horizontal", x).mT

    def adjoint(self, y: Tensor) -> Tensor:
        """A_v^T Y A_h."""
        return self.like("vertical", y).mT @ y @ self.like("horizontal", y)

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
        products = (self.vertical @ inner.vertical, self.horizontal @ inner.horizontal)
        product = Separable(inner.in_shape, *(m[:, 0] if m.ndim == 4 else m for m in products)).to(self.device)
        return product if rank_is_sure(product, self.s, inner.s) else None

    def _solve(self, residual: Tensor, weight: Tensor) -> Tensor:
        """V [s / (s^2 + weight)] U^T of a measurement, 0 where s = 0."""
        rows, columns = self.left_v.shape[-1], self.left_h.shape[-1]
        s = self.like("s", residual)[..., :rows, :columns]
        gain = torch.where(s > 0, s / (s.square() + weight), 0)
        c = gain * (self.like("left_v", residual).mT @ residual @ self.like("left_h", residual))
        return self.like("right_v", residual)[..., :rows] @ c @ self.like("right_h", residual)[..., :columns].mT

    def svd(self) -> SVD:
        """s = s_v s_h^T on the spectrum (C, H, W)."""
        rows, columns = self.left_v.shape[-1], self.left_h.shape[-1]

        def left(c: Tensor) -> Tensor:
            seen = (c * (self.like("s", c) > 0))[..., :rows, :columns]
            return self.like("left_v", c) @ seen @ self.like("left_h", c).mT

        def left_transposed(y: Tensor) -> Tensor:
            c = self.like("left_v", y).mT @ y @ self.like("left_h", y)
            height, width = self.s.shape[-2:]
            return torch.nn.functional.pad(c, (0, width - columns, 0, height - rows)) * (self.like("s", y) > 0)

        def right(c: Tensor) -> Tensor:
            return self.like("right_v", c) @ c @ self.like("right_h", c).mT

        def right_transposed(x: Tensor) -> Tensor:
            return self.like("right_v", x).mT @ x @ self.like("right_h", x)

        return SVD(
            self.s.expand(*self.s.shape[:-3], *self.in_shape) if self.batch is not None else self.s.expand(self.in_shape),
            left,
            left_transposed,
            right,
            right_transposed,
        )

    def interval(self) -> tuple[float, float]:
        """The least interval that holds H x for every x in [0, 1]."""
        (pv, nv), (ph, nh) = ((m.clamp_min(0).sum(-1), (-m).clamp_min(0).sum(-1)) for m in (self.vertical, self.horizontal))
        pv, nv, ph, nh = pv[..., :, None], nv[..., :, None], ph[..., None, :], nh[..., None, :]
        high, low = pv * ph + nv * nh, pv * nh + nv * ph
        return (-float(low.max()) + 0.0, float(high.max()))

    def extra_repr(self) -> str:
        """The rank."""
        return f"{super().extra_repr()}, {rank_text(self.s, self.in_shape[0])}"

    @classmethod
    def examples(cls) -> list[Operator]:
        """More columns than rows, more rows than columns, a matrix of rank one."""
        generator = torch.Generator().manual_seed(0)
        a, b = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((3, 5), (6, 4)))
        return [cls((2, 5, 4), a, b), cls((1, 4, 5), torch.ones(4, 4), a)]


class SeparableBlur(Separable):
    """Convolution with the outer product of two 1-D kernels: y = k_v k_h^T * x, with a boundary of one's choice.

    Args:
        in_shape: (C, H, W).
        vertical: kernel along the height, odd or even length, centre at index k // 2; not normalised. (B, k) for one per image.
        horizontal: kernel along the width, (k,) or (B, k); default the vertical one.
        boundary: how the image goes on: "zero", "reflect" (edge pixel not repeated), "symmetric" (repeated) or "circular".

    Raises:
        InputError: a kernel that is not a finite vector, or another boundary.
    """

    uniform = True

    def __init__(
        self,
        in_shape: Sequence[int],
        vertical: Tensor | Sequence[float],
        horizontal: Tensor | Sequence[float] | None = None,
        boundary: str = "zero",
    ) -> None:
        shape = image_shape(in_shape)
        kernel_v = checked_vector(vertical)
        kernel_h = kernel_v if horizontal is None else checked_vector(horizontal)
        if type(self) is SeparableBlur:  # what else is made of kernels says so itself
            question_kernel(kernel_v[..., :, None] * kernel_h[..., None, :])
        super().__init__(shape, blur_matrix(kernel_v, shape[1], boundary), blur_matrix(kernel_h, shape[2], boundary))
        self.reach = max(kernel_v.shape[-1], kernel_h.shape[-1]) // 2

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
        ]


class SeparableGaussianBlur(SeparableBlur):
    """Gaussian blur with a boundary of one's choice.

    Args:
        in_shape: (C, H, W).
        sigma: standard deviation in pixels; (B,) for one per image, (B, 2) for (vertical, horizontal) per image; (1, 2) holds for
            every image of a batch of one.
        boundary: as in SeparableBlur.
        truncate: the kernel ends at floor(truncate sigma + 1/2) pixels from its centre.

    Raises:
        InputError: sigma or truncate is not positive and finite, or another boundary.
    """

    def __init__(self, in_shape: Sequence[int], sigma: float | Tensor = 1.5, boundary: str = "reflect", truncate: float = 4.0) -> None:
        vertical, horizontal = gaussians(sigma, truncate)
        super().__init__(in_shape, vertical, horizontal, boundary)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Colour with zero boundary, odd grey with reflection."""
        return [
            cls((3, 8, 8), 1.0, "zero"),
            cls((1, 9, 7), 0.8),
            cls((1, 10, 12), 3.0, "symmetric"),
            cls((2, 5, 6), torch.tensor([0.5, 1.0, 2.0]), "zero"),
        ]


def decomposed(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U, s and V of a matrix (or several); of a symmetric one by its eigenvectors, in a third of the time."""
    if matrix.shape[-1] == matrix.shape[-2] and torch.equal(matrix, matrix.mT):
        values, vectors = torch.linalg.eigh(matrix)
        signs = torch.where(values < 0, -1.0, 1.0)
        return vectors * signs[..., None, :], values.abs(), vectors
    left, values, right = torch.linalg.svd(matrix, full_matrices=True)
    return left, values, right.mT.contiguous()


def gaussians(sigma: float | Tensor, truncate: float) -> tuple[Tensor, Tensor]:
    """The vertical and the horizontal kernel, (k,) or (B, k)."""
    try:
        value = torch.as_tensor(sigma, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"sigma must be a number, (B,) or (B, 2); given {sigma!r}") from None
    if value.ndim > 2 or not value.numel() or (value.ndim == 2 and value.shape[1] != 2):
        raise InputError(f"sigma must be a number, (B,) or (B, 2); given shape {tuple(value.shape)}")
    if value.ndim == 0:
        kernel = gaussian_1d(float(value), truncate)
        return kernel, kernel
    both = value if value.ndim == 2 else value[:, None].expand(-1, 2)
    radius = max(len(gaussian_1d(float(one), truncate)) // 2 for one in both.flatten())
    rows = [torch.stack([gaussian_1d(float(one), truncate, radius) for one in column]) for column in both.T]
    return rows[0], rows[1]


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
    if boundary not in BOUNDARIES:
        raise InputError(f"no boundary '{boundary}'{did_you_mean(boundary, BOUNDARIES)} There are: {', '.join(BOUNDARIES)}")
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
    """A of y[i] = sum_t k[t] x[i - (t - k // 2)], (count, count), or (B, count, count)."""
    if kernel.ndim == 2:
        return torch.stack([blur_matrix(one, count, boundary) for one in kernel])
    shift = torch.arange(len(kernel)) - len(kernel) // 2
    index = torch.arange(count)[:, None] - shift
    target, inside = fold(index, count, boundary)
    return torch.zeros(count, count, dtype=torch.float64).scatter_add_(1, target, kernel * inside)

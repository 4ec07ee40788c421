"""Super-resolution: y = S (k * x), S keeps the upper-left pixel of each r x r block; in closed form where k * x is circular.

In polyphase form x becomes r^2 small images x_p, H x = sum_p b_p * x_p, each a circular convolution on the small torus. So for
every small frequency H is one row b = (b_p) of r^2 numbers: s = |b|, and V is the reflection that swaps v = conj(b) / |b| (up to
a phase) and the first unit vector. Everything costs r^2 small FFTs; the large one is never taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability, Operator, Shape, image_shape
from invsolve.operator.svd import SVD
from invsolve_operators.blurs import kernels
from invsolve_operators.blurs.blur import BOUNDARIES, on_the_torus
from invsolve_operators.blurs.padded import PaddedBlur
from invsolve_operators.common import damping, divided, expect, from_phases, over, rank_text, ranked, select_arguments, size, to_phases
from invsolve_operators.masks.patterns import one_of
from invsolve_operators.transforms.fourier import (
    averages,
    both_kernels,
    checked_kernel,
    image,
    mirrored,
    on_torus,
    pairs,
    spectrum,
    to_half,
    to_real,
    transfer_function,
)


class BlurDecimate(Operator):
    """y = the upper-left pixel of each factor x factor block of k * x, convolution on the torus or with another boundary.

    Args:
        in_shape: (C, H, W).
        factor: r; must divide H and W.
        kernel: (kh, kw), or one per image (B, kh, kw); centre at index k // 2, used as given, wraps where larger than the image.
        sigma: standard deviation in pixels of a Gaussian kernel instead; factor / 2 where neither is given.
        shift: "corner": the kernel's centre lies at the upper-left pixel of a block; "centre": its middle ((k - 1) / 2, between two pixels
            where k is even) lies over the middle of the block, as in pictures that were averaged or resized and in kernels estimated from
            them. With "corner" such a picture comes out (factor - 1) / 2 pixels off. Where the middles are half a pixel apart a given
            kernel is interpolated linearly (which widens it by 1/2 pixel); a Gaussian is sampled there.
        boundary: "circular", or as `PaddedBlur` continues the image: "reflect", "symmetric", "zero", or "valid", of whose pixels every
            factor-th is kept. They have no closed form: `IterativeProx(H)` adds a prox.

    Raises:
        InputError: the factor does not divide both sides; another shift or boundary; both kernel and sigma; a kernel that is complex,
            empty, not finite, or larger than a "valid" image.

    References:
        Fast Single Image Super-Resolution using a New Analytical Solution for l2-l2 Problems (Zhao et al., 2016), arXiv:1607.02397:
        the closed form of the prox. Deviation: in residual form and on the small grid, which keeps more digits in float32.
    """

    channelwise = True
    uniform = True
    out_shape: Shape
    kernel: Tensor
    phases: Tensor
    normal: Tensor
    unit: Tensor
    s: Tensor

    def __init__(
        self,
        in_shape: Sequence[int],
        factor: int = 4,
        kernel: Tensor | Sequence[Sequence[float]] | None = None,
        sigma: float | None = None,
        shift: str = "corner",
        boundary: str = "circular",
    ) -> None:
        super().__init__()
        self.in_shape = image_shape(in_shape)
        self.out_shape = divided(self.in_shape, factor)
        self.factor = int(factor)
        if kernel is not None and sigma is not None:
            raise InputError("give kernel or sigma (of a Gaussian kernel), not both")
        centred = one_of(shift, "shift", ("corner", "centre")) == "centre"
        if kernel is None:
            width = torch.tensor(self.factor / 2 if sigma is None else float(sigma), dtype=torch.float64)
            value = kernels.gaussian_2d(width, 4.0)
            value = kernels.gaussian_over_blocks(float(width), self.factor) if centred else value
        else:
            value = checked_kernel(torch.as_tensor(kernel))
            value = kernels.over_blocks(value, self.factor) if centred else value
        self.batch = len(value) if value.ndim == 3 else None
        self.stride, self.reach = self.factor, max(value.shape[-2:]) // 2
        self.register_buffer("kernel", value)
        self.boundary = one_of(boundary, "boundary", BOUNDARIES)
        self.bounded = None if boundary == "circular" else PaddedBlur(self.in_shape, value, boundary)
        if self.bounded is None:
            self._build(on_torus(value, *self.in_shape[1:]))
        else:
            self.reach = self.bounded.reach
            self.out_shape = (self.in_shape[0], *(-(-side // self.factor) for side in self.bounded.out_shape[1:]))
        self.output_range = (0.0, 1.0) if averages(value) else None

    def _build(self, torus: Tensor) -> None:
        """Rows b, their lengths s, and the reflections I - w w^H."""
        r = self.factor
        phases = [torus.roll((down, right), (-2, -1))[..., ::r, ::r] for down in range(r) for right in range(r)]
        b = transfer_function(torch.stack(phases, dim=-3)).unsqueeze(-4)
        length = b.abs().square().sum(-3, keepdim=True).sqrt()
        s = ranked(length, size(self.out_shape), size(self.in_shape), batched=self.batch is not None)
        b = torch.where(s > 0, b, 0)
        v = torch.where(s > 0, b.conj() / s, 0)
        v[..., :1, :, :] += s == 0
        first = v[..., :1, :, :]
        # The reflection takes v to -unit e_0; unit has the phase of v_0, so that nothing cancels in w = v + unit e_0.
        unit = torch.where(first != 0, first / first.abs(), 1)
        w = v.clone()
        w[..., :1, :, :] += unit
        self.register_buffer("phases", pairs(b))
        self.register_buffer("normal", pairs(w / (1 + first.abs()).sqrt()))
        self.register_buffer("unit", pairs(unit))
        self.register_buffer("s", mirrored(s, self.out_shape[2]))

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All on the torus; elsewhere those of a linear map."""
        return super().capabilities if self.bounded is None else self.bounded.capabilities

    def select(self, items: range) -> Operator:
        """The items' kernels."""
        return select_arguments(self, items, "kernel")

    def compose(self, inner: Operator) -> Operator | None:
        """After a circular blur: the same with both kernels."""
        if self.bounded is not None or not on_the_torus(inner):
            return None
        _, height, width = self.in_shape
        return BlurDecimate(self.in_shape, self.factor, both_kernels(self.kernel, inner.kernel, height, width)).to(self.device)

    def _complex(self, name: str, x: Tensor) -> Tensor:
        return torch.view_as_complex(self.like(name, x))

    def _split(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the half spectra of its r^2 phases, (B, C, r^2, H / r, W / (2 r) + 1)."""
        return spectrum(to_phases(x, self.factor))

    def _join(self, halves: Tensor) -> Tensor:
        return from_phases(image(halves, self.out_shape[2]), self.factor)

    def _small(self, y: Tensor) -> Tensor:
        return spectrum(y).unsqueeze(2)

    def forward(self, x: Tensor) -> Tensor:
        """sum_p b_p * x_p."""
        expect(self, x)
        if self.bounded is not None:
            return self.bounded(x)[..., :: self.factor, :: self.factor].contiguous()
        return image((self._complex("phases", x) * self._split(x)).sum(2), self.out_shape[2])

    def adjoint(self, y: Tensor) -> Tensor:
        """Phase p is b_p, turned, * y."""
        if self.bounded is not None:
            wide = y.new_zeros(*y.shape[:-2], *self.bounded.out_shape[1:])
            wide[..., :: self.factor, :: self.factor] = y
            return self.bounded.adjoint(wide)
        return self._join(self._complex("phases", y).conj() * self._small(y))

    def pinv(self, y: Tensor) -> Tensor:
        """conj(b) / |b|^2 per small frequency."""
        self.need(Capability.PINV)
        return self._solve(self._small(y), torch.zeros((), dtype=y.dtype, device=y.device))

    def prox(self, z: Tensor, y: Tensor, tau: float | Tensor) -> Tensor:
        """z + H^T (H H^T + 1 / tau)^-1 (y - H z), with H H^T = |b|^2 per small frequency."""
        self.need(Capability.PROX)
        halves = self._split(z)
        residual = self._small(y) - (self._complex("phases", z) * halves).sum(2, keepdim=True)
        return z + self._solve(residual, damping(tau, halves))

    def _solve(self, residual: Tensor, weight: Tensor) -> Tensor:
        """H^T (H H^T + weight)^-1 of a half spectrum, 0 where b = 0."""
        b = self._complex("phases", residual.real)
        power = b.real.square().sum(-3, keepdim=True) + b.imag.square().sum(-3, keepdim=True)
        return self._join(b.conj() * over(residual, torch.where(power > 0, power + weight, 0)))

    def _reflect(self, halves: Tensor) -> Tensor:
        w = self._complex("normal", halves.real)
        return halves - w * (w.conj() * halves).sum(2, keepdim=True)

    def svd(self) -> SVD:
        """s = |b| in the first of r^2 planes of the spectrum (C, r^2, H / r, W / r), 0 in the others."""
        self.need(Capability.SVD)
        channels, height, width = self.out_shape
        others = self.factor**2 - 1

        def left(c: Tensor) -> Tensor:
            seen = c[:, :, :1] * (self.like("s", c) > 0)
            return image((-self._complex("unit", c).conj() * to_half(seen)).squeeze(2), width)

        def left_transposed(y: Tensor) -> Tensor:
            first = to_real(-self._complex("unit", y) * self._small(y), width) * (self.like("s", y) > 0)
            return torch.cat([first, first.new_zeros(len(y), channels, others, height, width)], dim=2)

        s = self.s.expand(*self.s.shape[:-4], channels, 1, height, width)
        s = torch.cat([s, s.new_zeros(*s.shape[:-3], others, height, width)], dim=-3)
        return SVD(
            s,
            left,
            left_transposed,
            lambda c: self._join(self._reflect(to_half(c))),
            lambda x: to_real(self._reflect(self._split(x)), width),
        )

    def extra_repr(self) -> str:
        """The kernel's size and the rank, or the boundary."""
        rest = rank_text(self.s, self.in_shape[0]) if self.bounded is None else self.boundary
        return f"{super().extra_repr()}, kernel {tuple(self.kernel.shape)}, {rest}"

    @classmethod
    def examples(cls) -> list[Operator]:
        """Colour with a Gaussian, an odd factor with an even kernel, one kernel per image, a kernel that loses frequencies; other edges."""
        generator = torch.Generator().manual_seed(0)
        even = torch.rand(4, 2, generator=generator, dtype=torch.float64)
        several = torch.rand(3, 3, 3, generator=generator, dtype=torch.float64)
        flat = torch.full((2, 4), 0.125)
        return [
            cls((3, 8, 8), 2),
            cls((1, 9, 15), 3, kernel=even, shift="centre"),
            cls((1, 6, 4), 2, kernel=several),
            cls((1, 8, 12), 2, kernel=flat),
            cls((2, 6, 9), 3, kernel=even, boundary="reflect"),
            cls((1, 8, 10), 2, kernel=several, boundary="valid"),
        ]

"""Compositions H @ G that stay exact: what two parts keep together when one of them is as good as a rotation, or when they act on
different sides of the image.

    G orthogonal (square, s = c everywhere):   H G = U_H (c s_H) (V_G U_G^T V_H)^T
    H an isometry of G's output (s = c):       H G = (U_H V_H^T U_G) (c s_G) V_G^T
    H on channels, G on pixels (or so):        H G = (U_c (x) U_p) (s_c s_p) (V_c (x) V_p)^T

A class may know more: `Operator.compose`.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.algebra import Composed
from invsolve.measurement import Measurement, parts
from invsolve.operator import Capability, Operator
from invsolve.svd import SVD, rank_rule


def joined(outer: Operator, inner: Operator) -> Operator:
    """outer @ inner with as much structure as it keeps.

    Raises:
        InputError: the shapes do not meet.
    """
    plain = Composed(outer, inner)
    special = outer.compose(inner)
    if special is not None:
        return special
    if not all(part.has(Capability.SVD) and not part.complex_output for part in (outer, inner)):
        return plain
    if square(inner) and level(inner) is not None:
        return Rotated(outer, inner)
    if level(outer) is not None:
        return Embedded(outer, inner)
    if outer.pointwise and inner.channelwise and inner.in_shape == inner.out_shape == inner.svd().s.shape[-3:]:
        return ColourAfter(outer, inner) if outer.svd().s.shape[-3:] == inner.in_shape else plain
    if outer.channelwise and inner.pointwise and inner.out_shapes[0][0] == 1 and one_channel(inner):
        return ColourBefore(outer, inner)
    return plain


def one_channel(operator: Operator) -> bool:
    """Whether the spectrum is laid out as the image, all of it in the first channel, with one singular value."""
    s = operator.svd().s
    return s.shape == operator.in_shape and bool((s[1:] == 0).all()) and bool((s[0] == s[0, 0, 0]).all())


def level(operator: Operator) -> float | None:
    """c where every singular value is c > 0, to rounding: H^T H = c^2 I; else None."""
    s = operator.svd().s
    if not s.numel():
        return None
    least, most = float(s.min()), float(s.max())
    return most if least > 0 and most - least <= 8 * torch.finfo(s.dtype).eps * most else None


def square(operator: Operator) -> bool:
    """As many measurements as pixels."""
    return math.prod(operator.in_shape) == math.prod(operator.out_shapes[0])


class Structured(Composed):
    """A composition with an SVD, and so with pinv and prox."""

    rule: ClassVar[str]

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Everything that an SVD gives."""
        kept = {Capability.SVD, Capability.PINV, Capability.PROX, Capability.ADJOINT, Capability.LINEAR, Capability.DIFFERENTIABLE}
        return frozenset(kept)

    def pinv(self, y: Measurement) -> Tensor:
        """V (1 / s) U^T y."""
        return self.svd().pinv(parts(y)[0])

    def prox(self, z: Tensor, y: Measurement, tau: float | Tensor) -> Tensor:
        """By the SVD."""
        return self.svd().prox(z, parts(y)[0], tau)

    def select(self, items: range) -> Operator:
        """The same composition of the parts' items."""
        outer, inner = (part if part.batch is None else part.select(items) for part in self.parts)
        return joined(outer, inner)

    def extra_repr(self) -> str:
        """What keeps it exact."""
        return f"{super().extra_repr()}, {self.rule}"


class Rotated(Structured):
    """H Q with Q orthogonal up to a factor."""

    rule = "the inner operator is orthogonal"

    def svd(self) -> SVD:
        """U and s of H (times c), V turned by Q."""
        outer, turn = (part.svd() for part in self.parts)
        c = level(self.parts[1]) or 1.0

        def right(spectrum: Tensor) -> Tensor:
            return turn.V(turn.Ut(outer.V(spectrum)))

        def right_transposed(x: Tensor) -> Tensor:
            return outer.Vt(turn.U(turn.Vt(x)))

        return SVD(outer.s * c, outer.U, outer.Ut, right, right_transposed)


class Embedded(Structured):
    """Q G with Q an isometry up to a factor."""

    rule = "the outer operator is an isometry"

    def svd(self) -> SVD:
        """V and s of G (times c), U turned by Q."""
        turn, inner = (part.svd() for part in self.parts)
        c = level(self.parts[0]) or 1.0

        def left(spectrum: Tensor) -> Tensor:
            return turn.U(turn.Vt(inner.U(spectrum)))

        def left_transposed(y: Tensor) -> Tensor:
            return inner.Ut(turn.V(turn.Ut(y)))

        return SVD(inner.s * c, left, left_transposed, inner.V, inner.Vt)


class ColourAfter(Structured):
    """C P with C on channels, alike at all pixels, and P on pixels, alike in all channels: the two bases commute."""

    rule = "channels and pixels apart"

    def svd(self) -> SVD:
        """s = s_C s_P, V = V_P V_C, U = U_C U_P, the rank rule on the product."""
        colour, space = (part.svd() for part in self.parts)
        s = ranked(colour.s.to(space.s) * space.s, self)

        def seen(c: Tensor) -> Tensor:
            return torch.where(s.to(c.device) > 0, c, 0)

        return SVD(
            s,
            lambda c: colour.U(space.U(seen(c))),
            lambda y: seen(space.Ut(colour.Ut(y))),
            lambda c: colour.V(space.V(c)),
            lambda x: space.Vt(colour.Vt(x)),
        )


class ColourBefore(Structured):
    """P C with C from several channels to one and P on that one.

    V^T x is C's, whose first channel then goes through P's; the others are C's null space. The spectrum is flat, (n,).
    """

    rule = "channels and pixels apart"

    def svd(self) -> SVD:
        """s = s_C s_P on P's spectrum, 0 on the channels that C does not see."""
        space, colour = (part.svd() for part in self.parts)
        channels, height, width = self.in_shape
        count = height * width
        product = colour.s[0, 0, 0].to(space.s) * space.s
        first = product.flatten(-(product.ndim - (self.parts[0].batch is not None)))
        s = ranked(torch.cat([first, first.new_zeros(*first.shape[:-1], (channels - 1) * count)], dim=-1), self)

        def seen(c: Tensor) -> Tensor:
            return torch.where(s.to(c.device) > 0, c, 0)

        def inner_spectrum(c: Tensor) -> Tensor:
            return c[:, :count].reshape(len(c), *product.shape[-len(spec) :])

        spec = space.s.shape[1:] if self.parts[0].batch is not None else space.s.shape

        def left_transposed(y: Tensor) -> Tensor:
            known = space.Ut(y).flatten(1)
            return seen(torch.cat([known, known.new_zeros(len(y), (channels - 1) * count)], dim=1))

        def right(c: Tensor) -> Tensor:
            image = space.V(inner_spectrum(c))
            return colour.V(torch.cat([image, c[:, count:].reshape(len(c), channels - 1, height, width)], dim=1))

        def right_transposed(x: Tensor) -> Tensor:
            c = colour.Vt(x)
            return torch.cat([space.Vt(c[:, :1]).flatten(1), c[:, 1:].flatten(1)], dim=1)

        return SVD(s, lambda c: space.U(inner_spectrum(seen(c))), left_transposed, right, right_transposed)


def ranked(s: Tensor, operator: Operator) -> Tensor:
    """The rank rule for an operator's singular values, item by item."""
    rows, columns = math.prod(operator.out_shapes[0]), math.prod(operator.in_shape)
    return torch.stack([rank_rule(one, rows, columns) for one in s]) if operator.batch is not None else rank_rule(s, rows, columns)

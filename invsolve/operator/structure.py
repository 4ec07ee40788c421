"""Compositions H @ G that stay exact: what two parts keep together when one of them is as good as a rotation, or when they act on
different sides of the image.

    G orthogonal (square, s = c everywhere):   H G = U_H (c s_H) (V_G U_G^T V_H)^T
    H an isometry of G's output (s = c):       H G = (U_H V_H^T U_G) (c s_G) V_G^T
    H on channels, G on pixels (or so):        H G = (U_c (x) U_p) (s_c s_p) (V_c (x) V_p)^T

A class may know more: `Operator.compose`, `Operator.composed_into`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.operator.algebra import Composed, Scaled, turns_real
from invsolve.operator.contract import Capability, Operator
from invsolve.operator.measurement import Measurement, parts
from invsolve.operator.svd import SVD, rank_rule


def joined(outer: Operator, inner: Operator) -> Operator:
    """outer @ inner with as much structure as it keeps.

    Tried in this order: what the two classes know (`compose`, `composed_into`), a factor taken in front, the rules of the module, and
    the neighbours of a chain joined first: (A @ B) @ C as A @ (B @ C) where B @ C is more than a chain.

    Raises:
        InputError: the shapes do not meet.
    """
    if inner.complex_output and isinstance(outer, Composed) and not outer.complex_input and turns_real(outer):
        first, second = outer.parts
        return joined(first, joined(second, inner))
    plain = Composed(outer, inner)
    for rule in (own, unscaled, exact, regrouped):
        found = rule(outer, inner)
        if found is not None:
            return found
    return plain


def own(outer: Operator, inner: Operator) -> Operator | None:
    """By what the classes know."""
    known = outer.compose(inner)
    return inner.composed_into(outer) if known is None else known


def exact(outer: Operator, inner: Operator) -> Operator | None:
    """By the rules of the module, from two operators with an SVD."""
    if not (outer.has(Capability.SVD) and inner.has(Capability.SVD)) or inner.complex_output:
        return None  # what stands after a complex operator is continued, and its spectrum is that of real images
    if square(inner) and level(inner) is not None:
        return Rotated(outer, inner)
    if level(outer) is not None:
        return Embedded(outer, inner)
    if outer.pointwise and inner.channelwise and outer.svd().s.shape == outer.in_shape and by_channel(inner):
        return ColourAfter(outer, inner)
    if outer.channelwise and inner.pointwise and inner.out_shapes[0][0] == 1 and one_channel(inner):
        return ColourBefore(outer, inner)
    return None


def unscaled(outer: Operator, inner: Operator) -> Operator | None:
    """c (H @ G) for (c H) @ G, and for H @ (c G) where H is linear, if H @ G is more than a chain."""
    if isinstance(outer, Scaled):
        found = joined(outer.parts[0], inner)
        return None if type(found) is Composed else Scaled(found, outer.factor)
    if isinstance(inner, Scaled) and outer.has(Capability.LINEAR):
        found = joined(outer, inner.parts[0])
        return None if type(found) is Composed else Scaled(found, inner.factor)
    return None


def regrouped(outer: Operator, inner: Operator) -> Operator | None:
    """A chain with two neighbours joined first, if that makes one operator of them or gives the whole an SVD."""
    if isinstance(outer, Composed):
        first, second = outer.parts
        middle = joined(second, inner)
        if length(middle) < length(second) + length(inner):
            return joined(first, middle)
        whole = exact(first, middle)
        if whole is not None:
            return whole
    if isinstance(inner, Composed):
        first, second = inner.parts
        middle = joined(outer, first)
        if length(middle) < length(outer) + length(first):
            return joined(middle, second)
        return exact(middle, second)
    return None


def length(operator: Operator) -> int:
    """How many maps a chain consists of: what regrouping makes smaller, and so comes to an end."""
    return sum(map(length, operator.parts)) if isinstance(operator, Composed | Scaled) else 1


def by_channel(operator: Operator) -> bool:
    """Whether the spectrum is led by the channels, as a class with `channelwise` has it, in blocks as large as the measurement."""
    channels = operator.in_shape[0]
    s = operator.svd().s
    own = s.shape[1:] if operator.batch is not None else s.shape
    height, width = operator.out_shapes[0][-2:]
    return len(own) > 1 and own[0] == channels and math.prod(own[1:]) % (height * width) == 0


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
    def recipe(self) -> tuple[str, dict[str, Operator]]:
        """How a file has it: the two operators, whose rule is found again."""
        return "structured", {"outer": self.parts[0], "inner": self.parts[1]}

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

        return SVD(outer.s.double() * c, outer.U, outer.Ut, right, right_transposed)


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

        return SVD(inner.s.double() * c, left, left_transposed, inner.V, inner.Vt)


class ColourAfter(Structured):
    """C P with C on channels, alike at all pixels, and P on pixels, alike in all channels: the two bases commute.

    P's spectrum is led by the channels; V_C mixes them there, in blocks (C, h, w) of the size that C is made for.
    """

    rule = "channels and pixels apart"

    def svd(self) -> SVD:
        """s = s_C s_P, V = V_P V_C, U = U_C U_P, the rank rule on the product."""
        colour, space = (part.svd() for part in self.parts)
        batched = self.parts[1].batch is not None
        spec = space.s.shape[1:] if batched else space.s.shape
        weights = colour.s[:, 0, 0].to(space.s.device, torch.float64)  # a mask's own values may be in single precision
        s = ranked(space.s * weights.reshape(-1, *[1] * (len(spec) - 1)), self)
        channels, height, width = self.parts[0].in_shape
        count = math.prod(spec[1:]) // (height * width)

        def mixed(turn: Callable[[Tensor], Tensor], c: Tensor) -> Tensor:
            """V_C or its transpose on (B, C, ...): every block of h w entries is an image of its own."""
            blocks = c.reshape(len(c), channels, count, height, width).transpose(1, 2)
            turned = turn(blocks.reshape(len(c) * count, channels, height, width))
            return turned.reshape(blocks.shape).transpose(1, 2).reshape(c.shape)

        def seen(c: Tensor) -> Tensor:
            return torch.where(s.to(c.device) > 0, c, 0)

        return SVD(
            s,
            lambda c: colour.U(space.U(seen(c))),
            lambda y: seen(space.Ut(colour.Ut(y))),
            lambda c: space.V(mixed(colour.V, c)),
            lambda x: mixed(colour.Vt, space.Vt(x)),
        )


class ColourBefore(Structured):
    """P C with C from several channels to one and P on that one.

    V^T x is C's, whose first channel then goes through P's; the others are C's null space. The spectrum is flat, (n,).
    U_C is a number, 1 or -1.
    """

    rule = "channels and pixels apart"

    def svd(self) -> SVD:
        """s = s_C s_P on P's spectrum, 0 on the channels that C does not see; U = U_C U_P."""
        space, colour = (part.svd() for part in self.parts)
        channels, height, width = self.in_shape
        sign = float(colour.U(torch.ones(1, channels, height, width, dtype=torch.float64, device=space.s.device))[0, 0, 0, 0])
        count = height * width
        product = colour.s[0, 0, 0].to(space.s.device) * space.s.double()
        first = product.flatten(-(product.ndim - (self.parts[0].batch is not None)))
        s = ranked(torch.cat([first, first.new_zeros(*first.shape[:-1], (channels - 1) * count)], dim=-1), self)

        def seen(c: Tensor) -> Tensor:
            return torch.where(s.to(c.device) > 0, c, 0)

        def inner_spectrum(c: Tensor) -> Tensor:
            return c[:, :count].reshape(len(c), *product.shape[-len(spec) :])

        spec = space.s.shape[1:] if self.parts[0].batch is not None else space.s.shape

        def left_transposed(y: Tensor) -> Tensor:
            known = sign * space.Ut(y).flatten(1)
            return seen(torch.cat([known, known.new_zeros(len(y), (channels - 1) * count)], dim=1))

        def right(c: Tensor) -> Tensor:
            image = space.V(inner_spectrum(c))
            return colour.V(torch.cat([image, c[:, count:].reshape(len(c), channels - 1, height, width)], dim=1))

        def right_transposed(x: Tensor) -> Tensor:
            c = colour.Vt(x)
            return torch.cat([space.Vt(c[:, :1]).flatten(1), c[:, 1:].flatten(1)], dim=1)

        return SVD(s, lambda c: sign * space.U(inner_spectrum(seen(c))), left_transposed, right, right_transposed)


def ranked(s: Tensor, operator: Operator) -> Tensor:
    """The rank rule for an operator's singular values, item by item."""
    rows, columns = math.prod(operator.out_shapes[0]), math.prod(operator.in_shape)
    return torch.stack([rank_rule(one, rows, columns) for one in s]) if operator.batch is not None else rank_rule(s, rows, columns)

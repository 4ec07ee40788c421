"""Operators made of operators: H @ G, H + G, c * H, H.T and stacks.

Composition and sums keep linear, adjoint and differentiable; an SVD, pinv or prox survives only where it stays exact
(scaling).
"""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.operator.complex_data import AsComplex, continued, continued_adjoint, taken
from invsolve.operator.contract import Capability, Operator
from invsolve.operator.matrix import MatrixOperator
from invsolve.operator.measurement import Measurement, mapped, parts
from invsolve.operator.svd import SVD
from invsolve.operator.windows import Window

KEPT = frozenset({Capability.LINEAR, Capability.ADJOINT, Capability.DIFFERENTIABLE})


def common_batch(*operators: Operator) -> int | None:
    """The one batch size among the operators, or None.

    Raises:
        InputError: two that differ.
    """
    sizes = {operator.batch for operator in operators if operator.batch is not None}
    if len(sizes) > 1:
        raise InputError(f"operators for batches of {sorted(sizes)} items cannot be joined")
    return next(iter(sizes), None)


def one_input(*operators: Operator) -> bool:
    """Whether all of them take complex images, or none.

    Raises:
        InputError: some do.
    """
    if len({operator.complex_input for operator in operators}) > 1:
        raise InputError(f"{', '.join(operator.label for operator in operators)}: some take complex images, some real ones")
    return operators[0].complex_input


def turns_real(operator: Operator) -> bool:
    """Whether a combination holds a step from complex numbers, after which H (iz) is not i H z: it cannot be continued as a whole."""
    return isinstance(operator, Combined) and any(part.complex_input or turns_real(part) for part in operator.parts)


class Combined(Operator):
    """Base of operators that consist of others: they keep what all parts keep.

    Args:
        operators: the parts, kept in an nn.ModuleList so that they move together.
    """

    def __init__(self, *operators: Operator) -> None:
        super().__init__()
        for operator in operators:
            if not isinstance(operator, Operator):
                raise InputError(f"{self.label} takes operators, one after the other; given {type(operator).__name__}")
        self.operators = nn.ModuleList(operators)
        self.batch = common_batch(*operators)

    @property
    def parts(self) -> tuple[Operator, ...]:
        """The operators it consists of."""
        return tuple(self.operators)  # pyright: ignore[reportReturnType]

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What every part keeps."""
        return frozenset.intersection(KEPT, *(part.capabilities for part in self.parts))

    @property
    def complex_outputs(self) -> tuple[bool, ...]:
        """Complex where a part's is."""
        return tuple(any(kinds) for kinds in zip(*(part.complex_outputs for part in self.parts), strict=True))

    @property
    def strides(self) -> tuple[int, ...]:
        """The parts' own, where each gives measurements of its own."""
        own = sum((part.strides for part in self.parts), ())
        return own if len(own) == len(self.out_shapes) else super().strides

    def select(self, items: range) -> Operator:
        """The same combination of the parts' items."""
        chosen = [part if part.batch is None else part.select(items) for part in self.parts]
        return type(self)(*chosen)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(part.label for part in self.parts)}; {self.extra_repr()})"


def take_place(operator: Operator, inner: Operator) -> None:
    """Say of oneself what another operator says of places: for wrappers that change none."""
    operator.uniform, operator.reach, operator.stride, operator.period = inner.uniform, inner.reach, inner.stride, inner.period


class Composed(Combined):
    """H @ G: x -> H(G(x)), read right to left; an H of real images after a complex G is continued, see `invsolve.operator.complex_data`.

    Args:
        outer: H, made for what G gives.
        inner: G.

    Raises:
        InputError: G's output is not H's input, or complex where H is neither linear nor made for complex images.
    """

    def __init__(self, outer: Operator, inner: Operator) -> None:
        super().__init__(outer, inner)
        if outer.in_shape != inner.out_shape:
            raise InputError(
                f"cannot compose {outer.label} @ {inner.label}: {outer.label} takes {outer.in_shape}, {inner.label} gives {inner.out_shape}"
            )
        self.in_shape = inner.in_shape
        self.out_shape = outer.out_shape
        self.crossed = inner.complex_output and not outer.complex_input
        if self.crossed and not outer.has(Capability.LINEAR):
            raise InputError(
                f"{inner.label} gives complex numbers, {outer.label} takes real images and is not linear; with "
                f"AsComplex({(2 * outer.in_shape[0], *outer.in_shape[1:])}).T between them it gets (real parts, imaginary parts)"
            )
        if self.crossed and turns_real(outer):
            raise InputError(
                f"{outer.label} turns complex numbers into real ones on the way, and {inner.label} gives complex ones: compose from the "
                "right, A @ (B @ C)"
            )
        if outer.complex_input and not inner.complex_output:
            raise InputError(f"{outer.label} takes complex numbers, {inner.label} gives real ones; AsComplex stands between them")
        self.complex_input, self.complex_output = inner.complex_input, self.crossed or outer.complex_output
        self.output_range = outer.output_range if inner.output_range == (0.0, 1.0) else None
        self.uniform = outer.uniform and inner.uniform
        self.reach, self.stride = inner.reach + inner.stride * outer.reach, inner.stride * outer.stride
        self.period = math.lcm(inner.period, inner.stride * math.lcm(outer.period, outer.stride))

    def window(self, window: Window) -> Operator:
        """The outer operator's of what the inner one makes of the window."""
        outer, inner = self.parts
        return outer.window(window.over(inner.stride)) @ inner.window(window)

    @property
    def strides(self) -> tuple[int, ...]:
        """The outer operator's, in pixels of the inner one's image."""
        return tuple(self.parts[1].stride * stride for stride in self.parts[0].strides)

    @property
    def complex_outputs(self) -> tuple[bool, ...]:
        """The outer operator's, all where it is continued to complex images."""
        own = self.parts[0].complex_outputs
        return (True,) * len(own) if self.crossed else own

    @property
    def supports(self) -> tuple[Tensor | None, ...]:
        """The outer operator's."""
        return self.parts[0].supports

    def forward(self, x: Tensor) -> Measurement:
        """H(G(x))."""
        outer, inner = self.parts
        made = inner(x)
        assert isinstance(made, Tensor)
        return continued(outer, made) if self.crossed else outer(made)

    @classmethod
    def examples(cls) -> list[Operator]:
        """To fewer numbers and back, and one per image."""
        wide, tall, each = MatrixOperator.examples()
        return [cls(AdjointView(wide), wide), cls(tall, AdjointView(tall)), cls(AdjointView(each), each)]

    def adjoint(self, y: Measurement) -> Tensor:
        """G^T H^T y."""
        self.need(Capability.ADJOINT)
        outer, inner = self.parts
        return inner.adjoint(continued_adjoint(outer, y) if self.crossed else outer.adjoint(y))


class Sum(Combined):
    """H + G: x -> H(x) + G(x).

    Args:
        first: H.
        second: G.

    Raises:
        InputError: shapes differ.
    """

    def __init__(self, first: Operator, second: Operator) -> None:
        super().__init__(first, second)
        if (first.in_shape, first.out_shape) != (second.in_shape, second.out_shape):
            raise InputError(
                f"cannot add {first.label} {first.in_shape} -> {first.out_shape} and {second.label} {second.in_shape} -> {second.out_shape}"
            )
        self.in_shape, self.out_shape = first.in_shape, first.out_shape
        self.complex_input, self.complex_output = one_input(first, second), any(self.complex_outputs)

    def forward(self, x: Tensor) -> Measurement:
        """H(x) + G(x)."""
        first, second = (part(x) for part in self.parts)
        return mapped(torch.add, first, second)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Of one operator and a multiple of it, and one per image."""
        wide, _, each = MatrixOperator.examples()
        return [cls(wide, Scaled(wide, -0.5)), cls(each, each)]

    def adjoint(self, y: Measurement) -> Tensor:
        """H^T y + G^T y."""
        self.need(Capability.ADJOINT)
        first, second = self.parts
        return first.adjoint(taken(first, y)) + second.adjoint(taken(second, y))


class Scaled(Combined):
    """c * H for a number c; keeps everything but MASK, since all of it stays exact.

    Args:
        operator: H.
        factor: c, not 0.
    """

    def __init__(self, operator: Operator, factor: float) -> None:
        super().__init__(operator)
        if not isinstance(factor, Real):
            raise InputError(f"the factor must be a number, such as 2.0 or float(c); given {type(factor).__name__}")
        if not math.isfinite(factor) or factor == 0:
            raise InputError(f"the factor must be finite and not 0; given {factor}")
        self.factor = float(factor)
        if operator.output_range is not None:
            low, high = sorted(self.factor * end for end in operator.output_range)
            self.output_range = (low, high)
        self.in_shape, self.out_shape = operator.in_shape, operator.out_shape
        self.complex_input, self.complex_output = operator.complex_input, operator.complex_output
        take_place(self, operator)

    def window(self, window: Window) -> Operator:
        """c * H of the window."""
        return Scaled(self.parts[0].window(window), self.factor)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The operator's own, without MASK (0/1 no longer)."""
        own = self.parts[0].capabilities
        if Capability.LINEAR not in own:
            return own & {Capability.DIFFERENTIABLE}
        return own - {Capability.MASK}

    def select(self, items: range) -> Operator:
        """c * H of the items."""
        return Scaled(self.parts[0].select(items), self.factor)

    @property
    def supports(self) -> tuple[Tensor | None, ...]:
        """The operator's own."""
        return self.parts[0].supports

    def _divided(self, y: Measurement) -> Measurement:
        return mapped(lambda part: part / self.factor, y)

    def guess(self, y: Measurement) -> Tensor | None:
        """The operator's own, of y / c."""
        return self.parts[0].guess(self._divided(y))

    def forward(self, x: Tensor) -> Measurement:
        """c H(x)."""
        return mapped(lambda part: self.factor * part, self.parts[0](x))

    def adjoint(self, y: Measurement) -> Tensor:
        """c H^T y."""
        self.need(Capability.ADJOINT)
        return self.factor * self.parts[0].adjoint(y)

    def pinv(self, y: Measurement) -> Tensor:
        """H^+ y / c."""
        self.need(Capability.PINV)
        return self.parts[0].pinv(y) / self.factor

    def prox(self, z: Tensor, y: Measurement, tau: float | Tensor) -> Tensor:
        """The prox of H at y / c with tau c^2."""
        self.need(Capability.PROX)
        return self.parts[0].prox(z, self._divided(y), tau * self.factor**2)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Negative, and one per image."""
        wide, _, each = MatrixOperator.examples()
        return [cls(wide, -2.5), cls(each, 0.5)]

    def svd(self) -> SVD:
        """U takes c's sign, s its size."""
        self.need(Capability.SVD)
        inner, sign = self.parts[0].svd(), 1.0 if self.factor > 0 else -1.0
        # s may be held in single precision where that is exact (0 and 1); times c it is not
        return SVD(inner.s.double() * abs(self.factor), lambda c: sign * inner.U(c), lambda y: sign * inner.Ut(y), inner.V, inner.Vt)


class AdjointView(Combined):
    """H.T as an operator of its own.

    Args:
        operator: H.

    Raises:
        CapabilityError: H has no adjoint.
        InputError: H is a Stack (its adjoint takes a tuple).
    """

    def __init__(self, operator: Operator) -> None:
        super().__init__(operator)
        operator.need(Capability.ADJOINT)
        if operator.stacked:
            raise InputError("the adjoint of a Stack takes a tuple and is no Operator; call stack.adjoint(y)")
        self.in_shape, self.out_shape = operator.out_shape, operator.in_shape  # pyright: ignore[reportAttributeAccessIssue]
        self.complex_input, self.complex_output = operator.complex_output, operator.complex_input

    @property
    def complex_outputs(self) -> tuple[bool, ...]:
        """Whether the operator's images are complex."""
        return (self.complex_output,)

    def forward(self, x: Tensor) -> Tensor:
        """H^T x."""
        return self.parts[0].adjoint(x)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Wide, tall, and one per image."""
        return [cls(one) for one in MatrixOperator.examples()]

    def adjoint(self, y: Measurement) -> Tensor:
        """H y."""
        return parts(self.parts[0](parts(y)[0]))[0]

    @property
    def T(self) -> Operator:  # noqa: N802 (the field's name)
        """H again."""
        return self.parts[0]


class Stack(Combined):
    """Several operators on the same image: x -> (H_1(x), H_2(x), ...); y is a tuple.

    Args:
        operators: H_1, H_2, ...

    Raises:
        InputError: fewer than one operator, nested stacks, or inputs that differ.
    """

    def __init__(self, *operators: Operator) -> None:
        super().__init__(*operators)
        shapes = {operator.in_shape for operator in operators}
        if len(shapes) != 1:
            raise InputError(f"a Stack needs operators on the same image; given in_shapes {sorted(shapes)}")
        if any(isinstance(operator, Stack) for operator in operators):
            raise InputError("a Stack of Stacks is not supported; stack the parts themselves")
        self.in_shape = next(iter(shapes))
        self.out_shape = tuple(operator.out_shape for operator in operators)  # pyright: ignore[reportAttributeAccessIssue]
        self.complex_input, self.complex_output = one_input(*operators), any(operator.complex_output for operator in operators)
        ranges = {operator.output_range for operator in operators}
        self.output_range = next(iter(ranges)) if len(ranges) == 1 else None
        self.uniform, self.reach = all(part.uniform for part in operators), max(part.reach for part in operators)
        self.stride, self.period = (math.lcm(*(getattr(part, name) for part in operators)) for name in ("stride", "period"))

    def window(self, window: Window) -> Operator:
        """The parts of the window."""
        return Stack(*(part.window(window) for part in self.parts))

    @property
    def complex_outputs(self) -> tuple[bool, ...]:
        """The parts' own."""
        return tuple(part.complex_output for part in self.parts)

    @property
    def supports(self) -> tuple[Tensor | None, ...]:
        """The parts' own."""
        return tuple(part.supports[0] for part in self.parts)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(H_1 x, H_2 x, ...)."""
        return tuple(part(x) for part in self.parts)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Parts of different sizes, one of them complex, and one per image."""
        wide, tall, each = MatrixOperator.examples()
        pair = MatrixOperator(torch.eye(4, 6, dtype=torch.float64).roll(1, 1), tall.in_shape, (2, 2))
        return [cls(wide, Composed(AdjointView(wide), wide)), cls(tall, Composed(AsComplex((2, 2)), pair)), cls(each, Scaled(each, 2.0))]

    def adjoint(self, y: Measurement) -> Tensor:
        """sum_k H_k^T y_k."""
        self.need(Capability.ADJOINT)
        return torch.stack([part.adjoint(one) for part, one in zip(self.parts, parts(y), strict=True)]).sum(0)

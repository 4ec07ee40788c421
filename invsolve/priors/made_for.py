"""What a conditional prior was trained for: operators, noise and size; and whether a problem is that."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InputError, InvsolveError
from invsolve.operator import Operator
from invsolve.operator.algebra import Scaled
from invsolve.plugins import registry
from invsolve.priors.conditions import UPS, image_condition, magnification, magnification_value, with_map
from invsolve.problem import Problem
from invsolve.rng import Rng

# Eight-bit storage of y, and rounding, are no other noise level than 0; in y's units, for images in [0, 1].
SLACK = 0.005


@dataclass(frozen=True)
class MadeFor:
    """The problems y = H x + s n that a network was trained on.

    Args:
        operators: tables {"name": ..., arguments ...} of the registry, without in_shape.
        noise: (lowest, highest) s, in y's units.
        up, fill: how y becomes the condition; see `conditions.image_condition`.
        shape: the image shape (C, H, W) it was trained on; with `any_size` its C only.
        any_size: whether images of other sizes are served, too.
        also: names of the registry all of whose operators it serves, such as every kind of mask.
        told: whether a channel of the condition tells the noise's standard deviation.
        sides: least and largest side of the images, with any_size; None for no limit.
        factors: ends of the magnification, which a channel of the condition tells; None without one.

    Raises:
        InputError: no operator, another `up`, a shape that is none, ends that are no range.
    """

    operators: tuple[dict[str, Any], ...]
    noise: tuple[float, float] = (0.0, 0.0)
    up: str = "bicubic"
    fill: bool = True
    shape: tuple[int, int, int] = (3, 64, 64)
    any_size: bool = False
    also: tuple[str, ...] = ()
    told: bool = False
    sides: tuple[int, int] | None = None
    factors: tuple[float, float] | None = None
    _known: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.operators or not all(isinstance(one, dict) and "name" in one for one in self.operators):
            raise InputError(f'operators must be tables such as {{"name": "block-mean", "factor": 4}}; given {self.operators!r:.100}')
        if self.up not in UPS or len(self.noise) != 2 or not 0 <= self.noise[0] <= self.noise[1] < math.inf:
            raise InputError(f"need up in {', '.join(UPS)} and noise 0 <= low <= high; given {self.up!r} and {self.noise!r:.60}")
        if len(self.shape) != 3 or not all(isinstance(side, int) and side > 0 for side in self.shape):
            raise InputError(f"shape must be (C, H, W); given {self.shape!r:.60}")

    def gaps(self, problem: Problem) -> list[str]:
        """Why a problem is another than those; [] if it is one."""
        operator, found = problem.operator, []
        shape = operator.in_shape
        if len(shape) != 3 or shape[0] != self.shape[0] or not (self.any_size or tuple(shape) == self.shape):
            return [f"images of shape {tuple(shape)}; {self.words}"]
        if self.sides is not None and not self.sides[0] <= min(shape[1:]) <= max(shape[1:]) <= self.sides[1]:
            return [f"images of shape {tuple(shape)}; {self.words}"]
        if self.ratio(operator) is None:
            found.append(f"operator {operator.label}; {self.words}")
        elif self.factors is not None and not self.factors[0] * 0.99 <= self.magnification(operator) <= self.factors[1] * 1.01:
            found.append(f"a magnification of {self.magnification(operator):.3g}; {self.words}")
        elif problem.batch:
            level = problem.level / abs(self.ratio(operator) or 1.0)
            low, high = float(level.min()), float(level.max())
            if not self.noise[0] - SLACK <= low <= high <= self.noise[1] + SLACK:
                found.append(f"noise of standard deviation {low:.3g}{'' if high == low else f' to {high:.3g}'}; {self.words}")
        return found

    @property
    def words(self) -> str:
        """What it is for, in words."""
        names = [*(written(one) for one in self.operators), *(f"any {name}" for name in self.also)]
        low, high = self.noise
        noise = "no noise" if high == 0 else f"noise {low:g}" if low == high else f"noise {low:g} to {high:g}"
        size = f"{self.shape[0]}-channel images of any size" if self.any_size else f"images of shape {self.shape}"
        if self.sides is not None:
            size = f"{self.shape[0]}-channel images of sides {self.sides[0]} to {self.sides[1]}"
        if self.factors is not None:
            size = f"magnifications of {self.factors[0]:g} to {self.factors[1]:g}, {size}"
        return f"the network was trained for {' or '.join(dict.fromkeys(names))}, {noise}, {size}"

    def ratio(self, operator: Operator) -> float | None:
        """c with operator = c H of an H that it was made for; None for another operator."""
        operator, factor = bare(operator)
        if any(isinstance(operator, kind) for kind in self._kinds()):
            return factor
        twins = (one for one in self.instances(operator.in_shape) if one.out_shape == operator.out_shape)
        return factor if any(equal(operator, one) for one in twins) else None

    def _kinds(self) -> Iterator[type]:
        for name in self.also:
            target = registry().load("operator", name)
            if isinstance(target, type):
                yield target

    def instances(self, shape: tuple[int, ...]) -> list[Operator]:
        """The operators for images of a shape, those that can be made for it."""
        if shape not in self._known:
            made = []
            for table in self.operators:
                try:
                    made.append(operator_of(table, tuple(shape)))
                except InvsolveError:  # such as a factor that does not divide the sides
                    continue
            self._known[shape] = made
        return self._known[shape]

    def condition(self, problem: Problem) -> Tensor:
        """The condition of a problem, (B, C, H, W); holes are filled from each item's own stream.

        Raises:
            InputError: y is no such image.
        """
        operator, factor = bare(problem.operator)
        rng = Rng(0, problem.items, purpose="condition")
        y: Any = problem.y if factor == 1.0 else problem.y / factor  # pyright: ignore[reportOperatorIssue]
        image = image_condition(operator, y, self.up, rng.normal_like if self.fill else None)
        if self.told:
            image = with_map(image, problem.level / abs(factor))
        return image if self.factors is None else with_map(image, magnification_value(self.magnification(operator)))

    @staticmethod
    def magnification(operator: Operator) -> float:
        """How many times larger the image is than the measurement; 1 where that is no image."""
        shape: Any = bare(operator)[0].out_shape
        return magnification(operator.in_shape[1:], shape[1:]) if len(shape) == 3 else 1.0

    def example(self, x: Tensor) -> Problem:
        """A problem of images x that it was made for, without or with the lowest noise.

        Raises:
            InputError: x has no size that it serves.
        """
        from invsolve.noise import GaussianNoise, NoNoise

        made = self.instances(tuple(x.shape[1:]))
        if not made:
            raise InputError(f"no operator of images {tuple(x.shape[1:])}: {self.words}")
        noise = GaussianNoise(self.noise[0]) if self.noise[0] > 0 else NoNoise()
        return Problem.simulate(made[0], x, noise, generator=0)


def operator_of(table: dict[str, Any], shape: tuple[int, ...]) -> Operator:
    """The operator of a table for images of a shape; those of a chain are made for what the one before gives.

    Raises:
        InputError, UnknownNameError, ArgumentError: as `Registry.build`.
    """
    arguments = {key: value for key, value in table.items() if key != "name"}
    if table["name"] != "chain":
        return registry().build("operator", table["name"], in_shape=shape, **arguments)
    whole = operator_of(arguments["operators"][0], shape)
    for one in arguments["operators"][1:]:
        whole = operator_of(one, tuple(whole.out_shape)) @ whole  # pyright: ignore[reportArgumentType]
    return whole


def bare(operator: Operator) -> tuple[Operator, float]:
    """H and c of an operator c H."""
    factor = 1.0
    while isinstance(operator, Scaled) and isinstance(operator.factor, int | float):
        operator, factor = operator.parts[0], factor * float(operator.factor)
    return operator, factor


def written(table: dict[str, Any]) -> str:
    """A table of an operator in words."""
    rest = ", ".join(f"{key}={value}" if len(str(value)) <= 40 else f"{key}=..." for key, value in table.items() if key != "name")
    return f"{table['name']}({rest})" if rest else str(table["name"])


@torch.no_grad()
def equal(one: Operator, other: Operator) -> bool:
    """Whether two operators give the same measurement of a drawn image, to the rounding of its type."""
    x = Rng(0, range(one.batch or 1), purpose="same operator").uniform(one.in_shape, torch.zeros(1, dtype=torch.float64))
    try:
        first, second = (operator(x.to(operator.device or "cpu")) for operator in (one, other))
    except Exception:  # of a type of its own: the drawn image is none for it
        return False
    if not (isinstance(first, Tensor) and isinstance(second, Tensor)) or first.shape != second.shape or first.dtype != second.dtype:
        return False
    return bool((first.cpu() - second.cpu()).abs().max() <= 1e-5)

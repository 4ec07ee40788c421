"""The table [condition] of a training config: what a conditional network is trained to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from invsolve.errors import InputError
from invsolve.operator import Operator
from invsolve.priors.conditions import Up
from invsolve.recipe.config import alternatives
from invsolve.recipe.parts import build
from invsolve.recipe.tables import Part, Table, located
from invsolve.training.damage import DamageCondition
from invsolve.training.labels import LabelsCondition
from invsolve.training.pairs import Continuous, Degraded, Pairs

Level = Annotated[float, Field(ge=0, le=1e6)]
Side = Annotated[int, Field(ge=1, le=4096)]


class Beside:
    """Files named in the table lie below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """A path in the table."""
        return located(self.folder, name)


def ends(value: Any) -> Any:
    """A number as a range of one."""
    return [value, value] if isinstance(value, int | float) and not isinstance(value, bool) else value


def tagged(value: Any) -> Any:
    """A condition without `kind` is a degradation, or labels where it has that key."""
    if isinstance(value, dict) and "kind" not in value:
        return {"kind": "labels" if "labels" in value else "degraded", **value}
    return value


class DegradedCondition(Table):
    """The image degraded by an operator of the registry and brought back to its size; see `pairs.Degraded`."""

    kind: Literal["degraded"] = "degraded"
    """May be left out."""
    operator: Annotated[list[Part], BeforeValidator(alternatives), Field(min_length=1, max_length=100)]
    """One operator, or several of which each item gets one: a name with its arguments; in_shape is that of the crops."""
    draws: Annotated[int, Field(ge=1, le=4096)] = 1
    """How many of each operator that takes a `seed` are made, with seeds 0, 1, ...: masks that differ from item to item."""
    noise: Annotated[list[Level], BeforeValidator(ends), Field(min_length=2, max_length=2)] = Field(default_factory=lambda: [0.0, 0.0])
    """Standard deviation of the measurement's noise: a number, or [low, high], uniform."""
    up: Up = "bicubic"
    """How the measurement comes to the image's size."""
    fill: bool = True
    """Whether noise fills the holes of masks."""
    also: list[str] = Field(default_factory=list, max_length=20)
    """Names of operators all of which the prior serves, whatever their arguments: `also = ["mask"]` for any mask."""
    any_size: bool = False
    """Whether the prior serves images of any size, and not of the crops' alone."""
    told: bool = False
    """Whether a further channel of the condition tells the noise's standard deviation."""

    @field_validator("noise")
    @classmethod
    def _check_noise(cls, noise: list[float]) -> list[float]:
        if noise[0] > noise[1]:
            raise ValueError(f"noise = [low, high] with low <= high; given {noise}")
        return noise

    def pairs(self, shape: tuple[int, int, int], folder: Path) -> Pairs:
        """What draws them.

        Raises:
            InputError: operators that cannot be made for the crops; see `invsolve.recipe.build`.
        """
        from invsolve.plugins import registry
        from invsolve.plugins.arguments import signature_of

        operators = []
        for part in self.operator:
            seeded = "seed" in signature_of(registry().load("operator", part.name)).parameters and "seed" not in part.arguments
            seeds = [{"seed": seed} for seed in range(self.draws)] if seeded else [{}]
            operators.append([build("operator", part, Beside(folder), in_shape=shape, **seed) for seed in seeds])
        return Degraded(operators, (self.noise[0], self.noise[1]), self.up, fill=self.fill, told=self.told)


class ContinuousCondition(Table):
    """Fewer pixels of the image, how many fewer being drawn for each batch, with a map of the magnification; see `pairs.Continuous`."""

    kind: Literal["continuous"]
    """What it is told from others by."""
    operator: Part
    """An operator with an argument `size`, the measurement's side: a name with its other arguments."""
    sides: Annotated[list[Side], Field(min_length=2, max_length=2)]
    """Least and largest side of the image; the crops have the largest."""
    magnification: Annotated[list[Annotated[float, Field(ge=1, le=64)]], Field(min_length=2, max_length=2)]
    """Ends of the magnification, log-uniform."""
    least: Side = 8
    """Smallest side of the measurement."""
    up: Up = "bicubic"
    """How the measurement comes to the image's size."""

    def pairs(self, shape: tuple[int, int, int], folder: Path) -> Pairs:
        """What draws them.

        Raises:
            InputError: crops that have not the largest side, ends that are no range.
        """
        ordered = self.least <= self.sides[0] < self.sides[1] and self.magnification[0] < self.magnification[1]
        if shape[1:] != (self.sides[1], self.sides[1]) or not ordered:
            given = f"sides {self.sides}, magnification {self.magnification}, least {self.least}, crops of {shape[1:]}"
            raise InputError(f"need least <= sides[0] < sides[1] = the crops' side and magnification [low, high]; given {given}")

        def make(of: tuple[int, int, int], size: int) -> Operator:
            return build("operator", self.operator, Beside(folder), in_shape=of, size=size)

        factors = (self.magnification[0], self.magnification[1])
        return Continuous(make, (self.sides[0], self.sides[1]), factors, self.least, self.up)


# Another kind of condition is one more name here; each is told from the others by `kind`.
Kinds = Annotated[DegradedCondition | ContinuousCondition | LabelsCondition | DamageCondition, Field(discriminator="kind")]
Condition = Annotated[Kinds, BeforeValidator(tagged)]


def pairs_of(condition: Any, shape: tuple[int, int, int], folder: Path) -> Pairs:
    """The pairs of a condition's table, tried on a grey image.

    Raises:
        InputError: it cannot be made, or its measurement is no condition.
    """
    import torch

    pairs = condition.pairs(shape, folder)
    try:
        pairs.fixed(torch.full((2, *shape), 0.5))
    except InputError as error:
        raise InputError(f"[condition]: {error}") from None
    return pairs

"""The training config of a few-step map: as any other, but for `objective.kind = "consistency"`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from invsolve.training.config import Objective, Place, TrainConfig
from invsolve.training.consistency import ConsistencyRecipe

Rungs = Annotated[int, Field(ge=2, le=10_000)]
OTHERS = ("total", "part", "align", "target")  # keys of other kinds, which would be ignored


class ConsistencyObjective(Objective):
    """What a few-step map is trained to: see `consistency.consistency_losses`."""

    kind: Literal["consistency"] = "consistency"  # pyright: ignore[reportIncompatibleVariableOverride]
    """The same answer all along a path of the probability-flow ODE."""
    teacher: Place = ""
    """A shipped prior or a weight file whose paths are followed, and whose weights are the first ones unless `start` says otherwise;
    without one the data's own paths are, which takes longer and is noisier."""
    levels: Annotated[list[Rungs], Field(min_length=2, max_length=2)] = Field(default_factory=lambda: [20, 160])
    """Numbers of noise levels at the start and at the end of the run; it doubles between."""
    huber: Annotated[float, Field(ge=1e-6, le=10)] = 0.00108
    """Below this error, in units of s0, the loss is quadratic, above it linear; 10: squares."""
    ode: Literal["heun", "euler"] = "heun"
    """The teacher's step: of second order with two calls, or of first order with one."""

    @field_validator("levels")
    @classmethod
    def _check_levels(cls, levels: list[int]) -> list[int]:
        if levels[0] > levels[1]:
            raise ValueError(f"levels = [first, last] with first <= last; given {levels}")
        return levels

    @model_validator(mode="after")
    def _check_others(self) -> ConsistencyObjective:
        given = [name for name in OTHERS if name in self.model_fields_set]
        if given:
            raise ValueError(f"{', '.join(given)}: of other kinds; a consistency objective has teacher, levels, huber, ode, s0 and sigmas")
        return self


class ConsistencyConfig(TrainConfig):
    """The training of a few-step map: its network is a map (x, sigma) -> f(x, sigma)."""

    objective: ConsistencyObjective  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    """What is minimised."""

    @model_validator(mode="before")
    @classmethod
    def _begin_with_the_teacher(cls, values: Any) -> Any:
        objective = values.get("objective") if isinstance(values, dict) else None
        teacher = objective.get("teacher") if isinstance(objective, dict) else None
        return {**values, "start": teacher} if teacher and not values.get("start") else values

    @model_validator(mode="after")
    def _check_condition(self) -> ConsistencyConfig:
        if self.condition is not None:
            raise ValueError("few-step maps are trained without a condition: leave the table [condition] out")
        if self.data.autoencoder:
            raise ValueError("few-step maps of codes are not trained here: leave data.autoencoder out")
        return self

    def recipe(self) -> ConsistencyRecipe:
        """The loop's settings."""
        objective = self.objective
        plain = super().recipe()
        rungs = (objective.levels[0], objective.levels[1])
        return ConsistencyRecipe(**vars(plain), rungs=rungs, huber=objective.huber, ode=objective.ode)

"""The training config of an autoencoder: as any other, but for `objective.kind = "autoencoder"`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from invsolve.recipe.tables import Table
from invsolve.training.autoencoder import AutoencoderRecipe
from invsolve.training.config import TrainConfig
from invsolve.training.objectives import UniformSigma


class AutoencoderObjective(Table):
    """What an autoencoder is trained to: see `autoencoder.autoencoder_losses`."""

    kind: Literal["autoencoder"]
    """D(E(x)) is to be x."""
    gradient: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    """Weight of the differences of neighbours, on three scales."""
    penalty: Annotated[float, Field(ge=0, le=1e6)] = 1e-6
    """Weight of the network's own penalty: of KL, or of the distance from the words of a book (0.25)."""


class AutoencoderConfig(TrainConfig):
    """The training of an autoencoder: its network is a map x -> (D(E(x)), penalty)."""

    objective: AutoencoderObjective  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    """What is minimised."""

    @model_validator(mode="after")
    def _check_condition(self) -> AutoencoderConfig:
        if self.condition is not None:
            raise ValueError("an autoencoder looks at its image alone: leave the table [condition] out")
        return self

    def recipe(self) -> AutoencoderRecipe:
        """The loop's settings; those of noise levels are not looked at."""
        given = self.run.model_dump(exclude={"save_minutes", "picture_minutes", "hours"})
        return AutoencoderRecipe(
            UniformSigma(0.002, 1.0),
            s0=1.0,
            hours=self.run.hours or 0.0,
            save_seconds=60 * self.run.save_minutes,
            picture_seconds=60 * self.run.picture_minutes,
            gradient=self.objective.gradient,
            penalty=self.objective.penalty,
            **given,
        )

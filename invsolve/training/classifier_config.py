"""The training config of a noised classifier: as any other, but for `objective.kind = "classifier"`."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from invsolve.training.config import Objective, TrainConfig
from invsolve.training.labels import LabelsCondition


class ClassifierObjective(Objective):
    """What a noised classifier is trained to: see `labels.ClassifierTraining`. Of the other keys only `sigmas` and `s0` are looked at."""

    kind: Literal["classifier"] = "classifier"  # pyright: ignore[reportIncompatibleVariableOverride]
    """Cross entropy at every noise level."""


class ClassifierConfig(TrainConfig):
    """The training of a classifier: its network is a map (x, sigma) -> logits (B, classes), [condition] says which classes."""

    objective: ClassifierObjective  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]
    """What is minimised."""

    @model_validator(mode="after")
    def _check_condition(self) -> ClassifierConfig:
        if not isinstance(self.condition, LabelsCondition):
            raise ValueError("a classifier learns labels: give [condition] labels = true, classes = N")
        return self

    @property
    def classes(self) -> int:
        """How many there are."""
        assert isinstance(self.condition, LabelsCondition)
        return self.condition.classes

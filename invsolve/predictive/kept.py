"""A calibration as data, which `Solution.save` writes beside the answer, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.predictive.calibration import Calibration
from invsolve.predictive.draws import Draws
from invsolve.predictive.fit import Fit
from invsolve.problem import Problem

TENSORS = ("mean", "spread", "samples", "groups", "own")
LOOKS = tuple(one.name for one in fields(Fit))


def record(calibration: Calibration) -> dict[str, Any]:
    """Tensors, numbers, words, and the draws' Problem."""
    draws = calibration.draws
    kept = {name: getattr(calibration, name) for name in (*TENSORS, "solver", "seconds")}
    drawn = {"truths": draws.truths, "problem": draws.problem, "origin": draws.origin, "nfe": draws.nfe}
    return {**kept, **drawn, "fit": asdict(calibration.fit)}


def recalled(data: Mapping[str, Any]) -> Calibration:
    """What `record` wrote, from a file that anybody may have written.

    Raises:
        InputError: entries are missing, of another kind, or of sizes that do not belong together.
    """
    truths, problem, look = (data.get(name) for name in ("truths", "problem", "fit"))
    if isinstance(problem, Mapping):  # the arguments of one, from a file
        problem = Problem(**problem)
    if not isinstance(truths, Tensor) or truths.ndim < 2 or not isinstance(problem, Problem) or truths.shape != problem.image.shape:
        raise InputError("malformed calibration: truths must be images of the size that its problem has")
    shape = tuple(truths.shape)
    for name in ("mean", "spread", "samples", "groups"):
        value: Any = data.get(name)
        fits = isinstance(value, Tensor) and tuple(value.shape)[name == "samples" :] == shape
        if name == "groups":
            fits = grouped(value) and value.ndim == len(shape) and all(a in (1, b) for a, b in zip(value.shape, shape, strict=True))
        if not fits:
            raise InputError(f"malformed calibration: {name} must be a tensor that fits images {shape}")
    own = data.get("own")
    if own is not None and not grouped(own):
        raise InputError("malformed calibration: own must be a tensor of groups, 0 and 1")
    words, numbers = [data.get("solver"), data.get("origin")], [data.get("seconds"), data.get("nfe")]
    if not all(isinstance(one, str) for one in words) or not all(isinstance(one, float | int) for one in numbers):
        raise InputError("malformed calibration: solver and origin are words, seconds and nfe numbers")
    if not isinstance(look, Mapping) or set(look) != set(LOOKS) or not isinstance(look["what"], str):
        raise InputError(f"malformed calibration: fit holds {', '.join(LOOKS)}")
    if not all(isinstance(look[name], float | int) for name in ("p", "score", "level")):
        raise InputError("malformed calibration: p, score and level of fit are numbers")
    draws = Draws(truths, problem, data["origin"], data["nfe"], held=True)
    parts = {name: data[name] for name in ("mean", "spread", "samples", "groups", "solver", "seconds")}
    return Calibration(draws, fit=Fit(**look), own=own, **parts)


def grouped(value: Any) -> bool:
    """Whether it is a tensor of groups of pixels."""
    return isinstance(value, Tensor) and value.dtype == torch.long and value.numel() > 0 and 0 <= int(value.min()) <= int(value.max()) <= 1

"""Objects from a checked Config: the problem (with the truth, if it was simulated), the prior and the solver."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from invsolve.arguments import bind, signature_of
from invsolve.config import Config, Part
from invsolve.errors import ArgumentError, InputError, InvsolveError, UnknownNameError
from invsolve.estimate import estimate_noise
from invsolve.images import TENSOR_FILES, read_image, read_tensor
from invsolve.noise import GaussianNoise, NoiseModel
from invsolve.operator import Operator
from invsolve.plugins import registry
from invsolve.priors.base import Prior
from invsolve.problem import Problem
from invsolve.solver import Solver

# How much larger than the measurement an image may be, where in_shape must be found.
FACTORS = (1, 2, 3, 4, 6, 8)
# Annotations that are checked, and those that a TOML value of a type fits; whatever else is left to the constructor.
CHECKED = {bool, int, float, str, type(None), Tensor}
FITS = {bool: {bool}, int: {int, float, Tensor}, float: {float, Tensor}, str: {str}}


@dataclass(frozen=True)
class Setup:
    """Everything of a run.

    Args:
        problem: on the device asked for.
        prior, solver: what solves it.
        truth: (B, C, H, W) on the CPU where the measurement was simulated, else None.
    """

    problem: Problem
    prior: Prior
    solver: Solver
    truth: Tensor | None = None


def set_up(config: Config) -> Setup:
    """Build all objects of a Config; whatever is misspelt or does not fit is refused before anything is computed.

    Raises:
        InputError: files, values and shapes that cannot be used.
        ArgumentError: an unknown argument, or one of another type.
        UnknownNameError: a name that is not registered.
        PluginError: an entry that cannot be imported.
    """
    solver: Solver = build("solver", config.solver, config)
    guess = config.noise is not None and config.noise.name == "gaussian" and config.noise.arguments == {"sigma": "auto"}
    if guess and config.data.simulate:
        raise InputError('noise.sigma = "auto" estimates the level of a measurement; to simulate one, give the level')
    noise: NoiseModel | None = None if config.noise is None or guess else build("noise", config.noise, config)
    for part in config.operator or []:
        registry().entry("operator", part.name)
    registry().entry("prior", config.prior.name)
    device = usable_device(config.run.device)
    problem, truth = _problem(config, noise)
    prior = make_prior(config, problem.operator.in_shape[0])
    return Setup(problem.to(device), prior.to(device), solver, truth)


def make_prior(config: Config, channels: int) -> Prior:
    """The prior; one for other channels that takes `channels`, which the file leaves out, is made for the image's."""
    prior: Prior = build("prior", config.prior, config)
    fits = getattr(prior, "channels", None) in (None, channels) or "channels" in config.prior.arguments
    takes = signature_of(registry().load("prior", config.prior.name)).parameters
    return prior if fits or "channels" not in takes else build("prior", config.prior, config, channels=channels)


def usable_device(name: str) -> torch.device:
    """The device, tried with one number.

    Raises:
        InputError: no such device here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device '{name}' cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def _problem(config: Config, noise: NoiseModel | None) -> tuple[Problem, Tensor | None]:
    data = config.data
    dtype = getattr(torch, data.dtype)
    if data.shape is not None:
        return Problem.unconditional(data.shape, data.batch, dtype=dtype), None
    if data.problem is not None:
        return Problem.load(config.path(data.problem)), None
    assert data.image is not None
    path = config.path(data.image)
    if not data.simulate and path.suffix.lower() in TENSOR_FILES and data.channels is None:
        y = read_tensor(path)
        y = y.to(dtype) if y.dtype in (torch.bfloat16, torch.float16) else y
    else:
        y = read_image(path, channels=data.channels)[0].to(dtype)
    y = cropped(y, data.crop)
    if data.simulate:
        operator = _operator(config, tuple(y.shape))
        assert noise is not None
        return Problem.simulate(operator, y[None], noise, generator=config.run.seed), y[None]
    y, operator = _operator_for(config, y)
    return Problem(operator, y, GaussianNoise(estimate_noise(operator, y).sigma) if noise is None else noise), None


def cropped(image: Tensor, crop: tuple[int, ...] | None) -> Tensor:
    """(C, H, W) cut to (height, width) about the middle, or (top, left, height, width).

    Raises:
        InputError: the crop leaves the image.
    """
    if crop is None:
        return image
    rows, columns = image.shape[-2:]
    height, width = crop[-2:]
    top, left = crop[:2] if len(crop) == 4 else ((rows - height) // 2, (columns - width) // 2)
    if min(height, width) < 1 or min(top, left) < 0 or top + height > rows or left + width > columns:
        raise InputError(f"crop {list(crop)} leaves the image of {rows} x {columns} (height x width)")
    return image[..., top : top + height, left : left + width].contiguous()


def _operator(config: Config, in_shape: tuple[int, ...]) -> Operator:
    """The operators in the order they are applied: H = H_last @ ... @ H_first."""
    made: list[Operator] = []
    for part in config.operator or []:
        shape = made[-1].out_shape if made else in_shape
        made.append(build("operator", part, config, in_shape=shape))
    return reduce(lambda inner, outer: outer @ inner, made)


def _operator_for(config: Config, y: Tensor) -> tuple[Tensor, Operator]:
    """(y as a batch, the operator): in_shape as written, else the first of a few shapes whose output is y's.

    Where several fit, the one nearest to y's own shape is taken.

    Raises:
        InputError: none fits; says what the likeliest one gave.
    """
    parts = config.operator or []
    reasons: list[str] = []
    for shape in [parts[0].arguments["in_shape"]] if "in_shape" in parts[0].arguments else shapes_for(tuple(y.shape)):
        try:
            operator = _operator(config, tuple(shape))
        except (ArgumentError, UnknownNameError):
            raise
        except InvsolveError as error:
            reasons.append(f"in_shape {tuple(shape)}: {error}")
            continue
        if operator.out_shape == tuple(y.shape):
            return y[None], operator
        if operator.out_shape == tuple(y.shape[1:]):
            return y, operator
        reasons.append(f"in_shape {tuple(shape)} gives y of shape {operator.out_shape}")
    why = reasons[0] if reasons else "its rank is not that of an image"
    raise InputError(f"no image shape was found for y of shape {tuple(y.shape)} ({why}); give it: operator.in_shape=[C,H,W]")


def shapes_for(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Image shapes that a measurement (C, H, W) may come from: the same, other channels, then whole multiples."""
    if len(shape) == 4:
        shape = shape[1:]
    if len(shape) != 3:
        return
    channels = list(dict.fromkeys((shape[0], 3, 1)))
    for factor, count in product(FACTORS, channels):
        yield (count, shape[1] * factor, shape[2] * factor)


def build(kind: Literal["operator", "noise", "prior", "solver"], part: Part, config: Config, **extra: Any) -> Any:
    """One object by its name; `extra` holds arguments that the file may leave out.

    Raises:
        UnknownNameError, ArgumentError, PluginError, InputError: as `Registry.build`, and for values of another type.
    """
    target = registry().load(kind, part.name)
    what = f"{kind} '{part.name}'"
    takes = signature_of(target).parameters
    given = {**{name: value for name, value in extra.items() if name in takes}, **part.arguments}
    bind(target, what, (), given)
    arguments = {name: converted(value, name, what, target, config) for name, value in given.items()}
    try:
        return registry().build(kind, part.name, **arguments)
    except (TypeError, ValueError) as error:
        if isinstance(error, InvsolveError):
            raise
        raise InputError(f"{what} cannot be made with {arguments}: {error}") from error


def converted(value: Any, name: str, what: str, target: Callable[..., Any], config: Config) -> Any:
    """A TOML value as the constructor wants it: lists become tuples (or tensors), { file = "..." } the tensor in it.

    Raises:
        ArgumentError: text, a truth value or a fraction where the annotation has no place for it.
    """
    if isinstance(value, dict) and set(value) == {"file"}:
        path = config.path(str(value["file"]))
        return read_tensor(path) if path.suffix.lower() in TENSOR_FILES else read_image(path)[0]
    hints = hinted(target, name)
    if isinstance(value, list | tuple):
        return torch.tensor(value) if Tensor in hints and hints <= CHECKED else as_tuple(value)
    if isinstance(value, str) and Tensor in hints and not hints & {str, int, float}:
        example = f'{name} = {{ file = "{value}" }}'
        raise ArgumentError(f"{what}: {name} must be numbers; given the text {value!r}. A file with them is given as {example}")
    fits = FITS.get(type(value))
    if fits is None or not hints or not hints <= CHECKED or hints & fits:
        return value
    names = sorted(hint.__name__ for hint in hints if hint is not type(None))
    raise ArgumentError(f"{what}: {name} must be {' or '.join(names)}; given {value!r}")


def as_tuple(value: Any) -> Any:
    """Lists as tuples, all the way down: solvers are frozen and compare by value."""
    return tuple(as_tuple(part) for part in value) if isinstance(value, list | tuple) else value


def hinted(target: Callable[..., Any], name: str) -> set[Any]:
    """The types in a parameter's annotation, {} where it says nothing that can be checked."""
    try:
        hints = get_type_hints(target.__init__ if isinstance(target, type) else target)
    except Exception:  # annotations of strangers may name what is not imported
        return set()
    return _members(hints.get(name, Any))


def _members(hint: Any) -> set[Any]:
    origin = get_origin(hint)
    if hint is Any:
        return set()
    if origin in (Union, types.UnionType):
        inner = [_members(part) for part in get_args(hint)]
        return set().union(*inner) if all(inner) else set()
    if origin is Literal:
        return {type(part) for part in get_args(hint)}
    return {origin or hint}

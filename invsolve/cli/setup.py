"""Objects from a checked Config: the problem (with the truth, if it was simulated), the prior and the solver."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from itertools import product

import torch
from torch import Tensor

from invsolve.data import load_set, with_channels
from invsolve.errors import ArgumentError, InputError, InvsolveError, UnknownNameError, did_you_mean
from invsolve.estimate import estimate_noise
from invsolve.io.images import MAX_PIXELS, TENSOR_FILES, load_image, read_measurement
from invsolve.io.volumes import is_volume, read_volume
from invsolve.noise import GaussianNoise, NoiseModel
from invsolve.operator import Operator
from invsolve.plugins import registry
from invsolve.plugins.arguments import signature_of
from invsolve.plugins.former import without
from invsolve.plugins.typed import as_tuple as as_tuple
from invsolve.priors.base import Prior
from invsolve.problem import Problem, refuse_unmeasured
from invsolve.recipe.config import Config
from invsolve.recipe.device import usable_device
from invsolve.recipe.parts import Paths, build, check, check_items, converted, stated_shape
from invsolve.recipe.tables import Part, within
from invsolve.solver import Solver

__all__ = ["Setup", "build", "converted", "cropped", "make_prior", "set_up", "shapes_for", "usable_device"]

MISSING = re.compile("missing a required argument: '(\\w+)'")
# How much larger than the measurement an image may be, where in_shape must be found.
FACTORS = (1, 2, 3, 4, 6, 8)


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
    guess = config.noise is not None and config.noise.name == "gaussian" and config.noise.arguments == {"sigma": "auto"}
    if guess and config.data.simulate:
        raise InputError('noise.sigma = "auto" estimates the level of a measurement; to simulate one, give the level')
    _check(config, guess)
    solver: Solver = build("solver", config.solver, config)
    noise: NoiseModel | None = None if config.noise is None or guess else build("noise", config.noise, config)
    device = usable_device(config.run.device)
    problem, truth = _problem(config, noise)
    refuse_unmeasured(problem)
    with placed(config, config.prior, "prior"):
        prior = make_prior(config.prior, config, problem.operator.in_shape[0])
    return Setup(problem.to(device), prior.to(device), solver, truth)


def _check(config: Config, guess: bool) -> None:
    """Raise what `build` raises for names, arguments and their types of all parts, with the line of the file."""
    parts: list[tuple[str, Part | None, tuple[int | str, ...]]]
    parts = [("solver", config.solver, ("solver",)), ("prior", config.prior, ("prior",)), ("dataset", config.data.set, ("data", "set"))]
    parts += [("noise", None if guess else config.noise, ("noise",))]
    parts += [("operator", part, ("operator", index)) for index, part in enumerate(config.operator or ())]
    for kind, part, place in parts:
        if part is None:
            continue
        with placed(config, part, *place):
            check(kind, part, config, **({"in_shape": None} if kind == "operator" else {}))
            if kind in ("solver", "noise"):
                build(kind, part, config)


@contextmanager
def placed(config: Config, part: Part, *place: int | str) -> Iterator[None]:
    """A fault of a part gets the line of the file."""
    try:
        yield
    except (ArgumentError, InputError, UnknownNameError) as error:
        raise type(error)(config.lined(error, part, *place) + wanting(error, *place)) from error


def wanting(error: Exception, *place: int | str) -> str:
    """How a required argument that is missing can be said."""
    found = MISSING.search(str(error))
    if found is None:
        return ""
    key = ".".join([*(one for one in place if isinstance(one, str)), found[1]])
    return f"; {key} = ... in a file says it, or on the command line --set '{key}=...' (restore), '{key}=...' (run)"


def make_prior(part: Part, paths: Paths, channels: int) -> Prior:
    """The prior; one for other channels that takes `channels`, which the file leaves out, is made for the image's."""
    prior: Prior = build("prior", part, paths)
    fits = getattr(prior, "channels", None) in (None, channels) or "channels" in part.arguments
    takes = signature_of(registry().load("prior", part.name)).parameters
    return prior if fits or "channels" not in takes else build("prior", part, paths, channels=channels)


def _problem(config: Config, noise: NoiseModel | None) -> tuple[Problem, Tensor | None]:
    data = config.data
    dtype = getattr(torch, data.dtype)
    if data.shape is not None:
        return Problem.unconditional(data.shape, data.batch, dtype=dtype), None
    if data.problem is not None:
        return Problem.load(config.path(data.problem)), None
    y = cropped(_numbers(config, dtype), data.crop)
    if data.simulate:
        operator = _operator(config, tuple(y.shape))
        assert noise is not None
        _check_items(config, operator, noise, 1)
        return Problem.simulate(operator, y[None], noise, generator=config.run.seed), y[None]
    y, operator = _operator_for(config, y)
    _check_items(config, operator, noise, len(y))
    return Problem(operator, y, GaussianNoise(estimate_noise(operator, y).sigma) if noise is None else noise), None


def _numbers(config: Config, dtype: torch.dtype) -> Tensor:
    """The image, or the measurement, of a file or a data set."""
    data = config.data
    if data.set is not None:
        pictures = load_set(data.set, config)
        found = next((one for one in pictures if data.picture in (None, one.id)), None)
        if found is None:
            known = [one.id for one in pictures]
            near = did_you_mean(str(data.picture), known) or f"; there are: {', '.join(known[:20])}"
            raise InputError(f"data.picture: no picture {data.picture!r} in '{data.set.name}'{near}")
        return with_channels(found.image, data.channels, f"picture {found.id!r}").to(dtype)
    path = config.path(data.image or "")
    if is_volume(path):
        return read_volume(path)[0].to(dtype)
    if data.simulate or data.channels is not None or path.suffix.lower() not in TENSOR_FILES:
        return load_image(path, channels=data.channels).to(dtype)
    y = read_measurement(path, image_axes=not config.operator or stated_shape(config.operator[0]) is None)
    return y.to(dtype) if y.dtype in (torch.bfloat16, torch.float16) else y


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


def _check_items(config: Config, operator: Operator, noise: NoiseModel | None, count: int) -> None:
    """Raise where the operator or the noise was made for another number of images, with the part's name and line."""
    assert config.operator
    names = [f"operator '{one.name}'" for one in config.operator]
    with placed(config, config.operator[0], "operator", 0):
        check_items(operator, count, names[0] if len(names) == 1 else f"one of {', '.join(names)}")
    if noise is not None and config.noise is not None:
        with placed(config, config.noise, "noise"):
            check_items(noise, count, f"noise '{config.noise.name}'")


def _operator(config: Config, in_shape: tuple[int, ...]) -> Operator:
    """The operators in the order they are applied: H = H_last @ ... @ H_first; which of several is at fault is said."""
    parts, made = config.operator or [], []
    for index, part in enumerate(parts):
        with placed(config, part, "operator", index):
            try:
                made.append(build("operator", part, config, in_shape=made[-1].out_shape if made else in_shape))
            except InvsolveError as error:
                raise (within(error, f"operator.{index}") if len(parts) > 1 else error) from error
    return reduce(lambda inner, outer: outer @ inner, made)


def _operator_for(config: Config, y: Tensor) -> tuple[Tensor, Operator]:
    """(y as a batch, the operator): in_shape as written, else the first of a few shapes whose output is y's.

    Where several fit, the one nearest to y's own shape is taken.

    Raises:
        InputError: none fits; says what the likeliest one gave.
    """
    assert config.operator
    reasons, refused, stated = [], [], stated_shape(config.operator[0])
    shapes = [stated] if stated is not None else list(shapes_for(tuple(y.shape), config.operator[0].arguments.get("factor")))
    if stated is None and config.data.image is not None and is_volume(config.path(config.data.image)):
        shapes = [tuple(y.shape)]
    for shape in shapes:
        try:
            operator = _operator(config, shape)
        except (ArgumentError, UnknownNameError):
            raise
        except InvsolveError as error:
            reasons.append(f"in_shape {tuple(shape)}: {error}")
            refused.append(str(error))
            continue
        if operator.out_shape == tuple(y.shape):
            return y[None], operator
        if operator.out_shape == tuple(y.shape[1:]):
            return y, operator
        reasons.append(f"in_shape {tuple(shape)} gives y of shape {operator.out_shape}")
        grown = None if operator.stacked else _grown(shape, operator.out_shapes[0], tuple(y.shape[-3:]))
        if stated is None and grown is not None and grown not in shapes:
            shapes.insert(shapes.index(shape) + 1, grown)
    if len(refused) == len(shapes) and len(set(refused)) == 1:  # the same whatever the shape: it is not the shape
        raise InputError(refused[0])
    why = reasons[0] if reasons else "its rank is not that of an image"
    how = "give it: operator.in_shape=[C,H,W]"
    if y.is_complex():
        how += '; y is complex: { name = "as-complex" } after the operator makes complex numbers of its real and imaginary channels'
    raise InputError(f"no image shape was found for y of shape {tuple(y.shape)} ({why}); {how}")


def _grown(shape: tuple[int, ...], gave: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape with what was lost at the borders added, where an operator keeps only the middle; None where it does not."""
    if len(gave) != 3 or len(wanted) != 3 or gave[0] != wanted[0] or any(one > side for one, side in zip(gave, shape, strict=True)):
        return None
    lost = [side - one for one, side in zip(gave[1:], wanted[1:], strict=True)]
    return (shape[0], *(side + more for side, more in zip(shape[1:], lost, strict=True))) if min(lost) >= 0 and any(lost) else None


def shapes_for(shape: tuple[int, ...], factor: object = None) -> Iterator[tuple[int, ...]]:
    """Image shapes that a measurement (C, H, W) may come from: the same, other channels, then whole multiples.

    A multiple by an operator's own `factor` that is no whole number is the first.
    """
    if len(shape) == 4:
        shape = shape[1:]
    if len(shape) != 3:
        return
    channels = list(dict.fromkeys((shape[0], 3, 1)))
    own = [factor] if isinstance(factor, float) and factor > 1 and factor % 1 else []
    for times, count in product([*own, *FACTORS], channels):
        if times == 1 or times**2 * shape[1] * shape[2] <= MAX_PIXELS:
            yield (count, round(shape[1] * times), round(shape[2] * times))


without(__name__, {"hinted": "members(hint_of(target, name)), both of invsolve.plugins.typed"})

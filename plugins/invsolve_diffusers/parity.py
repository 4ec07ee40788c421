"""A published model beside diffusers' own pipeline: the same noise, the same levels, every step compared.

    python -m invsolve_diffusers.parity FOLDER "a cat" --scale 7.5

diffusers walks in the state of its scheduler, x_t = scale x (DDIM, flow) or x itself (Euler); here everything is VE. What is compared is
x / sqrt(1 + sigma^2), of about unit size, after each step, and the picture at the end, in [0, 1].
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.noise import NoNoise
from invsolve.operator import Operator
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.schedule import Flow, Schedule
from invsolve.solution import Step
from invsolve.solvers.diffusion.ddim import DDIM
from invsolve_diffusers.address import folder_of
from invsolve_diffusers.folder import Opened, cast, opened, quiet
from invsolve_diffusers.prior import Published

# A product of 1000 factors, each rounded to 6e-8 of itself: at most 6e-5 in all, 2e-6 where roundings are independent.
TABLE = 6e-5
SHIFTED = 0.9  # the first s of a flow before its shift: at s = 1 there is no finite sigma


@dataclass(frozen=True)
class Along(DDIM):
    """DDIM on given levels.

    Args:
        levels: decreasing, as diffusers' scheduler has them; the last may be above 0.
    """

    levels: tuple[float, ...] = (1.0, 0.0)

    def sigmas(self, prior: Denoiser) -> list[float]:
        """The levels."""
        del prior
        return list(self.levels)


@dataclass(frozen=True)
class Parity:
    """What differs.

    Args:
        levels: sigma before each step, and the last.
        steps: largest |difference| of x_t after each step, divided by sqrt(1 + sigma^2), which makes it one of about unit size.
        picture: largest |difference| of the pictures.
        moved: how far x_t moved over all steps, root mean square: what there was to get wrong.
    """

    levels: tuple[float, ...]
    steps: tuple[float, ...]
    picture: float
    moved: float


def compare(
    folder: str | Path,
    prompt: str = "",
    negative: str | None = None,
    scale: float | None = None,
    *,
    operator: Operator | None = None,
    size: tuple[int, int] | None = None,
    steps: int = 8,
    seed: int = 0,
    precision: str = "float32",
) -> Parity:
    """Run both from the same noise.

    Args:
        folder: of the pipeline, or its address.
        prompt, negative, scale: see Published.
        operator: what is measured of a smooth picture, for networks that see a measurement: a mask, or a reduction.
        size: see Published.
        steps: of the pipeline's own scheduler.
        seed: of the noise.
        precision: "float32" or "float64", of all networks of both; in float64 DDIM is also given the table of a_t in float64, so that
            what is left are roundings of 1e-16 a step.

    Raises:
        InputError: see Published; a network that sees a measurement without an operator; float64 for latent diffusion without one.
    """
    place = folder_of(str(folder))
    prior = Published(place, prompt, negative, scale, size, precision)
    if (prior.sees is None) != (operator is None):
        raise InputError("give operator= for networks that see a measurement, a mask or a reduction, and for no other")
    dtype = torch.float64 if precision == "float64" else torch.float32
    found = opened(place)
    if dtype == torch.float64 and found.family == "ldm" and not found.seen_channels:
        raise InputError("diffusers' LDMPipeline draws its noise in float32: compare with precision='float32'")
    picture = smooth(prior.decoder.out_shape, dtype)  # pyright: ignore[reportArgumentType]
    problem = (
        Problem.unconditional(picture.shape[1:], dtype=dtype)
        if operator is None
        else Problem.simulate(operator, picture, NoNoise(), generator=0)
    )
    z, states, theirs = run_pipeline(found, prior, problem, (prompt, negative, scale), steps, seed, dtype)
    levels, scales, first = levels_of(found)
    inner, back = prior.space(problem)
    begin = first * z
    walk = Along(levels=tuple(levels)).iterate(inner, prior.given(inner), Rng(0, [0]), Step(-1, 0, begin, begin))
    ours = [step.x for step in walk]
    with torch.no_grad():
        shown = back(scales[-1] * ours[-1]).clamp(0, 1)  # diffusers decodes the state, also where a little noise is left in it
    walked = zip(ours, states, scales, levels[1:], strict=True)
    off = [(x - state / scale).abs().max() / (1 + sigma**2) ** 0.5 for x, state, scale, sigma in walked]
    picture_off, moved = (shown - theirs).abs().max(), (states[-1] / scales[-1] - z).square().mean().sqrt()
    return Parity(tuple(levels), tuple(map(float, off)), float(picture_off), float(moved))


def smooth(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A picture (1, C, H, W) of waves between .2 and .8."""
    channels, height, width = shape
    rows, columns = torch.linspace(0, 3, height, dtype=dtype)[:, None], torch.linspace(0, 2, width, dtype=dtype)
    return torch.stack([0.5 + 0.3 * (rows + (1 + channel) * columns).sin() for channel in range(channels)])[None]


def run_pipeline(
    found: Opened,
    prior: Published,
    problem: Problem,
    words: tuple[str, str | None, float | None],
    steps: int,
    seed: int,
    dtype: torch.dtype,
) -> tuple[Tensor, list[Tensor], Tensor]:
    """(x_T, the states after each step, the picture) of diffusers' own pipeline, eta 0."""
    pipe, (prompt, negative, scale) = found.pipe, words
    cast(pipe, dtype)
    pipe.set_progress_bar_config(disable=True)
    if dtype == torch.float64 and hasattr(pipe.scheduler, "alphas_cumprod"):
        exact_table(pipe.scheduler, found.schedule)
    shape = (1, *prior.decoder.in_shape)
    z = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    options: dict[str, Any] = {"num_inference_steps": steps, "output_type": "np"}
    if found.family == "ldm":
        options |= {"generator": torch.Generator().manual_seed(seed), "eta": 0.0}
        options |= {"image": 2 * problem.y - 1} if found.seen_channels else {}  # pyright: ignore[reportOperatorIssue]
    else:
        height, width = prior.decoder.out_shape[-2:]
        options |= {"prompt": prompt, "negative_prompt": negative, "guidance_scale": 1.0 if scale is None else scale}
        options |= {"latents": z.clone(), "height": height, "width": width}
        if found.family == "sd3":
            options |= {"sigmas": torch.linspace(SHIFTED, SHIFTED / steps, steps).tolist()}
        if found.seen_channels:
            mask: Any = problem.operator.mask
            hole = 1 - mask.to(problem.image).expand(problem.image.shape)[:, :1]
            options |= {"image": problem.y + 0.5 * hole, "mask_image": hole, "strength": 1.0}
    states: list[Tensor] = []
    pipe.scheduler.step = recording(pipe.scheduler.step, states)
    with torch.no_grad(), quiet():
        image = pipe(**options).images
    return z, states, torch.from_numpy(image).permute(0, 3, 1, 2).to(dtype)


def exact_table(scheduler: Any, schedule: Schedule) -> None:
    """Give a scheduler the a_t of our table, in float64, where its own are rounded to float32."""
    a = 1 / (1 + torch.tensor(schedule.levels(), dtype=torch.float64).square())
    if float((scheduler.alphas_cumprod - a).abs().max()) > TABLE:
        raise InputError(f"{type(scheduler).__name__}: its table of a_t is another one than {schedule}")
    scheduler.alphas_cumprod = a
    if float(getattr(scheduler, "final_alpha_cumprod", 1.0)) != 1:
        scheduler.final_alpha_cumprod = a[0]


def recording(step: Callable[..., Any], states: list[Tensor]) -> Callable[..., Any]:
    """A scheduler's step, whose states are kept."""

    @functools.wraps(step)
    def recorded(*args: Any, **options: Any) -> Any:
        made = step(*args, **options)
        states.append(made[0].clone())
        return made

    return recorded


def levels_of(found: Opened) -> tuple[list[float], list[float], float]:
    """(sigma before each step and after the last, state / x after each step, x / z at the first), by our table at the scheduler's times.

    Raises:
        InputError: a scheduler whose steps are not those of DDIM.
    """
    scheduler, schedule = found.pipe.scheduler, found.schedule
    name = type(scheduler).__name__
    if isinstance(schedule, Flow):
        s = [float(value) for value in scheduler.sigmas]
        return [value / (1 - value) for value in s], [1 - value for value in s[1:]], 1 / (1 - s[0])
    table = schedule.levels()
    levels = [table[int(t)] for t in scheduler.timesteps]
    if name == "DDIMScheduler":
        levels.append(0.0 if scheduler.config.set_alpha_to_one else table[0])
        return levels, [(1 + sigma**2) ** -0.5 for sigma in levels[1:]], (1 + levels[0] ** 2) ** 0.5
    if name == "EulerDiscreteScheduler" and all(float(t) == int(t) for t in scheduler.timesteps):
        return [*levels, 0.0], [1.0] * len(levels), float(scheduler.init_noise_sigma)
    raise InputError(f"{name} does not step as DDIM does; compare with DDIM, with Euler at whole times, or with a flow")


@click.command()
@click.argument("folder")
@click.argument("prompt", default="")
@click.option("--negative", default=None)
@click.option("--scale", type=float, default=None)
@click.option("--steps", type=int, default=8)
@click.option("--precision", default="float32")
def main(folder: str, prompt: str, negative: str | None, scale: float | None, steps: int, precision: str) -> None:
    """Compare a pipeline without a measurement."""
    found = compare(folder, prompt, negative, scale, steps=steps, precision=precision)
    for index, (sigma, off) in enumerate(zip(found.levels, found.steps, strict=False)):
        click.echo(f"step {index}  sigma {sigma:.4g}  largest difference {off:.2e}")
    click.echo(f"picture {found.picture:.2e}  (x_t moved by {found.moved:.2g} rms)")


if __name__ == "__main__":
    main()

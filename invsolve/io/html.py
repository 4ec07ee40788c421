"""What a notebook shows of a problem, a solution and a prior: small pictures and a line of facts, as one piece of HTML."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from invsolve.operator.measurement import parts

if TYPE_CHECKING:
    from invsolve.priors.prior import Prior
    from invsolve.problem import Problem
    from invsolve.solution import Solution

SHOWN, SIDE = 4, 128  # items, and the least side in pixels of the screen


def shapes(tensors: Iterable[Tensor]) -> str:
    """Shapes and type in words."""
    tensors = tuple(tensors)
    return f"{' and '.join(str(tuple(one.shape)) for one in tensors)}, {str(tensors[0].dtype).removeprefix('torch.')}"


def data_uri(image: Tensor) -> str | None:
    """(C, H, W), clipped to [0, 1], as an 8-bit PNG in a data URI; None for what is no picture of 1 or 3 channels."""
    from PIL import Image

    if image.ndim != 3 or image.shape[0] not in (1, 3) or image.is_complex() or not image.numel():
        return None
    pixels = (image.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8)
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def figure(image: Tensor, caption: str) -> str:
    """One picture with its caption; nothing for what is no picture."""
    uri = data_uri(image)
    if uri is None:
        return ""
    side = max(SIDE, min(3 * SIDE, image.shape[-1]))
    picture = f'<img src="{uri}" alt="{escape(caption)}" style="width:{side}px;image-rendering:pixelated;display:block">'
    return f'<figure style="display:inline-block;margin:0 8px 8px 0">{picture}<figcaption>{escape(caption)}</figcaption></figure>'


def pictures(images: Tensor, name: str) -> str:
    """The first few of a batch (B, C, H, W), complex ones by their size."""
    if images.ndim != 4:
        return ""
    images = images.abs() if images.is_complex() else images
    shown = [figure(image, f"{name} {item}" if len(images) > 1 else name) for item, image in enumerate(images[:SHOWN])]
    more = f"<span>and {len(images) - SHOWN} more</span>" if len(images) > SHOWN and any(shown) else ""
    return "".join(shown) + more


def facts(title: str, rows: Mapping[str, Any]) -> str:
    """A small table."""
    lines = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td>{escape(str(value))}</td></tr>' for name, value in rows.items()
    )
    return f"<div><b>{escape(title)}</b><table>{lines}</table></div>"


def of_problem(problem: Problem) -> str:
    """The measurement."""
    operator, y = problem.operator, parts(problem.y)
    rows = {"operator": f"{operator.label} {operator.in_shape} to {operator.out_shape}", "y": shapes(y), "noise": problem.noise}
    drawn = "".join(pictures(part, "y") for part in y)
    return facts("Problem y = H(x) + n", rows) + drawn


def of_solution(solution: Solution) -> str:
    """The answer, and the spread of its samples."""
    rows = {
        "solver": solution.solver,
        "ended": f"{solution.status.value} after {solution.steps} steps, {solution.nfe} evaluations, {solution.seconds:.2f} s",
        "seed": solution.seed,
    }
    rows |= {"chosen because": solution.why} if solution.why else {}
    drawn = pictures(solution.mean, "mean of the samples" if solution.samples else "x")
    if solution.samples is not None and solution.samples >= 2:
        std = solution.std
        drawn += pictures(std / std.amax().clamp_min(torch.finfo(std.dtype).tiny), f"standard deviation, white is {float(std.amax()):.3g}")
    return facts("Solution", rows) + drawn


def of_prior(prior: Prior) -> str:
    """What it says of itself."""
    names = ("sigma_range", "clip", "s0", "centre", "channels", "in_shape", "differentiable")
    rows = {name: getattr(prior, name) for name in names if getattr(prior, name, None) is not None}
    rows |= {"made with": prior.extra_repr()} if prior.arguments else {}
    return facts(", ".join(part for part in (type(prior).__name__, counted(prior)) if part), rows)


def counted(prior: Prior) -> str:
    """How many numbers it was trained or made with; "" for none, so that what is printed can be written in Python."""
    total = sum(one.numel() for one in prior.parameters())
    return f"{total:,} parameters" if total else ""

"""The report on priors: every measure of each, side by side, as JSON and as one HTML page that needs nothing beside it."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.bench.figures import COLOURS
from invsolve.bench.prior_measures import (
    LEVELS,
    MARGIN,
    Level,
    Speed,
    Tile,
    asymmetry,
    fitting_images,
    measure_levels,
    measure_speed,
    measure_tiles,
    noisy,
    usable,
)
from invsolve.bench.prior_samples import Drawn, draw_samples, gradient_kurtosis, patches, spectrum_slope
from invsolve.errors import InputError
from invsolve.io.files import write_text
from invsolve.io.html import data_uri
from invsolve.io.images import picture_grid
from invsolve.priors.base import Denoiser

TEMPLATES = Path(__file__).parent / "templates"
SHOWN = 25 / 255


@dataclass(frozen=True)
class PriorFacts:
    """What was measured of one prior.

    Args:
        name: as given.
        facts: what it says of itself: parameters, sigma_range, channels, sha256 of its weights.
        levels, tiles, speeds: see `prior_measures`.
        symmetry: (sigma, asymmetry of the Jacobian).
        drawn: samples, empty for a plain denoiser.
        real: spectrum slope and gradient kurtosis of real patches of the samples' size; None where no image is large enough.
        pictures: (image, noisy, estimate) at 25/255.
    """

    name: str
    facts: dict[str, Any]
    levels: list[Level]
    tiles: list[Tile]
    speeds: list[Speed]
    symmetry: list[tuple[float, float]]
    drawn: list[Drawn]
    real: tuple[float, float] | None
    pictures: list[tuple[Tensor, Tensor, Tensor]]

    def plain(self) -> dict[str, Any]:
        """Numbers only, for JSON; NaN as None."""
        drawn = [{"sampler": one.name, "spectrum_slope": one.slope, "gradient_kurtosis": one.kurtosis} for one in self.drawn]
        real = None if self.real is None else {"spectrum_slope": self.real[0], "gradient_kurtosis": self.real[1]}
        tables = {key: [asdict(row) for row in getattr(self, key)] for key in ("levels", "tiles", "speeds")}
        symmetry = [{"sigma": sigma, "asymmetry": value} for sigma, value in self.symmetry]
        return finite({"name": self.name, "facts": self.facts, **tables, "symmetry": symmetry, "samples": drawn, "real_patches": real})


def finite(value: Any) -> Any:
    """The value with None in place of NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def own_words(prior: Denoiser) -> dict[str, Any]:
    """What a prior says of itself."""
    return {
        "class": type(prior).__name__,
        "parameters": sum(value.numel() for value in prior.parameters()),
        "sigma_range": list(prior.sigma_range),
        "channels": prior.channels,
        "clip": None if prior.clip is None else list(prior.clip),
        "blind": prior.blind,
        "weights_sha256": getattr(prior, "weights_sha256", None),
    }


def measure(
    name: str, prior: Any, images: Sequence[Tensor], *, side: int = 64, count: int = 16, say: Callable[[str], None] = lambda _: None
) -> PriorFacts:
    """Every measure of one prior.

    Args:
        name: for the page.
        prior: a Denoiser.
        images: (C, H, W) in [0, 1] it has never seen.
        side, count: of the samples.
        say: told what is being measured.

    Raises:
        InputError: a prior that is no denoiser, or that is good for none of the noise levels.
    """
    if not isinstance(prior, Denoiser):
        raise InputError(f"prior-report measures denoisers and diffusion priors; '{name}' gives no posterior mean of a noisy image")
    fit = fitting_images(prior, images)
    levels = usable(prior)
    if not levels:
        raise InputError(f"'{name}' is good for sigma in {prior.sigma_range}; measured are {', '.join(f'{one:.3g}' for one in LEVELS)}")
    shown = min(levels, key=lambda sigma: abs(sigma - SHOWN))
    say(f"{name}: accuracy and calibration")
    table = measure_levels(prior, fit, levels)
    say(f"{name}: symmetry of the Jacobian")
    part = fit[0][..., :64, :64] if prior.in_shape is None else fit[0]
    symmetry = [(sigma, asymmetry(prior, part, sigma)) for sigma in levels]
    say(f"{name}: tiles")
    cut = measure_tiles(prior, fit, shown) if prior.in_shape is None else []
    say(f"{name}: speed")
    speeds = measure_speed(prior, fit, shown)
    say(f"{name}: samples")
    drawn = draw_samples(prior, side, count) if count else []
    real = None
    if drawn and min(drawn[0].images.shape[-2:]) >= 16:
        those = patches(fit, drawn[0].images.shape[-1])
        real = None if those is None else (spectrum_slope(those), gradient_kurtosis(those))
    with torch.no_grad():
        pictures = [(image[0], (x := noisy(image, shown, index))[0], prior(x, shown)[0]) for index, image in enumerate(fit[:3])]
    return PriorFacts(name, own_words(prior), table, cut, speeds, symmetry, drawn, real, pictures)


def curves(found: Sequence[PriorFacts], value: Callable[[Level], float], label: str, line: float | None = None) -> str:
    """A drawing of one number over sigma, a line a prior, as a data URI."""
    import base64
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for one, colour in zip(found, COLOURS * (1 + len(found) // len(COLOURS)), strict=False):
        axes.plot([level.sigma for level in one.levels], [value(level) for level in one.levels], "o-", color=colour, label=one.name, ms=4)
    if line is not None:
        axes.axhline(line, color="#5b666e", lw=0.8, ls="--")
    axes.set_xscale("log")
    axes.set_xlabel("sigma of the noise (images in [0, 1])")
    axes.set_ylabel(label)
    axes.grid(color="#d9dfe3", lw=0.6)
    axes.legend(fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def write_prior_report(found: Sequence[PriorFacts], source: str, out: Path) -> tuple[Path, Path]:
    """Write priors.html and priors.json into a folder, which is made; returns both paths.

    Args:
        found: what `measure` gave, one or several priors.
        source: what the images were.
        out: the folder.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    out.mkdir(parents=True, exist_ok=True)
    machine = f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()} {platform.system()}"
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("priors.html.j2").render(
        found=found,
        source=source,
        machine=machine,
        margin=MARGIN,
        isnan=math.isnan,
        psnr=curves(found, lambda level: level.psnr, "PSNR in dB"),
        balance=curves(found, lambda level: level.balance, "balance (1: a posterior mean)", 1.0),
        grids={one.name: [(drawn, data_uri(picture_grid(drawn.images, 8))) for drawn in one.drawn] for one in found},
        pictures={one.name: [[data_uri(picture) for picture in row] for row in one.pictures] for one in found},
    )
    html, numbers = out / "priors.html", out / "priors.json"
    write_text(html, page)
    write_text(numbers, json.dumps({"images": source, "machine": machine, "priors": [one.plain() for one in found]}, indent=2) + "\n")
    return html, numbers

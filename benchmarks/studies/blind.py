"""How well `invsolve.blind` finds what happened to photographs: `python benchmarks/studies/blind.py --data DATA [--out FILE]`.

DATA holds dev/bsds500_val32, dev/set14, dev/afhq512 and dev/permissive_skimage. Photographs in the order of their names go by turns to
tuning and to this report: every second one is seen here and nowhere else. Each is blurred as a scene that goes on beyond the frame, cut to
192 pixels a side, given noise and rounded to 8 bits; families go round, widths and levels are drawn. What is found is compared with the
truth, and the middle 96 x 96 pixels are restored twice, as found and as it was.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from invsolve.blind import Diagnosis, identify
from invsolve.blind.diagnosis import NAMES
from invsolve.io.images import read_image
from invsolve.plugins import registry

FOLDERS = ("bsds500_val32", "set14", "afhq512", "permissive_skimage")
NO_PHOTOGRAPHS = (
    "ppt3",
    "cell",
    "clock_motion",
    "hubble_deep_field",
    "page",
    "phantom",
    "text",
)  # drawn, lettering, or blurred as they are
SIDE, MIDDLE = 192, 96
WIDTHS = {"gaussian": (0.8, 3.0), "defocus": (1.5, 6.0), "motion": (4.0, 16.0)}  # pixels
NOISE = (0.003, 0.03)
ROUNDING = 1 / (255 * math.sqrt(12))


@dataclass(frozen=True)
class Case:
    """A photograph, what was done to it, and what was found."""

    name: str
    family: str
    width: float
    angle: float
    level: float
    found: Diagnosis
    blurred: float
    known: float
    blind: float


def photographs(data: Path, part: int) -> Iterator[tuple[str, Tensor]]:
    """(name, (C, H, W)) of one half; longer sides of 640 pixels at most."""
    for folder in FOLDERS:
        files = [file for file in sorted((data / "dev" / folder).iterdir()) if file.stem not in NO_PHOTOGRAPHS]
        for file in files[part::2]:
            x = read_image(file)[0].double()
            if max(x.shape[1:]) > 700:
                x = torch.nn.functional.interpolate(x[None], scale_factor=640 / max(x.shape[1:]), mode="bicubic", antialias=True)[0]
            yield f"{folder}/{file.stem}", x.clamp(0, 1)


def drawn(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def taken(x: Tensor, family: str, width: float, angle: float, level: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(truth, y), 192 pixels a side, of a place where the kernel fits into the picture."""
    margin = 0 if family == "none" else 20
    top, left = (int(rng.integers(margin, length - SIDE - margin + 1)) for length in x.shape[1:])
    seen = x[:, top - margin : top + SIDE + margin, left - margin : left + SIDE + margin]
    truth = y = x[:, top : top + SIDE, left : left + SIDE]
    if family != "none":
        given = {NAMES[family][1]: width, **({"angle": angle} if family == "motion" else {})}
        blur = registry().build("operator", NAMES[family][0], in_shape=tuple(seen.shape), boundary="valid", **given)
        blurred = blur.double()(seen[None])[0]
        down, across = ((more - SIDE) // 2 for more in blurred.shape[1:])
        y = blurred[:, down : down + SIDE, across : across + SIDE]
    y = y + level * torch.from_numpy(rng.standard_normal(y.shape))
    return truth, (255 * y.clamp(0, 1)).round() / 255


def middle(x: Tensor) -> Tensor:
    """96 x 96 pixels."""
    first = (SIDE - MIDDLE) // 2
    return x[..., first : first + MIDDLE, first : first + MIDDLE]


def psnr(x: Tensor, truth: Tensor) -> float:
    """In dB, of all but 8 pixels at the sides."""
    return -10 * math.log10(float((x.double().clamp(0, 1) - truth)[..., 8:-8, 8:-8].square().mean()))


def restored(found: Diagnosis, y: Tensor) -> Tensor:
    """The middle, as a diagnosis has it; the picture itself where there is nothing to restore."""
    if found.task not in ("blur", "noise", "jpeg"):
        return middle(y)
    return replace(found, y=middle(y).float()).restore().mean[0]


def case(name: str, x: Tensor, family: str, rng: np.random.Generator) -> Case:
    """One photograph."""
    width = drawn(rng, *WIDTHS[family]) if family != "none" else 0.0
    angle, level = float(rng.uniform(0, 180)), drawn(rng, *NOISE)
    truth, y = taken(x, family, width, angle, level, rng)
    given = {} if family == "none" else {NAMES[family][1]: width, **({"angle": angle} if family == "motion" else {})}
    level = math.hypot(level, ROUNDING)
    found, known = identify(y), Diagnosis(y, level, family, given)
    values = [psnr(restored(one, y), middle(truth)) for one in (known, found)]
    return Case(name, family, width, angle, level, found, psnr(middle(y), middle(truth)), *values)


def cases(data: Path, part: int, count: int) -> Iterator[Case]:
    """The families by turns, one of eight photographs sharp; all photographs again until there are enough."""
    pictures, families = list(photographs(data, part)), (*NAMES, *NAMES, "none")
    rng = np.random.default_rng(100 + part)
    for number in range(count):
        name, x = pictures[number % len(pictures)]
        made = case(name, x, families[number % len(families)], rng)
        found = made.found
        print(number, name, made.family, f"{made.width:.2f}", found, f"{made.blurred:.2f} {made.known:.2f} {made.blind:.2f}", flush=True)
        yield made


def clean(data: Path, part: int) -> Iterator[str]:
    """What is said of the photographs as they are, where that is not nothing."""
    count, changed = 0, []
    for name, x in photographs(data, part):
        found = identify(x[:, :384, :384])
        count += 1
        if not found.nothing:
            changed.append(f"- {name}: {found}")
    yield f"{count - len(changed)} of {count} photographs as they are were left alone. Of the others those of afhq512 are JPEG files:"
    yield ""
    yield from changed


def share(values: list[bool]) -> str:
    """How many of how many."""
    return f"{sum(values)} of {len(values)}"


def quantiles(values: list[float]) -> str:
    """Median, and that below which nine of ten are."""
    return f"{np.median(values):.3f}, {np.quantile(values, 0.9):.3f}"


def table(done: list[Case]) -> Iterator[str]:
    """A row for each family."""
    heads = ("family found", "width within 15 %", "its error: median, 9 of 10", "noise within 10 %", "within .5 dB of known")
    yield f"| what happened | {' | '.join(heads)} | dB: as it is, known, found |"
    yield "|---|---|---|---|---|---|---|"
    for family in (*NAMES, "none", "all"):
        rows = [one for one in done if family in (one.family, "all")]
        if not rows:
            continue
        named = [one.found.family == one.family for one in rows]
        errors = [error(one) for one in rows if one.family != "none" and one.found.family != "none"]
        blurred = [one for one in rows if one.family != "none"]
        within = [one.found.family != "none" and error(one) < 0.15 for one in blurred]
        noise = [abs(one.found.noise / one.level - 1) < 0.1 for one in rows]
        near = [one.blind > one.known - 0.5 for one in rows]
        decibels = ", ".join(f"{np.mean([getattr(one, key) for one in rows]):.2f}" for key in ("blurred", "known", "blind"))
        widths = (share(within), quantiles(errors)) if errors else ("-", "-")
        yield f"| {family} | {share(named)} | {' | '.join(widths)} | {share(noise)} | {share(near)} | {decibels} |"


def error(one: Case) -> float:
    """Of the width, relative; of another family by the standard deviation along an axis, of which a disk has half its radius."""
    scale = {"gaussian": 1.0, "defocus": 0.5, "motion": 1 / math.sqrt(24)}
    found = one.found.parameters[NAMES[one.found.family][1]] * scale[one.found.family]
    return abs(found / (one.width * scale[one.family]) - 1)


def main() -> None:
    """The tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--tuning", action="store_true", help="The other half of the photographs.")
    given = parser.parse_args()
    torch.set_num_threads(1)
    part = 0 if given.tuning else 1
    heads = ["# What happened to a photograph, from itself alone", "", *INTRODUCTION, ""]
    left = ["", "## Clean photographs", "", *clean(given.data, part)]
    done = []
    for made in cases(given.data, part, given.count):
        done.append(made)
        if given.out is not None and len(done) in (given.count, *range(0, given.count, 10)):
            given.out.write_text("\n".join([*heads, *table(done), *left]) + "\n")
    print("\n".join([*heads, *table(done), *left]))


INTRODUCTION = (
    "`python benchmarks/studies/blind.py --data DATA --out benchmarks/results/blind.md`: every second photograph of bsds500_val32,",
    "set14, afhq512 and permissive_skimage (without drawings and lettering), none of them seen in training or tuning; 192 x 192 pixels,",
    "sigma .8 to 3, radius 1.5 to 6, length 4 to 16 pixels at any angle, noise .003 to .03, 8 bits. A width of a wrong family counts by",
    "its standard deviation along an axis. PSNR is of the middle 80 x 80 pixels of 96 x 96, `hqs` with `dncnn` (of noise alone one",
    "denoising by `natural`), told the truth and told what was found.",
)


if __name__ == "__main__":
    main()

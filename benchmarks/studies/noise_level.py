"""How well `estimate_noise` finds the level: `python benchmarks/studies/noise_level.py --data FOLDER [--out FILE]`.

FOLDER holds photographs; the first of each are cut to 256 x 256, degraded, and the level is estimated from the measurement.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from invsolve import GaussianNoise, InputError, Operator, Problem, estimate_noise, registry
from invsolve.training.data import read_images

SIDE = 256
LEVELS = (0.01, 0.02, 0.05, 0.1)
OPERATORS = (
    ("identity", {}),
    ("mask", {"keep": 0.5}),
    ("mask", {"keep": 0.3}),
    ("box-mask", {}),
    ("gaussian-blur", {"sigma": 1.5}),
    ("motion-blur", {}),
    ("separable-gaussian-blur", {}),
    ("block-mean", {}),
    ("bicubic", {}),
    ("blur-decimate", {}),
    ("grey", {}),
    ("mosaic", {}),
    ("walsh-hadamard", {}),
    ("block-orthogonal", {}),
    ("mri", {}),
)


def photographs(folder: Path, count: int) -> Tensor:
    """(count, 3, 256, 256): the middles of the first photographs that are large enough."""
    chosen = []
    for image in read_images(folder):
        pixels = np.asarray(image)
        top, left = ((length - SIDE) // 2 for length in pixels.shape[:2])
        if min(top, left) >= 0:
            chosen.append(torch.from_numpy(pixels[top : top + SIDE, left : left + SIDE].copy()))
        if len(chosen) == count:
            break
    return torch.stack(chosen).permute(0, 3, 1, 2).double() / 255


def built(name: str, arguments: dict[str, float]) -> Operator:
    """The operator on colour, else on grey images."""
    try:
        return registry().build("operator", name, in_shape=(3, SIDE, SIDE), **arguments)
    except InputError:
        return registry().build("operator", name, in_shape=(1, SIDE, SIDE), **arguments)


def rows(x: Tensor) -> Iterator[str]:
    """One line an operator."""
    yield "| operator | how | " + " | ".join(f"sigma {level:g}" for level in LEVELS) + " |"
    yield "|---|---|" + "---|" * len(LEVELS)
    for name, arguments in OPERATORS:
        if name not in registry().names("operator"):
            continue
        operator = built(name, arguments)
        image = x if operator.in_shape[0] == 3 else x.mean(1, keepdim=True)
        cells, methods = [], []
        for level in LEVELS:
            try:
                y = Problem.simulate(operator, image, GaussianNoise(level), generator=0).y
                found = estimate_noise(operator, y)
            except InputError as error:
                cells.append("refused")
                methods.append(str(error).splitlines()[0])
                continue
            ratio = (found.sigma / level).sort().values
            cells.append(f"{float(ratio[0]):.2f} {float(ratio[len(ratio) // 2]):.2f} {float(ratio[-1]):.2f}")
            methods.append(found.method)
        label = ", ".join([name, *(f"{key} {value:g}" for key, value in arguments.items())])
        yield f"| {label} | {', '.join(dict.fromkeys(methods))} | " + " | ".join(cells) + " |"


def main() -> None:
    """Read the arguments, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder of photographs")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    x = photographs(arguments.data, arguments.count)
    lines = [
        "# Noise levels from the measurement alone",
        "",
        f"Estimate / truth over {len(x)} photographs of {arguments.data.name}, cut to {SIDE} x {SIDE}: least, median, largest.",
        f"`python benchmarks/studies/noise_level.py --data FOLDER --out {arguments.out}`",
        "",
    ]
    for line in rows(x):
        print(line, flush=True)
        lines.append(line)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

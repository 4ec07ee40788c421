"""Real eight-coil brain k-space, reconstructed: `python benchmarks/studies/mri.py --data FOLDER [--out benchmarks/results]`.

FOLDER holds `mri/sigpy_kspace/cartesian_ksp.npy`, an example of the sigpy project (BSD-3-Clause): (8, 230, 180), of which 12.4 % is
measured, a Poisson-disc pattern with 24 x 24 points in the middle. So there is no fully sampled truth. Three tables:

    measured   all that is there: the points held out of every fit are predicted
    quarter    a quarter of the measured points (the middle kept): the three quarters that no fit has seen are real data to predict; and
               against the TV image from all points, which favours TV (against CG-SENSE from all points TV still leads)
    lines      k-space of that image, with the maps and the noise as estimated: 4 x fewer columns, the middle block among them. The truth is
               known, but the model is right by construction, so this is the easier half of the question

Sensitivity maps come from the middle of the data that each reconstruction sees. Weights are chosen by the error on a tenth of the measured
points that the fit does not see, never by the truth.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from invsolve_operators import SENSE
from invsolve_operators.mri.cartesian import joined, paired
from invsolve_operators.mri.coils import espirit, root_sum_of_squares
from invsolve_operators.mri.sampling import sampling_mask
from PIL import Image
from torch import Tensor

from invsolve import GaussianNoise, IterativeProx, Problem, load_prior
from invsolve.bench.metrics import PSNR, SSIM
from invsolve.rng import Rng
from invsolve.solvers import ADMM, HQS

Reconstruction = Callable[[Tensor, Tensor, float, float], Tensor]
TOL = 1e-4


def load(folder: Path) -> tuple[Tensor, Tensor]:
    """k-space (1, 8, 2, H, W), the largest root sum of squares 1, and the mask (H, W)."""
    values = torch.from_numpy(np.load(folder / "mri" / "sigpy_kspace" / "cartesian_ksp.npy")).to(torch.complex64)
    mask = (values.abs().sum(0) > 0).float()
    y = paired(values)[None]
    return y / root_sum_of_squares(y).max(), mask


def noise_level(y: Tensor, mask: Tensor) -> float:
    """The standard deviation of the outermost eighth of the measured points: an upper bound, since signal is left there."""
    height, width = mask.shape
    u, v = (2 * torch.arange(side) / side - 1 for side in (height, width))
    radius = torch.where(mask > 0, u[:, None].square() + v.square(), -1.0)
    outer = radius >= radius[mask > 0].quantile(7 / 8)
    return float(y[0][:, :, outer].std())


def operator(y: Tensor, mask: Tensor, channels: int = 2) -> SENSE:
    """SENSE with maps from the middle of y."""
    return SENSE((channels, *mask.shape), espirit(y), mask=mask)


def zero_filled(y: Tensor, mask: Tensor, sigma: float, weight: float) -> Tensor:
    """Root sum of squares of the coil images."""
    del mask, sigma, weight
    return root_sum_of_squares(y)


def cg_sense(y: Tensor, mask: Tensor, sigma: float, weight: float) -> Tensor:
    """argmin 1/2 |Hx - y|^2 + weight/2 |x|^2 by conjugate gradients, complex."""
    del sigma
    h = operator(y, mask)
    return IterativeProx(h, TOL).prox(torch.zeros(1, *h.in_shape), y, 1 / weight)


def total_variation(y: Tensor, mask: Tensor, sigma: float, weight: float) -> Tensor:
    """argmin 1/2 |Hx - y|^2 + weight TV(x), complex, by ADMM."""
    problem = Problem(IterativeProx(operator(y, mask), TOL), y, GaussianNoise(sigma))
    return ADMM(steps=200).solve(problem, load_prior("tv", weight=weight / sigma**2)).x


def plug_and_play(y: Tensor, mask: Tensor, sigma: float, weight: float) -> Tensor:
    """HQS with the shipped natural prior on a real image, its slow phase in the maps; weight scales the noise level."""
    problem = Problem(IterativeProx(operator(y, mask, channels=1), TOL), y, GaussianNoise(weight * sigma))
    return HQS(steps=24).solve(problem, load_prior("natural", channels=1)).x


METHODS: dict[str, tuple[Reconstruction, list[float]]] = {
    "zero-filled RSS": (zero_filled, [0.0]),
    "CG-SENSE": (cg_sense, [1e-3, 3e-3, 1e-2, 3e-2, 0.1]),
    "TV (ADMM)": (total_variation, [3e-4, 1e-3, 3e-3, 1e-2, 3e-2]),
    "HQS, natural": (plug_and_play, [1.0, 2.0, 4.0, 8.0]),
}


def magnitude(x: Tensor) -> Tensor:
    """(1, 1, H, W)."""
    return joined(x).abs().unsqueeze(1) if x.shape[1] == 2 else x.abs()


def split(mask: Tensor, part: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A mask as two: what is left after a random part of the points outside the middle is taken away, and what was taken."""
    height, width = mask.shape
    free = mask.clone()
    free[height // 2 - 12 : height // 2 + 12, width // 2 - 12 : width // 2 + 12] = 0
    score = Rng(seed, (0,), purpose="hold-out").uniform(tuple(mask.shape), torch.empty(0))[0]
    taken = free * (score < part)
    return mask - taken, taken


def predicted(x: Tensor, y: Tensor, held: Tensor, maps: Tensor) -> float:
    """|H x - y| / |y| on points that the fit has not seen."""
    h = SENSE((x.shape[1], *held.shape), maps, mask=held)
    return float((h(x.float()) - y * held).norm() / (y * held).norm())


def choose(name: str, y: Tensor, mask: Tensor, sigma: float) -> tuple[float, float]:
    """The weight with the least error on a tenth of the points, and that error."""
    method, weights = METHODS[name]
    if name == "zero-filled RSS":
        return weights[0], float("nan")
    seen, held = split(mask, 0.1)
    maps = espirit(y)
    errors = [predicted(method(y * seen, seen, sigma, weight), y, held, maps) for weight in weights]
    best = min(range(len(weights)), key=errors.__getitem__)
    return weights[best], errors[best]


def compared(x: Tensor, truth: Tensor, support: Tensor) -> tuple[float, float, float, float]:
    """NRMSE, NRMSE where a coil sees anything, PSNR (peak: the truth's largest value) and SSIM of magnitudes, after the scale that
    fits best."""
    scaled = x * (x * truth).sum() / x.square().sum().clamp_min(1e-12)
    peak = float(truth.max())
    left, right = (scaled / peak).double(), (truth / peak).double()
    error = float((scaled - truth).norm() / truth.norm())
    inside = float(((scaled - truth) * support).norm() / (truth * support).norm())
    return error, inside, float(PSNR()(left, right)[0]), float(SSIM()(left.clamp(0, 1), right)[0])


def table(y: Tensor, mask: Tensor, truth: Tensor | None, images: dict[str, Tensor], more: tuple[Tensor, Tensor] | None = None) -> list[str]:
    """Rows of one experiment; the images are kept for the figure. `more`: k-space and mask with points that y does not have."""
    sigma = noise_level(y, mask)
    support = (joined(espirit(y)).abs().sum(0) > 0).float()
    rows = [
        "| method | weight | error on held-out points | on unseen points | NRMSE | within the maps | PSNR | SSIM |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, (method, _) in METHODS.items():
        weight, held = choose(name, y, mask, sigma)
        x = method(y, mask, sigma, weight)
        images[name] = found = magnitude(x)
        unseen = "" if more is None or name == "zero-filled RSS" else f"{predicted(x, more[0], more[1] - mask, espirit(y)):.3f}"
        numbers = [""] * 4 if truth is None else [f"{value:.3f}" for value in compared(found, truth, support)]
        row = f"| {name} | {weight:g} | {held:.3f} | {unseen} | {' | '.join(numbers)} |"
        rows.append(row.replace("nan", "").replace("| 0 |", "| |"))
        print(rows[-1], flush=True)
    return rows


def synthetic(x: Tensor, maps: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """k-space of a complex image on every fourth column or so (8 % in the middle always), with noise; and its mask."""
    mask = sampling_mask(tuple(x.shape[-2:]), "equispaced", 4.0, 24.5 / x.shape[-1])
    h = SENSE((2, *x.shape[-2:]), maps, mask=mask)
    clean = h(x)
    noise = sigma * Rng(0, (0,), purpose="mri").normal_like(clean)
    return (clean + noise) * mask, mask


def figure(path: Path, rows: dict[str, dict[str, Tensor]], truths: dict[str, Tensor]) -> None:
    """Reconstructions, and below them five times their error where there is a truth."""
    columns = ["truth", *METHODS]
    fig, axes = plt.subplots(2 * len(rows) - 1, len(columns), figsize=(10, 2.55 * (2 * len(rows) - 1)))
    line = 0
    for title, images in rows.items():
        truth = truths.get(title)
        shown: dict[str, Any] = images if truth is None else {"truth": truth, **images}
        for column, name in enumerate(columns):
            pictures = [shown.get(name)] if truth is None else [shown.get(name), None if name == "truth" else shown[name] - truth]
            for offset, picture in enumerate(pictures):
                axis = axes[line + offset, column]
                axis.set(xticks=[], yticks=[])
                if picture is None:
                    axis.axis("off")
                    continue
                top = float(next(iter(shown.values())).max())
                axis.imshow(picture[0, 0].abs() / top * (5 if offset else 1), cmap="gray", vmin=0, vmax=0.8)
                axis.set_title(f"{name}" if not offset else "5 x error", fontsize=7)
        axes[line, 0 if truth is not None else 1].set_ylabel(title, fontsize=7)
        line += 1 if truth is None else 2
    fig.tight_layout(pad=0.3)
    fig.savefig(path, dpi=70)
    Image.open(path).convert("L").save(path, optimize=True)


def main() -> None:
    """Read the arguments, reconstruct, write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    y, mask = load(arguments.data)
    sigma = noise_level(y, mask)
    lines = [
        "# Real eight-coil k-space",
        "",
        f"`python benchmarks/studies/mri.py --data FOLDER`; {float(100 * mask.mean()):.1f} % of k-space is measured (acceleration "
        f"{1 / float(mask.mean()):.1f}); noise at most about {sigma:.4f} of the largest value. Magnitudes are compared after the scale "
        "that fits best. What the tables are, and what they favour: see the script's head.",
    ]
    full: dict[str, Tensor] = {}
    lines += ["", "## All that was measured", "", *table(y, mask, None, full)]
    weight, _ = choose("TV (ADMM)", y, mask, sigma)
    complex_image = total_variation(y, mask, sigma, weight)
    reference = magnitude(complex_image)

    kept = quarter(mask)
    few: dict[str, Tensor] = {}
    lines += ["", f"## A quarter of it ({int(kept.sum())} of {int(mask.sum())} points), against TV from all", ""]
    lines += table(y * kept, kept, reference, few, (y, mask))

    lined, columns = synthetic(complex_image, espirit(y), sigma)
    known: dict[str, Tensor] = {}
    part = float(columns.mean())
    lines += [
        "",
        f"## Simulated from the TV image: {int(columns[0].sum())} of {columns.shape[1]} columns (acceleration {1 / part:.1f})",
        "",
    ]
    lines += table(lined, columns, reference, known)

    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "mri.md").write_text("\n".join(lines) + "\n\n![Reconstructions and their errors](mri.png)\n")
    titles = ("all measured", "a quarter", "4 x fewer columns")
    figure(arguments.out / "mri.png", dict(zip(titles, (full, few, known), strict=True)), dict.fromkeys(titles[1:], reference))


def quarter(mask: Tensor) -> Tensor:
    """The middle and as many other points as make a quarter of all."""
    height, width = mask.shape
    middle = torch.zeros_like(mask)
    middle[height // 2 - 12 : height // 2 + 12, width // 2 - 12 : width // 2 + 12] = 1
    others = mask * (1 - middle)
    count = int(mask.sum()) // 4 - int((mask * middle).sum())
    score = Rng(1, (0,), purpose="quarter").uniform(tuple(mask.shape), torch.empty(0))[0] + (others == 0)
    chosen = torch.zeros(mask.numel())
    chosen[score.flatten().argsort()[:count]] = 1
    return mask * middle + chosen.reshape(mask.shape)


if __name__ == "__main__":
    main()

"""What networks that see the measurement are worth, on faces never trained on: `python benchmarks/studies/conditional.py sr --data DATA`.

Tables: sr (x4), palette (four tasks by one network), idm (any factor), cascade (x4 after x4 beside x16). DATA holds
dev/faces64/dev.zip, and in weights/ what the feature distance needs (and h5py); the priors' weights are those of benchmarks/weights.
Each writes results/conditional/NAME.md and NAME.png. With --cache FOLDER what was computed is kept there, and a run that was stopped
goes on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from invsolve_weights.cards import read_card
from invsolve_weights.places import file_of
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, max_pool2d

from invsolve import NoNoise, Operator, Problem, load_prior
from invsolve.bench.case_metrics import FrechetDistance
from invsolve.bench.metrics import SSIM, HaarPSI
from invsolve.bench.set_metrics import discrepancy
from invsolve.io.images import picture_grid, write_image
from invsolve.plugins import registry
from invsolve.priors.base import Denoiser
from invsolve.solver import Solver
from invsolve.solvers import DDIM, DDPM, DDRM, DPS, Bicubic, Nearest, PartDiff, Stage, cascade
from invsolve.training.data import validation_images

RESULTS = Path(__file__).parents[1] / "results" / "conditional"
SHAPE = (3, 64, 64)


class Features:
    """A distance of LPIPS's form and weights by SqueezeNet with its Caffe weights: not the published LPIPS.

    Args:
        folder: holds squeezenet1.1_caffe_notop_keras.h5 and lpips_v0.1_squeeze_lin.pth.

    References:
        The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018), arXiv:1801.03924, eq. 1.
    """

    def __init__(self, folder: Path) -> None:
        import h5py

        with h5py.File(folder / "squeezenet1.1_caffe_notop_keras.h5") as file:
            held: dict[str, Tensor] = {}
            file.visititems(lambda name, value: held.update({name: torch.from_numpy(value[()])}) if hasattr(value, "shape") else None)
        # fire2/expand1x1/fire2/expand1x1_3/kernel:0, conv1/conv1_3/kernel:0
        whole = {name: name.split("/") for name in held}
        self.weights = {
            "/".join([*parts[: 2 if parts[0] != "conv1" else 1], parts[-1].split(":")[0]]): held[name] for name, parts in whole.items()
        }
        heads = torch.load(folder / "lpips_v0.1_squeeze_lin.pth", weights_only=True, map_location="cpu")
        self.heads = [heads[f"lin{index}.model.1.weight"].flatten() for index in range(7)]

    def conv(self, x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        """Convolution and rectifier."""
        kernel = self.weights[f"{name}/kernel"].permute(3, 2, 0, 1).contiguous()
        return conv2d(x, kernel, self.weights[f"{name}/bias"], stride, padding).relu()

    @torch.no_grad()
    def layers(self, x: Tensor) -> list[Tensor]:
        """The seven that LPIPS compares, of images (B, 3, H, W) in [0, 1]."""
        mean = torch.tensor([104.0, 117.0, 123.0]).reshape(3, 1, 1)
        out = self.conv(255 * x.flip(1) - mean, "conv1", 2)
        found = [out]
        for index in range(2, 10):
            if index in (2, 4, 6):
                out = max_pool2d(out, 3, 2, ceil_mode=True)
            squeezed = self.conv(out, f"fire{index}/squeeze1x1")
            wide = [self.conv(squeezed, f"fire{index}/expand1x1"), self.conv(squeezed, f"fire{index}/expand3x3", padding=1)]
            out = torch.cat(wide, 1)
            if index in (3, 5, 6, 7, 8, 9):
                found.append(out)
        return found

    def __call__(self, x: Tensor, truth: Tensor) -> Tensor:
        """(B,)."""
        total = torch.zeros(len(x))
        for one, other, head in zip(self.layers(x), self.layers(truth), self.heads, strict=True):
            apart = [layer / layer.norm(dim=1, keepdim=True).clamp_min(1e-10) for layer in (one, other)]
            total += ((apart[0] - apart[1]).square() * head.reshape(1, -1, 1, 1)).sum(1).mean((1, 2))
        return total


def laws(x: Tensor, truth: Tensor, network: Features) -> list[str]:
    """FID in SqueezeNet's fire3 and KID in its fire9, features of mean square 1 in the truths; no FID where images are too few."""
    pooled = [[layers[at].mean((2, 3)).double() for at in (1, -1)] for layers in (network.layers(x), network.layers(truth))]
    (fid_x, kid_x), (fid_truth, kid_truth) = pooled
    size, scale = fid_x.shape[1], fid_truth.square().mean().sqrt()
    fid = FrechetDistance(lambda rows: rows).compute(list(fid_x / scale), list(fid_truth / scale)) if len(x) > size else None
    scale = kid_truth.square().mean().sqrt()
    return ["-" if fid is None else f"{fid:.2f}", f"{discrepancy(kid_x / scale, kid_truth / scale):.3f}"]


def gradient(x: Tensor) -> Tensor:
    """Mean size of the differences of neighbours, (B,): 0 for a flat image, and a smooth one has little."""
    return (x.diff(dim=-1).abs().flatten(1).mean(1) + x.diff(dim=-2).abs().flatten(1).mean(1)) / 2


def sharpness(x: Tensor, truth: Tensor) -> str:
    """The gradient over the truth's."""
    return f"{(gradient(x).mean() / gradient(truth).mean()):.2f}"


def off(problem: Problem, x: Tensor) -> str:
    """Root mean square of Hx - y."""
    apart: Tensor = problem.operator(x) - problem.y  # pyright: ignore
    return f"{apart.square().mean().sqrt():.4f}"


def psnr(x: Tensor, truth: Tensor) -> Tensor:
    """Per image, in dB."""
    return -10 * (x - truth).square().flatten(1).mean(1).log10()


def shown(values: Tensor, digits: int = 2) -> str:
    """Mean and standard error."""
    return f"{values.mean():.{digits}f} ± {values.std() / len(values) ** 0.5:.{digits}f}"


class Rows:
    """Answers by name, kept in a folder where one is given.

    Args:
        folder: of the cache.
        key: what they are of, in the file's name.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self.folder, self.key = folder, key

    def of(self, name: str, make: Callable[[], Tensor]) -> tuple[Tensor, float]:
        """The images, clamped to [0, 1], and seconds an image."""
        file = None if self.folder is None else self.folder / f"{self.key}-{name.replace(' ', '_').replace('/', '_')}.pt"
        if file is not None and file.exists():
            kept = torch.load(file, weights_only=True)
            return kept["x"], kept["seconds"]
        begun = time.perf_counter()
        x = make().clamp(0, 1)
        seconds = (time.perf_counter() - begun) / len(x)
        print(f"{self.key}: {name}: {seconds:.2f} s an image", flush=True)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"x": x, "seconds": seconds}, file)
        return x, seconds


def trained(*names: str, start: str = "`faces64` (2.1 hours itself)") -> list[str]:
    """What the training of weight files took, from their cards."""
    lines = ["", f"What the training took, on one core beside other work, from the weights of {start}:", ""]
    lines += ["| weights | minutes | images | steps |", "|---|---|---|---|"]
    for name in names:
        told = read_card(file_of(name)).training
        last = told.get("stages", [told])[-1]
        lines.append(f"| {name} | {60 * last['hours']:.0f} | {last['images']:,} | {last['steps']:,} |")
    return lines


def written(name: str, lines: Sequence[str], rows: Sequence[Tensor], across: int) -> None:
    """The page and its picture."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_image(RESULTS / f"{name}.png", picture_grid(torch.cat([row[:across].clamp(0, 1) for row in rows]), across))


def heading(title: str, table: str, truth: Tensor, rest: str, columns: str) -> list[str]:
    """Of a page: how it is made, and the first rows of its table."""
    command = f"`python benchmarks/studies/conditional.py {table} --data DATA --count {len(truth)}`"
    rule = "|" + "---|" * (columns.count("|") - 1)
    return [f"# {title}", "", f"{command}: the first {len(truth)} faces of dev/faces64, never trained on,", rest, "", columns, rule]


def solved(solver: Solver, problem: Problem, prior: Denoiser) -> Callable[[], Tensor]:
    """The answer, when it is asked for."""
    return lambda: solver.solve(problem, prior, generator=0, chunk=32).x


def operator(name: str, shape: tuple[int, ...] = SHAPE, **arguments: object) -> Operator:
    """Of the registry."""
    return registry().build("operator", name, in_shape=shape, **arguments)


def sr_rows(problem: Problem) -> list[tuple[str, str, Callable[[], Tensor]]]:
    """(method, network calls, its answer)."""
    sr3, partdiff, regression, plain = (load_prior(name, precision="auto") for name in ("sr3", "partdiff", "regression", "faces64"))
    return [
        ("nearest", "0", solved(Nearest(), problem, plain)),
        ("bicubic", "0", solved(Bicubic(), problem, plain)),
        ("regression", "1", solved(DDIM(steps=1), problem, regression)),
        ("sr3, one call: its mean", "1", solved(DDIM(steps=1), problem, sr3)),
        ("sr3, ddim", "25", solved(DDIM(steps=25), problem, sr3)),
        ("sr3, ddim", "100", solved(DDIM(steps=100), problem, sr3)),
        ("sr3, ddpm", "100", solved(DDPM(steps=100), problem, sr3)),
        ("partdiff, exact", "25", solved(PartDiff(eta=0.0), problem, partdiff)),
        ("partdiff, exact, ancestral", "25", solved(PartDiff(), problem, partdiff)),
        ("partdiff, paper, ancestral", "25", solved(PartDiff(align="paper"), problem, partdiff)),
        ("ddrm with faces64, no condition", "20", solved(DDRM(steps=20), problem, plain)),
    ]


def sr(truth: Tensor, cache: Path | None, features: Features) -> None:
    """x4: the seeds' table."""
    problem = Problem.simulate(operator("block-mean", factor=4), truth, NoNoise(), generator=0)
    rows = Rows(cache, "sr")
    columns = "| method | calls | PSNR, dB | SSIM | HaarPSI | features | gradient | off y | s a face |"
    rest = "64 x 64 from means of 4 x 4 pixels without noise. Mean ± standard error over the faces."
    lines = heading("Faces x4: networks that see the measurement", "sr", truth, rest, columns)
    pictures, found = [truth], {}
    for name, calls, make in sr_rows(problem):
        x, seconds = rows.of(f"{name} {calls}", make)
        found[f"{name} {calls}"] = x
        values = [shown(psnr(x, truth)), shown(SSIM().compute(x, truth), 3), shown(HaarPSI().compute(x, truth), 3)]
        values += [shown(features(x, truth), 3), sharpness(x, truth), off(problem, x), f"{seconds:.2f}"]
        lines.append(f"| {name} | {calls} | {' | '.join(values)} |")
        if name != "nearest" and not name.endswith("ancestral") and (name, calls) != ("sr3, ddim", "25"):
            pictures.append(x)
    pairs = (("partdiff, exact, ancestral 25", "sr3, ddpm 100"), ("partdiff, exact 25", "sr3, ddim 100"))
    apart = [f"{one} against {other}: {shown(psnr(found[one], truth) - psnr(found[other], truth))} dB" for one, other in pairs]
    nearer = features(found["sr3, ddpm 100"], truth) - features(found["regression 1"], truth)
    lines += [
        "",
        "features: LPIPS's form and weights of version 0.1 by SqueezeNet, on features of its Caffe weights; not the published LPIPS, the",
        "smaller the nearer. gradient: mean difference of neighbours over the truth's, 1 for a picture as sharp. off y: root mean square",
        "of Hx - y. Seconds on one core beside other work.",
        "",
        f"Paired, face by face: {'; '.join(apart)};",
        f"features of sr3, ddpm 100 against regression: {shown(nearer, 4)} (below 0: sr3 is nearer).",
        "",
        "![truth, bicubic, regression, sr3 (one call, ddim, ddpm with 100), partdiff, ddrm](sr.png)",
        *trained("sr3-faces", "regression-faces", "partdiff-faces", start="`faces64` (2.1 hours itself), `partdiff-faces` of `sr3-faces`"),
    ]
    written("sr", lines, pictures, 5)


def palette(truth: Tensor, cache: Path | None, features: Features) -> None:
    """Four tasks by one network, beside two solvers with the prior without a condition."""
    network, plain = (load_prior(name, precision="auto") for name in ("palette", "faces64"))
    tasks = {
        "colourisation": operator("grey"),
        "inpainting": operator("stroke-mask", seed=7777),
        "uncropping": operator("expand-mask", part=0.5),
        "JPEG 10": operator("jpeg", quality=10),
    }
    columns = "| task | method | calls | PSNR, dB | features | gradient |"
    rest = "without noise. Mean ± standard error over the faces. features, gradient: see [sr](sr.md)."
    lines = heading("Four tasks on faces by one network", "palette", truth, rest, columns)
    pictures = [truth]
    for task, h in tasks.items():
        problem, rows = Problem.simulate(h, truth, NoNoise(), generator=0), Rows(cache, f"palette-{task}")
        kinds: list[tuple[str, str, Solver, Denoiser]] = [("palette, ddim", "50", DDIM(steps=50), network)]
        kinds += [("palette, one call", "1", DDIM(steps=1), network)]
        if task != "JPEG 10":
            kinds += [("ddrm with faces64", "20", DDRM(steps=20), plain)]
        kinds += [("dps with faces64", "50", DPS(steps=50), plain)]
        pictures.append(network.made_for.condition(problem))  # pyright: ignore
        for name, calls, solver, prior in kinds:
            x, _ = rows.of(f"{name} {calls}", solved(solver, problem, prior))
            values = [shown(psnr(x, truth)), shown(features(x, truth), 3), sharpness(x, truth)]
            lines.append(f"| {task} | {name} | {calls} | {' | '.join(values)} |")
            if name == "palette, ddim":
                pictures.append(x)
    lines += [
        "",
        "![truth; what the network is shown and its ddim answer, task by task](palette.png)",
    ]
    written("palette", [*lines, *trained("palette-faces")], pictures, 8)


def idm(truth: Tensor, cache: Path | None, features: Features) -> None:
    """Any magnification by one network."""
    del features  # its first layers need 35 pixels, and the sides are not all as large
    prior, lines, pictures = load_prior("idm", precision="auto"), [], []
    for size, side in ((16, 32), (16, 43), (16, 64), (10, 63)):
        small = truth if side == 64 else operator("resize", size=side)(truth)
        assert isinstance(small, Tensor)
        small = small.clamp(0, 1)
        problem = Problem.simulate(operator("resize", (3, side, side), size=size), small, NoNoise(), generator=0)
        rows = Rows(cache, f"idm-{size}-{side}")
        for name, calls, solver in (
            ("bicubic", "0", Bicubic()),
            ("idm, one call", "1", DDIM(steps=1)),
            ("idm, ddim", "50", DDIM(steps=50)),
        ):
            one = load_prior("gaussian") if name == "bicubic" else prior
            x, _ = rows.of(f"{name} {calls}", solved(solver, problem, one))
            values = [shown(psnr(x, small)), shown(SSIM().compute(x, small), 3), sharpness(x, small), off(problem, x)]
            lines.append(f"| x{side / size:.3g} | {size} -> {side} | {name} | {calls} | {' | '.join(values)} |")
            pictures.append(interpolate(x, size=(64, 64), mode="nearest"))
    columns = "| factor | sides | method | calls | PSNR, dB | SSIM | gradient | off y |"
    rest = "brought to the side by antialiased bicubic interpolation, measured by the operator `resize`, no noise. Mean ± standard error."
    head = heading("Faces by any factor, one network", "idm", truth, rest, columns)
    tail = ["", "![bicubic, one call and ddim at x2, x2.69, x4 and x6.3](idm.png)", *trained("idm-faces")]
    written("idm", [*head, *lines, *tail], pictures, 8)


def chained(truth: Tensor, cache: Path | None, features: Features) -> None:
    """x4 after x4 beside x16 at once, at equal calls."""
    names = ("cascade-faces-1", "cascade-faces-2", "sr3-faces-16")
    first, second, whole = (load_prior(str(file_of(name)), precision="auto") for name in names)
    problem = Problem.simulate(operator("block-mean", factor=16), truth, NoNoise(), generator=0)
    small, large = operator("block-mean", (3, 16, 16), factor=4), operator("block-mean", factor=4)
    rows, lines = Rows(cache, "cascade"), []

    def drawn(noise: float) -> Callable[[], Tensor]:
        stages = [Stage(small, first, solver=DDIM(steps=25)), Stage(large, second, noise, DDIM(steps=25))]  # pyright: ignore
        return lambda: cascade(problem, stages, generator=0)[-1].x

    table = [
        ("bicubic", "0", solved(Bicubic(), problem, load_prior("gaussian"))),
        ("x16 at once, ddim", "50", solved(DDIM(steps=50), problem, whole)),
    ]
    table += [(f"x4 after x4, noise {noise:g} told", "25 + 25", drawn(noise)) for noise in (0.0, 0.05, 0.1, 0.2)]
    pictures = [truth]
    for name, calls, make in table:
        x, _ = rows.of(f"{name} {calls}", make)
        values = [shown(psnr(x, truth)), shown(features(x, truth), 3), *laws(x, truth, features), sharpness(x, truth)]
        lines.append(f"| {name} | {calls} | {' | '.join(values)} |")
        pictures.append(x)
    columns = "| method | calls | PSNR, dB | features | FID | KID | gradient |"
    rest = (
        "from 4 x 4 pixels, without noise. Mean ± standard error over the faces. features, gradient: see [sr](sr.md). FID and\n"
        "KID: of the answers and the truths, in mean channels of SqueezeNet's fire3 (128) and fire9 (512), of mean square 1 in\n"
        "the truths; other numbers than those of Inception-v3."
    )
    head = heading("Faces x16: two networks after one another, and one", "cascade", truth, rest, columns)
    tail = ["", "![truth, then the rows of the table](cascade.png)", *trained(*names)]
    written("cascade", [*head, *lines, *tail], pictures, 8)


TABLES = {"sr": sr, "palette": palette, "idm": idm, "cascade": chained}


def main() -> None:
    """Restore, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=sorted(TABLES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    truth = validation_images(arguments.data / "dev" / "faces64" / "dev.zip", arguments.count, 64)
    features = Features(arguments.data / "weights")
    TABLES[arguments.table](truth, None if arguments.cache is None else arguments.cache / str(len(truth)), features)


if __name__ == "__main__":
    main()

"""Autoencoders of faces and restoration in their codes: `python benchmarks/studies/latent.py --data DATA`.

DATA holds dev/faces64/dev.zip, faces that nothing here was trained on. Needs the weights of benchmarks/weights. Writes
results/conditional/latent.md, latent.png (rows: truth, measurement, the table's solvers), latent_samples.png, latent_ceilings.md and
latent_trained.md; with --trained the last two only.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from invsolve_latent import load_autoencoder
from invsolve_weights.places import file_of
from torch import Tensor

from invsolve import GaussianNoise, NoNoise, Problem, Solver, load_prior
from invsolve.io.images import picture_grid, write_image
from invsolve.plugins import registry
from invsolve.solvers import DDIM, DPS, PSLD, FlowDPS, LatentDAPS, LatentDPS, LatentLanPaint, LatentRePaint, RePaint, ReSample
from invsolve.training.data import validation_images

HERE = Path(__file__).parents[1] / "results" / "conditional"
SHAPE, NOISE = (3, 64, 64), 0.02
AUTOENCODERS = [f"faces64-{kind}-f{factor}" for kind in ("kl", "vq") for factor in (2, 4, 8)]
LATENT: dict[str, Solver] = {
    "latent-dps": LatentDPS(),
    "psld": PSLD(),
    "resample": ReSample(inner=5),
    "latent-daps": LatentDAPS(steps=20, inner_steps=10),
    "flowdps": FlowDPS(),
    "latent-repaint": LatentRePaint(),
    "latent-lanpaint": LatentLanPaint(),
}
PIXEL: dict[str, Solver] = {"dps": DPS(), "repaint": RePaint()}
CONDITIONAL = {
    "faces64-ldm-sr": "ldm-sr",
    "faces64-ldm-inpaint": "ldm-inpaint",
    "sr3-faces": "sr3, pixels",
    "palette-faces": "palette, pixels",
}


def measured(name: str, x: Tensor, truth: Tensor) -> Tensor:
    """A metric of the registry, (B,)."""
    return registry().build("metric", name)(x, truth)


def written(values: Tensor, places: int = 2) -> str:
    """mean +- standard error."""
    return f"{float(values.mean()):.{places}f} ± {float(values.std() / len(values) ** 0.5):.{places}f}"


def ceilings(faces: Tensor) -> list[str]:
    """What every autoencoder leaves of the faces."""
    lines = [
        "| autoencoder | numbers of a code | weights | trained on | PSNR of D(E(x)) | HaarPSI |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in AUTOENCODERS:
        if not file_of(name).is_file():
            continue
        network, card = load_autoencoder(name)
        with torch.no_grad():
            code = network.encode(faces)
            made = torch.cat([network.decode(part) for part in code.split(32)])
        size, hours = " x ".join(map(str, code.shape[1:])), card.training["hours"]
        trained = f"{card.training['images']:,} images, {60 * hours:.0f} min"
        scores = written(measured("psnr", made, faces)), written(measured("haarpsi", made, faces), 3)
        lines.append(f"| {name} | {size} | {card.parameters / 1e6:.2f} M | {trained} | {scores[0]} | {scores[1]} |")
    return lines


def problems(faces: Tensor, noise: float) -> dict[str, Problem]:
    """A hole of 24 x 24 pixels without noise, and means of 4 x 4 pixels."""
    keep = torch.ones(64, 64)
    keep[20:44, 20:44] = 0
    mask = registry().build("operator", "mask", in_shape=SHAPE, mask=keep[None])
    means = registry().build("operator", "block-mean", in_shape=SHAPE, factor=4)
    model = GaussianNoise(noise) if noise else NoNoise()
    return {
        "A hole of 24 x 24 pixels, no noise": Problem.simulate(mask, faces, NoNoise(), generator=0),
        f"Means of 4 x 4 pixels, {f'noise {noise}' if noise else 'no noise'}": Problem.simulate(means, faces, model, generator=0),
    }


def table(title: str, problem: Problem, faces: Tensor, pairs: list[tuple[str, str, Any, Solver]]) -> tuple[list[str], list[Tensor]]:
    """The section of one problem, and its pictures: (kind, name, prior, solver) each."""
    lines = ["| prior | solver | PSNR | HaarPSI | PSNR against the first | evaluations | s a face |", "| --- " * 7 + "|"]
    pictures, reference = [], None
    for kind, name, prior, solver in pairs:
        if solver.mismatches(problem, prior):
            continue
        began = time.perf_counter()
        run = solver.solve(problem, prior, generator=0)
        seconds = (time.perf_counter() - began) / len(faces)
        psnr = measured("psnr", run.x, faces)
        against = "" if reference is None else written(psnr - reference)
        reference = psnr if reference is None else reference
        haar = written(measured("haarpsi", run.x, faces), 3)
        lines.append(f"| {kind} | {name} | {written(psnr)} | {haar} | {against} | {run.nfe} | {seconds:.1f} |")
        print(title, lines[-1], flush=True)
        pictures.append(run.x.clamp(0, 1))
    latent: Any = load_prior("faces64-latent")
    ceiling = latent.ceiling(faces)
    scores = written(measured("psnr", ceiling, faces)), written(measured("haarpsi", ceiling, faces), 3)
    lines.append(f"| ceiling D(E(x)) | | {scores[0]} | {scores[1]} | | | |")
    return [f"## {title}", "", *lines, ""], pictures


def prior_words(prior: Any) -> str:
    """What its training took."""
    training = prior.card.training
    return (
        f"{prior.card.parameters / 1e6:.1f} M weights, {training['images']:,} images in {60 * training['hours']:.0f} minutes of one thread"
    )


def trained(faces: Tensor, command: str) -> None:
    """latent_trained.md: networks of codes that see the measurement, beside those of pixels."""
    text = ["# Networks of codes that see the measurement", "", f"{command}: {len(faces)} faces that nothing here was trained on;"]
    text += ["means with standard errors, differences paired. 50 DDIM steps. Pixels known without noise are y's.", ""]
    pairs: list[tuple[str, str, Any, Solver]] = []
    for weights, name in CONDITIONAL.items():
        if file_of(weights).is_file():
            prior: Any = load_prior(str(file_of(weights)), precision="auto")
            pairs.append(("trained for it", name, prior, DDIM(steps=50)))
            text += [f"- {name}: {prior_words(prior)}"]
    pairs.append(("codes", "latent-repaint", load_prior("faces64-latent", precision="auto"), LatentRePaint()))
    text += [""]
    for title, problem in problems(faces, 0.0).items():
        text += table(title, problem, faces, pairs)[0]
    (HERE / "latent_trained.md").write_text("\n".join(text) + "\n", encoding="utf-8")


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--trained", action="store_true")
    arguments = parser.parse_args()
    faces = validation_images(arguments.data / "dev" / "faces64" / "dev.zip", 198, None)
    few = faces[:: len(faces) // arguments.count][: arguments.count]
    HERE.mkdir(parents=True, exist_ok=True)
    command = "`python benchmarks/studies/latent.py --data DATA`"
    text = ["# What the codes of faces leave: D(E(x))", "", f"{command}: {len(faces)} faces that nothing here was trained on."]
    text += ["", *ceilings(faces)]
    (HERE / "latent_ceilings.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    trained(few, command)
    if arguments.trained:
        return
    latent, pixel = (load_prior(name, precision="auto") for name in ("faces64-latent", "faces64"))
    drawn = DDIM(steps=50).solve(Problem.unconditional(SHAPE, 16), latent, generator=0).x
    write_image(HERE / "latent_samples.png", picture_grid(drawn.clamp(0, 1), 8))
    text = ["# Latent diffusion on faces", "", f"{command}: {len(few)} faces that nothing here was trained on; means with standard"]
    text += ["errors, differences paired. Pixels known without noise are y's in every answer, but not in D(E(x)).", ""]
    text += [f"The latent prior `faces64-latent`: {prior_words(latent)},"]
    text += ["on the codes of an autoencoder that was trained as long; `faces64` sees pixels. `resample` with inner=5, `latent-daps` with"]
    text += ["steps=20, inner_steps=10, all else by default. Samples, DDIM in 50 steps: latent_samples.png; every autoencoder's ceiling:"]
    text += ["latent_ceilings.md.", ""]
    pairs = [("codes", name, latent, one) for name, one in LATENT.items()] + [("pixels", name, pixel, one) for name, one in PIXEL.items()]
    for index, (title, problem) in enumerate(problems(few, NOISE).items()):
        lines, pictures = table(title, problem, few, pairs)
        text += lines
        if index == 0:
            y: Any = problem.y
            rows = [part[:4] for part in (few, y.clamp(0, 1), *pictures)]
            write_image(HERE / "latent.png", picture_grid(torch.cat(rows), 4))
    (HERE / "latent.md").write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""invsolve prior-report: what priors are worth, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from invsolve.cli.output import line


@click.command("prior-report", short_help="Measure priors: accuracy, calibration, symmetry, speed, samples.")
@click.argument("names", nargs=-1, required=True, metavar="PRIOR...")
@click.option(
    "--out", type=click.Path(file_okay=False), default="prior-report", show_default=True, help="Folder for the page and its numbers."
)
@click.option("--images", type=click.Path(), help="A folder or zip file of images; without it the four photographs of the quick suite.")
@click.option("--count", type=click.IntRange(1), help="Only the first COUNT images.")
@click.option("--samples", type=click.IntRange(0), default=16, show_default=True, help="Pictures drawn from each prior; 0 for none.")
@click.option("--side", type=click.IntRange(8), default=64, show_default=True, help="Side of those pictures.")
def prior_report(names: tuple[str, ...], out: str, images: str | None, count: int | None, samples: int, side: int) -> None:
    """Measure one or several denoisers side by side: priors.html (curves, tables, pictures) and priors.json in the folder.

    PSNR over noise levels, calibration (is it the posterior mean at this sigma), symmetry of its Jacobian (is it a score), what
    cutting images into tiles costs, time in float32, channels last and bfloat16 with the PSNR each loses, and samples with their
    spectrum and gradient statistics beside those of real patches. PRIOR is a name (invsolve list prior) or a weight file.
    """
    from invsolve.bench.prior_report import measure, write_prior_report
    from invsolve.plugins import load_prior

    priors = [(name, load_prior(name)) for name in dict.fromkeys(names)]
    pictures, source = chosen_images(images, count)
    found = [
        measure(name, prior, pictures, side=side, count=samples, say=lambda text: click.echo(line(text), err=True))
        for name, prior in priors
    ]
    for path in write_prior_report(found, source, Path(out)):
        click.echo(str(path))


def chosen_images(source: str | None, count: int | None) -> tuple[list[Any], str]:
    """(C, H, W) images in [0, 1] and what they are."""
    if source is None:
        from invsolve.bench.data import load_pictures

        pictures = load_pictures("quick-photos", {})[:count]
        return [picture.image for picture in pictures], f"quick-photos ({len(pictures)} photographs of 128 x 128)"
    import numpy as np
    import torch

    from invsolve.training.data import read_images

    arrays = [np.asarray(image) for _, image in zip(range(count or 10**9), read_images(source), strict=False)]
    return [
        torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255 for array in arrays
    ], f"{Path(source).name} ({len(arrays)} images)"

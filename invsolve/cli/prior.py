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
@click.option("--images", help="A folder, a zip or npz file, or a data set; without it the four photographs of the quick suite.")
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
    """(3, H, W) images in [0, 1] and what they are."""
    from invsolve.data import Here, chosen, load_set

    part = chosen(source or "quick-photos")
    pictures = load_set(part.model_copy(update={"first": count, "channels": 3}), Here())
    sizes = sorted({tuple(picture.image.shape[-2:]) for picture in pictures})
    shown = " to ".join(dict.fromkeys(f"{height} x {width}" for height, width in (sizes[0], sizes[-1])))
    return [picture.image for picture in pictures], f"{Path(source or 'quick-photos').name} ({len(pictures)} images of {shown})"

"""invsolve mask: where a photograph is damaged."""

from __future__ import annotations

from pathlib import Path

import click

from invsolve.cli.output import clean, print_json, refuse_source


@click.command(short_help="Find dust and scratches of a photograph.")
@click.argument("image", type=click.Path(dir_okay=False))
@click.option("--out", type=click.Path(dir_okay=False), help="The mask: .png, or .npy; NAME_mask.png beside the photograph if left out.")
@click.option("--method", help="segment, reading, evidence, difference or outlier; the best one unless said.")
@click.option("--threshold", type=float, help="Of the score: lower finds more.")
@click.option("--grow", type=int, help="Pixels by which the damage is widened.")
@click.option("--strict", is_flag=True, help="Only what is likely damaged, and not all that is better filled in.")
@click.option("--draws", type=int, default=2, show_default=True, help="Of noise at each level.")
@click.option("--prior", help="A prior by name or path, told 0 for clean and 1 for damaged, for the methods that ask one.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def mask(
    image: str,
    out: str | None,
    method: str | None,
    threshold: float | None,
    grow: int | None,
    strict: bool,
    draws: int,
    prior: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Find dust and scratches of IMAGE, and write the mask: white where it is sound, black where it is damaged.

    Then any solver that fills in:

    \b
      invsolve mask photo.png --out mask.png
      invsolve restore photo.png --operator file-mask --set operator.path=mask.png \\
          --noise 0 --solver hqs --prior natural
    """
    from invsolve.io.images import read_image, write_image
    from invsolve.plugins import load_prior
    from invsolve_damage.finding import find_damage

    path = Path(out) if out is not None else Path(image).with_name(f"{Path(image).stem}_mask.png")
    refuse_source(path, image, "a mask")
    photo, _ = read_image(image)
    told = None if prior is None else load_prior(prior)
    options = {"threshold": threshold, "grow": grow, "generous": not strict, "draws": draws, "seed": seed}
    found = find_damage(photo, told, method=method, **options)
    write_image(path, found.keep.float())
    share = 1 - float(found.keep.double().mean())
    if as_json:
        print_json({"damaged": share, "out": str(path)})
        return
    click.echo(f"damaged    {100 * share:.2f} %")
    click.echo(clean(f"written    {path}"))

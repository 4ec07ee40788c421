"""invsolve tune: settings of a solver, tried on pictures of one's own, as a preset that suites can name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from invsolve.cli.bench_plan import chosen_suite, given_pictures
from invsolve.cli.certify import is_problem, refuse_options, tune_problem
from invsolve.cli.output import line, print_table
from invsolve.errors import InputError

OF_SUITES = {
    "operators": "-o",
    "data": "-d",
    "out": "--out",
    "device": "--device",
    "batch": "--batch",
    "workers": "--workers",
}
OF_PROBLEMS = {"budget": "--budget", "draws": "--draws", "pool": "--pool", "cache": "--cache"}


@click.command("tune")
@click.argument("suite", metavar="SUITE|PROBLEM.toml")
@click.option("-s", "--solver", help="Which solver of the suite, by its label or name; of a problem another than its own, such as auto.")
@click.option("--trials", type=click.IntRange(min=2), help="How many settings, the given one included; of a suite 20.")
@click.option("--budget", default="60s", show_default=True, help='Of a problem: "60s", "5min", "5000 nfe".')
@click.option("--draws", type=click.IntRange(min=1), default=8, show_default=True, help="Of a problem: how many.")
@click.option("--pool", help="Of a problem, in place of draws: a folder of pictures, or another prior, such as natural.")
@click.option("--cache", type=click.Path(file_okay=False), help="Of a problem: a folder that draws are kept in.")
@click.option("-o", "--only-operator", "operators", multiple=True, help="Only on this operator. Repeatable.")
@click.option("-d", "--data", "data", multiple=True, help="LABEL=FOLDER: pictures to tune on; or only this data set.")
@click.option("--method", type=click.Choice(["random", "grid", "optuna"]), default="random", show_default=True)
@click.option(
    "--by", default="psnr", show_default=True, help="A metric, or discrepancy or sure (no truth); of a problem perception, calibration."
)
@click.option("--only", "names", multiple=True, help="Only this hyperparameter (zeta, prior.weight). Repeatable.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the settings.")
@click.option("--out", type=click.Path(file_okay=False), help="Folder of the trials; runs/tune-SUITE-SOLVER unless said.")
@click.option("--save", type=click.Path(dir_okay=False), help="The preset; preset.toml in the folder unless said.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@click.option("--batch", type=int, default=1, show_default=True, help="Pictures of equal size solved together.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes of a local dask cluster (extra dask).")
def tune(
    suite: str,
    solver: str | None,
    trials: int | None,
    budget: str,
    draws: int,
    pool: str | None,
    cache: str | None,
    operators: tuple[str, ...],
    data: tuple[str, ...],
    method: str,
    by: str,
    names: tuple[str, ...],
    seed: int,
    out: str | None,
    save: str | None,
    device: str,
    batch: int,
    workers: int | None,
) -> None:
    """Choose a solver's settings: for a PROBLEM's file on draws from its prior, which need no pictures; for a SUITE on pictures of your own
    (-d LABEL=FOLDER), or without a truth (--by discrepancy, --by sure)."""
    if is_problem(suite):
        refuse_options(OF_SUITES, "a problem")
        settings = {"budget": budget, "draws": draws, "pool": pool, "trials": trials, "names": names, "method": method, "cache": cache}
        tune_problem(suite, solver, save, {**settings, "for_": by, "generator": seed})
        return
    refuse_options(OF_PROBLEMS, "a suite")
    given = {"trials": trials or 20, "method": method, "by": by, "names": names, "seed": seed}
    run = {"device": device, "batch": batch, "workers": workers}
    tune_suite(suite, solver, operators, data, out, save, {**given, **run})


def tune_suite(
    suite: str,
    solver: str | None,
    operators: tuple[str, ...],
    data: tuple[str, ...],
    out: str | None,
    save: str | None,
    options: dict[str, Any],
) -> None:
    """Try a solver's settings as cells of a suite, say them, and write the best as a preset."""
    from invsolve.bench.tune import table
    from invsolve.bench.tune import tune as tuned

    if solver is None:
        raise InputError("a suite has several solvers: say one, --solver NAME")
    folder = Path(out) if out else Path("runs") / f"tune-{Path(suite).stem}-{''.join(c if c.isalnum() else '-' for c in solver)}"
    chosen = chosen_suite(suite, (), operators, data)
    given = given_pictures(data)
    replaced = bool(given) and all(set(chosen.data_names(operator)) & set(given) for operator in chosen.operator)
    found = tuned(chosen, solver, out=folder, replaced=replaced, **options)
    print_table(("setting", options["by"], "± over pictures"), list(table(found)))
    mean, error = found.gain
    if found.best is found.trials[0]:
        click.echo("nothing was better than what the suite has")
    else:
        click.echo(f"better by {mean:.4f} ± {error:.4f} than what the suite has, on the pictures that chose it")
    place = Path(save) if save else folder / "preset.toml"
    if save:
        place.write_text(found.preset.toml(), encoding="utf-8")
    click.echo(f'preset: {line(place)}; a suite names it: preset = "{line(place.name)}"')

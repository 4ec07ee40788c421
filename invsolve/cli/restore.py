"""invsolve restore: a photograph, and what happened to it."""

from __future__ import annotations

from typing import Any

import click

from invsolve.cli.grid import USUAL
from invsolve.cli.output import refuse_source
from invsolve.cli.restore_tasks import DENOISER, DRAWS, SAMPLER, Task, chosen, prior_for, unsaid
from invsolve.cli.solve import OUT, solve
from invsolve.errors import InputError, NoLevelError

LEVEL = 0.05  # of noise that is simulated, where none is said
HAPPENED = ("denoise", "blur", "defocus", "motion", "kernel", "mask", "scale", "jpeg", "blind")


HELP = """Restore the photograph IMAGE, or another measurement; say what happened to it.

\b
  invsolve restore photo.jpg --blur 1.6
  invsolve restore photo.jpg --kernel psf.png
  invsolve restore photo.jpg --mask hole.png
  invsolve restore photo.jpg --scale 4
  invsolve restore photo.jpg --jpeg
  invsolve restore photo.jpg --denoise
  invsolve restore photo.jpg --blind

The noise is found from the picture, the scene is taken to go on beyond the frame, and the result is photo_restored.png: a verdict
says whether it can be believed. Any other operator, such as those of microscopes and scanners:

\b
  invsolve restore photo.png --operator separable-gaussian-blur \\
      --set operator.sigma=2 --set operator.boundary=symmetric --solver hqs --prior dncnn
"""


class Level(click.ParamType):
    """A number, or auto."""

    name = "level"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """The number; auto as it is."""
        try:
            return value if value == "auto" else float(value)
        except (TypeError, ValueError):
            self.fail(f"a noise level is a number, or auto; given {value!r}", param, ctx)


@click.command(short_help="Restore one image.", help=HELP)
@click.argument("image", type=click.Path(dir_okay=False))
@click.option("--denoise", is_flag=True, help="It is noisy, and nothing else.")
@click.option("--blur", metavar="SIGMA", help="It is blurred by a Gaussian of so many pixels; of volumes voxels, or millimetres: 1.6mm.")
@click.option("--defocus", type=float, metavar="RADIUS", help="It is out of focus: a point became a disk of so many pixels.")
@click.option("--motion", metavar="LENGTH[,ANGLE]", help="It is blurred by a motion of so many pixels, in degrees from the horizontal.")
@click.option("--kernel", type=click.Path(dir_okay=False), help="It is blurred by this: a picture of a point, .npy, .npz or .mat.")
@click.option("--mask", type=click.Path(dir_okay=False), help="Fill in where this picture is black; where it is white all stays as it is.")
@click.option("--scale", type=float, metavar="N", help="Make it N times as large.")
@click.option(
    "--jpeg", is_flag=False, flag_value="file", metavar="[QUALITY]", help="Take away what JPEG did, at the file's own quality unless said."
)
@click.option("--blind", is_flag=True, help="Nobody knows: blur, enlargement, JPEG, scratches and noise are found from the picture.")
@click.option("--operator", help="In place of those: a name of invsolve list operator; outer/inner; or a TOML table.")
@click.option("--solver", help="Name of the solver; one that suits what happened unless said, with --operator auto.")
@click.option("--prior", help="Name of the prior, or the path of a weight file; one that suits unless said.")
@click.option(
    "--noise", type=Level(), help="Standard deviation for images in [0, 1]; auto, found from the picture, unless said (--simulate: 0.05)."
)
@click.option("--set", "settings", multiple=True, metavar="TABLE.KEY=VALUE", help="An argument, such as solver.steps=20.")
@click.option("--simulate", is_flag=True, help="Degrade IMAGE first, and report the PSNR of the result.")
@click.option("--samples", type=int, help="Posterior samples; the result is their mean, and NAME_std.png their spread.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@click.option("--out", type=click.Path(), help=OUT)
@click.option("--bits", type=int, help="Of the picture: 8 or 16 for .png; 8, 16 or 32, floats as they are, for .tif.")
@click.option(
    "--grid",
    is_flag=False,
    flag_value=USUAL,
    metavar="[SOLVERS]",
    help=f"Other solvers beside it in NAME_grid.png: SOLVER or SOLVER/PRIOR, with commas; {USUAL} unless said.",
)
@click.option("--tune", help='Choose the solver\'s settings first, on draws from the prior: a budget, "60s" or "5000 nfe".')
@click.option("--save-config", type=click.Path(dir_okay=False), help="Write the problem file that gives the same with invsolve run.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def restore(
    image: str,
    denoise: bool,
    blur: str | None,
    defocus: float | None,
    motion: str | None,
    kernel: str | None,
    mask: str | None,
    scale: float | None,
    jpeg: str | None,
    blind: bool,
    operator: str | None,
    solver: str | None,
    prior: str | None,
    noise: float | str | None,
    settings: tuple[str, ...],
    simulate: bool,
    samples: int | None,
    seed: int,
    device: str,
    out: str | None,
    bits: int | None,
    grid: str | None,
    tune: str | None,
    save_config: str | None,
    as_json: bool,
) -> None:
    """Restore one image."""
    happened = {"denoise": denoise, "blur": blur, "defocus": defocus, "motion": motion, "kernel": kernel, "mask": mask, "scale": scale}
    parts = {"operator": operator, "solver": solver, "prior": prior, "noise": noise, "simulate": simulate}
    run = {"samples": samples, "seed": seed, "device": device, "out": out, "bits": bits, "tune": tune, "grid": grid}
    restored(image, {**happened, "jpeg": jpeg, "blind": blind, **parts, **run}, settings, save_config, as_json)


def restored(image: str, said: dict[str, Any], settings: tuple[str, ...], save_config: str | None, as_json: bool) -> None:
    """What happened to the picture, made a problem, and that solved."""
    from invsolve.io.files import write_text
    from invsolve.io.volume_names import is_volume, stem_of
    from invsolve.recipe.config import make_config

    refuse_source(said["out"], image, "the result")
    task = named(image, said)
    note = None if task is None else task.told
    if task is None and said["operator"] is None:
        others = ", --".join(("blur", "mask", "operator") if is_volume(image) else HAPPENED[1:])
        task, note = unsaid(image), f"nothing is said of what happened to the picture, so noise is what is looked for; there are --{others}"
    config = make_config(tables(image, said, task), settings, what="restore")
    if save_config is not None:
        write_text(save_config, config.toml())
    try:
        solve(config, as_json, stem_of(image), task, note)
    except NoLevelError:
        if said["noise"] is not None:
            raise
        note = f"the noise cannot be found from this measurement, and is taken to be {LEVEL}; --noise says otherwise"
        config = make_config(tables(image, {**said, "noise": LEVEL}, task), settings, what="restore")
        solve(config, as_json, stem_of(image), task, note)


def named(image: str, said: dict[str, Any]) -> Task | None:
    """What happened to the picture; None where an operator says it, or nothing does.

    Raises:
        InputError: both, two things that happened, or what cannot be simulated.
    """
    task = chosen(image, {name: said[name] for name in HAPPENED})
    if said["operator"] is not None:
        if task is not None:
            raise InputError("--operator is in place of --" + ", --".join(HAPPENED) + "; give one of them")
        return None
    if said["blind"] and said["simulate"]:
        raise InputError("--blind takes a picture as it is; to simulate, say what happens: --blur 1.6 --simulate")
    if task is not None and task.found and said["simulate"]:
        raise InputError("--jpeg takes a picture as it is; to simulate: --operator jpeg --set operator.quality=30 --simulate")
    return task


def tables(image: str, said: dict[str, Any], task: Task | None) -> dict[str, Any]:
    """The problem as a file would have it."""
    from invsolve.plugins.part import prior_part

    solver, prior = solving(said, task)
    run = {name: said.get(name) for name in ("seed", "device", "samples", "out", "bits", "tune", "grid")}  # a page offers fewer
    frame = task is not None and task.frame and not said["simulate"]
    return {
        "data": {"image": image if task is None or task.image is None else task.image, "simulate": said["simulate"]},
        "operator": operator_table(said["operator"]) if task is None else task.operator,
        "noise": {"name": "gaussian", "sigma": level} if (level := noise_level(said, task)) else {"name": "none"},
        "prior": prior_part(prior_for(image, prior)),
        "solver": solver,
        "run": {**run, **({"frame": True} if frame else {})},
    }


def noise_level(said: dict[str, Any], task: Task | None) -> float | str:
    """As said; else what suits the task; found from the picture where that is the measurement."""
    if said["noise"] is not None:
        return said["noise"]
    level = "auto" if task is None else task.noise
    return LEVEL if said["simulate"] and level == "auto" else level


def solving(said: dict[str, Any], task: Task | None) -> tuple[dict[str, Any], Any]:
    """The solver's table and the prior's name: as said, else what suits."""
    name, prior = said["solver"], said["prior"]
    if name is None:
        several = (said["samples"] or 1) > 1 or said.get("tune") is not None  # what is tuned must draw pictures to be tuned on
        usual = (DRAWS, SAMPLER) if several else ("auto", SAMPLER) if task is None else (task.solver, task.prior)
        return {"name": usual[0]}, usual[1] if prior is None else prior
    if prior is not None:
        return {"name": name}, prior
    return {"name": name}, asked_prior(name) if task is None else (task.prior if name == task.solver else suiting(name))


def suiting(solver: str) -> str:
    """A prior for a solver that was named, for photographs."""
    from invsolve.plugins import registry
    from invsolve.priors import Denoiser

    if not asks(solver):
        return "gaussian"
    requires = getattr(registry().load("solver", solver), "requires", None)
    return DENOISER if requires is None or any(issubclass(Denoiser, kind) for kind in requires.prior) else "tv"


def asks(solver: str) -> bool:
    """Whether a solver looks at a prior."""
    from invsolve.plugins import registry

    requires = getattr(registry().load("solver", solver), "requires", None)
    return requires is None or requires.asks_prior


def asked_prior(solver: str) -> str:
    """The prior of a solver that asks none; for the others it is missing."""
    if not asks(solver):
        return "gaussian"
    raise click.UsageError(f"Missing option '--prior': solver {solver} asks for one; invsolve list prior shows them.")


def operator_table(text: str) -> Any:
    """The table of a name; of outer/inner, where outer is made of inner; or what is written as TOML: { name = ... } or a list of them.

    Raises:
        InputError: looks like TOML and is none, or an empty name.
    """
    from invsolve.recipe.config import parse_value

    text = text.strip()
    if text.startswith(("{", "[")):
        value = parse_value(text)
        if isinstance(value, str):
            raise InputError(f'--operator {text} is no table; it reads {{ name = "gaussian-blur", sigma = 1.5 }}, or a list of such')
        return value
    outer, slash, inner = text.partition("/")
    if slash and not (outer and inner):
        raise InputError(
            f"--operator {text} names nothing on one side of the /; it reads outer/inner, such as iterative-prox/padded-file-blur"
        )
    return {"name": outer, "operator": operator_table(inner)} if slash else {"name": outer}

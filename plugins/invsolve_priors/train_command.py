"""invsolve train: a prior of your own from a config file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from invsolve.cli.output import line


@click.command(short_help="Train a prior from a config file, or go on with a run.")
@click.argument("config", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="[CONFIG.toml]")
@click.option("--resume", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Go on with the run in this folder.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of a new run; default runs/NAME.")
@click.option(
    "--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="What data paths are below; default: CONFIG's folder."
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads.")
def train(config: Path | None, resume: Path | None, out: Path | None, data: Path | None, threads: int | None) -> None:
    """Train the network of CONFIG.toml; docs/training.md explains the file.

    The folder of the run gets checkpoint.pt, log.csv, denoised.png, samples.png and, at the end, NAME.safetensors with its card
    NAME.json: load_prior("runs/NAME/NAME.safetensors"). A run that was stopped or killed goes on with --resume and ends as one that
    was not (with `steps`, on the CPU, to the bit). Several GPUs or machines: accelerate launch -m invsolve train ..., or, also for
    CPUs, torchrun --nproc_per_node N -m invsolve train ... A config names code that is run: use those you trust only.
    """
    if config is None and resume is None:
        raise click.UsageError("give a CONFIG.toml for a new run, or --resume with the folder of one")
    if resume is not None and out is not None:
        raise click.UsageError("--resume goes on in its own folder; leave --out out")
    import torch

    from invsolve.training.autoencoder_config import AutoencoderConfig
    from invsolve.training.config import TrainConfig
    from invsolve_priors.export import export_run
    from invsolve_priors.runs import begin, begun
    from invsolve_priors.train import prepared

    if threads:
        torch.set_num_threads(threads)
    if resume is not None:
        folder = resume
        chosen, places = begun(resume, data, config)
    else:
        assert config is not None
        folder = out or Path("runs") / TrainConfig.load(config).name
        chosen, places = begin(config, folder, data)
    if isinstance(chosen, AutoencoderConfig):
        from invsolve_latent.train import export
        from invsolve_latent.train import prepared as prepared_autoencoder

        run, exported = prepared_autoencoder(chosen, places, folder), lambda: export(folder, chosen, places)
    else:
        from invsolve_priors.tone import toned

        run = prepared(chosen, places, folder)
        exported = lambda: toned(export_run(folder, chosen), run, chosen)  # noqa: E731 (the other branch makes one, too)
    first = run.processes.rank == 0
    bar = progress_bar(run, hidden=not first)
    try:
        run.run(lambda text: bar.write(line(text)) if first else None, bar.tick)
    except KeyboardInterrupt:
        bar.close()
        if first:
            saved = "nothing was saved yet" if run.kept is None else f"saved at step {run.kept}"
            click.echo(f"Stopped at step {run.step}, {saved}; go on with: invsolve train --resume {line(folder)}", err=True)
        raise click.Abort from None
    finally:
        bar.close()
    if first:
        for path in exported():
            click.echo(line(path))


class progress_bar:  # noqa: N801 (used as a function)
    """Share of the budget with the time left, loss and rate; on a terminal only."""

    def __init__(self, run: Any, *, hidden: bool) -> None:
        from tqdm import tqdm

        self.bar: Any = tqdm(
            total=1000,
            initial=min(1000, int(1000 * run.done)),
            bar_format="{percentage:3.0f}%|{bar}| {elapsed} + {remaining} {postfix}",
            disable=True if hidden else None,
            leave=False,
        )

    def tick(self, run: Any) -> None:
        """After a step."""
        self.bar.set_postfix_str(f"step {run.step}, loss {run.loss:.4f}", refresh=False)
        self.bar.update(max(0, min(1000, int(1000 * run.done)) - self.bar.n))

    def write(self, text: str) -> None:
        """A line above the bar."""
        self.bar.write(text)

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()

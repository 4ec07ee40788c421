"""The weight file and the model card of a training run.

`invsolve train` calls this at its end. `python -m invsolve_priors.export RUN --folder FOLDER [--data DATA]` writes the two files
elsewhere, such as among the shipped ones; `python -m invsolve_priors.evaluate NAME --card` then fills in the card's tables.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from invsolve_weights.cards import Card, load_network, read_card
from invsolve_weights.networks import NETWORKS
from invsolve_weights.selftest import promise_of
from torch import Tensor

from invsolve.errors import InputError
from invsolve.io.files import write_bytes
from invsolve.training.autoencoder_config import AutoencoderConfig
from invsolve.training.config import TrainConfig
from invsolve.training.consistency_config import ConsistencyConfig
from invsolve.training.data import validation_images
from invsolve.training.loop import first_line, psnr_at
from invsolve_priors.runs import kept

SIZE_LIMIT = 10_000_000


def storage(state: dict[str, Tensor]) -> tuple[torch.dtype, str]:
    """Type of storage: float32 for small networks; above 2.5 M weights float16, or bfloat16 where float16 would overflow."""
    values = [value for value in state.values() if value.is_floating_point() and value.numel()]
    if sum(value.numel() for value in values) <= 2_500_000:
        return torch.float32, "F32"
    largest = max(float(value.abs().max()) for value in values)
    return (torch.float16, "F16") if largest < 6e4 else (torch.bfloat16, "BF16")


def as_type(state: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights in a type, each in memory of its own, as a file wants it of tied ones too; counters and masks keep theirs."""
    return {key: value.to(dtype if value.is_floating_point() else value.dtype).contiguous().clone() for key, value in state.items()}


def stored_bytes(state: dict[str, Tensor]) -> int:
    """What the weights take in a file, its header left out."""
    dtype, _ = storage(state)
    return sum(value.numel() * (dtype.itemsize if value.is_floating_point() else value.itemsize) for value in state.values())


def training_of(state: dict[str, Any], config: TrainConfig) -> dict[str, Any]:
    """What the card says about the run."""
    run, objective = config.run, config.objective
    return {
        "steps": state["step"],
        "images": state["step"] * run.batch * len(state["streams"]),
        "hours": round(state["seconds"] / 3600, 3),
        "batch": run.batch,
        "patch": config.data.side,
        "flips": config.data.flips,
        "loss": round(state["loss"], 5),
        "target": objective.target,
        "balance": objective.balance,
        **({} if objective.damp is None else {"damp": objective.damp.model_dump()}),
        "sigmas": objective.sigmas.model_dump(),
        **({} if config.condition is None else conditioned(config)),
        **(distilled(config) if isinstance(config, ConsistencyConfig) else {}),
        "rate": run.lr,
        "average_images": run.ema_images,
        "bfloat16": state.get("bf16", run.bf16),
        "seed": run.seed,
        "start": config.start or "random",
        **{key: value for key in ("autoencoder", "hole") if (value := getattr(config.data, key))},
    }


def conditioned(config: TrainConfig) -> dict[str, Any]:
    """What a prior must know of a network with a condition: the objective, and what was looked at."""
    objective = config.objective
    moving = {"total": objective.total, "part": objective.part, "align": objective.align} if objective.kind == "partial" else {}
    return {"kind": objective.kind, **moving, "condition": config.condition.model_dump(mode="json") if config.condition else {}}


def distilled(config: ConsistencyConfig) -> dict[str, Any]:
    """What a card says of a few-step map: by its kind the prior knows that it is one."""
    objective = config.objective
    return {name: getattr(objective, name) for name in ("kind", "teacher", "levels", "huber", "ode")} | {"target": "x0"}


def continued(training: dict[str, Any], file: Path, config: TrainConfig) -> dict[str, Any]:
    """The run as the latest stage of the training that the card beside the file tells of; steps, images and hours are sums.

    Only where the run did not start from random weights and the card is of the same network; a run that is its last stage already
    takes that stage's place.
    """
    if not config.start or not file.with_suffix(".json").is_file():
        return training
    earlier = read_card(file)
    if earlier.network != network_name(config) or earlier.arguments != config.network.arguments:
        return training
    stages = earlier.training.get("stages", [earlier.training])
    if (stages[-1].get("seed"), stages[-1].get("sigmas")) == (training["seed"], training["sigmas"]):
        stages = stages[:-1]
    stages = [*stages, training]
    return {**training, **{key: round(sum(stage[key] for stage in stages), 3) for key in ("steps", "images", "hours")}, "stages": stages}


def rounding(config: TrainConfig, full: dict[str, Tensor], stored: dict[str, Tensor], images: Tensor | None) -> dict[str, Any]:
    """Largest change of a weight and, with images, the change of PSNR in dB at the levels of the validation."""
    report: dict[str, Any] = {
        "largest_change": max(float((full[key] - stored[key].float()).abs().max()) for key in full),
        "largest_weight": max(float(value.abs().max()) for value in full.values()),
    }
    levels = config.recipe().levels
    if images is not None and config.condition is None and report["largest_change"] > 0:
        net = NETWORKS[network_name(config)](**config.network.arguments).eval()
        values = []
        for state in (full, {key: value.float() for key, value in stored.items()}):
            net.load_state_dict(state)
            values.append([psnr_at(net, images, level / 255, bf16=False) for level in levels])
        report["psnr_change_db"] = {f"{level:g}": round(new - old, 5) for level, old, new in zip(levels, *values, strict=True)}
    return report


def network_name(config: TrainConfig) -> str:
    """The key of `NETWORKS` whose class the config names; empty for a class that a card cannot name."""
    return next((key for key, made in NETWORKS.items() if f"{made.__module__}:{made.__name__}" == config.network.path), "")


def export_run(run: Path, config: TrainConfig, folder: Path | None = None, images: Tensor | None = None) -> list[Path]:
    """Write NAME.safetensors and, for the networks of this package, its card; returns their paths.

    Args:
        run: folder of the run.
        config: its config.
        folder: where the files go; the run's own by default.
        images: measure on these what the rounding costs.

    Raises:
        InputError: no readable checkpoint, or weights that are not finite.
    """
    folder = folder or run
    try:
        state = torch.load(run / "checkpoint.pt", weights_only=True, map_location="cpu")
        full = as_type(state["ema"], torch.float32)
    except Exception as error:
        raise InputError(f"{run}: no readable checkpoint ({error})") from error
    if not all(bool(torch.isfinite(value).all()) for value in full.values()):
        raise InputError(f"{run}: its averaged weights are not finite; train again from an earlier checkpoint")
    dtype, short = storage(full)
    stored = as_type(full, dtype)
    try:
        content = safetensors.torch.save(stored)
    except Exception as error:  # such as for a type that the format does not have
        raise InputError(f"{run}: safetensors cannot hold its weights ({first_line(error)})") from error
    file = folder / f"{config.name}.safetensors"
    write_bytes(file, content)
    name = network_name(config)
    if not name:
        return [file]
    sigmas = config.objective.sigmas
    card = Card(
        name=config.name,
        network=name,
        arguments=json.loads(json.dumps(config.network.arguments)),
        sigma_range=(sigmas.low, sigmas.high),
        s0=config.objective.s0,
        clip=(0.0, 1.0),
        dtype=short,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        parameters=sum(value.numel() for value in full.values()),
        data=config.card.data or ", ".join(source.label for source in config.data.source),
        licence=config.card.licence,
        training=continued(training_of(state, config), file, config),
        reproduce=config.card.reproduce or f"invsolve train {config.name}.toml --data DATA",
        storage=rounding(config, full, stored, images),
        tried=list(config.card.tried),
        weaknesses=list(config.card.weaknesses),
    )
    write_bytes(file.with_suffix(".json"), card.text().encode())
    if config.condition is None:  # the promise is of a network (x, sigma)
        kept = replace(card, promise=promise_of(*load_network(file)))
        write_bytes(file.with_suffix(".json"), kept.text().encode())
    return [file, file.with_suffix(".json")]


def main() -> None:
    """Read the arguments, write and print the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--folder", type=Path, help="where the two files go (default: RUN)")
    parser.add_argument("--data", type=Path, help="folder of the data: measures what rounding costs")
    arguments = parser.parse_args()
    try:
        config, _ = kept(arguments.run)
        images = None
        if arguments.data is not None and config.validation is not None:
            chosen = config.validation
            source, channels = chosen.of(arguments.data), config.network.channels
            images = validation_images(source, chosen.count, chosen.side or None, channels, config.data.pad)
        if isinstance(config, AutoencoderConfig):
            from invsolve_latent.weights import export_autoencoder

            print(*export_autoencoder(arguments.run, config, arguments.folder, images), sep="\n")
            return
        file, *cards = export_run(arguments.run, config, arguments.folder, None if config.data.autoencoder else images)
        if cards:
            from invsolve_priors.tone import carried

            carried(arguments.run / file.name, file)
        print(read_card(file).text() if cards else f"{file} (a class of one's own: no card)")
    except InputError as error:
        parser.exit(2, f"Error: {error}\n")


if __name__ == "__main__":
    main()

"""Train a prior from a config file: `invsolve train CONFIG.toml --data FOLDER --out RUN`.

RUN gets a copy of the config, the checkpoint, the log, pictures and, at the end, the weight file with its card: `load_prior` takes
it by its path. Started with --resume RUN, a run goes on where it stopped.
"""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.training.config import TrainConfig
from invsolve.training.data import Crops, validation_images
from invsolve.training.loop import Training, first_line
from invsolve.training.pictures import write_pictures
from invsolve_deepinv.weights import is_shipped, load_network


def network_of(config: TrainConfig) -> nn.Module:
    """The config's network, its first weights drawn from the config's seed or taken from `start`.

    Raises:
        InputError: no such class, arguments that it does not take, or a start that does not fit.
    """
    module, _, name = config.network.path.partition(":")
    torch.manual_seed(config.run.seed)  # a training is a process of its own
    try:
        network = getattr(import_module(module), name)(**config.network.arguments)
    except Exception as error:
        raise InputError(
            f"network.class {config.network.path} cannot be made with {config.network.arguments} ({type(error).__name__}: "
            f"{first_line(error)}); class is module:Class of a map (x, sigma) -> x0_hat, arguments are its constructor's"
        ) from error
    if config.start:
        network.load_state_dict(fitted(start_state(config.start), network.state_dict(), config.start))
    return network


def start_state(start: str) -> dict[str, Tensor]:
    """Weights of a shipped prior, a weight file with its card, or a run folder (its average)."""
    if is_shipped(start):
        return load_network(start)[0].state_dict()
    path = Path(start) / "checkpoint.pt"
    try:
        return torch.load(path, weights_only=True, map_location="cpu")["ema"]
    except Exception as error:
        raise InputError(f"start = '{start}': no prior of that name, no weight file and no run folder ({first_line(error)})") from error


def fitted(state: dict[str, Tensor], wanted: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    """Weights of a colour network for a grey one too: the first layer's image channels are summed, the last one's averaged.

    A grey picture shown to the colour network in all three channels, and its three answers averaged, is then what the grey network
    begins with.
    """
    if state.keys() != wanted.keys():
        odd = sorted(state.keys() ^ wanted.keys())
        raise InputError(f"start = '{start}': another network; differing keys: {', '.join(odd[:3])}")
    made = {}
    for key, value in state.items():
        shape = wanted[key].shape
        if value.shape != shape and value.ndim > 1 and value.shape[1] == shape[1] + 2:
            value = torch.cat([value[:, :3].sum(1, keepdim=True), value[:, 3:]], 1)
        if value.shape != shape and value.shape[0] == shape[0] + 2:
            value = torch.cat([value[:3].mean(0, keepdim=True), value[3:]])
        if value.shape != shape:
            raise InputError(f"start = '{start}': {key} is {tuple(value.shape)}, the network needs {tuple(shape)}")
        made[key] = value
    return made


def prepared(config: TrainConfig, root: Path, out: Path) -> Training:
    """The run, its images read and the validation images denoised once: whatever is wrong shows now.

    Raises:
        InputError: see `Crops`, `network_of` and `Training`; a network that is no map (x, sigma) -> x0_hat.
    """
    network, channels, data = network_of(config), config.network.channels, config.data
    sources = [(root / source.path, source.weight, tuple(source.scales)) for source in data.source]
    crops = Crops(sources, data.side or None, channels=channels, flips=data.flips, pad=data.pad)
    validation = None
    if config.validation is not None:
        chosen = config.validation
        validation = validation_images(root / chosen.path, chosen.count, chosen.side or None, channels, data.pad)
    sigmas = config.objective.sigmas
    side = data.side or crops.pools[0][0].shape[0]
    trial = torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            shape = network(trial, torch.full((1,), math.sqrt(sigmas.low * sigmas.high))).shape
    except Exception as error:
        raise InputError(f"{config.network.path} fails on (x, sigma) with x {tuple(trial.shape)}: {first_line(error)}") from error
    if shape != trial.shape:
        raise InputError(f"{config.network.path} must give x0_hat of x's shape {tuple(trial.shape)}; it gives {tuple(shape)}")

    def pictures(average: nn.Module) -> None:
        device = next(average.parameters()).device
        write_pictures(average.cpu(), out, validation, (channels, side, side), (sigmas.low, sigmas.high))
        average.to(device)

    return Training(network, crops, config.recipe(), out, validation, pictures)


def begin(config_path: Path, out: Path, data: Path | None) -> tuple[TrainConfig, Path]:
    """A new run's folder with its config; returns the config and the folder that data paths are below.

    Raises:
        InputError: a config that cannot be used, or a folder that holds a run already.
    """
    config = TrainConfig.load(config_path)
    if (out / "checkpoint.pt").exists():
        raise InputError(f"{out} holds a run already: go on with --resume {out}, or give another --out")
    root = (data or config_path.parent).resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.toml").write_bytes(config_path.read_bytes())
        (out / "run.json").write_text(json.dumps({"name": config.name, "data": str(root)}) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out}: no folder for a run ({error}); give another --out") from error
    return config, root


def begun(out: Path, data: Path | None, config_path: Path | None) -> tuple[TrainConfig, Path]:
    """The config and the data folder of a run that is to go on.

    Raises:
        InputError: no run there, or a config that is not the run's.
    """
    try:
        kept = json.loads((out / "run.json").read_text(encoding="utf-8"))
        config = TrainConfig.load(out / "config.toml").model_copy(update={"name": str(kept["name"])})
        root = data or Path(str(kept["data"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{out}: no run to go on with ({first_line(error)}); start one with invsolve train CONFIG.toml --out {out}"
        ) from None
    if config_path is not None:
        given = TrainConfig.load(config_path)
        changed = differences(config.model_dump(by_alias=True), given.model_dump(by_alias=True))
        if changed:
            raise InputError(
                f"{out} was started with another config; it differs in {', '.join(changed)}. Leave the config out to go on as it was, or "
                f'start a new run with start = "{out}"'
            )
    return config, root


def differences(one: dict[str, Any], other: dict[str, Any], place: str = "") -> list[str]:
    """Names of the settings in which two configs differ."""
    found = []
    for key in one:
        if isinstance(one[key], dict) and isinstance(other[key], dict):
            found += differences(one[key], {**dict.fromkeys(one[key]), **other[key]}, f"{place}{key}.")
        elif one[key] != other[key]:
            found.append(f"{place}{key}")
    return found

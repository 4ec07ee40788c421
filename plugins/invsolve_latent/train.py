"""Runs of autoencoders: what `invsolve train` does with a config whose objective is of the kind "autoencoder"."""

from __future__ import annotations

from pathlib import Path

import torch
from invsolve_priors.runs import Places
from invsolve_priors.train import network_of
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.training.autoencoder import AutoencoderTraining, write_reconstructions
from invsolve.training.autoencoder_config import AutoencoderConfig
from invsolve.training.data import Crops, validation_images
from invsolve.training.loop import first_line
from invsolve_latent.networks import Autoencoder
from invsolve_latent.weights import export_autoencoder


def pictures_of(config: AutoencoderConfig, root: Path) -> Tensor | None:
    """The validation images; None where the config has none."""
    chosen = config.validation
    if chosen is None:
        return None
    return validation_images(chosen.of(root), chosen.count, chosen.side or None, config.network.channels, config.data.pad)


def prepared(config: AutoencoderConfig, places: Places, out: Path) -> AutoencoderTraining:
    """The run, its images read and one of them encoded and decoded: whatever is wrong shows now.

    Raises:
        InputError: see `Crops`, `network_of` and `Training`; a network that gives no (image, penalty).
    """
    network = network_of(config, places.config, started=(out / "checkpoint.pt").exists())
    channels, data = config.network.channels, config.data
    sources = [(source.of(places.data), source.weight, tuple(source.scales)) for source in data.source]
    crops = Crops(sources, data.side or None, channels=channels, flips=data.flips, pad=data.pad)
    validation = pictures_of(config, places.data)
    side = data.side or crops.pools[0][0].shape[0]
    check_network(network, config, (channels, side, side))

    def pictures(average: nn.Module) -> None:
        device = next(average.parameters()).device
        write_reconstructions(average.cpu(), out, validation)
        average.to(device)

    return AutoencoderTraining(network, crops, config.recipe(), out, validation, pictures)


def check_network(network: nn.Module, config: AutoencoderConfig, shape: tuple[int, int, int]) -> None:
    """Whether a network is an autoencoder of images of a shape.

    Raises:
        InputError: another class than `Autoencoder`, whose file no card could describe; sides that its factor does not divide.
    """
    name = config.network.path
    if not isinstance(network, Autoencoder):
        raise InputError(f"network.class {name} must be invsolve_latent.networks:Autoencoder, or a subclass of it")
    trial = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            made, penalty = network.eval()(trial)
    except Exception as error:
        raise InputError(f"{name} fails on images {tuple(trial.shape)}, its factor is {network.factor}: {first_line(error)}") from error
    finally:
        network.train()
    if made.shape != trial.shape or penalty.shape != (1,):
        raise InputError(f"{name} must give (images {tuple(trial.shape)}, (1,)); it gives {tuple(made.shape)}, {tuple(penalty.shape)}")


def export(run: Path, config: AutoencoderConfig, places: Places) -> list[Path]:
    """The weight file and its card, with the ceiling on the validation images."""
    return export_autoencoder(run, config, None, pictures_of(config, places.data))

"""Runs of networks that live in the codes of an autoencoder: what `invsolve train` does where [data] names one.

The images are encoded as they are drawn; noise levels are in units of the codes, whose standard deviation is 1.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from invsolve_priors.runs import Places
from invsolve_priors.train import check_network, network_of
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.io.images import picture_grid, write_image
from invsolve.priors.convert import NetworkDenoiser
from invsolve.problem import Problem
from invsolve.solvers import DDIM
from invsolve.training.config import TrainConfig
from invsolve.training.data import Crops, validation_images
from invsolve.training.loop import Training
from invsolve.training.objectives import paired_losses
from invsolve.training.pairs import Bound, PairTraining
from invsolve_latent.conditions import CodedPairs, MaskedPairs
from invsolve_latent.networks import Autoencoder
from invsolve_latent.weights import load_autoencoder

LEVELS = (0.2, 0.5, 1.0, 2.0)  # of the log, in standard deviations of the codes


class CodedCrops:
    """Crops as codes: what `Training` takes in place of `Crops`.

    Args:
        crops: of images.
        network: the autoencoder.
    """

    def __init__(self, crops: Crops, network: Autoencoder) -> None:
        self.crops, self.network = crops, network
        self.channels, self.pools = network.codes, crops.pools
        side = crops.size or crops.pools[0][0].shape[0]
        if side % network.factor:
            raise InputError(f"crops of {side} pixels cannot be encoded: their side must be a multiple of {network.factor}")
        self.size = side // network.factor

    @torch.no_grad()
    def sample(self, count: int, rng: np.random.Generator) -> Tensor:
        """(count, codes, h, w)."""
        return self.network.encode(self.crops.sample(count, rng))


def distances(network: nn.Module, codes: Tensor) -> dict[str, float]:
    """10 log10(1 / mse) of D(z + sigma n) at four levels: the variance of the codes is 1."""
    noise = torch.randn(codes.shape, generator=torch.Generator().manual_seed(0)).to(codes.device)
    found = {}
    for level in LEVELS:
        with torch.no_grad():
            out = network(codes + level * noise, torch.full((len(codes),), level, device=codes.device)).float()
        found[f"db{level:g}"] = round(float(-10 * (out - codes).square().mean().log10()), 3)
    return found


class CodedTraining(Training):
    """A run on codes; `validation` are codes."""

    def _measures(self) -> dict[str, float]:
        return {} if self.validation is None else distances(self.ema, self.validation)


class CodedPairTraining(PairTraining):
    """A run on pairs of codes and conditions; crops and validation are images."""

    def _grey_loss(self, network: nn.Module, grey: Tensor) -> float:
        code, condition = self.pairs(grey, np.random.default_rng(0))
        sigma = torch.full((1,), 1.0, device=self.device)
        pair = (code.to(self.device), condition.to(self.device))
        return float(paired_losses(network, self.pairs, pair, sigma, torch.zeros_like(pair[0]), self.recipe.s0, self.recipe.target))

    def _measures(self) -> dict[str, float]:
        if self.validation is None:
            return {}
        code = self.pairs(self.validation.cpu(), np.random.default_rng(0))[0].to(self.device)
        return distances(Bound(self.ema, self.pairs, self.validation), code)


@torch.no_grad()
def drawn(network: nn.Module, shape: tuple[int, int, int], sigma_range: tuple[float, float], coder: Autoencoder) -> Tensor:
    """16 images: codes drawn by DDIM in 50 steps, always from the same noise, decoded."""
    prior = NetworkDenoiser(network, "x0", sigma_range=sigma_range, s0=1.0, centre=0.0)
    code = DDIM(steps=50).solve(Problem.unconditional(shape, 16), prior, generator=0).x
    return coder.decode(code).clamp(0, 1)


def prepared(config: TrainConfig, places: Places, out: Path) -> Training:
    """The run, its images read, the autoencoder loaded: whatever is wrong shows now.

    Raises:
        InputError: see `load_autoencoder`, `Crops`, `network_of` and `check_network`.
    """
    network = network_of(config, places.config, started=(out / "checkpoint.pt").exists())
    named = config.data.autoencoder
    beside = places.config / named
    coder, _ = load_autoencoder(beside if beside.is_file() else named)
    root, data = places.data, config.data
    sources = [(source.of(root), source.weight, tuple(source.scales)) for source in data.source]
    images = Crops(sources, data.side or None, channels=coder.channels, flips=data.flips, pad=data.pad)
    crops, chosen, validation = CodedCrops(images, coder), config.validation, None
    if chosen is not None:
        validation = validation_images(chosen.of(root), chosen.count, chosen.side or None, coder.channels, data.pad)
    shape = (crops.channels, crops.size, crops.size)
    side = crops.size * coder.factor
    inner = config.pairs((coder.channels, side, side), places.config)
    pairs = None if inner is None else MaskedPairs(inner, coder, data.hole) if data.hole else CodedPairs(inner, coder)
    grey = torch.full((1, coder.channels, side, side), 0.5)
    check_network(network if pairs is None else Bound(network, pairs, grey), config, shape)

    def pictures(average: nn.Module) -> None:
        device = next(average.parameters()).device
        shown, sigmas = average.cpu(), config.objective.sigmas
        if pairs is None or validation is not None:
            shown = shown if pairs is None or validation is None else Bound(shown, pairs, validation)
            write_image(out / "samples.png", picture_grid(drawn(shown, shape, (sigmas.low, sigmas.high), coder), 8))
        average.to(device)

    if pairs is None:
        codes = None if validation is None else coder.encode(validation)
        return CodedTraining(network, crops, config.recipe(), out, codes, pictures)  # pyright: ignore[reportArgumentType]
    return CodedPairTraining(network, images, config.recipe(), out, validation, pictures, pairs=pairs)

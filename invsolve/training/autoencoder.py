"""Autoencoders: the loss, and the loop's own shape of it.

    L(x) = 2 mean |x - D(E(x))| + gradient G(x, D(E(x))) + penalty P(x)

P is the network's own: the KL divergence of its code from N(0, 1), or how far a code is from its word.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from invsolve.io.images import picture_grid, write_image
from invsolve.training.loop import Recipe, Training

SCALES = (1, 2, 4)


def edges_apart(x: Tensor, y: Tensor) -> Tensor:
    """G, (B,): how far the differences of neighbours are apart, of the pictures and of their means over 2 x 2 and 4 x 4 pixels.

        G = sum over the scales of the mean over both directions of |d x - d y|

    It asks for edges where the distance of values is content with grey: what a perceptual loss does, without a network.
    """
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for scale in (one for one in SCALES if 2 * one <= min(x.shape[-2:])):  # a single mean has no neighbour
        apart = functional.avg_pool2d(x - y, scale)
        total = total + sum(apart.diff(dim=dim).abs().flatten(1).mean(1) for dim in (-2, -1)) / 2
    return total


def autoencoder_losses(network: nn.Module, x: Tensor, gradient: float, penalty: float) -> Tensor:
    """L of each item, (B,), in units of [-1, 1], as the published weights of the penalty are.

    Args:
        network: x -> (D(E(x)), P (B,)).
        x: images (B, C, H, W) in [0, 1].
        gradient: weight of G.
        penalty: weight of P.
    """
    made, own = network(x)
    made = made.float()
    return 2 * (x - made).abs().flatten(1).mean(1) + 2 * gradient * edges_apart(x, made) + penalty * own


@dataclass(frozen=True)
class AutoencoderRecipe(Recipe):
    """A recipe whose loss has no noise levels: `sigmas`, `s0`, `target` and `levels` are not looked at.

    Args:
        gradient: weight of the differences of neighbours, see `edges_apart`.
        penalty: weight of the network's own penalty: 1e-6 for KL, 0.25 for the words of a book.
    """

    gradient: float = 1.0
    penalty: float = 1e-6


class AutoencoderTraining(Training):
    """A run of a network x -> (D(E(x)), P); its log has the PSNR of D(E(x)) on the validation images."""

    recipe: AutoencoderRecipe

    def _losses(self, x0: Tensor) -> tuple[Tensor, float]:
        x0 = x0.contiguous(memory_format=self.format).to(self.device)
        with self.draws.drawing(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            losses = autoencoder_losses(self.model, x0, self.recipe.gradient, self.recipe.penalty)
        return losses, float(losses.detach().mean())

    def _grey_loss(self, network: nn.Module, grey: Tensor) -> float:
        return float(autoencoder_losses(network, grey, self.recipe.gradient, self.recipe.penalty))

    def _measures(self) -> dict[str, float]:
        return {} if self.validation is None else {"ceiling": round(ceiling_psnr(self.ema, self.validation), 3)}


@torch.no_grad()
def ceiling_psnr(network: nn.Module, images: Tensor) -> float:
    """Mean over images of the PSNR in dB (peak 1) of D(E(x)): what no restoration in its codes can pass by much."""
    made = torch.cat([network(part)[0].float() for part in images.split(16)])
    return float((-10 * (made.clamp(0, 1) - images).square().flatten(1).mean(1).log10()).mean())


@torch.no_grad()
def write_reconstructions(network: nn.Module, out: Path, images: Tensor | None) -> None:
    """reconstructed.png in the folder: eight images above, D(E(x)) below."""
    if images is not None:
        rows = torch.cat([images[:8], network(images[:8])[0].float()]).clamp(0, 1)
        write_image(out / "reconstructed.png", picture_grid(rows, len(images[:8])))

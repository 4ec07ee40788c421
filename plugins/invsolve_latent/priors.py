"""Latent priors from weight files: a denoiser of codes, and the autoencoder that its card names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from invsolve_weights.cards import Card, load_network
from invsolve_weights.conditional import is_conditional, made_for
from invsolve_weights.places import file_of
from invsolve_weights.selftest import smooth_picture
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.operator import Capability, Operator
from invsolve.plugins import is_path
from invsolve.priors.base import Denoiser, Prior
from invsolve.priors.conditional import ConditionalPrior, Conditioned
from invsolve.priors.convert import NetworkDenoiser
from invsolve.priors.latent import LatentPrior
from invsolve.problem import Problem
from invsolve_latent.conditions import masked, pooled
from invsolve_latent.networks import Autoencoder
from invsolve_latent.weights import load_autoencoder


class Decoding(Operator):
    """The decoder as an operator from codes to images, in the type of its weights.

    Args:
        coder: the autoencoder.
        in_shape: (codes, h, w).
    """

    traits = frozenset({Capability.DIFFERENTIABLE})

    def __init__(self, coder: Autoencoder, in_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.coder = coder
        self.in_shape = tuple(in_shape)
        self.out_shape = (coder.channels, *(side * coder.factor for side in in_shape[1:]))

    def forward(self, x: Tensor) -> Tensor:
        """D(z)."""
        return self.coder.decode(x.to(self.coder.shift)).to(x.dtype)


class Encoding(nn.Module):
    """The encoder, in the type of its weights.

    Args:
        coder: the autoencoder.
    """

    def __init__(self, coder: Autoencoder) -> None:
        super().__init__()
        self.coder = coder

    def forward(self, x: Tensor) -> Tensor:
        """E(x)."""
        return self.coder.encode(x.to(self.coder.shift)).to(x.dtype)


class ConditionalCodes(ConditionalPrior):
    """A network of codes that sees the measurement: the problem it was made for is that of the image.

    Args:
        network: (z, sigma, condition) -> z0_hat.
        card: says what it was made for, and how a masked image is shown to it.
        coder: the autoencoder.
        options: those of NetworkDenoiser.
    """

    def __init__(self, network: nn.Module, card: Card, coder: Autoencoder, **options: Any) -> None:
        super().__init__(network, made_for(card), channels=coder.codes, **options)
        self.coder, self.hole = coder, card.training.get("hole", "")
        self.in_shape = None

    def gaps(self, problem: Problem) -> list[str]:
        """Another operator, noise or size than the network was trained for, and what that was."""
        return super().gaps(problem.outer or problem)

    def given(self, problem: Problem) -> Denoiser:
        """The network with the problem's y put in."""
        outer = problem.outer or problem
        if self.hole:
            mask, y = getattr(outer.operator, "mask", None), outer.y
            assert isinstance(mask, Tensor)
            assert isinstance(y, Tensor)
            condition = masked(self.coder, y.to(self.coder.shift), mask if mask.ndim == 4 else mask[None], self.hole)
        else:
            condition = pooled(self.made_for.condition(outer), self.coder.factor)
        return Conditioned(self, condition)


class Latent(LatentPrior):
    """A latent diffusion prior: images D(z) with z from a network trained on the codes of an autoencoder.

    A network trained with a condition (`ldm-sr`, `ldm-inpaint`) serves the problems it was trained for, with any sampler of a prior.

    Args:
        weights: of the network of codes: a name in the folders of weights, or the path of a .safetensors file.
        autoencoder: name or path of its weights; None for the one that the card of `weights` names, beside it or in those folders.
        side: height and width of the images; None: as in the training.
        precision: of the network of codes, see NetworkDenoiser.
        channels_last: memory format inside it.

    Raises:
        InputError: weights that are missing, changed, of images, or of codes of another autoencoder.

    References:
        High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), arXiv:2112.10752.
        Deviations: no attention; noise levels of the EDM form, in units of codes whose standard deviation is 1.
    """

    def __init__(
        self,
        weights: str,
        autoencoder: str | None = None,
        side: int | None = None,
        precision: str = "float32",
        channels_last: bool = True,
    ) -> None:
        network, card = load_network(weights)
        coder, coder_card = load_autoencoder(autoencoder or beside(weights, card))
        if card.arguments.get("channels", 3) != coder.codes:
            raise InputError(
                f"'{card.name}' is for codes of {card.arguments.get('channels', 3)} channels, '{coder_card.name}' has {coder.codes}"
            )
        side = side or int(card.training.get("patch", 0))
        if side < 1 or side % coder.factor:
            raise InputError(f"side must be a multiple of {coder.factor}, the autoencoder's factor; given {side}")
        options: dict[str, Any] = {"sigma_range": card.sigma_range, "s0": card.s0, "precision": precision, "channels_last": channels_last}
        options["centre"] = 0.0
        denoiser: NetworkDenoiser
        if is_conditional(card):
            denoiser = ConditionalCodes(network, card, coder, **options)
        else:
            denoiser = NetworkDenoiser(network, channels=coder.codes, **options)
        shape = (coder.codes, side // coder.factor, side // coder.factor)
        super().__init__(denoiser, Decoding(coder, shape), Encoding(coder))
        self.card, self.autoencoder_card = card, coder_card
        self.weights_sha256 = f"{card.sha256}+{coder_card.sha256}"

    @classmethod
    def examples(cls) -> list[Prior]:
        """A class of weight files has none of its own."""
        return []


def beside(weights: str, card: Card) -> str:
    """The autoencoder that a card names: in the folder of the weights if it is there, else by its name.

    Raises:
        InputError: the card names none.
    """
    named = card.training.get("autoencoder")
    if not isinstance(named, str) or not named:
        raise InputError(f"'{card.name}' is no network of codes: its card names no autoencoder")
    folder = (Path(weights) if is_path(weights) else file_of(weights)).parent
    near = folder / f"{Path(named).stem}.safetensors"
    return str(near) if near.is_file() else named


class Faces64Latent(Latent):
    """A latent prior on faces, (3, 64, 64): codes (3, 16, 16) of a KL autoencoder; its weights lie outside the package.

    Args:
        precision: "float32", "float64", "bfloat16" or "auto"; see NetworkDenoiser.
        channels_last: memory format inside the network of codes.
        weights: another weight file of the same form.
        side: height and width of the images, a multiple of 4; the network has seen 64 alone.

    Raises:
        InputError: see Latent.

    References:
        See Latent.
    """

    def __init__(self, precision: str = "float32", channels_last: bool = True, weights: str = "faces64-ldm-f4", side: int = 64) -> None:
        super().__init__(weights, None, side, precision, channels_last)

    @classmethod
    def examples(cls) -> list[Prior]:
        """On images of 16 x 16: what is checked does not depend on the size, and takes a sixteenth of the time."""
        return [cls(side=16)]


def is_latent(card: Card) -> bool:
    """Whether a card is of a network of codes."""
    return bool(card.training.get("autoencoder"))


@torch.no_grad()
def tried_codes(weights: str) -> str:
    """What a network of codes does to the noise on the code of a smooth picture: what `invsolve weights verify` says of it.

    Raises:
        InputError: it leaves all of it.
    """
    prior = Latent(weights)
    channels, side, _ = prior.decoder.out_shape
    x = smooth_picture(int(channels), int(side))  # pyright: ignore[reportArgumentType]
    assert prior.encode is not None
    code, denoiser = prior.encode(x), prior.denoiser
    if isinstance(denoiser, ConditionalCodes):
        denoiser = denoiser.given(denoiser.made_for.example(x))
    noise = torch.randn(code.shape, generator=torch.Generator().manual_seed(0))
    left = {level: float((denoiser(code + level * noise, level) - code).square().mean().sqrt()) / level for level in (0.5, 1.0, 4.0)}
    text = ", ".join(f"{share:.2f} at sigma {level}" for level, share in left.items())
    if not all(share < 1 for share in left.values()):
        raise InputError(f"{weights}: of the noise on a smooth picture's code it leaves {text}")
    return f"of the noise on a smooth picture's code it leaves {text}"

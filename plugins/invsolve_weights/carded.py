"""Weight files with a model card as Denoisers, and the prior behind any path to weights."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.priors.base import Denoiser, Prior
from invsolve.priors.convert import NetworkDenoiser, check_images, levels
from invsolve_weights.cards import Card, has_card, load_network, read_card
from invsolve_weights.formats import Convention
from invsolve_weights.hub import PREFIX, fetched
from invsolve_weights.own import load_weights
from invsolve_weights.places import check_path
from invsolve_weights.selftest import card_test
from invsolve_weights.tables import read_table
from invsolve_weights.tone import tone_of

log = logging.getLogger("invsolve")


class GreyThroughColour(nn.Module):
    """A colour denoiser on grey images: chroma noise is added so that the network sees the noise it was trained on.

        D(x, sigma) = mean over channels of D_rgb(x + sqrt(3) sigma (w - mean w), sqrt(3) sigma)

    The noise of a picture repeated in three channels is equal in all of them, which a colour network takes for structure
    (25.2 dB at sigma 15/255, where this map gives 31.1). Independent colour noise of level s has a grey part of level
    s / sqrt(3): so with s = sqrt(3) sigma the given noise is that grey part, and w brings the rest. w is a fixed pattern,
    the same at every call and for every item: the map stays deterministic and smooth in x.

    Args:
        net: D_rgb, three channels.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self._pattern: Tensor | None = None

    def pattern(self, x: Tensor) -> Tensor:
        """w - mean w, (1, 3, H, W); drawn from a stream of its own and kept for the last size."""
        held = self._pattern
        if held is None or held.shape[-2:] != x.shape[-2:] or held.device != x.device or held.dtype != x.dtype:
            size = (1, 3, *x.shape[-2:])
            with torch.inference_mode(False):  # what is kept must serve a later call that autograd goes through
                draw = torch.randn(size, generator=torch.Generator().manual_seed(0))
                self._pattern = held = (draw - draw.mean(1, keepdim=True)).to(x.device, x.dtype)
        return held

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, 1, H, W)."""
        level = math.sqrt(3) * sigma
        return self.net(x + level.reshape(-1, 1, 1, 1) * self.pattern(x), level).mean(1, keepdim=True)


class Shipped(NetworkDenoiser):
    """A weight file as a Denoiser; `card` is its model card and `weights_sha256` what results are recorded with.

    Args:
        weights: name of a shipped file, or the path of a .safetensors file with its card beside it.
        channels: 3, or 1 for grey images through the colour network (see GreyThroughColour); None: as the network has them.
        precision: "float32", "float64", "bfloat16" for autocast inside the network, or "auto": the faster one on the device.
        channels_last: the networks' fastest memory format on CPUs.
        tone: whether the closed form on its card, where there is one, answers at large noise; see `tone.Tone`. It counts as the network.

    Raises:
        InputError: weights that are missing, changed or of another network; channels that it does not serve.
    """

    def __init__(self, weights: str, channels: int | None, precision: str, channels_last: bool, tone: bool = True) -> None:
        network, card = load_network(weights)
        own = int(card.arguments.get("channels", 3))
        channels = own if channels is None else channels
        if channels not in (1, own):
            served = "3 (colour) or 1 (grey through the colour network)" if own == 3 else f"{own}, as the network '{card.name}' has"
            raise InputError(f"channels must be {served}; given {channels}")
        low, high = card.sigma_range
        law = tone_of(card.tone, own) if tone else None
        if channels == 1 and own == 3:
            law = None if law is None else law.of_grey()
            network, low, high = GreyThroughColour(network), low / math.sqrt(3), high / math.sqrt(3)
        super().__init__(
            network,
            sigma_range=(low, high),
            clip=card.clip,
            s0=card.s0,
            channels=channels,
            precision=precision,
            channels_last=channels_last,
        )
        # Photographs of anything, trained on with all turns and flips; of a file of one's own nothing is known.
        self.placeless = weights in ("natural", "natural-gray", "dncnn", "dncnn-gray")
        self.few_step = card.training.get("kind") == "consistency"
        self.card: Card = card
        self.law = law
        self.weights_sha256 = card.sha256
        self.made_with = (1, own)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0_hat in x's dtype: the network's, at large noise the closed form's."""
        if self.law is None:
            return super().forward(x, sigma)
        check_images(x, self.channels)
        return self.law.joined(super().forward, x, levels(sigma, x))

    @classmethod
    def examples(cls) -> list[Prior]:
        """Colour and grey."""
        build: Any = cls
        return [build(), build(channels=1)]


class OwnNetwork(Shipped):
    """A weight file made by `invsolve_priors.export`, with its card beside it; one that does not denoise is loaded with a warning.

    Args:
        path: NAME.safetensors.
        precision, channels_last, channels: see Natural; channels None: as the network has them.
        check: whether the network is put to the test on a smooth picture (five calls).
        tone: see Shipped.

    Raises:
        InputError: see Shipped.
    """

    def __init__(
        self,
        path: str,
        precision: str = "float32",
        channels_last: bool = True,
        channels: int | None = None,
        check: bool = True,
        tone: bool = True,
    ) -> None:
        super().__init__(path, channels, precision, channels_last, tone)
        if check:
            inner = self.net.net if isinstance(self.net, GreyThroughColour) else self.net
            result = card_test(inner, self.card)  # pyright: ignore[reportArgumentType]
            if not result.passed:
                log.warning("%s %s", path, result.text(Convention(sigma_range=self.card.sigma_range)))


def from_path(path: str, **options: Any) -> Denoiser:
    """The prior in a weight file or folder: by its card where `export` made it, else recognised (see `own.load_weights`).

    `hub:OWNER/NAME/FILE@REVISION` with sha256= comes from the hub; see `hub.fetched`.
    """
    from invsolve.plugins.arguments import bind

    if path.startswith(PREFIX):
        path = str(fetched(path, options.pop("sha256", None)))
    check_path(path)
    card_path = Path(path).with_suffix(".json")
    if Path(path).suffix == ".safetensors" and card_path.is_file() and "autoencoder" in read_table(card_path):
        raise InputError(f"{path}: an autoencoder, no prior; it goes with a network of its codes, load_prior(CODES, autoencoder={path!r})")
    target: Any = OwnNetwork if has_card(Path(path)) else load_weights
    if target is OwnNetwork:
        from invsolve_weights.classes import CardedClasses, is_by_class
        from invsolve_weights.conditional import CardedConditional, is_conditional

        card = read_card(Path(path))
        if card.training.get("autoencoder"):
            from invsolve_latent.priors import Latent

            target = Latent
        else:
            target = CardedConditional if is_conditional(card) else CardedClasses if is_by_class(card) else OwnNetwork
    bind(target, f"weights '{path}'", (path,), options)
    return target(path, **options)

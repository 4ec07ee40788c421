"""Weight files of networks with a condition as priors: the card says what they were trained for."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from invsolve.errors import InputError
from invsolve.plugins import is_path
from invsolve.priors.conditional import ConditionalPrior, Unnoised
from invsolve.priors.made_for import MadeFor
from invsolve.priors.moving import Moving
from invsolve_weights.cards import Card, load_network, read_card
from invsolve_weights.places import file_of
from invsolve_weights.selftest import SIDE, smooth_picture


def is_conditional(card: Card) -> bool:
    """Whether a card is of a network that sees the measurement."""
    condition = card.training.get("condition")
    return isinstance(condition, dict) and condition.get("kind") in ("degraded", "continuous")


def made_for(card: Card, side: int | None = None) -> MadeFor:
    """What a card says that its network was trained for, at another side of the images where one is given.

    Raises:
        InputError: a card that says nothing of it, or what cannot be.
    """
    try:
        table, patch = card.training["condition"], int(card.training["patch"])
        shape = (int(card.arguments.get("channels", 3)), side or patch, side or patch)
        if table["kind"] == "continuous":
            return MadeFor(
                ({**table["operator"], "size": int(table["least"])},),
                up=table["up"],
                shape=shape,
                any_size=side is None,
                also=(table["operator"]["name"],),
                sides=(int(table["sides"][0]), int(table["sides"][1])) if side is None else None,
                factors=(float(table["magnification"][0]), float(table["magnification"][1])),
            )
        return MadeFor(
            tuple(table["operator"]),
            noise=(float(table["noise"][0]), float(table["noise"][1])),
            up=table["up"],
            fill=bool(table["fill"]),
            shape=shape,
            any_size=bool(table.get("any_size", False)),
            also=tuple(table.get("also", ())),
            told=bool(table.get("told", False)),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"model card '{card.name}': its training.condition cannot be read ({type(error).__name__}: {error})") from None


class CardedConditional(ConditionalPrior):
    """The prior of a weight file whose card tells of a condition.

    Args:
        weights: name of a shipped file, or the path of a .safetensors file with its card beside it.
        precision, channels_last: see NetworkDenoiser.
        side: height and width of the images, where they are not those of the training: at one's own risk.

    Raises:
        InputError: weights that are missing, changed or of another network; a card without a condition.
    """

    def __init__(self, weights: str, precision: str = "float32", channels_last: bool = True, side: int | None = None) -> None:
        network, card = load_network(weights)
        if not is_conditional(card):
            raise InputError(f"weights '{weights}' are of a network without a condition; load_prior('{weights}') takes them")
        kind, (low, high) = card.training.get("kind"), card.sigma_range
        moving = Moving(int(card.training["total"]), int(card.training["part"])) if kind == "partial" else None
        super().__init__(
            network if kind != "regression" else Unnoised(network, high),
            made_for(card, side),
            moving=moving,
            sigma_range=(low, moving.outer()[-1]) if moving else (0.002, high) if kind == "regression" else (low, high),
            clip=card.clip,
            s0=card.s0,
            blind=kind == "regression",
            precision=precision,
            channels_last=channels_last,
        )
        self.differentiable = kind != "regression"  # whose estimate does not depend on x at all
        self.card: Card = card
        self.weights_sha256 = card.sha256

    @property
    def plain(self) -> nn.Module:
        """The network (x, sigma, condition) as it was trained."""
        inner = self.net
        return getattr(inner, "network", inner)  # pyright: ignore[reportReturnType, reportArgumentType]


@torch.no_grad()
def tried(weights: str) -> str:
    """What a conditional network makes of a smooth picture that it is shown with noise, and the measurement of.

    Raises:
        InputError: see CardedConditional; estimates that are not finite, or further from the picture than a grey image is.
    """
    card = read_card(Path(weights) if is_path(weights) else file_of(weights))
    prior = CardedConditional(weights, side=None if made_for(card).any_size else SIDE)
    clean = smooth_picture(int(card.arguments.get("channels", 3)))
    given = prior.given(prior.made_for.example(clean))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    found = []
    for sigma in (prior.sigma_range[0], 0.2, prior.sigma_range[1]):
        error = (given(clean + sigma * noise, sigma) - clean).square().mean().sqrt()
        found.append((sigma, float(error)))
    grey = float((clean - clean.mean()).square().mean().sqrt())
    text = ", ".join(f"{error:.3f} at sigma {sigma:.3g}" for sigma, error in found)
    if not all(error < grey for _, error in found):
        raise InputError(f"{card.name}: of a smooth picture and its measurement it makes an error of {text}; a grey image has {grey:.3f}")
    return f"rms error on a smooth picture whose measurement it sees: {text}; a grey image has {grey:.3f}"

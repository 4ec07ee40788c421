"""Weight files of networks that were trained on labels: priors by class, and classifiers of noisy images."""

from __future__ import annotations

import torch
from torch import nn

from invsolve.errors import InputError
from invsolve.priors.class_network import ClassPrior
from invsolve_weights.cards import Card, load_network
from invsolve_weights.networks import NoisedClassifier


def is_by_class(card: Card) -> bool:
    """Whether a card is of a network that is told a label."""
    condition = card.training.get("condition")
    return isinstance(condition, dict) and condition.get("kind") in ("labels", "damage") and card.training.get("kind") == "conditional"


class CardedClasses(ClassPrior):
    """The prior of a weight file whose card tells of labels.

    Args:
        weights: name of a shipped file, or the path of a .safetensors file with its card beside it.
        label: of all items; None for `problem.context["label"]`, integers (B,).
        precision, channels_last: see NetworkDenoiser.

    Raises:
        InputError: weights that are missing, changed or of another network; a card without labels; a label that does not exist.
    """

    def __init__(self, weights: str, label: int | None = None, precision: str = "float32", channels_last: bool = True) -> None:
        network, card = load_network(weights)
        if not is_by_class(card):
            raise InputError(f"weights '{weights}' are of a network without labels; load_prior('{weights}') takes them")
        super().__init__(
            network,
            int(card.training["condition"]["classes"]),
            label,
            sigma_range=card.sigma_range,
            clip=card.clip,
            s0=card.s0,
            channels=int(card.arguments.get("channels", 3)),
            precision=precision,
            channels_last=channels_last,
        )
        self.card: Card = card
        self.weights_sha256 = card.sha256


def load_classifier(weights: str) -> tuple[NoisedClassifier, Card]:
    """A classifier of noisy images, (x, sigma) -> logits, in evaluation mode and frozen, and its card.

    Args:
        weights: name of a shipped file, or the path of a .safetensors file with its card beside it.

    Raises:
        InputError: weights that are missing, changed or of another network.
    """
    network, card = load_network(weights)
    if not isinstance(network, NoisedClassifier):
        raise InputError(f"weights '{weights}' are of the network '{card.network}', which tells no classes; a noised-classifier does")
    return network, card


def trained_on_labels(card: Card) -> bool:
    """Whether a card is of a network that is told a label, or that tells one."""
    return is_by_class(card) or card.training.get("kind") == "classifier"


@torch.no_grad()
def tried_labels(network: nn.Module, card: Card) -> str:
    """What is found of such a network on a black picture with noise: what is left of it for any label, or how sure it is of a class.

    Raises:
        InputError: it leaves more than it was given, or gives values that are not finite.
    """
    side, channels = int(card.training["patch"]), int(card.arguments.get("channels", 3))
    noise = torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(0))
    found = []
    for sigma in (0.1, 0.5):
        level = torch.full((1,), sigma)
        if isinstance(network, NoisedClassifier):
            share = float(network(sigma * noise, level).softmax(1).max())
            found.append(f"{share:.2f} at sigma {sigma:g}")
            if not 0 < share <= 1:
                raise InputError(f"weights '{card.name}' give no probabilities: {found[-1]}")
            continue
        labels = range(int(card.training["condition"]["classes"]) + 1)
        left = max(float(network(sigma * noise, level, torch.tensor([label])).square().mean().sqrt()) / sigma for label in labels)
        found.append(f"{left:.2f} at sigma {sigma:g}")
        if not left < 1:
            raise InputError(f"weights '{card.name}' do not denoise a black picture: of the noise they leave {found[-1]}")
    what = (
        "surest class of noise alone"
        if isinstance(network, NoisedClassifier)
        else "on a black picture at most this part of the noise is left"
    )
    return f"{what}: {', '.join(found)}"

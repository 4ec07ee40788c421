"""Weight files of networks that were trained on labels: priors by class, and classifiers of noisy images."""

from __future__ import annotations

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

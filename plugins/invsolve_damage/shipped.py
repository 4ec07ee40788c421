"""The shipped prior, by name."""

from __future__ import annotations

from invsolve_weights.classes import CardedClasses

from invsolve.priors import Denoiser, Guided


def damage(
    label: int | None = None,
    scale: float = 1.0,
    rescale: float = 0.0,
    interval: tuple[float, float] | None = None,
    precision: str = "float32",
    weights: str = "damage",
) -> Denoiser:
    """Colour photographs by their state: label 0 clean, 1 damaged by dust and scratches, 2 for none.

    Args:
        label: of all items; None for `problem.context["label"]`, integers (B,).
        scale, rescale, interval: of the guidance, see `invsolve.priors.Guided`; scale 1 is the network's own answer.
        precision: see NetworkDenoiser.
        weights: another weight file of the same form.

    Raises:
        InputError: a label or a scale that does not exist; see Guided and CardedClasses.

    References:
        Classifier-Free Diffusion Guidance (Ho, Salimans, 2022), arXiv:2207.12598.
    """
    prior = CardedClasses(weights, label, precision)
    return prior if scale == 1 else Guided(prior, scale, rescale, interval)

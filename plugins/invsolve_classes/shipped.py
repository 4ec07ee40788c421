"""The shipped priors by class, by name."""

from __future__ import annotations

from invsolve_weights.carded import Shipped
from invsolve_weights.classes import CardedClasses, load_classifier
from invsolve_weights.networks import NoisedClassifier

from invsolve.priors import ClassifierGuided, Denoiser, Guided

# On the smooth pictures of the checks, which are no digits; in float64 the items agree to 3e-15.
ROUNDING = "mgdm, which goes through the gradient of the classifier again and again, multiplies the rounding of float32 to .05"


def mnist_classes(
    label: int | None = None,
    scale: float = 1.0,
    rescale: float = 0.0,
    interval: tuple[float, float] | None = None,
    precision: str = "float32",
    weights: str = "mnist-classes",
) -> Denoiser:
    """Handwritten digits, (1, 32, 32), by class: labels 0 to 9, 10 for none.

    Args:
        label: of all items; None for `problem.context["label"]`, integers (B,).
        scale, rescale, interval: of the guidance, see `invsolve.priors.Guided`; scale 1 is the network's own answer.
        precision: see NetworkDenoiser.
        weights: another weight file of the same form.

    Raises:
        InputError: a label or a scale that does not exist; see Guided and Shipped.

    References:
        Classifier-Free Diffusion Guidance (Ho, Salimans, 2022), arXiv:2207.12598.
    """
    prior = CardedClasses(weights, label, precision)
    return prior if scale == 1 else Guided(prior, scale, rescale, interval)


def mnist_by_classifier(
    label: int | None = None,
    scale: float = 1.0,
    precision: str = "float32",
    weights: str = "mnist",
    classifier: str = "mnist-noised-classifier",
) -> ClassifierGuided:
    """The prior `mnist`, (1, 32, 32), led to a digit by a classifier of noisy images: labels 0 to 9.

    Args:
        label: of all items; None for `problem.context["label"]`, integers (B,).
        scale: 1 is Bayes' rule; see `invsolve.priors.ClassifierGuided`.
        precision: of the prior, see NetworkDenoiser.
        weights, classifier: other weight files of the same form.

    Raises:
        InputError: a label or a scale that does not exist; see ClassifierGuided and Shipped.

    References:
        Diffusion Models Beat GANs on Image Synthesis (Dhariwal, Nichol, 2021), arXiv:2105.05233.
    """
    led = ClassifierGuided(Shipped(weights, 1, precision, channels_last=True), load_classifier(classifier)[0], scale, label)
    led.expected_failures = {"check_in_solvers": ROUNDING}
    return led


def digit_classifier(weights: str = "mnist-noised-classifier") -> NoisedClassifier:
    """The classifier of noisy digits: (x, sigma) -> logits (B, 10), with `features(x, sigma)`, x (B, 1, 32, 32) in [0, 1].

    At its lowest level, sigma = .002, it is the digit classifier of the tables.

    Raises:
        InputError: see `load_classifier`.
    """
    return load_classifier(weights)[0]

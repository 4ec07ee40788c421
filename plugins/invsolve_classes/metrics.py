"""Metrics of digits, in the features of the shipped digit classifier at its lowest noise level."""

from __future__ import annotations

from functools import cache

import torch
from invsolve_weights.networks import NoisedClassifier
from torch import Tensor

from invsolve.bench.set_metrics import FID, KID, InceptionScore, Precision, Recall, Recognised
from invsolve.errors import InputError
from invsolve_classes.shipped import digit_classifier

CLEAN = 0.002  # the lowest level that the classifier was trained on: its images are as good as clean
SHAPE = (1, 32, 32)
NETWORK = "the 64 features of mnist-noised-classifier at sigma 0.002"


@cache
def classifier() -> NoisedClassifier:
    """The digit classifier, read once."""
    return digit_classifier()


def digits(images: Tensor) -> tuple[Tensor, Tensor]:
    """Images as the classifier takes them, (B, 1, 32, 32), and their level, (B,).

    Raises:
        InputError: images of another shape.
    """
    if tuple(images.shape[1:]) != SHAPE:
        raise InputError(
            f"the digit classifier takes images (1, 32, 32), 28 x 28 pixels with two of black around; given {tuple(images.shape)}"
        )
    return images.float(), torch.full((len(images),), CLEAN, device=images.device)


def of_digits(images: Tensor) -> Tensor:
    """The features of images, (B, 64)."""
    return classifier().to(images.device).features(*digits(images))


class DigitFID(FID):
    """FID in the features of the shipped digit classifier: not that of Inception-v3."""

    label, network, image_shape = "FID (mnist-classifier)", NETWORK, SHAPE
    settings = f"Fréchet distance of {NETWORK}; biased upwards at few images"

    def features(self, images: Tensor) -> Tensor:
        """(B, 64)."""
        return of_digits(images)


class DigitKID(KID):
    """KID in the features of the shipped digit classifier: not that of Inception-v3."""

    label, network, image_shape = "KID (mnist-classifier)", NETWORK, SHAPE
    settings = f"cubic kernel on {NETWORK}; unbiased"

    def features(self, images: Tensor) -> Tensor:
        """(B, 64)."""
        return of_digits(images)


class DigitPrecision(Precision):
    """The share of answers that lie among the truths, in the features of the shipped digit classifier."""

    network, image_shape, settings = NETWORK, SHAPE, f"within the third neighbour's distance in {NETWORK}"

    def features(self, images: Tensor) -> Tensor:
        """(B, 64)."""
        return of_digits(images)


class DigitRecall(Recall):
    """The share of truths that lie among the answers, in the features of the shipped digit classifier."""

    network, image_shape, settings = NETWORK, SHAPE, f"within the third neighbour's distance in {NETWORK}"

    def features(self, images: Tensor) -> Tensor:
        """(B, 64)."""
        return of_digits(images)


class DigitScore(InceptionScore):
    """The inception score by the shipped digit classifier: 1 to 10."""

    label, network, image_shape = "IS (mnist-classifier)", NETWORK, SHAPE
    settings = "exp of the mean KL(p(c | x) | p(c)) by mnist-noised-classifier at sigma 0.002"

    def features(self, images: Tensor) -> Tensor:
        """(B, 10): probabilities."""
        return classifier().to(images.device)(*digits(images)).softmax(1)


class DigitRecognised(Recognised):
    """Whether the shipped digit classifier reads the restored digit as what it is (context["label"], or as it reads the truth)."""

    image_shape = SHAPE
    settings = "by mnist-noised-classifier at sigma 0.002, against the label or what it reads in the truth"

    def logits(self, images: Tensor) -> Tensor:
        """(B, 10)."""
        return classifier().to(images.device)(*digits(images))

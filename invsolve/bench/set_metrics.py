"""Distances between two sets of images in the features of a named network: FID, KID, precision and recall, the inception score.

The number belongs to the network: it stands in the name of the metric and in its settings, and numbers by other networks, such as the FIDs
of papers by Inception-v3, are other numbers. f(x) is (d,), sets have n and m images.

FID = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2)
KID = mean_{i != j} k(a_i, a_j) + mean_{i != j} k(b_i, b_j) - 2 mean k(a_i, b_j),   k(a, b) = (a . b / d + 1)^3
IS  = exp(mean KL(p(c | x) | mean p(c | x)))
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.bench.case_metrics import FrechetDistance
from invsolve.bench.metrics import Case, Metric, SetMetric, undefined
from invsolve.errors import InputError

ROWS = 64  # images a call of the network


class FeatureMetric(SetMetric):
    """Base: a plug-in's subclass writes `network` and `features` (or `probabilities`), and registers that under the network's name.

    Attributes:
        network: what the features are of, in words.
    """

    network: str = "a network of yours"
    least_images: int = 2

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, d)."""

    def least(self, size: int) -> int:
        """How many images the number needs of features of a size."""
        del size
        return self.least_images

    def compute(self, x_hat: Sequence[Tensor], x: Sequence[Tensor]) -> float:
        """The number of answers and truths.

        Raises:
            InputError: fewer images in a set than it needs.
        """
        found, wanted = self.rows(x_hat), self.rows(x)
        least = self.least(found.shape[1])
        few = min(len(found), len(wanted))
        if few < least:
            raise InputError(
                f"{self.label} by {self.network} has {found.shape[1]} features and needs at least {least} images in each set; given {few}"
            )
        return self.distance(found, wanted)

    @abstractmethod
    def distance(self, found: Tensor, wanted: Tensor) -> float:
        """The number of the features of answers (n, d) and truths (m, d), float64."""

    @torch.no_grad()
    def rows(self, images: Sequence[Tensor]) -> Tensor:
        """(n, d) in float64."""
        if not len(images):
            raise InputError(f"{self.label} needs images; given none")
        parts = [self.features(torch.stack(list(images[start : start + ROWS]))) for start in range(0, len(images), ROWS)]
        return torch.cat(parts).double()


class FID(FeatureMetric):
    """Fréchet distance of two Gaussians fitted to the features; refused under d + 1 images, where a covariance has no full rank.

    Biased upwards by about the number of features over that of images: comparable at equal numbers of images only.

    References:
        Heusel et al., GANs trained by a two time-scale update rule converge to a local Nash equilibrium, 2017, arXiv:1706.08500.
    """

    label, digits, higher = "FID", 2, False

    def least(self, size: int) -> int:
        """More images than features."""
        return size + 1

    def distance(self, found: Tensor, wanted: Tensor) -> float:
        """The formula."""
        return FrechetDistance(lambda rows: rows).compute(list(found), list(wanted))


class KID(FeatureMetric):
    """Squared maximum mean discrepancy with a cubic kernel: unbiased at every number of images, 0 on average for equal laws, also negative.

    References:
        Bińkowski et al., Demystifying MMD GANs, 2018, arXiv:1801.01401, section 4. Deviation: one estimate over the whole sets, theirs is
        a mean over subsets of them.
    """

    label, digits, higher = "KID", 4, False

    def distance(self, found: Tensor, wanted: Tensor) -> float:
        """The formula."""
        return discrepancy(found, wanted)


def discrepancy(found: Tensor, wanted: Tensor) -> float:
    """KID's formula, of features (n, d) and (m, d)."""
    return float(within(found) + within(wanted) - 2 * kernel(found, wanted).mean())


def kernel(one: Tensor, other: Tensor) -> Tensor:
    """(a . b / d + 1)^3 of every pair of rows."""
    return (one @ other.T / one.shape[1] + 1) ** 3


def within(rows: Tensor) -> Tensor:
    """Mean of the kernel over pairs of different rows."""
    whole = kernel(rows, rows)
    return (whole.sum() - whole.diagonal().sum()) / (len(rows) * (len(rows) - 1))


class Manifold(FeatureMetric):
    """Base of precision and recall: what share of points lie among the balls around others, each as large as its k-th neighbour is far.

    Args:
        k: which neighbour; 3 is its authors'.

    Raises:
        InputError: k < 1.

    References:
        Kynkäänniemi et al., Improved precision and recall metric for assessing generative models, 2019, arXiv:1904.06991, algorithm 1.
    """

    digits, higher = 3, True

    def __init__(self, k: int = 3) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InputError(f"k must be a whole number, at least 1; given {k!r:.80}")
        self.k = k

    def least(self, size: int) -> int:
        """Ten images for each neighbour asked for: below that a ball is as large as the set."""
        del size
        return 10 * (self.k + 1)

    def share(self, points: Tensor, centres: Tensor) -> float:
        """The share of points that lie in a ball around some centre."""
        radius = apart(centres, centres).sort(1).values[:, self.k]  # the nearest is the point itself
        return float((apart(points, centres) <= radius).any(1).double().mean())


def apart(one: Tensor, other: Tensor) -> Tensor:
    """|a - b| of every pair of rows; by differences, since products would lose the digits of small ones."""
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")


class Precision(Manifold):
    """The share of answers that lie among the truths."""

    label = "precision"

    def distance(self, found: Tensor, wanted: Tensor) -> float:
        """Of answers."""
        return self.share(found, wanted)


class Recall(Manifold):
    """The share of truths that lie among the answers."""

    label = "recall"

    def distance(self, found: Tensor, wanted: Tensor) -> float:
        """Of truths."""
        return self.share(wanted, found)


class InceptionScore(FeatureMetric):
    """exp of the mean divergence of p(c | x) from its mean: 1 to the number of classes; high where each is sure and all together are even.

    `features` gives the probabilities p(c | x), (B, classes). It looks at the answers alone, and does not see that all of a class are one.

    References:
        Salimans et al., Improved Techniques for Training GANs, 2016, arXiv:1606.03498, section 4; over the whole set, not in ten parts.
    """

    label, digits, higher = "IS", 2, True

    def least(self, size: int) -> int:
        """Ten images for each class."""
        return 10 * size

    def compute(self, x_hat: Sequence[Tensor], x: Sequence[Tensor]) -> float:
        """Of the answers.

        Raises:
            InputError: fewer than ten for each class, or rows that are no probabilities.
        """
        del x
        return super().compute(x_hat, x_hat)

    def distance(self, found: Tensor, wanted: Tensor) -> float:
        """The formula."""
        del wanted
        if bool((found < 0).any()) or not bool(((found.sum(1) - 1).abs() < 1e-3).all()):
            raise InputError("the inception score takes probabilities of classes, rows that sum to 1; a softmax makes them of logits")
        mean = found.mean(0, keepdim=True)
        return math.exp(float(torch.special.xlogy(found, found / mean).nan_to_num(0.0).sum(1).mean()))


class Recognised(Metric):
    """Downstream accuracy: 1 where a classifier tells the answer as what it is, else 0; a subclass writes `logits`.

    What it is stands in `problem.context["label"]`, or is what the classifier says of the truth; NaN where neither is there.

    References:
        PartDiff: Image Super-resolution with Partial Diffusion Models (Zhao et al., 2023), arXiv:2307.11926: the idea.
    """

    label, digits, higher = "recognised", 3, True

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, classes)."""

    @torch.no_grad()
    def measure(self, case: Case) -> Tensor:
        """(B,)."""
        labels = case.problem.context.get("label")
        if labels is None and case.truth is None:
            return undefined(case)
        told = self.logits(case.x.clamp(0, 1)).argmax(1)
        wanted = self.logits(case.truth).argmax(1) if labels is None and case.truth is not None else labels
        assert wanted is not None
        return (told == wanted.to(told)).double()

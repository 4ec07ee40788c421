"""Training on the classes of images: pairs of a class-conditional network, and noised classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from invsolve.data import labels_of
from invsolve.errors import InputError
from invsolve.recipe.tables import Table
from invsolve.training.data import Crops
from invsolve.training.loop import Training
from invsolve.training.pairs import Pairs

# Levels at which the log shows a classifier's accuracy.
SHOWN = (0.002, 0.5, 2.0)


def labels_of_crops(crops: Crops, classes: int) -> list[np.ndarray]:
    """The labels of each source's images, in the pool's order.

    Raises:
        InputError: a source without labels for its images, or labels of other classes.
    """
    found = []
    for path, pool in zip(crops.paths, crops.pools, strict=True):
        if not isinstance(path, str | Path) or Path(path).suffix.lower() != ".npz":
            raise InputError(f"labels come from npz files with the arrays images and labels; given the source {path!s:.200}")
        labels = labels_of(Path(path))
        if len(labels) != len(pool):
            raise InputError(
                f"{path}: {len(labels)} labels for {len(pool)} crops; labels need every image once, at scale 1 and large enough"
            )
        if int(labels.max()) >= classes:
            raise InputError(f"{path}: labels up to {int(labels.max())}, and classes = {classes} allows 0 to {classes - 1}")
        found.append(labels)
    return found


class Labelled(Pairs):
    """(x0, its label), or (x0, `classes`) for a share `drop` of the images: a network with and one without a condition in one.

    Args:
        classes: how many there are.
        drop: the share without a label.

    References:
        Classifier-Free Diffusion Guidance (Ho, Salimans, 2022), arXiv:2207.12598, algorithm 1.
    """

    def __init__(self, classes: int, drop: float = 0.1) -> None:
        self.classes, self.drop = classes, drop
        self.labels: list[np.ndarray] = []

    def __call__(self, x0: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Images of which nothing else is known, without a label."""
        del rng
        return x0, torch.full((len(x0),), self.classes)

    def draw(self, crops: Crops, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Crops with their labels, some left out.

        Raises:
            InputError: see `labels_of_crops`.
        """
        self.labels = self.labels or labels_of_crops(crops, self.classes)
        images, labels = crops.labelled(count, rng, self.labels)
        return images, torch.where(torch.from_numpy(rng.random(count) < self.drop), self.classes, labels)


class LabelsCondition(Table):
    """The table [condition] of a training on labels: the class of each image, from the array `labels` of npz sources; see `Labelled`."""

    kind: Literal["labels"] = "labels"
    """May be left out."""
    labels: Literal[True]
    """The network is (x, sigma, labels) -> x0_hat, labels (B,), int64."""
    classes: Annotated[int, Field(ge=2, le=100_000)]
    """How many classes there are, 0 to classes - 1; the label `classes` stands for none."""
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the images that are shown without their label, from which guidance has its unconditional prior."""

    def pairs(self, shape: tuple[int, int, int], folder: Path) -> Pairs:
        """What draws them."""
        del shape, folder
        return Labelled(self.classes, self.drop)


class ClassifierTraining(Training):
    """A run of a classifier (x, sigma) -> logits of noisy images, at every level alike.

        L = E_{x0, c, n, sigma} -log p(c | x0 + sigma n, sigma)

    Args:
        arguments: those of `Training`.
        classes: how many there are.
        shown: labels of the validation images.
        options: those of `Training`.

    References:
        Diffusion Models Beat GANs on Image Synthesis (Dhariwal, Nichol, 2021), arXiv:2105.05233, section 4.
    """

    def __init__(self, *arguments: Any, classes: int, shown: np.ndarray | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.classes = classes
        self.labels = labels_of_crops(self.crops, classes)
        self.shown = None if shown is None or self.validation is None else torch.from_numpy(shown[: len(self.validation)]).to(self.device)

    def _sample(self) -> tuple[Tensor, Tensor]:
        return self.crops.labelled(self.recipe.batch, self.rng, self.labels)

    def _losses(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, float]:
        images, labels = batch[0], batch[1].to(self.device)

        def losses(x0: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
            logits = self.model(x0 + sigma.reshape(-1, 1, 1, 1) * noise, sigma)
            return functional.cross_entropy(logits.float(), labels, reduction="none")

        return self._weighed(images, losses)

    def _grey_loss(self, network: nn.Module, grey: Tensor) -> float:
        logits = network(grey, torch.full((1,), 1.0, device=self.device))
        return float(functional.cross_entropy(logits.float(), torch.zeros(1, dtype=torch.int64, device=self.device)))

    def _measures(self) -> dict[str, float]:
        """Share of the validation images that are told right, at three levels."""
        if self.validation is None or self.shown is None:
            return {}
        found = {}
        for sigma in SHOWN:
            noise = torch.randn(self.validation.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
            with torch.no_grad():
                logits = self.ema(self.validation + sigma * noise, torch.full((len(noise),), sigma, device=self.device))
            found[f"right{sigma:g}"] = round(float((logits.argmax(1) == self.shown).double().mean()), 4)
        return found

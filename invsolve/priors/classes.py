"""Priors that are conditional on a label, and the one in closed form: a mixture of Gaussians whose components belong to classes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.priors.base import Denoiser, Prior, Wrapping, a_denoiser
from invsolve.priors.gaussian import GaussianMixturePrior, sigma_rows
from invsolve.rng import Rng

if TYPE_CHECKING:
    from invsolve.problem import Problem

SOURCE = "source"


class ByClass(Denoiser):
    """Base of priors conditional on a label: `problem.context["label"]`, integers (B,), or one label for all items.

    Labels 0 to classes - 1 are the classes; classes itself stands for "none". A subclass writes `of` and `unconditional`.
    `problem.context["source"]`, labels too, are those that the label is compared with in place of none: what `unconditional()` of the
    problem's denoiser is, for guidance away from a class and for `diffedit`.

    Attributes:
        classes: how many there are.
        label: of all items, whatever the context says; None for that of the context.
    """

    classes: int = 0
    label: int | None = None

    @abstractmethod
    def of(self, labels: Tensor) -> Denoiser:
        """The denoiser of items with these labels, (B,), int64, all of them allowed."""

    def given(self, problem: Problem) -> Denoiser:
        """The denoiser of the items' labels.

        Raises:
            InputError: a label that is missing or not allowed, which `gaps` says before.
        """
        for gap in self.gaps(problem):
            raise InputError(gap)
        found = self.of(labels_of(problem, self.label))
        return Against(found, self.of(labels_of(problem, None, SOURCE))) if SOURCE in problem.context else found

    def gaps(self, problem: Problem) -> list[str]:
        """No label, or one that does not exist."""
        found, name = label_gaps(problem, self.classes, self.label, type(self).__name__), type(self).__name__
        return [*found, *label_gaps(problem, self.classes, None, name, key=SOURCE)] if SOURCE in problem.context else found

    def example_context(self, batch: int) -> dict[str, Tensor]:
        """The labels 0, 1, ..."""
        return {} if self.label is not None else {"label": torch.arange(batch) % self.classes}


class Against(Wrapping):
    """The denoiser of a problem's labels together with that of other labels, which it is compared with."""

    def __init__(self, denoiser: Denoiser, other: Denoiser) -> None:
        super().__init__()
        self.denoiser, self.other = denoiser, other
        self.take_after(denoiser)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The estimate with the labels."""
        return self.denoiser(x, sigma)

    def unconditional(self) -> Denoiser:
        """The one it is compared with."""
        return self.other

    def select(self, items: Sequence[int]) -> Prior:
        """The same of some items."""
        chosen, other = (a_denoiser(one.select(items), one) for one in (self.denoiser, self.other))
        return Against(chosen, other)

    def sigmas(self, steps: int, grid: str = "karras", sigma_max: float | None = None) -> list[float]:
        """The denoiser's grid."""
        return self.denoiser.sigmas(steps, grid, sigma_max)


def a_label(label: int | None, classes: int, *, none: bool = True) -> int | None:
    """The label itself, if there is one and it is allowed.

    Raises:
        InputError: anything but a whole number below `classes`, or with `none` that number itself.
    """
    if label is None:
        return None
    if not (isinstance(label, Integral) and not isinstance(label, bool) and 0 <= label < classes + none):
        raise InputError(f"label must be {allowed(classes, none=none)}; given {label!r:.80}")
    return int(label)


def allowed(classes: int, *, none: bool = True) -> str:
    """Which labels there are, in words."""
    return f"a whole number from 0 to {classes - 1}" + (f", or {classes} for none" if none else "")


def labels_of(problem: Problem, label: int | None, key: str = "label") -> Tensor:
    """The labels of the items, (B,), int64, on the problem's device."""
    if label is None:
        return problem.context[key].to(problem.image.device, torch.int64)
    return torch.full((problem.batch,), label, device=problem.image.device)


def label_gaps(problem: Problem, classes: int | None, label: int | None, name: str, *, none: bool = True, key: str = "label") -> list[str]:
    """Why the items' labels are none: [] where all of them are allowed; classes None: their number is not known."""
    if label is not None:
        return []
    which = "whole numbers" if classes is None else allowed(classes, none=none).replace("a whole number", "whole numbers")
    want = f'prior {name} needs context={{"{key}": tensor([...])}}, one label for each item: {which}'
    found = problem.context.get(key)
    if found is None:
        return [want + "; given none"]
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool or tuple(found.shape) != (problem.batch,):
        return [f"{want}; given {found.dtype} of shape {tuple(found.shape)}"]
    most = torch.iinfo(torch.int64).max if classes is None else classes if none else classes - 1
    wrong = sorted({int(value) for value in found if not 0 <= value <= most})
    return [f"{want}; given {', '.join(map(str, wrong[:8]))}"] if wrong else []


class LabelledMixturePrior(ByClass):
    """x0 ~ sum_k w_k N(m_k, std^2 I), component k of class c_k: the oracle of everything that is led by a label.

        p_t(x | c) = sum_{k: c_k = c} w_k N(x; m_k, std^2 + sigma^2) / sum_{k: c_k = c} w_k

    Without a label (and with the label "none") it is the whole mixture.

    Args:
        means: (K, *image shape).
        labels: (K,), the class of each component; every class from 0 to the largest has one.
        std: standard deviation of independent pixels within a component.
        weights: (K,), positive; default equal.
        label: of all items; None for `problem.context["label"]`.

    Raises:
        InputError: as GaussianMixturePrior, labels that are no classes, a label that does not exist.
    """

    slope = 0.0
    component: Tensor

    def __init__(
        self, means: Tensor, labels: Sequence[int] | Tensor, std: float = 0.1, weights: Tensor | None = None, label: int | None = None
    ) -> None:
        super().__init__()
        self.whole = GaussianMixturePrior(means, std, weights)
        self.take_after(self.whole)
        component = torch.as_tensor(labels)
        found = sorted(set(component.tolist()))
        if component.shape != (len(means),) or component.is_floating_point() or found != list(range(len(found))):
            raise InputError(
                f"labels must be one class for each of {len(means)} means, 0, 1, ... without a gap; given {component.tolist()}"
            )
        self.register_buffer("component", component)
        self.classes = len(found)
        self.label = a_label(label, self.classes)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The whole mixture's estimate."""
        return self.whole(x, sigma)

    def of(self, labels: Tensor) -> Denoiser:
        """The mixture of each item's class."""
        return OfClasses(self, labels)

    def unconditional(self) -> Denoiser:
        """The whole mixture."""
        return self.whole

    def classifier(self) -> MixtureClassifier:
        """(x, sigma) -> log p(c | x, sigma), the classifier that belongs to this prior."""
        return MixtureClassifier(self)

    def logits(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """log p(c | x0 + sigma n = x), (B, classes): what a perfect noised classifier gives, up to rounding."""
        belongs = self.component[:, None] == torch.arange(self.classes, device=self.component.device)
        logs = self.whole.log_responsibilities(x, sigma)
        return torch.where(belongs, logs[:, :, None], -torch.inf).logsumexp(1)

    @classmethod
    def examples(cls) -> list[Prior]:
        """Five components in three classes on (1, 4, 4) images."""
        means = torch.linspace(0.1, 0.9, 5).reshape(5, 1, 1, 1) * torch.linspace(0.8, 1.2, 16).reshape(1, 1, 4, 4)
        return [cls(means, [0, 0, 1, 2, 2], std=0.1, weights=torch.tensor([1.0, 2.0, 3.0, 1.0, 1.0]))]


class MixtureClassifier(nn.Module):
    """The noised classifier of a labelled mixture in closed form."""

    def __init__(self, mixture: LabelledMixturePrior) -> None:
        super().__init__()
        self.mixture, self.classes = mixture, mixture.classes

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(c | x, sigma), (B, classes)."""
        return self.mixture.logits(x, sigma)


class OfClasses(Denoiser):
    """A labelled mixture for items with labels (B,)."""

    labels: Tensor

    def __init__(self, mixture: LabelledMixturePrior, labels: Tensor) -> None:
        super().__init__()
        self.held = [mixture]  # in a list: it is read, and not called as a denoiser of its own
        self.take_after(mixture)
        self.register_buffer("labels", labels)
        self.batch = len(labels)

    @property
    def mixture(self) -> LabelledMixturePrior:
        """The mixture of all classes."""
        return self.held[0]

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Each item's own mixture: the other classes have no weight."""
        whole = self.mixture.whole
        logs = torch.where(self._own(), whole.log_responsibilities(x, sigma), -torch.inf)
        centre = (logs.softmax(1) @ whole.means.to(x).flatten(1)).reshape(x.shape)
        level = sigma_rows(sigma, x).reshape(-1, *[1] * (x.ndim - 1))
        return centre + whole.std**2 / (whole.std**2 + level**2) * (x - centre)

    def _own(self) -> Tensor:
        """Which components are an item's, (B, K)."""
        labels = self.labels[:, None]
        return (labels == self.mixture.component.to(labels.device)) | (labels == self.mixture.classes)

    def select(self, items: Sequence[int]) -> Prior:
        """The same of some items."""
        return OfClasses(self.mixture, self.labels[list(items)])

    def unconditional(self) -> Denoiser:
        """The whole mixture."""
        return self.mixture.whole

    def sigmas(self, steps: int, grid: str = "karras", sigma_max: float | None = None) -> list[float]:
        """The mixture's grid."""
        return self.mixture.sigmas(steps, grid, sigma_max)

    def sample(self, shape: Sequence[int], rng: Rng, like: Tensor) -> Tensor:
        """(B, *shape) draws from each item's class."""
        whole = self.mixture.whole
        weights = torch.where(self._own(), whole.log_weights.to(self.labels.device).exp(), 0.0)
        cumulated = (weights / weights.sum(1, keepdim=True)).cumsum(1).to(like)
        component = torch.searchsorted(cumulated, rng.uniform((1,), like)).clamp_max(cumulated.shape[1] - 1)[:, 0]
        return whole.means.to(like)[component] + whole.std * rng.normal(shape, like)

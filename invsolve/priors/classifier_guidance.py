"""Classifier guidance: a prior that knows no condition, led by the gradient of what a network says of the noisy state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from invsolve.errors import CapabilityError, InputError
from invsolve.operator.measurement import column
from invsolve.priors.base import Denoiser, Prior, a_denoiser
from invsolve.priors.classes import a_label, label_gaps, labels_of
from invsolve.priors.convert import levels
from invsolve.priors.guidance import Leading, a_scale
from invsolve.priors.meter import current, network_time

if TYPE_CHECKING:
    from invsolve.problem import Problem

Net = Callable[..., Tensor]


class Judge(nn.Module):
    """A network that says something of images, frozen, called in its own type as `NetworkDenoiser` calls its network.

    Attributes:
        evaluated: a call is a network evaluation, though it is no denoiser's: what the conformance checks count by.
    """

    evaluated = True

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net
        if isinstance(net, nn.Module):
            net.eval().requires_grad_(False)

    def forward(self, x: Tensor, *rest: Tensor) -> Tensor:
        """net(x, *rest) in x's dtype."""
        held = (tensor.dtype for tensor in chain(self.parameters(), self.buffers()) if tensor.is_floating_point())
        dtype = next(held, x.dtype)
        return self.net(x.to(dtype), *(one.to(x.device, dtype) for one in rest)).to(x.dtype)


class Climbing(Denoiser):
    """A denoiser of one problem, led up a value of the noisy state: D(x, sigma) + scale sigma^2 grad_x value(x, sigma).

    The value is a network call and counted as one, its gradient as a backward pass.
    """

    def __init__(self, denoiser: Denoiser, scale: float) -> None:
        super().__init__()
        self.denoiser, self.scale = denoiser, scale
        self.take_after(denoiser)

    @abstractmethod
    def value(self, x: Tensor, sigma: Tensor) -> Tensor:
        """What is to rise, per item, (B,)."""

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The estimate, led; differentiable where autograd goes through the denoiser and twice through the network."""
        out, level = self.denoiser(x, sigma), levels(sigma, x)
        return out + self.scale * column(level, x) ** 2 * self.gradient(x, level)

    def gradient(self, x: Tensor, level: Tensor) -> Tensor:
        """grad_x of the value, item by item."""
        return climbed(x, lambda leaf: called(self.value, leaf, level))

    def unconditional(self) -> Denoiser:
        """The denoiser, not led."""
        return self.denoiser

    def sigmas(self, steps: int, grid: str = "karras", sigma_max: float | None = None) -> list[float]:
        """The denoiser's grid."""
        return self.denoiser.sigmas(steps, grid, sigma_max)


def called(value: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigma: Tensor) -> Tensor:
    """value(x, sigma), counted as a network evaluation where a run is metered."""
    meter = current()
    return value(x, sigma) if meter is None else meter.call(value, x, sigma)


def climbed(x: Tensor, value: Callable[[Tensor], Tensor]) -> Tensor:
    """grad_x of a value per item, differentiable where x is.

    Raises:
        CapabilityError: autograd does not go through.
    """
    again = x.requires_grad and torch.is_grad_enabled()
    with torch.enable_grad():
        leaf = x if again else x.detach().requires_grad_(True)
        out = value(leaf)
        if not out.requires_grad:
            raise CapabilityError("guidance needs the gradient of what the network says of x, and autograd does not go through it")
        with network_time():
            (slope,) = torch.autograd.grad(out.sum(), leaf, create_graph=again)
    return slope


class ClassifierGuided(Leading):
    """A prior led towards a class by the gradient of a classifier of noisy images.

        D(x, sigma) = D_u(x, sigma) + scale sigma^2 grad_x log p(c | x, sigma)

    At scale 1, with the classifier that belongs to the prior, it is the posterior mean given the class (Tweedie's formula of
    p(x) p(c | x)). A call is an evaluation of the prior and one of the classifier, forward and backward; at scale 0 the prior's alone.

    Args:
        prior: D_u, as it is for the problem (`given`), so that a condition of another kind is kept.
        classifier: net(x, sigma) -> logits (B, classes), trained at every level of the prior: x in the prior's units, VE form, sigma
            (B,). A module is put into evaluation mode and frozen, itself.
        scale: 1 is Bayes' rule; 1 to 10 is what users choose.
        label: of all items; None for `problem.context["label"]`, integers (B,).

    Raises:
        InputError: no denoiser, no network, a scale that is negative or not finite, a label that does not exist (where the classifier says
            how many there are in its attribute `classes`, at once; else when called).
        CapabilityError: when called: autograd does not go through the classifier.

    References:
        Diffusion Models Beat GANs on Image Synthesis (Dhariwal, Nichol, 2021), arXiv:2105.05233, algorithms 1 and 2, whose shifts of the
            mean and of eps_hat are this shift of x0_hat in VE form.
    """

    def __init__(self, prior: Denoiser, classifier: Net, scale: float = 1.0, label: int | None = None) -> None:
        super().__init__(prior)
        if not callable(classifier):
            raise InputError(f"classifier must be a network (x, sigma) -> logits; given {type(classifier).__name__}")
        classes = getattr(classifier, "classes", None)
        self.classes = classes if isinstance(classes, int) else None
        self.judge, self.scale = Judge(classifier), a_scale(scale)
        self.label = a_label(label, 2**31 if self.classes is None else self.classes, none=False)

    def given(self, problem: Problem) -> Denoiser:
        """The prior of this problem, led to its labels."""
        inner = a_denoiser(self.denoiser.given(problem), self.denoiser)
        return inner if self.scale == 0 else TowardsClass(inner, self.judge, self.scale, labels_of(problem, self.label))

    def gaps(self, problem: Problem) -> list[str]:
        """Those of the prior inside, and labels that are none."""
        own = label_gaps(problem, self.classes, self.label, type(self).__name__, none=False)
        return [*self.denoiser.gaps(problem), *own]

    def example_context(self, batch: int) -> dict[str, Tensor]:
        """What the prior inside looks at, and the labels 0, 1, ..."""
        own = {} if self.label is not None else {"label": torch.arange(batch) % (self.classes or 1)}
        return {**self.denoiser.example_context(batch), **own}

    def unconditional(self) -> Denoiser:
        """The prior inside."""
        return self.denoiser

    def select(self, items: Sequence[int]) -> Prior:
        """The same guidance of some items' prior."""
        inner = a_denoiser(self.denoiser.select(items), self.denoiser)
        return self if inner is self.denoiser else ClassifierGuided(inner, self.judge.net, self.scale, self.label)

    @classmethod
    def examples(cls) -> list[Prior]:
        """A mixture in closed form, led by its own classifier."""
        from invsolve.priors.classes import LabelledMixturePrior

        mixture = LabelledMixturePrior.examples()[0]
        assert isinstance(mixture, LabelledMixturePrior)
        return [cls(mixture.unconditional(), mixture.classifier(), 1.5)]


class TowardsClass(Climbing):
    """Led up log p(c | x, sigma) to labels (B,)."""

    labels: Tensor

    def __init__(self, denoiser: Denoiser, judge: Judge, scale: float, labels: Tensor) -> None:
        super().__init__(denoiser, scale)
        self.judge, self.batch = judge, len(labels)
        self.most = int(labels.max()) if len(labels) else 0  # here: the host would wait for it in every call
        self.register_buffer("labels", labels)

    def value(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p(c | x, sigma).

        Raises:
            InputError: the classifier gives something else than logits (B, classes), or fewer classes than a label needs.
        """
        logits = self.judge(x, sigma)
        if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] <= self.most:
            wanted = f"logits (B, classes), with a class for label {self.most}"
            raise InputError(f"the classifier must give {wanted}; it gave {tuple(logits.shape)}")
        return logits.log_softmax(1).gather(1, self.labels[:, None])[:, 0]

    def select(self, items: Sequence[int]) -> Prior:
        """The same of some items."""
        inner = a_denoiser(self.denoiser.select(items), self.denoiser)
        return TowardsClass(inner, self.judge, self.scale, self.labels[list(items)])

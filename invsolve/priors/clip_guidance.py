"""CLIP guidance: a prior led to what an encoder of images and one of texts agree upon."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from invsolve.errors import CapabilityError, InputError
from invsolve.operator.measurement import column
from invsolve.priors.base import Denoiser, Prior, a_denoiser
from invsolve.priors.classifier_guidance import Climbing, Judge, called, climbed
from invsolve.priors.convert import levels
from invsolve.priors.guidance import Leading, a_scale

if TYPE_CHECKING:
    from invsolve.problem import Problem


class ClipGuided(Leading):
    """A prior led by the agreement s of an image with a target, s(u) = f(u) . g / (|f(u)| |g|), the cosine of two embeddings.

        clip="noised":  D + scale sigma^2 grad_x s(f(x, sigma))       the encoder was trained on noisy images
        clip="x0":      D + scale sigma^2 grad_x s(f(D(x, sigma)))    a clean encoder, through the network

    A call is an evaluation of the prior and one of the encoder; "noised" goes back through the encoder, "x0" through the network too,
    which the prior must let autograd do.

    Args:
        prior: D, as it is for the problem (`given`).
        encoder: f(x, sigma) for "noised", f(image) for "x0": images (B, C, H, W) in [0, 1] -> embeddings (B, d).
        target: g, (d,) for all items; None for `problem.context["target"]`, (B, d).
        scale: the published range depends on the encoder: CLIP's own cosines are multiplied by its temperature, 100.
        clip: which of the two.

    Raises:
        InputError: no denoiser, no encoder, a target that is no vector, a scale that is negative or not finite, another clip.
        CapabilityError: "x0" with a prior that autograd does not go through; when called: an encoder that it does not go through.

    References:
        GLIDE (Nichol et al., 2021), arXiv:2112.10741, section 2.4, for "noised".
        Blended Diffusion (Avrahami et al., 2022), arXiv:2111.14818, section 3.1, for "x0": there the encoder sees x0_hat blended with
            the state and eight of its crops; here x0_hat itself.
    """

    target: Tensor | None

    def __init__(
        self, prior: Denoiser, encoder: Callable[..., Tensor], target: Tensor | None = None, scale: float = 1.0, clip: str = "x0"
    ) -> None:
        super().__init__(prior)
        if not callable(encoder):
            raise InputError(f"encoder must be a network that gives embeddings (B, d); given {type(encoder).__name__}")
        if target is not None and (not isinstance(target, Tensor) or target.ndim != 1 or not target.is_floating_point()):
            raise InputError(f"target must be one embedding (d,), or None for the context's; given {target!r:.80}")
        if clip not in ("noised", "x0"):
            raise InputError(f'clip must be "noised" (an encoder of noisy images) or "x0" (of clean ones); given {clip!r:.80}')
        if clip == "x0" and not prior.differentiable:
            raise CapabilityError(f'clip="x0" goes back through the prior, and {type(prior).__name__} is not differentiable; use "noised"')
        self.judge, self.scale, self.noised = Judge(encoder), a_scale(scale), clip == "noised"
        self.register_buffer("target", target)

    def given(self, problem: Problem) -> Denoiser:
        """The prior of this problem, led to its targets."""
        inner = a_denoiser(self.denoiser.given(problem), self.denoiser)
        if self.scale == 0:
            return inner
        target = problem.context["target"] if self.target is None else self.target.expand(problem.batch, -1)
        return TowardsTarget(inner, self.judge, self.scale, target.to(problem.image), self.noised)

    def gaps(self, problem: Problem) -> list[str]:
        """Those of the prior inside, and a target that is missing or no embedding."""
        found = self.denoiser.gaps(problem)
        if self.target is not None:
            return found
        want = f'prior {type(self).__name__} needs target=, or context={{"target": embeddings (B, d)}}'
        target = problem.context.get("target")
        if target is None:
            return [*found, want + "; given neither"]
        fits = target.is_floating_point() and target.ndim == 2
        return found if fits else [*found, f"{want}; given {target.dtype} of shape {tuple(target.shape)}"]

    def unconditional(self) -> Denoiser:
        """The prior inside."""
        return self.denoiser

    def select(self, items: Sequence[int]) -> Prior:
        """The same guidance of some items' prior."""
        inner = a_denoiser(self.denoiser.select(items), self.denoiser)
        clip = "noised" if self.noised else "x0"
        return self if inner is self.denoiser else ClipGuided(inner, self.judge.net, self.target, self.scale, clip)

    @classmethod
    def examples(cls) -> list[Prior]:
        """A mixture in closed form, led by the cosine with a ramp of grey, through its estimate."""
        from invsolve.priors.gaussian import GaussianMixturePrior

        mixture = GaussianMixturePrior.examples()[0]
        assert isinstance(mixture, Denoiser)
        return [cls(mixture, nn.Flatten(), torch.linspace(0.1, 1, 16, dtype=torch.float64), 0.02)]


class TowardsTarget(Climbing):
    """Led up the cosine between the encoder's embedding and targets (B, d)."""

    targets: Tensor

    def __init__(self, denoiser: Denoiser, judge: Judge, scale: float, targets: Tensor, noised: bool) -> None:
        super().__init__(denoiser, scale)
        self.judge, self.noised, self.batch = judge, noised, len(targets)
        self.register_buffer("targets", targets)

    def value(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The cosine, (B,), of the state (noised) or of an estimate.

        Raises:
            InputError: embeddings of another shape than the targets.
        """
        found = self.judge(x, sigma) if self.noised else self.judge(x)
        if found.shape != self.targets.shape:
            raise InputError(f"the encoder must give embeddings {tuple(self.targets.shape)}, as the targets; it gave {tuple(found.shape)}")
        return nn.functional.cosine_similarity(found, self.targets.to(found), dim=1)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The estimate, led; "x0" takes it and its gradient from one call of the denoiser."""
        if self.noised:
            return super().forward(x, sigma)
        level, kept = levels(sigma, x), []

        def through(leaf: Tensor) -> Tensor:
            kept.append(self.denoiser(leaf, sigma))
            return called(self.value, kept[0], level)

        slope = climbed(x, through)
        out = kept[0] if x.requires_grad and torch.is_grad_enabled() else kept[0].detach()
        return out + self.scale * column(level, x) ** 2 * slope

    def select(self, items: Sequence[int]) -> Prior:
        """The same of some items."""
        inner = a_denoiser(self.denoiser.select(items), self.denoiser)
        return TowardsTarget(inner, self.judge, self.scale, self.targets[list(items)], self.noised)

"""Priors of codes: the image is decoder(z), and the denoiser knows the z."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import CapabilityError, InputError
from invsolve.operator import Capability, Operator
from invsolve.priors.base import Denoiser, Prior, a_denoiser
from invsolve.problem import Problem


class LatentPrior(Denoiser):
    """x = D(z) with z drawn from a diffusion prior of its own: solvers see the problem y = H(D(z)) + n and its answer is decoded.

    What a solver may use of H @ D is worked out as of any composition: a linear decoder keeps the adjoint, an isometry more; a
    network is differentiable at best. Noise levels, `clip`, `s0` and `centre` are those of the codes.

    Args:
        denoiser: D(z, sigma) on codes (B, *decoder.in_shape), with or without data per item.
        decoder: an Operator from codes to images; `Operator.from_function(net, shape, linear=False)` makes one of a network. It too may
            hold data per item.
        encode: images to codes, for methods that go back and forth; None for the decoder's pseudoinverse, where it has one.

    Raises:
        InputError: no denoiser or no decoder, a denoiser of other codes than the decoder takes, or of another number of items.

    References:
        High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), arXiv:2112.10752, section 3.
    """

    def __init__(self, denoiser: Denoiser, decoder: Operator, encode: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        for value, kind in ((denoiser, Denoiser), (decoder, Operator)):
            if not isinstance(value, kind):
                raise InputError(f"expected {kind.__name__}, given {type(value).__name__}; the order is LatentPrior(denoiser, decoder)")
        if denoiser.in_shape not in (None, decoder.in_shape):
            raise InputError(f"the denoiser takes codes of shape {denoiser.in_shape}, the decoder {decoder.in_shape}")
        if None not in (denoiser.batch, decoder.batch) and denoiser.batch != decoder.batch:
            raise InputError(f"the denoiser holds data for {denoiser.batch} items, the decoder for {decoder.batch}")
        self.denoiser, self.decoder, self.given_encoder = denoiser, decoder, encode
        self.take_after(denoiser)
        self.in_shape = decoder.in_shape
        self.batch = denoiser.batch if decoder.batch is None else decoder.batch

    @property
    def encode(self) -> Callable[[Tensor], Tensor] | None:
        """E: images to codes; None where there is none."""
        if self.given_encoder is None and self.decoder.has(Capability.PINV):
            return self.decoder.pinv
        return self.given_encoder

    @torch.no_grad()
    def ceiling(self, x: Tensor) -> Tensor:
        """D(E(x)): what is left of images x (B, *image_shape) when they are made codes and back; no restoration can be much nearer to x.

        Raises:
            CapabilityError: there is no encoder.
            InputError: images of another size.
        """
        if self.encode is None:
            raise CapabilityError("this prior has no encoder: LatentPrior(denoiser, decoder, encode=...)")
        if tuple(x.shape[1:]) != tuple(self.decoder.out_shape):
            raise InputError(f"the decoder gives images of shape {self.decoder.out_shape}, x has {tuple(x.shape[1:])}")
        made = self.decoder(self.encode(x))
        assert isinstance(made, Tensor)
        return made

    def space(self, problem: Problem) -> tuple[Problem, Callable[[Tensor], Tensor]]:
        """(the problem of the code, the decoder)."""
        shape = problem.operator.in_shape
        if self.decoder.out_shape != shape:
            raise InputError(f"the decoder gives images of shape {self.decoder.out_shape}, the operator takes {shape}")
        if self.decoder.batch not in (None, problem.batch):
            raise InputError(f"the decoder holds data for {self.decoder.batch} items, the problem has {problem.batch}; prior[i] takes some")
        return problem.through(self.decoder), self.decoder

    def given(self, problem: Problem) -> Denoiser:
        """The same decoder on the denoiser of this problem's codes; a solver that asks for one finds `decoder` and `encode` there."""
        return self._with(self.denoiser.given(problem), self.decoder)

    def unconditional(self) -> Denoiser:
        """The same decoder on the denoiser without its condition."""
        return self._with(self.denoiser.unconditional(), self.decoder)

    def select(self, items: Sequence[int]) -> Prior:
        """The denoiser and the decoder of some items, each where it holds data per item."""
        decoder = self.decoder if self.decoder.batch is None else self.decoder.select(items)  # pyright: ignore[reportArgumentType]
        return self._with(self.denoiser.select(items), decoder)

    def _with(self, denoiser: Prior, decoder: Operator) -> Denoiser:
        inner = a_denoiser(denoiser, self.denoiser)
        return self if inner is self.denoiser and decoder is self.decoder else LatentPrior(inner, decoder, self.given_encoder)

    def gaps(self, problem: Problem) -> list[str]:
        """The denoiser's own."""
        return self.denoiser.gaps(problem)

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """What the decoder gives."""
        return self.decoder.out_shape  # pyright: ignore[reportReturnType]

    def example_context(self, batch: int) -> dict[str, Tensor]:
        """The denoiser's own."""
        return self.denoiser.example_context(batch)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The estimate of the code."""
        return self.denoiser(x, sigma)

    def sigmas(self, steps: int, grid: str = "karras", sigma_max: float | None = None) -> list[float]:
        """The denoiser's own grid."""
        return self.denoiser.sigmas(steps, grid, sigma_max)

    @classmethod
    def examples(cls) -> list[Prior]:
        """Codes of half the pixels, pairs of neighbours in a row, decoded by a fixed matrix with orthogonal columns."""
        from invsolve.priors.gaussian import GaussianPrior

        pairs: Any = torch.eye(8, dtype=torch.float64).repeat_interleave(2, 0) / 2**0.5
        return [cls(GaussianPrior(0.0, 0.7), Operator.from_matrix(pairs, (1, 4, 2), (1, 4, 4)))]

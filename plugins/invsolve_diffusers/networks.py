"""Networks of diffusers as the plain maps that priors are made of: net(x_t, t, condition), and codes to images and back.

latent = mode of vae.encode(2 image - 1),   z = scaling (latent - shift),   image = (vae.decode(z / scaling + shift) + 1) / 2
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from invsolve.operator import Capability, Operator


def own_type(module: nn.Module) -> torch.dtype:
    """The type of a module's parameters."""
    return next((one.dtype for one in module.parameters() if one.is_floating_point()), torch.float32)


class TextUNet(nn.Module):
    """A UNet2DConditionModel: net(x_t, t, text), of XL with the pooled text and six numbers about the size.

    Args:
        net: the network.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor, text: Tensor, pooled: Tensor | None = None, sizes: Tensor | None = None) -> Tensor:
        """What the network predicts; text (B, L, D), pooled (B, P), sizes (B, 6): height, width, top, left, target height and width."""
        beside = None if pooled is None else {"text_embeds": pooled, "time_ids": sizes}
        return self.net(x, t, encoder_hidden_states=text, added_cond_kwargs=beside).sample


class TextTransformer(nn.Module):
    """An SD3Transformer2DModel, which counts s = 1 - t and predicts n - x0, as a network of velocity x0 - n at t (see `Flow`).

    Args:
        net: the network.
        steps: what s is multiplied by in its call.
    """

    def __init__(self, net: nn.Module, steps: int = 1000) -> None:
        super().__init__()
        self.net, self.steps = net, steps

    def forward(self, x: Tensor, t: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
        """x0 - n."""
        return -self.net(hidden_states=x, timestep=self.steps * (1 - t), encoder_hidden_states=text, pooled_projections=pooled).sample


class PlainUNet(nn.Module):
    """A UNet2DModel, which is told nothing but what stands beside x_t in its channels.

    Args:
        net: the network.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """What the network predicts."""
        return self.net(x, t).sample


class Decoder(Operator):
    """Codes to images in [0, 1], (B, c, h, w) -> (B, C, f h, f w); differentiable, in the autoencoder's own type inside.

    Where the autoencoder is a VQ one, codes are moved to the nearest entries of its book, and the gradient goes straight through.

    Args:
        vae: an AutoencoderKL or a VQModel.
        in_shape: of a code, (c, h, w).
        out_shape: of an image, (C, H, W).
        scaling, shift: see the module.
    """

    traits: ClassVar[frozenset[Capability]] = frozenset({Capability.DIFFERENTIABLE})

    def __init__(self, vae: nn.Module, in_shape: Sequence[int], out_shape: Sequence[int], scaling: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.vae, self.scaling, self.shift = vae.eval().requires_grad_(False), float(scaling), float(shift)
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        if hasattr(vae, "quantize"):
            self.surrogate = "that of the decoder at the nearest entries of its book, taken straight through to the code"

    def forward(self, x: Tensor) -> Tensor:
        """The images; not clipped."""
        decode: Any = self.vae.decode
        latent = (x / self.scaling + self.shift).to(own_type(self.vae))
        # the size of H @ D is found by a second derivative, which the fused kernels of attention lack
        with sdpa_kernel(SDPBackend.MATH) if x.requires_grad else nullcontext():
            return (decode(latent).sample / 2 + 0.5).to(x.dtype)


class Encoder(nn.Module):
    """Images in [0, 1] to codes, (B, C, f h, f w) -> (B, c, h, w): the mode of the autoencoder's posterior, which draws nothing.

    Args:
        vae, scaling, shift: those of the Decoder.
    """

    def __init__(self, vae: nn.Module, scaling: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.vae, self.scaling, self.shift = vae, float(scaling), float(shift)

    def forward(self, image: Tensor) -> Tensor:
        """The codes, in the image's dtype."""
        encode: Any = self.vae.encode
        made = encode((2 * image - 1).to(own_type(self.vae)))
        latent = made.latent_dist.mode() if hasattr(made, "latent_dist") else made.latents
        return (self.scaling * (latent - self.shift)).to(image.dtype)

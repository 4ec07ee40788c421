"""CLIP models of transformers: a prior led to a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.errors import CapabilityError, InputError
from invsolve.priors import ClipGuided, Denoiser

NEEDS = "a CLIP model needs transformers: pip install transformers"


def clip_text(prior: Denoiser, folder: str | Path, text: str, scale: float = 100.0) -> ClipGuided:
    """A prior led to a text by a CLIP model on this machine, through its clean estimate: `ClipGuided(..., clip="x0")`.

    Args:
        prior: of images with 3 channels.
        folder: config, weights and tokenizer, as `save_pretrained` of CLIPModel and of its tokenizer write them; nothing is fetched.
        text: what the image is to show.
        scale: 100 is CLIP's own temperature.

    Raises:
        CapabilityError: transformers is not installed, or the prior is not differentiable.
        InputError: no such folder, no CLIP model in it, no text.

    References:
        Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021), arXiv:2103.00020.
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"text must say what the image is to show; given {text!r:.80}")
    if not Path(folder).is_dir():
        raise InputError(f"folder must hold a CLIP model of transformers; there is none at {str(folder)!r:.200}")
    try:
        from transformers import AutoTokenizer, CLIPModel  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise CapabilityError(NEEDS) from None
    try:
        model: Any = CLIPModel.from_pretrained(str(folder), local_files_only=True)
        words: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)([text], return_tensors="pt", truncation=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{str(folder)!r:.200} holds no CLIP model with its tokenizer: {error!s:.200}") from error
    with torch.no_grad():
        target = embedding(model.get_text_features(**words))[0]
    return ClipGuided(prior, ClipImages(model), target, scale, "x0")


class ClipImages(nn.Module):
    """The image encoder of a CLIP model of transformers, for images (B, 3, H, W) in [0, 1] of any size.

    Args:
        model: a CLIPModel; put into evaluation mode and frozen by `ClipGuided`.
    """

    # The mean and the standard deviation of the pixels that CLIP was trained on.
    MEAN = (0.48145466, 0.4578275, 0.40821073)
    STD = (0.26862954, 0.26130258, 0.27577711)

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.side = model, int(model.config.vision_config.image_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, d): bicubic to the model's size, then its own normalisation.

        Raises:
            InputError: images of other than 3 channels.
        """
        if x.shape[1] != 3:
            raise InputError(f"CLIP looks at images of 3 channels; given {x.shape[1]}")
        x = nn.functional.interpolate(x, (self.side, self.side), mode="bicubic", antialias=True)
        mean, std = (x.new_tensor(values).reshape(1, 3, 1, 1) for values in (self.MEAN, self.STD))
        return embedding(self.model.get_image_features(pixel_values=(x - mean) / std))


def embedding(found: Any) -> Tensor:
    """The tensor itself, or the one in what later versions of transformers give around it."""
    return found if isinstance(found, Tensor) else found.pooler_output

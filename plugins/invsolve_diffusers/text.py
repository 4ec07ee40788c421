"""Words for networks: a prompt through a pipeline's own text encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve_diffusers.folder import Opened
from invsolve_diffusers.told import Words

Prompt = str | Sequence[str]


def checked_prompt(prompt: Any, negative: Any) -> list[str]:
    """The prompt as a list.

    Raises:
        InputError: neither a text nor a list of texts; a negative prompt that is no text.
    """
    texts = [prompt] if isinstance(prompt, str) else list(prompt) if isinstance(prompt, list | tuple) else []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f"prompt must be a text, or a list with a text for each item; given {prompt!r:.100}")
    if negative is not None and not isinstance(negative, str):
        raise InputError(f"negative must be a text or None; given {negative!r:.100}")
    return texts


@torch.no_grad()
def words_of(found: Opened, prompt: Prompt, negative: str | None, size: tuple[int, int]) -> tuple[Words, Words] | None:
    """(what the prompt says, what the negative prompt says); None for networks that take no text.

    Args:
        found: the pipeline.
        prompt: one for all items, or a list with one for each.
        negative: what guidance leads away from. None: the empty text, but zeros where a pipeline of XL says
            `force_zeros_for_empty_prompt`, as diffusers does.
        size: of the images, which XL's networks are told.

    Raises:
        InputError: a prompt for a network that takes none, or what is no text.
    """
    texts = checked_prompt(prompt, negative)
    if found.family == "ldm":
        if any(texts) or negative:
            raise InputError("this network takes no text: leave prompt, negative and scale out")
        return None
    options: dict[str, Any] = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": True}
    options["negative_prompt"] = None if negative is None else [negative] * len(texts)
    if found.family == "sd3":
        options |= {"prompt_2": None, "prompt_3": None}
    made = found.pipe.encode_prompt(prompt=texts, **options)
    rows: list[dict[str, Tensor]] = [{"text": made[0]}, {"text": made[1]}]
    if found.family != "text":
        rows = [{**one, "pooled": pooled} for one, pooled in zip(rows, made[2:4], strict=True)]
    if found.family == "xl":
        told = torch.tensor([[*size, 0, 0, *size]], dtype=torch.float32)
        rows = [{**one, "sizes": told.expand(len(texts), 6)} for one in rows]
    says, without = rows
    return Words(says, each=not isinstance(prompt, str)), Words({name: value[:1] for name, value in without.items()})

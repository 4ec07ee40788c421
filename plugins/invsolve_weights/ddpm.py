"""The first DDPM networks in PyTorch ("pytorch-diffusion"), as diffusers' UNet2DModel: sizes from shapes, tensors under new names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from invsolve.errors import InputError

PLAIN = (
    (r"^temb\.dense\.0\.", "time_embedding.linear_1."),
    (r"^temb\.dense\.1\.", "time_embedding.linear_2."),
    (r"^norm_out\.", "conv_norm_out."),
    (r"^mid\.block_1\.", "mid_block.resnets.0."),
    (r"^mid\.block_2\.", "mid_block.resnets.1."),
    (r"^mid\.attn_1\.", "mid_block.attentions.0."),
    (r"^down\.(\d+)\.block\.", r"down_blocks.\1.resnets."),
    (r"^down\.(\d+)\.attn\.", r"down_blocks.\1.attentions."),
    (r"^down\.(\d+)\.downsample\.", r"down_blocks.\1.downsamplers.0."),
    (r"\.temb_proj\.", ".time_emb_proj."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
)
UP = {"block": "resnets", "attn": "attentions", "upsample": "upsamplers.0"}
ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def levels_of(keys: Mapping[str, Any]) -> int:
    """Number of scales."""
    return 1 + max(int(key.split(".")[1]) for key in keys if key.startswith("down."))


def is_ddpm(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether these are the keys of such a network."""
    return "temb.dense.0.weight" in shapes and "down.0.block.0.norm1.weight" in shapes


def config_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """What UNet2DModel is made with for these shapes.

    Raises:
        InputError: a network without convolutions between its scales, which UNet2DModel does not have.
    """
    count = levels_of(shapes)
    if count > 1 and "down.0.downsample.conv.weight" not in shapes:
        raise InputError("recognised as DDPM (pytorch-diffusion), but without convolutions between its scales; no class here has that")
    attended = [f"down.{level}.attn.0.q.weight" in shapes for level in range(count)]
    return {
        "in_channels": shapes["conv_in.weight"][1],
        "out_channels": shapes["conv_out.weight"][0],
        "layers_per_block": len({key.split(".")[3] for key in shapes if key.startswith("down.0.block.")}),
        "block_out_channels": tuple(shapes[f"down.{level}.block.0.conv1.weight"][0] for level in range(count)),
        "down_block_types": tuple("AttnDownBlock2D" if one else "DownBlock2D" for one in attended),
        "up_block_types": tuple("AttnUpBlock2D" if one else "UpBlock2D" for one in reversed(attended)),
        "attention_head_dim": None,  # one head
        "downsample_padding": 0,  # at the right and the bottom only
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "norm_eps": 1e-6,
        "add_attention": "mid.attn_1.q.weight" in shapes,
    }


def build(shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    """The network of these shapes.

    Raises:
        InputError: diffusers is not installed; see `config_of`.
    """
    try:
        import diffusers  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("recognised as DDPM (pytorch-diffusion), which needs diffusers: pip install 'invsolve[diffusers]'") from error
    model: Any = getattr(diffusers, "UNet2DModel")  # noqa: B009 (a lazy module, whose names type checkers do not see)
    return model(**config_of(shapes))


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under UNet2DModel's names; the attention's 1 x 1 convolutions become matrices, the order of the way up is turned."""
    count, made = levels_of(state), {}
    for key, value in state.items():
        name = key
        if found := re.match(r"up\.(\d+)\.(block|attn|upsample)\.(.*)", key):
            name = f"up_blocks.{count - 1 - int(found[1])}.{UP[found[2]]}.{found[3]}"
        for pattern, new in PLAIN:
            name = re.sub(pattern, new, name)
        if found := re.match(r"(.*attentions\.\d+)\.(\w+)\.(weight|bias)$", name):
            name = f"{found[1]}.{ATTENTION.get(found[2], found[2])}.{found[3]}"
            value = value[:, :, 0, 0] if value.ndim == 4 else value
        made[name] = value
    return made

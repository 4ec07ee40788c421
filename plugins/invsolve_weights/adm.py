"""guided-diffusion's UNet at the sizes a file has: deepinv's DiffUNet, whose own constructor knows two of them.

The parts (ResBlock, AttentionBlock, ...) and the forward pass are deepinv's; only their number and width are read from the shapes.
"""

from __future__ import annotations

from typing import Any

from deepinv.models import diffunet
from torch import Tensor, nn

from invsolve.errors import InputError

Shapes = dict[str, tuple[int, ...]]


class ADM(diffunet.DiffUNet):
    """A DiffUNet by the shapes of its state_dict; net(x_t, t) gives (B, out_channels, H, W).

    Args:
        shapes: key -> shape, in the names of guided-diffusion.
        head_channels: channels per attention head (64 in every published ADM); not in the shapes.
        heads: number of heads instead (4 in improved-diffusion).
        new_order: whether q, k and v are split before the heads; not in the shapes either.

    Raises:
        InputError: blocks that are none of DiffUNet's.

    References:
        Diffusion Models Beat GANs on Image Synthesis (Dhariwal, Nichol, 2021), arXiv:2105.05233.
    """

    def __init__(self, shapes: Shapes, *, head_channels: int = 64, heads: int | None = None, new_order: bool = False) -> None:
        nn.Module.__init__(self)
        self.dtype_name, self.num_classes = "float32", None
        self.in_channels, self.out_channels = shapes["input_blocks.0.0.weight"][1], shapes["out.2.weight"][0]
        width, self.model_channels = shapes["time_embed.0.weight"]
        self.time_embed = nn.Sequential(nn.Linear(self.model_channels, width), nn.SiLU(), nn.Linear(width, width))
        self._choices: dict[str, Any] = {"head_channels": head_channels, "heads": heads, "new_order": new_order, "width": width}
        inputs, outputs = blocks(shapes, "input_blocks"), blocks(shapes, "output_blocks")
        # A block that halves by pooling inside a ResBlock has no weight that shows it: it stands across the one that doubles.
        rising = [len(parts) > 1 and parts[-1][0] != "attention" for parts in outputs]
        falling = {len(outputs) - 1 - index for index, up in enumerate(rising) if up}
        self.input_blocks = nn.ModuleList([self.sequence(parts, down=index in falling) for index, parts in enumerate(inputs)])
        self.middle_block = self.sequence(parts_of(shapes, "middle_block"))
        self.output_blocks = nn.ModuleList([self.sequence(parts, up=up) for parts, up in zip(outputs, rising, strict=True)])
        self.multiple = 2 ** sum(rising)
        last = shapes["out.2.weight"]
        self.out = nn.Sequential(diffunet.normalization(last[1]), nn.SiLU(), nn.Conv2d(last[1], last[0], 3, padding=1))

    @property
    def dtype(self) -> Any:
        """The type DiffUNet computes in: that of the weights."""
        return self.time_embed[0].weight.dtype

    def sequence(self, parts: list[tuple[str, tuple[int, int], bool]], *, up: bool = False, down: bool = False) -> nn.Module:
        """One entry of input_blocks, middle_block or output_blocks; `up` and `down` are for its last ResBlock."""
        made: list[nn.Module] = []
        for index, (kind, (inside, out), shift) in enumerate(parts):
            last = index == len(parts) - 1
            if kind == "convolution":
                made.append(nn.Conv2d(inside, out, 3, padding=1))
            elif kind == "attention":
                choices = self._choices
                count = choices["heads"] or inside // choices["head_channels"]
                if count < 1 or inside % count:
                    raise InputError(f"attention: {inside} channels do not divide into heads of {choices}; give head_channels or heads")
                made.append(diffunet.AttentionBlock(inside, count, use_new_attention_order=choices["new_order"]))
            elif kind == "residual":
                sizes = {"up": up and last, "down": down and last}
                made.append(diffunet.ResBlock(inside, self._choices["width"], 0.0, out, use_scale_shift_norm=shift, **sizes))
            elif kind == "up":
                made.append(diffunet.Upsample(inside, True, out_channels=out))
            else:
                made.append(diffunet.Downsample(inside, True, out_channels=out))
        return diffunet.TimestepEmbedSequential(*made)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The network alone, without deepinv's padding and conversion."""
        return self.forward_diffusion(x, t)


def blocks(shapes: Shapes, name: str) -> list[list[tuple[str, tuple[int, int], bool]]]:
    """The parts of every entry of input_blocks or output_blocks."""
    count = 1 + max((int(key.split(".")[1]) for key in shapes if key.startswith(name + ".") and key.split(".")[1].isdigit()), default=-1)
    if not 1 <= count <= 256:
        raise InputError(f"{name}: {count} entries")
    return [parts_of(shapes, f"{name}.{index}") for index in range(count)]


def parts_of(shapes: Shapes, prefix: str) -> list[tuple[str, tuple[int, int], bool]]:
    """(kind, (in, out), scale and shift) of each part below a prefix.

    Raises:
        InputError: a part that is none of DiffUNet's.
    """
    found = []
    for index in range(8):
        at = f"{prefix}.{index}."
        if not any(key.startswith(at) for key in shapes):
            break
        first, embedding = shapes.get(at + "in_layers.2.weight"), shapes.get(at + "emb_layers.1.weight")
        qkv, plain = shapes.get(at + "qkv.weight"), shapes.get(at + "weight")
        down, up = shapes.get(at + "op.weight"), shapes.get(at + "conv.weight")
        if first is not None and embedding is not None:
            found.append(("residual", (first[1], first[0]), embedding[0] == 2 * first[0]))
        elif qkv is not None:
            found.append(("attention", (qkv[1], qkv[1]), False))
        elif (which := next(((k, s) for k, s in (("convolution", plain), ("down", down), ("up", up)) if s), None)) is not None:
            found.append((which[0], (which[1][1], which[1][0]), False))
        else:
            raise InputError(f"{at}: neither a residual block, attention, nor a convolution of guided-diffusion")
    if not found:
        raise InputError(f"{prefix}: no such block in the file")
    return found

"""Tiny pipelines of every family that is read, made at random with diffusers' own classes: for checks, tests and a first look.

    folder = tiny("text", Path("tiny-sd"));   prior = load_prior(f"diffusers:{folder}", prompt="a cat", scale=3.0)

Images of 16 x 16, codes of 8 x 8, some thousand weights.
"""

from __future__ import annotations

import inspect
import json
import tempfile
from functools import cache, partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from invsolve.errors import InputError
from invsolve.training.generators import NetworkDraws

KINDS = ("text", "inpaint", "xl", "xl-inpaint", "sd3", "unconditional", "super-resolution")
LENGTH, WIDTH = 8, 8  # of a text in tokens, of a token's vector
# Stable Diffusion's own.
BETAS = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}


def installed() -> bool:
    """Whether both libraries are there, by what pip installed: a folder of one's own may have such a name. Imports nothing."""
    try:
        return bool(version("diffusers") and version("transformers"))
    except PackageNotFoundError:
        return False


@cache
def holder() -> tempfile.TemporaryDirectory[str]:
    """A folder that goes when the process ends."""
    return tempfile.TemporaryDirectory(prefix="invsolve-diffusers-")


@cache
def kept(kind: str) -> Path:
    """A tiny pipeline of this process."""
    return tiny(kind, Path(holder().name) / kind)


def tiny(
    kind: str, folder: Path, *, scheduler: str = "DDIMScheduler", prediction: str = "epsilon", channels: int = 9, seed: int = 0
) -> Path:
    """Write a tiny pipeline and return its folder.

    Args:
        kind: one of KINDS.
        folder: where to.
        scheduler: a class of diffusers, with Stable Diffusion's betas; not looked at for "sd3".
        prediction: "epsilon", "v_prediction" or "sample".
        channels: of the network of "inpaint": 9, or 4 for one that sees nothing.
        seed: of the weights.

    Raises:
        InputError: no such kind, or diffusers is not installed.
    """
    from invsolve_diffusers.folder import library, quiet

    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}; given {kind!r}")
    diffusers = library()
    steps: Any = getattr(diffusers, scheduler)
    takes = inspect.signature(steps.__init__).parameters
    betas = {name: value for name, value in BETAS.items() if name in takes}
    with NetworkDraws(torch.device("cpu"), seed).drawing(), quiet():
        made = {"text": text, "inpaint": partial(text, channels=channels), "xl": xl, "xl-inpaint": xl, "sd3": sd3}.get(kind, plain)
        pipe = made(diffusers, kind, steps(prediction_type=prediction, **betas))
        pipe.save_pretrained(str(folder))
    return folder


def autoencoder(diffusers: Any, **options: Any) -> Any:
    """An AutoencoderKL of factor 2 whose posterior has next to no spread, so that its draws are its mode."""
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        **{"scaling_factor": 0.18215, **options},
    )
    last = vae.encoder.conv_out if vae.quant_conv is None else vae.quant_conv
    with torch.no_grad():
        last.weight[4:] = 0
        last.bias[4:] = -30  # log of the variance: as low as diffusers lets it be
    return vae


def unet(diffusers: Any, channels: int, **options: Any) -> Any:
    """A UNet2DConditionModel of two levels."""
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
        **{"cross_attention_dim": WIDTH, **options},
    )


def tokenizer() -> Any:
    """CLIP's, of single letters."""
    make: Any = import_module("transformers").CLIPTokenizer
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, merges = Path(folder) / "vocab.json", Path(folder) / "merges.txt"
        vocabulary.write_text(json.dumps({word: index for index, word in enumerate(words)}), encoding="utf-8")
        merges.write_text("#version: 0.2\n", encoding="utf-8")
        return make(str(vocabulary), str(merges), model_max_length=LENGTH)


def reader(projected: bool = False, width: int = WIDTH) -> Any:
    """A CLIP text encoder of two layers, with or without the projection of its last token."""
    transformers: Any = import_module("transformers")
    cls: Any = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    sizes = {"hidden_size": width, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "vocab_size": 54}
    config = transformers.CLIPTextConfig(
        **sizes, max_position_embeddings=LENGTH, projection_dim=width, bos_token_id=0, eos_token_id=1, pad_token_id=1
    )
    return cls(config)


def text(diffusers: Any, kind: str, scheduler: Any, channels: int = 4) -> Any:
    """Stable Diffusion 1 and 2; with 9 channels the inpainting network."""
    cls = diffusers.StableDiffusionInpaintPipeline if kind == "inpaint" else diffusers.StableDiffusionPipeline
    return cls(
        vae=autoencoder(diffusers),
        text_encoder=reader(),
        tokenizer=tokenizer(),
        unet=unet(diffusers, channels),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def xl(diffusers: Any, kind: str, scheduler: Any) -> Any:
    """Stable Diffusion XL: two text encoders, the second one's pooled text, six sizes; with 9 channels its inpainting network."""
    inpaints = kind == "xl-inpaint"
    cls = diffusers.StableDiffusionXLInpaintPipeline if inpaints else diffusers.StableDiffusionXLPipeline
    told = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": 6 * 4 + WIDTH}
    return cls(
        vae=autoencoder(diffusers, scaling_factor=0.13025),
        text_encoder=reader(),
        text_encoder_2=reader(projected=True),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=unet(diffusers, 9 if inpaints else 4, cross_attention_dim=2 * WIDTH, **told),
        scheduler=scheduler,
        add_watermarker=False,
    )


def sd3(diffusers: Any, kind: str, scheduler: Any) -> Any:
    """Stable Diffusion 3 without its third text encoder, whose place zeros take."""
    del kind, scheduler
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=4 * WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=2 * WIDTH,
    )
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(diffusers, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=reader(projected=True),
        tokenizer=tokenizer(),
        text_encoder_2=reader(projected=True),
        tokenizer_2=tokenizer(),
        text_encoder_3=None,
        tokenizer_3=None,
    )


def plain(diffusers: Any, kind: str, scheduler: Any) -> Any:
    """Latent diffusion without a text: unconditional, or told the small picture."""
    enlarges = kind == "super-resolution"
    vqvae = diffusers.VQModel(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=3,
        num_vq_embeddings=32,
        norm_num_groups=4,
        sample_size=16,
    )
    nn.init.normal_(vqvae.quantize.embedding.weight)  # entries as far apart as codes are, so that another scale finds another one
    net = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=6 if enlarges else 3,
        out_channels=3,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=4,
    )
    cls = diffusers.LDMSuperResolutionPipeline if enlarges else diffusers.LDMPipeline
    return cls(vqvae=vqvae, unet=net, scheduler=scheduler)

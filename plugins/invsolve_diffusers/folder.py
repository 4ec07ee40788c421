"""Folders that diffusers wrote: read, checked and loaded, nothing run from them; which family a pipeline is of, and its noise schedule."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from invsolve_weights.conventions import STEPS_LIMIT
from invsolve_weights.folders import KINDS, LAWS, USUAL
from invsolve_weights.tables import is_count, is_number, read_table
from torch import nn

from invsolve.errors import InputError
from invsolve.schedule import DiscreteVP, Flow, Schedule
from invsolve.training.generators import NetworkDraws
from invsolve_diffusers.address import INDEX, components

# By the class in model_index.json: what the network is told.
FAMILIES = {
    "StableDiffusionPipeline": "text",
    "StableDiffusionImg2ImgPipeline": "text",
    "StableDiffusionInpaintPipeline": "text",
    "StableDiffusionXLPipeline": "xl",
    "StableDiffusionXLInpaintPipeline": "xl",
    "StableDiffusion3Pipeline": "sd3",
    "LDMPipeline": "ldm",
    "LDMSuperResolutionPipeline": "ldm",
}
LIBRARIES = ("diffusers", "transformers")
# What a pipeline may go without: a filter of answers and what serves it, the third text encoder of Stable Diffusion 3.
OPTIONAL = ("safety_checker", "feature_extractor", "image_encoder", "text_encoder_3", "tokenizer_3")
SCHEDULERS = ("DDIM", "DDPM", "PNDM", "LMSDiscrete", "Euler", "Heun", "DPMSolver", "KDPM2", "UniPC", "DEIS", "FlowMatch")


@dataclass(frozen=True)
class Opened:
    """A pipeline that was loaded: diffusers' own object, its family, what its network predicts and the schedule it was trained on."""

    pipe: Any
    family: str
    kind: str
    schedule: Schedule

    @property
    def net(self) -> Any:
        """The network that predicts: pipe.transformer or pipe.unet."""
        return self.pipe.transformer if self.family == "sd3" else self.pipe.unet

    @property
    def vae(self) -> Any:
        """The autoencoder: pipe.vae or pipe.vqvae."""
        return self.pipe.vqvae if self.family == "ldm" else self.pipe.vae

    @property
    def code_channels(self) -> int:
        """Channels of a code."""
        return int(self.vae.config.latent_channels)

    @property
    def factor(self) -> int:
        """f: pixels of an image a pixel of its code, on a side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def scaling(self) -> float:
        """What latents are multiplied by to be codes; LDM's super-resolution decodes its codes as they are, whatever its settings say."""
        return 1.0 if self.family == "ldm" and self.seen_channels else float(self.vae.config.scaling_factor)

    @property
    def seen_channels(self) -> int:
        """Channels of the network's input beside the code."""
        return int(self.net.config.in_channels) - self.code_channels

    def size(self, given: tuple[int, int] | None) -> tuple[int, int]:
        """(height, width) of images: those given, else what the network was trained at.

        Raises:
            InputError: not two numbers, multiples of what the network divides them by.
        """
        own = self.net.config.sample_size
        rows, columns = (own, own) if isinstance(own, int) else tuple(own or (64, 64))
        size = (rows * self.factor, columns * self.factor) if given is None else given
        unit = self.factor * (int(self.net.config.patch_size) if self.family == "sd3" else 1)
        if not isinstance(size, tuple | list) or len(size) != 2 or not all(is_count(side, unit, 1 << 15) for side in size):
            raise InputError(f"size must be (height, width), whole numbers from {unit} on; given {size!r:.80}")
        if any(side % unit for side in size):
            raise InputError(f"size must be multiples of {unit}, since a code has {self.factor} pixels of the image a side; given {size}")
        return int(size[0]), int(size[1])


def checked_index(folder: Path) -> tuple[str, dict[str, Any]]:
    """(class, model_index.json) of a folder whose parts are of diffusers and transformers alone: code of a stranger is not run.

    Raises:
        InputError: no such file, a class that is not read, a part of another library.
    """
    if not (folder / INDEX).is_file():
        raise InputError(f"{folder}: no {INDEX} in it, so it is not the folder of a pipeline")
    index = read_table(folder / INDEX)
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in FAMILIES:
        raise InputError(f"{folder}: pipeline {name!r:.80}; read are {', '.join(FAMILIES)}, and folders of a UNet2DModel")
    for part in components(index):
        if not part.isidentifier():
            raise InputError(f"{folder}: {part!r:.80} is no name of a part")
        if index[part][0] not in LIBRARIES:
            raise InputError(f"{folder}: {part} is of the library {index[part][0]!r:.80}; parts of {' and '.join(LIBRARIES)} are read")
    return name, index


def opened(folder: Path) -> Opened:
    """The pipeline of a folder, in float32 on the CPU, and what it says of itself; the safety checker, a filter of answers, is left out.

    Raises:
        InputError: see `checked_index` and `schedule_of`; diffusers or transformers missing; files that cannot be loaded.
    """
    name, index = checked_index(folder)
    said = schedule_of(read_table(folder / "scheduler" / "scheduler_config.json"), folder)
    cls: Any = getattr(library(), name)
    for part in components(index):
        if part not in OPTIONAL and not (folder / part).is_dir():
            raise InputError(f"{folder}: {INDEX} names {part}, and there is no folder {part} in it; the copy is not whole")
    takes = inspect.signature(cls.__init__).parameters
    without: dict[str, Any] = {part: None for part in OPTIONAL if part in takes and not (folder / part).is_dir()}
    without |= {part: None for part in OPTIONAL[:3] if part in takes}
    if "requires_safety_checker" in takes:
        without["requires_safety_checker"] = False
    try:
        # parts are made at random before they are filled
        with NetworkDraws(torch.device("cpu"), 0).drawing(), torch.inference_mode(False), quiet():
            pipe = cls.from_pretrained(str(folder), local_files_only=True, **without)
    except Exception as error:  # of diffusers, of transformers, of torch: a part is missing, of other sizes, damaged
        raise InputError(f"{folder}: {name} cannot be loaded ({type(error).__name__}: {error!s:.300})") from error
    cast(pipe, torch.float32)
    found = Opened(pipe, FAMILIES[name], *said)
    refuse_unread(found, folder)
    return found


def cast(pipe: Any, dtype: torch.dtype) -> None:
    """Bring the networks of a pipeline to a type, frozen and in evaluation mode."""
    with quiet(), torch.inference_mode(False):
        for part in pipe.components.values():
            if isinstance(part, nn.Module):
                part.to(dtype).eval().requires_grad_(False)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and the advice of both libraries, which are as they were afterwards."""
    loggings = [import_module(f"{name}.utils.logging") for name in LIBRARIES]
    held = [(one, one.is_progress_bar_enabled(), one.get_verbosity()) for one in loggings]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            for one in loggings:
                one.disable_progress_bar()
                one.set_verbosity_error()
            yield
    finally:
        for one, bars, level in held:
            one.set_verbosity(level)
            if bars:
                one.enable_progress_bar()


def library() -> Any:
    """diffusers, with transformers beside it.

    Raises:
        InputError: one of them is not installed.
    """
    try:
        import_module("transformers")
        return import_module("diffusers")
    except ImportError as error:
        raise InputError(f"published models need diffusers and transformers: pip install 'invsolve[diffusers]' ({error})") from error


def versions() -> dict[str, str]:
    """Those of the two libraries."""
    return {name: version(name) for name in LIBRARIES}


def refuse_unread(found: Opened, folder: Path) -> None:
    """Raise InputError for networks whose call is another one: they would give pictures, and wrong ones."""
    config, vae = found.net.config, found.vae.config
    seen, codes = found.seen_channels, found.code_channels
    allowed = {"ldm": (0, codes), "sd3": (0,)}.get(found.family, (0, codes + 1))
    if seen not in allowed:
        raise InputError(
            f"{folder}: a network of {config.in_channels} channels for codes of {codes}; read are {[codes + n for n in allowed]}"
        )
    if getattr(config, "time_cond_proj_dim", None) is not None:
        raise InputError(f"{folder}: a distilled network that is told its scale (time_cond_proj_dim); take the one it was distilled from")
    if getattr(config, "num_class_embeds", None) is not None or getattr(config, "class_embed_type", None) is not None:
        raise InputError(f"{folder}: a network that is told a class (num_class_embeds, class_embed_type); no class can be told to it here")
    if getattr(vae, "latents_mean", None) is not None and getattr(vae, "latents_std", None) is not None:
        raise InputError(f"{folder}: an autoencoder with a mean and a spread of each channel (latents_mean, latents_std) is not read")
    if found.family == "xl":
        told = 6 * config.addition_time_embed_dim + found.pipe.text_encoder_2.config.projection_dim
        wanted = found.net.add_embedding.linear_1.in_features
        if told != wanted:
            raise InputError(
                f"{folder}: the network is told {wanted} numbers of size and text, six sizes give {told}: a refiner is not read"
            )


def schedule_of(config: dict[str, Any], folder: Path) -> tuple[str, Schedule]:
    """(what the network predicts, the schedule it was trained on), by a scheduler's settings; how that one steps does not matter here.

    Raises:
        InputError: another kind of scheduler, betas that are none, another noise law.
    """
    name = str(config.get("_class_name"))
    if not name.startswith(SCHEDULERS):
        raise InputError(f"{folder}: scheduler {name!r:.80}; read are those of {', '.join(SCHEDULERS)}")
    steps = config.get("num_train_timesteps", 1000)
    if name.startswith("FlowMatch"):
        shift = config.get("shift", 1.0)
        if config.get("use_dynamic_shifting") or not is_number(shift) or not shift > 0 or not is_count(steps, 2, STEPS_LIMIT):
            told = {key: config.get(key) for key in ("shift", "use_dynamic_shifting", "num_train_timesteps")}
            raise InputError(f"{folder}: flow schedule {told!s:.200}; read are those with one positive shift for all sizes")
        return "velocity", Flow(shift=float(shift))
    law, kind = LAWS.get(str(config.get("beta_schedule", "linear"))), KINDS.get(str(config.get("prediction_type", "epsilon")))
    low, high = (config.get(key, USUAL[key]) for key in ("beta_start", "beta_end"))
    numbers = is_count(steps, 2, STEPS_LIMIT) and is_number(low) and is_number(high) and 0 < low <= high < 1
    if law is None or kind is None or not numbers or config.get("trained_betas") is not None or config.get("rescale_betas_zero_snr"):
        keys = ("beta_schedule", "prediction_type", "trained_betas", "rescale_betas_zero_snr", *USUAL)
        told = {key: config[key] for key in keys if config.get(key) is not None}
        raise InputError(f"{folder}: schedule {told!s:.300}; read are {', '.join(LAWS)} that predict {', '.join(KINDS)}")
    return kind, DiscreteVP(steps, low, high, law=law)

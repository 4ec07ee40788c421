"""A published model as a prior of codes: the folder of a diffusers pipeline, the words it is led by, the size of the pictures."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from invsolve_weights.tables import read_table
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.operator import Operator
from invsolve.plugins.arguments import bind
from invsolve.priors.base import Denoiser, DiffusionPrior, Prior, a_denoiser
from invsolve.priors.guidance import Guided
from invsolve.priors.latent import LatentPrior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solver import Solver
from invsolve.solvers.start import first_image
from invsolve.unit import Unit
from invsolve_diffusers.address import INDEX, PREFIX, UNDECODED, components, folder_of, hashes, verified
from invsolve_diffusers.folder import Opened, cast, checked_index, opened, versions
from invsolve_diffusers.networks import Decoder, Encoder, PlainUNet, TextTransformer, TextUNet
from invsolve_diffusers.sees import SeesMask, SeesSmall
from invsolve_diffusers.text import words_of
from invsolve_diffusers.told import Told

UNTRAINED = "the networks of the examples are made at random: they denoise nothing"


class Published(LatentPrior):
    """A model that others published, through diffusers: x = D(z), z drawn from a network that is told a text.

        D_z(z, sigma) = D_u + scale (D_c - D_u),   D_c told the prompt, D_u the negative one;   no guidance without a scale

    Read are the pipelines of Stable Diffusion 1, 2 and XL (networks that predict eps or v; XL with its second text and its sizes), Stable
    Diffusion 3 (flow matching), their inpainting networks of 9 channels (for masks alone; those of 4 are plain ones, for any solver in
    codes), and latent diffusion without a text, also for super-resolution (for reductions alone). Codes are in the units of the network:
    spread about 1, mean about 0, not clipped, and sigma in those units.

    The schedule of Stable Diffusion 1, 2 and XL ends at sigma 14.6, where sqrt(a_T) = .068 of the picture is left: its network was never
    called with noise alone, and reads the mean of what it is given as brightness. A sampler that begins with noise about 0 is therefore
    held near a middle brightness; `start` makes a beginning from the solver's guess in place of it. Flow models end at pure noise.

    The safety checker of a pipeline is a filter of answers, and is not run.

    Args:
        path: a folder with model_index.json, or diffusers:OWNER/NAME@REVISION, REVISION the 40 digits of a commit on the hub.
        prompt: what the picture shows, one text for all items, or a list with one for each.
        negative: what guidance leads away from; None: the empty text (see `words_of`).
        scale: of classifier-free guidance, two network evaluations a call; 1 or None: the prompt alone, one evaluation.
        size: (height, width) of the pictures; None: what the network was trained at.
        precision: see NetworkDenoiser; "float64" is of the autoencoder and the text encoders too.
        sha256: the `weights_sha256` that it must have; None: whatever the folder holds.

    Raises:
        InputError: a place, a pipeline, words or a size that cannot be; a scale for a network without a text; diffusers missing.

    Attributes:
        weights_sha256: of all files, see `address.combined`; runs are recorded with it.
        files_sha256: by path in the folder.
        versions: of diffusers and transformers.

    References:
        High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), arXiv:2112.10752.
        SDXL (Podell et al., 2023), arXiv:2307.01952. Scaling Rectified Flow Transformers (Esser et al., 2024), arXiv:2403.03206.
        sigma 14.6: Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2023), arXiv:2305.08891, section 3.1.
    """

    weights_sha256: str

    def __init__(
        self,
        path: str | Path,
        prompt: str | list[str] = "",
        negative: str | None = None,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        precision: str = "float32",
        sha256: str | None = None,
    ) -> None:
        path = str(path)
        folder = folder_of(path)
        found_hashes = hashes(folder, components(checked_index(folder)[1]))
        digest = verified(path, found_hashes, sha256)
        found = opened(folder)
        if precision == "float64":
            cast(found.pipe, torch.float64)
        size = found.size(size)
        code = (found.code_channels, size[0] // found.factor, size[1] // found.factor)
        scaling, shift = found.scaling, float(getattr(found.vae.config, "shift_factor", None) or 0.0)
        vae = found.vae
        decoder = Decoder(vae, code, (int(vae.config.out_channels), *size), scaling, shift)
        encode, sees = Encoder(vae, scaling, shift), None
        if found.seen_channels:
            sees = SeesSmall((found.seen_channels, *code[1:])) if found.family == "ldm" else SeesMask(encode)
        told = told_of(found, words_of(found, prompt, negative, size), sees, precision)
        if scale is not None and told.without is None:
            raise InputError(f"{path}: scale leads towards a text, and this network takes none; leave scale out")
        if scale not in (None, 1) and negative in (None, "") and not any([prompt] if isinstance(prompt, str) else prompt):
            raise InputError(f"{path}: scale={scale:g} leads from negative= to prompt=, and both are the empty text; give one of them")
        led = told if scale is None else Guided(told, scale)
        super().__init__(DiffusionPrior(led, found.schedule, Unit(0.0, 1.0)), decoder, encode)
        self.sees, self.weights_sha256, self.files_sha256, self.versions = sees, digest, found_hashes, versions()

    def space(self, problem: Problem) -> tuple[Problem, Callable[[Tensor], Tensor]]:
        """(the problem of the code, the decoder).

        Raises:
            InputError: images of another size.
        """
        if self.decoder.out_shape != problem.operator.in_shape:
            raise InputError(
                f"this prior makes images of {self.decoder.out_shape}, the operator takes {problem.operator.in_shape}; load it with "
                f"size={tuple(problem.operator.in_shape[1:])}, in the shell --set prior.size=[...]; the model's own unit divides both"
            )
        return super().space(problem)

    def start(self, problem: Problem, solver: Solver, *, image: Tensor | None = None, generator: int | Rng | None = 0) -> Tensor:
        """A beginning for `solver.solve(problem, prior, x_init=...)`: the code of an image, with the noise of the solver's first level.

            z = E(image) + sigma_0 n

        Args:
            problem: whose images are of this prior's size.
            solver: that will go on; its first level is taken, no noise where it has none.
            image: (B, C, H, W); None: the smooth guess of `invsolve.solvers.start`.
            generator: of n, a stream per item.

        Raises:
            InputError: an image of another shape.
        """
        image = first_image(problem, None) if image is None else image
        if image.shape != problem.image.shape:
            raise InputError(f"image must have shape {tuple(problem.image.shape)}; given {tuple(image.shape)}")
        assert self.encode is not None
        with torch.no_grad():
            code = self.encode(image.clamp(0, 1))
        return solver.warmed(code, self, Rng.make(generator, problem.items, purpose="start")).x

    def _with(self, denoiser: Prior, decoder: Operator) -> Denoiser:
        inner = a_denoiser(denoiser, self.denoiser)
        if inner is self.denoiser and decoder is self.decoder:
            return self
        twin = copy.copy(self)
        twin._modules = {**self._modules, "denoiser": inner, "decoder": decoder}
        twin.batch = inner.batch if decoder.batch is None else decoder.batch
        return twin

    @classmethod
    def examples(cls) -> list[Prior]:
        """A tiny inpainting network made at random, led by a text; none where diffusers is not installed."""
        from invsolve_diffusers.examples import installed, kept

        if not installed():
            return []
        made: Any = cls(str(kept("inpaint")), "a cat", scale=2.0)
        made.expected_failures = dict.fromkeys(("check_denoises", "check_condition", "check_codes"), UNTRAINED)
        return [made]


def told_of(found: Opened, words: Any, sees: nn.Module | None, precision: str) -> Told:
    """The network of a pipeline, told its words."""
    if found.family == "sd3":
        model: nn.Module = TextTransformer(found.net, int(found.pipe.scheduler.config.num_train_timesteps))
    else:
        model = PlainUNet(found.net) if words is None else TextUNet(found.net)
    says, without = (None, None) if words is None else words
    shared = {"channels": found.code_channels, "precision": precision}
    return Told(model, found.kind, found.schedule, words=says, without=without, sees=sees, **shared)


def from_address(path: str, options: dict[str, Any]) -> Denoiser:
    """The prior of an address: Published, or, where a folder here holds a network of images (UNet2DModel), what `load_weights` makes of it.

    Raises:
        InputError: see both.
    """
    from invsolve_weights.own import load_weights

    folder = Path(path.removeprefix(PREFIX))
    if folder.is_dir() and not any((folder / one).is_file() for one in (INDEX, "config.json")):
        raise InputError(f"{path}: neither {INDEX} (a pipeline) nor config.json (a network of images) is in that folder")
    plain = folder.is_dir() and (not (folder / INDEX).is_file() or read_table(folder / INDEX).get("_class_name") in UNDECODED)
    target: Any = load_weights if plain else Published
    place = str(folder) if folder.is_dir() else path
    bind(target, f"prior '{path}'", (place,), options)
    return target(place, **options)

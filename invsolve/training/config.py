"""What is trained, as a TOML file.

    name = "mine"
    [network]
    class = "invsolve_weights.networks:EDMDRUNet"          # module:Class of a map (x, sigma) -> x0_hat
    arguments = { channels = 3, nc = [32, 64, 128, 192] }
    [data]
    side = 64                                              # of a crop; 0: whole images
    [[data.source]]
    folder = "photographs"                                 # or zip, npz, set; below --data, or beside this file
    [validation]
    folder = "others"
    [objective]
    sigmas = { kind = "log-normal", mean = -2.2, std = 1.1, low = 0.002, high = 80.0 }
    [run]
    hours = 2.0                                            # or steps = 10000

A network (x, sigma, condition) -> x0_hat has `objective.kind` "conditional", "partial" or "regression", and a table [condition].

Unknown keys and impossible values are refused before anything is read.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from invsolve.data import Here, Picture, load_set
from invsolve.priors.moving import Moving
from invsolve.recipe.config import DataEntry, set_part
from invsolve.recipe.tables import Table, located, modelled, read_toml
from invsolve.training.conditions import Condition, pairs_of
from invsolve.training.loop import Recipe
from invsolve.training.objectives import LogSigma, UniformSigma
from invsolve.training.pairs import Pairs, Partial, Regression

MAX_BYTES = 100_000
# Kinds of objectives whose configs have keys of their own.
OWN_CONFIGS = {
    "autoencoder": "invsolve.training.autoencoder_config:AutoencoderConfig",
    "classifier": "invsolve.training.classifier_config:ClassifierConfig",
    "consistency": "invsolve.training.consistency_config:ConsistencyConfig",
}
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=10**12)]
# Generous ends: beyond them numbers overflow, or the memory of any machine does.
Pixels = Annotated[int, Field(ge=0, le=4096)]
Level = Annotated[float, Field(ge=1e-6, le=1e6)]
Grey = Annotated[float, Field(ge=0.01, le=1e6)]
Place = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]*$")]
Title = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=80)]


class Network(Table):
    """The network's class and what it is made with."""

    path: Annotated[str, StringConstraints(pattern=r"^[\w.]+:\w+$")] = Field(alias="class")
    """module:Class of a map (x, sigma) -> x0_hat; looked for beside this file, too."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What the class is made with; `channels`, 3 unless said, is the number of the images' channels."""

    @property
    def channels(self) -> int:
        """Of its images."""
        return self.arguments.get("channels", 3)

    @field_validator("arguments")
    @classmethod
    def _check_arguments(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        channels = arguments.get("channels", 3)
        if type(channels) is not int or channels not in (1, 3):
            raise ValueError("channels, the number of the images' channels, must be 1 or 3")
        try:  # the card is JSON
            json.dumps(arguments, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"only finite numbers, strings, true, false, lists and tables ({error})") from None
        return arguments


class Pictures(Table):
    """Where pictures are: one of folder, zip, npz and set, as in suites; `path` is any of the first three, by its name."""

    path: Place | None = None
    """A folder, a zip or an npz file."""
    folder: Place | None = None
    """A folder, with those in it."""
    zip: Place | None = None
    """A zip file of pictures."""
    npz: Place | None = None
    """An npz file with the array `images`, uint8."""
    set: Annotated[DataEntry, BeforeValidator(set_part)] | None = None
    """A registered data set, by its name or with parameters: `set = "quick-photos"`."""

    @model_validator(mode="after")
    def _check_source(self) -> Pictures:
        names = ("path", "folder", "zip", "npz", "set")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(names)}; given {', '.join(given) or 'none'}")
        return self

    @property
    def label(self) -> str:
        """What it is called: the path, or the set's name."""
        return self.path or self.folder or self.zip or self.npz or (self.set.name if self.set else "")

    def of(self, root: Path) -> Path | list[Picture]:
        """What `data.read_images` reads, relative paths below the folder.

        Raises:
            InputError: see `load_set`; a folder, zip or npz file that is none, or is not there.
        """
        if self.set is not None:
            return load_set(self.set, Here(root))
        return located(root, self.label)


class Source(Pictures):
    """Pictures drawn in proportion to their weight, at every one of the scales."""

    weight: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    """How often pictures of this source are drawn, against the others."""
    scales: Annotated[list[Annotated[float, Field(gt=0, le=16)]], Field(min_length=1, max_length=100, default_factory=lambda: [1.0])]
    """Sizes at which every picture is in, as factors."""


class Data(Table):
    """Where patches come from: see `data.Crops`."""

    side: Pixels
    """Side of the square crops in pixels; 0 takes whole images, all of one size."""
    flips: Literal["all", "horizontal", "none"] = "all"
    """Mirrored and turned by quarters, only mirrored left to right, or neither."""
    pad: Pixels = 0
    """Images with a side below this many pixels get black around them."""
    autoencoder: Place = ""
    """Name or path of an autoencoder's weights: the network is then one of its codes, whose standard deviation is 1."""
    hole: Literal["", "black", "grey"] = ""
    """Of a network of codes whose condition is a mask: it sees the code of the masked image and the mask, which is -1 and 1 where the hole
    is black, 0 and 1 where it is grey."""
    source: Annotated[list[Source], Field(min_length=1)]
    """Where the pictures are; several tables [[data.source]] are drawn from by their weights."""


class Validation(Pictures):
    """Images never trained on, of which the centres are denoised at every checkpoint; levels in 1/255."""

    count: Count = 8
    """How many images, the first ones."""
    side: Pixels = 128
    """Side of the crops from their middle; 0 takes them whole."""
    levels: Annotated[
        list[Annotated[float, Field(ge=0.01, le=1e6)]], Field(min_length=1, max_length=100, default_factory=lambda: [15, 25, 50])
    ]
    """Noise levels at which they are denoised, in 1/255."""


class LogNormal(Table):
    """See `objectives.LogSigma`."""

    kind: Literal["log-normal"]
    """log sigma is normal, with a flat share."""
    mean: Annotated[float, Field(ge=-20, le=20)]
    """Of log sigma."""
    std: Annotated[float, Field(gt=0, le=100)]
    """Of log sigma."""
    low: Level
    """The smallest noise level."""
    high: Level
    """The largest noise level."""
    flat: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Share of the levels that are log-uniform from low to high."""


class Uniform(Table):
    """See `objectives.UniformSigma`."""

    kind: Literal["uniform"]
    """sigma is uniform from low to high."""
    low: Level
    """The smallest noise level."""
    high: Level
    """The largest noise level."""


class Damp(Table):
    """Noise levels above `above` count by `weight`: see `objectives.damping`."""

    above: Level
    """Levels above this one count less."""
    weight: Annotated[float, Field(ge=0, le=1)]
    """How much they count."""


class Objective(Table):
    """Where the error is measured, and at which noise levels."""

    kind: Literal["denoising", "conditional", "partial", "regression"] = "denoising"
    """denoising: no condition; conditional: SR3's, of a network that sees the measurement, too; partial: PartDiff's, whose noised image
    moves to the measurement; regression: no noise either, the network sees the measurement alone."""
    total: Annotated[int, Field(ge=25, le=2000)] = 100
    """T of `partial`, the steps of the whole schedule."""
    part: Annotated[int, Field(ge=2, le=2000)] = 25
    """K of `partial`, the step that sampling starts from."""
    align: Literal["exact", "paper"] = "exact"
    """Of `partial`: whether the error is that of the image, or of the moving image."""
    target: Literal["x0", "eps", "v"] = "v"
    """Where the error is measured: the image, the noise, or the velocity."""
    s0: Annotated[float, Field(ge=1e-4, le=1e4)] = 0.25
    """Standard deviation of the data about their mean level, in [0, 1] units."""
    balance: bool = False
    """Whether all noise levels count the same; the log shows the loss without it."""
    damp: Damp | None = None
    """Noise levels that count less."""
    sigmas: Annotated[LogNormal | Uniform, Field(discriminator="kind")]
    """How noise levels are drawn."""

    @model_validator(mode="after")
    def _check_order(self) -> Objective:
        if not self.sigmas.low < self.sigmas.high:
            raise ValueError(f"sigmas.low must be below sigmas.high; given {self.sigmas.low} and {self.sigmas.high}")
        if self.kind == "partial":
            if self.part > self.total:
                raise ValueError(f"part, the step that sampling starts from, is at most total; given {self.part} and {self.total}")
            last = Moving(self.total, self.part).levels[-1]
            if self.sigmas.high > last * (1 + 1e-6):
                raise ValueError(
                    f"sigmas.high is at most the level of step {self.part} of {self.total}, {last:.6g}; given {self.sigmas.high}"
                )
        return self

    def around(self, pairs: Pairs) -> Pairs:
        """The pairs as this objective noises them."""
        if self.kind == "partial":
            return Partial(pairs, Moving(self.total, self.part), self.align)
        return Regression(pairs, self.sigmas.high) if self.kind == "regression" else pairs


class Run(Table):
    """How long and how: see `loop.Recipe`."""

    hours: Positive | None = None
    """Hours of training by the clock; or steps."""
    steps: Count | None = None
    """Steps; or hours. The run is then reproducible to the bit."""
    batch: Annotated[int, Field(ge=1, le=65_536)] = 12
    """Patches a step and process."""
    lr: Positive = 1e-3
    """Highest rate of Adam; it falls to lr / 50 along a cosine."""
    warmup: Count = 200
    """Steps over which the rate rises."""
    ema_images: Positive = 20_000
    """Half-life of the average of the weights, in images."""
    clip: Positive = 1.0
    """Largest norm of the gradient."""
    bf16: bool | Literal["auto"] = "auto"
    """Whether the network runs in bfloat16; auto: where the device multiplies it natively."""
    channels_last: bool = True
    """The memory layout of convolutions."""
    save_minutes: Positive = 3.0
    """Minutes between checkpoints."""
    picture_minutes: Positive = 10.0
    """Minutes between pictures."""
    seed: Annotated[int, Field(ge=0, le=2**62)] = 0
    """Of first weights, crops, noise levels, noise and what the network itself draws."""

    @model_validator(mode="after")
    def _check_length(self) -> Run:
        if (self.hours is None) == (self.steps is None):
            raise ValueError("give hours (of wall clock) or steps, one of them")
        return self


class Words(Table):
    """What the card says of the weights."""

    data: str = ""
    """What the weights were trained on."""
    licence: str = ""
    """Of the weights."""
    weaknesses: list[str] = Field(default_factory=list)
    """What they are not good at."""
    tried: list[str] = Field(default_factory=list)
    """What was tried and was worse."""
    reproduce: str = ""
    """How to train them again."""


class TrainConfig(Table):
    """A training: network, data, objective and length."""

    name: Title
    """Of the weight file; as the config is called unless said."""
    start: Place = ""
    """A shipped prior, a weight file or a run folder whose weights are the first ones."""
    network: Network
    """What is trained."""
    data: Data
    """Where patches come from."""
    validation: Validation | None = None
    """Pictures that show how far it is."""
    objective: Objective
    """What is minimised."""
    condition: Condition | None = None
    """What the network looks at besides the noised image; for every objective but `denoising`."""
    run: Run
    """How long and how."""
    card: Words = Words()
    """What is said of the weights."""

    @model_validator(mode="after")
    def _check_condition(self) -> TrainConfig:
        if (self.condition is None) != (self.objective.kind == "denoising"):
            wanted = 'objective.kind = "conditional" (or partial, regression) and a table [condition] go together'
            raise ValueError(f"{wanted}; given {self.objective.kind!r} and {'none' if self.condition is None else 'one'}")
        return self

    def pairs(self, shape: tuple[int, int, int], folder: Path) -> Pairs | None:
        """The training pairs for crops of a shape; None without a condition.

        Raises:
            InputError: see `conditions.pairs_of`.
        """
        return None if self.condition is None else self.objective.around(pairs_of(self.condition, shape, folder))

    @classmethod
    def load(cls, path: str | Path) -> TrainConfig:
        """A config from a TOML file; without a name it is called as the file is.

        Raises:
            InputError: no such file, not TOML, or keys and values that no config has, each named.
        """
        path = Path(path)
        values, text = read_toml(path, "training config", MAX_BYTES)
        objective = values.get("objective")
        kind = objective.get("kind") if isinstance(objective, dict) else None
        if isinstance(kind, str) and kind in OWN_CONFIGS:
            module, _, name = OWN_CONFIGS[kind].partition(":")
            cls = getattr(import_module(module), name)
        return modelled(cls, {"name": path.stem.lower(), **values}, f"{path.name} is no training config:", text)

    def recipe(self) -> Recipe:
        """The loop's settings."""
        sigmas = self.objective.sigmas
        law = (
            LogSigma(sigmas.mean, sigmas.std, sigmas.low, sigmas.high, sigmas.flat)
            if isinstance(sigmas, LogNormal)
            else UniformSigma(sigmas.low, sigmas.high)
        )
        given = self.run.model_dump(exclude={"save_minutes", "picture_minutes", "hours"})
        return Recipe(
            law,
            s0=self.objective.s0,
            hours=self.run.hours or 0.0,
            target=self.objective.target,
            balance=self.objective.balance,
            damp=None if self.objective.damp is None else (self.objective.damp.above, self.objective.damp.weight),
            save_seconds=60 * self.run.save_minutes,
            picture_seconds=60 * self.run.picture_minutes,
            levels=tuple(self.validation.levels) if self.validation else (),
            **given,
        )

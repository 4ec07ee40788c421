"""A problem: an operator, a measurement y and a noise model, checked when it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.noise import Ability, GaussianNoise, NoiseModel, NoNoise, question_level, sigma_of
from invsolve.operator import Capability, Operator, image_shape
from invsolve.operator.measurement import Measurement, check_batch, check_kind, check_parts, check_real, check_shape, chosen, mapped, parts
from invsolve.plugins.arguments import Remembering, checked
from invsolve.rng import Rng


class NoMeasurement(Operator):
    """The operator that measures nothing, (C, H, W) -> (0,): what unconditional sampling stands on.

    Args:
        in_shape: (C, H, W).
    """

    traits = frozenset({Capability.LINEAR})

    def __init__(self, in_shape: Sequence[int]) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), (0,)

    def forward(self, x: Tensor) -> Tensor:
        """An empty measurement (B, 0)."""
        return x.flatten(1)[:, :0]


@dataclass(frozen=True)
class Problem(metaclass=Remembering):
    """y = H(x) + n with everything a solver may know; never the truth.

    Args:
        operator: H.
        y: (B, *out_shape), float32 or float64 (complex for complex operators); a tuple for a Stack. Entries that a mask does not
            measure are set to 0 (in a copy).
        noise: the noise model, its sigma in the units of y.
        items: ids of the items, one per batch entry: they key the random streams (default 0, 1, ...).
        check_range: refuse y far outside the operator's output range (0..255 data); False for data in other units.
        context: what else is known of each item, tensors (B, ...) by name (labels, embeddings, guides), for priors that look at it:
            see `Denoiser.given`.
        outer: of a problem of codes (see `through`) that of the image, None otherwise.

    Raises:
        InputError: wrong shape, rank, dtype, device, NaN or Inf, values far out of range or impossible under the noise model, batch sizes
            that differ.
    """

    operator: Operator
    y: Measurement
    noise: NoiseModel
    items: tuple[int, ...] = ()
    check_range: bool = True
    context: Mapping[str, Tensor] = field(default_factory=dict)
    outer: Problem | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for value, kind in ((self.operator, Operator), (self.noise, NoiseModel)):
            if not isinstance(value, kind):
                raise InputError(f"expected {kind.__name__}, given {type(value).__name__}; the order is Problem(operator, y, noise)")
        check_measurement(self.operator, self.y, self.noise, check_range=self.check_range)
        # What a mask does not measure is no data: noise (or anything else) there must not enter a norm.
        object.__setattr__(self, "y", supported(self.operator, self.y))
        if not self.items:
            object.__setattr__(self, "items", tuple(range(self.batch)))
        elif len(self.items) != self.batch:
            raise InputError(f"items has {len(self.items)} ids, y has {self.batch} items")
        if len(set(self.items)) != len(self.items):
            raise InputError(f"items must differ, since each keys a random stream of its own; given {self.items}")
        object.__setattr__(self, "context", checked_context(self.context, self.batch))

    def __repr__(self) -> str:
        from invsolve.io.html import shapes

        operator = self.operator
        return f"Problem({operator.label} {operator.in_shape} -> {operator.out_shape}, y {shapes(parts(self.y))}, {self.noise})"

    def _repr_html_(self) -> str:
        from invsolve.io.html import of_problem

        return of_problem(self)

    @property
    def batch(self) -> int:
        """Number of items."""
        return len(parts(self.y)[0])

    @property
    def image(self) -> Tensor:
        """An empty-valued tensor of the shape, dtype and device of an image batch (B, *in_shape), filled with zeros."""
        first = parts(self.y)[0]
        return torch.zeros(self.batch, *self.operator.in_shape, dtype=first.real.dtype, device=first.device)

    @cached_property
    def gain(self) -> Tensor:
        """|H| per item, (B,): its largest singular value, or that of its Jacobian; see `invsolve.gain`.

        Where H is 0 nothing is measured, and y has no unit but its noise's: the noise level or a count then, or 1 without noise.
        """
        from invsolve.gain import operator_gain

        size = operator_gain(self.operator, self.image)
        level = self.level.clamp_min(self.noise.quantum)
        return torch.where(size > 0, size, torch.where(level > 0, level, 1.0))

    @cached_property
    def level(self) -> Tensor:
        """About one standard deviation of the noise in y's units, (B,), for every noise model; see `invsolve.gain.noise_level`."""
        from invsolve.gain import noise_level

        return noise_level(self.noise, self.y, self.operator)

    @property
    def sigma_x(self) -> Tensor:
        """The noise level in units of the image, (B,): that of y divided by |H|. The same for (cH, cy, c sigma), whatever c."""
        return self.level / self.gain

    @property
    def sigma(self) -> Tensor:
        """The noise level, a scalar or (B,), in y's real dtype and device; only for noise models that have a sigma."""
        if Ability.SIGMA not in self.noise.abilities:
            raise InputError(f"{self.noise} has no sigma")
        return sigma_of(self.noise, parts(self.y)[0])

    @classmethod
    @checked
    def simulate(
        cls,
        operator: Operator,
        x: Tensor,
        noise: NoiseModel,
        *,
        generator: int | torch.Generator | Rng | None = None,
        check_range: bool = True,
        context: Mapping[str, Tensor] | None = None,
    ) -> Problem:
        """The problem whose measurement is drawn from the truth x, (B, *in_shape) in [0, 1].

        Raises:
            InputError: x does not fit the operator.
        """
        check_image(operator, x)
        if not isinstance(noise, NoiseModel):
            raise InputError(f"noise must be a noise model, such as GaussianNoise(0.05); given {type(noise).__name__}")
        if noise.batch not in (None, len(x)):
            raise InputError(f"batch sizes differ: x {len(x)}, noise {noise.batch}")
        rng = Rng.make(generator, range(len(x)), purpose="simulate")
        with torch.no_grad():
            y = noise.sample(operator(x), rng)
        return cls(operator, y, noise, tuple(rng.items), check_range, context or {})

    @classmethod
    def from_image(
        cls, image: str | Path | Tensor, operator: Operator | Callable[[tuple[int, ...]], Operator], noise: NoiseModel | float | None = None
    ) -> Problem:
        """The problem whose measurement is a picture.

        Args:
            image: a file, or a tensor (C, H, W) or (B, C, H, W) in [0, 1]: y.
            operator: H, or what makes it of y's shape (C, H, W), such as `lambda shape: BlockMean((3, 4 * shape[1], 4 * shape[2]), 4)`.
            noise: a model, or the standard deviation of Gaussian noise; None: estimated from the picture (`estimate_noise`).

        Raises:
            InputError: no readable picture, another shape than H gives.
        """
        from invsolve.estimate import estimate_noise
        from invsolve.io.images import load_image

        y = image if isinstance(image, Tensor) else load_image(image)
        y = y[None] if y.ndim == 3 else y
        if y.ndim != 4:
            raise InputError(f"image must be (C, H, W) or (B, C, H, W); given {tuple(y.shape)}")
        made = operator if isinstance(operator, Operator) else operator(tuple(y.shape[1:]))
        given = estimate_noise(made, y).sigma if noise is None else noise
        return cls(made, y, given if isinstance(given, NoiseModel) else GaussianNoise(given))

    @classmethod
    def unconditional(
        cls,
        shape: Sequence[int],
        batch: int = 1,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        context: Mapping[str, Tensor] | None = None,
    ) -> Problem:
        """No measurement at all: the samplers ddpm, ddim and heun then draw from the prior."""
        if batch < 1:
            raise InputError(f"batch must be at least 1; given {batch}")
        y = torch.zeros(batch, 0, dtype=dtype, device=device)
        return cls(NoMeasurement(image_shape(shape, "shape")), y, NoNoise(), context=context or {})

    def __getitem__(self, index: int | slice) -> Problem:
        """The problem of one item (as a batch of one) or of a slice; items keep their ids and so their random streams.

        Raises:
            InputError: the index is neither a whole number nor a slice.
            IndexError: there is no such item.
        """
        rows = chosen(self.batch, index, "a problem")
        return self.rows(rows, [self.items[row] for row in rows])

    def rows(self, rows: Sequence[int], ids: Sequence[int] = ()) -> Problem:
        """Some of the items, in any order and any number of times, with new ids (default 0, 1, ...)."""
        index = list(rows)
        operator = self.operator if self.operator.batch is None else self.operator.select(rows)  # pyright: ignore[reportArgumentType]
        noise = self.noise.select(rows)  # pyright: ignore[reportArgumentType]
        context = {name: value[index] for name, value in self.context.items()}
        outer = None if self.outer is None else self.outer.rows(rows, ids)
        return Problem(operator, mapped(lambda part: part[index], self.y), noise, tuple(ids), self.check_range, context, outer)

    def repeat(self, count: int) -> Problem:
        """Every item `count` times, the whole batch after the other, with ids 0, 1, ...: for several samples in one run."""
        return self.rows([*range(self.batch)] * count)

    def through(self, decoder: Operator) -> Problem:
        """The problem of a code z whose image is decoder(z): y = H(D(z)) + n; its `outer` is this one."""
        if isinstance(self.operator, NoMeasurement):
            return replace(self, operator=NoMeasurement(decoder.in_shape), outer=self)
        return replace(self, operator=self.operator @ decoder, outer=self)

    def to(self, device: torch.device | str) -> Problem:
        """The problem on another device; operator and noise move in place, as nn.Module does."""
        y = mapped(lambda part: part.to(device), self.y)
        context = {name: value.to(device) for name, value in self.context.items()}
        outer = None if self.outer is None else self.outer.to(device)
        return replace(self, operator=self.operator.to(device), y=y, noise=self.noise.to(device), context=context, outer=outer)

    def save(self, path: str | Path) -> None:
        """Write a folder with tensors (safetensors) and configuration (JSON); see `invsolve.io.stored`."""
        from invsolve.io.stored import save_problem

        save_problem(self, path)

    @classmethod
    def load(cls, path: str | Path, *, operator: Operator | None = None, noise: NoiseModel | None = None) -> Problem:
        """Read what `save` wrote, on the CPU; an operator or a noise model that is not in the registry must be given.

        Raises:
            InputError: no such folder, damaged or torn files, a foreign operator and none given, an operator that does not fit y.
            UnknownNameError: an operator or noise of a plug-in that is not installed.
        """
        from invsolve.io.stored import read_problem

        return cls(**read_problem(path, operator, noise))


def checked_context(context: Mapping[str, Tensor], batch: int) -> dict[str, Tensor]:
    """A plain dict of the context.

    Raises:
        InputError: a name that is no string, or a value that is no tensor with a row per item.
    """
    if not isinstance(context, Mapping):
        raise InputError(f"context must be a dict of tensors by name, such as {{'label': labels}}; given {type(context).__name__}")
    for name, value in context.items():
        if not isinstance(name, str):
            raise InputError(f"names in context must be text, such as {{'label': labels}}; given {name!r} ({type(name).__name__})")
        if not isinstance(value, Tensor) or value.ndim < 1 or len(value) != batch:
            given = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"context[{name!r}] must be a tensor with a row for each of {batch} items; given {given}")
    return dict(context)


def supported(operator: Operator, y: Measurement) -> Measurement:
    """y with 0 where the operator measures nothing; y itself where there is nothing to change."""

    def kept(part: Tensor, support: Tensor | None) -> Tensor:
        if support is None:
            return part
        outside = (support == 0).to(part.device)
        return part.masked_fill(outside, 0) if bool((outside & (part != 0)).any()) else part

    return mapped(kept, y, operator.supports)


def unmeasured(problem: Problem) -> str:
    """Why whatever came out would be the prior's own: no entry of y is a measurement, in any item; "" where one is.

    Of a mask its support says so. Another linear operator is asked by a drawn image: what H does not send to exactly 0 is measured, and a
    drawn image lies in the null space of no other H (probability 0).
    """
    operator = problem.operator
    if isinstance(operator, NoMeasurement):
        return ""
    blank = all(one is not None and not bool(one.any()) for one in operator.supports)
    if not blank and operator.has(Capability.LINEAR):
        drawn = Rng(0, problem.items, purpose="unmeasured").uniform(operator.in_shape, problem.image)
        with torch.no_grad():
            blank = not any(bool(part.any()) for part in parts(operator(drawn)))
    how = "take another operator; for pictures of the prior alone: Problem.unconditional, in a file data.shape and no operator"
    return f"nothing is measured: {operator.label} keeps no entry of y; {how}" if blank else ""


def refuse_unmeasured(problem: Problem) -> None:
    """Raise InputError where nothing is measured.

    Raises:
        InputError: says so, see `unmeasured`.
    """
    if reason := unmeasured(problem):
        raise InputError(reason)


def check_operator(operator: Operator) -> None:
    """Raise InputError for what is no operator: often the arguments are the other way round."""
    if not isinstance(operator, Operator):
        raise InputError(f"expected an operator, given {type(operator).__name__}; the operator comes first, then the data")
    if operator.complex_input:
        doubled = (2 * operator.in_shape[0], *operator.in_shape[1:])
        raise InputError(f"{operator.label} takes complex images, and images are real here: {operator.label} @ AsComplex({doubled})")


def check_image(operator: Operator, x: Tensor) -> None:
    """Raise InputError unless x is a finite floating (B, *in_shape) tensor on the operator's device."""
    check_operator(operator)
    check_real(operator, "x", x)
    check_shape(operator, "x", x, operator.in_shape)
    check_tensor("x", x)
    check_devices(operator, x)
    if operator.batch is not None and len(x) != operator.batch:
        raise InputError(f"{operator.label} has parameters for {operator.batch} items, x has {len(x)}")


def check_measurement(operator: Operator, y: Measurement, noise: NoiseModel, *, check_range: bool) -> None:
    """Raise InputError with what was given and what is allowed."""
    check_operator(operator)
    check_parts(operator, y)
    for part, kind in zip(parts(y), operator.complex_outputs, strict=True):
        check_tensor("y", part, allow_complex=kind)
        if kind and not part.is_complex():
            raise InputError(f"{operator.label} gives complex y; given {part.dtype}: if it is the real part of all there is, pass y + 0j")
        check_devices(operator, part)
    check_batch(y, {"operator": operator.batch, "noise": noise.batch})
    noise.check(y)
    if check_range and operator.output_range is not None:
        refuse_far_values(operator, y, noise)
    if check_range:
        question_level(noise, y, operator.output_range)


def check_tensor(name: str, x: Tensor, *, allow_complex: bool = False) -> None:
    """Raise InputError unless x is float32 or float64 (or complex where allowed) and finite."""
    check_kind(name, x, complex_too=allow_complex)
    if x.is_meta:
        raise InputError(f"{name} is on the meta device and has no values; make it on cpu or cuda")
    bad = ~torch.isfinite(x)
    if bool(bad.any()):
        first = tuple(int(index) for index in bad.nonzero()[0])
        raise InputError(f"{name} has {int(bad.sum())} NaN or infinite values, the first at index {first}; mask or replace them first")


def check_devices(operator: Operator, tensor: Tensor) -> None:
    """Raise InputError if the operator's parameters live elsewhere."""
    if operator.device is not None and operator.device != tensor.device:
        raise InputError(f"operator is on {operator.device}, data on {tensor.device}; move both, e.g. problem.to('{tensor.device}')")


def widest(operator: Operator, y: Measurement, noise: NoiseModel) -> float:
    """The model's spread where its class says it, else its largest level at H(1/2)."""
    from invsolve.gain import grey_measurement, noise_level

    if type(noise).spread is not NoiseModel.spread:
        return noise.spread()
    level = noise_level(noise, grey_measurement(operator, y)[0], operator)
    return float(level.max()) if level.numel() else 0.0


def refuse_far_values(operator: Operator, y: Measurement, noise: NoiseModel) -> None:
    """Raise InputError when y leaves the output range by more than its width and ten standard deviations of the noise."""
    assert operator.output_range is not None
    low, high = operator.output_range
    margin = (high - low) + 10 * widest(operator, y, noise)
    for part in parts(y):
        if not part.numel():
            continue
        least, most = float(part.detach().min()), float(part.detach().max())
        if least < low - margin or most > high + margin:
            given = f"[{least:.3g}, {most:.3g}]"
            raise InputError(
                f"y spans {given}, but {operator.label} of a [0, 1] image lies in [{low:g}, {high:g}]; "
                "divide 0..255 data by 255 (and its sigma too), or pass check_range=False"
            )

"""deepinv's physics as Operators, with capabilities that are found by experiment.

deepinv's classes promise an adjoint, a singular value decomposition and a prox by inheritance; whether they hold is
measured here once, on random float64 probes, and only what holds is passed on:

    adjoint   <A x, y> = <x, A^T y>                         else: the vector-Jacobian product of a linear A
    svd       V square and orthonormal, U an isometry on s > 0, A = U s V^T: the contract of `invsolve.operator.svd`
    prox      A^T (A p - y) + (p - z) / tau = 0             for p = z + V [s / (s^2 + 1/tau) (U^T y - s V^T z)]
    pinv      the four Penrose conditions
"""

from __future__ import annotations

import inspect
from typing import Any

import deepinv
import torch
from torch import Tensor, nn

from invsolve.errors import ArgumentError, InputError, did_you_mean
from invsolve.operator import Capability, Operator, Shape
from invsolve.operator.measurement import Measurement, mapped, parts
from invsolve.operator.svd import SVD, rank_rule
from invsolve_deepinv.complex_physics import Pairs
from invsolve_deepinv.probes import Probe, called, settled
from invsolve_deepinv.recast import chosen, cloned, ours, recast, theirs
from invsolve_deepinv.views import Viewed

Physics = deepinv.physics.Physics


class DeepinvOperator(Operator):
    """A deepinv physics' A as an Operator; its noise model and sensor model are left out.

    The physics is cloned, so that a later `physics.update(...)` changes nothing here, and its buffers follow the precision
    of the data. Tensors are cloned before deepinv sees them: some of its methods give back or write into what they get.

    A physics whose parameters lead with B (a mask (B, C, H, W), filters (B, C, h, w), coil maps (B, N, H, W)) gives an operator for
    B items, with `select`; that the cut physics is the item's is tried on every item. Stacked physics give a tuple y. A physics that
    takes only one image at a time (SequentialMRI, SinglePhotonLidar) is called item by item.

    Args:
        physics: any deepinv Physics of one image tensor; not Haze, which takes a list.
        in_shape: (C, H, W) of the images, or whatever the physics takes: (C, D, H, W), (C, T, H, W).
        pairs: how complex data are taken. None: images are real, a complex y stays complex (`complex_output`). "image": images are
            complex in deepinv, and here real pairs (2 C, H, W), the C real parts first; a complex y becomes (2, ...). "measurement":
            images are real, a complex y becomes (2, ...).

    Raises:
        InputError: the physics does not take such images, is random, couples the items of a batch, or gives no tensors.
    """

    def __init__(self, physics: Physics, in_shape: tuple[int, ...], pairs: str | None = None) -> None:
        super().__init__()
        if not isinstance(physics, Physics):
            raise InputError(f"physics must be a deepinv.physics.Physics; given {type(physics).__name__}")
        self.in_shape = sides(in_shape)
        cast = recast(physics, torch.float64)
        tried, self.batch = settled(cast if pairs is None else Pairs(cast, pairs, self.in_shape), self.in_shape)
        self._copies: dict[Any, Any] = {}
        self.register_load_state_dict_post_hook(forget_copies)
        probe = Probe(tried, self.in_shape, self.batch)
        self.physics: Any = cloned(tried)
        self.out_shape: Any = probe.out_shape
        self.complex_output = probe.complex_output
        self._has_adjoint = probe.linear and probe.adjoint()
        self._full = False
        self.found = self._find(probe)
        self.output_range = image_range(self.physics)
        if isinstance(tried, Viewed):
            self.output_range, self.surrogate = tried.operator.output_range, tried.operator.surrogate
        if Capability.MASK in self.found:
            held = self.physics.mask.expand(self.batch or 1, *self.in_shape)
            self.register_buffer("mask", (held if self.batch is not None else held[0]).clone())
            self.output_range = (0.0, 1.0)

    def _find(self, probe: Probe) -> frozenset[Capability]:
        """By experiment; but one of our own operators, seen through deepinv, keeps what it has in closed form."""
        own = {Capability.PINV, Capability.PROX, Capability.DIFFERENTIABLE}
        kept = own & probe.physics.operator.capabilities if isinstance(probe.physics, Viewed) else set()
        return self._tried(probe) | kept

    def _tried(self, probe: Probe) -> frozenset[Capability]:
        if not probe.linear:
            return frozenset({Capability.DIFFERENTIABLE}) if probe.differentiable() else frozenset()
        if not (self._has_adjoint or probe.gradient()):
            return frozenset({Capability.LINEAR})  # a map whose backward pass is not that of its values
        found = {Capability.LINEAR, Capability.ADJOINT, Capability.DIFFERENTIABLE}
        system = self._tried_system() if self._has_adjoint and probe.decomposable else None
        if system is not None:
            self._full = probe.passes_svd(self._system(full=True))
            system = self._system(self._full)
            found |= {Capability.SVD} if self._full else set()
            found |= {Capability.PROX} if self._full or probe.prox(system) else set()
            found |= {Capability.PINV} if self._full or probe.pinv(system) else set()
        if probe.mask():
            found.add(Capability.MASK)
        return frozenset(found)

    def _tried_system(self) -> SVD | None:
        """deepinv's system, or None where its V or its singular values cannot be used at all."""
        try:
            return self._system(full=False)
        except Exception:  # whatever foreign code raises
            return None

    def _system(self, full: bool) -> SVD:
        """deepinv's U, s and V; `full`: in our form, with U and U^T restricted to s > 0."""
        rows, columns = torch.Size(self.out_shape).numel(), torch.Size(self.in_shape).numel()
        spectrum = tuple(self._call("V_adjoint", torch.zeros(self.batch or 1, *self.in_shape, dtype=torch.float64), ()).shape[1:])
        values = self.physics.mask.detach().expand(self.batch or 1, *spectrum)
        ranked = torch.stack([rank_rule(one, rows, columns) for one in values])
        s = ranked if self.batch is not None else ranked[0]

        def kept(values: Tensor) -> Tensor:
            return torch.where(s.to(values.device) > 0, values, torch.zeros_like(values)) if full else values

        return SVD(
            s,
            lambda values: self._call("U", kept(values), self.out_shape),
            lambda y: kept(self._call("U_adjoint", y, spectrum)),
            lambda values: self._call("V", values, self.in_shape),
            lambda x: self._call("V_adjoint", x, spectrum),
        )

    def _call(self, name: str, x: Measurement, *shapes: Shape) -> Any:
        """A method of the physics on a clone of x; no items give no items of `shapes`, which some methods cannot reshape."""
        first = parts(x)[0]
        if len(first):
            return ours(getattr(self.at(first), name)(theirs(mapped(torch.clone, x))))
        dtype = torch.promote_types(first.dtype, torch.complex32) if name == "A" and self.complex_output else first.dtype
        empty = tuple(first.new_zeros((0, *shape), dtype=dtype) for shape in shapes)
        return empty if name == "A" and self.stacked else empty[0]

    def at(self, like: Tensor) -> Any:
        """The physics in the precision and on the device of some data."""
        key = (like.real.dtype, like.device)
        if key not in self._copies:
            # A tensor made under inference mode could not take part in a later backward pass.
            with torch.inference_mode(False):
                self._copies[key] = recast(self.physics, like.real.dtype).to(like.device)
        return self._copies[key]

    def select(self, items: range) -> Operator:
        """The physics of some items, probed anew."""
        if self.batch is None:
            return self
        cut = DeepinvOperator(chosen(self.physics, items, self.batch), self.in_shape)
        return cut.to(self.device) if self.device is not None else cut

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the probes found."""
        return self.found

    def forward(self, x: Tensor) -> Measurement:
        """A(x), without noise."""
        return self._call("A", x, *self.out_shapes)

    def adjoint(self, y: Measurement) -> Tensor:
        """A_adjoint where it passed the dot test, else the vector-Jacobian product."""
        self.need(Capability.ADJOINT)
        if self._has_adjoint or not len(parts(y)[0]):
            return self._call("A_adjoint", y, self.in_shape)
        return super().adjoint(y)

    def _overrides(self, name: str) -> bool:
        """What the base asks to choose a derivation: the methods are all here, but only what was found counts."""
        return Capability(name) in self.found

    def svd(self) -> SVD:
        """The singular system, where it meets the contract."""
        self.need(Capability.SVD)
        return self._system(full=True)

    def pinv(self, y: Measurement) -> Tensor:
        """V (1/s) U^T y."""
        self.need(Capability.PINV)
        if isinstance(self.physics, Viewed) or not len(parts(y)[0]):
            return self._call("A_dagger", y, self.in_shape)
        return self._system(self._full).pinv(parts(y)[0])

    def prox(self, z: Tensor, y: Measurement, tau: float | Tensor) -> Tensor:
        """In the residual form of `invsolve.operator.svd`, which loses fewer digits at large tau than deepinv's prox_l2."""
        self.need(Capability.PROX)
        if isinstance(self.physics, Viewed):
            return self.at(z).prox_l2(z.clone(), theirs(mapped(torch.clone, y)), tau)
        return self._system(self._full).prox(z, parts(y)[0], tau)

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__(), "_copies": {}}
        if isinstance(state["arguments"].get("physics"), Physics):  # the caller's, which may hold lambdas; ours makes the same operator
            state["arguments"] = {**state["arguments"], "physics": self.physics}
        return state

    @property
    def label(self) -> str:
        """The physics' class name."""
        return f"deepinv {called(self.physics)}"

    @classmethod
    def examples(cls) -> list[Operator]:
        """Inpainting, circular blur, grey from colour, subsampling after a blur, a stack, masks per image."""
        kernel = deepinv.physics.functional.gaussian_blur(sigma=(1.0, 0.7)).double()
        shape: Any = (3, 8, 8)
        made = [
            deepinv.physics.Inpainting(img_size=shape, mask=(torch.arange(192).reshape(3, 8, 8) % 3 > 0).double()),
            deepinv.physics.BlurFFT(shape, filter=kernel[..., :5, :5]),
            deepinv.physics.Decolorize(),
            deepinv.physics.Downsampling(shape, filter="bicubic", factor=2),
            deepinv.physics.stack(deepinv.physics.Denoising(), deepinv.physics.Decolorize()),
            deepinv.physics.Inpainting(img_size=shape, mask=(torch.arange(384).reshape(2, 3, 8, 8) % 5 > 1).double()),
        ]
        return [DeepinvOperator(physics, shape) for physics in made]


class DeepinvPhysics(DeepinvOperator):
    """A deepinv physics by the name of its class: DeepinvPhysics("Downsampling", (3, 64, 64), {"filter": "bicubic", "factor": 4}).

    Args:
        physics: name of a class of deepinv.physics.
        in_shape: (C, H, W) of the images; given to the class as img_size where it takes that and `options` does not have it.
        options: the class's other arguments.
        pairs: see DeepinvOperator.

    Raises:
        ArgumentError: no such class, or arguments it refuses.
        InputError: see DeepinvOperator.
    """

    def __init__(self, physics: str, in_shape: tuple[int, ...], options: dict[str, Any] | None = None, pairs: str | None = None) -> None:
        known = sorted(name for name, value in vars(deepinv.physics).items() if isinstance(value, type) and issubclass(value, Physics))
        if physics not in known:
            raise ArgumentError(f"no deepinv.physics class {physics!r}{did_you_mean(physics, known)} There are: {', '.join(known)}")
        cls = getattr(deepinv.physics, physics)
        super().__init__(construct(cls, {"img_size": tuple(in_shape), **(options or {})}, set(options or {})), in_shape, pairs)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Circular blur of two pixels and decimation, by name."""
        kernel = torch.full((1, 1, 2, 2), 0.25, dtype=torch.float64)
        return [
            DeepinvPhysics("BlurFFT", (3, 8, 8), {"filter": kernel}),
            DeepinvPhysics("Downsampling", (3, 8, 8), {"filter": None, "factor": 2}),
        ]


def sides(in_shape: Any) -> Shape:
    """Positive ints, at least one."""
    try:
        shape = tuple(int(side) for side in in_shape)
    except (TypeError, ValueError):
        shape = ()
    if not shape or min(shape) < 1:
        raise InputError(f"in_shape must be the sizes of one image such as (3, 64, 64), each at least 1; given {in_shape!r}")
    return shape


def image_range(physics: Any) -> tuple[float, float] | None:
    """[0, largest sum of weights] where y is made of [0, 1] images by weights that are provably not negative and sum to about 1.

    Known classes only, since a subclass may compute something else: blurs, blur and decimation, grey; weights (masks) up to 1.
    """
    known: Any = deepinv.physics
    weights: Any
    totals: Any
    if type(physics) in (known.Inpainting, known.Demosaicing, known.Denoising):
        low, high = float(physics.mask.min()), float(physics.mask.max())
        return (0.0, 1.0) if low >= 0 and high <= 1 else None
    if type(physics) in (known.Blur, known.BlurFFT, known.Downsampling):
        weights = physics.filter
        if weights is None:
            return (0.0, 1.0) if type(physics) is known.Downsampling else None
        totals = weights.flatten(2).sum(2)
    elif type(physics) is known.Decolorize:
        weights, totals = physics.srf, physics.srf.sum(1)
    else:
        return None
    # deepinv's weights are made in single precision; its grey sums to 1.00002.
    good = bool((weights >= 0).all()) and bool(((totals - 1).abs() <= 1e-4).all())
    return (0.0, float(totals.max().clamp_min(1))) if good else None


def forget_copies(operator: DeepinvOperator, _keys: Any) -> None:
    """After load_state_dict: the copies in other precisions hold the old buffers."""
    operator._copies.clear()


def construct(cls: type, options: dict[str, Any], given: set[str]) -> Any:
    """cls(**options) after a check of the names, since deepinv's constructors swallow unknown ones.

    Raises:
        ArgumentError: a name in `given` that no constructor in the class's ancestry takes, or a refusal of the class.
    """
    names: set[str] = set()
    for ancestor in cls.__mro__:
        if "__init__" in vars(ancestor) and ancestor not in (object, nn.Module):
            names |= {name for name in inspect.signature(ancestor.__init__).parameters if name not in ("self", "args", "kwargs")}  # type: ignore[misc]
    unknown = sorted(given - names)
    if unknown:
        raise ArgumentError(f"{cls.__name__} takes no {unknown[0]!r}{did_you_mean(unknown[0], names)} It takes: {', '.join(sorted(names))}")
    try:
        return cls(**{key: value for key, value in options.items() if key in names})
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise ArgumentError(f"{cls.__name__} refuses {options}: {error}") from error

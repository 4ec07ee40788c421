"""deepinv's physics as Operators, with capabilities that are found by experiment.

deepinv's classes promise an adjoint, a singular value decomposition and a prox by inheritance; whether they hold is
measured here once, on random float64 probes, and only what holds is passed on:

    adjoint   <A x, y> = <x, A^T y>                         else: the vector-Jacobian product of a linear A
    svd       V square and orthonormal, U an isometry on s > 0, A = U s V^T: the contract of `invsolve.svd`
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
from invsolve.measurement import Measurement, parts
from invsolve.operator import Capability, Operator, Shape
from invsolve.svd import SVD, rank_rule
from invsolve_deepinv.probes import Probe, recast

Physics = deepinv.physics.Physics


class DeepinvOperator(Operator):
    """A deepinv physics' A as an Operator; its noise model and sensor model are left out.

    The physics is cloned, so that a later `physics.update(...)` changes nothing here, and its buffers follow the precision
    of the data. Tensors are cloned before deepinv sees them: some of its methods give back or write into what they get.

    Args:
        physics: any deepinv Physics for one image (no parameters per item).
        in_shape: (C, H, W) of the images.

    Raises:
        InputError: the physics does not take such images, is random, couples the items of a batch (or holds parameters for
            several), or gives a list of tensors.
    """

    def __init__(self, physics: Physics, in_shape: tuple[int, ...]) -> None:
        super().__init__()
        if not isinstance(physics, Physics):
            raise InputError(f"physics must be a deepinv.physics.Physics; given {type(physics).__name__}")
        self.in_shape = tuple(int(side) for side in in_shape)
        self.physics: Any = recast(physics, torch.float64)
        self._copies: dict[Any, Any] = {}
        self.register_load_state_dict_post_hook(forget_copies)
        probe = Probe(self.physics, self.in_shape)
        self.out_shape: Shape = probe.out_shape
        self.complex_output = probe.complex_output
        self._has_adjoint = probe.linear and probe.adjoint()
        self._full = False
        self.found = self._find(probe)
        if Capability.MASK in self.found:
            self.register_buffer("mask", self.physics.mask.expand(1, *self.in_shape)[0].clone())
            self.output_range = (0.0, 1.0)

    def _find(self, probe: Probe) -> frozenset[Capability]:
        if not probe.linear:
            return frozenset({Capability.DIFFERENTIABLE}) if probe.differentiable() else frozenset()
        found = {Capability.LINEAR, Capability.ADJOINT, Capability.DIFFERENTIABLE}
        if self._has_adjoint and probe.decomposable:
            self._full = probe.passes_svd(self._system(full=True))
            system = self._system(self._full)
            found |= {Capability.SVD} if self._full else set()
            found |= {Capability.PROX} if self._full or probe.prox(system) else set()
            found |= {Capability.PINV} if self._full or probe.pinv(system) else set()
        if probe.mask():
            found.add(Capability.MASK)
        return frozenset(found)

    def _system(self, full: bool) -> SVD:
        """deepinv's U, s and V; `full`: in our form, s of the spectrum's shape and U, U^T restricted to s > 0."""
        rows, columns = torch.Size(self.out_shape).numel(), torch.Size(self.in_shape).numel()
        mask = self.physics.mask.detach()
        s = rank_rule(mask[0] if mask.ndim and mask.shape[0] == 1 else mask, rows, columns)

        def kept(values: Tensor) -> Tensor:
            return torch.where(s.to(values.device) > 0, values, torch.zeros_like(values)) if full else values

        spectrum = tuple(self._call("V_adjoint", torch.zeros(1, *self.in_shape, dtype=torch.float64), ()).shape[1:])
        return SVD(
            s.expand(spectrum).clone() if full and s.numel() == 1 else s,
            lambda values: self._call("U", kept(values), self.out_shape),
            lambda y: kept(self._call("U_adjoint", y, spectrum)),
            lambda values: self._call("V", values, self.in_shape),
            lambda x: self._call("V_adjoint", x, spectrum),
        )

    def _call(self, name: str, x: Tensor, shape: Shape) -> Tensor:
        """A method of the physics on a clone of x; no items give no items of `shape`, which some methods cannot reshape."""
        if not len(x):
            complex_here = name == "A" and self.complex_output
            return x.new_zeros((0, *shape), dtype=torch.complex(x, x).dtype if complex_here else x.real.dtype)
        return getattr(self.at(x), name)(x.clone())

    def at(self, like: Tensor) -> Any:
        """The physics in the precision and on the device of some data."""
        key = (like.real.dtype, like.device)
        if key not in self._copies:
            self._copies[key] = recast(self.physics, like.real.dtype).to(like.device)
        return self._copies[key]

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the probes found."""
        return self.found

    def forward(self, x: Tensor) -> Tensor:
        """A(x), without noise."""
        return self._call("A", x, self.out_shape)

    def adjoint(self, y: Measurement) -> Tensor:
        """A_adjoint where it passed the dot test, else the vector-Jacobian product."""
        self.need(Capability.ADJOINT)
        first = parts(y)[0]
        if self._has_adjoint or not len(first):
            return self._call("A_adjoint", first, self.in_shape)
        return super().adjoint(first)

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
        return self._system(self._full).pinv(parts(y)[0])

    def prox(self, z: Tensor, y: Measurement, tau: float | Tensor) -> Tensor:
        """In the residual form of `invsolve.svd`, which loses fewer digits at large tau than deepinv's prox_l2."""
        self.need(Capability.PROX)
        return self._system(self._full).prox(z, parts(y)[0], tau)

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__(), "_copies": {}}
        if isinstance(state["arguments"].get("physics"), Physics):  # the caller's, which may hold lambdas; ours makes the same operator
            state["arguments"] = {**state["arguments"], "physics": self.physics}
        return state

    @property
    def label(self) -> str:
        """The physics' class name."""
        return f"deepinv {type(self.physics).__name__}"

    @classmethod
    def examples(cls) -> list[Operator]:
        """Inpainting, circular blur, grey from colour, subsampling after a blur."""
        kernel = deepinv.physics.functional.gaussian_blur(sigma=(1.0, 0.7)).double()
        shape: Any = (3, 8, 8)
        made = [
            deepinv.physics.Inpainting(img_size=shape, mask=(torch.arange(192).reshape(3, 8, 8) % 3 > 0).double()),
            deepinv.physics.BlurFFT(shape, filter=kernel[..., :5, :5]),
            deepinv.physics.Decolorize(),
            deepinv.physics.Downsampling(shape, filter="bicubic", factor=2),
        ]
        return [DeepinvOperator(physics, shape) for physics in made]


class DeepinvPhysics(DeepinvOperator):
    """A deepinv physics by the name of its class: DeepinvPhysics("Downsampling", (3, 64, 64), {"filter": "bicubic", "factor": 4}).

    Args:
        physics: name of a class of deepinv.physics.
        in_shape: (C, H, W) of the images; given to the class as img_size where it takes that and `options` does not have it.
        options: the class's other arguments.

    Raises:
        ArgumentError: no such class, or arguments it refuses.
        InputError: see DeepinvOperator.
    """

    def __init__(self, physics: str, in_shape: tuple[int, ...], options: dict[str, Any] | None = None) -> None:
        known = sorted(name for name, value in vars(deepinv.physics).items() if isinstance(value, type) and issubclass(value, Physics))
        if physics not in known:
            raise ArgumentError(f"no deepinv.physics class {physics!r}{did_you_mean(physics, known)} There are: {', '.join(known)}")
        cls = getattr(deepinv.physics, physics)
        super().__init__(construct(cls, {"img_size": tuple(in_shape), **(options or {})}, set(options or {})), in_shape)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Circular blur of two pixels and decimation, by name."""
        kernel = torch.full((1, 1, 2, 2), 0.25, dtype=torch.float64)
        return [
            DeepinvPhysics("BlurFFT", (3, 8, 8), {"filter": kernel}),
            DeepinvPhysics("Downsampling", (3, 8, 8), {"filter": None, "factor": 2}),
        ]


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

"""Clones of deepinv's physics that can be used as operators: in another precision, without lambdas, for some items only."""

from __future__ import annotations

import copy
from typing import Any

import deepinv
import torch
from deepinv.utils import TensorList
from torch import Tensor, nn

from invsolve.operator.measurement import Measurement


def theirs(y: Measurement) -> Any:
    """A tuple as a TensorList."""
    return TensorList(list(y)) if isinstance(y, tuple) else y


def ours(y: Any) -> Any:
    """A TensorList or list as a tuple."""
    if isinstance(y, TensorList | list | tuple):
        held: Any = y
        return tuple(held.x if isinstance(y, TensorList) else y)
    return y


def cloned(physics: Any) -> Any:
    """A clone that can be pickled where deepinv's own classes allow it, all of whose tensors are buffers or parameters."""
    try:
        clone = copy.deepcopy(physics)
    except (TypeError, RuntimeError):  # a torch.Generator inside; deepinv's own way takes half a second
        clone = physics.clone()
    registered(clone)
    without_lambdas(clone)
    return clone


def recast(physics: Any, dtype: torch.dtype) -> Any:
    """A clone of a physics with all floating buffers in `dtype`, complex ones in its complex type.

    (`module.to(dtype)` would drop the imaginary parts.)
    """
    clone = cloned(physics)
    complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
    for module in clone.modules():
        held = getattr(module, "dtype", None)
        if isinstance(held, torch.dtype):  # what tomography makes its grids in
            module.dtype = complex_dtype if held.is_complex else dtype
        for store in (module._buffers, module._parameters):
            for name, value in store.items():
                if value is not None and (value.is_floating_point() or value.is_complex()):
                    store[name] = as_held(value, value.detach().to(complex_dtype if value.is_complex() else dtype))
    for module in clone.modules():
        if isinstance(module, deepinv.physics.Tomography) and not (module.fan_beam or module.adjoint_via_backprop):
            # Its A would give autograd an approximate gradient, and its adjoint be that approximation.
            changed: Any = module
            changed.adjoint_via_backprop, changed._auto_grad_adjoint_fn, changed._auto_grad_adjoint_input_shape = True, None, None
    if dtype == torch.float64:
        for module in list(clone.modules()):
            recompute(module)
    return clone


def as_held(old: Tensor, new: Tensor) -> Tensor:
    """A parameter where the old value was one."""
    return nn.Parameter(new, requires_grad=False) if isinstance(old, nn.Parameter) else new


def recompute(physics: Any) -> None:
    """Buffers that deepinv derived from others in single precision: phase and modulus of a filter, norm of a spectral response."""
    if isinstance(physics, deepinv.physics.BlurFFT) and physics.filter is not None:
        physics.update_parameters(filter=physics.get_buffer("filter"))
    if isinstance(physics, deepinv.physics.Decolorize):
        physics.mask = torch.linalg.vector_norm(physics.srf, dim=1, keepdim=True)
    again: Any = getattr(physics, "recompute", None)
    if again is not None:  # a view of one of our operators
        again()


def sizes(physics: Any) -> list[int]:
    """The leading sizes above 1 of the tensors that a physics holds: for how many items it may have parameters."""
    found = {len(value) for value in [*physics.buffers(), *physics.parameters()] if value.ndim > 1 and len(value) > 1}
    declared = getattr(physics, "batch", None)
    return [declared] if isinstance(declared, int) else sorted(found)


def chosen(physics: Any, items: range, count: int) -> Any:
    """A clone with the parameters of some items: what leads with `count` is cut. Whether that is right must be tried."""
    if hasattr(physics, "select"):  # a view of one of our operators
        return physics.select(items)
    clone = cloned(physics)
    for module in clone.modules():
        for store in (module._buffers, module._parameters):
            for name, value in store.items():
                if value is not None and value.ndim > 1 and len(value) == count:
                    store[name] = as_held(value, value.detach()[items.start : items.stop].clone())
    return clone


def same(x: Tensor, *_: Any, **__: Any) -> Tensor:
    """x: stands for deepinv's identity lambdas."""
    return x


IDENTITY = (lambda x: x).__code__.co_code


def registered(physics: Any) -> None:
    """Turn plain attributes into what moves, casts and is saved with a module: tensors into buffers, lists of modules or tensors
    into their torch counterparts."""
    for module in list(physics.modules()):
        for name, held in list(vars(module).items()):
            if isinstance(held, Tensor):
                delattr(module, name)
                module.register_buffer(name, held)
            elif isinstance(held, list) and held and not name.startswith("_"):
                if all(isinstance(part, nn.Module) for part in held):
                    delattr(module, name)
                    setattr(module, name, nn.ModuleList(held))
                elif all(isinstance(part, Tensor) for part in held):
                    delattr(module, name)
                    setattr(module, name, nn.ParameterList(nn.Parameter(part, requires_grad=False) for part in held))


def without_lambdas(physics: Any) -> None:
    """Take away what keeps a physics from being pickled and is not used by its A: noise and sensor model, generators of
    random parameters, remembered adjoints, and lambdas that give back their argument."""
    for module in list(physics.modules()):
        for name, child in list(module._modules.items()):
            if name in ("noise_model", "sensor_model") or isinstance(child, deepinv.physics.generator.PhysicsGenerator):
                setattr(module, name, nn.Identity())
        for name, held in list(vars(module).items()):
            code = getattr(held, "__code__", None)
            if (code is not None and code.co_name == "<lambda>" and code.co_code == IDENTITY) or name in ("noise_model", "sensor_model"):
                setattr(module, name, same)
            if name == "_auto_grad_adjoint_fn":  # tomography's, made at first use for one shape
                setattr(module, name, None)

"""A device without a card: tensors that say that they lie elsewhere, computed on the CPU with their real values, watched.

Every operation goes through `Elsewhere`. One that is given tensors from both sides raises `MixedError`, as CUDA does; numbers and copies
are allowed. What makes the host wait for the device is counted: reading a value (.item(), bool, float, tolist), results whose shape
depends on values (nonzero, a boolean index), torch.equal, copies to the CPU, and the checks behind linalg functions.

The device is called `lazy`: of the names that torch knows it is one for which autograd works without a driver (for `cuda` it asks for the
card). In contrast to torch's fake tensors these have values, so that loops stop where the values say and answers can be compared.
"""

from collections import Counter
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from invsolve.operator.cache import PLACE

NAME = "lazy"
READS = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "is_nonzero", "_linalg_check_errors", "allclose", "bincount"}
READS |= {"_unique2", "unique_dim", "unique_consecutive", "linalg_lstsq", "repeat_interleave"}
COPIES = {"_to_copy", "copy_", "_copy_from"}


class MixedError(RuntimeError):
    """Tensors of two devices in one operation."""


class Away(torch.Tensor):
    """A tensor that says it is on the device; `held` are its values."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype, "device": NAME}
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, requires_grad=False, **layout)
        made.held = held
        return made

    def __repr__(self):
        return f"Away({self.held})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, dict(kwargs or {}), Counter())


def each(tree, change):
    """A tree of lists, tuples and dictionaries with its leaves changed; torch's own tree_map took two thirds of the time."""
    if isinstance(tree, (list, tuple)):
        return type(tree)([each(one, change) for one in tree])
    if isinstance(tree, dict):
        return {key: each(one, change) for key, one in tree.items()}
    return change(tree)


def tensors(tree):
    found = []
    for one in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else (tree,):
        if isinstance(one, torch.Tensor):
            found.append(one)
        elif isinstance(one, (list, tuple, dict)):
            found += tensors(one)
    return found


def waits(func, args, kwargs, away, to_cpu):
    """Whether the host has to wait for the device."""
    name = func._schema.name.removeprefix("aten::")
    if not away:
        return False
    if name in READS or (name in COPIES and to_cpu):
        return True
    masks = (
        [one for one in tensors(args[1]) if one.dtype in (torch.bool, torch.uint8)] if name.startswith("index") and len(args) > 1 else []
    )
    return bool(masks)


def run(func, args, kwargs, counts):
    """The operation on the values; its result on the device it belongs to."""
    name, given = func._schema.name.removeprefix("aten::"), [*tensors(args), *tensors(kwargs)]
    away = [one for one in given if isinstance(one, Away)]
    here = [one for one in given if not isinstance(one, Away) and one.ndim > 0]
    device = kwargs.get("device")
    elsewhere = bool(away) if device is None else torch.device(device).type == NAME
    if name == "copy_":
        elsewhere = isinstance(args[0], Away)
    if away and here and name not in COPIES and not (name.startswith("index") and isinstance(args[0], Away) and args[0] not in here):
        shapes = [(tuple(one.shape), str(one.device)) for one in given]
        raise MixedError(f"{name}: tensors on different devices: {shapes}")
    if waits(func, args, kwargs, away, not elsewhere):
        counts[name] += 1
    if elsewhere and not away and given and name in COPIES:
        counts["upload"] += 1
    back = {id(one.held): one for one in away}
    plain = {**kwargs, **({} if device is None else {"device": torch.device("cpu")})}
    out = func(*each(args, unwrapped), **each(plain, unwrapped))
    return each(out, lambda one: wrapped(one, back)) if elsewhere else out


def wrapped(one, back):
    """On the device; the operand itself where the operation was in place. Below the mode torch loses the bit of a lazy conjugate."""
    if not isinstance(one, torch.Tensor):
        return one
    if id(one) in back:
        return back[id(one)]
    return Away(torch.conj_physical(torch._conj(one)) if one.is_conj() else one)


def unwrapped(one):
    return one.held if isinstance(one, Away) else one


class Elsewhere(TorchDispatchMode):
    """While it is entered, tensors can be made on the device and moved there; `counts` says what made the host wait."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, dict(kwargs or {}), self.counts)

    @property
    def waits(self):
        """How often the host had to wait for the device; uploads are not among them."""
        return sum(count for name, count in self.counts.items() if name != "upload")


class FromNumbers(TorchFunctionMode):
    """torch.tensor(1.0, device=...) does not ask the mode: it is made here and taken there."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor, torch.asarray) and kwargs.get("device") is not None:
            device = torch.device(kwargs.pop("device"))
            return func(*args, **kwargs).to(device)
        return func(*args, **kwargs)


@contextmanager
def elsewhere():
    """A device, until the end."""
    with FromNumbers(), Elsewhere() as mode:
        yield mode


def moved(module):
    """A module whose buffers and parameters lie on the device; what it has derived from them before is forgotten."""
    for part in module.modules():
        vars(part).pop(PLACE, None)
        for key, value in part._buffers.items():
            part._buffers[key] = None if value is None else value.to(NAME)
        for key, value in part._parameters.items():
            part._parameters[key] = None if value is None else torch.nn.Parameter(value.detach().to(NAME), value.requires_grad)
    return module

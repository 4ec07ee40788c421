"""Blur kernels from files: MATLAB's two formats, numpy's, safetensors, pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.io.files import regular_file
from invsolve.io.images import read_image, read_tensor


def read_kernels(path: str | Path) -> list[Tensor]:
    """Every two-dimensional array in a file, float64, in the file's order.

    A MATLAB cell array gives each of its cells; MATLAB 7.3 files, whose arrays lie transposed on disk, are turned upright. A picture is one
    kernel of its grey values.

    Raises:
        InputError: no such file, not readable, no two-dimensional array in it, values that are not finite, or h5py is missing for a
            MATLAB 7.3 file.
    """
    file = regular_file(path, "kernel file")
    suffix = file.suffix.lower()
    try:
        if suffix == ".mat":
            arrays = list(from_matlab(file))
        elif suffix == ".npz":
            with np.load(file, allow_pickle=False) as archive:
                arrays = [archive[name] for name in archive.files]
        elif suffix in (".npy", ".safetensors"):
            arrays = [read_tensor(file).numpy()]
        else:
            arrays = [read_image(file, channels=1)[0][0].numpy()]
    except InputError:
        raise
    except Exception as error:  # whatever a reader does with a damaged file
        raise InputError(f"{file} cannot be read as kernels: {error}") from error
    found = [torch.from_numpy(np.array(one, dtype=np.float64)) for array in arrays for one in planes(array)]
    if not found:
        raise InputError(f"{file} holds no two-dimensional array")
    if not all(bool(torch.isfinite(one).all()) for one in found):
        raise InputError(f"{file} holds a kernel with NaN or infinite values")
    return found


def planes(array: Any) -> Iterator[np.ndarray]:
    """The kernels in an array: itself, each of a stack (N, kh, kw), each cell of an object array; nothing else."""
    array = np.asarray(array)
    if array.dtype == object:
        for cell in array.flat:
            yield from planes(cell)
    elif array.dtype.kind in "fiub" and array.ndim == 2 and array.size:
        yield array
    elif array.dtype.kind in "fiub" and array.ndim == 3 and array.size:
        yield from array


def from_matlab(file: Path) -> Iterator[Any]:
    """The variables of a .mat file of either format."""
    import scipy.io

    try:
        content = scipy.io.loadmat(str(file))
    except NotImplementedError:  # what scipy says to MATLAB 7.3
        yield from from_hdf(file)
        return
    yield from (value for name, value in content.items() if not name.startswith("__"))


def from_hdf(file: Path) -> Iterator[np.ndarray]:
    """The numeric arrays of a MATLAB 7.3 file, upright; a cell array is a table of references."""
    try:
        import h5py
    except ImportError as error:
        raise InputError(f'{file} is a MATLAB 7.3 file, which needs h5py: pip install "invsolve[matlab]"') from error
    with h5py.File(file, "r") as content:
        for name in content:
            value: Any = content[name]
            if str(name).startswith("#") or not isinstance(value, h5py.Dataset):
                continue
            if value.dtype == h5py.ref_dtype:
                for reference in np.asarray(value).T.flat:
                    yield np.asarray(content[reference]).T
            elif value.ndim == 2:
                yield np.asarray(value).T

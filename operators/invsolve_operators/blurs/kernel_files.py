"""Blur kernels from files: MATLAB's two formats, numpy's, safetensors, pictures.

What a file claims is added up before memory is taken: a small file can claim a large array.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.io.files import regular_file
from invsolve.io.images import load_image, read_tensor

# Numbers in one kernel and in all kernels of a file; a kernel of 1024 x 1024 blurs more than any photograph.
MOST, MOST_OF_FILE = 1 << 20, 1 << 24
COMPRESSED, HEADER = 15, 128


def read_kernels(path: str | Path) -> list[Tensor]:
    """Every two-dimensional array in a file, float64, in the file's order.

    A MATLAB cell array gives each of its cells; MATLAB 7.3 files, whose arrays lie transposed on disk, are turned upright. A picture is one
    kernel of its grey values.

    Raises:
        InputError: no such file, not readable, no two-dimensional array in it, one of more than a million numbers, values that are not
            finite, or h5py is missing for a MATLAB 7.3 file.
    """
    file = regular_file(path, "kernel file")
    try:
        found = [torch.from_numpy(np.array(one, dtype=np.float64)) for array in arrays(file) for one in planes(array, file)]
    except InputError:
        raise
    except Exception as error:  # whatever a reader does with a damaged file
        raise InputError(f"{file} cannot be read as kernels: {error}") from error
    if not found:
        raise InputError(f"{file} holds no two-dimensional array")
    if not all(bool(torch.isfinite(one).all()) for one in found):
        raise InputError(f"{file} holds a kernel with NaN or infinite values")
    return found


def arrays(file: Path) -> Iterator[Any]:
    """What the file holds, array by array."""
    suffix = file.suffix.lower()
    if suffix == ".mat":
        yield from from_matlab(file)
    elif suffix == ".npz":
        yield from from_archive(file)
    elif suffix in (".npy", ".safetensors"):
        if file.stat().st_size > 8 * MOST_OF_FILE:
            raise too_large(file, f"{file.stat().st_size} bytes")
        yield read_tensor(file).numpy()
    else:
        yield load_image(file, channels=1)[0].numpy()


def too_large(file: Path, claim: str) -> InputError:
    """The error for a file that claims more than kernels have."""
    return InputError(f"{file} holds {claim}, more than a blur kernel has ({MOST} numbers at most, {MOST_OF_FILE} in all of a file)")


def bounded(shape: Sequence[int], file: Path, room: int = MOST_OF_FILE) -> int:
    """The count of numbers of an array of this shape.

    Raises:
        InputError: more than there is room for.
    """
    count = math.prod(int(one) for one in shape)
    if count > room:
        raise too_large(file, f"an array of {' x '.join(map(str, shape))}")
    return count


def planes(array: Any, file: Path) -> Iterator[np.ndarray]:
    """The kernels in an array: itself, each of a stack (N, kh, kw), each cell of an object array; nothing else."""
    array = np.asarray(array)
    if array.dtype == object:
        for cell in array.flat:
            yield from planes(cell, file)
    elif array.dtype.kind in "fiub" and array.ndim in (2, 3) and array.size:
        for plane in array[None] if array.ndim == 2 else array:
            bounded(plane.shape, file, MOST)
            yield plane


def from_archive(file: Path) -> Iterator[np.ndarray]:
    """The arrays of an .npz file, none of which is unpacked before its header is read."""
    room = MOST_OF_FILE
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                version = np.lib.format.read_magic(member)
                reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = reader(member)
                room -= bounded((*shape, -(-dtype.itemsize // 8)), file, room)
    with np.load(file, allow_pickle=False) as archive:
        for name in archive.files:
            yield archive[name]


def from_matlab(file: Path) -> Iterator[Any]:
    """The variables of a .mat file of either format."""
    import scipy.io

    check_matlab(file)
    try:
        content = scipy.io.loadmat(str(file))
    except NotImplementedError:  # what scipy says to MATLAB 7.3
        yield from from_hdf(file)
        return
    yield from (value for name, value in content.items() if not name.startswith("__"))


def check_matlab(file: Path) -> None:
    """Raise InputError where the packed variables of a MATLAB 5 file are larger than kernels; nothing is held while they are counted."""
    size, room = file.stat().st_size, 8 * MOST_OF_FILE
    if size > room:
        raise too_large(file, f"{size} bytes")
    with file.open("rb") as stream:
        head = stream.read(HEADER)
        if not head.startswith(b"MATLAB 5"):
            return
        order = "little" if head[126:128] == b"IM" else "big"
        while len(tag := stream.read(8)) == 8:
            kind, count = (int.from_bytes(part, order) for part in (tag[:4], tag[4:]))
            after = stream.tell() + count
            if kind == COMPRESSED and after <= size:
                unpacking, data = zlib.decompressobj(), stream.read(count)
                while data and room >= 0:
                    room -= len(unpacking.decompress(data, 1 << 20))
                    data = unpacking.unconsumed_tail
            if room < 0:
                raise too_large(file, f"more than {8 * MOST_OF_FILE} bytes")
            stream.seek(after)


def from_hdf(file: Path) -> Iterator[np.ndarray]:
    """The numeric arrays of a MATLAB 7.3 file, upright; a cell array is a table of references."""
    try:
        import h5py
    except ImportError as error:
        raise InputError(f'{file} is a MATLAB 7.3 file, which needs h5py: pip install "invsolve[matlab]"') from error
    room = MOST_OF_FILE
    with h5py.File(file, "r") as content:
        for name in content:
            value: Any = content[name]
            if str(name).startswith("#") or not isinstance(value, h5py.Dataset):
                continue
            room -= bounded(value.shape, file, room)
            if value.dtype == h5py.ref_dtype:
                for reference in np.asarray(value).T.flat:
                    cell: Any = content[reference]
                    room -= bounded(cell.shape, file, room)
                    yield np.asarray(cell).T
            elif value.ndim == 2:
                yield np.asarray(value).T

"""Weight files of strangers: names, shapes and dtypes first, tensors after the caller has looked at them; no code is ever run.

safetensors: the header is parsed here (size capped; offsets inside the file, without gaps or overlaps) before the data are read.
.pt, .pth, .ckpt, .bin: `torch.load(weights_only=True)` under torch 2.10 or later, first onto the meta device, never with another
setting. .npz: without pickles. Archives may not unfold to more than they weigh (npz: 16 times).
"""

from __future__ import annotations

import hashlib
import math
import pickletools
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve_deepinv.weights import HEADER_LIMIT, read_header

PICKLED = (".pt", ".pth", ".ckpt", ".bin")
SUFFIXES = (".safetensors", *PICKLED, ".npz")
SIZE_LIMIT = 8 << 30
TENSOR_LIMIT = 20_000
UNFOLD = 16
TORCH = (2, 10)
# CVE-2025-32434 and CVE-2026-24747: weights_only was no wall before 2.10.
WAY = "load it in the project it comes from and save its state_dict with safetensors.torch.save_file"
KNOWN = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NESTS = ("ema", "ema_state_dict", "params_ema", "model_ema", "state_dict", "model_state_dict", "params", "model", "net")


@dataclass(frozen=True)
class WeightFile:
    """A file whose table of tensors has been read and checked.

    Args:
        path: the file.
        size: bytes.
        shapes, dtypes: per tensor; dtypes in safetensors' words (F32, F16, ...).
        nest: the entry of a checkpoint the tensors stand under, "" for none.
        read: reads the tensors.
    """

    path: Path
    size: int
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    nest: str
    read: Callable[[], dict[str, Tensor]]

    @property
    def parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def sha256(self) -> str:
        """Of the file."""
        return sha256_of(self.path)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors on the CPU, floating ones as float32; finite.

        Raises:
            InputError: they cannot be read, are not those of the table, or hold NaN or infinity.
        """
        try:
            found = self.read()
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{self.path}: its tensors cannot be read ({reason(error)}); copy the file again") from error
        if {key: tuple(value.shape) for key, value in found.items()} != self.shapes:
            raise InputError(f"{self.path}: its tensors are not those of its own table; copy the file again")
        for key, value in found.items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise InputError(f"{self.path}: {key} holds NaN or infinity")
        return {key: value.float() if value.is_floating_point() else value for key, value in found.items()}


def sha256_of(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reason(error: BaseException) -> str:
    """An error's first line, at most 200 characters."""
    return ((str(error).splitlines() or [""])[0] or type(error).__name__)[:200]


def read_weights(path: str | Path) -> WeightFile:
    """The table of a weight file.

    Args:
        path: a file ending in one of SUFFIXES, of at most SIZE_LIMIT (8 GiB).

    Raises:
        InputError: another kind of file (pickles that are more than tensors among them), or one that is broken or hostile.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in (".pkl", ".pickle"):
        raise InputError(f"{path}: a pickle can run code when it is read (EDM's hold their own source), so none is read here; {WAY}")
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: weights are read from {', '.join(SUFFIXES)} or a diffusers folder; {WAY}")
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        size = path.stat().st_size
        if size > SIZE_LIMIT:
            raise InputError(f"{path}: {size} bytes, more than the {SIZE_LIMIT} that are read")
        found = (_safetensors if suffix == ".safetensors" else _npz if suffix == ".npz" else _pickled)(path, size)
    except InputError:
        raise
    except (Exception, RecursionError) as error:
        raise InputError(f"{path}: not a readable {suffix} file ({reason(error)}); copy it again, or {WAY}") from error
    if not found.shapes:
        raise InputError(f"{path}: holds no tensors")
    return found


def _safetensors(path: Path, size: int) -> WeightFile:
    with path.open("rb") as file:
        start = file.read(8 + HEADER_LIMIT)
    header = read_header(start, path)
    begin = 8 + int.from_bytes(start[:8], "little")
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    spans: list[tuple[int, int, str]] = []
    for key, entry in header.items():
        shape, dtype, offsets = entry.get("shape"), entry.get("dtype"), entry.get("data_offsets")
        whole = [isinstance(part, list) and all(type(one) is int and 0 <= one <= SIZE_LIMIT for one in part) for part in (shape, offsets)]
        if not all(whole) or dtype not in KNOWN or len(offsets) != 2:
            raise InputError(f"{path}: {key[:80]!r} has no usable shape, dtype and offsets; dtypes that are read: {', '.join(KNOWN)}")
        shapes[key], dtypes[key] = tuple(shape), dtype
        if offsets[1] - offsets[0] != math.prod(shape) * KNOWN[dtype].itemsize:
            raise InputError(f"{path}: {key[:80]!r} of shape {shape} {dtype} cannot fill bytes {offsets}")
        spans.append((offsets[0], offsets[1], key))
    end = 0
    for low, high, key in sorted(spans):
        if low != end:
            raise InputError(f"{path}: {key[:80]!r} begins at byte {low} of the data, {end} was expected: tensors overlap or leave gaps")
        end = high
    if begin + end != size:
        raise InputError(f"{path}: {size} bytes, its header speaks of {begin + end}; copy the file again")
    return WeightFile(path, size, shapes, dtypes, "", lambda: safetensors.torch.load_file(path))


def _npz(path: Path, size: int) -> WeightFile:
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        check_archive(path, entries, UNFOLD * size)
        for entry in entries:
            key = entry.filename.removesuffix(".npy")
            with archive.open(entry) as file:
                shape, dtype = npy_header(file)
            name = {"f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32"}.get(dtype.str[1:])
            if name is None or dtype.hasobject or math.prod(shape) * dtype.itemsize > entry.file_size:
                raise InputError(f"{path}: {key[:80]!r} is {dtype} {shape} in {entry.file_size} bytes; only plain numbers are read")
            shapes[key], dtypes[key] = shape, name

    def read() -> dict[str, Tensor]:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(np.ascontiguousarray(arrays[key]).reshape(shapes[key])) for key in shapes}

    return WeightFile(path, size, shapes, dtypes, "", read)


def npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an .npy stream; numpy parses the header as a literal and caps its length."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"unknown npy version {version}")
    parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = parse(file)
    return tuple(int(side) for side in shape), dtype


def check_archive(path: Path, entries: list[zipfile.ZipInfo], limit: int) -> None:
    """Raise InputError for an archive with too many entries, repeated names, or more content than `limit`."""
    if len(entries) > TENSOR_LIMIT or len({entry.filename for entry in entries}) != len(entries):
        raise InputError(f"{path}: {len(entries)} entries, some twice, or more than {TENSOR_LIMIT}")
    total = sum(entry.file_size for entry in entries)
    if total > limit or total > SIZE_LIMIT:
        raise InputError(f"{path}: unfolds to {total} bytes, more than the {min(limit, SIZE_LIMIT)} allowed for it; a zip bomb?")


def _pickled(path: Path, size: int) -> WeightFile:
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < TORCH:
        raise InputError(f"{path}: pickled weights need torch >= 2.10, this is {torch.__version__}; {WAY}")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            check_archive(path, entries, size)
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise InputError(f"{path}: a compressed archive; torch.save does not compress, so this is refused")
        content = load_tensors_only(path, "meta")
    else:
        check_claims(path, size)
        content = load_tensors_only(path, "cpu")
    nest, state = state_of(content, path)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    words = {dtype: word for word, dtype in KNOWN.items()}
    strange = [key for key, value in state.items() if value.dtype not in words or value.layout != torch.strided]
    amounts = [math.prod(shapes[key]) * value.dtype.itemsize for key, value in state.items()]
    if strange or max(amounts, default=0) > size or sum(amounts) > 4 * size:
        raise InputError(f"{path}: tensors of other types than {', '.join(KNOWN)}, or larger than the file: {strange[:3]}")
    dtypes = {key: words[value.dtype] for key, value in state.items()}

    def read() -> dict[str, Tensor]:
        return {key: value.detach().contiguous() for key, value in state_of(load_tensors_only(path, "cpu"), path)[1].items()}

    return WeightFile(path, size, shapes, dtypes, nest, read)


def load_tensors_only(path: Path, device: str) -> Any:
    """torch.load with weights_only=True.

    Raises:
        InputError: the file is broken or is more than tensors; the class or function it asks for is named.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (Exception, RecursionError) as error:
        found = re.search(r"GLOBAL ([\w.]+)|class ([\w.]+)", str(error))
        what = f"it asks for {found[1] or found[2]}" if found else reason(error)
        raise InputError(f"{path}: torch refuses it with weights_only=True ({what}), and no other way is tried; {WAY}") from error


def check_claims(path: Path, size: int) -> None:
    """Refuse a file in torch's old format that names a storage larger than the file: torch would make room for it first."""
    with path.open("rb") as file:
        for index in range(4):
            for _, argument, _ in pickletools.genops(file):
                # The first of the four is the format's magic number.
                if index and isinstance(argument, int) and argument > size:
                    raise InputError(f"{path}: speaks of {argument} numbers in a file of {size} bytes")


def state_of(content: Any, path: Path) -> tuple[str, dict[str, Tensor]]:
    """The table of tensors in what was loaded, and the entry it stands under.

    Raises:
        InputError: there is none.
    """
    for nest in ("", *NESTS):
        inner = content if not nest else content.get(nest) if isinstance(content, dict) else None
        if isinstance(inner, dict) and inner and all(isinstance(key, str) for key in inner):
            tensors = {key: value for key, value in inner.items() if isinstance(value, Tensor)}
            if len(tensors) == len(inner) or (nest and tensors):
                return nest, tensors
    keys = ", ".join(str(key)[:40] for key in list(content)[:6]) if isinstance(content, dict) else type(content).__name__
    raise InputError(f"{path}: no table of tensors found (it holds: {keys}); save the state_dict alone")

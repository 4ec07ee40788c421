"""Files that hold weights: safetensors, torch files without code, npz. What is inside is listed and checked before data are read.

No file can run code: pickles are read by torch.load(weights_only=True) alone, never by another way when that one refuses.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve_weights.score_sde import averaged

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".npz")
HEADER_LIMIT = 8 << 20
FILE_LIMIT = 8 << 30
# The largest published networks of these formats have less than 2000 tensors, which take 30 pickle operations each; averages and an
# optimiser's two states saved beside them make that four times as many.
TENSOR_LIMIT = 3000
OPERATION_LIMIT = 500_000
PICKLE_LIMIT = 16 << 20
SAFE = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32}
SAFE |= {"U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "BOOL": torch.bool}
# Where training programs put the weights within what they save, the averaged ones first.
WITHIN = ("params_ema", "ema", "ema_state_dict", "model_ema", "params", "state_dict", "model_state_dict", "model", "net", "network")
CONVERT = "load it where it was made, and save its state_dict with safetensors.torch.save_file"


@dataclass(frozen=True)
class Stored:
    """A weight file, listed.

    Args:
        path: the file.
        container: safetensors, torch or npz.
        shapes, dtypes: by key.
        load: reads the tensors.
        size: of the file in bytes.
        within: the table inside the file that was taken, "" for the file itself.
        note: what else is to be said of its weights.
    """

    path: Path
    container: str
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]
    load: Callable[[], dict[str, Tensor]]
    size: int
    within: str = ""
    note: str = ""

    def without_prefix(self) -> Stored | None:
        """The same with the first part taken off its keys, where all share it ("model." of Lightning, "_orig_mod." of torch.compile)."""
        prefix = next(iter(self.shapes)).partition(".")[0] + "."
        if not all(key.startswith(prefix) and len(key) > len(prefix) for key in self.shapes):
            return None
        shapes, dtypes = ({key[len(prefix) :]: value for key, value in table.items()} for table in (self.shapes, self.dtypes))
        return replace(self, shapes=shapes, dtypes=dtypes, load=lambda: {key[len(prefix) :]: value for key, value in self.load().items()})

    def sha256(self) -> str:
        """Of the whole file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def open_weights(path: str | Path) -> Stored:
    """List what a weight file holds.

    Raises:
        InputError: no such file, another suffix, damaged, with code in it, or with more in it than its size allows.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        pickled = f"; EDM's .pkl files hold code and are not read: {CONVERT}" if suffix in (".pkl", ".pickle") else ""
        raise InputError(f"{path}: weights come as {', '.join(SUFFIXES)}, or as the folder of a diffusers network{pickled}")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not path.is_file() or size > FILE_LIMIT:
        raise InputError(f"{path}: not a file of at most {FILE_LIMIT >> 30} GiB")
    opener = {".safetensors": open_safetensors, ".npz": open_npz}.get(suffix, open_torch)
    try:
        found = opener(path, size)
    except InputError:
        raise
    except Exception as error:  # whatever a hostile file brings about, it ends here
        text = str(error).splitlines()[0][:200] if str(error) else ""
        raise InputError(f"{path}: not a readable {suffix} file ({type(error).__name__}: {text})") from error
    if not found.shapes:
        raise InputError(f"{path}: holds no tensors")
    if len(found.shapes) > TENSOR_LIMIT:
        raise InputError(f"{path}: {len(found.shapes)} tensors; no network that is read here has more than {TENSOR_LIMIT}")
    return found


def open_safetensors(path: Path, size: int) -> Stored:
    """From the header alone."""
    with path.open("rb") as file:
        head = file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        if not 2 <= length <= HEADER_LIMIT or 8 + length > size:
            raise InputError(
                f"{path}: its header claims {length} bytes of a file of {size}, allowed are 2 to {HEADER_LIMIT}; "
                "damaged, or no safetensors file"
            )
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise InputError(f"{path}: its header is no table")
    header.pop("__metadata__", None)
    spans, shapes, dtypes = [], {}, {}
    for key, entry in header.items():
        shape, dtype = tuple(entry["shape"]), SAFE.get(entry["dtype"])
        begin, end = entry["data_offsets"]
        if dtype is None or not all(type(one) is int and one >= 0 for one in (*shape, begin, end)):
            raise InputError(
                f"{path}: {key[:80]!r} has dtype {entry['dtype']!r:.20} and shape {str(shape)[:80]}; dtypes read are {', '.join(SAFE)}"
            )
        if end - begin != math.prod(shape) * dtype.itemsize or end > size - 8 - length:
            raise InputError(f"{path}: {key[:80]!r} of shape {str(shape)[:80]} does not fit its place {begin} to {end}; damaged or cut off")
        spans.append((begin, end))
        shapes[key], dtypes[key] = shape, dtype
    ends = sorted(span for span in spans if span[0] < span[1])
    if any(first[1] > second[0] for first, second in itertools.pairwise(ends)):
        raise InputError(f"{path}: tensors lie on top of each other; no honest program writes that")

    def load() -> dict[str, Tensor]:
        import safetensors.torch

        return safetensors.torch.load_file(path)

    return Stored(path, "safetensors", shapes, dtypes, load, size)


def open_torch(path: Path, size: int) -> Stored:
    """By torch.load(weights_only=True) with the data left on disk; zip files are checked first."""
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < (2, 10):
        raise InputError(f"{path}: torch files need torch 2.10 or newer (weights_only was unsafe before); here is {torch.__version__}")
    zipped = zipfile.is_zipfile(path)
    if zipped:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
            pickled = [entry for entry in entries if entry.filename.endswith(".pkl")]
            large = any(entry.file_size > PICKLE_LIMIT for entry in pickled)
            if packed or large or sum(entry.file_size for entry in entries) > size:
                raise InputError(f"{path}: a zip file with compressed or oversized parts; torch writes none: save it again with torch.save")
            for entry in pickled:
                check_operations(path, io.BytesIO(archive.read(entry)), pickles=1)
    else:
        with path.open("rb") as stream:
            check_operations(path, stream, pickles=5)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True if zipped else None)
    except Exception as error:
        text = next((line for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line), str(error)[:160]).strip()
        raise InputError(f"{path}: refused by torch.load(weights_only=True), the one way it is read ({text[:240]}); {CONVERT}") from error
    try:
        table, within = tensors_of(content)
        better, note = averaged(content, table) if within else (None, "")
        table = table if better is None else plain(better)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    total = sum(value.numel() * value.element_size() for value in table.values())
    if total > 2 * size + (1 << 20):
        raise InputError(f"{path}: its tensors claim {total} bytes, the file has {size}; views of a few numbers are no weights: {CONVERT}")
    shapes = {key: tuple(value.shape) for key, value in table.items()}
    return Stored(path, "torch", shapes, {key: value.dtype for key, value in table.items()}, lambda: dict(table), size, within, note)


def check_operations(path: Path, stream: IO[bytes], pickles: int) -> None:
    """Refuse pickles of too many operations: torch runs them one by one, and a byte is enough for one.

    Args:
        path: of the file.
        stream: where they begin.
        pickles: how many follow each other; torch's old format has five before its data.
    """
    operations = itertools.chain.from_iterable(pickletools.genops(stream) for _ in range(pickles))
    try:
        count = sum(1 for _ in itertools.islice(operations, OPERATION_LIMIT + 1))
    except Exception as error:
        raise InputError(f"{path}: not a whole file of torch.save ({error!s:.160}); {CONVERT}") from error
    if count > OPERATION_LIMIT:
        raise InputError(f"{path}: more than {OPERATION_LIMIT} operations to unpickle; {CONVERT}")


def tensors_of(content: Any) -> tuple[dict[str, Tensor], str]:
    """The table of tensors in what was saved, and where it was; other entries (steps, rates) are left out."""
    if not isinstance(content, dict):
        raise InputError(f"holds a {type(content).__name__}, not a state_dict; {CONVERT}")
    for name in WITHIN:
        inner = content.get(name)
        if isinstance(inner, dict) and any(isinstance(value, Tensor) for value in inner.values()):
            return plain(inner), name
    return plain(content), ""


def plain(table: dict[Any, Any]) -> dict[str, Tensor]:
    """Dense real tensors on the CPU under string keys, without DataParallel's prefix."""
    found = {key: value for key, value in table.items() if isinstance(key, str) and isinstance(value, Tensor)}
    odd = [key for key, value in found.items() if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu"]
    if odd:
        raise InputError(f"{odd[0][:80]!r} is sparse, quantised or without data; dense weights are needed")
    complex_ones = [key for key, value in found.items() if value.is_complex()]
    if complex_ones:
        raise InputError(f"{complex_ones[0][:80]!r} is complex; networks of real weights are read")
    if found and all(key.startswith("module.") for key in found):
        found = {key.removeprefix("module."): value for key, value in found.items()}
    return {key: value.detach() for key, value in found.items()}


def open_npz(path: Path, size: int) -> Stored:
    """From the headers of its arrays; objects (pickles) are refused, and contents far larger than the file."""
    shapes, dtypes = {}, {}
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        total = sum(entry.file_size for entry in entries)
        if total > min(FILE_LIMIT, 100 * size + (1 << 20)):
            raise InputError(f"{path}: {size} bytes that unpack to {total}; no weights compress so well")
        for entry in entries:
            with archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = reader(file)
            if dtype.hasobject or dtype.kind not in "fiub":
                raise InputError(f"{path}: {entry.filename[:80]!r} is of type {dtype}; numbers are read, objects are not")
            if math.prod(shape) * dtype.itemsize > entry.file_size:
                raise InputError(f"{path}: {entry.filename[:80]!r} of shape {str(shape)[:80]} is cut off")
            key = entry.filename.removesuffix(".npy")
            shapes[key], dtypes[key] = tuple(shape), torch.from_numpy(np.empty(0, dtype.newbyteorder("="))).dtype

    def load() -> dict[str, Tensor]:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(np.ascontiguousarray(arrays[key], arrays[key].dtype.newbyteorder("="))) for key in arrays.files}

    return Stored(path, "npz", shapes, dtypes, load, size)

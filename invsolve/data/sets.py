"""Pictures as data: data sets by name, for benchmarks, training and reports alike.

A data set is a registered callable that gives pictures; `folder`, `zip` and `npz` read people's own. One line names it everywhere:

    data = "quick-photos"
    data = { folder = "photos", crop = 128, first = 10 }
    data = { name = "synthetic", shape = [3, 32, 32], images = 2 }

Order is by name, so that it is the same on every machine; crops are taken from the middle.
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invsolve.errors import InputError, InvsolveError, did_you_mean
from invsolve.io.images import GREY, read_image
from invsolve.plugins import registry
from invsolve.plugins.arguments import signature_of
from invsolve.problem import check_tensor
from invsolve.recipe.parts import Paths, build
from invsolve.recipe.tables import MAX_NUMBERS, Part, located

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
MAX_MEMBER = 2**29  # bytes of one file in a zip
COMMON = ("crop", "first", "channels", "label")


@dataclass(frozen=True)
class Picture:
    """One image of a data set.

    Args:
        id: unique within the data set: letters, digits, dot, dash, underscore.
        image: (C, H, W) in [0, 1], float32 or float64.
        title, licence, source: for the report.
    """

    id: str
    image: Tensor
    title: str = ""
    licence: str = "not stated"
    source: str = "not stated"

    @property
    def sha256(self) -> str:
        """Of the values as they are used (cropped, scaled to [0, 1]), with shape and dtype: what a result depends on."""
        return tensor_sha256(self.image)


def tensor_sha256(tensor: Tensor) -> str:
    """SHA-256 of dtype, shape and values (as they lie in memory, contiguous)."""
    value = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    value = value.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
    digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def folder_sha256(folder: Path) -> str:
    """SHA-256 of the names and contents of all files in a folder, in name order.

    Raises:
        InputError: no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {folder}")
    digest = hashlib.sha256()
    for name, path in _below(folder):
        digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _below(folder: Path) -> list[tuple[str, Path]]:
    """All files of a folder and what is in it, by their names from there."""
    return sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())


# --- data sets of people's own -----------------------------------------------------------------------------------------------


def folder(path: Path) -> Iterator[Picture]:
    """The pictures of a folder and of those in it, in the order of their names; other files are passed over.

    Args:
        path: the folder; a relative one starts from the file that names it.

    Raises:
        InputError: no such folder, no picture in it, or a file that cannot be read as one, which is named.
    """
    if not path.is_dir():
        raise InputError(f"{path}: {_not(path, 'a folder')}")
    found = [(name, file) for name, file in _below(path) if is_image(name)]
    for key, (name, file) in zip(keys([name for name, _ in found], path), found, strict=True):
        yield Picture(key, _read(file, name), name, source=path.name)


def zipped(path: Path) -> Iterator[Picture]:
    """The pictures in a zip file, in the order of their names; other files in it are passed over.

    Args:
        path: the file; a relative one starts from the file that names it.

    Raises:
        InputError: no such file, no zip, no picture in it, or one that cannot be read, which is named.
    """
    if not path.is_file():
        raise InputError(f"{path}: {_not(path, 'a zip file')}")
    with members(path) as found, tempfile.TemporaryDirectory() as place:
        for key, (name, content) in zip(keys([name for name, _ in found], path), found, strict=True):
            file = Path(place) / f"picture{PurePosixPath(name).suffix.lower()}"
            file.write_bytes(content())
            yield Picture(key, _read(file, f"{path}:{name}"), name, source=path.name)


def npz(path: Path) -> Iterator[Picture]:
    """The array `images` of an npz file: (N, H, W), (N, H, W, 1) or (N, H, W, 3), uint8, in its order.

    Args:
        path: the file; a relative one starts from the file that names it.

    Raises:
        InputError: no such file, or another array in it.
    """
    if not path.is_file():
        raise InputError(f"{path}: {_not(path, 'an npz file')}")
    for index, array in enumerate(arrays_of(path)):
        values = torch.from_numpy(array.copy()).to(torch.float32) / 255
        image = values[None] if values.ndim == 2 else values.permute(2, 0, 1).contiguous()
        yield Picture(f"image-{index:04}", image, f"image {index}", source=path.name)


def _not(path: Path, wanted: str) -> str:
    kinds = "a folder is { folder = ... }, a zip file { zip = ... }, an npz file { npz = ... }"
    return f"there is no such path; give {wanted}" if not path.exists() else f"not {wanted}: {kinds}"


def _read(file: Path, name: str) -> Tensor:
    try:
        image, info = read_image(file)
    except InputError as error:
        raise InputError(f"{name}: {str(error).replace(str(file), 'it')}; remove it or put a good copy in its place") from None
    replace(info, path=name).tell()
    return image


def is_image(name: str) -> bool:
    """Whether a file's name is an image's; what macOS puts beside files (`._NAME`, `__MACOSX`) only looks like it."""
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._") and "__MACOSX" not in path.parts


@contextmanager
def members(path: Path) -> Iterator[list[tuple[str, Any]]]:
    """(name, a call that gives its bytes) of every picture in a zip file, by name.

    Raises:
        InputError: a damaged file, an encrypted or an oversized member.
    """
    place = [""]

    def content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
        place[0] = f":{info.filename}"
        if info.file_size > MAX_MEMBER:
            raise InputError(f"{path}:{info.filename} claims {info.file_size} bytes; at most {MAX_MEMBER} are read")
        return archive.read(info)

    try:
        with zipfile.ZipFile(path) as archive:
            found = sorted({info.filename: info for info in archive.infolist() if is_image(info.filename) and not info.is_dir()}.items())
            yield [(name, lambda info=info: content(archive, info)) for name, info in found]
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError, EOFError) as error:
        raise InputError(f"{path}{place[0]}: not a readable zip file ({error}); copy it again") from error


def arrays_of(source: Path) -> np.ndarray:
    """`images` of an npz file: (N, H, W), (N, H, W, 1) or (N, H, W, 3), uint8.

    Raises:
        InputError: not such a file. Arrays of objects, which would run code, are not read.
    """
    images = _array(source, "images")
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)) or 0 in images.shape:
        raise InputError(f"{source}: images must be uint8 (N, H, W) or (N, H, W, 1 or 3), N > 0; given {images.dtype} {images.shape}")
    return images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images


def labels_of(source: Path) -> np.ndarray:
    """`labels` of an npz file, the class of each image: (N,), int64.

    Raises:
        InputError: not such a file, or values that are no whole numbers from 0 on.
    """
    labels = _array(source, "labels")
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or not len(labels) or int(labels.min()) < 0:
        raise InputError(f"{source}: labels must be whole numbers (N,), 0 or more; given {labels.dtype} {labels.shape}")
    return labels.astype(np.int64)


def _array(source: Path, name: str) -> np.ndarray:
    """An array of an npz file; arrays of objects, which would run code, are not read."""
    try:
        with zipfile.ZipFile(source) as archive:
            claimed = sum(info.file_size for info in archive.infolist())
        if claimed > 4 * MAX_NUMBERS:
            raise InputError(f"{source} claims {claimed} bytes; at most {4 * MAX_NUMBERS} are read")
        with np.load(io.BytesIO(source.read_bytes()), allow_pickle=False) as content:
            if name not in content.files:
                near = did_you_mean(name, content.files) or f"; there are: {', '.join(content.files) or 'none'}"
                raise InputError(f"{source}: no array '{name}'{near}")
            return content[name]
    except InputError:
        raise
    except Exception as error:  # a damaged file makes numpy raise nearly anything
        raise InputError(f"{source}: not a readable npz file ({error}); copy it again") from error


def keys(names: list[str], source: Path) -> list[str]:
    """Ids from names of files: what an id cannot hold becomes a dash; where two would be one, or too long, a hash of the name is added.

    Raises:
        InputError: no name.
    """
    if not names:
        raise InputError(f"{source}: no image found; give one of {', '.join(SUFFIXES)}")
    bare = [re.sub(r"[^A-Za-z0-9._-]+", "-", str(PurePosixPath(name).with_suffix(""))).strip("-._") for name in names]
    return [
        key
        if key and len(key) <= 64 and bare.count(key) == 1
        else f"{key[:50] or 'picture'}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        for key, name in zip(bare, names, strict=True)
    ]


# --- any data set ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Here:
    """Where relative paths start: a folder, the current one unless said."""

    folder: Path = Path()

    def path(self, name: str) -> Path:
        """A path from there."""
        return located(self.folder, name)


def load_pictures(name: str, parameters: dict[str, Any]) -> list[Picture]:
    """The pictures of a registered data set, checked; `load_set` is the same for a table.

    Raises:
        InputError: as `load_set`.
    """
    return load_set(Part.model_validate({**parameters, "name": name}), Here())


def load_set(part: Part, paths: Paths) -> list[Picture]:
    """The pictures of a data set, in its order, cropped and counted as the table says.

    A data set is a callable that gives Pictures, or (id, tensor) pairs. `crop`, `first` and `channels` go with every set, unless its
    callable has a parameter of that name.

    Raises:
        InputError: no picture, an id twice or malformed, an image that is no (C, H, W) tensor in [0, 1], or smaller than the crop.
    """
    takes = signature_of(registry().load("dataset", part.name)).parameters
    given = {**part.arguments, **{key: value for key in COMMON if (value := getattr(part, key, None)) not in (None, "")}}
    common = {key: given.pop(key) for key in COMMON if key in given and key not in takes}
    found: Iterable[Any] = build("dataset", Part.model_validate({**given, "name": part.name}), paths)
    pictures: list[Picture] = []
    try:
        for item in islice(found, common.get("first")):
            picture = as_picture(part.name, item)
            pictures.append(fitting(part.name, picture, common.get("crop"), common.get("channels")))
            if sum(one.image.numel() for one in pictures) > MAX_NUMBERS:
                raise InputError(f"data set '{part.name}' has more than {MAX_NUMBERS} numbers: give crop = 256, or first = 10")
    except InvsolveError:
        raise
    except Exception as error:  # a stranger's
        raise InputError(f"data set '{part.name}' failed: {type(error).__name__}: {error}") from error
    if not pictures:
        raise InputError(f"data set '{part.name}' is empty")
    ids = [picture.id for picture in pictures]
    if len(set(ids)) < len(ids):
        raise InputError(f"data set '{part.name}' has an id twice: {', '.join(sorted({key for key in ids if ids.count(key) > 1}))}")
    return pictures


def as_picture(name: str, item: Any) -> Picture:
    """What a data set gives as a Picture.

    Raises:
        InputError: neither a Picture nor a pair of an id and a tensor.
    """
    if isinstance(item, Picture):
        return item
    if isinstance(item, tuple | list) and len(item) > 1 and isinstance(item[0], str):
        return Picture(*item)
    given = f"a tensor {tuple(item.shape)}" if isinstance(item, Tensor) else f"{type(item).__name__} {item!r:.60}"
    raise InputError(
        f"data set '{name}' must give Pictures, or pairs of an id and a tensor; it gave {given}: yield Picture(\"one\", image)"
    )


def fitting(name: str, picture: Picture, crop: Any = None, channels: int | None = None) -> Picture:
    """A picture, checked, of the channels and size that were asked for.

    Raises:
        InputError: as `load_set`.
    """
    what = f"picture {picture.id!r} of '{name}'"
    if not ID.fullmatch(picture.id):
        raise InputError(f"{what}: an id must match {ID.pattern}")
    check_tensor(what, picture.image)
    if picture.image.ndim != 3:
        raise InputError(f"{what} must be (C, H, W); given {tuple(picture.image.shape)}")
    low, high = float(picture.image.min()), float(picture.image.max())
    if low < 0 or high > 1:
        raise InputError(f"{what} must lie in [0, 1]; it spans [{low:.3g}, {high:.3g}]")
    return replace(picture, image=centred(with_channels(picture.image, channels, what), crop, what))


def with_channels(image: Tensor, channels: int | None, what: str) -> Tensor:
    """(1, H, W) by 0.299 R + 0.587 G + 0.114 B, or (3, H, W) by repeating a grey one; None leaves it.

    Raises:
        InputError: neither grey nor colour.
    """
    if channels in (None, len(image)):
        return image
    if {len(image), channels} != {1, 3}:
        raise InputError(f"{what} has {len(image)} channels, which cannot be made {channels}; channels is 1 or 3")
    return image.repeat(3, 1, 1) if channels == 3 else (image * image.new_tensor(GREY)[:, None, None]).sum(0, keepdim=True)


def centred(image: Tensor, crop: Any, what: str) -> Tensor:
    """The middle (C, h, w) of an image, crop = side or (h, w); an odd pixel stays at the bottom or right. None leaves it.

    Raises:
        InputError: an image smaller than the crop, or a crop that is none.
    """
    if crop is None:
        return image
    sides = list(crop) if isinstance(crop, list | tuple) else [crop, crop]
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise InputError(f"crop is a side or [height, width], whole numbers above 0; given {crop!r:.60}")
    (rows, columns), (height, width) = image.shape[-2:], sides
    if height > rows or width > columns:
        raise InputError(
            f"{what} has {rows} x {columns} pixels (height x width), fewer than crop = {height} x {width}; give a smaller crop"
        )
    top, left = (rows - height) // 2, (columns - width) // 2
    return image[..., top : top + height, left : left + width].contiguous()


def chosen(text: str) -> Part:
    """A data set as the shell names it: a registered name, or the path of a folder, a zip or an npz file.

    Raises:
        InputError: neither.
    """
    path, names = Path(text).expanduser(), registry().names("dataset")
    if text in names:
        return Part(name=text)
    kind = "folder" if path.is_dir() else path.suffix.lower().lstrip(".")
    if path.exists() and kind in ("folder", "zip", "npz"):
        return Part.model_validate({"name": kind, "path": text})
    raise InputError(
        f"{text!r:.80} is neither a folder, a zip or npz file, nor a data set{did_you_mean(text, names) or ': ' + ', '.join(names)}"
    )

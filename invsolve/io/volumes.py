"""Volumes as files: NIfTI and stacks of TIFF pages become float32 (C, D, H, W) in [0, 1], and back with their place in space.

Depth, height and width are the file's z, y and x. NIfTI is read and written by nibabel, the extra `volumes`.
"""

from __future__ import annotations

import gzip
import math
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invsolve.errors import InputError, PluginError
from invsolve.io.files import regular_file, replacing, write_bytes
from invsolve.io.volume_names import NIFTI, STACK, is_volume, stem_of, suffix_of
from invsolve.operator.capability import MAX_VOXELS
from invsolve.unit import Unit

__all__ = ["VolumeInfo", "is_volume", "read_volume", "stem_of", "suffix_of", "write_volume"]

NEEDS = "NIfTI files need nibabel, which is not installed: pip install 'invsolve[volumes]'"
WHITE = {"uint8": 255.0, "uint16": 65535.0}


@dataclass(frozen=True)
class VolumeInfo:
    """What the file was, for writing another one like it.

    Args:
        path: where it was read.
        format: "NIfTI" or "TIFF".
        dtype: of the file's numbers.
        unit: what 0 and 1 of the image are in the file's numbers.
        voxel: sizes along depth, height and width, in millimetres or as the file has them; 1 where it says nothing.
        affine: (4, 4), from voxels (x, y, z) to the scanner's millimetres; None for TIFF.
        header: nibabel's, or the metadata of an ImageJ stack.
    """

    path: str
    format: str
    dtype: str
    unit: Unit
    voxel: tuple[float, ...] = (1.0, 1.0, 1.0)
    affine: np.ndarray | None = field(default=None, repr=False, compare=False)
    header: Any = field(default=None, repr=False, compare=False)


def read_volume(path: str | Path, *, unit: Unit | None = None) -> tuple[Tensor, VolumeInfo]:
    """A volume as float32 (C, D, H, W), and what the file was.

    Integers of TIFF are divided by 255 or 65535, as in pictures, and floats taken as they are; the numbers of NIfTI (after its slope and
    intercept) are taken from their own range to [0, 1], unless a unit says what 0 and 1 are. `write_volume` takes them back.

    Args:
        path: .nii, .nii.gz, .tif.
        unit: such as Unit(-1000, 2000) for Hounsfield units.

    Raises:
        InputError: no such file, damaged, no volume, NaN or infinite values, too large.
        PluginError: NIfTI without nibabel.
    """
    file = regular_file(path, "volume")
    suffix = suffix_of(file)
    if suffix == "":
        raise InputError(f"{file} is no volume by its name; those are {', '.join((*NIFTI, '.tif'))}")
    try:
        values, info = _from_nifti(file) if suffix in NIFTI else _from_tiff(file)
    except (InputError, PluginError):
        raise
    except Exception as error:  # a damaged file makes a reader raise nearly anything
        raise InputError(f"{file} cannot be read, it is damaged or cut off: {error}") from error
    if not bool(np.isfinite(values).all()):
        raise InputError(f"{file} holds NaN or infinite values; put a number in their place, such as numpy.nan_to_num(array)")
    taken = info.unit if unit is None else unit
    if unit is None and info.format == "NIfTI":
        low, high = float(values.min()), float(values.max())
        taken = Unit(low, high if high > low else low + 1)
    scaled = taken.back(torch.from_numpy(np.array(values, dtype=np.float32)))
    return scaled, replace(info, unit=taken)


def write_volume(path: str | Path, volume: Tensor, info: VolumeInfo | None = None) -> None:
    """Write a volume: .nii, .nii.gz in float32 with the affine and the header of `info`; .tif as stacks are, in the numbers of `info`.

    Args:
        path: the file.
        volume: (C, D, H, W) or (1, C, D, H, W), real.
        info: of the volume that it was made from: place, voxel size and unit; none: voxels of size 1, and numbers as they are.

    Raises:
        InputError: another suffix or shape, or a place that cannot be written.
        PluginError: NIfTI without nibabel.
    """
    suffix, volume = suffix_of(path), volume.detach().cpu()
    volume = volume[0] if volume.ndim == 5 and len(volume) == 1 else volume
    if suffix == "" or volume.ndim != 4 or volume.is_complex():
        raise InputError(f"a volume is real, (C, D, H, W), and its file .nii, .nii.gz or .tif; given {tuple(volume.shape)}, {path}")
    unit = Unit(0.0, 1.0) if info is None else info.unit
    values = np.ascontiguousarray(unit.to(volume.double()).float().numpy())
    if suffix in NIFTI:
        data = _nifti_bytes(values, info)
        write_bytes(path, gzip.compress(data, 5, mtime=0) if suffix == ".nii.gz" else data)
    else:
        with replacing(path) as temporary:
            _write_stack(temporary, values, info)


def _nibabel() -> Any:
    try:
        import nibabel  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise PluginError(NEEDS) from error
    return nibabel


def _refuse_large(file: Path, shape: tuple[int, ...]) -> None:
    if math.prod(shape) > MAX_VOXELS or not math.prod(shape):
        raise InputError(f"{file} has {' x '.join(map(str, shape))} numbers; a volume has at least one and at most {MAX_VOXELS}")


def _from_nifti(file: Path) -> tuple[np.ndarray, VolumeInfo]:
    """(C, D, H, W) in the file's numbers."""
    image = _nibabel().load(file)
    shape = tuple(image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise InputError(f"{file} has shape {tuple(image.shape)}; one volume (x, y, z) is taken: save a point of time by itself")
    _refuse_large(file, shape)
    if image.get_data_dtype().kind not in "iuf":
        raise InputError(f"{file} holds {image.get_data_dtype()}; a volume has real numbers, one a voxel")
    values = np.asarray(image.dataobj, dtype=np.float32).reshape(shape).transpose(2, 1, 0)[None]
    x, y, z = (float(one) for one in image.header.get_zooms()[:3])
    return values, VolumeInfo(
        str(file), "NIfTI", str(image.get_data_dtype()), Unit(0.0, 1.0), (z, y, x), np.array(image.affine), image.header.copy()
    )


def _nifti_bytes(values: np.ndarray, info: VolumeInfo | None) -> bytes:
    nibabel = _nibabel()
    if len(values) != 1:
        raise InputError(f"a NIfTI volume has one number a voxel, given {len(values)} channels; .tif takes colours, .npy anything")
    placed = info is not None and info.affine is not None
    voxel = (1.0, 1.0, 1.0) if info is None else info.voxel
    affine = info.affine if placed else np.diag([*voxel[::-1], 1.0])  # pyright: ignore[reportOptionalMemberAccess]
    image = nibabel.Nifti1Image(values[0].transpose(2, 1, 0), affine, info.header if placed else None)  # pyright: ignore[reportOptionalMemberAccess]
    image.header.set_data_dtype(np.float32)
    image.header.set_slope_inter(1, 0)
    return image.to_bytes()


def _from_tiff(file: Path) -> tuple[np.ndarray, VolumeInfo]:
    """(C, D, H, W) in the file's numbers."""
    import tifffile

    with tifffile.TiffFile(file) as stack:
        series, page = stack.series[0], stack.pages[0]
        axes, shape = series.axes, tuple(series.shape)
        _refuse_large(file, shape)
        pages = [axis for axis, side in zip(axes, shape, strict=True) if axis in STACK and (side > 1 or axis == "Z")]
        colours = [axis for axis, side in zip(axes, shape, strict=True) if axis in "CS" and side > 1]
        if len(pages) > 1 or len(colours) > 1 or not {"Y", "X"} <= set(axes):
            raise InputError(f"{file} has the axes {axes} of {shape}; a stack has pages, rows, columns and at most one axis of channels")
        if series.dtype.kind not in "iuf" or (series.dtype.kind in "iu" and str(series.dtype) not in WHITE):
            raise InputError(f"{file} holds {series.dtype}; a stack has uint8, uint16 or floats")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = series.asarray()
        wanted = [*colours, *pages, "Y", "X"]
        values = values.reshape([side for axis, side in zip(axes, shape, strict=True) if axis in wanted])
        values = values.transpose([[axis for axis in axes if axis in wanted].index(axis) for axis in wanted])
        values = values.reshape(*(1,) * (not colours), *values.shape[: len(colours)], *(1,) * (not pages), *values.shape[len(colours) :])
        metadata = dict(stack.imagej_metadata or {})
        across = [_length(page, name) for name in ("YResolution", "XResolution")]
    white = WHITE.get(str(values.dtype), 1.0)
    voxel = (float(metadata.get("spacing", 1.0)), *across) if metadata else (1.0, 1.0, 1.0)
    return values.astype(np.float32), VolumeInfo(str(file), "TIFF", str(values.dtype), Unit(0.0, white), voxel, None, metadata)


def _length(page: Any, name: str) -> float:
    """The size of a pixel by a tag of pixels per unit; 1 where there is none."""
    tag = page.tags.get(name)
    count, length = tag.value if tag is not None else (1, 1)
    return length / count if count and length else 1.0


def _write_stack(file: Path, values: np.ndarray, info: VolumeInfo | None) -> None:
    import tifffile

    white = None if info is None else WHITE.get(info.dtype)
    if white is not None and info is not None:
        values = np.clip(values, 0, white).round().astype(info.dtype)
    metadata: dict[str, Any] = {}
    options: dict[str, Any] = {"metadata": metadata, "photometric": "minisblack"}
    colour = values.shape[0] in (3, 4)
    if info is not None and info.header and not colour and info.format == "TIFF":
        kept = {key: info.header[key] for key in ("spacing", "unit") if key in info.header}
        options |= {"imagej": True, "resolution": (1 / info.voxel[2], 1 / info.voxel[1])}
        metadata |= {"axes": "ZCYX" if len(values) > 1 else "ZYX", **kept}
        values = values.transpose(1, 0, 2, 3) if len(values) > 1 else values[0]
    elif colour:
        options["photometric"], metadata["axes"] = "rgb", "ZYXS"
        values = values.transpose(1, 2, 3, 0)
    else:
        metadata["axes"] = "CZYX" if len(values) > 1 else "ZYX"
        values = values if len(values) > 1 else values[0]
    tifffile.imwrite(file, values, **options)

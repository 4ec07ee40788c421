"""Which files are volumes, by their names and their pages; nothing heavy is imported for it."""

from __future__ import annotations

from pathlib import Path

NIFTI = (".nii.gz", ".nii")
STACK = "ZQIT"  # what tifffile calls the axis of the pages of a stack


def suffix_of(path: str | Path) -> str:
    """The suffix of a volume, .nii.gz in one; "" of what is none by its name. A .tif may be one: see `is_volume`."""
    name = Path(path).name.lower()
    return next((suffix for suffix in (*NIFTI, *(".tif", ".tiff")) if name.endswith(suffix)), "")


def stem_of(path: str | Path) -> str:
    """The name without the suffix, .nii.gz as a whole."""
    name, suffix = Path(path).name, suffix_of(path)
    return name[: -len(suffix)] if suffix else Path(path).stem


def is_volume(path: str | Path) -> bool:
    """Whether a file is NIfTI by its name, or a TIFF of several pages of one size."""
    suffix = suffix_of(path)
    if suffix in NIFTI:
        return True
    file = Path(path)
    try:
        if suffix == "" or not file.is_file():
            return False
        axes, shape = _series(file)
    except Exception:  # what it really is, reading it says
        return False
    return any(axis in STACK and side > 1 for axis, side in zip(axes, shape, strict=True))


def _series(file: Path) -> tuple[str, tuple[int, ...]]:
    """Axes and sides of the first series of pages."""
    import tifffile

    with tifffile.TiffFile(file) as stack:
        series = stack.series[0]
        return series.axes, tuple(series.shape)

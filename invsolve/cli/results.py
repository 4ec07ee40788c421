"""Where the result of run and restore goes: asked before the work, and put somewhere else rather than lost after it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.errors import InputError, InvsolveError, Note

if TYPE_CHECKING:
    from torch import Tensor

    from invsolve.cli.setup import Setup
    from invsolve.recipe.config import Config
    from invsolve.solution import Solution


class NotWrittenError(InvsolveError, OSError):
    """The result could not be written where it should, and lies somewhere else."""


def destination(config: Config, setup: Setup, name: str) -> Path:
    """Where the result goes, checked: as config.run.out says, else `name`_restored beside the file, with a number where that is taken.

    Raises:
        InputError: a suffix, shape or bits that cannot be written, or a place without rights or room.
    """
    from invsolve.io.writing import check_place, check_target

    shape, bits = setup.problem.operator.in_shape, depth(config)
    count = setup.problem.batch
    if config.run.out is None:
        suffix = (".tif" if bits == 32 else ".png") if len(shape) == 3 and shape[0] in (1, 3) else ".npy"
        path = free(config.folder / f"{name}_restored{suffix}")
    else:
        path = config.path(config.run.out)
    numbers = count * (config.run.samples or 1) * setup.problem.image[0].numel()
    if path.suffix and not path.is_dir():
        check_target(path, shape, bits)
        numbers = count * setup.problem.image[0].numel()
    elif bits is not None:
        raise InputError(f"bits = {bits} goes with a picture (.png, .tif), not with the folder {path}")
    elif path.is_file():
        raise InputError(f"{path} is a file; give the name of a folder, or a name that ends in .png, .tif, .jpg, .npy or .safetensors")
    check_place(path, 8 * numbers)
    if path.suffix.lower() in (".png", ".jpg", ".jpeg") and bits is None and config.data.image is not None:
        tell_depth(config.path(config.data.image), path)
    return path


def usual_suffix(shape: Sequence[int], bits: int | None) -> str:
    """Of a result that nobody named: a picture that holds the bits, else numbers as they are."""
    picture = ".png" if bits in (None, 8) or (bits == 16 and shape[0] == 1) else ".tif"
    return picture if len(shape) == 3 and shape[0] in (1, 3) else ".npy"


def source(config: Config) -> Path | None:
    """The picture that the result is made from."""
    return None if config.data.image is None else config.path(config.data.image)


def depth(config: Config) -> int | None:
    """The bits that are asked for; 16 where the photograph has so many and nobody says where the result goes."""
    from invsolve.io.images import deep_bits

    image = source(config)
    if config.run.bits is not None or config.run.out is not None or image is None or not image.is_file():
        return config.run.bits
    return 16 if deep_bits(image) == 16 else None


def tell_depth(image: Path, out: Path) -> None:
    """A note where the picture has more bits than the result will have."""
    from invsolve.io.images import deep_bits

    given = deep_bits(image) if image.is_file() else 8
    if given > 8:
        how = f"--out {out.stem}.tif keeps floats, with --bits 16 as many as most programs read"
        warnings.warn(f"{image} has {given} bits, the result in {out.name} 8; {how}", Note, stacklevel=3)


def free(path: Path) -> Path:
    """The path, or the first with a number that is not taken: what nobody named overwrites nothing."""
    found, number = path, 2
    while found.exists():
        found, number = path.with_name(f"{path.stem}_{number}{path.suffix}"), number + 1
    return found


def write(path: Path, solution: Solution, bits: int | None = None, source: Path | None = None) -> list[str]:
    """The mean image (one file an item), or the whole solution as a folder, with pictures of it, where the path has no suffix.

    Raises:
        NotWrittenError: the place failed after all; the mean lies in the folder for temporary files, and the error says where.
    """
    try:
        return put(path, solution, bits, source)
    except Exception as error:  # whatever happened, hours of work are not lost for it
        raise NotWrittenError(f"{error}\n{rescued(solution.mean, path)}") from error


def put(path: Path, solution: Solution, bits: int | None, source: Path | None = None) -> list[str]:
    """`write` without a net."""
    from invsolve.io.tags import tags_of
    from invsolve.io.writing import BITS, write_image

    if not path.suffix or path.is_dir():
        solution.save(path)
        return [str(path), *pictures(path, solution)]
    images, picture = solution.mean, path.suffix.lower() in BITS
    paths = named(path, len(images))
    tags = tags_of(source) if source is not None and picture else None
    for one, image in zip(paths, images, strict=True):
        write_image(one, image, bits=bits, tags=tags)
    return [str(one) for one in paths] + (spreads(paths, solution) if picture else [])


def spreads(paths: list[Path], solution: Solution) -> list[str]:
    """NAME_std.png beside each picture, the samples' standard deviation, white where it is largest, and how much that is."""
    from invsolve.io.writing import write_image

    if solution.samples is None or solution.samples < 2:
        return []
    said = []
    for path, spread in zip(paths, solution.std, strict=True):
        place, most = path.with_name(f"{path.stem}_std.png"), float(spread.max())
        write_image(place, spread / (most or 1.0))
        said.append(f"{place} (standard deviation of the samples; white is {most:.3g})")
    return said


def named(path: Path, count: int) -> list[Path]:
    """One path an item."""
    return [path] if count == 1 else [path.with_name(f"{path.stem}_item{item}{path.suffix}") for item in range(count)]


def pictures(folder: Path, solution: Solution) -> list[str]:
    """mean.png of every item in a saved solution's folder, and std.tif where there are samples; none of what is no picture."""
    from invsolve.io.writing import write_image

    shown: dict[str, Any] = {"mean.png": solution.mean}
    if solution.samples is not None and solution.samples > 1:
        shown["std.tif"] = solution.std
    written = []
    for name, images in shown.items():
        if images.ndim == 4 and images.shape[1] in (1, 3):
            for one, image in zip(named(folder / name, len(images)), images, strict=True):
                write_image(one, image)
                written.append(str(one))
    return written


def rescued(mean: Tensor, path: Path) -> str:
    """The mean in another folder, exactly as it is, and where."""
    from invsolve.io.writing import write_image

    for folder in (Path(tempfile.gettempdir()), Path.home(), Path.cwd()):
        try:
            place = free(folder / f"{path.stem}_restored.npy")
            write_image(place, mean)
        except (InputError, OSError):
            continue
        return f"the result was saved as {place} instead"
    return "and it could be saved nowhere else either"

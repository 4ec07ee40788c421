"""Where the result of run and restore goes: asked before the work, and put somewhere else rather than lost after it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.errors import InputError, InvsolveError, Note
from invsolve.io.volume_names import is_volume, stem_of, suffix_of

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
        path = free(config.folder / f"{name}_restored{usual_suffix(shape, bits, source(config))}")
    else:
        path = config.path(config.run.out)
    numbers = count * (config.run.samples or 1) * setup.problem.image[0].numel()
    if volume_file(path, shape) and bits is None:
        numbers = count * setup.problem.image[0].numel()
    elif path.suffix and not path.is_dir():
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


def usual_suffix(shape: Sequence[int], bits: int | None, source: Path | None = None) -> str:
    """Of a result that nobody named: a picture that holds the bits, of a volume what it was, else numbers as they are."""
    if len(shape) == 3 and shape[0] in (1, 3):
        return ".tif" if bits == 32 else ".png"
    return suffix_of(source) if source is not None and len(shape) == 4 and is_volume(source) else ".npy"


def volume_file(path: Path, shape: Sequence[int]) -> bool:
    """Whether the result is a volume, and the file one of a volume by its name."""
    return len(shape) == 4 and bool(suffix_of(path)) and not path.is_dir()


def source(config: Config) -> Path | None:
    """The picture that the result is made from."""
    return None if config.data.image is None else config.path(config.data.image)


def depth(config: Config) -> int | None:
    """The bits that are asked for; 16 where the photograph has so many and nobody says where the result goes."""
    from invsolve.io.images import deep_bits

    image = source(config)
    if config.run.bits is not None or config.run.out is not None or image is None or not image.is_file() or is_volume(image):
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
        found, number = path.with_name(f"{stem_of(path)}_{number}{path.name[len(stem_of(path)) :]}"), number + 1
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
    if volume_file(path, images.shape[1:]):
        return put_volume(path, solution, source)
    paths = named(path, len(images))
    tags = tags_of(source) if source is not None and picture else None
    for one, image in zip(paths, images, strict=True):
        write_image(one, image, bits=bits, tags=tags)
    return [str(one) for one in paths] + (spreads(paths, solution) if picture else [])


def put_volume(path: Path, solution: Solution, source: Path | None) -> list[str]:
    """The mean as a volume in the place and the numbers of the one it was made from, and of samples NAME_std, their standard deviation."""
    from dataclasses import replace

    from invsolve.io.volumes import read_volume, write_volume
    from invsolve.unit import Unit

    info = read_volume(source)[1] if source is not None and is_volume(source) else None
    write_volume(path, solution.mean, info)
    if solution.samples is None or solution.samples < 2:
        return [str(path)]
    place = path.with_name(f"{stem_of(path)}_std{suffix_of(path)}")
    write_volume(place, solution.std, None if info is None else replace(info, unit=Unit(0.0, info.unit.width), dtype="float32"))
    return [str(path), f"{place} (standard deviation of the samples)"]


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

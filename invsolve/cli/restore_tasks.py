"""What people say happened to a photograph, as an operator, a solver, a prior and a noise level that suit it.

The names are those of `invsolve list`; nothing is imported for them. Measured on dev photographs: of blurred ones (Gaussian of 1.6 pixels,
noise .01) eight sweeps of `hqs` with `dncnn` are within .1 dB of the best of five solvers, and "valid" is as good as the mirror image
where the scene is one, and .1 to 1 dB better where it goes on.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any

from invsolve.errors import InputError
from invsolve.io.volume_names import is_volume

DENOISER, SAMPLER = "natural", "natural"
PICTURES = ("natural", "dncnn")  # priors of pictures, which volumes take slice by slice
DRAWS = "diffpir"  # for those who ask for samples


@dataclass(frozen=True)
class Task:
    """A kind of damage.

    Args:
        operator: its table.
        what: how it is called when it does not fit the picture.
        solver, prior: what suits it.
        noise: a level, or auto.
        frame: whether the restored image is larger than the photograph, whose frame is kept.
        found: whether a level that is a number was found from the picture, as auto's is.
        white: whether what is left over should be white noise of that level, so that a verdict can go by it.
        image: what is measured in place of the photograph; None for itself.
        told: what was found, in words, where nobody said it.
    """

    operator: dict[str, Any]
    what: str
    solver: str = "hqs"
    prior: Any = "dncnn"
    noise: float | str = "auto"
    frame: bool = False
    found: bool = False
    white: bool = True
    image: str | None = None
    told: str | None = None


def bounded(blur: dict[str, Any], what: str) -> Task:
    """A blur of a scene that goes on beyond the frame: nothing is said of what lies there."""
    table = {"name": "iterative-prox", "tol": 1e-3, "preconditioner": "circular", "operator": {**blur, "boundary": "valid"}}
    return Task(table, what, frame=True)


def blurred(sigma: str | float) -> Task:
    """By a Gaussian of so many pixels: along rows and columns in turn, whose data step has a closed form beyond the frame, too.

    Raises:
        InputError: no number, or millimetres, which a picture's file does not know.
    """
    number, unit = length(sigma)
    if unit:
        raise InputError(f"--blur {sigma}: a picture has no millimetres; give the width in pixels")
    return Task({"name": "separable-gaussian-blur", "sigma": number, "boundary": "valid"}, "a Gaussian blur of this width", frame=True)


def length(width: str | float) -> tuple[float, str]:
    """(number, "mm" or "").

    Raises:
        InputError: something else.
    """
    text = str(width)
    number, unit = (text[:-2], "mm") if text.endswith("mm") else (text, "")
    try:
        return float(number), unit
    except ValueError:
        raise InputError(f"--blur reads a number of pixels, such as 1.6, of a volume millimetres too, 1.6mm; given {text!r:.40}") from None


def out_of_focus(radius: float) -> Task:
    """By a disk of so many pixels."""
    return bounded({"name": "defocus-blur", "radius": radius}, "a disk of this radius")


def moved(text: str) -> Task:
    """By a straight motion, LENGTH or LENGTH,ANGLE.

    Raises:
        InputError: no such numbers.
    """
    try:
        numbers = [float(one) for one in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise InputError(f"--motion reads LENGTH or LENGTH,ANGLE, pixels and degrees, such as 9,30; given {text!r}")
    return bounded({"name": "motion-blur", **dict(zip(("length", "angle"), numbers, strict=False))}, "this motion")


def by_kernel(path: str) -> Task:
    """By the kernel in a file."""
    return bounded({"name": "file-blur", "path": path}, "the kernel")


def with_holes(path: str) -> Task:
    """Where a mask is dark: the rest is kept as it is."""
    return Task({"name": "file-mask", "path": path}, "the mask", prior=DENOISER, noise=0.0)


def enlarged(factor: float) -> Task:
    """Made smaller by a factor, as programs do it.

    Raises:
        InputError: a factor that makes nothing smaller.
    """
    if not factor > 1:
        raise InputError(f"--scale is how many times as large the result is, above 1; given {factor:g}")
    whole = factor == round(factor)
    return Task({"name": "bicubic", "factor": round(factor)} if whole else {"name": "resize", "factor": factor}, "this factor")


def noisy() -> Task:
    """By noise alone."""
    return Task({"name": "identity"}, "noise alone", "one-shot", DENOISER)


def compressed(image: str, quality: str) -> Task:
    """By JPEG, at the file's own tables or at a quality: white noise of the size that compressing does to the picture once more.

    Raises:
        InputError: `quality` is no number, or left out for a file that is no JPEG.
    """
    level = compression_level(image, quality)
    return replace(noisy(), what="JPEG compression", prior="dncnn", noise=level, found=True, white=False)


def compression_level(image: str, quality: str) -> float:
    """The root of the mean square of what JPEG does to the picture moved by half a block.

    A picture that was compressed hardly changes when it is compressed again on the same grid; on another one it loses about as much as
    it lost before.

    Raises:
        InputError: as `compressed`.
    """
    import numpy as np
    from PIL import Image, JpegImagePlugin

    from invsolve.io.files import regular_file
    from invsolve.io.images import FORMATS, read_image

    read_image(image)  # refuses what is damaged or too large, in its own words
    with Image.open(regular_file(image, "image file"), formats=FORMATS) as picture:
        if quality != "file":
            options: dict[str, Any] = {"quality": jpeg_quality(quality)}
        elif isinstance(picture, JpegImagePlugin.JpegImageFile):
            options = {"qtables": picture.quantization, "subsampling": JpegImagePlugin.get_sampling(picture)}
        else:
            raise InputError(f"{image} is no JPEG file, so that how it was compressed is not known; say it: --jpeg 30")
        plain = picture.convert("L" if picture.mode == "L" else "RGB")
    moved = plain.crop((4, 4, *plain.size)) if min(plain.size) > 12 else plain
    stream = io.BytesIO()
    moved.save(stream, "JPEG", **options)
    with Image.open(stream) as again:
        change = np.asarray(again, dtype=np.float32) - np.asarray(moved, dtype=np.float32)
    return float(np.sqrt(np.square(change).mean())) / 255


def jpeg_quality(text: str) -> int:
    """1 to 100.

    Raises:
        InputError: anything else.
    """
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise InputError(f"--jpeg takes the quality that the picture was saved with, 1 to 100, or nothing for a .jpg; given {text!r}")
    return int(text)


def chosen(image: str, said: dict[str, Any]) -> Task | None:
    """The task that the options name; None where none does.

    Args:
        image: the photograph.
        said: option names and their values, None or False where they were left out.

    Raises:
        InputError: two of them, or a value that none takes.
    """
    given = [name for name, value in said.items() if value is not None and value is not False]  # 0 is a number
    if len(given) > 1:
        how = 'a chain of operators is --operator \'[{ name = "gaussian-blur", sigma = 1.0 }, { name = "mask", keep = 0.7 }]\''
        raise InputError(f"--{' and --'.join(given)} are two things that happened to the picture; name one ({how})")
    if not given:
        return None
    (name,) = given
    value = said[name]
    if is_volume(image):
        return of_volume(image, name, value)
    if name == "denoise":
        return noisy()
    if name == "jpeg":
        return compressed(image, value)
    if name == "blind":
        from invsolve.cli.restore_blind import diagnosed

        return diagnosed(image)
    return WAYS[name](value)


def unsaid(image: str) -> Task:
    """What is looked for where nothing is said: noise."""
    return of_volume(image, "denoise", True) if is_volume(image) else noisy()


def of_volume(image: str, name: str, value: Any) -> Task:
    """What happened to a volume; a blur of so many voxels along every axis, or of so many millimetres, mirrored at the faces.

    Raises:
        InputError: something else.
    """
    if name == "denoise":
        return noisy()
    if name == "blur":
        blur = {"name": "separable-gaussian-blur", "sigma": in_voxels(image, value), "boundary": "symmetric"}
        return Task(blur, "a Gaussian blur of this width", prior=DENOISER)
    if name == "mask":
        same_place(image, value)
        return with_holes(value)
    takes = "--denoise, --blur SIGMA in voxels or mm, --mask FILE, or --operator (mask, separable-blur, ...)"
    raise InputError(f"--{name} is for pictures; volumes take {takes}")


def same_place(image: str, mask: str) -> None:
    """Raise InputError where two NIfTI files say that their voxels lie at other places.

    Raises:
        InputError: says so.
    """
    from invsolve.io.volumes import read_volume

    if not is_volume(mask):
        return
    mine, theirs = (read_volume(file)[1] for file in (image, mask))
    if mine.affine is None or theirs.affine is None:
        return
    # a hundredth of the smallest voxel
    if abs(mine.affine - theirs.affine).max() > 0.01 * min(mine.voxel):
        how = "bring it onto the volume's grid, such as with nibabel.processing.resample_from_to(mask, volume, order=0)"
        raise InputError(f"{mask} says that its voxels lie elsewhere than those of {image} (their affines differ); {how}")


def in_voxels(image: str, text: str | float) -> Any:
    """A width in voxels; of millimetres one for each axis, [[depth, height, width]], by the sizes of the file's voxels."""
    number, unit = length(text)
    if not unit:
        return number
    from invsolve.io.volumes import read_volume

    return [[number / size for size in read_volume(image)[1].voxel]]


def prior_for(image: str, prior: Any) -> Any:
    """A prior's name, or its table; one of pictures is taken along the three axes of a volume."""
    if prior in PICTURES and is_volume(image):
        return {"name": "slicewise", "denoiser": {"name": prior, "channels": 1}, "axis": "all"}
    return prior


WAYS: dict[str, Any] = {
    "blur": blurred,
    "defocus": out_of_focus,
    "motion": moved,
    "kernel": by_kernel,
    "mask": with_holes,
    "scale": enlarged,
}

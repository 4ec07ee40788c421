"""What happened to a photograph that nobody says anything of, as a task."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.cli.restore_tasks import DENOISER, Task, noisy, with_holes

if TYPE_CHECKING:
    from invsolve.blind import Diagnosis


def diagnosed(image: str) -> Task:
    """What `invsolve.blind.identify` finds; a mask and the smaller picture are written beside the result, to be looked at.

    Raises:
        InputError: a file that is no photograph, or a place that cannot be written to.
    """
    from dataclasses import replace

    from invsolve.blind import identify
    from invsolve.io.images import read_image

    found = identify(read_image(image)[0])
    if found.task == "damage":
        task = with_holes(written(found.keep.float(), image, "mask.png"))  # pyright: ignore[reportOptionalMemberAccess]
    elif found.task == "enlargement":
        task = replace(enlarged(found), image=written(found.y, image, "small.tif"))
    elif found.task == "blur":
        task = Task(found.operator, "the blur that was found", frame=True)
    elif found.task == "jpeg":
        task = replace(noisy(), what="JPEG compression", prior="dncnn", white=False)
    else:
        task = noisy()
    level: Any = "auto" if math.isnan(found.noise) else found.noise if found.nothing else found.level
    return replace(task, noise=level, found=True, told=f"found: {found}")


def enlarged(found: Diagnosis) -> Task:
    """The smaller picture, made larger by the factor again."""
    return Task(found.operator, "this factor", prior="dncnn" if found.level > 0 else DENOISER)


def written(picture: Any, image: str, name: str) -> str:
    """The path of a picture that was found, in the current folder, with a number where that is taken."""
    from invsolve.cli.results import free
    from invsolve.io.images import write_image

    path = free(Path(f"{Path(image).stem}_{name}"))
    write_image(path, picture)
    return str(path)

"""A prior from a weight file, for the tables of files: `prior = { file = "mine.safetensors", range = [-1, 1] }`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from invsolve.plugins import load_prior
from invsolve.priors.base import Prior


def from_file(path: Path, **options: Any) -> Prior:
    """The prior in a weight file or folder: `load_prior(path, **options)`, by the plug-in that reads it.

    Args:
        path: of the file or the folder; in a file of tables a relative path starts from its folder.
        options: what the plug-in takes, such as range, sigma_range, precision; see `invsolve weights inspect`.

    Raises:
        InputError, ArgumentError: as `load_prior`.
    """
    return load_prior(path, **options)

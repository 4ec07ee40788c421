"""Where named weight files lie: in the package, or beside it for those whose data do not allow them to be shipped.

Looked through in this order: the package's folder and those of the packages beside it, the folders of the environment variable
INVSOLVE_WEIGHTS (separated as in PATH), and benchmarks/weights of a source checkout.
"""

from __future__ import annotations

import os
from pathlib import Path

from invsolve.errors import InputError
from invsolve_weights.tables import read_table

FOLDER = Path(__file__).parents[1] / "invsolve_priors" / "weights"  # the two packages are installed side by side
CHECKOUT = Path(__file__).parents[2] / "benchmarks" / "weights"


def folders() -> list[Path]:
    """All folders, those of the packages first."""
    named = [Path(part) for part in os.environ.get("INVSOLVE_WEIGHTS", "").split(os.pathsep) if part]
    beside = [folder for folder in sorted(Path(__file__).parents[1].glob("invsolve_*/weights")) if folder != FOLDER]
    return [FOLDER, *beside, *named, CHECKOUT]


def file_of(name: str) -> Path:
    """NAME.safetensors in the first folder that has its card; where none has, what would be its place in the package."""
    check_path(name)
    found = (folder / f"{name}.safetensors" for folder in folders() if (folder / f"{name}.json").is_file())
    return next(found, FOLDER / f"{name}.safetensors")


def present(*names: str) -> bool:
    """Whether the files of all these names are there."""
    return all(file_of(name).is_file() for name in names)


def names() -> list[str]:
    """All weight files of networks (not of autoencoders) that are there, by name."""
    cards = (path for folder in folders() for path in folder.glob("*.json") if path.with_suffix(".safetensors").is_file())
    return sorted({path.stem for path in cards if _of_a_network(path)})


def _of_a_network(card: Path) -> bool:
    try:
        return "network" in read_table(card)
    except InputError:  # whoever reads it says what is wrong
        return True


def check_path(path: str) -> None:
    """Raise InputError for what no file can be called: too long, or with a NUL in it. That there is none is for others to say."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise InputError(f"{path[:80]!r} ({len(path)} characters): no path to weights ({error!s:.100})".replace(path, path[:80])) from error

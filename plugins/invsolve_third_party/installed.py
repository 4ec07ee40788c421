"""Weight files inside installed packages, found without importing these packages."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from invsolve.errors import InputError, NotInstalledError

LIMIT = 1 << 28  # bytes


@dataclass(frozen=True)
class Package:
    """A package with weights in it.

    Args:
        name: its name for pip.
        version: the one whose file is read here.
        module: the folder it is installed into.
        file: the weights, below that folder.
    """

    name: str
    version: str
    module: str
    file: str

    @property
    def advice(self) -> str:
        """The command that installs it alone."""
        return f"pip install --no-deps {self.name}=={self.version}"

    def path(self) -> Path:
        """The weight file.

        Raises:
            NotInstalledError: the package is not installed, or its version has no such file; it says what to install.
            InputError: a file of another size than anybody's.
        """
        folder = self._folder()
        if folder is None:
            raise NotInstalledError(f"the weights of {self.name} {self.version} are not installed: {self.advice}")
        path = folder / self.file
        if not path.is_file():
            raise NotInstalledError(
                f"{self.name} {self._installed()} has no weights {self.file}, as version {self.version} has: {self.advice}"
            )
        if path.stat().st_size > LIMIT:
            raise InputError(f"{path}: more than {LIMIT >> 20} MiB, not the file of {self.name} {self.version}")
        return path

    def present(self) -> bool:
        """Whether the file is there."""
        folder = self._folder()
        return folder is not None and (folder / self.file).is_file()

    def _folder(self) -> Path | None:
        try:
            found = importlib.util.find_spec(self.module)  # of a top-level name: looks, and imports nothing
        except (ImportError, ValueError):
            return None
        places = [] if found is None else found.submodule_search_locations or []
        return next((Path(place) for place in places), None)

    def _installed(self) -> str:
        try:
            return importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return "of an unknown version"


STLPIPS_FILES = Package("stlpips-pytorch", "0.0.2", "stlpips_pytorch", "weights/vST0.0/alex_shift_tolerant.pth")
GALAXYGRAD = Package("galaxygrad", "0.1.5", "galaxygrad", "eqx_hsc_ScoreNet64.eqx")
DEMOSAICNET = Package("demosaicnet", "0.0.14", "demosaicnet", "data/bayer.pth")

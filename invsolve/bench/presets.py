"""Presets: the settings of a solver that were tuned somewhere, as a file that says where.

    [solver]
    name = "diffpir"
    weight = 2.0
    [prior]                      # only where something of the prior was tuned
    name = "tv"
    weight = 3.0
    [tuned]
    on = "crops of BSDS500 val"
    by = "psnr"
    trials = 20

`invsolve tune` writes them, and a suite's solver names one: preset = "tuned/diffpir.toml". What the entry says itself comes first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from invsolve.errors import InputError
from invsolve.plugins.part import Part, prior_part
from invsolve.recipe.tables import Table, located, modelled, read_toml, to_toml

Line = Annotated[str, StringConstraints(max_length=200, strict=True)]


class Tuned(Table):
    """Where settings come from, for the tables: chosen on which pictures, by what."""

    on: Annotated[str, StringConstraints(min_length=1, max_length=200, strict=True)]
    """The pictures that they were chosen on."""
    by: Line = ""
    """The number that chose them: psnr or another metric (with the truth), discrepancy or sure (without)."""
    trials: Annotated[int, Field(ge=1)] | None = None
    """How many settings were tried."""
    preset: Line = ""
    """The file that held them."""
    pictures: Annotated[list[Annotated[str, StringConstraints(pattern="^[0-9a-f]{16}$")]], Field(max_length=100_000)] = Field(
        default_factory=list
    )
    """The first 16 digits of the pictures' SHA-256: a table of the same pictures says so."""


class Preset(Table):
    """A preset file."""

    solver: Part
    """The solver and the values that were chosen."""
    prior: Part | None = None
    """The prior and the values that were chosen, where it has any."""
    tuned: Tuned
    """Where they come from."""
    record: dict[str, Any] = Field(default_factory=dict)
    """How they were found: scores, seed, versions; for people."""

    @classmethod
    def read(cls, path: Path) -> Preset:
        """A preset from its file.

        Raises:
            InputError: no such file, no TOML, or no preset.
        """
        values, text = read_toml(path, "preset")
        return modelled(cls, values, f"{path.name} is no preset, as invsolve tune writes one:", text)

    def toml(self) -> str:
        """The file's text."""
        values = self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        return to_toml({"solver": values["solver"], "prior": values.get("prior"), "tuned": values["tuned"], "record": values.get("record")})


def with_preset(entry: Any, folder: Path) -> Any:
    """A solver's table with the values of its preset below its own, and where they come from.

    Raises:
        InputError: the preset is none, or another solver's.
    """
    if not isinstance(entry, dict) or "preset" not in entry:
        return entry
    entry = dict(entry)
    name = entry.pop("preset")
    if not isinstance(name, str):
        raise InputError(f"preset is the path of a file that invsolve tune wrote; given {name!r:.60}")
    path = located(folder, name)
    path = path if path.suffix else path.with_suffix(".toml")
    preset = Preset.read(path)
    if entry.setdefault("name", preset.solver.name) != preset.solver.name:
        raise InputError(f"preset '{name}' is one of {preset.solver.name}, not of {entry['name']}")
    out = {**preset.solver.arguments, **entry, "tuned": {**preset.tuned.model_dump(exclude_none=True), "preset": path.name}}
    if preset.prior is not None:
        held = {"name": preset.prior.name, **preset.prior.arguments}
        mine = prior_part(entry.get("prior", held))
        same = isinstance(mine, dict) and mine.get("name", preset.prior.name) == preset.prior.name
        out["prior"] = {**held, **mine} if same else mine
    return out

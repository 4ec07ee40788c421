"""What a suite's file may say in short, written out: includes, pictures that the user gives, grids, several noises and data sets, presets.

    include = ["quick", { suite = "mine.toml", take = ["solver"] }]      # an entry of one's own takes the place of one of the same label
    data = [{ folder = "photos", label = "photos" }, { label = "faces", wants = "aligned faces of 64 x 64" }]    # each with each operator
    noise = [{ sigma = 0.01 }, { sigma = 0.05 }]                         # each with each operator that has none of its own
    operator = { name = "block-mean", label = "SR x{factor}", grid = { factor = [2, 4, 8] } }
    [[solver]]
    name = "diffpir"
    preset = "tuned/diffpir.toml"                                        # what `invsolve tune` wrote
    prior = "natural"
    grid = { steps = [10, 100], "prior.precision" = ["auto"] }           # a product; a list of tables: one after the other

Plain tables in, plain tables out; what is written out already stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from invsolve.bench.presets import with_preset
from invsolve.errors import InputError, did_you_mean
from invsolve.plugins import registry
from invsolve.plugins.part import written_out
from invsolve.recipe.config import alternatives, named, set_part
from invsolve.recipe.tables import located, read_toml

MAX_ENTRIES = 2000
MAX_INCLUDES = 8  # one in another
LISTS = ("operator", "solver", "metrics")
PLACE = re.compile(r"\{([\w.-]+)\}")  # of a value in a label
TAKEN = ("data", "noise", "operator", "solver", "metrics", "seeds", "dtype")


@dataclass(frozen=True)
class Source:
    """Where the tables come from: the suite's folder, what it was included by, and the pictures that the user gives, by label."""

    folder: Path = Path()
    given: Mapping[str, str] = field(default_factory=dict)
    above: tuple[str, ...] = ()


@dataclass(frozen=True)
class Folder:
    """Where relative paths start."""

    folder: Path

    def path(self, name: str) -> Path:
        """A path from there."""
        return located(self.folder, name)


def written(values: dict[str, Any], source: Source) -> dict[str, Any]:
    """A suite's tables with everything in short written out.

    Raises:
        InputError: an include that is none, or includes itself; a grid without values or of more than MAX_ENTRIES; a preset that is none;
            pictures given for no data set of the suite.
    """
    values = included(values, source)
    unused = set(source.given)
    for name in LISTS[:2]:
        if name in values:
            values[name] = [one for entry in tables(values[name], name) for one in gridded(entry, name)]
            if len(values[name]) > MAX_ENTRIES:
                raise InputError(f"{name}: the grids give {len(values[name])} entries; at most {MAX_ENTRIES} are taken")
    values = spread_over(values, unused, source)
    if unused:
        known = sorted(known_data(values))
        near = "".join(did_you_mean(one, known) for one in sorted(unused)) or f"; it has: {', '.join(known) or 'none'}"
        raise InputError(f"the suite has no data set {', '.join(map(repr, sorted(unused)))}{near}")
    if "solver" in values:
        values["solver"] = [with_preset(one, source.folder) for one in values["solver"]]
    return values


def tables(value: Any, name: str) -> list[Any]:
    """The entries of a list, copies; what is no entry is left for the model to refuse."""
    try:
        found = alternatives(value)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
    return [dict(one) if isinstance(one, dict) else one for one in found or []]


# --- includes ----------------------------------------------------------------------------------------------------------------


def included(values: dict[str, Any], source: Source) -> dict[str, Any]:
    """The tables with those of the suites that they include before their own."""
    values = dict(values)
    wanted = values.pop("include", [])
    several = [wanted] if isinstance(wanted, str | dict) else wanted
    if not isinstance(several, list):
        raise InputError(
            f'include: the name or file of a suite, a table {{ suite = "...", take = ["solver"] }} or a list; given {wanted!r:.60}'
        )
    whole: dict[str, Any] = {}
    for one in several:
        name, taken = include_of(one)
        found = {key: inner for key, inner in loaded(name, source).items() if key in taken}
        for key, inner in found.items():
            if key not in LISTS and key not in values and whole.get(key, inner) != inner:
                raise InputError(f"include: the suites differ in {key}; say which in a line of its own, {key} = ...")
            whole[key] = joined(whole.get(key, []), inner, key, twice=False) if key in LISTS else inner
    for key, inner in values.items():
        whole[key] = joined(whole[key], inner, key, twice=True) if key in LISTS[:2] and key in whole else inner
    return whole


def include_of(value: Any) -> tuple[str, list[str]]:
    """(name, what is taken) of an include."""
    table = {"suite": value} if isinstance(value, str) else value
    if not isinstance(table, dict) or not isinstance(table.get("suite"), str) or not set(table) <= {"suite", "take"}:
        raise InputError(f'include: the name or file of a suite, or {{ suite = "...", take = ["solver"] }}; given {value!r:.60}')
    taken: Any = table.get("take", list(TAKEN))
    unknown = [one for one in taken if one not in TAKEN] if isinstance(taken, list) else [taken]
    if unknown:
        raise InputError(f"include: take is a list of {', '.join(TAKEN)}; given {unknown[0]!r:.60}")
    return table["suite"], taken


def loaded(name: str, source: Source) -> dict[str, Any]:
    """The tables of another suite, its includes in it, its paths in full."""
    path = Path(registry().load("suite", name)) if name in registry().names("suite") else located(source.folder, name)
    key = str(path.resolve())
    if key in source.above or len(source.above) >= MAX_INCLUDES:
        raise InputError(f"include: '{name}' includes itself, or lies deeper than {MAX_INCLUDES} includes")
    if not path.is_file():
        near = did_you_mean(name, registry().names("suite")) or f"; registered are: {', '.join(registry().names('suite'))}"
        raise InputError(f"include: no suite and no file '{name}'{near}")
    values = included(read_toml(path, "suite")[0], Source(path.parent, above=(*source.above, key)))
    return values if path.parent.resolve() == source.folder.resolve() else in_full(values, path.parent)


def in_full(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Tables whose paths no longer depend on the folder of their file."""
    from invsolve.recipe.parts import in_full as full

    at, out = Folder(folder), dict(values)
    for kind, key in (("operator", "operator"), ("noise", "noise"), ("metric", "metrics"), ("solver", "solver")):
        if key in out:
            out[key] = [
                full(kind, one, at) if isinstance(one, dict) and "name" in written_out(one) else one for one in tables(out[key], key)
            ]
    for entry in out.get("operator", []):
        if isinstance(entry, dict):
            entry.update({name: str(at.path(entry[name])) for name in ("problem", "truth") if isinstance(entry.get(name), str)})
            entry.update({"data": full("dataset", set_part(entry["data"]), at)} if isinstance(entry.get("data"), dict) else {})
    for entry in out.get("solver", []):
        if isinstance(entry, dict):
            entry.update({"prior": full("prior", entry["prior"], at)} if isinstance(entry.get("prior"), dict) else {})
            entry.update({"preset": str(at.path(entry["preset"]))} if isinstance(entry.get("preset"), str) else {})
    if "data" in out:
        out["data"] = [full("dataset", set_part(one), at) if isinstance(one, dict) else one for one in several_of(out["data"])]
    return out


def joined(first: Any, second: Any, key: str, *, twice: bool) -> list[Any]:
    """Two lists of entries; an entry of the second takes the place of one of the same label (`twice`), or must be the same."""
    out = tables(first, key) if first else []
    labels = [label_of(one) for one in out]
    for one in tables(second, key):
        label = label_of(one)
        if label in labels and (twice or out[labels.index(label)] == one):
            out[labels.index(label)] = one
        else:  # two of one label are refused by the suite itself
            out.append(one)
            labels.append(label)
    return out


def label_of(entry: Any) -> str:
    """What an entry will be called."""
    whole = written_out(named(entry))
    return str(whole.get("label", whole.get("name", whole.get("problem", "")))) if isinstance(whole, dict) else repr(entry)


# --- grids -------------------------------------------------------------------------------------------------------------------


def gridded(entry: Any, where: str) -> Iterator[Any]:
    """An entry for every point of its grid; itself without one."""
    if not isinstance(entry, dict) or "grid" not in entry:
        yield entry
        return
    grid = entry.pop("grid")
    label = entry.get("label", label_of(entry))
    place = f"{where} '{label}', grid"
    single = isinstance(grid, dict)
    for table in [grid] if single else grid if isinstance(grid, list) and grid else [None]:
        if not isinstance(table, dict) or not table:
            raise InputError(f"{place}: a table of lists, {{ steps = [10, 100] }}, or a list of such tables; given {grid!r:.60}")
        columns = [values if isinstance(values, list) else [values] for values in table.values()]
        if not all(columns):
            raise InputError(f"{place}: '{next(key for key, values in table.items() if values == [])}' has no values")
        size = 1
        for one in columns:
            size *= len(one)
        if size > MAX_ENTRIES:
            raise InputError(f"{place} has {size} points; at most {MAX_ENTRIES} are taken")
        varied = [key for key, values in zip(table, columns, strict=True) if len(values) > 1 or not single]
        for point in product(*columns):
            made = copied(entry)
            for key, value in zip(table, point, strict=True):
                put(made, key.split("."), value, place)
            made["label"] = labelled(str(label), dict(zip(table, point, strict=True)), varied, place)
            yield made


def labelled(label: str, point: dict[str, Any], varied: list[str], place: str) -> str:
    """The label of a point: {key} is the value; what it does not name that way follows it."""
    named_in = PLACE.findall(label)
    unknown = [key for key in named_in if key not in point]
    if unknown:
        raise InputError(f"{place}: the label names {{{unknown[0]}}}, which is no key of the grid: {', '.join(point)}")
    text = PLACE.sub(lambda found: shown(point[found[1]]), label)
    return ", ".join([text, *(f"{key.rpartition('.')[2]} {shown(point[key])}" for key in varied if key not in named_in)])


def shown(value: Any) -> str:
    """A value in a label: of a table its label or name."""
    if isinstance(value, dict):
        return label_of(value) or ", ".join(f"{key} {shown(one)}" for key, one in value.items())
    return f"{value:g}" if isinstance(value, float) else " ".join(map(shown, value)) if isinstance(value, list) else str(value)


def copied(value: Any) -> Any:
    """Tables and lists anew, down to the last."""
    if isinstance(value, dict):
        return {key: copied(one) for key, one in value.items()}
    return [copied(one) for one in value] if isinstance(value, list) else value


def put(table: Any, keys: list[str], value: Any, place: str) -> None:
    """Set a dotted key; a number steps into a list, and a name in text into its table."""
    at = table
    for index, key in enumerate(keys[:-1]):
        if isinstance(at, list) and key.isdecimal() and int(key) < len(at):
            at[int(key)] = named(at[int(key)])
            at = at[int(key)]
        elif isinstance(at, dict) and isinstance(at.setdefault(key, {}), dict | list | str):
            at[key] = named(at[key])
            at = at[key]
        else:
            raise InputError(f"{place}: '{'.'.join(keys[: index + 1])}' of '{'.'.join(keys)}' is no table")
    if not isinstance(at, dict):
        raise InputError(f"{place}: '{'.'.join(keys)}' names no key of a table")
    at[keys[-1]] = copied(value)


# --- data and noises ---------------------------------------------------------------------------------------------------------


def several_of(value: Any) -> list[Any]:
    """Alternatives as a list."""
    return value if isinstance(value, list) else [value]


def spread_over(values: dict[str, Any], unused: set[str], source: Source) -> dict[str, Any]:
    """Several noises and data sets with each operator, and the user's pictures in their places."""
    values = dict(values)
    if isinstance(values.get("noise"), list):
        one_each(values, "noise", skip=("noise", "problem"))
    if "data" in values:
        found = [filled(one, unused, source) for one in several_of(values["data"])]
        values["data"] = found if isinstance(values["data"], list) else found[0]
        if isinstance(values["data"], list):
            one_each(values, "data", skip=("data", "truth"))
    for entry in values.get("operator", []):
        if isinstance(entry, dict) and "data" in entry:
            entry["data"] = filled(entry["data"], unused, source)
    return values


def one_each(values: dict[str, Any], key: str, *, skip: tuple[str, ...]) -> None:
    """Each alternative with each operator that has none of its own; a single one is the suite's, as before."""
    several = values.pop(key)
    if not several:
        raise InputError(f"{key}: a table, a name, or a list of them; given none")
    if len(several) == 1:
        values[key] = several[0]
        return
    out: list[Any] = []
    for entry in tables(values.get("operator", []), "operator") if values.get("operator") else []:
        if not isinstance(entry, dict) or any(name in entry for name in skip):
            out.append(entry)
            continue
        for one in several:
            out.append({**copied(entry), key: copied(one), "label": f"{label_of(entry)}, {spoken(one, key)}"})
    values["operator"] = out


def spoken(value: Any, key: str) -> str:
    """A noise or a data set in a label: its own label, else its numbers, else its name."""
    if not isinstance(value, dict):
        return str(value)
    if "label" in value:
        return str(value["label"])
    if key == "noise":
        return ", ".join(
            [*([value["name"]] if "name" in value else []), *(f"{name} {shown(one)}" for name, one in value.items() if name != "name")]
        )
    return next(
        (Path(str(value[name])).stem for name in ("folder", "zip", "npz", "path") if name in value), str(value.get("name", "drawings"))
    )


def filled(value: Any, unused: set[str], source: Source) -> Any:
    """A data set, or the user's pictures in its place, cropped and counted as it says."""
    table = set_part(wanted(value))
    if not isinstance(table, dict):
        return value
    found = next((name for name in names_of(table) if name in source.given), None)
    if found is None:
        return table
    unused.discard(found)
    kept = {key: inner for key, inner in table.items() if key in ("crop", "first", "channels")}
    return {**picture_source(source.given[found]), **kept, "label": found}


def wanted(value: Any) -> Any:
    """Pictures that only the user has, { label = "faces", wants = "..." }, as the data set `given`."""
    if isinstance(value, dict) and "wants" in value and "name" not in value:
        return {"name": "given", **value}
    return value


def picture_source(place: str) -> dict[str, Any]:
    """The data set of a folder, a zip or an npz file, from its name; another name is a registered one."""
    path = Path(place).expanduser()
    if place in registry().names("dataset"):
        return {"name": place}
    kind = {".zip": "zip", ".npz": "npz"}.get(path.suffix.lower(), "folder")
    if not path.exists():
        raise InputError(f"no pictures at '{place}': a folder, a zip or an npz file, or one of {', '.join(registry().names('dataset'))}")
    return {"name": kind, "path": str(path.resolve())}


def names_of(table: Mapping[str, Any]) -> list[str]:
    """What a data set is found by: its label, its name, the last part of its path."""
    path = table.get("path")
    found = [table.get("label"), table.get("name"), Path(path).stem if isinstance(path, str) else None]
    return [one for one in found if isinstance(one, str) and one]


def known_data(values: dict[str, Any]) -> set[str]:
    """What the data sets of a suite are found by."""
    every = [
        *several_of(values.get("data", [])),
        *(one["data"] for one in values.get("operator", []) if isinstance(one, dict) and "data" in one),
    ]
    return {name for one in every if isinstance(table := set_part(wanted(one)), dict) for name in names_of(table)[:1]}

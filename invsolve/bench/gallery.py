"""The pictures of a report: truth, measurement, every solver's answer and the spread of its samples, as data URIs within a budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from invsolve.bench.cells import Store
from invsolve.bench.kinds import kind_of
from invsolve.io.html import data_uri

# Characters of all pictures together: a page stays below 25 MB with its tables.
BUDGET = 20_000_000
# A standard deviation that the map of spreads shows as its brightest.
BRIGHTEST = 0.25


@dataclass(frozen=True)
class Shot:
    """A solver's answer to one picture.

    Args:
        solver, kind: what made it.
        uri: the picture, None where there is none.
        spread: standard deviation over samples, grey, 1 being BRIGHTEST; None without samples.
        values: text by metric.
        note: why there is no answer.
    """

    solver: str
    kind: str
    uri: str | None
    spread: str | None
    values: Mapping[str, str]
    note: str


@dataclass(frozen=True)
class Grid:
    """All answers to one picture under one operator; uris are None for what is no picture of 1 or 3 channels."""

    operator: str
    picture: str
    title: str
    truth: str | None
    measurement: str | None
    shots: list[Shot]

    @property
    def size(self) -> int:
        """Characters of its pictures."""
        uris = [self.truth, self.measurement, *(uri for shot in self.shots for uri in (shot.uri, shot.spread))]
        return sum(len(uri) for uri in uris if uri)


def grids(root: Path, run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], budget: int = BUDGET) -> tuple[list[Grid], int]:
    """(the grids that fit into a budget of characters, how many did not): the first picture of every operator, then the second, ..."""
    stores = Store(root, "cells", "cell.json"), Store(root, "inputs", "input.json")
    by_key = {row["key"]: row for row in rows}
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for cell in run["cells"]:
        group = groups.setdefault((cell["operator"], cell["image"]), [])
        if not group or cell["input"] == group[0]["input"]:  # of several seeds the first
            group.append(cell)
    turns = turned(groups)
    found: dict[tuple[str, str], Grid] = {}
    for pair in turns:
        if budget <= 0:
            break
        made = grid(run, groups[pair], by_key, stores)
        budget -= made.size
        found[pair] = made
    return [found[pair] for pair in groups if pair in found], len(turns) - len(found)


def turned(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(operator, picture) with the first picture of every operator first."""
    turn: dict[str, int] = {}
    numbered = []
    for pair in pairs:
        turn[pair[0]] = turn.get(pair[0], -1) + 1
        numbered.append((turn[pair[0]], len(numbered), pair))
    return [pair for *_, pair in sorted(numbered)]


def grid(run: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], by_key: Mapping[str, Any], stores: tuple[Store, Store]) -> Grid:
    """The grid of cells of one operator and picture."""
    held = stores[1].tensors(cells[0]["input"])
    titles = {picture["id"]: picture["title"] for picture in run["pictures"]}
    image = cells[0]["image"]
    shots = [shot(run, cell, by_key.get(cell["key"]), stores[0].tensors(cell["key"])) for cell in cells]
    return Grid(cells[0]["operator"], image, titles.get(image) or image, uri(held.get("truth"), 0), uri(held.get("y0"), 0), shots)


def shot(run: Mapping[str, Any], cell: Mapping[str, Any], row: Mapping[str, Any] | None, tensors: Mapping[str, Tensor]) -> Shot:
    """A cell's picture and numbers."""
    values = (
        {} if row is None else {name: value(one, row["metrics"].get(name)) for name, one in run["metrics"].items() if not one["of_sets"]}
    )
    note = "not computed yet" if row is None else row["status"] if row["status"] not in ("finished", "converged") else ""
    kind = kind_of(cell["solver_name"], cell["prior"])
    return Shot(cell["solver"], kind, uri(tensors.get("x")), spread(tensors.get("samples")), values, note)


def value(metric: Mapping[str, Any], found: float | None) -> str:
    """A number with its unit, or a dash."""
    return "-" if found is None else f"{found:.{metric['digits']}f} {metric['unit'] or metric['label']}"


def spread(samples: Tensor | None) -> str | None:
    """Standard deviation over samples (n, C, H, W), the mean over channels."""
    if samples is None or len(samples) < 2 or samples.ndim != 4 or samples.is_complex():
        return None
    return data_uri(samples.double().std(0).mean(0, keepdim=True) / BRIGHTEST)


def uri(tensor: Tensor | None, *index: int) -> str | None:
    """A tensor, or its row of an index, as a picture."""
    return None if tensor is None else data_uri(tensor[index[0]] if index else tensor)

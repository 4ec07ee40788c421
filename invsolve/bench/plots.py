"""A run's figures for a paper: quality against cost and pictures side by side, as PDF, SVG or PNG."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invsolve.bench.gallery import Grid, grids
from invsolve.bench.standings import COSTS, Board, boards, ranking
from invsolve.bench.table import CONTROL
from invsolve.errors import InputError
from invsolve.io.files import make_folder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("pdf", "svg", "png")
COLOURS = {"direct": "#7b848b", "variational": "#b97a08", "plug-and-play": "#c14a2a", "diffusion": "#1f63c4", "other": "#6b5b95"}
MARKERS = {"direct": "s", "variational": "^", "plug-and-play": "D", "diffusion": "o", "other": "P"}


def write_figures(folder: str | Path, run: dict[str, Any], rows: Sequence[dict[str, Any]], kind: str = "pdf") -> list[Path]:
    """Write a run's figures into the sub-folder `figures`; returns their paths.

    Args:
        folder: of the run.
        run, rows: what `read_run` and `read_rows` give.
        kind: "pdf", "svg" or "png".

    Raises:
        InputError: another kind.
    """
    if kind not in FORMATS:
        raise InputError(f"figures are {', '.join(FORMATS)}; given {kind!r:.40}")
    target = Path(folder) / "figures"
    make_folder(target)
    made: list[Path] = []
    for number, board in enumerate(boards(run, rows), 1):
        for name, metric in ranking(run).items():
            for column, text, _, _ in COSTS:
                drawn = quality(board, name, metric, column, text)
                if drawn is not None:
                    made.append(saved(drawn, target / f"{number}-{slug(board.operator)}-{slug(name)}-{column}.{kind}"))
    seen: set[str] = set()
    for number, grid in enumerate(grids(Path(folder), run, rows)[0], 1):
        if grid.operator not in seen:  # one picture an operator
            seen.add(grid.operator)
            made.append(saved(sheet(grid), target / f"pictures-{number}-{slug(grid.operator)}.{kind}"))
    return made


def slug(text: str) -> str:
    """A label as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "x"


def plain(text: str) -> str:
    """A label that matplotlib shows as it is."""
    return CONTROL.sub("", text).replace("\\", "/").replace("$", r"\$")


def blank(width: float, height: float) -> Figure:
    """A figure that no window knows of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def saved(figure: Figure, path: Path) -> Path:
    """Written, without the time in it: equal runs give equal files."""
    import matplotlib

    dated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(path.suffix[1:], {})
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "invsolve"}):
        figure.savefig(path, dpi=200, metadata=dated)
    return path


def quality(board: Board, name: str, metric: Mapping[str, Any], column: str, text: str) -> Figure | None:
    """Quality against cost, with the front; None under two points."""
    entries = board.entries(name, column, higher=metric["higher"])
    if len(entries) < 2:
        return None
    sign = 1 if metric["higher"] else -1
    figure = blank(4.6, 3.2)
    axes: Axes = figure.subplots()
    leading = board.front(name, column, higher=metric["higher"])
    places = {solver: (cost, sign * value) for solver, cost, value in entries}
    for solver, (cost, value) in places.items():
        kind = board.kinds[solver]
        axes.scatter(cost, value, s=28, color=COLOURS[kind], marker=MARKERS[kind], alpha=1.0 if solver in leading else 0.6, zorder=3)
        spread = board.times.get(solver) if column == "seconds" else None
        if spread is not None:
            axes.plot([spread.low, spread.high], [value, value], color=COLOURS[kind], linewidth=1, zorder=2)
        weight = "bold" if solver in leading else "normal"
        axes.annotate(plain(solver), (cost, value), xytext=(5, 3), textcoords="offset points", fontsize=7, fontweight=weight)
    axes.step(*zip(*(places[solver] for solver in leading), strict=True), where="post", color="#9aa3aa", linestyle="--", linewidth=1)
    if all(cost > 0 for cost, _ in places.values()):
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=min((cost for cost, _ in places.values() if cost > 0), default=1.0))
    axes.margins(x=0.16, y=0.1)
    axes.grid(visible=True, linewidth=0.4, alpha=0.6)
    axes.set_title(plain(board.operator), fontsize=9)
    axes.set_xlabel(text, fontsize=8)
    axes.set_ylabel(plain(f"{metric['label']} {metric['unit']}".strip()), fontsize=8)
    axes.tick_params(labelsize=7)
    return figure


def sheet(grid: Grid) -> Figure:
    """Truth, measurement and all answers of a picture."""
    from PIL import Image

    shown = [("truth", grid.truth), ("measurement", grid.measurement), *((shot.solver, shot.uri) for shot in grid.shots)]
    across = min(len(shown), 6)
    down = -(-len(shown) // across)
    figure = blank(1.15 * across, 1.35 * down)
    for axes in figure.subplots(down, across, squeeze=False).flat:
        axes.set_axis_off()
    for axes, (text, uri) in zip(figure.axes, shown, strict=False):
        axes.set_title(plain(text), fontsize=7, pad=3)
        if uri is not None:
            image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="none")
    return figure

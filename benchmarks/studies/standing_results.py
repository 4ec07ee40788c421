"""The committed results of a standing suite: `python benchmarks/studies/standing_results.py runs/classical-vs-diffusion`.

Writes NAME.md (who won which task, by how much and whether that is sure; what an evaluation buys; the whole table), NAME.json (the means)
and NAME.png (one photograph: truth, measurement and every solver, a task a row) into benchmarks/results/standing.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from quick_results import means_of, picture

from invsolve.bench.export import read_rows, read_run
from invsolve.bench.standings import Board, boards
from invsolve.bench.table import format_plain

RESULTS = Path(__file__).parents[1] / "results" / "standing"
METRICS = {"psnr": ("PSNR", 2, " dB"), "haarpsi": ("HaarPSI", 3, "")}


def best(board: Board, metric: str, *, diffusion: bool) -> str | None:
    """The diffusion solver with the best mean, or the best of all others."""
    means = board.contests[metric].means
    mine = [name for name in means if (board.kinds[name] == "diffusion") == diffusion]
    return max(mine, key=lambda name: means[name].mean, default=None)


def winners(everything: list[Board], metric: str) -> list[str]:
    """A line a task: the best of both sorts, their difference with its interval, and whom the best cannot be told from."""
    name, digits, unit = METRICS[metric]
    out = [
        f"| task | best without diffusion, {name} | best diffusion | difference, 95 % interval | sure? | not told apart from the best |",
        "|---|---|---|---|---|---|",
    ]
    for board in everything:
        held = board.contests[metric]
        classical, diffusion = best(board, metric, diffusion=False), best(board, metric, diffusion=True)
        if classical is None or diffusion is None:
            continue
        shown = [f"{one} {held.means[one].mean:.{digits}f}" for one in (classical, diffusion)]
        found = held.pairs[diffusion, classical].difference
        known = found is not None and found.low is not None and found.high is not None
        said = "" if found is None else f"{found.mean:+.{digits}f}{unit}"
        said += f" [{found.low:+.{digits}f}, {found.high:+.{digits}f}]" if known else ""  # pyright: ignore
        sure = {1: "diffusion", -1: "without", 0: "no"}[held.pairs[diffusion, classical].sign]
        near = [one for one in held.means if one != held.best and held.pairs[one, held.best].sign == 0]
        out.append(f"| {board.operator} | {shown[0]} | {shown[1]} | {said} | {sure} | {', '.join(near) or 'nobody'} |")
    return out


def fronts(everything: list[Board]) -> list[str]:
    """The solvers that none beats in PSNR and evaluations at once, cheapest first."""
    out = []
    for board in everything:
        names = board.front("psnr", "nfe", higher=True)
        points = [f"{one} ({board.costs['nfe'][one]:.0f}: {board.contests['psnr'].means[one].mean:.2f})" for one in names]
        out.append(f"- {board.operator}: {', '.join(points)}")
    return out


def text(run: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The page."""
    name, everything = run["suite"]["name"], boards(run, rows)
    parts = [f"# {run['suite'].get('title') or name}", ""]
    parts += [f"`invsolve bench run {name}`, then `python benchmarks/studies/standing_results.py runs/{name}`.", ""]
    pictures = ", ".join(one["title"] or one["id"] for one in run["pictures"])
    parts += [f"{len(rows)} cells; pictures: {pictures}. With so few pictures an interval is wide: what spans 0 is no result.", ""]
    for metric, (label, _, _) in METRICS.items():
        if metric in everything[0].contests:
            parts += [f"## Who won, by {label}", "", *winners(everything, metric), ""]
    parts += ["## What an evaluation buys", "", "Nobody better for as few network evaluations (evaluations: PSNR):", ""]
    parts += [*fronts(everything), "", f"![Truth, measurement and every solver, a task a row]({name}.png)", ""]
    seconds = "Seconds were taken once, while other work went on: they say little, evaluations say what they are."
    parts += ["## The whole table", "", seconds, "", "```text", format_plain(run, rows).strip(), "```", ""]
    return "\n".join(parts)


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--image", default="chelsea")
    given = parser.parse_args()
    run, rows = read_run(given.run), read_rows(given.run)
    name = run["suite"]["name"]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text(run, rows))
    (RESULTS / f"{name}.json").write_text(json.dumps(means_of(rows), indent=1) + "\n")
    picture(given.run, run, rows, given.image).save(RESULTS / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()

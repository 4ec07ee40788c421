"""What the published truth page says of a solver, for its card: cells of the page, nothing else.

    python -m invsolve_benchmarks.truth.cards benchmarks/results/truth/truth.json

takes them out of a page's table into `leaderboard.json` beside this module, which is what an installed package has of the page.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

from invsolve.io.files import write_text
from invsolve_benchmarks.truth.catalogue import CONTROLS
from invsolve_benchmarks.truth.page import average, grouped

FILE = Path(__file__).with_name("leaderboard.json")
FIGURES = (("gaussian", "mean"), ("gaussian", "cov"), ("gaussian", "trace"), ("mixture", "weights"), (None, "in90"))
DIGITS = 4


Cells = dict[str, list[float]]  # by figure: [mean, number of problems that have it]; evaluations and backward passes: [least, most]


def leaderboard(rows: list[dict[str, Any]]) -> dict[str, dict[str, Cells]]:
    """The page's means over problems, by solver, evaluations and figure."""
    found: dict[str, dict[str, Cells]] = {}
    shown = (row for row in rows if row["status"] == "done" and row["solver"] not in CONTROLS)
    for (solver, budget), them in grouped(shown, ("solver", "budget")).items():
        means = {f"{family or 'all'} {name}": average(them, family, name) for family, name in FIGURES}
        held = {name: [round(mean, DIGITS), count] for name, (mean, count) in means.items() if mean is not None}
        spent = {name: [row[name] for row in them if name in row] for name in ("nfe", "backward")}
        if held:
            found.setdefault(solver, {})[str(budget)] = held | {
                name: [min(all_of), max(all_of)] for name, all_of in spent.items() if all_of
            }
    return found


@cache
def published() -> dict[str, dict[str, Cells]]:
    """The published page's."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def known(solver: str) -> dict[str, str]:
    """A line for each number of evaluations at which the page has the solver; {} for one that it does not have."""
    return {f"truth at {budget} evaluations": told(cells) for budget, cells in sorted(published().get(solver, {}).items(), key=order)}


def order(pair: tuple[str, Any]) -> int:
    """By evaluations."""
    return int(pair[0])


def told(cells: Cells) -> str:
    """Cells in words, each figure with the number of problems it is the mean over."""
    words = {
        "gaussian mean": "the mean {:.2g} posterior standard deviations off",
        "gaussian cov": "the covariance {:.0%} off",
        "gaussian trace": "the total variance {:.2g} times the posterior's",
        "mixture weights": "{:.0%} of the weight in the wrong mode",
        "all in90": "its 90 % intervals hold {:.0%}",
    }
    texts = {name: f"{text.format(cells[name][0])} [{cells[name][1]:.0f}]" for name, text in words.items() if name in cells}
    gaussian = [text for name, text in texts.items() if name.startswith("gaussian")]
    parts = [f"Gaussian problems: {', '.join(gaussian)}"] if gaussian else []
    parts += [f"mixtures: {texts['mixture weights']}"] if "mixture weights" in texts else []
    parts += [texts["all in90"]] if "all in90" in texts else []
    spent = [
        f"{ranged(cells[name])} {what}"
        for name, what in (("nfe", "evaluations"), ("backward", "backward passes"))
        if any(cells.get(name, ()))
    ]
    parts += [f"{' and '.join(spent)} an answer"] if spent else []
    return f"{'; '.join(parts)} ([n]: the mean over the n problems of the suite truth that have the figure)"


def ranged(ends: list[float]) -> str:
    """Least and most, one number where they are the same."""
    return " to ".join(f"{end:.0f}" for end in dict.fromkeys(ends))


if __name__ == "__main__":
    write_text(FILE, json.dumps(leaderboard(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), indent=1) + "\n")

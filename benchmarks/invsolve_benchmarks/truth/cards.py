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
from invsolve_benchmarks.truth.page import average, grouped

FILE = Path(__file__).with_name("leaderboard.json")
FIGURES = (("gaussian", "mean"), ("gaussian", "cov"), ("gaussian", "trace"), ("mixture", "weights"), (None, "in90"))
DIGITS = 4


def leaderboard(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """The page's means over problems, by solver, evaluations and figure; `problems` is their number."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (solver, budget), them in grouped((row for row in rows if row["status"] == "done"), ("solver", "budget")).items():
        means = {f"{family or 'all'} {name}": average(them, family, name) for family, name in FIGURES}
        held = {name: round(mean, DIGITS) for name, mean in means.items() if mean is not None}
        if held:
            found.setdefault(solver, {})[str(budget)] = {"problems": len(them), **held}
    return found


@cache
def published() -> dict[str, dict[str, dict[str, float]]]:
    """The published page's."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def known(solver: str) -> dict[str, str]:
    """A line for each number of evaluations at which the page has the solver; {} for one that it does not have."""
    return {f"truth at {budget} evaluations": told(cells) for budget, cells in sorted(published().get(solver, {}).items(), key=order)}


def order(pair: tuple[str, Any]) -> int:
    """By evaluations."""
    return int(pair[0])


def told(cells: dict[str, float]) -> str:
    """Cells in words."""
    words = {
        "gaussian mean": "the mean {:.2g} posterior standard deviations off",
        "gaussian cov": "the covariance {:.0%} off",
        "gaussian trace": "the total variance {:.2g} times the posterior's",
    }
    gaussian = [text.format(cells[name]) for name, text in words.items() if name in cells]
    parts = [f"Gaussian problems: {', '.join(gaussian)}"] if gaussian else []
    if "mixture weights" in cells:
        parts.append(f"mixtures: {cells['mixture weights']:.0%} of the weight in the wrong mode")
    if "all in90" in cells:
        parts.append(f"its 90 % intervals hold {cells['all in90']:.0%}")
    return f"{'; '.join(parts)} (means over {cells['problems']:.0f} problems of the suite truth)"


if __name__ == "__main__":
    write_text(FILE, json.dumps(leaderboard(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), indent=1) + "\n")

"""A run's tables for a paper: LaTeX with booktabs, a table an operator."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from invsolve.bench.clock import said
from invsolve.bench.export import Line
from invsolve.bench.numbers import Times
from invsolve.bench.standings import Board, boards, order, ranking
from invsolve.bench.statistics import LEVEL
from invsolve.bench.table import CONTROL, columns

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return re.sub(r"[\\~^<>&%$#_{}]", lambda found: SPECIAL[found[0]], CONTROL.sub("", text))


def latex(run: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    r"""Tables with means and standard deviations over pictures; needs \usepackage{booktabs}.

    Bold: the best mean of a column; underlined: not told apart from it (the interval of the paired difference holds 0).
    """
    everything, metrics = boards(run, rows), ranking(run)
    head = [
        f"% {escaped(run['suite']['name'])}, seed {run['seed']}, {run['started']}",
        "% \\usepackage{booktabs}",
        f"% bold: best mean; underlined: the {100 * LEVEL:.0f} % interval of the paired difference from it holds 0",
        *(f"% {escaped(text)}" for text in said(rows, run["hardware"])),
    ]
    first = next(iter(metrics), "")
    return "\n".join([*head, *(text for board in everything for text in table(run, board, first))]) + "\n"


def table(run: Mapping[str, Any], board: Board, first: str) -> list[str]:
    """One operator's."""
    shown = columns(dict(run))
    count = max((line.done for line in board.lines), default=0)
    out = [
        "",
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{escaped(board.operator)}: mean $\\pm$ standard deviation over {count} pictures.}}",
        f"\\begin{{tabular}}{{ll{'r' * len(shown)}}}",
        r"\toprule",
        " & ".join(["Solver", "Prior", *(heading_of(run, name, text) for name, text, _ in shown)]) + r" \\",
        r"\midrule",
    ]
    last = ""
    for solver, kind in order([board], first):
        if last and kind != last:
            out.append(r"\addlinespace")
        last, line = kind, board.line(solver)
        cells = [cell(board, line, name, digits) for name, _, digits in shown]
        out.append(" & ".join([escaped(solver), escaped(line.prior), *cells]) + r" \\")
    return [*out, r"\bottomrule", r"\end{tabular}", r"\end{table}"]


def heading_of(run: Mapping[str, Any], name: str, text: str) -> str:
    """A column's heading, with an arrow to what is better."""
    higher = run["metrics"].get(name, {}).get("higher")
    return escaped(text) + ("" if higher is None else r" $\uparrow$" if higher else r" $\downarrow$")


def cell(board: Board, line: Line, name: str, digits: int) -> str:
    """A number, marked where it leads."""
    found = line.numbers.get(name)
    if found is None:
        return "--"
    text = f"{found.mean:.{digits}f}".replace("inf", r"$\infty$")
    held = board.contests.get(name)
    if held is not None and line.solver in held.means:
        text = f"\\textbf{{{text}}}" if line.solver == held.best else f"\\underline{{{text}}}" if held.level(line.solver) else text
    if isinstance(found, Times):
        return f"{text} {found.between(digits)}"
    return text if found.std is None or name == "nfe" else f"{text} $\\pm$ {found.std:.{digits}f}"

"""Single-line faults: where a source file can be changed at one place, and which lines run when that place does.

A fault is one change: a number changed, a comparison turned round, + and - or * and / exchanged, min and max, `and` and `or`, a keyword
argument left out, a condition negated, a minus dropped, a statement left out, a return brought forward. Places are found in the syntax
tree; messages of errors, annotations, docstrings, imports and what a class declares of its own bias are left alone.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SWAPS: dict[type, str] = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}
TURNED: dict[type, str] = {
    ast.Lt: ">=",
    ast.LtE: ">",
    ast.Gt: "<=",
    ast.GtE: "<",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
NAMES = {
    "min": "max",
    "max": "min",
    "maximum": "minimum",
    "minimum": "maximum",
    "clamp_min": "clamp_max",
    "clamp_max": "clamp_min",
    "any": "all",
    "all": "any",
    "amax": "amin",
    "amin": "amax",
    "mean": "sum",
    "sqrt": "square",
    "square": "sqrt",
}


@dataclass(frozen=True)
class Fault:
    """One change.

    Args:
        path: of the file, from the root.
        line: 1-based.
        start, end: columns, in bytes of that line.
        text: what stands there afterwards.
        kind: of the change.
    """

    path: str
    line: int
    start: int
    end: int
    text: str
    kind: str

    def apply(self, source: str) -> str:
        """The file with it."""
        lines = source.splitlines(keepends=True)
        raw = lines[self.line - 1].encode()
        lines[self.line - 1] = (raw[: self.start] + self.text.encode() + raw[self.end :]).decode()
        return "".join(lines)

    def shown(self, source: str) -> str:
        """`before` -> `after`."""
        before, after = (text.splitlines()[self.line - 1].strip() for text in (source, self.apply(source)))
        return f"`{before}` -> `{after}`".replace("|", "\\|")


def skipped(tree: ast.AST) -> set[int]:
    """Nodes that are no behaviour: messages of errors, annotations, texts, imports, decorators, declarations for readers."""
    out: set[int] = set()
    for node in ast.walk(tree):
        hidden: list[ast.AST] = []
        if isinstance(node, ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr):
            hidden = [node]
        elif isinstance(node, ast.AnnAssign):  # what a class declares of its own bias and lines only bounds what checks find
            hidden = [node] if ast.unparse(node.target) in ("declared_bias", "unreached") else [node.annotation]
        elif isinstance(node, ast.FunctionDef):
            extra = [node.returns] if node.returns else []
            hidden = [*node.decorator_list, *extra, *(arg.annotation for arg in node.args.args + node.args.kwonlyargs if arg.annotation)]
            if node.name in ("examples", "__repr__", "extra_repr", "declared_bias"):
                hidden = [node]
        elif isinstance(node, ast.ClassDef):
            hidden = [*node.decorator_list, *node.bases, *node.keywords]
        out |= {id(part) for one in hidden for part in ast.walk(one)}
    return out


def faults(path: str, source: str) -> Iterator[Fault]:
    """Every fault there can be in a file."""
    tree = ast.parse(source)
    out, lines = skipped(tree), source.splitlines()
    for node in ast.walk(tree):
        if id(node) not in out:
            for line, start, end, text, kind in changes(node, lines):
                yield Fault(path, line, start, end, text, kind)


def between(left: ast.expr, right: ast.expr, lines: list[str]) -> tuple[int, int, str] | None:
    """(start, end, text) of what stands between two operands on one line."""
    if left.end_lineno != right.lineno or left.end_col_offset is None:
        return None
    return left.end_col_offset, right.col_offset, lines[right.lineno - 1].encode()[left.end_col_offset : right.col_offset].decode()


def changes(node: ast.AST, lines: list[str]) -> Iterator[tuple[int, int, int, str, str]]:
    """(line, start, end, text, kind) of each change at a node."""
    yield from of_operators(node, lines)
    if not hasattr(node, "end_lineno") or node.lineno != node.end_lineno:  # pyright: ignore[reportAttributeAccessIssue]
        return
    line, start, end = node.lineno, node.col_offset, node.end_col_offset  # pyright: ignore[reportAttributeAccessIssue]
    own = lines[line - 1].encode()[start:end].decode()
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        value = node.value
        new = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else 2 * value or 1.0
        yield line, start, end, repr(new), "number"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield line, start, end, f"({ast.unparse(node.operand)})", "sign dropped" if isinstance(node.op, ast.USub) else "branch negated"
    elif isinstance(node, ast.Attribute) and node.attr in NAMES and ast.unparse(node.value) != "math":
        yield line, end - len(node.attr), end, NAMES[node.attr], "name exchanged"
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in NAMES:
            yield line, start, start + len(node.func.id), NAMES[node.func.id], "name exchanged"
        for index in range(len(node.keywords)):
            if node.keywords[index].arg:
                fewer = ast.Call(node.func, node.args, [one for place, one in enumerate(node.keywords) if place != index])
                yield line, start, end, ast.unparse(fewer), "argument dropped"
    elif isinstance(node, ast.Return) and node.value is not None and own != "return None":
        yield line, start, end, "return None", "nothing returned"
    elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield line, start, end, "pass", "statement dropped"


def of_operators(node: ast.AST, lines: list[str]) -> Iterator[tuple[int, int, int, str, str]]:
    """Changes of what stands between operands, and conditions turned round."""
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS and not isinstance(node.left, ast.Constant | ast.JoinedStr):
        if (gap := between(node.left, node.right, lines)) and gap[2].strip(" ()") in "+-*/":
            sign = gap[2].strip(" ()")
            yield node.right.lineno, gap[0], gap[1], gap[2].replace(sign, SWAPS[type(node.op)]), f"{sign} exchanged"
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        gap = between(node.left, node.comparators[0], lines)
        if gap and not set(gap[2]) & set("()"):
            yield node.left.end_lineno or 0, gap[0], gap[1], f" {TURNED[type(node.ops[0])]} ", "comparison turned"
    elif isinstance(node, ast.BoolOp):
        word, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        gap = between(node.values[0], node.values[1], lines)
        if gap and word in gap[2]:
            yield node.values[1].lineno, gap[0], gap[1], gap[2].replace(word, other), "and, or exchanged"
    elif isinstance(node, ast.If | ast.IfExp | ast.While) and node.test.lineno == node.test.end_lineno:
        test = node.test
        yield test.lineno, test.col_offset, test.end_col_offset or 0, f"not ({ast.unparse(test)})", "branch negated"


def drawn(root: Path, only: list[str], count: int, seed: int) -> list[Fault]:
    """Seeded faults of the modules whose path in invsolve/ begins so, no two on one line; each must still be Python."""
    found: list[Fault] = []
    for path in sorted((root / "invsolve").rglob("*.py")):
        if any(path.relative_to(root / "invsolve").as_posix().startswith(one) for one in only):
            found += faults(path.relative_to(root).as_posix(), path.read_text())
    rng = random.Random(seed)
    rng.shuffle(found)
    # Every method returns something: three in four of those go, since hardly any could live.
    found = [fault for fault in found if fault.kind != "nothing returned" or rng.random() < 0.25]
    chosen: dict[tuple[str, int], Fault] = {}
    for fault in found:
        if (fault.path, fault.line) not in chosen and _python(fault.apply((root / fault.path).read_text())):
            chosen[fault.path, fault.line] = fault
    return list(chosen.values())[:count]


def _python(source: str) -> bool:
    try:
        compile(source, "fault", "exec")
    except SyntaxError:
        return False
    return True


def region(source: str, line: int) -> list[set[int]]:
    """Lines such that a test that runs one of them may notice a change of `line`: the likely ones first, then those to fall back on.

    In a function these are the lines of its statement. What runs when the module is imported (constants, fields, defaults) belongs to
    no test: there they are the lines that mention the name it is given, then the class or, outside one, the module.
    """
    tree = ast.parse(source)
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0) and not isinstance(node, ast.Module)
    ]  # ast.walk goes down level by level: the innermost statement is the last
    statement = around[-1]
    body = getattr(statement, "body", None)
    end = body[0].lineno - 1 if body else statement.end_lineno or line
    lines = set(range(statement.lineno, max(end, line) + 1))
    if any(isinstance(node, ast.FunctionDef) for node in around[:-1]):
        return [lines]
    if isinstance(statement, ast.FunctionDef):  # a default of an argument
        return [set(range(statement.lineno, (statement.end_lineno or line) + 1))]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    names = [node.id for one in targets if one for node in ast.walk(one) if isinstance(node, ast.Name)]
    texts = source.splitlines()
    mention = {number for number, text in enumerate(texts, 1) if any(re.search(rf"\b{name}\b", text) for name in names)}
    owner = around[0] if isinstance(around[0], ast.ClassDef) else None
    whole = set(range(owner.lineno, (owner.end_lineno or line) + 1)) if owner else set(range(1, len(texts) + 1))
    return [mention - lines, whole]

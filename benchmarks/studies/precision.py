"""What bfloat16 and channels last give and cost on the quick suite: `python benchmarks/studies/precision.py --out runs/precision`.

Every entry of the quick suite that has a network runs twice on the same measurements, next to each other: in float32 as torch
lays tensors out, and in bfloat16 with channels last. Writes results/precision.md.
"""

import argparse
import copy
import math
import statistics
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from invsolve.bench import run
from invsolve.bench.export import lines
from invsolve.bench.suite import Suite

RESULTS = Path(__file__).parents[1] / "results"
WAYS = {
    "float32": {"precision": "float32", "channels_last": False},
    "bfloat16": {"precision": "bfloat16", "channels_last": True},
}


def doubled() -> Suite:
    """The quick suite's entries with a network, each in both ways."""
    source = tomllib.loads((files("invsolve_benchmarks") / "suites" / "quick.toml").read_text(encoding="utf-8"))
    entries = []
    for entry in source["solver"]:
        if "precision" not in entry["prior"]:
            continue
        for name, options in WAYS.items():
            twin = copy.deepcopy(entry)
            twin["label"] = f"{entry['label']} {name}"
            twin["prior"] |= options
            entries.append(twin)
    return Suite.model_validate({**source, "name": "precision", "title": "Quick suite in two precisions", "solver": entries})


def means(numbers: dict[str, Any]) -> dict[str, float]:
    """Metric -> mean over the pictures; not a number where the cell has none."""
    return {name: math.nan if cell is None else cell.mean for name, cell in numbers.items()}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """A line per operator and solver."""
    out = ["| operator | solver | float32 s | bfloat16 s | ratio | PSNR change dB |", "|---|---|---|---|---|---|"]
    ratios, changes = [], []
    for operator in dict.fromkeys(row["operator"] for row in rows):
        found = {line.solver: means(line.numbers) for line in lines(rows, operator)}
        for solver in dict.fromkeys(name.rsplit(" ", 1)[0] for name in found):
            slow, fast = (found[f"{solver} {way}"] for way in WAYS)
            ratio = fast["seconds"] / slow["seconds"]
            change = fast["psnr"] - slow["psnr"]
            ratios.append(ratio)
            changes.append(change)
            out.append(f"| {operator} | {solver} | {slow['seconds']:.2f} | {fast['seconds']:.2f} | {ratio:.2f} | {change:+.3f} |")
    out += [
        "",
        f"Median ratio {statistics.median(ratios):.2f}, largest {max(ratios):.2f}; "
        f"changes of PSNR from {min(changes):+.3f} to {max(changes):+.3f} dB.",
    ]
    return out


def main() -> None:
    """Run and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/precision"))
    arguments = parser.parse_args()
    rows = run(doubled(), out=arguments.out)
    text = [
        "# float32 against bfloat16 with channels last",
        "",
        "`python benchmarks/studies/precision.py`: the quick suite's entries with a network, same measurements.",
        "",
    ]
    (RESULTS / "precision.md").write_text("\n".join([*text, *table(rows)]) + "\n", encoding="utf-8")
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()

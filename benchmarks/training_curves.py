"""The curves of training runs, kept in results/priors: `python benchmarks/training_curves.py runs/natural runs/mnist`.

Of each run its log goes to NAME.csv and its curves to NAME.png: loss and validation PSNR of the averaged weights over images seen. What
the folder holds is listed in results/priors/README.md, with the config and the PSNR on whole test images from the card.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "priors"
CARDS = (HERE.parent / "plugins" / "invsolve_deepinv" / "weights", HERE / "weights")


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a log.csv."""
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def draw(name: str, rows: list[dict[str, float]], out: Path) -> None:
    """Loss on the left axis, PSNR on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.subplots()
    right = left.twinx()
    images = [row["images"] / 1000 for row in rows]
    left.plot(images, [row["loss"] for row in rows], color="0.5", label="loss")
    for key in (key for key in rows[0] if key.startswith("psnr")):
        right.plot(images, [row[key] for row in rows], label=f"PSNR at {key.removeprefix('psnr')}/255")
    left.set(xlabel="thousand images seen", ylabel="loss", title=name)
    right.set_ylabel("validation PSNR, dB")
    figure.legend(loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(out, dpi=110)


def listing() -> list[str]:
    """A line for every card: config, length, and PSNR on whole test images beside the published networks."""
    lines = [
        "# Trainings of the shipped priors",
        "",
        "Curves by `python benchmarks/training_curves.py RUN...`; tables by the command in each card.",
        "",
    ]
    lines += ["| prior | config | steps | hours | parameters | curve |", "|---|---|---|---|---|---|"]
    cards = sorted((json.loads(path.read_text()) for folder in CARDS for path in folder.glob("*.json")), key=lambda card: card["name"])
    for card in cards:
        training, name = card["training"], card["name"]
        config = f"[{name}.toml](../../training/{name}.toml)" if (HERE / "training" / f"{name}.toml").exists() else "-"
        curve = f"[{name}.png]({name}.png)" if (RESULTS / f"{name}.png").exists() else "not kept"
        lines.append(f"| {name} | {config} | {training['steps']} | {training['hours']} | {card['parameters']:,} | {curve} |")
    for card in cards:
        lines += table_of(card)
    return lines


def table_of(card: dict[str, Any]) -> list[str]:
    """The card's PSNR table."""
    measured = card["psnr"].get("psnr_db", {})
    if not measured:
        return []
    levels = list(next(iter(measured.values())))
    lines = ["", f"## {card['name']}", "", card["psnr"]["set"], ""]
    lines += ["| denoiser | " + " | ".join(f"{level}/255" for level in levels) + " |", "|---|" + "---|" * len(levels)]
    return lines + [f"| {name} | " + " | ".join(f"{row[level]:.2f}" for level in levels) + " |" for name, row in measured.items()]


def main() -> None:
    """Read the arguments and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path)
    arguments = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for run in arguments.runs:
        rows = read_log(run / "log.csv")
        (RESULTS / f"{run.name}.csv").write_text((run / "log.csv").read_text())
        draw(run.name, rows, RESULTS / f"{run.name}.png")
    (RESULTS / "README.md").write_text("\n".join(listing()) + "\n")


if __name__ == "__main__":
    main()

"""The curves of training runs, kept in results/priors: `python benchmarks/studies/training_curves.py runs/natural runs/mnist`.

Of each run its log goes to NAME.csv and its curves to NAME.png: loss and validation PSNR of the averaged weights over images seen. What
the folder holds is listed in results/priors/README.md, with the config and the PSNR on whole test images from the card.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
RESULTS = HERE / "results" / "priors"
CARDS = (HERE.parent / "plugins" / "invsolve_priors" / "weights", HERE / "weights")


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


def stages(folder: Path, name: str, suffix: str, link: str) -> str:
    """Links to NAME-1, NAME-2, ... and NAME of a kind, in that order, as far as they are there."""
    found = [*sorted(folder.glob(f"{name}-[0-9]{suffix}")), folder / f"{name}{suffix}"]
    return ", ".join(f"[{path.name}]({link}{path.name})" for path in found if path.exists())


def listing() -> list[str]:
    """Every card: config, length, curve, and its tables."""
    lines = [
        "# Trainings of the shipped priors",
        "",
        "Curves by `python benchmarks/studies/training_curves.py RUN...` (those of natural's first stage and of dncnn were not kept),",
        "tables by `python -m invsolve_priors.evaluate NAME --data DATA --peers --card` (mnist with `--images 500` and faces64, both",
        "without `--peers`), pictures by `python benchmarks/studies/samples.py NAME...`;",
        "other networks and recipes at equal cost: [trials.md](trials.md).",
        "",
    ]
    lines += ["| prior | config | steps | hours | parameters | curve |", "|---|---|---|---|---|---|"]
    cards = sorted((json.loads(path.read_text()) for folder in CARDS for path in folder.glob("*.json")), key=lambda card: card["name"])
    for card in cards:
        training, name = card["training"], card["name"]
        config = stages(HERE / "training", name, ".toml", "../../training/")
        curve = stages(RESULTS, name, ".png", "") or "not kept"
        lines.append(f"| {name} | {config} | {training['steps']} | {training['hours']} | {card['parameters']:,} | {curve} |")
    for card in cards:
        tables = [*psnr_table(card), *tile_table(card), *sample_table(card)]
        lines += ["", f"## {card['name']}", *tables] if tables else []
        lines += ["", "Tried:", "", *(f"- {line}" for line in card["tried"])] if card.get("tried") else []
    return lines


def psnr_table(card: dict[str, Any]) -> list[str]:
    """PSNR on whole images, beside others."""
    measured = card["psnr"].get("psnr_db", {})
    if not measured:
        return []
    levels = list(next(iter(measured.values())))
    lines = ["", card["psnr"]["set"], ""]
    lines += ["| denoiser | " + " | ".join(f"{level}/255" for level in levels) + " |", "|---|" + "---|" * len(levels)]
    return lines + [f"| {name} | " + " | ".join(f"{row[level]:.2f}" for level in levels) + " |" for name, row in measured.items()]


def tile_table(card: dict[str, Any]) -> list[str]:
    """What cutting costs."""
    rows = card.get("tiles", {}).get("change_db", {})
    if not rows:
        return []
    places = list(next(iter(rows.values())))
    lines = ["", f"Change of PSNR in dB at {card['tiles']['level']}/255 by cutting the same noisy images into square tiles:", ""]
    lines += ["| pixels | " + " | ".join(f"{side} x {side}" for side in rows) + " |", "|---|" + "---|" * len(rows)]
    return lines + [f"| {place} | " + " | ".join(f"{row[place]:+.3f}" for row in rows.values()) + " |" for place in places]


def sample_table(card: dict[str, Any]) -> list[str]:
    """Statistics of samples beside those of real patches, and the pictures."""
    rows = card.get("samples", {})
    if not rows:
        return []
    lines = ["", "| 64 pictures | spectrum slope | gradient kurtosis |", "|---|---|---|"]
    lines += [f"| {name} | {row['spectrum_slope']:.2f} | {row['gradient_kurtosis']:.1f} |" for name, row in rows.items()]
    name = card["name"]
    shown = [f"![Samples of {name}, DDIM above, Heun below]({name}_samples.png)"] if (RESULTS / f"{name}_samples.png").exists() else []
    return [*lines, "", *shown] if shown else lines


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

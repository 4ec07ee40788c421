"""The committed results of a run: `python benchmarks/studies/quick_results.py runs/quick`.

Writes quick.md (tables of means and spreads, the comparisons that the suite was made for, and how every cell changed since the table
before), quick.json (the means, for the next such comparison) and quick.png (one photograph: truth, measurement and every solver, an
operator a row) into benchmarks/results.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from invsolve.bench.cells import Store
from invsolve.bench.export import lines, read_rows, read_run
from invsolve.bench.table import format_plain
from invsolve.priors.precision import resolved

RESULTS = Path(__file__).parents[1] / "results"
TILE, GAP, HEAD = 128, 4, 16
CLASSICAL = ("Adam-TV", "HQS-TV", "HQS-DnCNN", "ADMM-DnCNN")
DIFFUSION = ("DPS", "DiffPIR", "DDRM", "Score-ALD")


def means(rows: list[dict[str, Any]], operator: str, name: str) -> dict[str, float]:
    """Mean of a metric by solver."""
    return {line.solver: value.mean for line in lines(rows, operator) if (value := line.numbers.get(name)) is not None}


def comparisons(rows: list[dict[str, Any]]) -> list[str]:
    """What theory and the field's tables lead one to expect, and what was seen."""
    blur, sr, box = (means(rows, name, "psnr") for name in ("Gaussian deblurring", "SR x4", "box inpainting"))
    out = [
        ("HQS-DnCNN > HQS-TV on deblurring", blur["HQS-DnCNN"] - blur["HQS-TV"], blur["HQS-DnCNN"] > blur["HQS-TV"]),
        ("HQS-TV >= Adam-TV - 0.05 dB on deblurring", blur["HQS-TV"] - blur["Adam-TV"], blur["HQS-TV"] >= blur["Adam-TV"] - 0.05),
        ("DDRM >= DiffPIR - 0.3 dB on SR", sr["DDRM"] - sr["DiffPIR"], sr["DDRM"] >= sr["DiffPIR"] - 0.3),
        ("DiffPIR >= DDRM - 0.3 dB on deblurring", blur["DiffPIR"] - blur["DDRM"], blur["DiffPIR"] >= blur["DDRM"] - 0.3),
    ]
    for name, table in (("box", box), ("deblurring", blur), ("SR", sr)):
        out.append((f"DPS above Score-ALD on {name}", table["DPS"] - table["Score-ALD"], table["DPS"] > table["Score-ALD"]))
    digit = means(rows, "half a digit", "psnr")
    gap = max(digit[name] for name in DIFFUSION) - max(digit[name] for name in CLASSICAL)
    out.append(("the best diffusion solver 3 dB above every classical one on half a digit", gap, gap >= 3))
    text = [f"- {claim}: {'yes' if holds else 'NO'} ({difference:+.2f} dB)" for claim, difference, holds in out]
    for operator in ("box inpainting", "Gaussian deblurring", "SR x4", "half a digit"):
        table = means(rows, operator, "haarpsi")
        best, rival = max(DIFFUSION, key=table.__getitem__), max(CLASSICAL, key=table.__getitem__)
        holds = "yes" if table[best] > table[rival] else "NO"
        seen = f"{best} {table[best]:.4f}, {rival} {table[rival]:.4f}"
        text.append(f"- a diffusion solver above every classical one in HaarPSI, {operator}: {holds} ({seen})")
    return text


def changes(rows: list[dict[str, Any]], before: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """A line a cell: its means before and now."""
    out = ["| operator | solver | PSNR before | now | change | HaarPSI before | now | change |", "|---|---|---|---|---|---|---|---|"]
    for operator, table in means_of(rows).items():
        for solver, now in table.items():
            old = before.get(operator, {}).get(solver)
            if old is not None:
                pairs = [(old[name], now[name], digits) for name, digits in (("psnr", 2), ("haarpsi", 3))]
                out.append(
                    f"| {operator} | {solver} | " + " | ".join(f"{a:.{d}f} | {b:.{d}f} | {b - a:+.{d}f}" for a, b, d in pairs) + " |"
                )
    return out


def means_of(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """operator -> solver -> metric -> mean over the pictures."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for operator in dict.fromkeys(row["operator"] for row in rows):
        tables = {name: means(rows, operator, name) for name in ("psnr", "ssim", "haarpsi", "seconds")}
        solvers = tables["psnr"]
        found[operator] = {solver: {name: round(table[solver], 4) for name, table in tables.items()} for solver in solvers}
    return found


def picture(root: Path, run: dict[str, Any], rows: list[dict[str, Any]], image: str) -> Image.Image:
    """Rows: operators; columns: truth, measurement, solvers."""
    from invsolve.bench.gallery import grid

    operators = [entry["label"] for entry in run["suite"]["operator"]]
    stores = Store(root, "cells", "cell.json"), Store(root, "inputs", "input.json")
    by_key = {row["key"]: row for row in rows}
    tables = []
    for operator in operators:
        mine = [cell for cell in run["cells"] if cell["operator"] == operator]  # of pictures of its own, perhaps
        shown = image if any(cell["image"] == image for cell in mine) else mine[0]["image"]
        cells = [cell for cell in mine if cell["image"] == shown]
        made = grid(run, cells, by_key, stores)
        tables.append([("truth", made.truth), ("measurement", made.measurement), *((shot.solver, shot.uri) for shot in made.shots)])
    width = len(tables[0]) * (TILE + GAP) - GAP
    sheet = Image.new("RGB", (width, HEAD + len(tables) * (TILE + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for across, tile in enumerate(tables[0]):
        draw.text((across * (TILE + GAP) + 2, 2), tile[0], fill="black")
    for down, tiles in enumerate(tables):
        for across, tile in enumerate(tiles):
            sheet.paste(opened(tile[1]), (across * (TILE + GAP), HEAD + down * (TILE + GAP)))
    return sheet


def opened(uri: str) -> Image.Image:
    """A data URI as a picture of the tile's size."""
    import base64
    import io

    image = Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))).convert("RGB")
    return image.resize((TILE, TILE), Image.Resampling.NEAREST)


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--image", default="chelsea")
    arguments = parser.parse_args()
    run, rows = read_run(arguments.run), read_rows(arguments.run)
    found = comparisons(rows)
    text = ["# The quick benchmark", "", "`invsolve bench run quick`, then `python benchmarks/studies/quick_results.py runs/quick`.", ""]
    computed = resolved("auto", run["device"].partition(":")[0])
    text += [f'Networks computed in {computed} (`precision = "auto"`); {run["seconds"] / 60:.1f} minutes in all.', ""]
    text += ["```text", format_plain(run, rows).strip(), "```", "", "## What was expected, and seen", "", *found, ""]
    kept = RESULTS / "quick.json"
    if kept.exists():
        text += ["## Change since the table before", "", *changes(rows, json.loads(kept.read_text())), ""]
    kept.write_text(json.dumps(means_of(rows), indent=1) + "\n")
    (RESULTS / "quick.md").write_text("\n".join(text))
    picture(arguments.run, run, rows, arguments.image).save(RESULTS / "quick.png", optimize=True)
    print("\n".join(found))


if __name__ == "__main__":
    main()

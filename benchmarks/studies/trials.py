"""Networks and recipes at equal cost: `python benchmarks/studies/trials.py --data DATA --minutes 8`, resumable.

Each row starts from benchmarks/training/natural-1.toml, changes what its name says, and trains from random weights on one thread for
as many steps as fit into the same processor time (of one step: the least of five), the rate rising over the first tenth. Then its
average denoises the validation crops (8 of 128 x 128, dev/bsds500_val32) and one image is timed. Writes results/priors/trials.md; a
row that is there already is not run again.
"""

import argparse
import json
import statistics
import time
import tomllib
from pathlib import Path
from typing import Any

import torch
from invsolve_priors.runs import Places
from invsolve_priors.train import prepared

from invsolve.training.config import TrainConfig

HERE = Path(__file__).parents[1]
BASE = HERE / "training" / "natural-1.toml"
OUT = HERE / "results" / "priors" / "trials.md"
SMALL_EDM = {"pretrained": None, "augment_dim": 0, "dropout": 0.0, "attn_resolutions": []}
TRIALS: dict[str, dict[str, Any]] = {
    "DRUNet 32-64-128-192, 2 blocks (natural)": {},
    "all noise levels count the same": {"objective.balance": True},
    "DRUNet 48-96-160-224, 1 block": {"network.arguments": {"nc": [48, 96, 160, 224], "nb": 1}},
    "DRUNet 24-48-96-160, 4 blocks": {"network.arguments": {"nc": [24, 48, 96, 160], "nb": 4}},
    "ADMUNet 32, x 1-2-3-4, 1 block, no attention": {
        "network.class": "deepinv.models:ADMUNet",
        "network.arguments": {"model_channels": 32, "num_blocks": 1, **SMALL_EDM},
    },
    "NCSN++ 32, x 1-2-3-4, 1 block": {
        "network.class": "deepinv.models:NCSNpp",
        "network.arguments": {"model_channels": 32, "channel_mult": [1, 2, 3, 4], "num_blocks": 1, **SMALL_EDM},
    },
    "patches of 40, batch 30": {"data.side": 40, "run.batch": 30},
}


def changed(changes: dict[str, Any], steps: int) -> TrainConfig:
    """The base config with some keys replaced and its length in steps."""
    content = tomllib.loads(BASE.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *tables, last = key.split(".")
        table = content
        for name in tables:
            table = table[name]
        table[last] = value
    del content["run"]["hours"]
    content["run"] |= {"steps": steps, "warmup": max(1, steps // 10), "save_minutes": 1e6, "picture_minutes": 1e6}
    return TrainConfig.model_validate(content)


def seconds_of(network: torch.nn.Module) -> float:
    """Median time of one 128 x 128 colour image."""
    x, sigma, times = torch.rand(1, 3, 128, 128), torch.full((1,), 0.1), []
    with torch.no_grad():
        for _ in range(6):
            start = time.perf_counter()
            network(x, sigma)
            times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def one(changes: dict[str, Any], minutes: float, data: Path, out: Path) -> dict[str, Any]:
    """Train one row and measure it."""
    places = Places(data, BASE.parent)
    trial = prepared(changed(changes, 6), places, out / "timed")
    times = []
    for _ in range(6):
        start = time.process_time()
        trial._train_step()
        times.append(time.process_time() - start)
    run = prepared(changed(changes, round(60 * minutes / min(times[1:]))), places, out)
    average = run.run(lambda text: print(f"  {text}", flush=True))
    row = run.rows[-1]
    parameters = sum(value.numel() for value in average.parameters())
    return {"parameters": parameters, "ms": 1000 * seconds_of(average), **row}


def page(rows: dict[str, dict[str, Any]], minutes: float) -> str:
    """The table."""
    lines = [
        "# Networks and recipes at equal cost",
        "",
        f"`python benchmarks/studies/trials.py --data DATA --minutes {minutes:g}`: from random weights, {minutes:g} minutes of one "
        f"thread's processor time each ({torch.backends.cpu.get_cpu_capability()}, float32), the "
        "average's PSNR in dB on 8 crops of 128 x 128 of "
        "dev/bsds500_val32.",
        "Early progress only: what is ahead after minutes need not be ahead after hours.",
        "",
        "| what | parameters | ms per 128 x 128 image | patches seen | 15/255 | 25/255 | 50/255 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        values = " | ".join(f"{row[f'psnr{level}']:.2f}" for level in (15, 25, 50))
        lines.append(f"| {name} | {row['parameters']:,} | {row['ms']:.0f} | {row['images']} | {values} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing and write the table after every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path("runs/trials"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = arguments.out / "rows.json"
    rows: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    for index, (name, changes) in enumerate(TRIALS.items()):
        if name not in rows:
            print(name, flush=True)
            rows[name] = one(changes, arguments.minutes, arguments.data, arguments.out / f"{index:02d}")
            kept.write_text(json.dumps(rows, indent=1))
        OUT.write_text(page({key: rows[key] for key in TRIALS if key in rows}, arguments.minutes), encoding="utf-8")


if __name__ == "__main__":
    main()

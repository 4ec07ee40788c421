"""A burst: some minutes of one CUDA card that make a prior's newest weights better; on processors the same as a rehearsal.

    python benchmarks/training/burst.py pack CONFIG.toml --data DATA --out POOL --megabytes 60     # pictures to take along
    python benchmarks/training/burst.py run CONFIG.toml --pool POOL --out OUT --minutes 11         # again: the next burst from OUT
    python benchmarks/training/burst.py run CONFIG.toml --pool POOL --out OUT --minutes 1 --batch 4 --side 32     # a rehearsal
    python benchmarks/training/burst.py finish CONFIG.toml --from OUT --out RUN                    # then: -m invsolve_priors.export RUN

CONFIG is one of `invsolve train` (natural-burst.toml): its network, start, sources, noise levels, weights of levels, rate, warm-up and
average. What differs is what keeps a card busy: all pictures lie on the device as bytes; crops, turns, noise levels and noise are drawn
there; no step waits for a number; bfloat16 where the device multiplies it, channels last, fused Adam, one compiled shape; the rate falls to
zero by the clock, so that every burst ends where its average is best. OUT holds files below 16 MB: the state in parts, `log.csv` with a
line a minute, `figures.json`. A state is written beside the last one and takes its place at once; weights that are not finite never do.
"""

import argparse
import csv
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from burst_pool import Pool, pack, pool_of
from invsolve_priors.runs import begin
from invsolve_priors.train import network_of
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from invsolve.errors import DivergedError, InputError
from invsolve.priors.precision import multiplies_bfloat16
from invsolve.training.config import TrainConfig
from invsolve.training.data import validation_images
from invsolve.training.loop import psnr_at
from invsolve.training.objectives import Balance, LogSigma, damping, denoising_losses

PART = 15_000_000  # bytes of a file of the state
EVERY = 60.0  # seconds between states
WIDE = {"nc": [48, 96, 160, 224]}  # 4.9 M weights, 9.9 MB in 16 bits
FAST = 12_000  # patches of 64 x 64 a second, from which on the wide network is worth starting anew
MOMENTS = ("exp_avg", "exp_avg_sq")


class Levels:
    """`objectives.Balance` without a look at the numbers: every bin takes in the mean loss of its items, as often as it has some."""

    def __init__(self, low: float, high: float, device: torch.device) -> None:
        self.low, self.width = math.log(low), (math.log(high) - math.log(low)) / Balance.BINS
        self.means = torch.zeros(Balance.BINS, device=device)

    def factors(self, sigma: Tensor, losses: Tensor) -> Tensor:
        """1 / m of each item, (B,)."""
        bins = ((sigma.log() - self.low) / self.width).long().clamp(0, Balance.BINS - 1)
        losses = losses.detach().float()
        zeros = torch.zeros_like(self.means)
        counts = zeros.index_add(0, bins, torch.ones_like(losses))
        found = zeros.index_add(0, bins, losses) / counts.clamp_min(1)
        memory = Balance.MEMORY**counts
        later = torch.where(self.means > 0, memory * self.means + (1 - memory) * found, found)
        self.means = torch.where((counts > 0) & found.isfinite(), later, self.means)
        return 1 / self.means[bins].clamp_min(1e-8)


def levels_of(config: TrainConfig, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(count,) noise levels of the config's law, drawn on the device."""
    law = config.recipe().sigmas
    uniform = torch.rand(count, generator=generator, device=device)
    if not isinstance(law, LogSigma):
        return law.low + (law.high - law.low) * uniform
    low, high = math.log(law.low), math.log(law.high)
    normal = law.mean + law.std * torch.randn(count, generator=generator, device=device)
    flat = torch.rand(count, generator=generator, device=device) < law.flat
    return torch.where(flat, low + (high - low) * uniform, normal).clamp(low, high).exp()


class Burst:
    """A network, its average and its optimiser on one device.

    Args:
        config: of `invsolve train`.
        network: with the weights to start from.
        pool: pictures on the device.
        batch: crops a step.
        compiled: whether the network is compiled; one that cannot be goes on as it is.
    """

    def __init__(self, config: TrainConfig, network: nn.Module, pool: Pool, batch: int, compiled: bool) -> None:
        self.config, self.recipe, self.pool, self.batch = config, config.recipe(), pool, batch
        self.device = pool.pixels.device
        self.bf16 = multiplies_bfloat16(self.device.type)
        self.network = network.to(self.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.call: Callable[..., Tensor] = torch.compile(self.network) if compiled else self.network
        self.weights = list(self.network.parameters())
        self.average = [one.detach().clone() for one in self.weights]
        self.optimiser = torch.optim.Adam(self.weights, lr=self.recipe.lr, fused=True)
        self.levels = Levels(self.recipe.sigmas.low, self.recipe.sigmas.high, self.device)
        self.generator = torch.Generator(self.device).manual_seed(self.recipe.seed)
        self.images, self.bursts, self.seconds, self.begun = 0, 0, 0.0, 0
        self.rows: list[dict[str, float]] = []

    def step(self, rate: float) -> Tensor:
        """One step; the loss as the log shows it, on the device."""
        recipe, count = self.recipe, self.batch
        x0 = self.pool.sample(count, self.generator).contiguous(memory_format=torch.channels_last)
        sigma = levels_of(self.config, count, self.generator, self.device)
        noise = torch.randn(x0.shape, generator=self.generator, device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            losses = denoising_losses(self.call, x0, sigma, noise, recipe.s0, recipe.target)  # pyright: ignore[reportArgumentType]
        value = losses.detach().mean()
        if recipe.balance:
            losses = losses * self.levels.factors(sigma, losses)
        if recipe.damp is not None:
            losses = losses * damping(sigma, *recipe.damp)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        losses.mean().backward()
        nn.utils.clip_grad_norm_(self.weights, recipe.clip, foreach=True)
        self.optimiser.step()
        self.images += count
        memory = min(recipe.ema_images, max(0.1 * (self.images - self.begun), count))
        with torch.no_grad():
            current: list[Tensor] = [one.detach() for one in self.weights]
            torch._foreach_lerp_(self.average, current, 1 - 0.5 ** (count / memory))  # pyright: ignore[reportPrivateImportUsage]
        return value

    def averaged(self) -> dict[str, Tensor]:
        """The state of the network with averaged weights."""
        names = [name for name, _ in self.network.named_parameters()]
        return {**self.network.state_dict(), **dict(zip(names, self.average, strict=True))}

    def run(self, seconds: float, out: Path, validation: Tensor | None, say: Callable[[str], None] = print) -> None:
        """Steps for so many seconds, the first one's compilation included; a state every minute and at the end.

        Raises:
            DivergedError: weights that are not finite; the last good state stays.
        """
        start = last = time.monotonic()
        self.begun, self.bursts = self.images, self.bursts + 1
        steps, losses = 0, []
        while (passed := time.monotonic() - start) < seconds or steps == 0:
            fall = 0.5 * (1 + math.cos(math.pi * min(1.0, passed / seconds)))
            losses.append(self.step(self.recipe.lr * fall * min(1.0, (steps + 1) / self.recipe.warmup)))
            steps += 1
            if steps == 1 and self.device.type == "cuda":
                torch.cuda.synchronize()
                say(f"first step after {time.monotonic() - start:.0f} s")
            if time.monotonic() - last > EVERY:
                last = self._written(out, validation, start, losses, say)
        if losses:
            self._written(out, validation, start, losses, say)

    def _written(self, out: Path, validation: Tensor | None, start: float, losses: list[Tensor], say: Callable[[str], None]) -> float:
        """Write a state and its line of the log; the time when it was done."""
        passed = time.monotonic() - start
        state = self.averaged()
        if not all(bool(value.isfinite().all()) for value in (*state.values(), *self.weights)):
            raise DivergedError(f"weights are not finite after {self.images} images; the last good state is in {out}. Take a smaller lr")
        row = {
            "burst": self.bursts,
            "seconds": round(passed, 1),
            "images": self.images,
            "loss": round(float(torch.stack(losses).mean()), 5),
        }
        if validation is not None:
            row |= figures(self.network, state, validation, self.recipe.levels, self.bf16)
        self.rows.append(row)
        save(self, out, self.seconds + passed)
        losses.clear()
        say("  ".join(f"{key} {value}" for key, value in row.items()))
        return time.monotonic()


def figures(network: nn.Module, state: dict[str, Tensor], images: Tensor, levels: tuple[float, ...], bf16: bool) -> dict[str, float]:
    """PSNR of the averaged weights at the levels, in the network's place for the while."""
    own = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(state)
    network.eval()
    found = {f"psnr{one:g}": round(psnr_at(network, images, one / 255, bf16=bf16), 3) for one in levels}
    network.load_state_dict(own)
    network.train()
    return found


def save(burst: Burst, out: Path, seconds: float) -> None:
    """Write everything a next burst goes on from: parts below 16 MB, then the table that names them, then the old parts go."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {f"network.{name}": value for name, value in burst.network.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in burst.averaged().items()}
    tensors["levels"] = burst.levels.means
    count = 0.0
    for name, one in burst.network.named_parameters():
        moments = burst.optimiser.state.get(one, {})
        tensors |= {f"{moment}.{name}": moments[moment] for moment in MOMENTS if moment in moments}
        count = float(moments.get("step", count))
    names = []
    for number, part in enumerate(parted(tensors)):
        names.append(f"state-{burst.images}-{number}.safetensors")
        save_file({key: value.detach().cpu().contiguous() for key, value in part.items()}, out / names[-1])
    table = {"parts": names, "images": burst.images, "bursts": burst.bursts, "seconds": seconds, "steps": count, "rows": burst.rows}
    table |= {"arguments": burst.config.network.arguments, "batch": burst.batch, "bf16": burst.bf16}
    partial = out / "figures.tmp"
    partial.write_text(json.dumps(table, indent=1))
    os.replace(partial, out / "figures.json")
    for old in out.glob("state-*.safetensors"):
        if old.name not in names:
            old.unlink()
    with (out / "log.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, burst.rows[-1].keys())
        writer.writeheader()
        writer.writerows(burst.rows)


def parted(tensors: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The tensors in groups of at most PART bytes."""
    part: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if part and sum(one.nbytes for one in part.values()) + value.nbytes > PART:
            yield part
            part = {}
        part[name] = value
    yield part


def state_of(out: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(the table, all tensors) of what `save` wrote.

    Raises:
        InputError: nothing there, or parts missing.
    """
    try:
        table = json.loads((out / "figures.json").read_text())
        tensors = {key: value for name in table["parts"] for key, value in load_file(out / name).items()}
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{out} holds no burst that could go on: {error}") from error
    return table, tensors


def within(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Those whose names begin with `kind`, without it."""
    return {key.removeprefix(f"{kind}."): value for key, value in tensors.items() if key.startswith(f"{kind}.")}


def go_on(burst: Burst, out: Path) -> None:
    """Take what an earlier burst left."""
    table, tensors = state_of(out)
    if table["arguments"] != burst.config.network.arguments:
        raise InputError(f"{out} is of another network, {table['arguments']}; give another --out")
    of = {kind: within(tensors, kind) for kind in ("network", "ema", *MOMENTS)}
    burst.network.load_state_dict(of["network"])
    for (name, one), average in zip(burst.network.named_parameters(), burst.average, strict=True):
        average.copy_(of["ema"][name])
        if name in of[MOMENTS[0]]:
            moments = {moment: of[moment][name].to(one).contiguous(memory_format=torch.preserve_format) for moment in MOMENTS}
            burst.optimiser.state[one] = {"step": torch.tensor(table["steps"], device=one.device), **moments}
    burst.levels.means = tensors["levels"].to(burst.device)
    burst.images, burst.bursts, burst.seconds, burst.rows = table["images"], table["bursts"], table["seconds"], table["rows"]
    burst.generator.manual_seed(burst.recipe.seed + burst.bursts)


def finish(config_path: Path, source: Path, run: Path) -> None:
    """Make the folder of a run of `invsolve train` of what a burst left, whose average `invsolve_priors.export` writes as weights."""
    table, tensors = state_of(source)
    config, _ = begin(config_path, run, None)
    if table["arguments"] != config.network.arguments:
        raise InputError(f"{source} is of the network {table['arguments']}; write these arguments into {config_path}")
    state = {kind: within(tensors, kind) for kind in ("network", "ema")}
    # Exports multiply steps by the config's batch.
    numbers = {"step": round(table["images"] / config.run.batch), "seconds": table["seconds"], "loss": table["rows"][-1]["loss"]}
    torch.save({**state, **numbers, "streams": [None], "bf16": table["bf16"], "rows": table["rows"]}, run / "checkpoint.pt")


def made(config: TrainConfig, config_path: Path, pool: Pool, batch: int, compiled: bool, out: Path, wide: str) -> Burst:
    """What goes on in `out`, or begins with the config's start; wide: "yes", "no", or "auto", which measures for 20 seconds."""
    if (out / "figures.json").exists():
        arguments = state_of(out)[0]["arguments"]
        config = config.model_copy(update={"network": config.network.model_copy(update={"arguments": arguments})})
        burst = Burst(config, network_of(config, config_path.parent, started=True), pool, batch, compiled)
        go_on(burst, out)
        return burst
    burst = Burst(config, network_of(config, config_path.parent), pool, batch, compiled)
    if wide == "auto":
        speed = patches(burst, 20.0)
        print(f"{speed:.0f} patches of 64 x 64 a second")
        wide = "yes" if speed >= FAST else "no"
        burst = Burst(config, network_of(config, config_path.parent), pool, batch, compiled)
    if wide == "yes":
        arguments = {**config.network.arguments, **WIDE}
        config = config.model_copy(update={"network": config.network.model_copy(update={"arguments": arguments}), "start": ""})
        burst = Burst(config, network_of(config, config_path.parent, started=True), pool, batch, compiled)
    return burst


def patches(burst: Burst, seconds: float) -> float:
    """Patches of 64 x 64 a second, the first step left out."""
    burst.step(0.0)
    wait = torch.cuda.synchronize if burst.device.type == "cuda" else (lambda: None)
    wait()
    start, steps = time.monotonic(), 0
    while time.monotonic() - start < seconds or steps == 0:
        burst.step(0.0)
        steps += 1
    wait()
    return steps * burst.batch * (burst.pool.side / 64) ** 2 / (time.monotonic() - start)


def main(arguments: list[str] | None = None) -> None:
    """pack, run or finish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pack", "run", "finish"))
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="pack: the folder that the config's paths are below")
    parser.add_argument("--megabytes", type=float, default=60.0, help="pack: of pictures in all")
    parser.add_argument("--pool", type=Path, help="run: what pack wrote")
    parser.add_argument("--minutes", type=float, default=11.0, help="run: by the clock, compilation included")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--side", type=int, default=96, help="run: of a crop")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--eager", action="store_true", help="run: do not compile; processors never do")
    parser.add_argument("--wide", choices=("auto", "yes", "no"), default="no", help="run: a wider network from random weights")
    parser.add_argument("--from", dest="source", type=Path, help="finish: what run wrote")
    given = parser.parse_args(arguments)
    if given.what == "finish":
        return finish(given.config, given.source, given.out)
    config = TrainConfig.load(given.config)
    if config.objective.kind != "denoising":
        parser.error(f"a burst trains denoisers; given objective.kind {config.objective.kind!r}, which invsolve train knows")
    if given.what == "pack":
        for name, count, size in pack(config, given.data, given.out, given.megabytes):
            print(f"{name}: {count} pictures, {size / 1e6:.1f} MB")
        return None
    device = torch.device(given.device)
    pool = pool_of(config, given.pool, given.side, device)
    print(f"{len(pool.starts)} pictures, {len(pool.pixels) / 1e6:.1f} Mpixel on {device}")
    compiled = device.type == "cuda" and not given.eager
    burst = made(config, given.config, pool, given.batch, compiled, given.out, given.wide)
    chosen, validation = config.validation, None
    if chosen is not None and (given.pool / "validation.zip").exists():
        validation = validation_images(given.pool / "validation.zip", chosen.count, chosen.side or None, config.network.channels).to(device)
    burst.run(60 * given.minutes, given.out, validation)
    return None


if __name__ == "__main__":
    main()

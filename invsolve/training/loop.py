"""The training loop: Adam, an exponential moving average, validation PSNR, atomic checkpoints, exact resume."""

from __future__ import annotations

import copy
import csv
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from invsolve.errors import DivergedError, InputError
from invsolve.priors.precision import multiplies_bfloat16
from invsolve.rng import derive
from invsolve.training.data import Crops
from invsolve.training.generators import NetworkDraws
from invsolve.training.interrupts import Deferred
from invsolve.training.objectives import Balance, LogSigma, UniformSigma, damping, denoising_losses
from invsolve.training.processes import Alone, these_processes


@dataclass(frozen=True)
class Recipe:
    """How long and how; the rate falls from lr to lr / 50 along a cosine over the whole run.

    Args:
        sigmas: distribution of the noise levels, in [0, 1] units.
        s0: standard deviation of the data about their mean level, in [0, 1] units.
        hours: wall-clock hours of training (saving and validating left out); ignored where `steps` is given.
        batch: patches per step and process.
        lr: highest rate of Adam.
        warmup: steps over which the rate rises.
        ema_images: half-life of the average of the weights, in images.
        clip: largest norm of the gradient.
        bf16: autocast to bfloat16; "auto": where the device multiplies it natively.
        save_seconds: seconds between checkpoints.
        seed: of crops, noise levels, noise and what the network itself draws.
        steps: number of steps instead of hours: the run is then reproducible to the bit, interrupted or not.
        target: "x0", "eps" or "v", see `objectives.loss_weight`.
        levels: noise levels of the validation PSNR, in 1/255.
        channels_last: memory format of the network, the faster one for convolutions.
        picture_seconds: seconds between pictures.
        balance: whether all noise levels count the same, see `objectives.Balance`; the log shows the loss without it.
        damp: (above, weight): noise levels above the first count by the second, see `objectives.damping`; None for no such weight.
    """

    sigmas: LogSigma | UniformSigma
    s0: float
    hours: float
    batch: int = 16
    lr: float = 1e-3
    warmup: int = 200
    ema_images: float = 20_000
    clip: float = 1.0
    bf16: bool | Literal["auto"] = "auto"
    save_seconds: float = 180
    seed: int = 0
    steps: int | None = None
    target: str = "v"
    levels: tuple[float, ...] = (15, 25, 50)
    channels_last: bool = True
    picture_seconds: float = 600
    balance: bool = False
    damp: tuple[float, float] | None = None


def psnr_at(network: nn.Module, images: Tensor, sigma: float, *, bf16: bool) -> float:
    """Mean over images of the PSNR in dB (peak 1) of D(x0 + sigma n); the noise is the same at every call."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(images.device)
    with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        out = network(images + sigma * noise, torch.full((len(images),), sigma, device=images.device)).float()
    mse = (out.clamp(0, 1) - images).square().flatten(1).mean(1)
    return float((-10 * mse.log10()).mean())


class Training:
    """One run, in a folder that holds its checkpoint and its log; started again, it goes on where it stopped.

    Args:
        network: the map (x, sigma) -> x0_hat that is trained.
        crops: where patches come from.
        recipe: batch size, rate, duration.
        out: the folder; `checkpoint.pt` and `log.csv` are written there.
        validation: (N, C, H, W) images in [0, 1] for the PSNR columns of the log; None for none.
        pictures: called with the averaged network every now and then, to write pictures.
        processes: this process, or its place among several; None finds out.

    Raises:
        InputError: the folder's checkpoint is damaged or of another network, or the folder cannot be written.
    """

    def __init__(
        self,
        network: nn.Module,
        crops: Crops,
        recipe: Recipe,
        out: str | Path,
        validation: Tensor | None = None,
        pictures: Callable[[nn.Module], None] | None = None,
        processes: Alone | None = None,
    ) -> None:
        self.processes = processes or these_processes()
        self.device = self.processes.device
        self.bf16 = multiplies_bfloat16(self.device.type) if recipe.bf16 == "auto" else recipe.bf16
        self.format = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.network = network.to(self.device).to(memory_format=self.format)  # pyright: ignore[reportCallIssue]
        self.ema = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.model = self.processes.wrap(self.network)
        self.crops, self.recipe, self.pictures = crops, recipe, pictures
        self.validation = None if validation is None else validation.to(self.device)
        self.out = Path(out)
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{out}: no folder for a run ({error}); give another") from error
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=recipe.lr, fused=True)
        seed = recipe.seed if self.processes.count == 1 else [recipe.seed, self.processes.rank]
        self.rng = np.random.default_rng(seed)
        self.noise = torch.Generator().manual_seed(recipe.seed + 1_000_003 * self.processes.rank)
        self.draws = NetworkDraws(self.device, derive(recipe.seed, self.processes.rank, "network"))
        self.balance = Balance(recipe.sigmas.low, recipe.sigmas.high)
        self.step, self.seconds, self.loss = 0, 0.0, math.nan
        self.rows: list[dict[str, float]] = []
        self.kept: int | None = None  # step of the last checkpoint; known to every process, which rows are not
        if self.checkpoint.exists():
            self._load()

    @property
    def checkpoint(self) -> Path:
        """The file a run goes on from."""
        return self.out / "checkpoint.pt"

    def run(self, report: Callable[[str], None] = print, tick: Callable[[Training], None] | None = None) -> nn.Module:
        """Train until the recipe's hours (or steps) are used up; returns the averaged network.

        Ctrl-C and SIGTERM end it after the step at hand, saved; a second Ctrl-C at once, as it was saved last.

        Args:
            report: gets a line at every checkpoint.
            tick: called after every step, for a progress bar.

        Raises:
            KeyboardInterrupt: it was interrupted.
            DivergedError: a loss, weights or a validation PSNR that are not finite.
        """
        last = time.monotonic()
        saved = shown = self.seconds
        with Deferred() as signals:
            stop = False
            while self.done < 1 and not stop:
                self._train_step()
                now = time.monotonic()
                # The first process says for all whether to stop: they must come to the same saves.
                self.seconds, stopped = self.processes.shared([self.seconds + now - last, float(signals.received)])
                stop, last = bool(stopped), now
                if self.seconds - saved > self.recipe.save_seconds:
                    self.save(report)
                    saved = self.seconds
                    if self.seconds - shown > self.recipe.picture_seconds and not stop:
                        self._show()
                        shown = self.seconds
                    last = time.monotonic()
                if tick is not None:
                    tick(self)
            if self.kept != self.step:
                self.save(report)
            if stop or (signals.received and self.processes.count == 1):
                raise KeyboardInterrupt
        self._show()
        return self.ema

    @property
    def done(self) -> float:
        """The part of the budget that is used."""
        if self.recipe.steps is not None:
            return self.step / self.recipe.steps
        return self.seconds / (self.recipe.hours * 3600)

    def _rate(self) -> float:
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, self.done)))
        return self.recipe.lr * cosine * min(1.0, (self.step + 1) / self.recipe.warmup)

    def _train_step(self) -> None:
        recipe = self.recipe
        batch = self._sample()
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        losses, value = self._losses(batch)
        if not math.isfinite(value):
            raise self._diverged(f"loss is {value}")
        self.optimiser.zero_grad(set_to_none=True)
        self.processes.backward(losses.mean())
        nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
        self.optimiser.step()
        # The average's memory grows with the run, so that early steps are forgotten soon (EDM's ramp-up).
        batch = recipe.batch * self.processes.count
        memory = min(recipe.ema_images, 0.1 * (self.step + 1) * batch)
        decay = 0.5 ** (batch / max(memory, 1e-8))
        with torch.no_grad():
            for average, current in zip(self.ema.parameters(), self.network.parameters(), strict=True):
                average.lerp_(current, 1 - decay)
            # Running statistics are averages already.
            for average, current in zip(self.ema.buffers(), self.network.buffers(), strict=True):
                average.copy_(current)
        self.step += 1
        self.loss = value if math.isnan(self.loss) else 0.99 * self.loss + 0.01 * value

    def _sample(self) -> Any:
        """What a step is taken on: crops (B, C, H, W)."""
        return self.crops.sample(self.recipe.batch, self.rng)

    def _losses(self, batch: Any) -> tuple[Tensor, float]:
        """What is minimised, (B,), and the mean that the log shows."""
        return self._weighed(
            batch, lambda x0, sigma, noise: denoising_losses(self.model, x0, sigma, noise, self.recipe.s0, self.recipe.target)
        )

    def _weighed(self, x0: Tensor, losses_of: Callable[[Tensor, Tensor, Tensor], Tensor]) -> tuple[Tensor, float]:
        """The losses of (x0, sigma, noise), with the levels and the noise drawn, weighed as the recipe says, and their mean without it."""
        recipe = self.recipe
        sigma = recipe.sigmas.sample(recipe.batch, self.rng).to(self.device)
        noise = torch.randn(x0.shape, generator=self.noise)
        x0, noise = (part.contiguous(memory_format=self.format).to(self.device) for part in (x0, noise))
        with self.draws.drawing(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            losses = losses_of(x0, sigma, noise)
        value = float(losses.detach().mean())
        if recipe.balance:
            losses = losses * self.balance.factors(sigma, losses)
        if recipe.damp is not None:
            losses = losses * damping(sigma, *recipe.damp)
        return losses, value

    def _grey_loss(self, network: nn.Module, grey: Tensor) -> float:
        """The loss on a grey patch without noise: finite where the weights are finite and not far too large."""
        sigma = torch.full((1,), math.sqrt(self.recipe.sigmas.low * self.recipe.sigmas.high), device=self.device)
        return float(denoising_losses(network, grey, sigma, torch.zeros_like(grey), self.recipe.s0, self.recipe.target))

    def _measures(self) -> dict[str, float]:
        """What the log says of the averaged network on the validation images."""
        if self.validation is None:
            return {}
        levels = self.recipe.levels
        return {f"psnr{one:g}": round(psnr_at(self.ema, self.validation, one / 255, bf16=self.bf16), 3) for one in levels}

    def _diverged(self, what: str) -> DivergedError:
        kept = f"the last good state is in {self.checkpoint}" if self.checkpoint.exists() else "nothing was saved yet"
        return DivergedError(f"{what} at step {self.step}; {kept}. A smaller lr or clip may help")

    def _check(self, row: dict[str, float]) -> None:
        """Nothing but a good state may take the place of the last checkpoint.

        Weights that are finite but far too large show by the loss on a grey patch.

        Raises:
            DivergedError: a weight, a validation PSNR or that loss is not finite.
        """
        bad = [key for key, value in row.items() if math.isnan(value)]
        if bad:
            raise self._diverged(f"{bad[0]} is nan")
        side = self.crops.size or self.crops.pools[0][0].shape[0]
        grey = torch.full((1, self.crops.channels, side, side), 0.5, device=self.device)
        # A copy of the network: eval() and train() would undo what its class has frozen.
        for name, network in (("the network", copy.deepcopy(self.network).eval()), ("its average", self.ema)):
            if not all(bool(torch.isfinite(value).all()) for value in network.parameters()):
                raise self._diverged(f"{name} has weights that are not finite")
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                loss = self._grey_loss(network, grey)
            if not math.isfinite(loss):
                raise self._diverged(f"the loss of {name} on a grey patch is {loss}")

    def _show(self) -> None:
        if self.pictures is not None and self.processes.rank == 0:
            self.pictures(self.ema)
        self.processes.wait()

    def _row(self) -> dict[str, float]:
        """One line of the log."""
        images = self.step * self.recipe.batch * self.processes.count
        row = {"step": self.step, "images": images, "minutes": round(self.seconds / 60, 2), "loss": round(self.loss, 5)}
        return {**row, **self._measures()}

    def save(self, report: Callable[[str], None] = print) -> None:
        """Write checkpoint.pt and log.csv, each atomically; the log is part of the checkpoint, so that the two agree.

        Raises:
            InputError: the disk is full or the folder is gone; the last good checkpoint is kept.
            DivergedError: see `_check`.
        """
        own = (self.rng.bit_generator.state, self.noise.get_state(), self.balance.means, self.draws.states)
        streams = self.processes.gathered(own)
        if self.processes.rank == 0:
            row = self._row()
            self._check(row)
            state = {
                "network": self.network.state_dict(),
                "ema": self.ema.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "streams": streams,
                "step": self.step,
                "seconds": self.seconds,
                "loss": self.loss,
                "bf16": self.bf16,
                "rows": [*self.rows, row],
            }
            partial = self.checkpoint.with_suffix(".tmp")
            try:
                torch.save(state, partial)
                os.replace(partial, self.checkpoint)
                self.rows.append(row)
                self._write_log()
            except (OSError, RuntimeError) as error:
                partial.unlink(missing_ok=True)
                kept = f"the checkpoint of step {self.rows[-1]['step']} is kept" if self.rows else "nothing was saved yet"
                why = f"cannot be written at step {self.step} ({first_line(error)})"
                raise InputError(f"{self.out}: {why}; {kept}: free space, then resume") from error
            report("  ".join(f"{key} {value}" for key, value in row.items()))
        self.kept = self.step
        self.processes.wait()

    def _write_log(self) -> None:
        partial = self.out / "log.tmp"
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.rows[0].keys())
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(partial, self.out / "log.csv")

    def _load(self) -> None:
        try:
            # On the CPU: each process copies from there to its own device.
            state = torch.load(self.checkpoint, weights_only=True, map_location="cpu")
            streams = state["streams"]
            if len(streams) != self.processes.count:
                raise InputError(
                    f"{self.checkpoint}: it is of {len(streams)} processes, these are {self.processes.count}; "
                    f"go on with {len(streams)}, or begin a new run that starts from this one"
                )
            self.network.load_state_dict(state["network"])
            self.ema.load_state_dict(state["ema"])
            self.optimiser.load_state_dict(state["optimiser"])
            # Older checkpoints end before the balance's means, or before the states of the network's draws.
            numbers, noise, *more = streams[self.processes.rank]
            self.balance.means = list(more[0]) if more else self.balance.means
            self.draws.states = list(more[1]) if len(more) > 1 else self.draws.states
            self.rng.bit_generator.state = numbers
            self.noise.set_state(noise)
            self.step, self.seconds, self.loss = state["step"], state["seconds"], state["loss"]
            self.rows, self.kept = list(state["rows"]), self.step
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{self.checkpoint}: cannot go on from it ({first_line(error)}); it is damaged or of another network: "
                "give another folder, or remove it"
            ) from error


def first_line(error: Exception) -> str:
    """An error's first line, for a message of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

"""Every registered operator at 1024 x 1024, each in a process of its own, so that its peak memory is its own."""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from invsolve import Capability, Operator, registry
from invsolve.errors import InvsolveError
from invsolve.operator.measurement import parts

SIDE = 1024
# What a constructor needs beside in_shape.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "kernel-blur": {"kernel": torch.full((9, 7), 1 / 63)},
    "separable-blur": {"vertical": [0.25, 0.5, 0.25]},
    "padded-blur": {"kernel": torch.full((9, 7), 1 / 63)},
    "separable": {"vertical": torch.eye(SIDE).roll(1, 0), "horizontal": torch.eye(SIDE)},
}
LEFT_OUT = {
    "deepinv": "an adapter: its size is that of the physics inside",
    "matrix": "a dense matrix of 1024^2 columns does not fit",
    "radon": "deepinv's grids of all angles: gigabytes",
    "sparse-matrix": "its size is that of the matrix",
}
# (channels, height, width) to try, in this order.
SHAPES = ((3, SIDE, SIDE), (1, SIDE, SIDE), (2, SIDE, SIDE), (8, SIDE, SIDE))


def note() -> str:
    """What the columns mean."""
    return (
        "Milliseconds, medians of 5 calls in float32 after a first one (which also makes the single-precision copies of buffers); set-up "
        "with the first SVD. Memory: the process's peak above what it held before the operator was made, in images of this size, inputs "
        "and outputs included."
    )


def build(name: str) -> Operator:
    """The operator on the first shape that it takes."""
    reasons = []
    for shape in SHAPES:
        try:
            return registry().build("operator", name, in_shape=shape, **ARGUMENTS.get(name, {}))
        except InvsolveError as error:
            reasons.append(str(error))
    raise SystemExit(reasons[0])


def milliseconds(call: Callable[[], object], repeats: int = 5) -> float:
    """Median of a few calls, after one."""
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)


def peak() -> float:
    """Bytes the process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@torch.no_grad()
def measure(name: str) -> dict[str, Any]:
    """Set-up, applications and memory of one operator."""
    registry().load("operator", name)
    for warm in (torch.fft.rfft2, torch.linalg.svd):  # the libraries' own set-up is not the operator's
        warm(torch.eye(8))
    held = peak()
    began = time.perf_counter()
    operator = build(name)
    found: dict[str, Any] = {}
    svd = operator.svd() if operator.has(Capability.SVD) else None
    found["set-up"] = 1e3 * (time.perf_counter() - began)
    x = torch.rand(1, *operator.in_shape, generator=torch.Generator().manual_seed(0))
    y = operator(x)
    found["H x"] = milliseconds(lambda: operator(x))
    if operator.has(Capability.ADJOINT):
        found["H^T y"] = milliseconds(lambda: operator.adjoint(y))
    if operator.has(Capability.PROX):
        found["prox"] = milliseconds(lambda: operator.prox(x, y, 1.0))
    if svd is not None:
        found["V^T x"] = milliseconds(lambda: svd.Vt(x))
    found["memory"] = (peak() - held) / (x.numel() * x.element_size())
    found["shape"] = f"{tuple(operator.in_shape)} -> {' + '.join(str(tuple(part.shape[1:])) for part in parts(y))}"
    return found


COLUMNS = ("set-up", "H x", "H^T y", "prox", "V^T x")


def table(arguments: argparse.Namespace) -> Iterator[str]:
    """Rows as Markdown."""
    yield "| operator | image -> measurement | " + " | ".join(COLUMNS) + " | memory in images |"
    yield "|---|---|" + "---|" * (len(COLUMNS) + 1)
    for name in arguments.only or registry().names("operator"):
        if name in LEFT_OUT:
            yield f"| {name} | {LEFT_OUT[name]} |" + " |" * (len(COLUMNS) + 1)
            continue
        command = [sys.executable, __file__, name, str(arguments.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["failed"])[-1]
            yield f"| {name} | {reason} |" + " |" * (len(COLUMNS) + 1)
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        numbers = " | ".join(f"{found[column]:.1f}" if column in found else "" for column in COLUMNS)
        yield f"| {name} | {found['shape']} | {numbers} | {found['memory']:.1f} |"


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    print(json.dumps(measure(sys.argv[1])))

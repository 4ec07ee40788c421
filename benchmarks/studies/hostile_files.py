"""Damaged and hostile files, some hundred for every reader: what each ends in, how long it takes and how much memory.

    python benchmarks/studies/hostile_files.py [--count 400] [--seed 0] [--only masks kernels] [--out benchmarks/results/hostile_files.md]

Every case runs in a process of its own, forked, with a cap on memory. Well are: read, and refused by an error of ours. Not well are
any other exception ("foreign"), more than 5 s of processor time, more than 2 GB. What is not well is printed with its file, which is
kept in --keep.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hostile_inputs as inputs
import torch
from click.testing import CliRunner
from invsolve_operators import FileMask, GaussianBlur
from invsolve_operators.blurs.kernel_files import read_kernels

from invsolve import GaussianNoise, InvsolveError, PoissonNoise, Problem, Solution
from invsolve.bench import run as run_suite
from invsolve.cli import main as command
from invsolve.io.images import read_image
from invsolve.plugins import registry
from invsolve.priors import Regulariser

KINDS = ("read", "refused", "foreign", "slow", "large")
SECONDS, BYTES = 5.0, 2 * 10**9
# Where a case is stopped: beyond what is allowed, so that it can be seen to be, and before the machine suffers.
WALL, MORE = 60.0, 4 * 10**9


@dataclass(frozen=True)
class Reader:
    """What is read, and how.

    Args:
        cases: from a folder and a generator, endless (label, call): the call reads one damaged file.
    """

    name: str
    cases: Callable[[Path, random.Random], Iterator[tuple[str, Callable[[], Any]]]]


def of_bytes(valid: Callable[[random.Random], dict[str, bytes]], read: Callable[[Path], Any]) -> Any:
    """Cases of files whose bytes are damaged; the valid ones themselves come first."""

    def cases(folder: Path, rng: random.Random) -> Iterator[tuple[str, Callable[[], Any]]]:
        files, number = valid(rng), 0
        for name, data in files.items():
            (folder / name).write_bytes(data)
            yield name, lambda path=folder / name: read(path)
        names = sorted(files)
        while True:
            number += 1
            name = rng.choice(names)
            path = folder / f"{number}-{name}"
            path.write_bytes(inputs.damaged(files[name], rng))
            yield path.name, lambda path=path: read(path)

    return cases


def in_folders(folder: Path, rng: random.Random) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Saved problems and solutions."""
    sources, number = inputs.save_problems(folder), 0
    while True:
        number += 1
        source = rng.choice(sources)
        target = folder / f"{number}-{source.name}"
        inputs.damage_folder(source, target, rng)
        load: Any = Solution.load if source.name == "solution" else Problem.load
        yield target.name, lambda target=target, load=load: load(target)


def beside(folder: Path, rng: random.Random) -> None:
    """The files that problem files and suites name."""
    (folder / "a.png").write_bytes(inputs.pictures(rng)["a.png"])
    (folder / "m.png").write_bytes(inputs.masks(rng)["a.png"])
    (folder / "k.npy").write_bytes(inputs.kernels(rng)["a.npy"])


def in_tables(tables: Callable[[random.Random], dict[str, Any]], words: Callable[[Path], list[str]]) -> Any:
    """Cases of TOML files through the command line; some rough ones first."""

    def cases(folder: Path, rng: random.Random) -> Iterator[tuple[str, Callable[[], Any]]]:
        beside(folder, rng)
        rough, number = list(inputs.ROUGH), 0
        while True:
            number += 1
            path = folder / f"{number}.toml"
            path.write_text(rough.pop() if rough else inputs.document(inputs.replaced(tables(rng), rng)), encoding="utf-8", errors="ignore")
            yield path.name, lambda path=path: shell(words(path))

    return cases


def in_runs(folder: Path, rng: random.Random) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Folders of runs, by turns reported and gone on with."""
    beside(folder, rng)
    suite = folder / "suite.toml"
    suite.write_text(inputs.document(inputs.plain_suite()))
    run_suite(str(suite), out=folder / "run")
    number = 0
    while True:
        number += 1
        target = folder / f"run{number}"
        shutil.copytree(folder / "run", target)
        inputs.damage_run(target, rng)
        words = ["bench", "report", str(target)] if number % 2 else ["bench", "run", str(suite), "--out", str(target)]
        yield target.name, lambda words=words: shell(words)


def in_arguments(folder: Path, rng: random.Random) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Solvers, operators and priors made with an argument of any kind; a solver that is made solves, and is stopped after a step."""
    while True:
        kind, name, arguments = inputs.argument(rng)
        yield f"{kind} {name} {arguments!r:.200}", lambda kind=kind, name=name, arguments=arguments: used(kind, name, arguments)


def used(kind: str, name: str, arguments: dict[str, Any]) -> None:
    """The object made; a solver at work."""
    made = registry().build(kind, name, **arguments)
    if kind == "solver":
        operator = GaussianBlur((1, 8, 8), 1.0)
        x = torch.full((1, 1, 8, 8), 0.5)
        noise = PoissonNoise(0.01) if name == "rl-tv" else GaussianNoise(0.05)
        problem = Problem.simulate(operator, x, noise, generator=0) if made.requires.measurement else Problem.unconditional((1, 8, 8))
        prior = registry().build("prior", "tv" if Regulariser in made.requires.prior else "gaussian")
        made.solve(problem, prior, generator=0, callback=lambda step: False)


def shell(words: list[str]) -> None:
    """A command as the shell runs it.

    Raises:
        InvsolveError: it ended in a sentence of ours.
        RuntimeError: in another way.
    """
    done = CliRunner().invoke(command, words)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    if "Error: unexpected " in done.output or "Traceback" in done.output:
        raise RuntimeError(done.output[done.output.find("Error: unexpected ") :][:300])
    if done.exit_code:
        raise InvsolveError(done.output)


READERS = [
    Reader("images", of_bytes(inputs.pictures, read_image)),
    Reader("masks", of_bytes(inputs.masks, lambda path: FileMask((3, 12, 16), str(path)))),
    Reader("kernels", of_bytes(inputs.kernels, read_kernels)),
    Reader("saved folders", in_folders),
    Reader("problem files", in_tables(inputs.problem_tables, lambda path: ["run", str(path), "run.out=r.npy"])),
    Reader("suites", in_tables(inputs.suite_tables, lambda path: ["bench", "run", str(path), "--out", f"{path}-run", "--limit", "3"])),
    Reader("run folders", in_runs),
    Reader("arguments", in_arguments),
]


def guarded(call: Callable[[], Any], pipe: Any) -> None:
    """In the forked process: one call, and how it ended."""
    import signal

    most = addressed() + MORE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(WALL))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    before, began = peak(), time.process_time()
    try:
        call()
        ended = "read"
    except InvsolveError as error:
        ended = f"refused: {error!s:.200}"
    except BaseException as error:  # what this campaign looks for
        ended = f"foreign: {type(error).__name__}: {error!s:.200}"
    pipe.send((ended, time.process_time() - began, peak() - before))


def addressed() -> int:
    """Bytes of address space that the process has: libraries map gigabytes that they never touch."""
    return resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0])


def peak() -> int:
    """Bytes of memory at most, so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@dataclass
class Outcome:
    """How a case ended: read, refused, foreign, slow or large, in words, with its processor time and its memory."""

    kind: str
    words: str
    seconds: float = 0.0
    taken: int = 0


def outcome(call: Callable[[], Any]) -> Outcome:
    """A case, in a process of its own."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=guarded, args=(call, theirs))
    process.start()
    theirs.close()
    try:
        ended, seconds, taken = ours.recv()
    except EOFError:
        process.join()
        return Outcome("slow", f"did not end within {WALL:g} s (or was killed: exit code {process.exitcode})", WALL)
    process.join()
    if taken > BYTES:
        return Outcome("large", f"{taken / 1e9:.1f} GB; {ended}", seconds, taken)
    if seconds > SECONDS:
        return Outcome("slow", f"{seconds:.1f} s; {ended}", seconds, taken)
    return Outcome(ended.partition(":")[0], ended, seconds, taken)


def campaign(reader: Reader, count: int, seed: int, keep: Path | None = None) -> tuple[list[Outcome], list[str]]:
    """How each case ended, and a line for each that is not well."""
    found: list[Outcome] = []
    bad: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for number, (label, call) in enumerate(reader.cases(folder, random.Random(seed))):
            if number >= count:
                break
            one = outcome(call)
            found.append(one)
            if one.kind not in ("read", "refused"):
                bad.append(f"{reader.name}: {label}: {one.kind}: {one.words}")
                if keep is not None and (folder / label).exists():
                    target = keep / reader.name.replace(" ", "-")
                    target.mkdir(parents=True, exist_ok=True)
                    source = folder / label
                    (shutil.copytree if source.is_dir() else shutil.copy)(source, target / label)
    return found, bad


def main() -> int:
    """All campaigns; the exit code says whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400, help="inputs per reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=[reader.name for reader in READERS])
    parser.add_argument("--keep", type=Path, help="folder for the files that are not well")
    parser.add_argument("--out", type=Path, help="a table of all in Markdown")
    arguments = parser.parse_args()
    total: list[str] = []
    rows: list[str] = []
    for reader in READERS:
        if arguments.only and reader.name not in arguments.only:
            continue
        began = time.perf_counter()
        found, bad = campaign(reader, arguments.count, arguments.seed, arguments.keep)
        counted = Counter(one.kind for one in found)
        counts = ", ".join(f"{counted[kind]} {kind}" for kind in KINDS)
        print(f"{reader.name}: {counts}; {time.perf_counter() - began:.0f} s", flush=True)
        most = max(one.seconds for one in found), max(one.taken for one in found) / 1e9
        rows.append(f"| {reader.name} | {' | '.join(str(counted[kind]) for kind in KINDS)} | {most[0]:.1f} s | {most[1]:.2f} GB |")
        for line in bad:
            print(f"  {line}", flush=True)
        total += bad
        if arguments.out:
            arguments.out.write_text(table(rows, total, arguments.count, arguments.seed), encoding="utf-8")
    return 1 if total else 0


def table(rows: list[str], bad: list[str], count: int, seed: int) -> str:
    """The results as Markdown."""
    head = [
        "# Damaged and hostile files",
        "",
        f"{count} inputs a reader, seed {seed}: `python benchmarks/studies/hostile_files.py --count {count} --out FILE`.",
        "Well are: read, and refused in our words. Not well: any other exception (foreign), more than "
        f"{SECONDS:g} s of processor time, more than {BYTES / 1e9:g} GB.",
        "",
        f"| reader | {' | '.join(KINDS)} | longest | most memory |",
        f"|---|{'---|' * len(KINDS)}---|---|",
    ]
    return "\n".join([*head, *rows, "", *(f"- {one}" for one in bad or ["Nothing was not well."])]) + "\n"


if __name__ == "__main__":
    sys.exit(main())

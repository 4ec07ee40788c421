"""Problems, priors and solutions as folders: `tensors.safetensors` holds the numbers, `config.json` everything else.

Files are data: operators, noise models, priors and solvers are found by their registered names only, so that a folder from a
stranger can name nothing but what is installed. A folder appears whole or not at all, and the checksum in `config.json`
ties the two files together.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.io.encoding import ForeignError, Pool, decode, describe, encode, rebuild
from invsolve.io.files import regular_file, replacing_folder
from invsolve.io.writing import SUFFIXES
from invsolve.operator.measurement import Measurement
from invsolve.plugins import registry

if TYPE_CHECKING:
    from invsolve.noise import NoiseModel
    from invsolve.operator import Operator
    from invsolve.priors.base import Prior
    from invsolve.problem import Problem
    from invsolve.solution import Solution, Step
    from invsolve.solver import Solver

CONFIG, TENSORS, FORMAT = "config.json", "tensors.safetensors", 1
MAX_CONFIG_BYTES = 64_000_000


class Stored(BaseModel):
    """What both kinds of `config.json` hold."""

    model_config = ConfigDict(extra="forbid", strict=True)
    format: Literal[1]
    versions: dict[str, str]
    sha256: str


class ProblemTable(BaseModel):
    """A Problem as data."""

    model_config = ConfigDict(extra="forbid", strict=True)
    operator: dict[str, Any]
    noise: dict[str, Any]
    y: Any
    items: list[int]
    check_range: bool
    context: Any = {"dict": {}}


class StoredProblem(Stored, ProblemTable):
    """`config.json` of a Problem."""

    kind: Literal["problem"]


class StoredPrior(Stored):
    """`config.json` of a Prior."""

    kind: Literal["prior"]
    prior: dict[str, Any]


class StoredSolution(Stored):
    """`config.json` of a Solution."""

    kind: Literal["solution"]
    solver: dict[str, Any]
    x: Any
    latent: Any = None
    status: str
    steps: int
    nfe: int
    backward: int = 0
    seconds: float
    network_seconds: float
    seed: int
    samples: int | None
    trace: list[dict[str, Any]]
    stats: Any = {"dict": {}}
    why: str = ""
    tuning: dict[str, Any] = {}
    calibration: dict[str, Any] | None = None


def save_problem(problem: Problem, path: str | Path) -> None:
    """Write a problem to the folder `path`; an earlier save there is replaced.

    An operator that is not in the registry, or that has arguments which are no data, is marked as foreign: loading then needs
    `operator=`. The same holds for the noise.

    Raises:
        InputError: the place cannot be written, or holds something else.
    """
    pool = Pool()
    write_stored(Path(path), {"kind": "problem", **problem_table(problem, pool)}, pool)


def problem_table(problem: Problem, pool: Pool) -> dict[str, Any]:
    """A problem as JSON data, its tensors in the pool."""
    return {
        "operator": _module("operator", problem.operator, pool),
        "noise": _module("noise", problem.noise, pool),
        "y": encode(problem.y, pool, "y"),
        "items": [int(item) for item in problem.items],
        "check_range": bool(problem.check_range),
        "context": encode(problem.context, pool, "context"),
    }


def read_problem(path: str | Path, operator: Operator | None = None, noise: NoiseModel | None = None) -> dict[str, Any]:
    """What `save_problem` wrote, as the arguments of a Problem, on the CPU.

    Args:
        path: the folder.
        operator: H, needed where the stored one is foreign; taken as it is.
        noise: the same for the noise model.

    Raises:
        InputError: no such folder, damaged or torn files, a foreign operator and none given, an operator that does not fit y.
        UnknownNameError: an operator or noise of a plug-in that is not installed.
    """
    return problem_fields(*read_stored(Path(path), StoredProblem), path, operator, noise)


def problem_fields(
    stored: ProblemTable, pool: Pool, path: str | Path, operator: Operator | None = None, noise: NoiseModel | None = None
) -> dict[str, Any]:
    """The arguments of the Problem that `problem_table` wrote; raises as `read_problem`."""
    y = decode(stored.y, pool)
    if not (isinstance(y, Tensor) or (isinstance(y, tuple) and all(isinstance(part, Tensor) for part in y))):
        raise InputError(f"{path}: y is not a tensor or a tuple of tensors")
    measurement: Measurement = y
    given_operator = operator if operator is not None else _unmodule("operator", stored.operator, pool, path)
    given_noise = noise if noise is not None else _unmodule("noise", stored.noise, pool, path)
    context = decode(stored.context, pool)
    fields = {"operator": given_operator, "y": measurement, "noise": given_noise, "items": tuple(stored.items)}
    return {**fields, "check_range": stored.check_range, "context": context}


def save_prior(prior: Prior, path: str | Path) -> None:
    """Write a prior to the folder `path`: the arguments it was made with and what its buffers and parameters hold now.

    Raises:
        InputError: the place cannot be written, or the prior cannot be made from plain data (a network of yours: save its weights).
    """
    pool = Pool()
    described = _module("prior", prior, pool)
    if "foreign" in described:
        raise InputError(f"a {described['foreign']} cannot be saved ({described['reason']}); save the weights of its network instead")
    write_stored(Path(path), {"kind": "prior", "prior": described}, pool)


def read_prior(path: str | Path) -> Prior:
    """Read what `save_prior` wrote, on the CPU.

    Raises:
        InputError: no such folder, damaged or torn files.
        UnknownNameError: a prior of a plug-in that is not installed.
    """
    stored, pool = read_stored(Path(path), StoredPrior)
    return _unmodule("prior", stored.prior, pool, path)


def save_solution(solution: Solution, path: str | Path) -> str:
    """Write a solution, its trace and its solver's configuration to the folder `path`; an earlier save there is replaced.

    Returns:
        Why its calibration is not in it; "" where it is, or there is none.

    Raises:
        InputError: the place cannot be written, holds something else, or is named like a picture.
    """
    if Path(path).suffix.lower() in SUFFIXES and not Path(path).is_dir():
        how = "write_image(path, solution.mean[0]) of invsolve.io.images writes a picture"
        raise InputError(f"{path} would be a folder with everything; give a name without {Path(path).suffix}, or: {how}")
    pool = Pool()
    data = {
        "kind": "solution",
        "solver": _or_foreign("solver", solution.solver, pool),
        "x": encode(solution.x, pool, "x"),
        "latent": encode(solution.latent, pool, "latent"),
        **solution.summary(),
        "stats": encode(dict(solution.stats), pool, "stats"),
        "why": solution.why,
        "tuning": dict(solution.tuning),
        "trace": [step_table(step, pool, f"trace.{index}") for index, step in enumerate(solution.trace)],
    }
    data["calibration"], lost = (None, "") if solution.calibration is None else calibration_table(solution.calibration, pool)
    write_stored(Path(path), data, pool)
    return lost


def read_solution(path: str | Path, solver: Solver | None = None) -> dict[str, Any]:
    """What `save_solution` wrote, as the arguments of a Solution (its trace: those of each Step), on the CPU.

    Args:
        path: the folder.
        solver: the configuration, needed where the stored one is foreign.

    Raises:
        InputError: no such folder, damaged or torn files, a foreign solver and none given.
        UnknownNameError: a solver of a plug-in that is not installed.
    """
    stored, pool = read_stored(Path(path), StoredSolution)
    x, latent = pool.take(stored.x), None if stored.latent is None else pool.take(stored.latent)
    if solver is None:
        if "foreign" in stored.solver:
            raise _foreign("solver", stored.solver, path, "Solution.load(path, solver=...)")
        solver = rebuild("solver", stored.solver, pool)
    assert solver is not None
    numbers = {name: getattr(stored, name) for name in ("steps", "nfe", "backward", "seconds", "network_seconds", "seed", "samples")}
    trace = [step_fields(step, pool) for step in stored.trace]
    stats = decode(stored.stats, pool)
    if not isinstance(stats, Mapping) or not all(isinstance(value, Tensor) for value in stats.values()):
        raise InputError(f"{path}: stats must be tensors by name")
    return {
        "x": x,
        "latent": latent,
        "status": stored.status,
        "solver": solver,
        "trace": trace,
        "stats": stats,
        "why": stored.why,
        "tuning": stored.tuning,
        "calibration": None if stored.calibration is None else calibration_fields(stored.calibration, pool, path),
        **numbers,
    }


def calibration_table(calibration: Any, pool: Pool) -> tuple[dict[str, Any] | None, str]:
    """(a calibration as JSON data, ""), or (None, why it cannot be written)."""
    kept, apart = dict(calibration.record()), Pool(dict(pool.tensors))
    table = problem_table(kept.pop("problem"), apart)
    for part in ("operator", "noise"):
        if "foreign" in table[part]:
            return None, f"its {part} {table[part]['foreign']} cannot be made again: {table[part]['reason']}"
    found = {name: encode(value, apart, f"calibration.{name}") for name, value in kept.items()}
    pool.tensors.update(apart.tensors)
    return {**found, "problem": table}, ""


def calibration_fields(data: dict[str, Any], pool: Pool, path: str | Path) -> Any:
    """The calibration that `calibration_table` wrote, by the plug-in that knows it.

    Raises:
        InputError: it is malformed.
    """
    try:
        table = ProblemTable.model_validate(data.get("problem"))
    except ValidationError as error:
        raise InputError(f"{path}: malformed calibration: {error.errors()[0]['msg']}") from error
    kept = {name: decode(value, pool) for name, value in data.items() if name != "problem"}
    return registry().calibration({**kept, "problem": problem_fields(table, pool, path)})


def step_table(step: Step, pool: Pool, key: str) -> dict[str, Any]:
    """A step as JSON data, its tensors in the pool."""
    plain = {name: getattr(step, name) for name in ("index", "total", "x", "x0_hat", "sigma", "converged")}
    plain |= {"stats": dict(step.stats), "state": dict(step.state)}
    return {name: encode(value, pool, f"{key}.{name}") for name, value in plain.items()}


def step_fields(data: dict[str, Any], pool: Pool) -> dict[str, Any]:
    """The arguments of the Step that `step_table` wrote.

    Raises:
        InputError: it is malformed.
    """
    step = {name: decode(value, pool) for name, value in data.items()}
    stats, state = step.get("stats", {}), step.get("state", {})
    plain = all(type(step.get(name)) is int for name in ("index", "total")) and isinstance(step.get("converged", False), bool)
    groups = isinstance(stats, Mapping) and isinstance(state, Mapping)
    if not plain or not groups or not isinstance(step.get("sigma"), float | int | None):
        raise InputError("malformed step in the trace: index and total are whole numbers, sigma a number, stats and state tables")
    if not all(isinstance(value, Tensor) for value in (step.get("x"), step.get("x0_hat"), *stats.values(), *state.values())):
        raise InputError("malformed step in the trace: x, x0_hat, stats and state must be tensors")
    return step


def _module(kind: str, module: nn.Module, pool: Pool) -> dict[str, Any]:
    """How it was made and what its buffers and parameters hold now (they may have been moved, cast or trained since)."""
    described = _or_foreign(kind, module, pool)
    if "foreign" not in described:
        state = {name: encode(value, pool, f"{kind}.state.{name}") for name, value in module.state_dict().items()}
        try:
            check = Pool(dict(pool.tensors), trusted=True)
            _restore(rebuild(kind, described, check), state, check)
        except InputError as error:  # such as one item cut out of a batched operator that keeps its first arguments
            return {"foreign": type(module).__name__, "reason": f"its arguments do not make it again: {error}"}
        described["state"] = state
    return described


def _or_foreign(kind: str, value: Any, pool: Pool) -> dict[str, Any]:
    try:
        return describe(kind, value, pool, kind)
    except ForeignError as error:
        return {"foreign": type(value).__name__, "reason": str(error)}


def _unmodule(kind: str, data: dict[str, Any], pool: Pool, path: str | Path) -> Any:
    if "foreign" in data:
        how = "Problem.load(path, operator=...)" if kind == "operator" else "Problem.load(path, noise=...)"
        raise _foreign(kind, data, path, how)
    data = dict(data)
    state = data.pop("state", None)
    if not isinstance(state, dict):
        raise InputError(f"{path}: the {kind} has no state")
    return _restore(rebuild(kind, data, pool), state, pool)


def _foreign(kind: str, data: dict[str, Any], path: str | Path, how: str) -> InputError:
    return InputError(
        f"{path}: the {kind} {data['foreign']!s:.80} was saved without a way to make it ({data.get('reason')!s:.200}); give it: {how}"
    )


def _restore(module: Any, state: dict[str, Any], pool: Pool) -> Any:
    """The module with buffers and parameters as stored, dtype included."""
    values = {name: pool.take(reference) for name, reference in state.items()}
    for name, own in module.state_dict().items():
        given = values.get(name)
        if given is not None and (given.is_floating_point(), given.is_complex()) != (own.is_floating_point(), own.is_complex()):
            raise InputError(f"{type(module).__name__}.{name} is {own.dtype}, the file holds {given.dtype}")
    try:
        module.load_state_dict(values, strict=True, assign=True)
    except RuntimeError as error:
        raise InputError(f"{type(module).__name__} does not fit its stored state: {error}") from error
    return module


def write_stored(path: Path, data: dict[str, Any], pool: Pool) -> None:
    """Write the folder: both files, tied by a checksum, at once or not at all."""
    from safetensors.torch import save

    versions = {"invsolve": installed("invsolve"), "torch": str(torch.__version__), "python": platform.python_version()}
    blob = save(pool.tensors)
    whole = {"format": FORMAT, "versions": versions, "sha256": hashlib.sha256(blob).hexdigest(), **data}
    text = json.dumps(whole, indent=1, allow_nan=False)
    with replacing_folder(path, CONFIG) as folder:
        (folder / TENSORS).write_bytes(blob)
        (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def installed(distribution: str) -> str:
    """The version of an installed distribution, "unknown" for a source tree that is only on the path."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


def read_stored(path: Path, model: type[Any]) -> tuple[Any, Pool]:
    """The validated configuration and the tensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_dir():
        raise InputError(f"no folder {path}")
    config, tensors = regular_file(path / CONFIG, CONFIG), regular_file(path / TENSORS, TENSORS)
    if config.stat().st_size > MAX_CONFIG_BYTES:
        raise InputError(f"{config} has more than {MAX_CONFIG_BYTES} bytes")
    try:
        stored = model.model_validate_json(config.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or CONFIG
        raise InputError(f"{config} is not what invsolve writes: {where}: {first['msg']}") from error
    blob = tensors.read_bytes()
    if hashlib.sha256(blob).hexdigest() != stored.sha256:
        raise InputError(f"{tensors} does not belong to {config}: its checksum differs (damaged, or exchanged)")
    try:
        return stored, Pool(load(blob))
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise InputError(f"{tensors} is damaged: {error}") from error

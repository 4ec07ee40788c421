"""The folder of a training run: its config and the record of where things are, which a later start goes on from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invsolve.errors import InputError
from invsolve.training.config import TrainConfig
from invsolve.training.loop import first_line

RECORD = "run_record.json"  # no name has an underscore, so that no NAME.json can take its place
OLD_RECORD = "run.json"


@dataclass(frozen=True)
class Places:
    """Where a run finds things.

    Args:
        data: what data paths are below.
        config: folder of the config file, for a class and a start that lie beside it.
    """

    data: Path
    config: Path


def begin(config_path: Path, out: Path, data: Path | None) -> tuple[TrainConfig, Places]:
    """A new run's folder with its config; returns the config and the places.

    Raises:
        InputError: a config that cannot be used, or a folder that holds a run already.
    """
    config = TrainConfig.load(config_path)
    if (out / "checkpoint.pt").exists():
        raise InputError(f"{out} holds a run already: go on with --resume {out}, or give another --out")
    beside = config_path.parent.resolve()
    places = Places(data.resolve() if data else beside, beside)
    record = {"name": config.name, "data": str(places.data), "config": str(places.config)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.toml").write_bytes(config_path.read_bytes())
        (out / RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out}: no folder for a run ({error}); give another --out") from error
    return config, places


def kept(out: Path) -> tuple[TrainConfig, Places]:
    """The config and the places of the run in a folder.

    Raises:
        InputError: no run there.
    """
    try:
        path = out / RECORD if (out / RECORD).exists() else out / OLD_RECORD
        record = json.loads(path.read_text(encoding="utf-8"))
        config = TrainConfig.load(out / "config.toml").model_copy(update={"name": str(record["name"])})
        return config, Places(Path(str(record["data"])), Path(str(record.get("config", Path.cwd()))))
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{out}: no run to go on with ({first_line(error)}); start one with invsolve train CONFIG.toml --out {out}"
        ) from None


def begun(out: Path, data: Path | None, config_path: Path | None) -> tuple[TrainConfig, Places]:
    """The config and the places of a run that is to go on; a data folder or a config that is given shows where they are now.

    Raises:
        InputError: no run there, or a config that is not the run's.
    """
    config, places = kept(out)
    if config_path is not None:
        given = TrainConfig.load(config_path)
        changed = differences(config.model_dump(by_alias=True), given.model_dump(by_alias=True))
        if changed:
            raise InputError(
                f"{out} was started with another config; it differs in {', '.join(changed)}. Leave the config out to go on as it was, or "
                f'start a new run with start = "{out}"'
            )
    return config, Places(data or places.data, config_path.parent.resolve() if config_path else places.config)


def differences(one: dict[str, Any], other: dict[str, Any], place: str = "") -> list[str]:
    """Names of the settings in which two configs differ."""
    found = []
    for key in one:
        if isinstance(one[key], dict) and isinstance(other[key], dict):
            found += differences(one[key], {**dict.fromkeys(one[key]), **other[key]}, f"{place}{key}.")
        elif one[key] != other[key]:
            found.append(f"{place}{key}")
    return found

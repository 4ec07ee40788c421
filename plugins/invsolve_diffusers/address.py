"""Where a published model lies: a folder of this machine, or one commit of a repository on the hub; and what its files are, by sha256.

    diffusers:FOLDER                        the folder with model_index.json
    diffusers:OWNER/NAME@REVISION           REVISION is the 40 digits of a commit: names such as main may point elsewhere tomorrow

Of a repository the hub's cache is looked at first, the network only for what is missing there; HF_HUB_OFFLINE=1 allows no network.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from invsolve_weights.places import check_path
from invsolve_weights.tables import read_table

from invsolve.errors import InputError

PREFIX = "diffusers:"
INDEX = "model_index.json"
REPOSITORY = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>.*)")
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
WEIGHTS = (".safetensors", ".bin")
READ = (*WEIGHTS, ".json", ".txt", ".model")
VARIANTS = ("*.fp16*", "*.bf16*", "*.non_ema*", "*flax*", "*openvino*", "*onnx*")
UNDECODED = ("DDPMPipeline", "DDIMPipeline", "PNDMPipeline", "KarrasVePipeline", "ScoreSdeVePipeline")


def claimed(path: str) -> bool:
    """Whether a prior's path is read here: by its prefix, or as a folder whose model_index.json names a pipeline with a decoder."""
    if path.startswith(PREFIX):
        return True
    try:
        index = Path(path) / INDEX
        return index.is_file() and read_table(index).get("_class_name") not in UNDECODED
    except (InputError, OSError, ValueError):
        return False


def folder_of(address: str) -> Path:
    """The folder of an address, on this machine.

    Args:
        address: see the module; the prefix may be left out.

    Raises:
        InputError: no such folder, a repository without the digits of a commit, huggingface_hub missing, files that cannot be had.
    """
    place = address.removeprefix(PREFIX)
    check_path(place)
    if Path(place).is_dir():
        return Path(place)
    found = REPOSITORY.fullmatch(place)
    if found is None:
        raise InputError(f"{address:.300}: no such folder; a repository on the hub is {PREFIX}OWNER/NAME@REVISION")
    if not COMMIT.fullmatch(found["revision"]) or ".." in place:
        raise InputError(
            f"{address:.300}: REVISION must be the 40 digits of a commit, which the repository's list of commits on the hub shows; "
            f"given {found['revision']!r:.60}. A name such as main may point elsewhere tomorrow"
        )
    return snapshot(found["repository"], found["revision"])


def snapshot(repository: str, revision: str) -> Path:
    """The files of one commit that are read here, in the hub's cache.

    Raises:
        InputError: see `folder_of`.
    """
    try:
        from huggingface_hub import hf_hub_download, snapshot_download  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("models from the hub need diffusers with huggingface_hub: pip install 'invsolve[diffusers]'") from error

    def had(get: Any, **options: Any) -> Path:
        try:
            return Path(get(repository, revision=revision, local_files_only=True, **options))
        except Exception:  # not in the cache: each version of the hub has its own way to say so
            return Path(get(repository, revision=revision, **options))

    try:
        index = read_table(had(hf_hub_download, filename=INDEX))
        names = components(index)
        patterns = [INDEX, *(f"{name}/*{suffix}" for name in names for suffix in READ if suffix != ".bin")]
        return complete(had(snapshot_download, allow_patterns=patterns, ignore_patterns=list(VARIANTS)), names)
    except InputError:
        raise
    except Exception as error:  # of the network, of the hub, of its cache: each has its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise InputError(f"{PREFIX}{repository}@{revision}: cannot be had ({type(error).__name__}: {reason})") from error


def complete(folder: Path, names: Iterable[str]) -> Path:
    """The folder, if every part is there.

    Raises:
        InputError: a part without a folder: the cache holds some of the files only.
    """
    missing = [name for name in names if not (folder / name).is_dir()]
    if missing:
        raise InputError(f"{folder}: {', '.join(missing)} missing; the copy is not whole, fetch it again with a network")
    return folder


def components(index: dict[str, Any]) -> list[str]:
    """The parts that are loaded: all that a model_index names, but the safety checker and what serves it."""
    left = ("safety_checker", "feature_extractor", "image_encoder")
    return sorted(
        name
        for name, value in index.items()
        if not name.startswith("_") and name not in left and isinstance(value, list) and len(value) == 2 and all(value)
    )


def hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """sha256 of the files that a model is made from, by their path in the folder: not of their twins in other types and formats."""
    found = {}
    for file in [folder / INDEX, *(file for name in names for file in read_files(folder / name))]:
        if file.is_file():
            with file.open("rb") as stream:
                found[file.relative_to(folder).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def read_files(part: Path) -> list[Path]:
    """The files of a part that are read: .bin only where there is no .safetensors."""
    files = [file for file in sorted(part.glob("*")) if file.suffix in READ and not any(file.match(variant) for variant in VARIANTS)]
    safe = any(file.suffix == ".safetensors" for file in files)
    return [file for file in files if not (safe and file.suffix == ".bin")]


def combined(found: dict[str, str]) -> str:
    """One sha256 for all: that of the lines "SHA256  PATH" in the order of the paths, as sha256sum writes them."""
    text = "".join(f"{found[name]}  {name}\n" for name in sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()


def verified(address: str, found: dict[str, str], sha256: str | None) -> str:
    """The combined sha256.

    Raises:
        InputError: another one was said, or what was said is none.
    """
    if sha256 is not None and (not isinstance(sha256, str) or not SHA256.fullmatch(sha256)):
        raise InputError(f"{address}: sha256 must be 64 hexadecimal digits, the `weights_sha256` of an earlier run; given {sha256!r:.80}")
    digest = combined(found)
    if sha256 not in (None, digest):
        raise InputError(f"{address}: the sha256 of its files is {digest}, not {sha256}; nothing was made of them")
    return digest

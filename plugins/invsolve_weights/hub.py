"""Weight files on the Hugging Face Hub: one revision, one sha256, or nothing.

    load_prior("hub:OWNER/NAME/FILE@REVISION", sha256="...")

REVISION is the 40 digits of a commit: names such as main may point elsewhere tomorrow. The file comes from the hub's cache where it is
there (HF_HUB_OFFLINE=1 allows no other place), and is compared with the sha256 before anything in it is read.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from invsolve.errors import InputError
from invsolve_weights.folders import FILES

PREFIX = "hub:"
ADDRESS = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)/(?P<file>[\w.-]+(?:/[\w.-]+)*)@(?P<revision>[0-9a-f]{40})")
SHA256 = re.compile(r"[0-9a-f]{64}")


def fetched(address: str, sha256: str | None) -> Path:
    """The file, or the folder of a diffusers network with its configs, on this machine.

    Args:
        address: "hub:OWNER/NAME/FILE@REVISION".
        sha256: of the file, 64 hexadecimal digits.

    Raises:
        InputError: no such address, huggingface_hub missing, a file that cannot be had, or another file than said.
    """
    found = ADDRESS.fullmatch(address)
    if found is None or ".." in address:
        raise InputError(f"'{address}': an address on the hub is hub:OWNER/NAME/FILE@REVISION, REVISION the 40 digits of a commit")
    if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
        raise InputError(
            f"{address}: give sha256= of the file, 64 hexadecimal digits (the file's page on the hub shows it); given {sha256!r}"
        )
    repository, name, revision = found["repository"], found["file"], found["revision"]
    path = download(repository, name, revision)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != sha256:
        raise InputError(f"{address}: its sha256 is {digest}, not {sha256}; nothing was read from it")
    if path.name not in FILES:
        return path
    above = name.rpartition("/")[0]
    inner = f"{above}/" if above else ""
    download(repository, f"{inner}config.json", revision)
    root = path.parent.parent if above == "unet" else path.parent
    outer = "" if above == "unet" else inner
    for place in (f"{outer}scheduler/scheduler_config.json", f"{outer}scheduler_config.json"):
        try:
            download(repository, place, revision)
        except InputError:
            continue
        return root
    raise InputError(
        f"{address}: a diffusers network without scheduler_config.json; download the file and say what it is (kind=, schedule=)"
    )


def download(repository: str, name: str, revision: str) -> Path:
    """A file of the hub in its cache."""
    try:
        from huggingface_hub import hf_hub_download  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("weights from the hub need huggingface_hub: pip install 'invsolve[hub]'") from error
    try:
        return Path(hf_hub_download(repository, name, revision=revision))
    except Exception as error:  # of the network, of the hub, of its cache: each has its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise InputError(f"hub:{repository}/{name}@{revision}: cannot be had ({type(error).__name__}: {reason})") from error

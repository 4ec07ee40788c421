"""Workers of a run: a dask cluster on this machine, or another one by its address. Needs the extra `dask`."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import torch

from invsolve.bench.fingerprint import packages
from invsolve.errors import InputError

NEEDS = "pip install 'invsolve[dask]'"
GPU = "GPU"  # the resource that a worker declares for each device it may use
SECONDS = "20s"  # until a scheduler must have answered
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
PRELOAD = "invsolve.bench.worker"
LEASH = "invsolve.bench.leash"


def needed(name: str = "distributed") -> Any:
    """A module of the extra.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"workers need dask.distributed: {NEEDS} ({error}); a run without workers needs nothing") from error


@contextmanager
def pool(workers: int | None, scheduler: str | None, device: torch.device) -> Iterator[Any]:
    """A dask client of `workers` processes of our own, or of the scheduler at an address.

    Raises:
        InputError: dask is not installed, or the scheduler does not answer.
    """
    needed()
    with _local(workers or 1, device) if scheduler is None else _other(scheduler) as client:
        yield client


@contextmanager
def _other(address: str) -> Iterator[Any]:
    distributed = needed()
    try:
        client = distributed.Client(address, timeout=SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"no dask scheduler answers at {address}: {error}; `dask scheduler` prints its address") from error
    try:
        yield client
    finally:
        with suppress(Exception):  # what failed has been said; a scheduler that is gone cannot be taken leave of
            client.close(timeout=2)


@contextmanager
def _local(workers: int, device: torch.device) -> Iterator[Any]:
    """Processes with one thread each, which die with this one: a pipe from each nanny ends, and its worker exits."""
    distributed = needed()
    security = _security(distributed)
    with dask_config():
        plain = {"host": "127.0.0.1", "security": security}
        spec = {str(index): {"cls": distributed.Nanny, "options": {**plain, **_options(index, device)}} for index in range(workers)}
        listening = {"cls": distributed.Scheduler, "options": {**plain, "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"}}
        with _deaf():  # what starts now does not hear Ctrl-C
            cluster = distributed.SpecCluster(workers=spec, scheduler=listening, security=security, silence_logs=logging.CRITICAL)
        try:
            with distributed.Client(cluster, security=security, set_as_default=False) as client:
                yield client
        except BaseException:
            for nanny in cluster.workers.values():  # not to wait for a cell that nobody wants any more
                _end(nanny)
            raise
        finally:
            cluster.close(timeout=5)


@contextmanager
def dask_config() -> Iterator[None]:
    """How dask starts processes: on Linux a server that has imported everything forks each, so that a killed one is soon back."""
    forked = sys.platform == "linux"
    method = {"distributed.worker.multiprocessing-method": "forkserver" if forked else "spawn"}
    quiet = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}  # pages that any user could read
    # Neither its sampling of our stack nor its threshold of malloc, which gives memory back between two steps: both slow cells down.
    plain = {"distributed.worker.profile.enabled": False, "distributed.nanny.pre-spawn-environ": dict.fromkeys(THREADS, "1")}
    # Our own marks say which cell killed a worker; dask would count those that waited there, too.
    patient = {"distributed.scheduler.allowed-failures": 20, "distributed.comm.timeouts.connect": "30s"}
    with needed("dask").config.set({**method, **quiet, **plain, **patient}), _environment():
        if forked:
            from multiprocessing.forkserver import ensure_running  # other systems have no such server

            context = needed("distributed.utils").get_mp_context()
            context.set_forkserver_preload([LEASH, "distributed", PRELOAD, *_imported()])
            ensure_running()  # started by this thread, which outlives the run; the kernel ends it with that
        yield


@contextmanager
def _environment() -> Iterator[None]:
    """Dask writes what its workers get into our own environment: it is as before in the end."""
    before = {name: os.environ.get(name) for name in THREADS}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _imported() -> list[str]:
    """The modules of plug-ins, and what they import for long, that this process has: the server imports them once for all workers."""
    tops = packages() | {"deepinv", "scipy", "torch", "torchmetrics", "tqdm"} - {"__main__"}
    return [name for name in sorted(sys.modules) if name.partition(".")[0] in tops]


def _options(index: int, device: torch.device) -> dict[str, Any]:
    options = {"nthreads": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL, "preload": PRELOAD}
    if device.type != "cuda":
        return options
    return {**options, "resources": {GPU: 1}, **({} if device.index is not None else {"env": {"CUDA_VISIBLE_DEVICES": _visible(index)}})}


def _visible(index: int) -> str:
    """The GPU of a worker, in turn."""
    named = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
    devices = named or [str(number) for number in range(torch.cuda.device_count())]
    return devices[index % len(devices)] if devices else ""


def _security(distributed: Any) -> Any:
    """Keys of this run alone: whoever else is on the machine could have our workers run anything by a port without."""
    try:
        import_module("cryptography")
    except ImportError as error:
        raise InputError(f"workers need cryptography, which closes their ports to other users: {NEEDS} ({error})") from error
    return distributed.Security.temporary()


def _end(nanny: Any) -> None:
    nanny.close_gracefully()  # or it would start another one
    pid = getattr(getattr(nanny, "process", None), "pid", None)
    if pid is not None:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


@contextmanager
def _deaf() -> Iterator[None]:
    from invsolve.plugins.interrupts import in_main_thread

    before = signal.getsignal(signal.SIGINT) if in_main_thread() else None
    if before is None:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

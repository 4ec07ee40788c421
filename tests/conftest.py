"""One thread for torch: the tests' tensors are small, and two threads spend their time waiting for each other. And which tests are slow."""

import faulthandler
import gc
import math
import os
import signal
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything counts cores, and for the processes that tests start

import pytest
import torch
from _pytest.faulthandler import fault_handler_stderr_fd_key  # the one place where pytest keeps what is not captured
from bench_cases import copy, finished, strangers  # noqa: F401 (fixtures of the benchmark tests)

torch.set_num_threads(1)
gc.disable()  # an eighth of the time of a collection, which makes tests by the ten thousand and drops nothing

# Some tests press Ctrl-C; a shell that starts the run in the background has it ignored.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The files that nine tenths of the time of the 60 slowest tests went to, with the seconds of their tests among those 60 when they were
# measured (all tests in one process: 1149 s). `pytest -m "not slow"` leaves them out; marks on single tests add to them.
SLOW = {
    "test_readme": 164,  # every line that the README shows
    "test_property_operators": 157,  # drawn dot products for every linear operator
    "test_train_command": 110,  # trainings, in processes of their own
    "test_stranger": 78,  # a plug-in written, installed and used
    "test_truth_samplers": 56,  # the laws of the samplers, thousands of chains
    "test_docs": 35,  # every page's code
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A half of the tests for each of two workers, in order, and what is left of one for the other: what a module holds is made once."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getvalue("dist") == "load" else None


HANG = 600  # seconds
armed = [-math.inf]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """A test that hangs ends its process, with a trace of every thread, after nine to ten minutes.

    Not by the alarm signal, which belongs to what is tested. The watch is a thread, wound up once a minute: pytest's own
    (faulthandler_timeout) and pytest-timeout start one for every test, nearly a millisecond each.
    """
    if time.monotonic() > armed[0] + HANG / 10 and not item.config.getoption("usepdb"):
        armed[0] = time.monotonic()
        faulthandler.dump_traceback_later(HANG, exit=True, file=item.config.stash.get(fault_handler_stderr_fd_key, 2))


def pytest_exception_interact():
    """pytest's own plugin stops the watch after a failure, and before a debugger: the next test winds it up again."""
    armed[0] = -math.inf


def pytest_enter_pdb():
    armed[0] = -math.inf


def pytest_unconfigure():
    faulthandler.cancel_dump_traceback_later()


def pytest_addoption(parser):
    parser.addoption("--whole", action="store_true", help="every cell of the sweeps (see tests/support/sweeps.py), several times as long")


def pytest_collection_finish(session):
    """What was made till now stays to the end: the collector need not look at it again after every test."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)
    if not config.getoption("--whole"):
        left = [item for item in items if item.get_closest_marker("whole")]
        items[:] = [item for item in items if not item.get_closest_marker("whole")]
        config.hook.pytest_deselected(items=left)

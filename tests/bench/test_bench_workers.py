"""The tests of runs over workers, in a process of their own: the threads of a cluster stay in the process that had one.

Line tracing, which the kit uses, can hang beside them (seen on Python 3.11).
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_runs_over_workers(pytestconfig):
    """Two thirds of the time are for --whole: two local workers (an external scheduler has two), their driver killed, Ctrl-C twice."""
    if not all(map(find_spec, ("distributed", "cryptography"))):
        pytest.skip("the extra dask is not installed")
    cases = ROOT / "tests" / "support" / "workers_cases.py"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    every = ["--whole"] if pytestconfig.getoption("--whole") else []
    line = [sys.executable, "-m", "pytest", "-q", *every, "-p", "no:cacheprovider", "-p", "no:xdist", str(cases)]
    ended = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
    assert " passed" in ended.stdout

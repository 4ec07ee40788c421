"""-q, -v, --log FILE, exit codes, and names by Tab."""

import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from invsolve.cli import app, main
from invsolve.errors import DivergedError, InputError, PluginError
from invsolve.io.images import write_image


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image("p.png", torch.linspace(0, 1, 12 * 16).reshape(1, 12, 16).expand(3, 12, 16))
    return "p.png"


RESTORE = ("restore", "p.png", "--operator", "gaussian-blur", "--solver", "adam-tv", "--prior", "tv", "--set", "solver.steps=2")


@pytest.mark.parametrize("where", ["before", "after"])
def test_quiet_says_errors_only(photo, where):
    said = call(*RESTORE, "--noise", "10")
    assert "note: noise sigma = 10 is above the whole range" in said.stderr
    quiet = call("-q", *RESTORE, "--noise", "10") if where == "before" else call(*RESTORE, "--noise", "10", "-q")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")
    assert sorted(one.name for one in Path().iterdir()) == ["p.png", "p_restored.png", "p_restored_2.png"]
    assert call(*RESTORE, "-q", "--json").stdout.startswith("{")
    wrong = call("-q", *RESTORE, "--set", "operator.sigma=-1") if where == "before" else call(*RESTORE, "--set", "operator.sigma=-1", "-q")
    assert (wrong.exit_code, wrong.stderr.startswith("Error: operator 'gaussian-blur': a Gaussian needs sigma")) == (2, True)


def test_verbose_says_version_time_and_memory(photo):
    said = call(*RESTORE, "-v").stderr
    assert re.search(r"^invsolve \d.*, Python 3", said, re.M)
    assert re.search(r"^\d+\.\d s, at most \d+ MB$", said, re.M)


def test_a_log_has_what_was_said_with_its_time_and_the_traceback(photo):
    assert call("--log", "out.log", *RESTORE, "--noise", "10", "-q").stderr == ""
    call(*RESTORE, "--log", "out.log")
    failed = call(*RESTORE, "--set", "operator.sigma=-1", "--log", "out.log")
    assert "Traceback" not in failed.stderr
    lines = Path("out.log").read_text().splitlines()
    timed = [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ", "", line) for line in lines]
    assert any(line.startswith("INFO note: noise sigma = 10 is above") for line in timed)  # quiet on the screen, not here
    assert any(line.startswith("INFO adam-tv(steps=2") for line in timed)
    assert "INFO written    p_restored_2.png" in timed
    assert any(line.startswith("INFO Error: operator 'gaussian-blur': a Gaussian needs sigma") for line in timed)
    assert "Traceback (most recent call last):" in timed
    assert sum(line.startswith("INFO invsolve ") for line in timed) == 3  # appended
    assert sum(line.startswith("INFO ended after") for line in timed) == 3
    assert logging.getLogger("invsolve").handlers == []


def fails(error):
    def callback():
        raise error

    return click.Command("fails", callback=callback)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InputError("no such thing"), 2, "Error: no such thing\n"),
        (FileNotFoundError(2, "No such file or directory", "x.png"), 2, "Error: No such file or directory: x.png\n"),
        (OSError(28, "No space left on device", "x.png"), 3, "Error: No space left on device: x.png\n"),
        (MemoryError(), 3, "Error: out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), 3, "Error: out of memory"),
        (PluginError("broken"), 3, "Error: broken\n"),
        (DivergedError("grew"), 1, "Error: grew\n"),
        (ZeroDivisionError("by 0"), 1, "Error: unexpected ZeroDivisionError: by 0; invsolve --debug"),
        (KeyboardInterrupt(), 130, "Error: stopped\n"),
        (click.Abort(), 130, "Error: stopped\n"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, BaseException) else "",
)
def test_exit_codes(monkeypatch, error, code, words):
    monkeypatch.setitem(main.commands, "fails", fails(error))
    done = call("fails")
    assert done.exit_code == code
    assert done.stderr.startswith(words)


def test_no_command_lacks_the_options_of_loudness():
    def walk(command):
        yield command
        for one in command.commands.values() if isinstance(command, click.Group) else ():
            yield from walk(one)

    every = [*walk(main), *(deep for one in app.plugin_commands().values() for deep in walk(one))]
    assert len(every) > 30
    for command in every:
        assert {"--quiet", "--verbose", "--log"} <= {flag for one in command.params for flag in one.opts}, command.name


TRIES = {
    "restor": ["restore"],
    "tra": ["train"],
    "restore p.png --operator separable-g": ["separable-gaussian-blur"],
    "restore p.png --solver diffp": ["diffpir"],
    "restore p.png --prior wav": ["wavelet-l1"],
    "restore p.png --operator gaussian-blur --set operator.s": ["operator.sigma="],
    "info solver ddr": ["ddrm"],
    "info operator ddr": ["ddrm-anisotropic-blur-9", "ddrm-gaussian-blur-5", "ddrm-super-resolution-4", "ddrm-uniform-blur-9"],
    "list op": ["operator"],
    "bench run sm": ["smoke"],
    "completion ba": ["bash"],
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_names_are_completed_by_tab_in_bash(tmp_path):
    """The script is sourced, and its function called as bash calls it at Tab."""
    program = tmp_path / "invsolve"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "from invsolve.cli import main; main(prog_name=\'invsolve\')" "$@"\n')
    program.chmod(0o755)
    script = 'eval "$(invsolve completion bash)"\ncomplete -p invsolve >&2\nwhile read -ra words; do\n'
    script += 'COMP_WORDS=(invsolve "${words[@]}"); COMP_CWORD=${#words[@]}; COMPREPLY=()\n'
    script += '_invsolve_completion invsolve </dev/null; echo "${COMPREPLY[*]}"\ndone\n'
    few = dict(list(TRIES.items())[4:6])  # each is a program of its own
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], input="\n".join(few) + "\n", capture_output=True, text=True, env=environment, check=False
    )
    assert "-F _invsolve_completion invsolve" in done.stderr
    assert done.stdout.splitlines() == [" ".join(names) for names in few.values()]


@pytest.mark.parametrize("typed", TRIES)
def test_what_is_offered(typed):
    from click.shell_completion import BashComplete

    *before, last = typed.split()
    offered = BashComplete(main, {}, "invsolve", "_INVSOLVE_COMPLETE").get_completions(before, last)
    assert [one.value for one in offered] == TRIES[typed]

"""Every snippet of the README runs: Python in one process each, shell lines as the command runs them, one through the real command.

The two install lines are what `.ci/run` executes in a fresh environment; here it is checked that it really does.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fresh_cases import run_command, run_fresh
from places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
INSTALL = [line for line in SHELL if line.startswith("pip ")]
COMMANDS = [line for line in SHELL if line.startswith("invsolve ")]


def test_every_shell_line_is_of_a_known_kind():
    assert sorted(INSTALL + COMMANDS) == sorted(SHELL)


PHOTO = "x = quick_photos()[2].image[None]"  # of 128 x 128 pixels; a quarter of them in a plain run


@pytest.mark.parametrize("snippet", PYTHON, ids=range(len(PYTHON)))
def test_python_snippets_run(snippet, tmp_path, pytestconfig):
    if not pytestconfig.getoption("--whole"):
        snippet = snippet.replace(PHOTO, f"{PHOTO}[..., 32:96, 32:96]")
    done = run_fresh(snippet, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_photo_that_is_cut_is_there():
    assert sum(PHOTO in snippet for snippet in PYTHON) == 2


@pytest.mark.parametrize("line", COMMANDS)
def test_shell_lines_run(line, tmp_path):
    done = run_command(line.split(), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_the_installed_command_runs_the_first_line(tmp_path):
    program = shutil.which("invsolve", path=str(Path(sys.executable).parent)) or shutil.which("invsolve")
    assert program, "the command `invsolve` is not installed"
    words = COMMANDS[0].split()[1:]
    done = subprocess.run([program, *words], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == run_command(["invsolve", *words], tmp_path).stdout


def test_ci_runs_the_install_lines():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for line in INSTALL:
        install, command = line.split(" && ")
        assert install.removeprefix("pip install ") in script
        assert re.search(rf"^{re.escape(command)}", script, re.MULTILINE), f"{command!r} is not run by .ci/run"


def test_the_picture_and_the_links_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_what_wins_when_is_the_standing_table():
    """Task, both names with their means, evaluations, the difference and whether it is sure, all as the suite's page has them."""
    page = (ROOT / "benchmarks" / "results" / "standing" / "classical-vs-diffusion.md").read_text(encoding="utf-8")
    by_psnr, whole = page.split("## Who won, by PSNR")[1].split("## Who won, by HaarPSI")[0], page.split("```text\n")[1].split("```")[0]
    blocks = {block.splitlines()[0]: block for block in whole.strip().split("\n\n")}
    rows = []
    cells = re.findall(r"^\| ([^|]+) \|" + r" ([^|]+) \|" * 5 + "$", by_psnr, re.MULTILINE)
    for task, classical, diffusion, difference, sure, _ in cells[1:]:
        said = []
        for one, side in ((classical, "without"), (diffusion, "diffusion")):
            (line,) = (line for line in blocks[task].splitlines() if line.startswith(one.split()[0] + " "))
            calls = re.findall(r"± [\d.]+ +(\d+) +[\d.]+ ±", line)[-1]
            said.append(f"**{one}** ({calls})" if sure == side else f"{one} ({calls})")
        rows.append(f"| {task} | {said[0]} | {said[1]} | {difference.replace(' dB', '')} |")
    table = README.split("| difference, 95 % |\n|---|---|---|---|\n")[1].split("\n\n")[0]
    assert table.splitlines() == rows
    assert len(rows) == 6

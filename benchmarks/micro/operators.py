"""Size, speed and accuracy of the operators: `python benchmarks/micro/operators.py {large,peers,accuracy} [--out FILE]`.

large     every registered operator at 1024 x 1024: set-up, H x, H^T y, prox, V^T x, and the memory all of it takes
peers     the same operators in DDRM's code (--ddrm FOLDER, a checkout of bahjat-kawar/ddrm) and in deepinv: same inputs, one run
accuracy  relative error of prox in float32 against float64 on noisy y, the largest over tau = 1e-8 ... 1e8

With --out the section is replaced in a Markdown file, and the command that makes it is written there.
"""

import argparse
import platform
import re
import shlex
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

SECTIONS = {
    "large": "Every operator at 1024 x 1024",
    "peers": "Beside DDRM's code and deepinv",
    "accuracy": "Accuracy of prox in single precision",
}


def replaced(text: str, name: str, section: str) -> str:
    """The file's text with the section between its two markers put in, at the end if it is not there yet."""
    first, last = f"<!-- {name} -->", f"<!-- end {name} -->"
    block = f"{first}\n{section}\n{last}\n"
    pattern = re.compile(f"{re.escape(first)}.*?{re.escape(last)}\n", re.DOTALL)
    return pattern.sub(lambda _: block, text) if pattern.search(text) else text.rstrip("\n") + "\n\n" + block


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=sorted(SECTIONS))
    parser.add_argument("--ddrm", type=Path, help="a checkout of DDRM's repository, for the section peers")
    parser.add_argument("--only", nargs="+", default=[], help="names of operators")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    module = import_module(f"operators_{arguments.section}")
    where = f"torch {torch.__version__}, deepinv {version('deepinv')}, {arguments.threads} thread(s), {platform.machine()}"
    extra = " --ddrm FOLDER" if arguments.ddrm else ""
    command = f"python benchmarks/micro/operators.py {arguments.section}{extra} --out {shlex.quote(str(arguments.out))}"
    lines = [f"## {SECTIONS[arguments.section]}", "", f"`{command}` ({where})", "", module.note(), ""]
    print("\n".join(lines), flush=True)
    for line in module.table(arguments):
        print(line, flush=True)
        lines.append(line)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        before = arguments.out.read_text() if arguments.out.exists() else "# Operators: size, speed, accuracy\n"
        arguments.out.write_text(replaced(before, arguments.section, "\n".join(lines)))


if __name__ == "__main__":
    main()

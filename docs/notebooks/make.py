"""Execute the notebooks: python docs/notebooks/make.py [NAME ...] writes NAME.ipynb from NAME.md (needs the extra `docs`).

A block of Python is a cell, what lies between blocks is text. A line `% alt: ...` before a block is the text of its picture, for those
who cannot see it.
"""

from __future__ import annotations

import base64
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BLOCK = re.compile(r"^(?:% alt: ([^\n]*)\n)?```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
NOTE = re.compile(r"^% tested with: [^\n]*\n", re.MULTILINE)
COLOURS = 128  # of a stored picture: a third of the bytes


def cells(text: str) -> list[tuple[str, str, str]]:
    """(kind, source, alternative text) of a page: "markdown" and "code" in turns; other lines that begin with % are for the tests."""
    pieces = BLOCK.split(NOTE.sub("", text))
    found = [("markdown", pieces[0].strip(), "")]
    for alt, code, prose in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        found += [("code", code.strip(), alt or ""), ("markdown", prose.strip(), "")]
    return [one for one in found if one[1]]


def names() -> list[str]:
    """Of all notebooks."""
    return sorted(page.stem for page in HERE.glob("*.md") if page.stem != "index")


def smaller(png: str) -> str:
    """A picture in base64, with a palette."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        buffer = io.BytesIO()
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def notebook(name: str) -> Any:
    """The notebook without outputs."""
    import nbformat

    made = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    for index, (kind, source, alt) in enumerate(cells((HERE / f"{name}.md").read_text(encoding="utf-8"))):
        new = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
        metadata = {"mystnb": {"image": {"alt": alt}}} if alt else {}
        made.cells.append(new(source, id=f"{name}-{index}", metadata=metadata))
    return made


def merged(outputs: list[Any]) -> list[Any]:
    """What is printed in one piece, without warnings of other packages; pictures smaller."""
    kept: list[Any] = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if output.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(output)
        if "image/png" in output.get("data", {}):
            output["data"]["image/png"] = smaller(output["data"]["image/png"])
    return kept


def execute(name: str) -> None:
    """Run one in a fresh kernel and an empty folder, and write it."""
    import nbformat
    from nbclient import NotebookClient

    made = notebook(name)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(made, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    for cell in made.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = merged(cell.outputs)
    nbformat.write(made, HERE / f"{name}.ipynb")


def main() -> None:
    """Those that are named, or all."""
    for name in sys.argv[1:] or names():
        execute(name)
        print(name, f"{(HERE / f'{name}.ipynb').stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()

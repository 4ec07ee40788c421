"""The page: what is shown where, and what follows from what. What is behind it, `desk`, does not know gradio."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]

from invsolve.plugins import registry
from invsolve_app.answers import MEASURED, Answer
from invsolve_app.desk import ASKED, Desk, pair, pictures, report, sentence
from invsolve_app.wish import HAPPENED, SUITS, Wish

FILES = [".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".ppm", ".npy", ".safetensors"]
CSS = """
.gradio-container { max-width: 1500px !important; margin: 0 auto !important; }
.said { padding: 0.4rem 0; } .said.bad { color: #b91c1c; font-weight: 600; } .dark .said.bad { color: #fca5a5; }
.answer { padding: 0.5rem 0; border-top: 1px solid var(--border-color-primary); overflow-wrap: anywhere; }
.answer p { white-space: pre-line; }
.answer h3 { margin: 0; font-size: 1rem; } .answer p { margin: 0.15rem 0; }
"""
# Which thing that happened asks for which number or file.
NEEDED = {"sigma": "blur", "radius": "defocus", "length": "motion", "angle": "motion"}
NEEDED |= {"kernel": "kernel", "factor": "scale", "quality": "jpeg"}
HIDDEN: Any = {"visible": False}
# Gradio's pictures say nothing to those who do not see them.
SPOKEN = """() => {
    const text = (image) => {
        if (image.closest("#slider")) {
            const [left, right] = ["left", "right"].map((side) => document.querySelector(`#${side} input`)?.value || "");
            return `${left} on the left, ${right} on the right, one over the other`;
        }
        return image.closest("#shown") ? "the photograph" : image.alt;
    };
    const speak = () => document.querySelectorAll("#shown img, #slider img").forEach((image) => {
        if (image.alt !== text(image)) image.alt = text(image);
    });
    new MutationObserver(speak).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ["src"] });
}"""


def theme() -> Any:
    """With fonts of the computer: others would be fetched."""
    return gr.themes.Soft(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def build(folder: Path) -> Any:
    """The page, not served yet.

    Args:
        folder: where files go.
    """
    with gr.Blocks(title="invsolve: restore a photograph", analytics_enabled=False) as page:
        gr.Markdown("# Restore a photograph\nSay what happened to it. Nothing leaves this computer.")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                said, painter = asked()
                said |= choices()
                with gr.Row():
                    buttons = {"go": gr.Button("Restore", variant="primary", elem_id="go"), "stop": gr.Button("Stop", elem_id="stop")}
            with gr.Column(scale=3, min_width=300):
                shown = results()
        wire(Desk(folder), said, painter, buttons, shown)
    return page


def asked() -> tuple[dict[str, Any], Any]:
    """What is said of the photograph, by the names of Wish, and where holes are painted."""
    ways = [(text, key) for key, text in HAPPENED.items()]
    said: dict[str, Any] = {
        "image": gr.File(label="Photograph", file_types=FILES, type="filepath", height=110, elem_id="photograph"),
        "happened": gr.Radio(ways, value="noise", label="What happened to it", elem_id="happened"),
        "sigma": gr.Slider(0.3, 8, 1.5, step=0.1, label="Width of the Gaussian, pixels", elem_id="sigma", **HIDDEN),
        "radius": gr.Slider(0.5, 15, 3, step=0.5, label="Radius of the disk, pixels", **HIDDEN),
        "length": gr.Slider(2, 40, 9, step=1, label="Length, pixels", **HIDDEN),
        "angle": gr.Slider(-90, 90, 0, step=1, label="Angle from the horizontal, degrees", **HIDDEN),
        "kernel": gr.File(label="Picture of the kernel", file_types=[*FILES, ".npz", ".mat"], type="filepath", height=110, **HIDDEN),
        "factor": gr.Slider(1.5, 8, 2, step=0.5, label="Times as large", **HIDDEN),
        "quality": gr.Slider(0, 100, 0, step=1, label="Quality it was saved with; 0: as the file says", **HIDDEN),
    }
    brush = gr.Brush(colors=["#e11d48"], color_mode="fixed", default_size=20)
    paint: dict[str, Any] = {"sources": (), "transforms": (), "layers": False, "brush": brush, "format": "png", "type": "numpy"}
    return said, gr.ImageEditor(label="Paint over the holes", elem_id="painter", **paint, **HIDDEN)


def choices() -> dict[str, Any]:
    """What is done about it, by the names of Wish."""
    solvers = [SUITS, *sorted(registry().names("solver"))]
    said = {"solvers": gr.Dropdown(solvers, value=[SUITS], multiselect=True, label="Solvers, compared", elem_id="solvers")}
    with gr.Accordion("More", open=False, elem_id="more"):
        priors = [SUITS, *sorted(registry().names("prior"))]
        said["prior"] = gr.Dropdown(priors, value=SUITS, label="Prior", elem_id="prior")
        said["noise"] = gr.Number(0, label="Noise, standard deviation for values of 0 to 1; 0: found", minimum=0, elem_id="noise")
        said["samples"] = gr.Slider(1, 8, 1, step=1, label="Samples: where they differ, the result is uncertain", elem_id="samples")
        label = "Only the square in the middle, pixels a side; 0: all of it"
        said["middle"] = gr.Number(0, label=label, minimum=0, precision=0, elem_id="middle")
        said["seed"] = gr.Number(0, label="Seed", precision=0, minimum=0)
    return said


def results() -> dict[str, Any]:
    """What is shown of the photograph and of the answers."""
    parts: dict[str, Any] = {
        "status": gr.HTML(sentence(ASKED), elem_id="said"),
        "found": gr.State([]),
        "shown": gr.Image(label="Photograph", interactive=False, format="png", height=420, buttons=["fullscreen"], elem_id="shown"),
        "slider": gr.ImageSlider(label="Compared", interactive=False, format="png", max_height=620, elem_id="slider", **HIDDEN),
    }
    with gr.Row(**HIDDEN) as parts["sides"]:
        parts["left"] = gr.Dropdown([MEASURED], value=MEASURED, label="Left", elem_id="left")
        parts["right"] = gr.Dropdown([MEASURED], value=MEASURED, label="Right", elem_id="right")
    parts["report"] = gr.HTML("", elem_id="report")
    parts["files"] = gr.Files(label="To take along", interactive=False, elem_id="files", **HIDDEN)
    return parts


def wire(desk: Desk, said: dict[str, Any], painter: Any, buttons: dict[str, Any], shown: dict[str, Any]) -> None:
    """What follows from what."""
    status, names, values = shown["status"], list(said), list(said.values())

    def turned(happened: str) -> dict[Any, Any]:
        needs = {said[name]: gr.update(visible=happened == need) for name, need in NEEDED.items()}
        return {**needs, painter: gr.update(visible=happened == "mask")}

    def opened(image: str | None) -> dict[Any, Any]:
        picture, word = desk.opened(image)
        canvas = None if picture is None else {"background": picture, "layers": [], "composite": None}
        seen = outputs(shown, []) | {shown["shown"]: gr.update(value=picture, visible=True)}
        return {**seen, painter: canvas, status: word}

    def restore(drawing: Any, *given: Any, progress: Any = gr.Progress()) -> Iterator[dict[Any, Any]]:  # noqa: B008 (found there)
        wish = Wish(**dict(zip(names, given, strict=True)))
        yield outputs(shown, []) | {status: sentence("Looking at the photograph.")}
        for word, found in desk.run(
            wish, (drawing or {}).get("layers") or (), lambda name, *steps: progress(steps, desc=name, unit="steps")
        ):
            yield outputs(shown, found) | {status: word}

    quietly: Any = {"show_progress": "hidden"}
    said["happened"].change(turned, said["happened"], [*(said[name] for name in NEEDED), painter], **quietly)
    said["image"].change(opened, said["image"], [painter, *shown.values()], **quietly)
    buttons["go"].click(restore, [painter, *values], list(shown.values()), concurrency_limit=1, show_progress_on=status)
    buttons["stop"].click(desk.stop, None, status, **quietly)
    for side in ("left", "right"):
        shown[side].input(pair, [shown["found"], shown["left"], shown["right"]], shown["slider"], **quietly)


def outputs(shown: dict[str, Any], found: list[Answer]) -> dict[Any, Any]:
    """All but the word, after so many answers: the last one beside the photograph."""
    names = list(pictures(found))
    last = next((one.name for one in reversed(found) if one.name in names), None)
    files, there = [str(path) for one in found for path in one.files], last is not None
    values = {
        "found": found,
        "shown": gr.update(visible=not there),
        "slider": gr.update(value=pair(found, MEASURED, last or ""), visible=there),
        "sides": gr.update(visible=there),
        "left": gr.update(choices=names or [MEASURED], value=MEASURED),
        "right": gr.update(choices=names or [MEASURED], value=last or MEASURED),
        "report": report(found),
        "files": gr.update(value=files, visible=bool(files)),
    }
    return {shown[name]: value for name, value in values.items()}

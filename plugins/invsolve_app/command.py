"""invsolve app: the page, served to this computer until Ctrl-C."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import click

NEEDS = "the page needs gradio, which is not installed: pip install 'invsolve[app]'"
HOST = "127.0.0.1"  # nobody else's computer
PORTS = range(7860, 7960)


@click.command(short_help="A web page for one photograph, on this computer.")
@click.option("--port", type=click.IntRange(1, 65535), help=f"Of the page; the first free one from {PORTS[0]} on unless said.")
@click.option("--open", "show", is_flag=True, help="Open the page in the browser, too.")
def app(port: int | None, show: bool) -> None:
    """Restore a photograph on a page in the browser: say what happened to it, compare solvers, see what is uncertain.

    The page is served to this computer alone and asks nothing of the network; what is put into it is deleted when it ends, by Ctrl-C.
    """
    library()
    with tempfile.TemporaryDirectory(prefix="invsolve_app_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # where gradio keeps what is uploaded and shown
        page, address = served(Path(folder), port, show)
        click.echo(f"the page is at {address} for this computer alone; Ctrl-C ends it")
        try:
            while True:
                time.sleep(0.2)
        except KeyboardInterrupt:
            click.echo("\nstopped; what was put into the page is deleted", err=True)
        finally:
            page.close(verbose=False)


def library() -> Any:
    """Gradio, told to report nothing.

    Raises:
        PluginError: it is not installed.
    """
    from invsolve.errors import PluginError

    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.filterwarnings("ignore", module="gradio")  # what it is to change in itself
    try:
        import gradio  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise PluginError(NEEDS) from error
    return gradio


def served(folder: Path, port: int | None = None, show: bool = False) -> tuple[Any, str]:
    """(the page, its address), served by a thread.

    Args:
        folder: where what is made is kept.
        port: None for a free one.
        show: open it in the browser.

    Raises:
        InputError: the port is taken.
    """
    from invsolve.errors import InputError
    from invsolve_app.page import CSS, SPOKEN, build, theme

    page = build(folder)
    try:
        _, address, _ = page.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            inbrowser=show,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            footer_links=[],
            theme=theme(),
            css=CSS,
            js=SPOKEN,
        )
    except OSError as error:
        raise InputError(f"no page at {f'port {port}' if port else 'any port'}: it is taken; another one is --port 8000") from error
    return page, address

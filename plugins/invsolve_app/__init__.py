"""A web page for one photograph, on this computer alone: `invsolve app`, with `pip install 'invsolve[app]'`.

Importing this module imports neither torch nor gradio.
"""

from typing import Any

from invsolve.plugins import hookimpl


@hookimpl
def invsolve_add_commands(commands: Any) -> None:
    """invsolve app."""
    from invsolve_app.command import app

    commands.add_command(app)

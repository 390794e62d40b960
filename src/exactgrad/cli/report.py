"""`exactgrad report`: the figures and the report of a run folder made anew, of what the run left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exactgrad import __version__
from exactgrad.core.system import get_system
from exactgrad.errors import InputError
from exactgrad.report import console


def report(
    folder: Annotated[Path, typer.Argument(help="The run folder.", metavar="DIR")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON on stdout, last.")] = False,
) -> None:
    """Make a run folder's figures and report.html anew; nothing else in it is touched."""
    from exactgrad.core.run_folder import system_of, write_report
    from exactgrad.files import hold_folder

    chosen = get_system(system_of(folder))
    if not chosen.report:
        raise InputError(f"{chosen.name}: runs of this system cannot be reported anew")
    with hold_folder(folder):
        pictures, html = chosen.load("report")(folder)  # all of it is made before any of it is written
        written = write_report(folder, pictures, html)
    message = f"{written[0]} and {len(pictures)} figures were made anew"
    console.say(message)
    if as_json:
        console.print_json(
            {
                "system": chosen.name,
                "command": "report",
                "version": __version__,
                "status": "ok",
                "message": message,
                "files": [path.resolve() for path in written],
            }
        )

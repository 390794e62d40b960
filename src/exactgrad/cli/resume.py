"""`exactgrad resume`: carry an unfinished run on; the system that made the folder does it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exactgrad.core.run_folder import system_of
from exactgrad.core.system import get_system
from exactgrad.report import console


def resume(
    folder: Annotated[Path, typer.Argument(help="The run folder.", metavar="DIR")],
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads; results do not depend on it.")
    ] = None,
    max_iterations: Annotated[int | None, typer.Option("--max-iterations", min=0, help="A new budget.")] = None,
    max_seconds: Annotated[
        float | None, typer.Option("--max-seconds", help="A new budget, s, old time included.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON on stdout, last.")] = False,
) -> None:
    """Carry an interrupted or budget-limited run on from its checkpoint."""
    from exactgrad.core.solve import exit_code

    carry_on = get_system(system_of(folder)).load("resume")
    overrides = {"max_iterations": max_iterations, "max_seconds": max_seconds}
    with console.Progress(lambda event: f"loss {event.best_loss:.6g}", quiet=as_json) as progress:
        summary = carry_on(folder, threads=threads, overrides=overrides, on_event=progress)
    console.say(f"{summary['status']}: {summary['message']}")
    if as_json:
        console.print_json(summary)
    raise typer.Exit(exit_code(summary))

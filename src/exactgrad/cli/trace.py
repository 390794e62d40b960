"""`exactgrad trace`: how a parameter reaches the result, and how the gradient comes back."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from exactgrad import __version__
from exactgrad.core.system import get_system
from exactgrad.errors import InputError
from exactgrad.report import console

if TYPE_CHECKING:
    from exactgrad.core.trace import Trace


def trace(
    system: Annotated[str, typer.Argument(help="A system's name.")],
    parameter: Annotated[str, typer.Argument(help="Any of a parameter's names; 'list' lists them.")],
    job: Annotated[Path | None, typer.Option("--job", help="A job file; without it the embedded example.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Write a page, its pictures beside it; must not exist.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a self-contained page for a browser; must not exist.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON on stdout, last.")] = False,
) -> None:
    """Walk the equations from a parameter to the loss and back, and say what its gradient means here."""
    chosen = get_system(system)
    if not chosen.trace:
        raise InputError(f"{chosen.name}: this system has no trace")
    if parameter == "list":
        for name in chosen.load("traced")():
            console.say(name)
        return
    from exactgrad.core import trace as tracing

    found = chosen.load("trace")(parameter, job)
    value = f"{found.value:.6g} {found.unit}".rstrip()
    console.say(f"{found.parameter}: {found.meaning}, here {value} ({found.example})")
    console.table(f"trace {chosen.name} {found.parameter}", tracing.COLUMNS, tracing.rows(found))
    for sentence in (*found.words, tracing.verdict(found)):
        console.say(sentence)
    if markdown is not None:
        _write_page(found, markdown)
    if html is not None:
        _write_html(found, html, job)
    if as_json:
        console.print_json(
            {
                "system": chosen.name,
                "command": "trace",
                "version": __version__,
                "status": "ok" if found.agrees else "failed",
                "message": tracing.verdict(found),
                "parameter": found.parameter,
                "unit": found.unit,
                "value": found.value,
                "loss": found.loss,
                "derivative": found.derivative,
                "backward": found.backward,
                "disagreement": found.disagreement,
                "off_kernel": found.off_kernel,
                "correlations": dict(found.correlations),
                "words": list(found.words),
                "stages": [dict(zip(tracing.COLUMNS, row, strict=True)) for row in tracing.rows(found)],
            }
        )
    if not found.agrees:
        raise typer.Exit(1)


def _write_html(found: Trace, path: Path, job: Path | None) -> None:
    from exactgrad.files import write_atomic
    from exactgrad.report import trace_page

    words = ["exactgrad", "trace", found.system, found.parameter, *(["--job", str(job)] if job else [])]
    write_atomic(path, trace_page.html(found, shlex.join(words)))


def _write_page(found: Trace, path: Path) -> None:
    from exactgrad.files import write_atomic
    from exactgrad.report import trace_page

    if path.exists():
        raise InputError(f"{path}: exists; nothing is overwritten")
    pictures = {picture.title: f"{path.stem}_{i + 1}.png" for i, picture in enumerate(found.pictures)}
    for picture in found.pictures:
        write_atomic(path.parent / pictures[picture.title], trace_page.draw(picture))
    write_atomic(path, trace_page.markdown(found, pictures))

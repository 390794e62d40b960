"""`exactgrad demo`: every system on its embedded example, and a page that leads to the reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from exactgrad.core.run_folder import REPORT
from exactgrad.core.system import System, find_systems
from exactgrad.errors import FolderInUse, InputError
from exactgrad.files import write_atomic
from exactgrad.report import console

SUBTITLE = (
    "Every system on its embedded example. A card opens the report, which holds its job and the command to repeat it."
)
MARKER = ".exactgrad-demo"  # says that the folder is ours to remove; the Makefile asks for it


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results; it must be new or empty.")] = Path("demo"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON on stdout, last.")] = False,
) -> None:
    """Run every system on its embedded example; writes pictures and reports."""
    from exactgrad.core.solve import exit_code

    _take_folder(out)
    systems = find_systems()
    summaries: dict[str, dict[str, Any]] = {}
    for name, system in systems.items():
        console.say(f"{name}: {system.title}")
        summaries[name] = system.load("demo")(out / name)
        if summaries[name]["status"] == "interrupted":
            raise typer.Exit(exit_code(summaries[name]))
    rows = [(name, s["headline"], s["message"], s["seconds"]) for name, s in summaries.items()]
    console.table("Demo", ("system", "result", "the search", "time (s)"), rows)
    index = out / "index.html"
    write_atomic(index, _index([_entry(systems[name], out, summary) for name, summary in summaries.items()]))
    console.say(f"open {index}")
    if as_json:
        console.print_json({"command": "demo", "status": "ok", "index": index.resolve(), "systems": summaries})


def _take_folder(folder: Path) -> None:
    """Make the folder ours, or refuse one that holds anything."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise FolderInUse(f"{folder}: not empty; choose another --out")
    except OSError as error:
        raise InputError(f"{folder}: cannot be used as output folder: {error.strerror or error}") from error
    write_atomic(folder / MARKER, "This folder was made by `exactgrad demo`; `make demo` may replace it.\n")


def _entry(system: System, out: Path, summary: dict[str, Any]) -> Any:
    from exactgrad.report.page import Entry

    picture = out / system.name / summary["picture"] if "picture" in summary else None
    return Entry(
        title=system.title[:1].upper() + system.title[1:],
        link=f"{system.name}/{REPORT}",
        text=f"{summary['headline']}; {summary['message']}",
        numbers=[
            ("Loss", float(f"{summary['loss']:.4g}"), "", ""),
            ("Evaluations", summary["evaluations"], "", ""),
            ("Time", round(summary["seconds"], 1), "s", ""),
        ],
        png=picture.read_bytes() if picture is not None and picture.is_file() else None,
    )


def _index(entries: list[Any]) -> str:
    from exactgrad.report.page import index_page

    return index_page(entries, title="exactgrad demo", subtitle=SUBTITLE)

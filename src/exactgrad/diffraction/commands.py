"""`exactgrad diffraction ...`: read what the user wrote, call what does the work, hand the results to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="diffraction",
    help="X-ray images of mosaic nanocrystals: simulate, predict, refine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, on one line, last on stdout.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Most threads; results do not depend on it.")]
JobFile = Annotated[Path, typer.Argument(metavar="JOB.toml", help="The job file.")]
Out = Annotated[Path, typer.Option("--out", help="Run folder; must not hold results.")]


@app.command()
def simulate(
    job: JobFile,
    out: Out,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Replaces noise.seed.")] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Simulate the images of a job and write its run folder: images, spots, figures, report."""
    from exactgrad.diffraction import simulate as simulating
    from exactgrad.report import console

    summary = simulating.simulate(job, out, threads, say=console.say, seed=seed)
    for warning in summary["warnings"]:
        console.warn(warning)
    for note in summary["notes"]:
        console.say(note)
    rows = [(row["name"], row["brightest"], row["mean"], row["photons"], row["spots"]) for row in summary["images"]]
    unit = summary["images"][0]["unit"]
    columns = ("image", f"brightest ({unit})", f"mean ({unit})", "photons", "spots")
    console.table(f"{summary['message']}, {summary['seconds']:.1f} s", columns, rows[:20])
    console.say(str(out / "report.html"))
    if as_json:
        console.print_json(summary)


@app.command()
def refine(
    job: JobFile,
    out: Out,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Replaces refine.seed.")] = None,
    max_iterations: Annotated[
        int | None, typer.Option("--max-iterations", min=0, help="Replaces refine.max_iterations.")
    ] = None,
    max_seconds: Annotated[float | None, typer.Option("--max-seconds", help="Replaces refine.max_seconds.")] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Refine cell, orientation, mosaicity, detector and more against images, with standard errors and correlations."""
    from exactgrad.core.solve import exit_code
    from exactgrad.diffraction import refine as refining
    from exactgrad.report.console import Progress

    overrides = {"seed": seed, "max_iterations": max_iterations, "max_seconds": max_seconds}
    with Progress(_describe, quiet=as_json) as progress:
        summary = refining.refine(job, out, overrides, threads, progress)
    show_refined(summary, out, as_json)
    raise typer.Exit(exit_code(summary))


@app.command()
def predict(
    job: JobFile,
    out: Annotated[Path | None, typer.Option("--out", help="CSV file to write; must not exist.")] = None,
    image: Annotated[int, typer.Option("--image", min=0, help="Which image of the job, from 0.")] = 0,
    least_excitation: Annotated[
        float | None, typer.Option("--least-excitation", help="Replaces output.least_excitation.")
    ] = None,
    rows: Annotated[int, typer.Option("--rows", min=0, help="So many are printed.")] = 20,
    as_json: Json = False,
) -> None:
    """Predict where reflections show, and how much of each is excited; nothing is rendered."""
    from exactgrad.diffraction.predict import predict_job
    from exactgrad.report import console

    summary = predict_job(job, out, image, least_excitation, rows)
    console.table(summary["message"], summary["columns"], summary["rows"])
    if as_json:
        console.print_json(summary)


def show_refined(summary: dict[str, Any], folder: Path, as_json: bool) -> None:
    """Print what a refinement came to."""
    from exactgrad.report import console

    for warning in summary["warnings"]:
        console.warn(warning)
    columns = ("name", "value", "esd", "unit", "start", "follows")
    rows = [tuple(row[key] for key in columns) for row in summary["parameters"]]
    console.table(f"{summary['message']}: {summary['headline']}", columns, rows)
    for line in summary["correlations"]:
        console.say(line)
    console.say(str(folder / "report.html"))
    if as_json:
        console.print_json(summary)


def _describe(event: Any) -> str:
    return f"loss {event.best_loss:.6g}"

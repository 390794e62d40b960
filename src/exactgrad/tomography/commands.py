"""`exactgrad tomography ...`: read what the user wrote, call what does the work, hand the results to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="tomography",
    help="SAXS tensor tomography: from projections to the axis of every voxel.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, on one line, last on stdout.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Most threads; results do not depend on it.")]
Data = Annotated[Path, typer.Argument(metavar="FILE", help="mumott or plain HDF5, or a table of NXazint2d files.")]
Q = Annotated[int | None, typer.Option("--q", min=0, help="Which q, from 0, where the file has several.")]


@app.command()
def simulate(
    job: Annotated[Path, typer.Argument(metavar="JOB.toml", help="Phantom, scan and flaws of the measurement.")],
    out: Annotated[Path, typer.Option("--out", help="The data file to write; must not exist.")],
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Simulate a measurement: a data file in mumott's format, with its truth."""
    from exactgrad.report import console
    from exactgrad.tomography import simulate as simulating

    summary = simulating.simulate(job, out, threads)
    console.say(f"{summary['message']}; {summary['voxels']} voxels, {summary['mean_counts']:.1f} counts on average")
    console.say(summary["file"])
    if as_json:
        console.print_json(summary)


@app.command()
def info(file: Data, q: Q = None, as_json: Json = False) -> None:
    """Show geometry, coverage, transmission and weights of a data file, and warn about what looks wrong."""
    from exactgrad.report import console
    from exactgrad.tomography import info as describing

    found = describing.describe(file, q)
    console.table(file.name, ("", "value"), describing.rows(found))
    for text in found["warnings"]:
        console.warn(text)
    if as_json:
        console.print_json(found)


@app.command()
def reconstruct(
    file: Data,
    out: Annotated[Path, typer.Option("--out", help="Run folder; must not hold results.")],
    job: Annotated[Path | None, typer.Option("--job", metavar="JOB.toml", help="How; all of it has defaults.")] = None,
    q: Annotated[
        str | None, typer.Option("--q", help="Which q, from 0, or all, where the file has several; replaces data.q.")
    ] = None,
    max_iterations: Annotated[
        int | None, typer.Option("--max-iterations", min=0, help="Replaces solve.max_iterations.")
    ] = None,
    max_seconds: Annotated[float | None, typer.Option("--max-seconds", help="Replaces solve.max_seconds.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Replaces solve.seed.")] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Reconstruct A, B and the axis of every voxel and write the run folder: result, errors, figures, report."""
    from exactgrad.core.solve import exit_code
    from exactgrad.report.console import Progress
    from exactgrad.tomography import reconstruct as reconstructing

    overrides = {"max_iterations": max_iterations, "max_seconds": max_seconds, "seed": seed}
    with Progress(_describe, quiet=as_json) as progress:
        summary = reconstructing.reconstruct(
            file, out, job=job, overrides=overrides, threads=threads, on_event=progress, q=_number(q)
        )
    show(summary, out, as_json)
    raise typer.Exit(exit_code(summary))


@app.command()
def evaluate(
    file: Data,
    parameters: Annotated[Path, typer.Option("--parameters", metavar="P.h5", help="A, B, theta_op, phi_op [x, y, z].")],
    gradient: Annotated[Path | None, typer.Option("--gradient", metavar="OUT.h5", help="Write the gradient.")] = None,
    e0: Annotated[float, typer.Option("--e0", help="Intensity added under both roots of the cost.")] = 0.0,
    q: Q = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Compute the cost of given parameters, and its exact gradient."""
    from exactgrad.report import console
    from exactgrad.tomography import evaluate as evaluating

    summary = evaluating.evaluate(file, parameters, gradient, e0, q, threads)
    for text in summary["warnings"]:
        console.warn(text)
    console.say(f"loss {summary['loss']:.12g} over {summary['values']} values, {summary['seconds']:.2f} s")
    if summary["gradient"] is not None:
        console.say(summary["gradient"])
    if as_json:
        console.print_json(summary)


@app.command()
def compare(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder, or a result.h5.")],
    truth: Annotated[Path, typer.Argument(metavar="TRUTH.h5", help="A, B and angles at the root or in /truth.")],
    as_json: Json = False,
) -> None:
    """Compare a reconstruction with a known truth, over the truth's support."""
    from exactgrad.report import console
    from exactgrad.tomography import compare as comparing

    summary = comparing.compare(folder, truth)
    console.table(f"{folder} and {truth.name}", ("", "value"), _comparison_rows(summary))
    if as_json:
        console.print_json(summary)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder, or a result.h5.")],
    to: Annotated[str, typer.Option("--to", help="vtk, xdmf or mumott.")],
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; by default in DIR.")] = None,
    as_json: Json = False,
) -> None:
    """Write a reconstruction for ParaView (vtk, xdmf) or as mumott's derived quantities."""
    from exactgrad.report import console
    from exactgrad.tomography import export as exporting

    summary = exporting.export(folder, to, out)
    for file in summary["files"]:
        console.say(file)
    if as_json:
        console.print_json(summary)


def show(summary: dict[str, Any], folder: Path, as_json: bool) -> None:
    """Print what a reconstruction came to."""
    from exactgrad.report import console

    for text in summary.get("warnings", []):
        console.warn(text)
    if "runs" in summary:
        from exactgrad.tomography import q_output

        console.table(summary["message"], [heading for heading, _, _ in q_output.COLUMNS], q_output.rows(summary))
    else:
        console.table(summary["message"], ("", "value"), _summary_rows(summary))
    console.say(str(folder / "report.html"))
    if as_json:
        console.print_json(summary)


def _number(q: str | None) -> int | str | None:
    return int(q) if q is not None and q.isdecimal() else q


def _summary_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    given = (
        ("voxels", "voxels", "{}"),
        ("loss", "loss", "{:.6g}"),
        ("reduced chi^2", "reduced_chi2", "{:.3f}"),
        ("axis error, median of the estimates", "sigma_axis_median_deg", "{:.2f} degrees"),
        ("iterations", "iterations", "{}"),
        ("time", "seconds", "{:.1f} s"),
    )
    return [(name, form.format(summary[key])) for name, key, form in given if summary.get(key) is not None]


def _comparison_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    given = (
        ("axis error, median", "axis_error_median_deg", "{:.3f} degrees"),
        ("axis error, mean", "axis_error_mean_deg", "{:.3f} degrees"),
        ("axis error, 95th percentile", "axis_error_p95_deg", "{:.3f} degrees"),
        ("wrong sign of B", "wrong_sign_fraction", "{:.2%}"),
        ("A, relative error", "relative_error_A", "{:.2%}"),
        ("B, median error", "B_error_median", "{:.3f}"),
        ("voxels lost", "lost_fraction", "{:.2%}"),
        ("voxels too many", "extra_fraction", "{:.2%}"),
        ("voxels of the truth", "voxels", "{}"),
    )
    return [(name, form.format(summary[key])) for name, key, form in given if summary[key] is not None]


def _describe(event: Any) -> str:
    return f"loss {event.best_loss:.6g}"

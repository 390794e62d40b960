"""`exactgrad pulse ...`: read what the user wrote, call the design, hand the results to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="pulse", help="Design, evaluate and convert rf pulses.", no_args_is_help=True, rich_markup_mode=None
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, on one line, last on stdout.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Most threads; results do not depend on it.")]
DurationUs = Annotated[
    float | None, typer.Option("--duration-us", help="Length in us, where the file does not say it.")
]
RfMaxHz = Annotated[
    float | None, typer.Option("--rf-max-hz", help="Amplitude at 100 % in Hz, where the file does not.")
]
PhaseSign = Annotated[int, typer.Option("--phase-sign", help="+1, or -1 for the opposite sense of phase.")]


@app.command()
def design(
    job: Annotated[Path, typer.Argument(metavar="JOB.toml", help="The job file.")],
    out: Annotated[Path, typer.Option("--out", help="Run folder; must not hold results.")],
    seed: Annotated[int | None, typer.Option("--seed", help="Replaces solve.seed.")] = None,
    starts: Annotated[int | None, typer.Option("--starts", help="Replaces solve.starts.")] = None,
    max_iterations: Annotated[
        int | None, typer.Option("--max-iterations", help="Replaces solve.max_iterations.")
    ] = None,
    max_seconds: Annotated[float | None, typer.Option("--max-seconds", help="Replaces solve.max_seconds.")] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Design a pulse and write its run folder: pulse files, certificate, figures, report."""
    from exactgrad.core.solve import exit_code
    from exactgrad.pulses import design as designing
    from exactgrad.report.console import Progress

    overrides = {"seed": seed, "starts": starts, "max_iterations": max_iterations, "max_seconds": max_seconds}
    with Progress(_describe, quiet=as_json) as progress:
        summary = designing.design(job, out, overrides, threads, progress)
    show(summary, out, as_json)
    raise typer.Exit(exit_code(summary))


@app.command()
def evaluate(
    shape: Annotated[Path, typer.Argument(metavar="SHAPE", help="A pulse file of any format.")],
    target: Annotated[str, typer.Option("--target", help="transfer:z,x  rotation:x,90  saturation:z  transverse:z")],
    bandwidth_hz: Annotated[float, typer.Option("--bandwidth-hz", help="Offsets from -half to +half of it.")] = 0.0,
    offsets: Annotated[int, typer.Option("--offsets", help="Number of offsets.")] = 1,
    b1_spread: Annotated[float, typer.Option("--b1-spread", help="B1 from 1 - spread to 1 + spread.")] = 0.0,
    b1_points: Annotated[int, typer.Option("--b1-points", help="Number of B1 points.")] = 1,
    duration_us: DurationUs = None,
    rf_max_hz: RfMaxHz = None,
    phase_sign: PhaseSign = 1,
    shape_format: Annotated[str | None, typer.Option("--format", help="The file's format, where in doubt.")] = None,
    t1_s: Annotated[float | None, typer.Option("--t1-s", help="Longitudinal relaxation time, s.")] = None,
    t2_s: Annotated[float | None, typer.Option("--t2-s", help="Transverse relaxation time, s.")] = None,
    as_json: Json = False,
) -> None:
    """Simulate a pulse file over offsets and B1, independently of the design kernel."""
    from exactgrad.pulses.evaluate import evaluate_file
    from exactgrad.report import console

    summary = evaluate_file(
        shape,
        target,
        {"bandwidth_hz": bandwidth_hz, "offsets": offsets, "b1_spread": b1_spread, "b1_points": b1_points},
        duration_us=duration_us,
        rf_max_hz=rf_max_hz,
        phase_sign=phase_sign,
        shape_format=shape_format,
        t1_s=t1_s,
        t2_s=t2_s,
    )
    for note in summary["notes"]:
        console.say(note)
    keys = ("quality", "quality_min", "quality_p01", "peak_hz", "rms_hz", "duration_us", "steps")
    console.table(f"{shape.name}: {target}", ("quantity", "value"), [(key, summary[key]) for key in keys])
    if as_json:
        console.print_json(summary)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A pulse file of any format.")],
    destination: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write; must not exist.")],
    to: Annotated[str | None, typer.Option("--to", help="Format of OUT; by default its suffix says it.")] = None,
    duration_us: DurationUs = None,
    rf_max_hz: RfMaxHz = None,
    phase_sign: PhaseSign = 1,
    shape_format: Annotated[str | None, typer.Option("--format", help="The format of IN, where in doubt.")] = None,
    as_json: Json = False,
) -> None:
    """Convert a pulse file; amplitudes in Hz and the length are kept. --phase-sign -1 turns the sense of phase."""
    from exactgrad.pulses.evaluate import convert_file
    from exactgrad.report import console

    summary = convert_file(source, destination, to, duration_us, rf_max_hz, phase_sign, shape_format)
    for note in summary["notes"]:
        console.say(note)
    console.say(f"{source} ({summary['from']}) -> {destination} ({summary['to']}), {summary['steps']} steps")
    if as_json:
        console.print_json(summary)


@app.command()
def paper(
    table: Annotated[str, typer.Argument(help="table7, table8, table9 or table6.")] = "table7",
    row: Annotated[int | None, typer.Option("--row", min=1, help="Only this row (numbered from 1).")] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Run the rows of Slad & Luy's tables: the paper's quality and time beside ours."""
    from exactgrad.pulses import paper as rows
    from exactgrad.report import console

    summary = rows.reproduce(table, row, threads, say=console.say)
    console.table(summary["title"], summary["columns"], summary["rows"])
    console.say(summary["message"])
    if as_json:
        console.print_json(summary)
    raise typer.Exit(0 if summary["status"] == "reached" else 1)


def show(summary: dict[str, Any], folder: Path, as_json: bool) -> None:
    """Print what a design came to."""
    from exactgrad.report import console

    for warning in summary["warnings"]:
        console.warn(warning)
    rows = [
        ("quality, training grid", f"{summary['quality']:.6f}", f"least {summary['quality_min']:.6f}"),
        ("quality, dense grid", f"{summary['quality_dense_mean']:.6f}", f"least {summary['quality_dense_min']:.6f}"),
        ("peak amplitude", f"{summary['peak_hz']:.1f} Hz", ""),
        ("rms amplitude", f"{summary['rms_hz']:.1f} Hz", ""),
        ("certificate error", f"{summary['certificate_error']:.1e}", "written file, re-simulated independently"),
        ("time", f"{summary['seconds']:.1f} s", f"{summary['iterations']} iterations"),
    ]
    console.table(summary["message"], ("", "value", ""), rows)
    for path in summary["pulse_files"]:
        console.say(path)
    console.say(str(folder / "report.html"))
    if as_json:
        console.print_json(summary)


def _describe(event: Any) -> str:
    return f"quality {1 - event.best_loss:.6f}"

"""One design from job to certified pulse file: search, files, certificate, figures, report.

A run folder holds job.toml, run.json (what resume needs), checkpoint.h5 while unfinished, result.h5, summary.json,
report.html, figures and the pulse files. Results of a finished run are never overwritten.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import exactgrad
from exactgrad.core import checkpoint
from exactgrad.core.run_folder import RESULT, RUN, Description, begun, job_text, leave, reopened, with_overrides
from exactgrad.core.solve import Budget, Event, Result, Search, ending, interruptible, run
from exactgrad.files import write_hdf5
from exactgrad.kernels.threads import available_threads
from exactgrad.pulses import output, presentation
from exactgrad.pulses.assemble import clip
from exactgrad.pulses.certificate import Dense, dense_grid, grid_warnings, qualities
from exactgrad.pulses.job import Job, blaming, check_job, read_job
from exactgrad.pulses.output import PulseFiles
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.pulse import Pulse
from exactgrad.pulses.search import refine_by_newton, refuse_too_large, stages_of, starting_vectors
from exactgrad.pulses.starts import KINDS

Listener = Callable[[Event], None]


def design(
    source: Any,
    folder: Path,
    overrides: dict[str, Any] | None = None,
    threads: int | None = None,
    on_event: Listener = lambda event: None,
) -> dict[str, Any]:
    """Design the pulse of a job and write its run folder.

    Parameters
    ----------
    source : path or dict
        The job.
    folder : Path
        The run folder; made if missing, refused if results or an unfinished run stand in it.
    overrides : dict, optional
        Keys of [solve] that a command line replaces: seed, starts, max_iterations, max_seconds.
    threads : int, optional
    on_event : callable
        Progress, from this thread.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    InputError
        For bad input; nothing was written then.
    """
    folder = Path(folder)
    job, base, text = read_job(source)
    name = "job" if isinstance(source, dict) else str(source)
    tables = job.model_dump(mode="json", exclude_unset=True)
    changed = with_overrides(tables, "solve", overrides)
    job = check_job(changed, name if changed is tables else "command line")
    with blaming(name):
        problem = PulseProblem(job, base, text=text)
        output.check_formats(job.output.formats)
        problem.start(job.solve.seed)  # a start file that cannot be read is told before anything is written
        refuse_too_large(problem)
    description = Description.of("pulses", "design", changed, base, _inputs(job), threads)
    written = [*(f"{name}.png" for name in presentation.FIGURES), *output.file_names(job)]
    with begun(folder, description, None if isinstance(source, dict) else text, written):
        return _carry_on(problem, folder, description, None, threads, on_event)


def resume(
    folder: Path,
    threads: int | None = None,
    overrides: dict[str, Any] | None = None,
    on_event: Listener = lambda event: None,
) -> dict[str, Any]:
    """Carry an unfinished design on from its checkpoint, bit for bit as if it had not been stopped.

    Parameters
    ----------
    folder : Path
        A run folder.
    threads : int, optional
        Does not change the result.
    overrides : dict, optional
        max_iterations or max_seconds, to give a run whose budget was used up a larger one.

    Returns
    -------
    dict
        The summary, as the run itself would have returned it.

    Raises
    ------
    InputError
        If there is no run in the folder, or it is finished.
    """
    folder = Path(folder)
    with reopened(folder, "design") as found:
        search = checkpoint.load(folder, _bound(found), Search.from_arrays)
        description = found.changed("solve", overrides)
        name = str(folder / RUN)
        job = check_job(description.job, name)
        with blaming(name):
            problem = PulseProblem(job, Path(description.base), text=job_text(folder, description))
        return _carry_on(problem, folder, description, search, threads or description.threads, on_event)


def _inputs(job: Job) -> list[str]:
    """Return the files that a job reads, by the names it gives them."""
    names = [job.ensemble.distribution, job.target.map, job.response.file if job.response else None]
    if job.solve.start not in KINDS:
        names.append(job.solve.start)
    return [name for name in names if name is not None]


def _bound(description: Description) -> str:
    return description.bound("solve")


def _carry_on(
    problem: PulseProblem,
    folder: Path,
    description: Description,
    search: Search | None,
    threads: int | None,
    on_event: Listener,
) -> dict[str, Any]:
    """Run the search (from its starts where there is no checkpoint) and write what it leaves behind."""
    bound, stages = _bound(description), stages_of(problem)
    solve = problem.job.solve
    budget = Budget(
        max_seconds=solve.max_seconds,
        tolerance=solve.tolerance,
        memory=solve.memory,
        halving=solve.halving,
        threads=threads,
    )
    with interruptible() as stop:
        result = run(
            stages,
            Search.begin(starting_vectors(stages, solve)) if search is None else search,
            budget,
            stop,
            on_event,
            on_checkpoint=lambda state: checkpoint.save(folder, state, bound),
        )
        more = ""
        if solve.method == "newton":
            result, more = refine_by_newton(problem, result, stop, threads)
        outcome = ending(result.status, stop, more)
        if outcome["status"] != "converged":
            checkpoint.save(folder, result.search, bound)
        summary = finish(problem, folder, description, result, outcome, threads)  # one signal does not cut it short
    if outcome["status"] == "converged":
        checkpoint.discard(folder)
    return summary


def finish(
    problem: PulseProblem,
    folder: Path,
    description: Description,
    result: Result,
    outcome: dict[str, str],
    threads: int | None,
) -> dict[str, Any]:
    """Write everything a run leaves behind, the summary last; return the summary."""
    pulse, values = played(problem, result.x)
    quality = float(np.sum(problem.weight * values))
    files = output.write_pulse_files(problem, pulse, quality, folder, overwrite=True)
    dense = dense_grid(problem, pulse)
    summary = {
        **description.head(),
        **outcome,
        **_numbers(problem, pulse, values, quality, dense, files, result),
        "engine": f"numba, float64, {threads or available_threads()} threads on {platform.machine()}",
    }
    write_hdf5(
        folder / RESULT,
        output.result_arrays(problem, result.x, pulse, values, dense, result.histories),
        {"schema": 1, "system": "pulses", "version": exactgrad.__version__},
        overwrite=True,
    )
    pictures = presentation.figures(problem, pulse, dense, result.histories) if problem.job.output.figures else {}
    html = presentation.report_html(problem, summary, pictures)
    leave(folder, summary, pictures, html)
    return summary


def played(problem: PulseProblem, x: np.ndarray) -> tuple[Pulse, np.ndarray]:
    """Return the pulse of x and the quality of every spin; what a penalty kind of limit let out is brought in first."""
    pulse = problem.pulse(x)
    if problem.job.limits.enforce != "penalty":
        return pulse, problem.qualities(x)
    pulse = Pulse(pulse.step_s, *clip(problem.job, problem.step_s, np.stack((pulse.ux_hz, pulse.uy_hz, pulse.uz_hz))))
    return pulse, qualities(pulse, problem.ensemble, problem.cost, problem.response)


def _numbers(
    problem: PulseProblem,
    pulse: Pulse,
    values: np.ndarray,
    quality: float,
    dense: Dense,
    files: PulseFiles,
    result: Result,
) -> dict[str, Any]:
    """Return the summary's own keys of a design."""
    error = files.certificate_error
    return {
        "headline": f"quality {quality:.5f}, worst on a dense grid {dense.least:.5f}, certificate error {error:.0e}",
        "seconds": round(result.seconds, 3),
        "evaluations": result.evaluations,
        "iterations": result.iterations,
        "loss": result.loss,
        "quality": quality,
        "quality_min": float(values[problem.weight > 0].min()),
        "quality_dense_mean": dense.mean,
        "quality_dense_min": dense.least,
        "quality_dense_p01": dense.percentile_1,
        "peak_hz": pulse.peak_hz,
        "rms_hz": pulse.rms_hz,
        "energy_hz2_s": pulse.energy_hz2_s,
        "duration_us": pulse.duration_s * 1e6,
        "steps": pulse.steps,
        "certificate_error": error,
        "pulse_files": [str(path.resolve()) for path in files.written],
        "files_refused": files.refused,
        "notes": files.notes,
        "warnings": [*grid_warnings(problem, pulse), *files.warnings],
        "start": result.start,
        "starts": problem.job.solve.starts,
        "seed": problem.job.solve.seed,
    }

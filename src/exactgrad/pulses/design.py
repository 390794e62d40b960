"""One design from job to certified pulse file: search, files, certificate, figures, report.

A run folder holds job.toml, run.json (what resume needs), checkpoint.h5 while unfinished, result.h5, summary.json,
report.html, figures and the pulse files. Results of a finished run are never overwritten.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import exactgrad
from exactgrad.core import checkpoint
from exactgrad.core.lbfgs import Status
from exactgrad.core.solve import Budget, Event, Result, Search, Stage, Stop, interruptible, run
from exactgrad.errors import FolderInUse, FormatError, InputError
from exactgrad.files import hold_folder, read_text, write_atomic, write_hdf5
from exactgrad.kernels.threads import available_threads
from exactgrad.pulses import output, presentation
from exactgrad.pulses.certificate import dense_grid, grid_warnings
from exactgrad.pulses.job import Job, blaming, check_job, read_job
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.pulse import Pulse
from exactgrad.pulses.starts import resample, vector_of

COARSE_STEPS_S = (50e-6, 10e-6)
COARSE_ITERATIONS = 500
NEWTON_ITERATIONS = 200
RUN, SUMMARY, RESULT, REPORT = "run.json", "summary.json", "result.h5", "report.html"

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
    changes = {key: value for key, value in (overrides or {}).items() if value is not None}
    tables = job.model_dump(mode="json", exclude_unset=True)
    tables["solve"] = {**tables.get("solve", {}), **changes}
    job = check_job(tables, "command line" if changes else name)
    with blaming(name):
        problem = PulseProblem(job, base, text=text)
        output.check_formats(job.output.formats)
        problem.start(job.solve.seed)  # a start file that cannot be read is told before anything is written
        _refuse_too_large(problem)
    _refuse_used(folder, problem)
    with hold_folder(folder):
        _refuse_used(folder, problem)
        description = {
            "system": "pulses",
            "command": "design",
            "version": exactgrad.__version__,
            "job": tables,
            "base": str(base.resolve()),
            "threads": threads,
        }
        if not isinstance(source, dict):
            write_atomic(folder / "job.toml", text, overwrite=True)
        write_atomic(folder / RUN, json.dumps(description, indent=1), overwrite=True)
        search = Search.begin(_starting_vectors(problem))
        return _carry_on(problem, folder, description, search, threads, on_event)


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

    Raises
    ------
    InputError
        If there is no run in the folder, or it is finished.
    """
    folder = Path(folder)
    description = _read_run(folder)
    with hold_folder(folder):
        finished = _summary(folder)
        if finished is not None and finished.get("status") == "converged":
            raise InputError(f"{folder}: this run is finished ({finished.get('message', '')})")
        bound = _bound_text(description)
        changes = {key: value for key, value in (overrides or {}).items() if value is not None}
        description["job"]["solve"] = {**description["job"].get("solve", {}), **changes}
        base = Path(description["base"])
        job = check_job(description["job"], str(folder / RUN))
        text = read_text(folder / "job.toml") if (folder / "job.toml").exists() else json.dumps(description["job"])
        with blaming(str(folder / RUN)):
            problem = PulseProblem(job, base, text=text)
        search = checkpoint.load(folder, bound)
        if search is None:
            search = Search.begin(_starting_vectors(problem))
        return _carry_on(problem, folder, description, search, threads or description["threads"], on_event)


def _carry_on(
    problem: PulseProblem, folder: Path, description: dict, search: Search, threads: int | None, on_event: Listener
) -> dict[str, Any]:
    bound = _bound_text(description)
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
            _stages(problem),
            search,
            budget,
            stop,
            on_event,
            on_checkpoint=lambda state: checkpoint.save(folder, state, bound),
        )
        result, outcome = _newton(problem, result, stop, threads) if solve.method == "newton" else _outcome(result)
        if outcome["status"] != "converged":
            checkpoint.save(folder, result.search, bound)
        if outcome["status"] == "interrupted":
            outcome["signal"] = signal.Signals(stop.signal).name if stop.signal is not None else "SIGINT"
        summary = finish(problem, folder, description, result, outcome, threads)  # one signal does not cut it short
    if outcome["status"] == "converged":
        checkpoint.discard(folder)
    return summary


def finish(
    problem: PulseProblem,
    folder: Path,
    description: dict,
    result: Result,
    outcome: dict[str, str],
    threads: int | None,
) -> dict[str, Any]:
    """Write everything a run leaves behind, the summary last; return the summary."""
    x = result.x
    pulse = within_limits(problem, problem.pulse(x))
    values = problem.qualities(x) if pulse is None else _qualities_of(problem, pulse)
    pulse = problem.pulse(x) if pulse is None else pulse
    quality = float(np.sum(problem.weight * values))
    plain = values[problem.weight > 0]
    files = output.write_pulse_files(problem, pulse, quality, folder, overwrite=True)
    dense = dense_grid(problem, pulse)
    warnings = [*grid_warnings(problem, pulse), *files.warnings]
    summary = {
        "system": "pulses",
        "command": description["command"],
        "version": exactgrad.__version__,
        **outcome,
        "seconds": round(result.seconds, 3),
        "evaluations": result.evaluations,
        "iterations": result.iterations,
        "loss": result.loss,
        "quality": quality,
        "quality_min": float(plain.min()),
        "quality_dense_mean": dense.mean,
        "quality_dense_min": dense.least,
        "quality_dense_p01": dense.percentile_1,
        "peak_hz": pulse.peak_hz,
        "rms_hz": pulse.rms_hz,
        "energy_hz2_s": pulse.energy_hz2_s,
        "duration_us": pulse.duration_s * 1e6,
        "steps": pulse.steps,
        "certificate_error": files.certificate_error,
        "pulse_files": [str(path.resolve()) for path in files.written],
        "files_refused": files.refused,
        "notes": files.notes,
        "warnings": warnings,
        "start": result.start,
        "starts": problem.job.solve.starts,
        "seed": problem.job.solve.seed,
        "engine": f"numba, float64, {threads or available_threads()} threads on {platform.machine()}",
    }
    write_hdf5(
        folder / RESULT,
        output.result_arrays(problem, x, pulse, values, dense, result.histories),
        {"schema": 1, "system": "pulses", "version": exactgrad.__version__},
        overwrite=True,
    )
    pictures = presentation.figures(problem, pulse, dense, result.histories) if problem.job.output.figures else {}
    for name, (_, png, _caption) in pictures.items():
        write_atomic(folder / f"{name}.png", png, overwrite=True)
    command = f"exactgrad pulse design job.toml --out DIR --seed {problem.job.solve.seed}"
    html = presentation.report_html(problem, summary, command, pictures)
    write_atomic(folder / REPORT, html, overwrite=True)
    write_atomic(folder / SUMMARY, json.dumps(summary, indent=1), overwrite=True)
    return summary


def within_limits(problem: PulseProblem, pulse: Pulse) -> Pulse | None:
    """Return the pulse scaled into its limits where a penalty kind of limit let it out, or None if it is inside."""
    limits = problem.job.limits
    if limits.enforce != "penalty":
        return None
    amplitude = pulse.amplitude_hz
    factor = np.ones(pulse.steps)
    if limits.peak_hz is not None:
        factor = np.minimum(1.0, np.asarray(limits.peak_hz) / np.maximum(amplitude, 1e-300))
    clipped = Pulse(pulse.step_s, factor * pulse.ux_hz, factor * pulse.uy_hz, pulse.uz_hz)
    bounds = [1.0]
    if limits.rms_hz is not None:
        bounds.append(limits.rms_hz / max(clipped.rms_hz, 1e-300))
    if limits.energy_hz2_s is not None:
        bounds.append(float(np.sqrt(limits.energy_hz2_s / max(clipped.energy_hz2_s, 1e-300))))
    return Pulse(pulse.step_s, min(bounds) * clipped.ux_hz, min(bounds) * clipped.uy_hz, pulse.uz_hz)


def _qualities_of(problem: PulseProblem, pulse: Pulse) -> np.ndarray:
    from exactgrad.pulses.certificate import qualities

    return qualities(pulse, problem.ensemble, problem.cost, problem.response)


def _starting_vectors(problem: PulseProblem) -> list[np.ndarray]:
    solve = problem.job.solve
    first = _stages(problem)[0].problem
    return [first.start(solve.seed + i) for i in range(solve.starts)]


def _stages(problem: PulseProblem) -> list[Stage]:
    """Return the search's stages: one, or 50 -> 10 us -> the job's own steps for coarse-to-fine starts."""
    most = problem.job.solve.max_iterations
    if problem.job.solve.start != "coarse":
        return [Stage(problem, most)]
    path = [coarse for step_s in COARSE_STEPS_S if (coarse := _coarser(problem, step_s)) is not None]
    stages = []
    for i, member in enumerate([*path, problem]):
        lift = _lift(path[i - 1], member) if i else np.copy
        stages.append(Stage(member, min(COARSE_ITERATIONS, most) if i < len(path) else most, lift))
    return stages


def _coarser(problem: PulseProblem, step_s: float) -> PulseProblem | None:
    """Return the same problem with steps joined to about `step_s`, or None where that would not be coarser."""
    job = problem.job
    group = round(step_s / float(np.median(problem.step_s)))
    while group > 1 and problem.steps % group:
        group -= 1
    if group < 2 or job.pulse.hold or isinstance(job.limits.peak_hz, list) or job.response is not None:
        return None
    steps_us = (problem.step_s.reshape(-1, group).sum(axis=1) * 1e6).tolist()
    pulse = job.pulse.model_copy(update={"steps_us": steps_us, "step_us": None, "duration_us": None})
    return PulseProblem(job.model_copy(update={"pulse": pulse}), problem.folder)


def _lift(coarse: PulseProblem, fine: PulseProblem) -> Callable[[np.ndarray], np.ndarray]:
    """Return the map of a coarse vector to the fine one that plays (nearly: see `vector_of`) the same pulse."""

    def lift(x: np.ndarray) -> np.ndarray:
        return vector_of(fine, resample(coarse.pulse(x), fine.step_s))

    return lift


def _outcome(result: Result, more: str = "") -> tuple[Result, dict[str, str]]:
    status = "interrupted" if result.status is Status.INTERRUPTED else "budget"
    return result, {"status": "converged" if result.status.converged else status, "message": result.status.value + more}


def _newton(problem: PulseProblem, result: Result, stop: Stop, threads: int | None) -> tuple[Result, dict[str, str]]:
    """Refine the best result by trust-region Newton with exact Hessian products."""
    from exactgrad.core.newton import newton

    if result.status in (Status.INTERRUPTED, Status.SECONDS):
        return _outcome(result)
    most, began = problem.job.solve.max_seconds, time.monotonic()

    def seconds() -> float:
        return result.seconds + time.monotonic() - began

    problem.limit_threads(threads)
    x, loss, status, iterations = newton(
        problem, result.x, NEWTON_ITERATIONS, lambda: bool(stop) or (most is not None and seconds() >= most)
    )
    if status is Status.INTERRUPTED and not stop:
        status = Status.SECONDS
    refined = replace(
        result, x=x, loss=loss, status=status, iterations=result.iterations + iterations, seconds=seconds()
    )
    return _outcome(refined, f" (Newton, {iterations} iterations after L-BFGS)")


def _bound_text(description: dict) -> str:
    """Return what a checkpoint is bound to: the job less its budgets."""
    job = {**description["job"], "solve": dict(description["job"].get("solve", {}))}
    for key in ("max_seconds", "max_iterations"):
        job["solve"].pop(key, None)
    job.pop("output", None)
    return json.dumps(job, sort_keys=True)


def _refuse_too_large(problem: PulseProblem) -> None:
    """Refuse a search whose states alone, with their copies for a checkpoint, do not fit into the memory."""
    solve = problem.job.solve
    needed = 8 * problem.size * solve.starts * (4 * (solve.memory + 1) + 4)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise InputError(
            f"solve.starts = {solve.starts}, solve.memory = {solve.memory}: the search would take "
            f"{needed / 1e9:.0f} GB of memory, this machine has {there / 1e9:.0f} GB; choose fewer"
        )


def _refuse_used(folder: Path, problem: PulseProblem) -> None:
    """Refuse a folder in which a run, or a file that this run would write, stands already."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file of this name exists; an output folder is needed")
    if (folder / SUMMARY).exists() or (folder / RESULT).exists():
        raise FolderInUse(f"{folder}: holds the results of a run; choose another --out (or `exactgrad resume` it)")
    if (folder / RUN).exists():
        raise FolderInUse(f"{folder}: holds an unfinished run; `exactgrad resume {folder}` carries it on")
    wanted = [
        REPORT,
        checkpoint.NAME,
        checkpoint.PREVIOUS,
        *(f"{name}.png" for name in presentation.FIGURES),
        *output.file_names(problem.job),
    ]
    for name in wanted:
        if (folder / name).exists():
            raise FolderInUse(f"{folder / name}: exists already and would be overwritten; choose another --out")
    own = folder / "job.toml"
    if own.exists() and read_text(own) != problem.text:
        raise FolderInUse(f"{own}: is another job; choose another --out")


def _read_run(folder: Path) -> dict[str, Any]:
    path = folder / RUN
    if not path.is_file():
        raise InputError(f"{folder}: no run to resume ({RUN} is missing)")
    try:
        description = json.loads(read_text(path))
        Job.model_validate(description["job"])
        for key, kind in (("command", str), ("base", str), ("threads", int | None)):
            if not isinstance(description[key], kind):
                raise TypeError
        return description
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FormatError(f"{path}: not the description of a run") from None


def _summary(folder: Path) -> dict[str, Any] | None:
    with contextlib.suppress(InputError, ValueError):
        content = json.loads(read_text(folder / SUMMARY))
        return content if isinstance(content, dict) else None
    return None

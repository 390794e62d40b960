"""`exactgrad verify`: is every gradient exact? A table for the user to see, and an exit code for CI."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer

from exactgrad import __version__
from exactgrad.core.system import find_systems, get_system, system_of_job
from exactgrad.errors import InputError
from exactgrad.report import console

CASES, JOB_CASES = 20, 2  # if not given: of a system, of a job


def verify(
    system: Annotated[str, typer.Argument(help="A system's name, or rotations; all of them if not given.")] = "",
    job: Annotated[
        Path | None,
        typer.Option("--job", help="Verify your own problem: a job file (its tables tell its system) or a run folder."),
    ] = None,
    cases: Annotated[
        int | None,
        typer.Option(
            "--cases", min=1, max=100_000, help=f"Random cases of each check ({CASES}; {JOB_CASES} of a job)."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of the random cases.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON on stdout, last.")] = False,
) -> None:
    """Check every gradient against independent references, and that planted bugs are caught."""
    from exactgrad.core.verify import COLUMNS, report_rows

    began, more = monotonic(), {}
    cases = cases or (CASES if job is None else JOB_CASES)
    if job is None:
        found = {name: checker(cases, seed) for name, checker in _checkers(system).items()}
    else:
        name, verified = _of_job(system, job, cases, seed)
        found, more = {name: verified.checks}, {"job": str(job), "subject": verified.subject}
        console.say(f"{job}: {verified.subject}")
    for name, checks in found.items():
        console.table(f"verify {name}", COLUMNS, report_rows(checks))
    every = [check for checks in found.values() for check in checks]
    passed = sum(check.passed for check in every)
    planted = sum(check.planted for check in every)
    caught = f"; {planted} of them are planted bugs, which must be caught" if planted else ""
    message = f"{passed} of {len(every)} checks passed{caught}"
    console.say(message)
    if as_json:
        console.print_json(
            {
                "system": next(iter(found)) if len(found) == 1 else "all",
                "command": "verify",
                "version": __version__,
                "status": "ok" if passed == len(every) else "failed",
                "message": message,
                "seconds": round(monotonic() - began, 3),
                "cases": cases,
                "seed": seed,
                **more,
                "checks": [{"system": name, **asdict(check)} for name, checks in found.items() for check in checks],
            }
        )
    if passed < len(every):
        raise typer.Exit(1)


def _of_job(system: str, job: Path, cases: int, seed: int) -> tuple[str, Any]:
    """Return the name of a job's system, and the job's own problem, verified."""
    chosen = get_system(system) if system else system_of_job(job)
    if not chosen.verify_job:
        raise InputError(f"{chosen.name}: jobs of this system cannot be verified")
    return chosen.name, chosen.load("verify_job")(job, cases, seed)


def _checkers(system: str) -> dict[str, Any]:
    """Return what is to be run, by name: one system's checks, the shared rotations', or all."""
    from exactgrad.core import verify_rotations

    if system == "rotations":
        return {system: verify_rotations.checks}
    if system:
        chosen = get_system(system)
        return {chosen.name: chosen.load("verify")}
    return {"rotations": verify_rotations.checks} | {s.name: s.load("verify") for s in find_systems().values()}

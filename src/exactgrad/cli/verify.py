"""`exactgrad verify`: is every gradient exact? A table for the user to see, and an exit code for CI."""

from __future__ import annotations

from dataclasses import asdict
from time import monotonic
from typing import Annotated, Any

import typer

from exactgrad import __version__
from exactgrad.core.system import find_systems, get_system
from exactgrad.report import console


def verify(
    system: Annotated[str, typer.Argument(help="A system's name, or rotations; all of them if not given.")] = "",
    cases: Annotated[int, typer.Option("--cases", min=1, max=100_000, help="Random cases of each check.")] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of the random cases.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON on stdout, last.")] = False,
) -> None:
    """Check every gradient against independent references, and that planted bugs are caught."""
    from exactgrad.core.verify import COLUMNS, report_rows

    began = monotonic()
    found = {name: checker(cases, seed) for name, checker in _checkers(system).items()}
    for name, checks in found.items():
        console.table(f"verify {name}", COLUMNS, report_rows(checks))
    every = [check for checks in found.values() for check in checks]
    passed = sum(check.passed for check in every)
    planted = sum(check.planted for check in every)
    message = f"{passed} of {len(every)} checks passed; {planted} of them are planted bugs, which must be caught"
    console.say(message)
    if as_json:
        console.print_json(
            {
                "system": next(iter(found)) if system else "all",
                "command": "verify",
                "version": __version__,
                "status": "ok" if passed == len(every) else "failed",
                "message": message,
                "seconds": round(monotonic() - began, 3),
                "cases": cases,
                "seed": seed,
                "checks": [{"system": name, **asdict(check)} for name, checks in found.items() for check in checks],
            }
        )
    if passed < len(every):
        raise typer.Exit(1)


def _checkers(system: str) -> dict[str, Any]:
    """Return what is to be run, by name: one system's checks, the shared rotations', or all."""
    from exactgrad.core import verify_rotations

    if system == "rotations":
        return {system: verify_rotations.checks}
    if system:
        chosen = get_system(system)
        return {chosen.name: chosen.load("verify")}
    return {"rotations": verify_rotations.checks} | {s.name: s.load("verify") for s in find_systems().values()}

"""`exactgrad verify`: is every gradient exact? A table for the user to see, and an exit code for CI."""

from __future__ import annotations

from time import monotonic
from typing import Annotated, Any

import typer

from exactgrad import __version__
from exactgrad.core.system import find_systems, get_system
from exactgrad.report import console


def verify(
    system: Annotated[str, typer.Argument(help="A system's name; all of them if not given.")] = "",
    cases: Annotated[int, typer.Option("--cases", min=1, max=100_000, help="Random cases of each check.")] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="Seed of the random cases.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON on stdout, last.")] = False,
) -> None:
    """Check every gradient against independent references; exit code 1 if one is not exact."""
    chosen = [get_system(system)] if system else list(find_systems().values())
    began = monotonic()
    found = {item.name: item.load("verify")(cases, seed) for item in chosen}
    for name, checks in found.items():
        show(name, checks)
    checks = [check for some in found.values() for check in some]
    failed = [check for check in checks if not check.passed]
    planted = sum(check.planted for check in checks)
    message = f"{len(checks) - len(failed)} of {len(checks)} checks passed; {planted} of them are bugs planted to be caught"
    console.say(message)
    if as_json:
        console.print_json(
            {
                "command": "verify",
                "version": __version__,
                "status": "failed" if failed else "ok",
                "message": message,
                "seconds": round(monotonic() - began, 3),
                "cases": cases,
                "seed": seed,
                "systems": {name: [as_dict(check) for check in some] for name, some in found.items()},
            }
        )
    if failed:
        raise typer.Exit(1)


COLUMNS = ("name", "reference", "error", "tolerance", "where", "passed", "planted", "note")


def as_dict(check: Any) -> dict[str, Any]:
    """Return a check as plain values."""
    return {column: getattr(check, column) for column in COLUMNS}


def show(system: str, checks: list[Any]) -> None:
    """Print a system's checks; a planted bug passes when it is caught."""
    rows = [
        (check.name, check.reference, check.error, check.tolerance, check.where, _verdict(check), check.note)
        for check in checks
    ]
    console.table(f"verify {system}", ("check", "against", "error", "tolerance", "worst at", "verdict", "note"), rows)


def _verdict(check: Any) -> str:
    if check.planted:
        return "caught" if check.passed else "MISSED"
    return "exact" if check.passed else "FAILED"

"""What a system says of itself, and how the house finds the systems: by folder, never by a list.

A system is a subpackage of `exactgrad` whose ``__init__`` holds a `SYSTEM`. The descriptor holds names and import
paths only ("package.module:attribute"), so that finding and describing systems loads no kernel.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from typing import Any

from exactgrad.errors import InputError


@dataclass(frozen=True)
class System:
    """The descriptor of a system.

    Attributes
    ----------
    name, title : str
        Folder name ("pulses") and one line for people.
    aliases : tuple of str
        Other names accepted on the command line ("pulse").
    commands : str
        Import path of its typer app.
    problems : str
        Import path of ``() -> dict[str, Problem]``: small seeded problems that together use every free parameter.
    verify : str
        Import path of ``(cases: int, seed: int) -> list[core.verify.Check]``, planted bugs included.
    demo : str
        Import path of ``(folder: Path) -> dict``: runs the embedded example, writes a run folder, returns its summary
        (whose "headline" says in one line how good the result is).
    resume : str
        Import path of ``(folder: Path) -> dict``: continues an unfinished run folder of this system.
    trace, traced : str
        Import paths of ``(parameter: str, job: Path | None) -> core.trace.Trace`` and of ``() -> tuple[str, ...]``, the
        names of all parameters that can be traced.
    """

    name: str
    title: str
    commands: str
    problems: str
    verify: str
    demo: str
    resume: str
    trace: str = ""
    traced: str = ""
    aliases: tuple[str, ...] = field(default=())

    def load(self, part: str) -> Any:
        """Import what the descriptor's field `part` points to."""
        module, _, attribute = getattr(self, part).partition(":")
        return getattr(importlib.import_module(module), attribute)


def find_systems() -> dict[str, System]:
    """Find every system of the installed package, by name, in alphabetical order.

    Examples
    --------
    >>> "pulses" in find_systems()
    True
    """
    import exactgrad

    found = {}
    for entry in sorted(pkgutil.iter_modules(exactgrad.__path__), key=lambda item: item.name):
        if entry.ispkg:
            system = getattr(importlib.import_module(f"exactgrad.{entry.name}"), "SYSTEM", None)
            if isinstance(system, System):
                found[system.name] = system
    return found


def get_system(name: str) -> System:
    """Return the system called `name` (or by an alias of it).

    Raises
    ------
    InputError
        If there is none; the message lists those there are.
    """
    systems = find_systems()
    for system in systems.values():
        if name in (system.name, *system.aliases):
            return system
    raise InputError(f"{name!r}: no such system; there are: {', '.join(systems)}")

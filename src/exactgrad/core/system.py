"""What a system says of itself, and how the house finds the systems: by folder, never by a list.

A system is a subpackage of `exactgrad` whose ``__init__`` holds a `SYSTEM`. The descriptor holds names and import
paths only ("package.module:attribute"), so that finding and describing systems loads no kernel.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from pathlib import Path
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
        (whose "headline" says in one line how good the result is, and whose "picture", if it has one, is the file that
        stands for it).
    resume : str
        Import path of ``(folder: Path) -> dict``: continues an unfinished run folder of this system.
    trace, traced : str
        Import paths of ``(parameter: str, job: Path | None) -> core.trace.Trace`` and of ``() -> tuple[str, ...]``, the
        names of all parameters that can be traced.
    jobs : tuple of str
        Import paths of its job files' models (`core.job_file.Table`); their tables tell its jobs from other systems'.
    verify_job : str
        Import path of ``(job: Path, cases: int, seed: int) -> core.verify.Verified``: a user's own problem, by its job
        file or its run folder.
    report : str
        Import path of ``(folder: Path) -> (Pictures, str)``: figures and report page of a run folder anew.
    parameters : str
        Import path of ``() -> tuple[str, ...]``: every quantity that has a derivative. For each, `verify` has a row
        called "gradient: " and its name.
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
    jobs: tuple[str, ...] = field(default=())
    verify_job: str = ""
    report: str = ""
    parameters: str = ""
    aliases: tuple[str, ...] = field(default=())

    def load(self, part: str) -> Any:
        """Import what the descriptor's field `part` points to."""
        return _imported(getattr(self, part))

    def job_tables(self) -> list[set[str]]:
        """Return the names of the tables of each kind of its job files."""
        return [set(_imported(path).key_names()) for path in self.jobs]


def _imported(path: str) -> Any:
    module, _, attribute = path.partition(":")
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


def system_of_job(path: Path) -> System:
    """Return the system whose job a TOML file is, the one that knows most of its tables; or that made a run folder.

    Raises
    ------
    InputError
        If the file cannot be read, no system knows any of its tables, or several know as many.
    """
    from exactgrad.core.job_file import read_tables
    from exactgrad.core.run_folder import system_of

    if path.is_dir():
        return get_system(system_of(path))
    tables = set(read_tables(path)[0])
    known = {
        system.name: max((len(tables & kind) for kind in system.job_tables()), default=0)
        for system in find_systems().values()
    }
    most = max(known.values(), default=0)
    found = [name for name, count in known.items() if count == most > 0]
    if len(found) == 1:
        return find_systems()[found[0]]
    which = f"may be a job of {' or '.join(found)}" if found else "a job of no system"
    raise InputError(f"{path}: {which} (its tables: {', '.join(sorted(tables))[:80] or 'none'}); name the system, too")

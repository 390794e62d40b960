"""docs/reference/commands.md: every command of `exactgrad` and every option, from the typer apps themselves."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.main import get_command

from exactgrad.cli.main import app
from exactgrad.core.system import find_systems
from generators.job_page import bound

WORDS = {int: "whole number", float: "number", str: "text", Path: "path"}

HEAD = """\
# Commands

<!-- Written by docs/generate.py from the commands themselves: do not edit by hand. -->

Prose, tables and progress go to stderr, `--json` prints one JSON object, on one line, last on stdout. Exit codes: 0 ok,
1 a check failed, 2 bad input (told in one line; nothing was written), 3 the iteration or time budget was used up
(results are written all the same), 130 and 143 interrupted (SIGINT, SIGTERM). `--debug`, anywhere in the line, shows
the traceback of an error. The other program, `nanobragg`, has [a page of its own](nanobragg.md).
"""


def page() -> str:
    """Return the page."""
    root: Any = get_command(app)
    parts = [HEAD, _section("exactgrad", root, 2)]
    with root.make_context("exactgrad", [], resilient_parsing=True) as context:
        names = root.list_commands(context)
        for name in sorted(names, key=lambda name: name in find_systems()):
            command = root.get_command(context, name)
            parts.append(_section(f"exactgrad {name}", command, 2))
            for child, item in getattr(command, "commands", {}).items():
                parts.append(_section(f"exactgrad {name} {child}", item, 3))
    return "\n".join(parts)


def _section(path: str, command: Any, depth: int) -> str:
    arguments = [item for item in command.params if item.param_type_name == "argument"]
    options = [item for item in command.params if item.param_type_name == "option"]
    is_group = bool(getattr(command, "commands", None))
    words = [_shown(item) for item in arguments] + ["[OPTIONS]"] * bool(options) + ["COMMAND ..."] * is_group
    alias = next((system.aliases for system in find_systems().values() if path == f"exactgrad {system.name}"), ())
    lines = [f"{'#' * depth} `{path}`", "", (command.help or "").strip()]
    if alias:
        lines += ["", f"Also `exactgrad {alias[0]}`."]
    lines += ["", "```text", " ".join([path, *words]), "```", ""]
    if arguments or options:
        lines += ["| | takes | default | what it is |", "|---|---|---|---|"]
        lines += [_row(command, item) for item in (*arguments, *options)]
        lines.append("")
    return "\n".join(lines)


def _shown(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _row(command: Any, item: Any) -> str:
    if item.param_type_name == "argument":
        name = f"`{item.metavar or item.name.upper()}`"
    else:
        name = ", ".join(f"`{word}`" for word in (*item.opts, *item.secondary_opts))
    default = item.default() if callable(item.default) else item.default
    if item.required:
        default = "needed"
    elif default in (None, "") or isinstance(default, bool):
        default = ""
    else:
        default = f"`{default}`"
    help_text = getattr(item, "help", None)
    if not help_text:
        raise SystemExit(f"docs/generators: {item.name}: an option without help")
    return (
        "| " + " | ".join(cell.replace("|", "\\|") for cell in (name, _takes(command, item), default, help_text)) + " |"
    )


def _takes(command: Any, item: Any) -> str:
    """Return what follows an option, from the annotation: it is the same in every version of typer."""
    annotated = get_type_hints(inspect.unwrap(command.callback), include_extras=True)[item.name]
    kinds = [kind for kind in get_args(get_args(annotated)[0]) or get_args(annotated) if kind is not type(None)]
    information = annotated.__metadata__[0]
    if kinds[0] is bool:
        return ""
    low, high = information.min, information.max
    bounds = [f"{sign} {bound(end)}" for sign, end in (("≥", low), ("≤", high)) if end is not None]
    return f"{WORDS[kinds[0]]} {', '.join(bounds)}".strip()

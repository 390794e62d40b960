"""The `exactgrad` command: the root's own commands, and those of every system that is installed.

A system's commands are imported when they are asked for, so that `exactgrad --help` loads no kernel. Errors become one
line on stderr and an exit code: 0 ok, 1 a check failed, 2 bad input, 3 the budget was used up, 130 and 143 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from exactgrad import __version__, errors
from exactgrad.cli import demo, info, report, resume, trace, verify
from exactgrad.core.system import System, find_systems
from exactgrad.report import console

# typer brings its own click, or imports the package; its public error leads to the base of either one's errors
COMMAND_LINE_ERROR = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
OPTIONAL = ("torch", "pypulseq", "hdf5plugin")
BROKEN_PIPE, INTERRUPTED = 141, 130  # 128 + SIGPIPE, 128 + SIGINT


class Commands(TyperGroup):
    """The root group: its own commands, and one group a system, imported on demand."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the systems, then the root's own commands."""
        return [*find_systems(), *self.commands]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a root command, or import the commands of the system of this name or alias."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        system = _system(cmd_name)
        if system is None:
            return None
        group = get_group(system.load("commands"))
        group.name = cmd_name
        return group

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the help's lists; a system's line is its title, so that none is imported."""
        rows = [(system.name, system.title) for system in find_systems().values()]
        with formatter.section("Systems"):
            formatter.write_dl(rows)
        with formatter.section("Commands"):
            formatter.write_dl([(name, item.get_short_help_str(100)) for name, item in self.commands.items()])


def _system(name: str) -> System | None:
    return next((item for item in find_systems().values() if name in (item.name, *item.aliases)), None)


app = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("verify")(verify.verify)
app.command("trace")(trace.trace)
app.command("resume")(resume.resume)
app.command("report")(report.report)
app.command("info")(info.info)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"exactgrad {__version__}")
        for line in _about():
            typer.echo(line)
        raise typer.Exit()


def _about() -> list[str]:
    """Say what computes here: versions are read from the installed packages' records, so that nothing is loaded."""
    from importlib.metadata import PackageNotFoundError, version
    from platform import machine, python_version

    from exactgrad.kernels.threads import available_threads

    def of(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    machine_is = f"{available_threads()} threads on {machine()}, Python {python_version()}"
    return [
        f"engine: numba {of('numba')}, float64, {machine_is}",
        f"optional parts: {', '.join(f'{name} {of(name)}' for name in OPTIONAL)}",
    ]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (anywhere in the line).")
    ] = False,
) -> None:
    """Exact gradients for instruments that are rotations seen through a detector."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows the program's name; ``sys.argv[1:]`` if not given.

    Examples
    --------
    >>> main(["no-such-command"])
    2
    """
    words, debug = _take_debug(list(sys.argv[1:] if arguments is None else arguments))
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit must not fail again
        return BROKEN_PIPE
    except (Exception, KeyboardInterrupt) as error:
        code, line = explain(error)
        if debug:
            import traceback

            console.say(traceback.format_exc())
        console.print_error(line)
        return code


def _take_debug(words: list[str]) -> tuple[list[str], bool]:
    """Take --debug out of the words, wherever it stands before a bare ``--``."""
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--debug"]
    return kept + words[end:], len(kept) < end


def _run(words: list[str]) -> int:
    command: Any = get_command(app)
    try:
        with command.make_context("exactgrad", words) as context:
            command.invoke(context)
    except typer.Exit as leave:
        return leave.exit_code
    return 0


def explain(error: BaseException) -> tuple[int, str]:
    """Return the exit code of an error and the line that tells it.

    Examples
    --------
    >>> from exactgrad.errors import InputError
    >>> explain(InputError("pulse.step_us = -1 us: must be > 0 us"))
    (2, 'pulse.step_us = -1 us: must be > 0 us')
    """
    if isinstance(error, COMMAND_LINE_ERROR):
        return 2, _usage(error)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return INTERRUPTED, "interrupted"
    bug = f"internal error, please report it with what --debug shows: {type(error).__name__}: {error}"
    return errors.explain(error) or (1, bug)


def _usage(error: Any) -> str:
    """Return a usage error as one sentence that ends with where to look."""
    context = getattr(error, "ctx", None)
    if context is None:
        return error.format_message()
    # a group without a command raises its whole help page as the message
    message = (
        "a command is needed" if type(error).__name__ == "NoArgsIsHelpError" else error.format_message().rstrip(".")
    )
    return f"{message} (see `{context.command_path} --help`)"


if __name__ == "__main__":
    sys.exit(main())

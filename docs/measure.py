"""Run the benchmarks whose tables stand in docs/performance.md, and put the new tables there: `make performance`.

    python docs/measure.py [WORD ...]

A table stands between `<!-- measured: benchmarks/FILE.py ARGUMENTS -->` and `<!-- /measured -->`; what is between them
is replaced by the tables that this command prints, with machine, load, versions and date. With words, only sections
whose command holds one of them are measured.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER / "performance.md"
SECTION = re.compile(r"(<!-- measured: (\S+\.py)([^>]*?) -->\n).*?(<!-- /measured -->)", re.DOTALL)
PACKAGES = ("numpy", "scipy", "numba")
# NumPy, SciPy and JAX on one thread: they read this when they are loaded.
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}
# The console's tables, kept as they are printed; `table` is replaced before the benchmark takes it.
RECORDER = """
import json, runpy, sys
from exactgrad.report import console
found, show = [], console.table
def table(title, columns, rows):
    cells = console.checked_rows(columns, rows)
    right = console.number_columns(len(columns), cells)
    found.append((title, list(columns), [[console.cell_text(cell) for cell in row] for row in cells], list(right)))
    show(title, columns, rows if isinstance(rows, (list, tuple)) else cells)
console.table = table
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    if end.code:
        raise
print(json.dumps(found))
"""


def measured(text: str, words: Sequence[str] = (), root: Path = FOLDER.parent) -> str:
    """Return a page's text with its sections measured anew."""

    def anew(found: re.Match[str]) -> str:
        command = f"{found[2]}{found[3]}"
        if words and not any(word in command for word in words):
            return found[0]
        return f"{found[1]}{section(command, root)}{found[4]}"

    return SECTION.sub(anew, text)


def section(command: str, root: Path) -> str:
    """Run a benchmark; return its tables as Markdown, with what they were measured on and with."""
    before = os.getloadavg()[0]
    done = subprocess.run(  # noqa: S603 - the commands stand in our own page
        [sys.executable, "-c", RECORDER, *command.split()],
        cwd=root,
        env={**os.environ, **ONE_THREAD},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    tables = json.loads(done.stdout.splitlines()[-1])
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    about = (
        f"{datetime.date.today().isoformat()}, {processor()}, {os.cpu_count()} cores, load average {before:.1f} before "
        f"and {os.getloadavg()[0]:.1f} after; Python {platform.python_version()}, {versions}."
    )
    return "\n".join([f"`python {command}`: {about}", "", *(line for table in tables for line in markdown(*table))])


def markdown(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Return the lines of a table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "".join("---:|" if r else "---|" for r in right)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [f"**{title}**", "", *lines, ""]


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    PAGE.write_text(measured(PAGE.read_text(encoding="utf-8"), sys.argv[1:]), encoding="utf-8")

"""What a document shows is run: its blocks, one after the other, in one folder a document.

toml     whose first line is "# NAME.toml": written as that file; any other is for the eye
python   run, all of a document's in one interpreter, so that a block sees the names of those before it
console  "$ COMMAND" lines are run; what follows each is compared with what it printed, "..." standing for anything and
         any white space for any other. A line "$ echo $?" tells the exit code of the command before it; without one
         that must be 0.
bash     run; the exit code must be 0, what it prints is not compared
Other blocks (`sh`, `text`) are for the eye.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
KINDS = ("toml", "python", "console", "bash")
SECONDS = 300
FIRST_USE = re.compile(r"^compiling kernels for this machine.*\n", re.MULTILINE)  # not so at the reader's second
INTERPRETER = """
import json, sys
names = {"__name__": "__main__"}
for line in sys.stdin:
    exec(compile(json.loads(line), "a block of the document", "exec"), names)
    print("\\0", flush=True)
"""


class Broken(AssertionError):
    """What a document shows is not so."""


def blocks(text: str) -> list[tuple[str, str]]:
    """Return (kind, text) of the blocks that are run, those within lists without their indent."""
    found = []
    for indent, kind, body in BLOCK.findall(text):
        if kind in KINDS:
            found.append((kind, "\n".join(line.removeprefix(indent) for line in body.split("\n"))))
    return found


def commands(body: str) -> Iterator[tuple[str, str]]:
    """Yield (command, what is shown of its output) of a transcript; a command goes on after a backslash."""
    command, shown, open_line = None, [], False
    for line in body.splitlines():
        if open_line:
            command = f"{command}\n{line.removeprefix('> ')}"
        elif line.startswith("$ "):
            if command is not None:
                yield command, "".join(shown)
            command, shown = line[2:], []
        elif command is None:
            raise Broken(f"a transcript begins with '$ ', not {line!r}")
        else:
            shown.append(line + "\n")
            continue
        open_line = command.endswith("\\")
    if command is not None:
        yield command, "".join(shown)


def differs(shown: str, printed: str) -> bool:
    """Return whether a transcript shows something else than what was printed."""
    want, got = (" ".join(text.split()) for text in (re.sub(r"\s*\.\.\.\s*", "...", shown), printed))
    return not OutputChecker().check_output(want, got, ELLIPSIS)


class Runner:
    """Runs a document's blocks in a folder."""

    def __init__(self, folder: Path):
        scripts = Path(sys.executable).parent
        self.folder, self.code, self.python = folder, 0, None
        self.environment = {
            **os.environ,
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "120",
            "NO_COLOR": "1",
            "TERM": "dumb",
        }

    def run(self, text: str) -> None:
        """Run all blocks of a document's text; raises `Broken`."""
        try:
            for kind, body in blocks(text):
                getattr(self, f"_{kind}")(body)
        finally:
            if self.python is not None:
                self.python.kill()
                self.python.communicate()

    def _toml(self, body: str) -> None:
        name = re.match(r"# ([\w-]+\.toml)\n", body)
        if name:
            (self.folder / name[1]).write_text(body)

    def _bash(self, body: str) -> None:
        code, printed = self._shell(body, "-euo", "pipefail")
        if code:
            raise Broken(f"{body}\nexit code {code}\n{printed}")

    def _console(self, body: str) -> None:
        steps = list(commands(body))
        for i, (command, shown) in enumerate(steps):
            code, printed = self._shell(f"(exit {self.code})\n{command}", "-o", "pipefail")
            told = i + 1 < len(steps) and steps[i + 1][0] == "echo $?"
            if code and not told:
                raise Broken(f"$ {command}\nexit code {code}\n{printed}")
            if differs(shown, printed):
                raise Broken(f"$ {command}\nshown:\n{shown}\nprinted:\n{printed}")
            self.code = code

    def _shell(self, text: str, *options: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", *options, "-c", text],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        return done.returncode, FIRST_USE.sub("", done.stdout)

    def _python(self, body: str) -> None:
        if self.python is None:
            self.python = subprocess.Popen(
                [sys.executable, "-c", INTERPRETER],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.python.stdin.write(json.dumps(body) + "\n")
        self.python.stdin.flush()
        printed = []
        while (line := self.python.stdout.readline()) != "\0\n":
            if not line:
                raise Broken(f"{body}\n{''.join(printed)}")
            printed.append(line)

"""The rules of the house that no single room can keep: imports, printing, sizes, one truth."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import exactgrad

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MOST_BYTES = 1_000_000


def tracked():
    """Return the files that git tracks, or would once they are added."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files are tracked is not known")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def calls(path):
    """Yield (line, dotted name) of every call of a name or attribute."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield node.lineno, ast.unparse(node.func)


def imports(path):
    """Yield (line, module) of every import, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module


def found(rule):
    """Return what breaks a rule as readable places."""
    return [f"{path.relative_to(ROOT)}:{line} {what}" for path in SOURCES for line, what in rule(path)]


def test_the_searches_below_see_what_they_look_for(tmp_path):
    path = tmp_path / "planted.py"
    path.write_text("def f(x):\n    import pickle\n    from socket import socket\n    print(eval(x))\n    np.load(x)\n")
    assert set(calls(path)) == {(4, "print"), (4, "eval"), (5, "np.load")}
    assert set(imports(path)) == {(2, "pickle"), (3, "socket")}


def test_each_room_imports_only_from_its_left():
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_system_imports_another_and_no_room_names_one():
    systems = {path.parent.name for path in SOURCES if re.search(r"^SYSTEM\b", path.read_text(), re.MULTILINE)}
    assert "pulses" in systems
    for path in SOURCES:
        room = path.relative_to(ROOT / "src" / "exactgrad").parts[0]
        for line, module in imports(path):
            parts = module.split(".")
            if parts[0] == "exactgrad" and len(parts) > 1 and parts[1] in systems:
                assert parts[1] == room, f"{path}:{line} imports {module}"


def test_nothing_runs_text_or_reads_pickles():
    forbidden = {"eval", "exec", "__import__", "os.system", "os.popen"}
    modules = {"pickle", "cPickle", "dill", "marshal", "shelve", "urllib.request", "socket", "requests", "http.client"}
    assert not found(lambda path: [(line, name) for line, name in calls(path) if name in forbidden])
    assert not found(lambda path: [(line, name) for line, name in imports(path) if name in modules])
    loads = found(lambda path: [(line, name) for line, name in calls(path) if name in ("np.load", "numpy.load")])
    assert not loads, "np.load can read pickles"


def test_only_the_console_prints():
    console = ROOT / "src" / "exactgrad" / "report" / "console.py"
    names = {"print", "sys.stdout.write", "sys.stderr.write"}
    places = found(lambda path: [(n, name) for n, name in calls(path) if name in names and path != console])
    assert not places


def test_only_report_and_figures_draw():
    for path in SOURCES:
        draws = any(module.split(".")[0] == "matplotlib" for _, module in imports(path))
        assert not draws or path.parent.name == "report" or path.name == "figures.py", path


def test_no_large_file_is_tracked():
    assert [(str(path), path.stat().st_size) for path in tracked() if path.stat().st_size > MOST_BYTES] == []


def test_no_file_names_the_machine_it_was_written_on():
    names = ["/" + "work/", "/" + "tmp/", "shared/" + "facts", "shared/" + "seeds"]
    for path in tracked():
        if path.suffix in (".py", ".md", ".toml", ".yml", ".cfg", "") and path.is_file():
            text = path.read_text(errors="replace")
            assert not [name for name in names if name in text], path


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"] and "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "exactgrad.__version__"}
    literal = [
        path for path in SOURCES if re.search(rf"['\"]{re.escape(exactgrad.__version__)}['\"]", path.read_text())
    ]
    assert [path.relative_to(ROOT / "src") for path in literal] == [Path("exactgrad/__init__.py")]


def test_the_changelog_begins_with_this_version():
    first = re.search(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None and first[1] in (exactgrad.__version__, "Unreleased")


def test_ci_runs_what_the_readme_says():
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"make {target}" in readme and re.search(rf"^{target}:", makefile, re.MULTILINE)
    run = ROOT / ".ci" / "run"
    assert "make test" in run.read_text() and os.access(run, os.X_OK)


def test_make_demo_replaces_only_its_own_folder(tmp_path):
    command = ["make", "-s", "-f", str(ROOT / "Makefile"), "remove-demo", "DEMO=out"]
    folder = tmp_path / "out"
    assert subprocess.run(command, cwd=tmp_path).returncode == 0  # nothing there
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0 and "was not made by exactgrad demo" in done.stderr
    assert (folder / "thesis.txt").exists()
    (folder / ".exactgrad-demo").write_text("")
    assert subprocess.run(command, cwd=tmp_path).returncode == 0
    assert not folder.exists()

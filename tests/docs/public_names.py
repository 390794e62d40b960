"""What is public, and what its documentation must say.

Public are the names in `__all__` of the packages, whatever a page of docs/reference names, and the public members of
both. A docstring says every parameter or field by its name (that of the class or the module may do so for it; a single
parameter, and a word of the house, need no name), what is returned, and what is raised, if the code itself raises an
error of ours or calls a check that does.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import exactgrad

ROOT = Path(__file__).resolve().parents[2]
HOUSE = {  # said once, in docs/reference
    "x", "v", "g", "t", "q",  # a solver's vector, a direction, a cotangent, a rotation vector, a quaternion
    "problem", "name", "path", "folder", "threads", "seed", "tolerance", "overwrite", "on_event",
}  # fmt: skip
COMPONENT = re.compile("[a-z][wxyz]")  # tx, ty, tz of a vector t
NUMBERS = re.compile(r"ndarray|float|int\b|str\b|dict|tuple|list")  # what has a shape, a unit or keys
RETURNS = re.compile(r"\b([Rr]eturns?|Yield|Find|Read|Simulate|Compute)\b")
RAISING = re.compile(r"\braise \w*(Error|File)\b|\brequire_\w+\(")


def named_on_pages() -> dict[str, Any]:
    """Return what the pages of docs/reference name, by path."""
    found = {}
    for page in sorted((ROOT / "docs" / "reference").glob("*.md")):
        for path in re.findall(r"^::: ([\w.]+)", page.read_text(), re.MULTILINE):
            found[path] = _resolve(path)
    return found


def _resolve(path: str) -> Any:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        owner, _, name = path.rpartition(".")
        return getattr(_resolve(owner), name)


def in_all() -> dict[str, Any]:
    """Return the names in `__all__` of every package, by path; constants and descriptors are left out."""
    found = {}
    for path in sorted(Path(exactgrad.__file__).parent.rglob("__init__.py")):
        parts = path.parent.relative_to(Path(exactgrad.__file__).parent).parts
        package = importlib.import_module(".".join(("exactgrad", *parts)))
        for name in getattr(package, "__all__", ()):
            item = getattr(package, name)
            if inspect.isclass(item) or inspect.isfunction(item):
                found[f"{package.__name__}.{name}"] = item
    return found


def public() -> dict[str, tuple[Any, str]]:
    """Return every public class and function with its class's docstring (empty, if none), by path."""
    found: dict[str, tuple[Any, str]] = {}
    for path, item in {**in_all(), **named_on_pages()}.items():
        members = _of_module(item) if isinstance(item, ModuleType) else [(path, item)]
        for name, member in members:
            found[name] = (member, "")
            if inspect.isclass(member):
                found |= {f"{name}.{key}": (value, inspect.getdoc(member) or "") for key, value in _of_class(member)}
    return found


def _of_module(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name, item in vars(module).items():
        own = not name.startswith("_") and getattr(item, "__module__", "") == module.__name__
        if own and (inspect.isclass(item) or inspect.isfunction(item)):
            yield f"{module.__name__}.{name}", item


def _of_class(kind: type) -> Iterator[tuple[str, Any]]:
    for name, item in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(item, classmethod | staticmethod):
            item = item.__func__
        if isinstance(item, property) or hasattr(item, "func"):
            item = getattr(item, "fget", None) or item.func
            if inspect.getdoc(item) is None:
                yield name, item
        elif inspect.isfunction(item):
            yield name, item


def lacks(item: Any, of_class: str = "") -> list[str]:
    """Return what a docstring lacks."""
    text = inspect.getdoc(item)
    if not text:
        return ["a docstring"]
    module = inspect.getmodule(item)
    around = f"{of_class} {inspect.getdoc(module) or ''} {_protocol(module, item)}"
    if inspect.isclass(item):
        around += " ".join(inspect.getdoc(kind) or "" for kind in item.__mro__[1:-1])
        said = set(re.findall(r"\w+", text + around)) | HOUSE
        return [name for name in _fields(item) if name not in said]
    said, missing = set(re.findall(r"\w+", text + around)) | HOUSE, []
    signature = inspect.signature(item)
    if NUMBERS.search(str(signature.return_annotation)) and not RETURNS.search(text):
        missing.append("what is returned")
    if RAISING.search(inspect.getsource(item)) and not re.search(r"[Rr]aise", text + around):
        missing.append("what is raised")
    names = [name for name in signature.parameters if name not in ("self", "cls") and not name.startswith("_")]
    if len(names) > 1:
        missing += [name for name in names if name not in said and not COMPONENT.fullmatch(name)]
    return missing


def _protocol(module: ModuleType | None, item: Any) -> str:
    """Return what a protocol of the same module says of a method of this name."""
    kinds = [kind for kind in vars(module).values() if getattr(kind, "_is_protocol", False)]
    methods = [getattr(kind, item.__name__, None) for kind in kinds]
    return " ".join(inspect.getdoc(method) or "" for method in methods if inspect.isfunction(method))


def _fields(kind: type) -> list[str]:
    if issubclass(kind, BaseException | enum.Enum) or getattr(kind, "_is_protocol", False):
        return []
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind) if not field.name.startswith("_")]
    try:
        return [name for name in inspect.signature(kind).parameters if not name.startswith("_")]
    except ValueError:
        return []

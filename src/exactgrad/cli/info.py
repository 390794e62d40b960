"""`exactgrad info`: what a file or folder is, without running anything that it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from exactgrad.core.run_folder import RUN, SUMMARY, read_object
from exactgrad.errors import FormatError, InputError
from exactgrad.files import open_guarded
from exactgrad.report import console

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
MOST_ATTRIBUTE_VALUES = 64


def info(
    path: Annotated[Path, typer.Argument(help="A run folder, a checkpoint or result (HDF5), or a summary (JSON).")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON on stdout, last.")] = False,
) -> None:
    """Say what a run folder, an HDF5 file or a summary holds."""
    found = describe(path)
    datasets = found.get("datasets", [])
    rows = [(key, _short(value)) for key, value in found["content"].items()]
    console.table(f"{path}: {found['kind']}", ("key", "value"), rows)
    if datasets:
        console.table(
            "", ("dataset", "shape", "type"), [(d["name"], str(tuple(d["shape"])), d["type"]) for d in datasets]
        )
    if as_json:
        console.print_json({"command": "info", "path": str(path), **found})


def describe(path: Path) -> dict[str, Any]:
    """Return the kind of a file or folder ("run", "unfinished run", "HDF5", "JSON") and its content.

    Raises
    ------
    InputError
        If it is none of these; `FormatError` or `RefusedFile` if it is one and is damaged or harmful.
    """
    if path.is_dir():
        for name, kind in ((SUMMARY, "run"), (RUN, "unfinished run")):
            if (path / name).is_file():
                return {"kind": kind, "content": read_object(path / name)}
        raise InputError(f"{path}: not a run folder ({SUMMARY} and {RUN} are missing)")
    if path.is_file() and _starts_with(path, HDF5_SIGNATURE):
        return _describe_hdf5(path)
    if path.suffix.lower() == ".json":
        return {"kind": "JSON", "content": read_object(path)}
    if not path.exists():
        raise InputError(f"{path}: no such file")
    raise InputError(f"{path}: neither a run folder nor an HDF5 or JSON file")


def _starts_with(path: Path, signature: bytes) -> bool:
    with open(path, "rb") as handle:
        return handle.read(len(signature)) == signature


def _describe_hdf5(path: Path) -> dict[str, Any]:
    datasets: list[dict[str, Any]] = []

    def note(name: str, item: Any) -> None:
        if hasattr(item, "shape"):
            datasets.append({"name": name, "shape": list(item.shape or ()), "type": str(item.dtype)})

    with open_guarded(path) as handle:
        try:
            handle.visititems(note)  # each object once, also where groups hold each other
            content = {key: _plain(handle.attrs[key]) for key in handle.attrs}
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            raise FormatError(f"{path}: damaged HDF5 file ({str(error)[:120]})") from None
    return {"kind": "HDF5", "content": content, "datasets": datasets}


def _plain(value: Any) -> Any:
    """Return an attribute as plain text or numbers, or say what it is."""
    import numpy as np

    if isinstance(value, str | int | float):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "biuf" and array.size <= MOST_ATTRIBUTE_VALUES:
        return array.tolist()
    return f"{array.dtype} of shape {array.shape}"


def _short(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) or value is None else str(value)

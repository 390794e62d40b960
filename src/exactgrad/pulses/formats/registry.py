"""Which formats there are, found by listing this folder, and which one a file is in.

A format is a module here that holds a `FORMAT`; heavy libraries are imported by a format only when it is used.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from pathlib import Path

from exactgrad.errors import FormatError, InputError
from exactgrad.files import read_bytes
from exactgrad.pulses.formats.shape import Format

_HEAD_BYTES = 65536
_COLUMNS = {"ux_hz", "amp_hz", "uy_hz", "phase_deg", "step_s", "t_s"}


@functools.cache
def list_formats() -> dict[str, Format]:
    """Return every format by name, in alphabetical order."""
    package = importlib.import_module("exactgrad.pulses.formats")
    found = {}
    for entry in pkgutil.iter_modules(package.__path__):
        item = getattr(importlib.import_module(f"{package.__name__}.{entry.name}"), "FORMAT", None)
        if isinstance(item, Format):
            found[item.name] = item
    return dict(sorted(found.items()))


def get_format(name: str) -> Format:
    """Return the format called `name`.

    Raises
    ------
    InputError
        If there is none; the message lists those there are.
    """
    formats = list_formats()
    if name not in formats:
        raise InputError(f"format {name!r}: unknown; there are: {', '.join(formats)}")
    return formats[name]


def detect_format(path: Path) -> str:
    """Return the name of a file's format: its content decides, and its suffix where the content leaves a choice.

    Parameters
    ----------
    path : Path
        An existing file.

    Raises
    ------
    InputError, RefusedFile
        As `files.read_bytes`.
    FormatError
        If the file is empty, or more than one format is possible; the message lists the names to choose from.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "shape"
    >>> _ = path.write_text("##TITLE= a shape")
    >>> detect_format(path)
    'bruker'
    """
    path = Path(path)
    data = read_bytes(path)
    if not data.strip(b"\0 \t\r\n"):
        raise FormatError(f"{path}: empty")
    by_content = _candidates(data[:_HEAD_BYTES])
    by_suffix = [name for name, item in list_formats().items() if item.suffix.lower() == path.suffix.lower()]
    both = [name for name in by_content if name in by_suffix]
    for names in (by_content, both) if by_content else (by_suffix,):
        if len(names) == 1:
            return names[0]
    raise FormatError(f"{path}: format not recognised; name it (--format): {', '.join(by_content or list_formats())}")


def _candidates(head: bytes) -> list[str]:
    if head.startswith((b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file", b"\x89HDF")):
        return ["matlab"]
    lines = [line.strip() for line in head.decode("latin-1").removeprefix("ï»¿").splitlines() if line.strip()]
    first = lines[0] if lines else ""
    if first.startswith(("##", "$$")) or first.upper().startswith("RFVERSION_F"):
        return ["bruker"]
    if first.lower().startswith("begin shape"):
        return ["xepr"]
    if any(line.startswith(("PULSENAME:", "REFGRAD:")) for line in lines[:20]):
        return ["siemens"]
    if "pulseq sequence file" in first.lower() or "[VERSION]" in lines:
        return ["pulseq"]
    body = next((line for line in lines if not line.startswith("#")), "")
    if _COLUMNS.intersection(name.strip().lower() for name in body.split(",")):
        return ["csv"]
    return _numeric_candidates(body, has_comments=first.startswith("#"))


def _numeric_candidates(row: str, has_comments: bool) -> list[str]:
    """Two bare columns are SIMPSON's or, without lengths, Varian's; comments or more columns are Varian's alone."""
    tokens = row.split()
    try:
        columns = len([float(token) for token in tokens])
    except ValueError:
        return []
    if has_comments or columns in (3, 4):
        return ["varian"] if 2 <= columns <= 4 else []
    return ["simpson", "varian"] if columns == 2 else []

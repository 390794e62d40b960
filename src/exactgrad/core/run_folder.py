"""What every run folder says of itself, whatever the system: run.json from the start, summary.json at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from exactgrad.errors import FormatError, InputError
from exactgrad.files import read_text

RUN, SUMMARY = "run.json", "summary.json"
JSON_LIMIT_BYTES = 16 * 1024 * 1024


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises
    ------
    InputError
        If the file cannot be read; `FormatError` if it is not JSON, or no object.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.json"
    >>> _ = path.write_text('{"system": "pulses"}')
    >>> read_object(path)
    {'system': 'pulses'}
    """
    text = read_text(path, JSON_LIMIT_BYTES)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise FormatError(f"{path}: a JSON object is needed, got {text.strip()[:40]!r}")
    return content


def system_of(folder: Path) -> str:
    """Return the name of the system that made a run folder.

    Raises
    ------
    InputError
        If there is no such folder, it holds no run, or its run.json names no system.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if not (folder / RUN).is_file():
        raise InputError(f"{folder}: not a run folder ({RUN} is missing)")
    name = read_object(folder / RUN).get("system")
    if not isinstance(name, str):
        raise FormatError(f"{folder / RUN}: key system: the name of a system is needed, got {str(name)[:40]!r}")
    return name

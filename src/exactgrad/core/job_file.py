"""Job files: TOML tables checked key by key; what the jobs of all systems share."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from exactgrad.errors import FormatError, InputError
from exactgrad.files import read_text

JOB_LIMIT_BYTES = 16 * 1024 * 1024
LARGEST = 1e15  # no quantity in the units of a job is larger; its square stays finite
UNITS = {"_us": "us", "_hz": "Hz", "_deg": "degrees", "_px": "pixels"}  # by the end of a key

NotNegative = Annotated[float, Strict(), Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Whole = Annotated[int, Strict()]
Flag = Annotated[bool, Strict()]


class Table(BaseModel):
    """Base of a job's tables: unknown keys are errors, text is not taken for numbers."""

    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)


Job = TypeVar("Job", bound=BaseModel)


def read_job(source: Any, model: type[Job]) -> tuple[Job, str]:
    """Read and check a job.

    Parameters
    ----------
    source : path, or dict
        A TOML file, or the same tables as a dict.
    model : type
        The job's root table.

    Returns
    -------
    job
        Of type `model`.
    text : str
        The TOML text (for a dict, its JSON).

    Raises
    ------
    InputError
        One line that names the file, the key, the value and what is allowed.
    """
    if isinstance(source, dict):
        return check_job(source, "job", model), json.dumps(source, default=str)
    path = Path(source)
    text = read_text(path, JOB_LIMIT_BYTES)
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise FormatError(f"{path}: not valid TOML: {error}") from None
    return check_job(tables, str(path), model), text


def check_job(tables: dict[str, Any], name: str, model: type[Job]) -> Job:
    """Validate the tables of a job; raises `InputError` naming the first wrong key.

    Examples
    --------
    >>> class Scan(Table):
    ...     steps: Whole
    >>> check_job({"steps": 8, "speed": 2}, "job.toml", Scan)
    Traceback (most recent call last):
    exactgrad.errors.InputError: job.toml: speed: unknown key
    """
    try:
        return model.model_validate(tables)
    except ValidationError as error:
        raise InputError(f"{name}: {_first_problem(error)}") from None


def _first_problem(error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    first = min(problems, key=lambda item: item["type"] != "extra_forbidden")  # a misspelt key explains a missing one
    key, value = _place(first), first["input"]
    unit = next((f" {u}" for end, u in UNITS.items() if key.endswith(end)), "")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{key}: missing{f' (in{unit})' if unit else ''}"
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    if first["type"] == "value_error":
        return f"{key}: {message}" if key else message
    if first["type"] == "model_type":
        message = "a table is needed"
    others = len({_place(item) for item in problems}) - 1
    more = f" ({others} more)" if others else ""
    return f"{key} = {repr(value)[:60]}{unit if isinstance(value, int | float) else ''}: {message}{more}"


def _place(problem: Any) -> str:
    """Return the key that a problem is about, as the user spelt it."""
    place = [str(part) for part in problem["loc"]]
    keys = re.compile(r"[A-Za-z0-9_]+")  # the rest of a place names branches of a union, for programmers
    kept = [part for part in place if keys.fullmatch(part) and part not in ("float", "int", "str", "tuple", "dict")]
    if problem["type"] == "extra_forbidden" and not re.fullmatch("[a-z0-9_]+", place[-1]):
        kept = [*(kept[:-1] if kept[-1:] == place[-1:] else kept), repr(place[-1])[:60]]
    return ".".join(kept)

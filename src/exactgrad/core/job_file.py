"""Job files: TOML tables checked key by key; what the jobs of all systems share."""

from __future__ import annotations

import difflib
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
MOST_LISTED = 40  # keys of a table that a message lists
UNITS = {"_us": "us", "_hz": "Hz", "_deg": "degrees", "_px": "pixels"}  # by the end of a key

NotNegative = Annotated[float, Strict(), Field(ge=0, le=LARGEST, allow_inf_nan=False)]
Whole = Annotated[int, Strict()]
Flag = Annotated[bool, Strict()]


class Table(BaseModel):
    """Base of a job's tables: unknown keys are errors, text is not taken for numbers."""

    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    @classmethod
    def key_names(cls) -> list[str]:
        """Return the keys of the table as a file spells them."""
        return [field.alias or name for name, field in cls.model_fields.items()]


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
    tables, text = read_tables(path)
    return check_job(tables, str(path), model), text


def read_tables(path: Path) -> tuple[dict[str, Any], str]:
    """Read a TOML file: its tables, not checked, and its text; raises `InputError` if it is none."""
    text = read_text(path, JOB_LIMIT_BYTES)
    try:
        return tomllib.loads(text), text
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise FormatError(f"{path}: not valid TOML: {error}") from None


def check_job(tables: dict[str, Any], name: str, model: type[Job], joint: str = ": ") -> Job:
    """Validate the tables of a job; raises `InputError`: `name`, `joint`, the first wrong key and what is wrong.

    Examples
    --------
    >>> class Scan(Table):
    ...     steps: Whole
    >>> check_job({"steps": 8, "speed": 2}, "job.toml", Scan)
    Traceback (most recent call last):
    exactgrad.errors.InputError: job.toml: speed: unknown key; there are: steps
    """
    try:
        return model.model_validate(tables)
    except ValidationError as error:
        raise InputError(f"{name}{joint}{_first_problem(error, model)}") from None


def _first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    problems = error.errors(include_url=False)
    first = min(problems, key=lambda item: item["type"] != "extra_forbidden")  # a misspelt key explains a missing one
    key, value = _place(first), first["input"]
    unit = next((f" {u}" for end, u in UNITS.items() if key.endswith(end)), "")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{key}: missing{f' (in{unit})' if unit else ''}"
    if first["type"] == "extra_forbidden":
        owner = _model_at(model, first["loc"][:-1])
        return f"{key}: unknown key{hint(str(first['loc'][-1]), owner.key_names() if owner else [])}"
    if first["type"] == "value_error":
        return f"{key}: {message}" if key else message
    if first["type"] in ("model_type", "model_attributes_type"):
        message = "a table is needed"
    others = len({_place(item) for item in problems}) - 1
    more = f" ({others} more)" if others else ""
    return f"{key} = {repr(value)[:60]}{unit if isinstance(value, int | float) else ''}: {message}{more}"


def _model_at(model: type[BaseModel], place: tuple[Any, ...]) -> type[Table] | None:
    """Return the table at a place in the root table, where it can be told."""
    for part in place:
        if isinstance(part, int):
            continue
        found = next((item for name, item in model.model_fields.items() if part in (item.alias, name)), None)
        kinds = _kinds(None if found is None else found.annotation)
        if not kinds:
            return None
        model = kinds[0]
    return model if issubclass(model, Table) else None


def _kinds(annotation: Any) -> list[type[Table]]:
    """Return the tables that an annotation names: itself, or the members of a union or a list."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return [annotation]
    return [kind for part in getattr(annotation, "__args__", ()) for kind in _kinds(part)]


def hint(key: str, allowed: list[str]) -> str:
    """Return what to say after "unknown key": the nearest of those allowed, and if they are few all of them.

    Examples
    --------
    >>> hint("stepps", ["steps", "speed"])
    '; did you mean steps?; there are: steps, speed'
    """
    near = difflib.get_close_matches(key, allowed, 1, 0.6)
    meant = f"; did you mean {near[0]}?" if near else ""
    return meant + (f"; there are: {', '.join(allowed)}" if allowed and len(allowed) <= MOST_LISTED else "")


def _place(problem: Any) -> str:
    """Return the key that a problem is about, as the user spelt it."""
    place = [str(part) for part in problem["loc"]]
    keys = re.compile(r"[A-Za-z0-9_]+")  # the rest of a place names branches of a union, for programmers
    kept = [part for part in place if keys.fullmatch(part) and part not in ("float", "int", "str", "tuple", "dict")]
    if problem["type"] == "extra_forbidden" and not re.fullmatch("[a-z0-9_]+", place[-1]):
        kept = [*(kept[:-1] if kept[-1:] == place[-1:] else kept), repr(place[-1])[:60]]
    return ".".join(kept)

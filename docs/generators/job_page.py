"""A page of job keys from pydantic models: types, defaults and bounds come from the models, units and meanings by hand.

A key without a meaning is an error, and so is a meaning without a key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from exactgrad.pulses.job import LEAST

Sections = Sequence[tuple[str, str, str]]  # title, model, what it is for
Meaning = Mapping[str, tuple[str, str]]  # "Model.key": unit, what it means
AXIS = ["x", "y", "z", "-x", "-y", "-z"]
AS_GOOD_AS_ENDLESS = 1e15  # bounds from here on only keep squares finite
POWERS = {2**63 - 1: "2⁶³ − 1", 2**31 - 1: "2³¹ − 1", 1 - 2**31: "1 − 2³¹"}
COLUMNS = ("key", "unit", "allowed", "default", "meaning")


def page(head: str, job: type[BaseModel], sections: Sections, meaning: Meaning, aliases: Meaning | None = None) -> str:
    """Return a page.

    Parameters
    ----------
    head : str
        What comes before the first section.
    job : type
        The job's root table.
    sections : sequence of (str, str, str)
        Title, model and text of each; every model of the job must be in one.
    meaning : mapping of str to (str, str)
        Unit and meaning by "Model.key". "Base.key" serves the models that inherit the key, too.
    aliases : mapping of str to (str, str), optional
        Bounds that the code checks beyond the model's, and other names, by "Model.key".
    """
    schema = job.model_json_schema()
    models = {**schema.get("$defs", {}), job.__name__: schema}
    classes = {name: _class(job, name) for name in models}
    bases = {name: [kind.__name__ for kind in one.__mro__] for name, one in classes.items()}
    used: set[str] = set()
    parts = [head]
    for title, name, text in sections:
        rows = []
        for key, item in models[name].get("properties", {}).items():
            if name == job.__name__ and _is_table(item, models):
                continue  # has a section of its own
            place = next((f"{base}.{key}" for base in bases[name] if f"{base}.{key}" in meaning), None)
            if place is None:
                raise SystemExit(f"docs/generators: no meaning for {name}.{key}")
            used.add(place)
            default = _default(classes[name], key)
            bounds, names = (aliases or {}).get(f"{name}.{key}", ("", ""))
            rows.append(_row(key, item, default, *meaning[place], bounds, names))
        table = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *rows]
        heading = f"## `{title}`\n\n" if title else ""
        parts.append(f"{heading}{text}\n" + ("\n" + "\n".join(table) + "\n" if rows else ""))
    listed = {name for _, name, _ in sections}
    missing = [name for name, model in models.items() if model.get("properties") and name not in listed]
    if missing and missing != [job.__name__]:
        raise SystemExit(f"docs/generators: in no section: {', '.join(missing)}")
    if used != set(meaning):
        raise SystemExit(f"docs/generators: meaning of what is no key: {', '.join(sorted(set(meaning) - used))}")
    return "\n".join(parts)


def _class(root: type[BaseModel], name: str) -> type[BaseModel]:
    """Return the class of a schema's model."""
    todo = [root]
    while todo:
        kind = todo.pop()
        if kind.__name__ == name:
            return kind
        for field in kind.model_fields.values():
            todo += _models(field.annotation)
    raise SystemExit(f"docs/generators: {name}: no such model")


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for part in getattr(annotation, "__args__", ()) for kind in _models(part)]


def _is_table(item: dict[str, Any], models: dict[str, Any]) -> bool:
    kinds = [kind for kind in item.get("anyOf", [item]) if kind.get("type") != "null"]
    return len(kinds) == 1 and kinds[0].get("$ref", "").rpartition("/")[2] in models


def _row(key: str, item: dict[str, Any], default: str, unit: str, text: str, bounds: str, names: str) -> str:
    allowed = _allowed(item, bounds)
    cells = (f"`{key}`", unit, allowed, default, text + (f" Also called {names}." if names else ""))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(kind: type[BaseModel], key: str) -> str:
    """Return a default as TOML writes it, or nothing where there is none."""
    field = next(field for name, field in kind.model_fields.items() if (field.alias or name) == key)
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    return "" if value is None or value in ([], {}, ()) else f"`{json.dumps(value)}`"


def _allowed(item: dict[str, Any], narrower: str = "") -> str:
    """Return what a schema allows, in words; `narrower` bounds of a number go before its own."""
    if "$ref" in item:
        return "table"
    if "anyOf" in item:
        kinds = [kind for kind in item["anyOf"] if kind.get("type") != "null"]
        if kinds and kinds[0].get("enum") == AXIS:
            return "axis"
        return " or ".join(dict.fromkeys(_allowed(kind, narrower) for kind in kinds))
    if "enum" in item or "const" in item:
        return ", ".join(f"`{json.dumps(value)}`" for value in item.get("enum", [item.get("const")]))
    kind = item.get("type")
    if kind == "array":
        if "prefixItems" in item:
            parts = [_allowed(part) for part in item["prefixItems"]]
            same = len(parts) > 2 and len(set(parts)) == 1 and parts[0] != "axis"
            return f"list of {len(parts)}: {parts[0]}" if same else "[" + ", ".join(parts) + "]"
        one, least, most = _allowed(item["items"]), item.get("minItems"), item.get("maxItems")
        if least == most == 2:
            return f"[{one}, {one}]"
        return f"list of {one}" if most is None or most > 100 else f"list of {least} to {most}: {one}"
    if kind in ("number", "integer"):
        return ("number" if kind == "number" else "whole number") + (f" {narrower}" if narrower else _bounds(item))
    return {"string": "text", "boolean": "`true`, `false`", "object": "table"}[str(kind)]


def _bounds(item: dict[str, Any]) -> str:
    bounds = []
    for key, sign in (("exclusiveMinimum", ">"), ("minimum", "≥"), ("exclusiveMaximum", "<"), ("maximum", "≤")):
        value = item.get(key)
        if value is None or (isinstance(value, float) and abs(value) >= AS_GOOD_AS_ENDLESS):
            continue
        if value == LEAST:
            sign, value = ">", 0
        bounds.append(f"{sign} {bound(value)}")
    return (" " if bounds else "") + ", ".join(bounds)


def bound(value: float) -> str:
    """Return a bound as a person writes it; large powers of two as such."""
    return POWERS.get(int(value)) or number(value)


def number(value: float) -> str:
    """Return a number as a person writes it.

    Examples
    --------
    >>> number(1e6), number(0.5), number(1e-6)
    ('1 000 000', '0.5', '1e-06')
    """
    return f"{int(value):,}".replace(",", " ") if value == int(value) and abs(value) < 1e12 else f"{value:g}"

"""DIALS experiment lists (``.expt``, JSON): the first experiment, or the one asked for.

Lengths in the file are mm, wavelength and cell angstrom. Its beam "direction" points from the crystal to the source.
Panels hang in a hierarchy of groups; each node's axes and origin are given in its parent's frame.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.diffraction.formats.experiment import (
    MAX_PANELS,
    Experiment,
    Panel,
    cell_matrix,
    make_panel,
    unit_vector,
    wavelength,
)
from exactgrad.errors import FormatError
from exactgrad.files import read_text

MAX_DEPTH = 20
_TEXT_LIMIT_BYTES = 1 << 26
_NESTING_LIMIT = 100
_IDENTITY = (np.zeros(3), np.eye(3))


def read(path: Path, experiment: int = 0) -> Experiment:
    """Read one experiment.

    Parameters
    ----------
    path : Path
        The file, at most 64 MiB.
    experiment : int
        Which, counted from 0.

    Raises
    ------
    FormatError
        If it is not an experiment list, or an entry is missing, of the wrong kind, or not finite.
    InputError, RefusedFile
        As `files.read_text`.
    """
    path = Path(path)
    root = _parsed(path)
    if not isinstance(root, dict) or root.get("__id__") != "ExperimentList":
        raise FormatError(f'{path}: no "__id__": "ExperimentList": not a DIALS experiment list')
    chosen = _item(path, root, "experiment", experiment)
    beam = _item(path, root, "beam", chosen.get("beam"))
    detector = _item(path, root, "detector", chosen.get("detector"))
    crystal = _optional(path, root, "crystal", chosen)
    goniometer = _optional(path, root, "goniometer", chosen)
    axes = None
    if crystal:
        axes = cell_matrix(path, [_vector(path, crystal, f"real_space_{name}") for name in "abc"])
    start, step = _oscillation(path, _optional(path, root, "scan", chosen))
    return Experiment(
        panels=_panels(path, detector),
        beam_direction=-unit_vector(path, "beam direction", _vector(path, beam, "direction")),
        wavelength_m=wavelength(path, _number(path, "wavelength", beam.get("wavelength")) * 1e-10),
        cell_matrix_m=axes,
        rotation_axis=unit_vector(path, "rotation_axis", _vector(path, goniometer, "rotation_axis"))
        if goniometer
        else None,
        start_deg=start,
        step_deg=step,
        space_group=str((crystal or {}).get("space_group_hall_symbol", ""))[:40],
    )


def _parsed(path: Path) -> Any:
    text = read_text(path, _TEXT_LIMIT_BYTES)
    depth = deepest = 0
    for bracket in (c for c in text if c in "[]{}"):  # also those within strings: a bound, not a parse
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    if deepest > _NESTING_LIMIT:
        raise FormatError(f"{path}: brackets {deepest} deep; at most {_NESTING_LIMIT} are read")

    def refuse(name: str) -> float:
        raise FormatError(f"{path}: {name}: finite numbers are needed")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not readable JSON ({' '.join(str(error).split())[:120]})") from error


def _item(path: Path, root: dict[str, Any], key: str, index: Any) -> dict[str, Any]:
    items = root.get(key)
    if not isinstance(items, list) or isinstance(index, bool) or not isinstance(index, int):
        raise FormatError(f"{path}: no {key} for the experiment")
    if not 0 <= index < len(items) or not isinstance(items[index], dict):
        raise FormatError(f"{path}: {key} {index}: there are {len(items)}, counted from 0")
    return items[index]


def _optional(path: Path, root: dict[str, Any], key: str, chosen: dict[str, Any]) -> dict[str, Any] | None:
    return None if chosen.get(key) is None else _item(path, root, key, chosen[key])


def _number(path: Path, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e30:
        raise FormatError(f"{path}: {name} = {str(value)[:40]}: a finite number is needed")
    return float(value)


def _vector(path: Path, holder: dict[str, Any], key: str, length: int = 3) -> list[float]:
    value = holder.get(key)
    if not isinstance(value, list) or len(value) != length:
        raise FormatError(f"{path}: {key} = {str(value)[:40]}: {length} numbers are needed")
    return [_number(path, key, item) for item in value]


def _oscillation(path: Path, scan: dict[str, Any] | None) -> tuple[float | None, float | None]:
    if not scan:
        return None, None
    if "oscillation" in scan:
        start, step = _vector(path, scan, "oscillation", 2)
        return start, step
    angles = scan.get("properties", {}).get("oscillation") if isinstance(scan.get("properties"), dict) else None
    if not isinstance(angles, list) or not angles:
        return None, None
    first = _number(path, "oscillation", angles[0])
    return first, _number(path, "oscillation", angles[1]) - first if len(angles) > 1 else None


def _panels(path: Path, detector: dict[str, Any]) -> tuple[Panel, ...]:
    panels = detector.get("panels")
    if not isinstance(panels, list) or not 1 <= len(panels) <= MAX_PANELS:
        raise FormatError(f"{path}: detector: from 1 to {MAX_PANELS} panels are needed")
    frames = [_IDENTITY] * len(panels)
    if isinstance(detector.get("hierarchy"), dict):
        _place(path, detector["hierarchy"], _IDENTITY, frames, MAX_DEPTH)
    made = []
    for number, (panel, parent) in enumerate(zip(panels, frames, strict=True)):
        if not isinstance(panel, dict):
            raise FormatError(f"{path}: panel {number}: an object is needed")
        origin, axes = _frame(path, panel, parent)
        fast, slow = _vector(path, panel, "image_size", 2)
        size = _vector(path, panel, "pixel_size", 2)
        if not (fast.is_integer() and slow.is_integer()):
            raise FormatError(f"{path}: image_size = {[fast, slow]}: whole numbers are needed")
        made.append(
            make_panel(
                path,
                str(panel.get("name") or number)[:80],
                (origin * 1e-3).tolist(),
                axes[:, 0].tolist(),
                axes[:, 1].tolist(),
                (size[0] * 1e-3, size[1] * 1e-3),
                (int(slow), int(fast)),
            )
        )
    return tuple(made)


def _place(path: Path, node: dict[str, Any], parent: Any, frames: list[Any], depth: int) -> None:
    """Write the frame of each panel's parent into `frames`, walking the groups below `node`."""
    if depth == 0:
        raise FormatError(f"{path}: detector groups more than {MAX_DEPTH} deep")
    if "panel" in node:
        index = node["panel"]
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(frames):
            raise FormatError(f"{path}: hierarchy names panel {str(index)[:40]}: there are {len(frames)}")
        frames[index] = parent
        return
    frame = _frame(path, node, parent)
    children = node.get("children")
    if not isinstance(children, list) or not all(isinstance(child, dict) for child in children):
        raise FormatError(f"{path}: a detector group without a list of children")
    for child in children:
        _place(path, child, frame, frames, depth - 1)


def _frame(path: Path, node: dict[str, Any], parent: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return origin and axes (columns fast, slow, normal) of a node in the laboratory frame."""
    fast, slow = (np.array(_vector(path, node, key)) for key in ("fast_axis", "slow_axis"))
    local = np.column_stack([fast, slow, np.cross(fast, slow)])
    origin, axes = parent
    return origin + axes @ np.array(_vector(path, node, "origin")), axes @ local

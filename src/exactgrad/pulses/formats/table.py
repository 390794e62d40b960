"""CSV: a self-describing table, exact to the last bit; the format to keep a pulse in.

``# key: value`` lines, one line of column names, one line a step. Columns by name, in any order: ux_hz and uy_hz
and/or amp_hz and phase_deg (both: they must agree), uz_hz, step_s; t_s is the start of the step.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exactgrad.errors import FormatError
from exactgrad.pulses.formats.shape import Content, Format, Label
from exactgrad.pulses.formats.text import TextFile, one_line
from exactgrad.pulses.pulse import Pulse

_COLUMNS = ("t_s", "step_s", "amp_hz", "phase_deg", "ux_hz", "uy_hz", "uz_hz")
_CONVENTION = "phase = atan2(uy, ux), active right-handed rotation, offset > 0 turns x towards y"
_AGREEMENT = 1e-6  # of the largest amplitude, between Cartesian and polar columns


def read(path: Path) -> Content:
    """Read a table; raises `FormatError` with the line."""
    text = TextFile(path)
    keys: dict[str, tuple[int, str]] = {}
    names: list[str] = []
    rows: list[list[float]] = []
    for number, line in enumerate(text.lines, 1):
        if line.lstrip().startswith("#"):
            key, _, value = line.lstrip("# \t").partition(":")
            keys[key.strip().lower()] = (number, value.strip())
        elif line.strip():
            tokens = [token.strip() for token in line.split(",")]
            if not names:
                names = _names(text, number, tokens)
                named_at = number
            else:
                rows.append(_row(text, number, tokens, names))
    if not rows:
        raise text.error(len(text.lines), "no line of column names followed by rows of numbers")
    used = [name for name in names if name in _COLUMNS]
    columns = dict(zip(used, np.array(rows).T, strict=True))
    x, y = _cartesian(text, named_at, columns)
    lengths, duration_s = _lengths(text, named_at, columns, keys, x.size)
    ignored = [name for name in names if name not in _COLUMNS]
    rf_max_hz = text.not_negative(*keys["rf_max_hz"], "rf_max_hz") if "rf_max_hz" in keys else None
    return Content(
        x,
        y,
        lengths=lengths,
        duration_s=duration_s,
        rf_max_hz=rf_max_hz,
        in_hz=True,
        uz_hz=columns.get("uz_hz"),
        title=keys.get("title", (0, ""))[1],
        notes=(f"columns ignored: {', '.join(ignored)}",) if ignored else (),
    )


def _names(text: TextFile, number: int, tokens: list[str]) -> list[str]:
    names = [token.lower() for token in tokens]
    if not ({"ux_hz", "uy_hz"} <= set(names) or {"amp_hz", "phase_deg"} <= set(names)):
        raise text.error(number, "columns ux_hz and uy_hz, or amp_hz and phase_deg, are needed in the line of names")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise text.error(number, f"column {repeated[0][:40]!r} is named twice")
    return names


def _row(text: TextFile, number: int, tokens: list[str], names: list[str]) -> list[float]:
    if len(tokens) != len(names):
        raise text.error(number, f"{len(tokens)} columns where {len(names)} are named")
    return [text.number(number, token, name) for token, name in zip(tokens, names, strict=True) if name in _COLUMNS]


def _cartesian(text: TextFile, named_at: int, columns: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return ux and uy; where the file says both, an edit of one only is an error."""
    cartesian = {"ux_hz", "uy_hz"} <= set(columns)
    if {"amp_hz", "phase_deg"} <= set(columns):
        phase = np.deg2rad(columns["phase_deg"])
        x, y = columns["amp_hz"] * np.cos(phase), columns["amp_hz"] * np.sin(phase)
        if not cartesian:
            return x, y
        difference = np.hypot(x - columns["ux_hz"], y - columns["uy_hz"])
        row = int(difference.argmax())
        if difference[row] > _AGREEMENT * columns["amp_hz"].max():
            raise text.error(
                named_at, f"amp_hz and phase_deg differ from ux_hz and uy_hz by {difference[row]:g} Hz in row {row + 1}"
            )
    return columns["ux_hz"], columns["uy_hz"]


def _lengths(
    text: TextFile, named_at: int, columns: dict[str, np.ndarray], keys: dict[str, tuple[int, str]], count: int
) -> tuple[np.ndarray, float | None]:
    """Return step lengths and their sum, from step_s, else ``# dt_s``, else the differences of t_s."""
    if "step_s" in columns:
        lengths = columns["step_s"]
    elif "dt_s" in keys:
        lengths = np.full(count, text.positive(*keys["dt_s"], "dt_s"))
    elif "t_s" in columns and count > 1:
        differences = np.diff(columns["t_s"])
        if np.ptp(differences) > 1e-6 * abs(differences[0]):
            raise text.error(named_at, "t_s has steps of several lengths: a column step_s is needed to know the last")
        lengths = np.full(count, np.ptp(columns["t_s"]) / (count - 1))
    else:
        return np.ones(count), None
    if not (lengths > 0).all():
        row = int(np.argmin(lengths > 0))
        raise FormatError(f"{text.path}: step_s = {lengths[row]:g} s in row {row + 1}: must be > 0 s")
    return lengths, float(lengths.sum())


def write(pulse: Pulse, label: Label) -> bytes:
    """Return the table's bytes."""
    header = ["# format: exactgrad pulse 1", f"# title: {one_line(label.title)}"]
    if pulse.uniform:
        header.append(f"# dt_s: {float(pulse.step_s[0])!r}")
    header += [f"# rf_max_hz: {float(label.rf_max_hz)!r}", f"# convention: {_CONVENTION}", ",".join(_COLUMNS)]
    starts = np.concatenate(([0.0], np.cumsum(pulse.step_s)[:-1]))
    columns = (
        starts,
        pulse.step_s,
        pulse.amplitude_hz,
        np.rad2deg(pulse.phase_rad),
        pulse.ux_hz,
        pulse.uy_hz,
        pulse.uz_hz,
    )
    rows = [",".join(map(repr, row)) for row in np.column_stack(columns).tolist()]
    return "\n".join([*header, *rows, ""]).encode()


FORMAT = Format(
    name="csv",
    title="CSV table with a self-describing header (exact)",
    suffix=".csv",
    read=read,
    write=write,
    holds_z=True,
    holds_duration=True,
    holds_rf_max=True,
    needs_uniform_steps=False,
)

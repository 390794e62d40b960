"""The spins a pulse must serve: offsets (Hz), relative B1, and weights that sum to one."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exactgrad.core.job_file import LARGEST
from exactgrad.errors import FormatError, InputError, require_finite, require_shape
from exactgrad.files import read_text

MOST_SPINS = 4_000_000


@dataclass(frozen=True)
class Ensemble:
    """S spins.

    Attributes
    ----------
    offset_hz, b1, weight : ndarray, shape (S,)
        Offset in Hz, B1 relative to nominal, weight (>= 0, sum 1).
    grid : tuple of int, or None
        (offsets, B1 points) where the spins are a full grid, offset varying slowest.
    """

    offset_hz: np.ndarray
    b1: np.ndarray
    weight: np.ndarray
    grid: tuple[int, int] | None = None

    @classmethod
    def from_grid(cls, offsets_hz, b1, offset_weights=None, b1_weights=None) -> Ensemble:
        """Full grid of offsets x B1, at any spacing.

        Parameters
        ----------
        offsets_hz, b1 : array_like, shape (O,) and (B,)
            Offsets in Hz, relative B1.
        offset_weights, b1_weights : array_like, shape (O,) and (B,), optional
            A spin's weight is the product of both; equal by default.

        Returns
        -------
        Ensemble
            Of O B spins, B1 running fastest.

        Raises
        ------
        InputError
            If a list is empty or not finite, or a weight is negative or all are zero.

        Examples
        --------
        >>> Ensemble.from_grid([-1000.0, 0.0, 1000.0], [0.9, 1.1]).grid
        (3, 2)
        """
        offsets = np.atleast_1d(require_finite("ensemble.offsets_hz", offsets_hz, "Hz"))
        fields = np.atleast_1d(require_finite("ensemble.b1", b1))
        if offsets.size == 0 or fields.size == 0 or offsets.size * fields.size > MOST_SPINS:
            raise InputError(
                f"ensemble: {offsets.size} offsets x {fields.size} B1 points; 1 to {MOST_SPINS} are allowed"
            )
        by_offset = _weights("ensemble.offset_weights", offset_weights, offsets.size)
        by_field = _weights("ensemble.b1_weights", b1_weights, fields.size)
        weight = np.outer(by_offset, by_field).ravel()
        return cls(
            np.repeat(offsets, fields.size),
            np.tile(fields, offsets.size),
            weight / weight.sum(),
            (offsets.size, fields.size),
        )

    @classmethod
    def from_csv(cls, path: Path) -> Ensemble:
        """Read a measured B0/B1 distribution.

        Parameters
        ----------
        path : Path
            CSV file of columns offset_hz, b1 and, optionally, weight; `#` starts a comment.

        Raises
        ------
        FormatError
            If a column is missing, a row is not numbers, or there is no row.
        """
        columns = read_columns(path, required=("offset_hz", "b1"), optional=("weight",))
        return cls.from_spins(columns["offset_hz"], columns["b1"], columns.get("weight"))

    @classmethod
    def from_spins(cls, offset_hz, b1, weight=None) -> Ensemble:
        """Return spins given one by one.

        Parameters
        ----------
        offset_hz, b1 : array_like, shape (S,)
            Offsets in Hz, relative B1.
        weight : array_like, shape (S,), optional
            Equal by default; only ratios count.

        Raises
        ------
        InputError
            If a value is not finite, the shapes differ, or a weight is negative or all are zero.
        """
        offsets = np.atleast_1d(require_finite("ensemble.offset_hz", offset_hz, "Hz"))
        shares = _weights("ensemble.weight", weight, offsets.size)
        fields = require_shape("ensemble.b1", np.atleast_1d(require_finite("ensemble.b1", b1)), offsets.shape)
        return cls(offsets, fields, shares / shares.sum())

    @property
    def spins(self) -> int:
        """Number of spins S."""
        return self.offset_hz.size

    def spacing_hz(self) -> float:
        """Return the widest gap between neighbouring offsets, Hz (0 for one offset)."""
        offsets = np.unique(self.offset_hz)
        return float(np.diff(offsets).max()) if offsets.size > 1 else 0.0


def read_columns(path: Path, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Read named columns of numbers from a CSV file with a header line; other columns are an error.

    Raises
    ------
    FormatError
        With file and line: missing or unknown column, a value that is not a finite number, no rows, too many.
    """
    lines = [
        (number, line)
        for number, line in enumerate(read_text(Path(path)).splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise FormatError(f"{path}: no header line; columns {', '.join(required)} are needed")
    header = [cell.strip().lower() for cell in _cells(path, *lines[0])]
    for name in required:
        if name not in header:
            raise FormatError(f"{path}:{lines[0][0]}: column {name} is missing (found: {', '.join(header)[:80]})")
    for name in header:
        if header.count(name) > 1 or name not in (*required, *optional):
            raise FormatError(
                f"{path}:{lines[0][0]}: column {name!r} is unknown or given twice; allowed: "
                f"{', '.join((*required, *optional))}"
            )
    if not 1 <= len(lines) - 1 <= MOST_SPINS:
        raise FormatError(f"{path}: {len(lines) - 1} rows; 1 to {MOST_SPINS} are allowed")
    table = np.empty((len(lines) - 1, len(header)))
    for row, (number, line) in enumerate(lines[1:]):
        cells = _cells(path, number, line)
        try:
            if len(cells) != len(header) or not line.isascii() or "_" in line:  # float() takes other digits, and 1_000
                raise ValueError
            table[row] = [float(cell) for cell in cells]
            if not (np.abs(table[row]) <= LARGEST).all():  # nor is a NaN
                raise ValueError
        except ValueError:
            raise FormatError(
                f"{path}:{number}: {len(header)} finite numbers, at most {LARGEST:g}, are needed, got {line[:60]!r}"
            ) from None
    return {name: table[:, column].copy() for column, name in enumerate(header)}


def _cells(path: Path, number: int, line: str) -> list[str]:
    try:
        return next(csv.reader([line]))
    except csv.Error as error:
        raise FormatError(f"{path}:{number}: not a line of CSV ({error})") from None


def _weights(name: str, values, count: int) -> np.ndarray:
    if values is None:
        return np.ones(count)
    weights = np.atleast_1d(require_finite(name, values))
    if weights.shape != (count,):
        raise InputError(f"{name}: {weights.size} values where {count} are needed")
    if (weights < 0).any() or not weights.any():
        raise InputError(f"{name}: weights must be >= 0 and not all zero, got a least of {weights.min():g}")
    return weights / weights.max()  # so that their sum neither overflows nor underflows

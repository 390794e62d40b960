"""The error family, and the checks that raise it with one clear line.

A message names what was wrong, the value with its unit, and what is allowed. Finiteness is checked before shape and
range, so that a NaN is called a NaN and not "out of range".
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np


class ExactgradError(Exception):
    """Base of every error that a user can cause or must be told of; `exit_code` is what the command returns."""

    exit_code = 1


class CheckFailed(ExactgradError):
    """A check (gradient, certificate, comparison) did not hold."""


class InputError(ExactgradError):
    """The user's input is wrong: one line, exit code 2, nothing written.

    What a message quotes of a file may hold anything; what cannot be printed on the line is replaced.

    Examples
    --------
    >>> print(InputError("SIZE1=4\\nSIZE2=\\x1b[2J: a whole number is needed"))
    SIZE1=4 SIZE2=?[2J: a whole number is needed
    """

    exit_code = 2

    def __init__(self, message: object = "") -> None:
        super().__init__("".join(c if c.isprintable() else " " if c.isspace() else "?" for c in str(message)))


class FormatError(InputError):
    """A file does not follow its format; the message names the file and the line."""


class RefusedFile(InputError):
    """A file was refused before it was read: too large, or built to do harm."""


class NotWritten(InputError):
    """A file could not be written: the disk is full, or the folder is read-only."""


class FolderInUse(InputError):
    """Another run holds the output folder, or finished results stand in it."""


class BackendMissing(InputError):
    """An optional part is not installed; the message names the extra to install."""


def explain(error: BaseException) -> tuple[int, str] | None:
    """Return the exit code and the one line of an error that a user can cause, or None for a bug of ours.

    Examples
    --------
    >>> explain(InputError("pulse.step_us = -1 us: must be > 0 us"))
    (2, 'pulse.step_us = -1 us: must be > 0 us')
    """
    if isinstance(error, ExactgradError):
        return error.exit_code, str(error)
    if isinstance(error, MemoryError):
        return 2, f"not enough memory: {error}" if str(error) else "not enough memory"
    if isinstance(error, RecursionError):
        return 2, "the input is nested too deeply"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return 2, f"{where}{error.strerror or error}"
    return None


def require_finite(name: str, values: Any, unit: str = "") -> np.ndarray:
    """Return `values` as a float64 array, or say which element is not finite.

    Parameters
    ----------
    name : str
        What the user calls it, e.g. ``"ensemble.offsets_hz"``.
    values : array_like
        Any real numbers.
    unit : str
        Unit for the message.

    Raises
    ------
    InputError
        If the values are not real numbers or one of them is NaN or infinite.

    Examples
    --------
    >>> require_finite("offset_hz", [0.0, 1.0]).dtype
    dtype('float64')
    """
    try:
        given = np.asarray(values)
        if given.dtype.kind not in "biuf" and not all(isinstance(v, Real) for v in given.ravel().tolist()):
            raise TypeError  # text, None and complex numbers would be converted silently
        with np.errstate(over="ignore"):  # what overflows is told below
            array = given.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{name}: real numbers expected, got {str(values)[:60]!r}") from None
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        where = f"[{', '.join(map(str, index))}]" if index else ""
        raise InputError(f"{name}{where} = {array[index]} {unit}".rstrip() + ": a finite number is needed")
    return array


def require_shape(name: str, array: np.ndarray, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return `array` if its shape matches (None matches any length), or say got and expected.

    Raises
    ------
    InputError
        If the rank or a length differs.

    Examples
    --------
    >>> require_shape("axis", np.zeros(3), (3,)).shape
    (3,)
    """
    matches = array.ndim == len(shape) and all(
        want is None or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if not matches:
        want_text = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
        raise InputError(f"{name}: shape {array.shape} where {want_text} is needed")
    return array


def require_range(
    name: str, value: float, unit: str = "", low: float | None = None, high: float | None = None, open_low: bool = False
) -> float:
    """Return `value` if low <= value <= high (low < value with `open_low`), or say what is allowed.

    Raises
    ------
    InputError
        If the value is not finite or out of range.

    Examples
    --------
    >>> require_range("duration", 500.0, "us", low=0.0, open_low=True)
    500.0
    """
    number = float(require_finite(name, value, unit))
    too_low = low is not None and (number <= low if open_low else number < low)
    if too_low or (high is not None and number > high):
        bounds = []
        if low is not None:
            bounds.append(f"{'>' if open_low else '>='} {low:g}")
        if high is not None:
            bounds.append(f"<= {high:g}")
        raise InputError(f"{name} = {number:g} {unit}".rstrip() + f": must be {' and '.join(bounds)} {unit}".rstrip())
    return number

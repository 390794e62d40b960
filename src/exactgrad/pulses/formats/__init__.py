"""Pulse files: one module a format; `read_shape` and `write_shape` serve them all.

What a write and a read leave of an amplitude, relative to 100 %: csv and matlab everything (1e-15), simpson 1e-14,
bruker, varian and siemens 2e-9, xepr 1e-6 and pulseq 1e-5 (their own number formats).
"""

from __future__ import annotations

from typing import Any

from exactgrad.pulses.formats.registry import detect_format, get_format, list_formats
from exactgrad.pulses.formats.shape import EXMODES, Content, Format, Label, Shape, integral_factor
from exactgrad.pulses.formats.transfer import read_shape, write_shape

__all__ = [
    "EXMODES",
    "FORMATS",
    "Content",
    "Format",
    "Label",
    "Shape",
    "detect_format",
    "get_format",
    "integral_factor",
    "list_formats",
    "read_shape",
    "write_shape",
]


def __getattr__(name: str) -> Any:
    if name == "FORMATS":  # listed on first use: listing imports every format's module
        return list_formats()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

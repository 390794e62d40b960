"""Xepr (Bruker EPR, SpinJet) shapes: x and y from -1 to 1 between ``begin shapeN "name"`` and ``end shapeN``.

The format's six decimals are kept, so a round trip is good to 1e-6 of the rf maximum; it holds neither the length nor
the rf maximum.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from exactgrad.pulses.formats.shape import Content, Format, Label, fractions
from exactgrad.pulses.formats.text import TextFile, one_line
from exactgrad.pulses.pulse import Pulse

_BEGIN = re.compile(r'begin\s+shape\s*(\d*)\s*(?:"([^"]*)"?)?\s*', re.IGNORECASE | re.ASCII)
_END = re.compile(r"end\s+shape\s*(\d*)\s*", re.IGNORECASE | re.ASCII)
_COMPONENT_LIMIT = 1.000001


def read(path: Path) -> Content:
    """Read a file of one shape; raises `FormatError` with the line."""
    text = TextFile(path)
    rows: list[list[float]] = []
    begun = ended = None
    for number, line in enumerate(text.lines, 1):
        if not line.strip():
            continue
        if ended:
            raise text.error(number, f"more after 'end shape{ended[1]}'; a file of one shape is read")
        if begun is None:
            begun = _BEGIN.fullmatch(line.strip())
            if begun is None:
                raise text.error(number, "'begin shape' is needed first")
            continue
        ended = _END.fullmatch(line.strip())
        if ended:
            if ended[1] != begun[1]:
                raise text.error(number, f"'end shape{ended[1]}' closes 'begin shape{begun[1]}'")
        else:
            rows.append(_row(text, number, line))
    if not ended:
        raise text.error(len(text.lines), f"no 'end shape' after {len(rows)} points: cut off")
    if not rows:
        raise text.error(len(text.lines), "a shape without points")
    x, y = np.array(rows).T
    return Content(x, y, lengths=np.ones(x.size), title=begun[2] or "" if begun else "")


def _row(text: TextFile, number: int, line: str) -> list[float]:
    row = text.numbers(number, line, ("x", "y"), least=1)  # one column: a real shape
    if max(map(abs, row)) > _COMPONENT_LIMIT:
        raise text.error(number, f"{line.strip()[:40]!r}: x and y must be from -1 to 1")
    return row if len(row) == 2 else [row[0], 0.0]


def write(pulse: Pulse, label: Label) -> bytes:
    """Return the shape's bytes, as shape number 1."""
    x, y = (np.round(u, 6) + 0.0 for u in fractions(pulse, label.rf_max_hz))  # + 0.0: no "-0.000000"
    title = one_line(label.title).replace('"', "'")
    rows = [f"{a:.6f},{b:.6f}" for a, b in zip(x, y, strict=True)]
    return "\n".join([f'begin shape1 "{title}"', *rows, "end shape1", ""]).encode()


FORMAT = Format(
    name="xepr",
    title="Xepr shape (Bruker EPR, SpinJet AWG)",
    suffix=".shp",
    read=read,
    write=write,
    holds_z=False,
    holds_duration=False,
    holds_rf_max=False,
    needs_uniform_steps=True,
)

"""XDS geometry: ``XPARM.XDS`` and ``GXPARM.XDS`` of one detector segment.

Pixels are counted from 1 at their centre, so that ORGX = 0.5 is the outer edge (as in DIALS and the C program). The
cell axes are those at rotation angle 0; the incident beam vector points along the photons' way.
"""

from __future__ import annotations

from pathlib import Path

from exactgrad.diffraction.formats.experiment import Experiment, cell_matrix, make_panel, unit_vector, wavelength
from exactgrad.diffraction.formats.text import complaint, content_lines, numbers

_ROWS = (
    ("first image", "start deg", "range deg", "axis x", "axis y", "axis z"),
    ("wavelength A", "beam x", "beam y", "beam z"),
    ("space group", "a", "b", "c", "alpha", "beta", "gamma"),
    ("a x", "a y", "a z"),
    ("b x", "b y", "b z"),
    ("c x", "c y", "c z"),
    ("segments", "NX", "NY", "QX mm", "QY mm"),
    ("ORGX", "ORGY", "distance mm"),
    ("X x", "X y", "X z"),
    ("Y x", "Y y", "Y z"),
    ("Z x", "Z y", "Z z"),
)


def read(path: Path) -> Experiment:
    """Read the geometry of an XPARM.XDS file.

    Raises
    ------
    FormatError
        With the line: not such a file (the form before 2012 is not read), a number out of place, more segments.
    InputError, RefusedFile
        As `files.read_text`.
    """
    lines = list(content_lines(path, comment=""))
    if "XPARM.XDS" not in lines[0][1]:
        raise complaint(path, lines[0][0], "does not begin with XPARM.XDS: not such a file, or from before 2012")
    if len(lines) <= len(_ROWS):
        raise complaint(path, lines[-1][0], f"ends after {len(lines)} lines; {len(_ROWS) + 1} are needed")
    rows = [numbers(path, line, text, names) for (line, text), names in zip(lines[1:], _ROWS, strict=False)]
    spindle, beam, cell, a, b, c, counts, origin, x_axis, y_axis, z_axis = rows
    if counts[0] != 1:
        raise complaint(path, lines[7][0], f"{counts[0]:g} segments; one is read")
    if not (counts[1].is_integer() and counts[2].is_integer()):
        raise complaint(path, lines[7][0], f"NX NY = {counts[1]:g} {counts[2]:g}: whole numbers are needed")
    x, y, z = (unit_vector(path, f"detector {n}-axis", v) for n, v in zip("XYZ", (x_axis, y_axis, z_axis), strict=True))
    to_corner = origin[2] * z - (origin[0] - 0.5) * counts[3] * x - (origin[1] - 0.5) * counts[4] * y
    pixel = (counts[3] * 1e-3, counts[4] * 1e-3)
    shape = (int(counts[2]), int(counts[1]))
    return Experiment(
        panels=(make_panel(path, "1", (to_corner * 1e-3).tolist(), x.tolist(), y.tolist(), pixel, shape),),
        beam_direction=unit_vector(path, "incident beam", beam[1:]),
        wavelength_m=wavelength(path, beam[0] * 1e-10),
        cell_matrix_m=cell_matrix(path, [a, b, c]),
        rotation_axis=unit_vector(path, "rotation axis", spindle[3:]),
        start_deg=spindle[1],
        step_deg=spindle[2],
        space_group=f"{cell[0]:g}",
    )

"""docs/diffraction/job.md: what each key of a diffraction job means; parameters say it in the parameter table."""

from __future__ import annotations

import math

from exactgrad.diffraction.job import TABLES, Job
from exactgrad.diffraction.parameters.entry import Entry
from exactgrad.diffraction.parameters.table import NAMES
from exactgrad.diffraction.refine_job import RefineTable
from exactgrad.diffraction.refinement.plan import GROUPS
from generators import job_page

UNITS = {"deg": "°", "A": "Å", "um": "µm", "photons/m^2": "photons/m²", "": "1", "cells": "1"}

HEAD = """\
# The job file, key by key

<!-- Written by docs/generate.py from the models in src/exactgrad/diffraction: do not edit by hand. -->

A job is a [TOML](https://toml.io) file. Its keys are the names of the C program's options, in their units; every other
name of a parameter works too, in its own unit (`mosaic_spread_rad`, `lambda_A`, `distance_mm`). An unknown key is an
error that names the nearest known one. File names are relative to the job file.

`exactgrad diffraction simulate`, `refine` and `predict` read the same file: `simulate` leaves `[refine]` aside,
`refine` needs it. `exactgrad diffraction simulate --seed` replaces `noise.seed`; `refine` has `--seed`,
`--max-iterations` and `--max-seconds`, which replace the keys of the same name in `[refine]`.

A key without a default is not stated; what the program then does stands in its meaning. "Fixed" axes are the
laboratory's. In the MOSFLM convention x goes along the beam and z along the spindle, in the XDS convention z along the
beam and x along the spindle.
"""

SECTIONS = (
    ("", "Job", "Keys before the first table."),
    ("[crystal]", "CrystalTable", "Cell, orientation, size, mosaicity, sweep, and structure factors."),
    ("[beam]", "BeamTable", "Wavelength or spectrum, divergence, polarization, fluence."),
    (
        "[detector]",
        "DetectorTable",
        "Where it stands, its pixels, its sensor: stated in numbers, or by a geometry file of DIALS, CrystFEL, XDS or "
        "NeXus. Numbers go before the file, where both may speak.",
    ),
    ("[background]", "BackgroundTable", "What lies under the spots; all of it is added."),
    (
        "[noise]",
        "NoiseTable",
        "Photon counting and read-out. Without this table the expected photons are all there is.",
    ),
    ("[output]", "OutputTable", "Which files a simulation writes."),
)
IMAGES = """\
## `[[image]]`

One table an image; without any the job has one image. A key overrides that of `[crystal]`, `[beam]`, `[detector]` or
`[background]` for this image; `name` names its files. Seeds of the noise follow each other.

```text
[[image]]
name = "still_0"
misset_x = 10.0

[[image]]
name = "still_1"
misset_x = 40.0
fluence = 2e28
```
"""
REFINE = (
    (
        "[refine]",
        "RefineTable",
        "What was recorded, what is free, what is known, and how it is refined. A name is a parameter, by any of its "
        "names, or a group: " + "; ".join(f"`{word}` ({', '.join(of)})" for word, of in GROUPS.items()) + ".",
    ),
)

INDEXED = "Parameters with an index, in quotes: "
MEANING = {
    "Job.options": ("", "A command line of the C program that the tables build on."),
    "Job.c_compat": ("", "The C program's image, with its approximations, in place of correct physics."),
    "Job.image": ("", "See `[[image]]`."),
    "Job.refine": ("", "See `[refine]`."),
    "CrystalTable.cell": ("Å, °", "a, b, c, α, β, γ; edges left out are like a, angles 90°."),
    "CrystalTable.matrix": ("", "MOSFLM matrix file (nine numbers): cell and orientation."),
    "CrystalTable.misset": ("°", "Turns about the fixed x, y, z, in this order; or a random orientation."),
    "CrystalTable.misset_seed": ("", "Of a random orientation; drawn and told if not given."),
    "CrystalTable.N": ("1", "Unit cells along every edge, or along a, b, c; 1 if not given."),
    "CrystalTable.samplesize": ("mm", "Edge of the crystal, in place of `N`; beyond the beam it is cut."),
    "CrystalTable.sample_x": ("mm", "Edge along x, the first cell axis."),
    "CrystalTable.sample_y": ("mm", "Edge along y, the second cell axis."),
    "CrystalTable.sample_z": ("mm", "Edge along z, the third cell axis."),
    "CrystalTable.shape": (
        "",
        "Of the crystal, and so of its spots: a parallelepiped, a ball, a Gaussian; `tophat` lights a spot fully or "
        'not at all and has no derivative. `"square"` if not given.',
    ),
    "CrystalTable.metric": (
        "",
        "In which space the distance to a reflection is measured; `reciprocal` is the C program's for round, "
        'Gaussian and tophat spots. `"hkl"` if not given.',
    ),
    "CrystalTable.fudge": ("1", "Widens or narrows round, Gaussian and tophat spots; 1 if not given."),
    "CrystalTable.mosaic_kind": ("", 'Domains spread evenly over a cap, or as a Gaussian; `"cap"` if not given.'),
    "CrystalTable.mosaic_domains": ("1", "How many domains stand for the mosaicity; 10 if not given."),
    "CrystalTable.mosaic_seed": ("", "Of the domains; 12345678 if not given, as in the C program."),
    "CrystalTable.mosaic_matrices": ("", "NumPy file of rotation matrices, (domains, 9), in place of a spread."),
    "CrystalTable.phistep": ("°", "Between steps of the sweep; give two of `osc`, `phistep`, `phisteps`."),
    "CrystalTable.phisteps": ("1", "Steps of the sweep."),
    "CrystalTable.hkl": (
        "",
        "File of amplitudes: h, k, l, F a line, or mmCIF structure factors. Exactly one of `hkl`, `mtz`, "
        "`coordinates`, or `default_F` alone.",
    ),
    "CrystalTable.mtz": ("", "MTZ file of amplitudes; its cell is taken if none is stated."),
    "CrystalTable.coordinates": ("", "PDB or mmCIF file (gzipped or not), from which amplitudes are computed."),
    "CrystalTable.anomalous": (
        "",
        "With f′ and f″ of every element, at the wavelength of each source: Friedel mates differ.",
    ),
    "CrystalTable.column": ("", "Label of the amplitudes in `mtz` or an mmCIF `hkl`; chosen and told if not given."),
    "CrystalTable.resolution": ("Å", "To which amplitudes are computed from `coordinates`; 0.3 or more."),
    "CrystalTable.k_sol": ("e/Å³", "Density of a flat bulk solvent; about 0.35 is usual, none if not given."),
    "CrystalTable.b_sol": ("Å²", "Its B factor; 46 if not given."),
    "CrystalTable.default_F": ("electrons", "0 if not given, where a list is."),
    "CrystalTable.interpolate": (
        "",
        "Structure factors between lattice points by cubic interpolation; if not given, for crystals of two "
        "cells or fewer along an edge.",
    ),
    "CrystalTable.dmin": ("Å", "Diffraction at smaller spacings is left out."),
    "CrystalTable.parameters": ("", INDEXED + '`"F[1,-2,3]" = 120.0`; written straight into `[crystal]`, too.'),
    "BeamTable.lambda": ("Å", "1 if neither it nor `energy` nor a geometry says it."),
    "BeamTable.energy": ("eV", "In place of `lambda`."),
    "BeamTable.fluence": (
        "photons/m²",
        "1.26e29 if not given, 1/rₑ², so that the classical radius of the electron drops out.",
    ),
    "BeamTable.flux": ("photons/s", "With `exposure` and `beamsize`, in place of `fluence`."),
    "BeamTable.exposure": ("s", "1 if not given."),
    "BeamTable.beamsize": ("mm", "Side of the square beam; 0.1 if not given."),
    "BeamTable.dispsteps": ("1", "Wavelengths of a spectrum of width `dispersion`; 2 if not given."),
    "BeamTable.wavelengths": ("Å", "A spectrum, in place of `lambda`; every direction of the divergence has all."),
    "BeamTable.weights": ("1", "Of `wavelengths`; equal if not given. Only their ratios count."),
    "BeamTable.divergence": ("mrad", "Full width in both directions."),
    "BeamTable.hdivrange": ("mrad", "Full width in the horizontal direction (along the polarization)."),
    "BeamTable.vdivrange": ("mrad", "Full width in the vertical direction."),
    "BeamTable.hdivstep": ("mrad", "Between rays; range and steps, or range and step, say it all."),
    "BeamTable.vdivstep": ("mrad", "Between rays."),
    "BeamTable.divsteps": ("1", "Rays in both directions."),
    "BeamTable.hdivsteps": ("1", "Rays in the horizontal direction."),
    "BeamTable.vdivsteps": ("1", "Rays in the vertical direction."),
    "BeamTable.round_div": ("", "Leave out the corners of the grid of rays; `true` if not given."),
    "BeamTable.sourcefile": (
        "",
        "Text file of sources: X, Y, Z (from the crystal), then optionally weight and wavelength (m), a line.",
    ),
    "BeamTable.nopolar": ("", "No polarization factor at all."),
    "BeamTable.polar": ("1", "0 if not given (unpolarized); 1 along the polarization axis."),
    "BeamTable.beam_vector": ("1", "Direction of the beam; normalised. The convention's if not given."),
    "BeamTable.polar_vector": ("1", "Direction of the polarization; normalised."),
    "BeamTable.parameters": ("", INDEXED + '`"weight[2]" = 0.5`, `"lambda[0]" = 1.01`; straight in `[beam]`, too.'),
    "DetectorTable.geometry": (
        "",
        "Geometry file: DIALS (`.expt`, `.json`), CrystFEL (`.geom`), NeXus (`.nxs`, `.h5`), else XPARM.XDS. Beam, "
        "spindle and crystal in it are taken where the job does not state them.",
    ),
    "DetectorTable.panel": (
        "",
        'Which panel of the geometry, from 0; `"all"` makes one image a panel, in one common frame.',
    ),
    "DetectorTable.experiment": ("", "Which experiment of a DIALS file, from 0."),
    "DetectorTable.convention": (
        "",
        'Axes at rest, and what beam centre and pivot mean; `"mosflm"` if not given. See the beam centre\'s keys.',
    ),
    "DetectorTable.distance": ("mm", "100 if not given."),
    "DetectorTable.pixel": ("mm", "Edge of a pixel; 0.1 if not given."),
    "DetectorTable.detpixels": ("1", "Pixels along both sides, or [slow, fast]."),
    "DetectorTable.detpixels_f": ("1", "Pixels along the fast axis."),
    "DetectorTable.detpixels_s": ("1", "Pixels along the slow axis."),
    "DetectorTable.detsize": ("mm", "Both sides, in place of `detpixels`; 102.4 if not given."),
    "DetectorTable.detsize_f": ("mm", "Along the fast axis."),
    "DetectorTable.detsize_s": ("mm", "Along the slow axis."),
    "DetectorTable.Xbeam": ("mm", "X and Y are those of the convention; the middle of the detector if not given."),
    "DetectorTable.Ybeam": ("mm", ""),
    "DetectorTable.beam_f": ("mm", "Along the fast axis, from the first pixel's outer corner, in every convention."),
    "DetectorTable.beam_s": ("mm", "The same along the slow axis."),
    "DetectorTable.Xclose": ("mm", "Along the fast axis."),
    "DetectorTable.Yclose": ("mm", "Along the slow axis."),
    "DetectorTable.ORGX": ("px", "As XDS counts: 0.5 is the outer edge of the first pixel."),
    "DetectorTable.ORGY": ("px", "The same along the slow axis."),
    "DetectorTable.pivot": (
        "",
        "What stays in place when the detector turns: the sample, or the direct beam's place on the detector. If not "
        "given: `sample` with a near point, `beam` with a beam centre, else the convention's.",
    ),
    "DetectorTable.twotheta_axis": ("1", "Axis of the swing; normalised."),
    "DetectorTable.fdet_vector": ("1", "Fast axis at rest; normalised."),
    "DetectorTable.sdet_vector": ("1", "Slow axis at rest; normalised."),
    "DetectorTable.odet_vector": ("1", "Normal at rest, away from the crystal; normalised."),
    "DetectorTable.pix0_vector": ("m", "Outer corner of the first pixel, in place of distance and beam centre."),
    "DetectorTable.spindle_axis": ("1", "Axis of the sweep; normalised."),
    "DetectorTable.curved_det": ("", "All pixels at the distance of the nearest one, as if on a ball."),
    "DetectorTable.point_pixel": ("", "No solid angle: a pixel counts for its place alone."),
    "DetectorTable.detector_abs": ("µm", "`inf`: no absorption, which is so if it is not given."),
    "DetectorTable.detector_thick": ("µm", "Needs `detector_abs`."),
    "DetectorTable.detector_thicksteps": ("1", "Layers of the sensor; 2 if not given."),
    "DetectorTable.oversample": ("1", "Sub-pixels along each side; as many as the crystal asks for if not given."),
    "DetectorTable.roi": ("px", "First and last pixel along the fast, then along the slow axis; others stay 0."),
    "DetectorTable.mask": ("", "SMV, CBF, PGM, `.npy` or NeXus image; pixels that are 0 in it stay 0."),
    "DetectorTable.img": ("", "SMV image whose header says what the job does not."),
    "DetectorTable.parameters": (
        "",
        "Parameters that have no key of their own: `parameters = {panel_shift_fast = 0.02}`.",
    ),
    "BackgroundTable.water": ("µm", ""),
    "BackgroundTable.flat": ("photons/px", "The same in every pixel."),
    "BackgroundTable.stol": ("", "Text file: sin θ/λ (1/Å) and F of one molecule (electrons), a line."),
    "BackgroundTable.molecules": ("1", "In the beam, of `stol`."),
    "BackgroundTable.volume_mm3": ("mm³", "Illuminated, of `stol`; with density and molar mass for `molecules`."),
    "BackgroundTable.density_g_cm3": ("g/cm³", "Of what scatters as `stol`."),
    "BackgroundTable.molar_mass": ("g/mol", "Of a molecule of it."),
    "NoiseTable.seed": ("", "Of the first image; the next one has the next."),
    "NoiseTable.c_identical": ("", "The C program's noise, bit for bit; `seed` and `offset_adu` are then all."),
    "NoiseTable.flicker": ("1", "Relative standard deviation of the source during a pixel's exposure."),
    "NoiseTable.calibration": ("1", "Relative standard deviation of the pixels' sensitivity."),
    "NoiseTable.calibration_seed": ("", "Names the detector whose sensitivities are meant."),
    "NoiseTable.spread": ("", "Shape of the point spread; none if not given."),
    "NoiseTable.spread_fwhm_px": ("px", "Its full width at half maximum."),
    "NoiseTable.gain_adu": ("ADU", "Per photon."),
    "NoiseTable.offset_adu": ("ADU", "Added to every pixel."),
    "NoiseTable.readout_adu": ("ADU", "Standard deviation of the read-out noise."),
    "NoiseTable.saturation_adu": ("ADU", "Larger values are cut to it and counted; at most 65535."),
    "OutputTable.formats": (
        "",
        "Images as NumPy, raw float32 (the C program's), SMV, CBF, NeXus, TIFF, or as a preview (PNG, PGM).",
    ),
    "OutputTable.name": ("", "File name without suffix; several images get numbers."),
    "OutputTable.scale": ("1", "Of integer images without noise; chosen and told if not given."),
    "OutputTable.expected": ("", "With noise, also write the expected photons, `NAME_expected.npy`."),
    "OutputTable.spots": ("", "Write the predicted spots, `NAME_spots.csv`."),
    "OutputTable.least_excitation": ("1", "Spots less excited than this share of their maximum are left out."),
    "OutputTable.figures": ("", "Draw the figures."),
}
REFINE_MEANING = {
    "RefineTable.data": (
        "",
        "The recorded images: one file an image of the job (its panels one after the other), or one NeXus file of as "
        "many frames.",
    ),
    "RefineTable.gain_adu": ("ADU", "Per photon; that of `[noise]` if not given, or 1."),
    "RefineTable.offset_adu": ("ADU", "In every pixel; that of `[noise]` if not given, or 0."),
    "RefineTable.readout_adu": ("ADU", "Standard deviation; that of `[noise]` if not given, or 0."),
    "RefineTable.trusted_adu": ("ADU", "From and to; pixels beyond are left out. Below the saturation if not given."),
    "RefineTable.free": ("", "Names and groups that are refined."),
    "RefineTable.per_image": ("", "Those of them that every image has for itself, all its panels together."),
    "RefineTable.image_groups": (
        "",
        "Images that have one number together: `[[1, 2], [3, 4]]`, counted from 1 as in the results.",
    ),
    "RefineTable.per_panel": (
        "",
        'Those that every panel has for itself, in all images together (`detector.panel = "all"`): `["panels"]`, or '
        "what moves a group as one body, `detector_shift_x` to `_z` and `detector_rotx` to `_z`, about the crystal.",
    ),
    "RefineTable.panel_groups": ("", "Panels that move together: `[[0, 1], [2, 3]]`, counted from 0."),
    "RefineTable.fixed": ("", "Names taken out of what a group brought in."),
    "RefineTable.tied": ("", 'One follows another: `{cell_b = "cell_a", Nc = "2 Na"}`.'),
    "RefineTable.bounds": ("of the name", "`{distance = [79.0, 81.0]}`: kept at every iterate."),
    "RefineTable.restraints": ("of the name", "`{cell_a = [25.0, 0.05]}`: value and standard error."),
    "RefineTable.space_group": ("", "Symbol or number; it constrains the cell. That of `crystal.mtz` if not given."),
    "RefineTable.loss": (
        "",
        "The likelihood of the counts; least squares with their variance; or one of two that outliers do not sway.",
    ),
    "RefineTable.background": (
        "",
        "A plane under every spot; one level an image; or nothing (then `[background]` may state neither `flat` nor "
        "`stol`).",
    ),
    "RefineTable.positions": ("", "Begin from the positions of the spots that are found in the images."),
    "RefineTable.stages": (
        "",
        'Names and groups of each stage, the last one `["all"]`. If not given: scale; with mosaicity and size; all '
        "(without `positions` orientation, then cell and detector come in between).",
    ),
    "RefineTable.radius_px": ("px", "How far a spot's pixels reach beyond its prediction."),
    "RefineTable.least_excitation": ("1", "Spots less excited than this share of their maximum are left out."),
    "RefineTable.method": ("", "Levenberg-Marquardt, or L-BFGS."),
    "RefineTable.max_iterations": ("", "Budget of the last stage; exit code 3 when it is used up."),
    "RefineTable.max_seconds": ("s", "Budget of wall time, that of earlier processes (`resume`) included."),
    "RefineTable.tolerance": ("1", "Relative decrease of the loss below which a stage has converged."),
    "RefineTable.seed": ("", "Begin from a random place about the stated one."),
    "RefineTable.figures": ("", "Draw the figures."),
}


def page() -> str:
    """Return the page."""
    meaning, also = _with_parameters()
    simulate = job_page.page(HEAD, Job, SECTIONS, meaning, also)
    return "\n".join((simulate, IMAGES, job_page.page("", RefineTable, REFINE, REFINE_MEANING).lstrip("\n")))


def _with_parameters() -> tuple[dict[str, tuple[str, str]], dict[str, tuple[str, str]]]:
    """Return `MEANING` with what the parameter table says, and the parameters' bounds and other names."""
    found, also = dict(MEANING), {}
    for model in TABLES.values():
        for key in model.key_names():
            if key not in NAMES or NAMES[key][0].name != key:
                continue
            place, entry = f"{model.__name__}.{key}", NAMES[key][0]
            unit, note = found.get(place, (None, ""))
            text = entry.meaning[0].upper() + entry.meaning[1:] + "."
            found[place] = (UNITS.get(entry.unit, entry.unit) if unit is None else unit, f"{text} {note}".strip())
            also[place] = (_bounds(entry), _other_names(entry))
    return found, also


def _bounds(entry: Entry) -> str:
    ends = (("≥", entry.low), ("≤", entry.high))
    return ", ".join(f"{sign} {job_page.number(end)}" for sign, end in ends if math.isfinite(end) and abs(end) < 1e15)


def _other_names(entry: Entry) -> str:
    own = UNITS.get(entry.unit, entry.unit)
    units = [(name, UNITS.get(unit, unit)) for name, unit, _ in entry.aliases]
    return ", ".join(f"`{name}`" + (f" ({unit})" if unit != own else "") for name, unit in units)


def meaning_of(key: str) -> tuple[str, str]:
    """Return unit and meaning of a key of the scene's tables."""
    found = _with_parameters()[0]
    return next(found[f"{model.__name__}.{key}"] for model in TABLES.values() if key in model.key_names())

"""docs/tomography/job.md: what each key of the two tomography jobs means."""

from __future__ import annotations

from exactgrad.tomography import reconstruct_job, simulate
from generators import job_page

HEAD = """\
# The job files, key by key

<!-- Written by docs/generate.py from the models in src/exactgrad/tomography: do not edit by hand. -->

Jobs are [TOML](https://toml.io) files. Lengths are in voxel edges, which are the detector's pixels; angles in degrees.
An unknown key is an error, and so is text where a number is needed; the message names file, key, value and what is
allowed. There are two: one says how a measurement is simulated, the other how one is reconstructed.

# A simulation: `exactgrad tomography simulate JOB.toml --out DATA.h5`
"""
SIMULATE = (
    ("[phantom]", "PhantomTable", "What is measured; its amplitude, B and axis go into the data file as the truth."),
    (
        "[scan]",
        "ScanTable",
        "Projections, pixels and segments. Exactly one of `projections` and `projections_at_zero` is needed.",
    ),
    ("[measure]", "MeasureTable", "Counts, and what goes wrong."),
)
SIMULATE_MEANING = {
    "PhantomTable.name": (
        "",
        "A twisted bundle of fibres; struts between random nodes; a plain weave; lamellae around z whose outer half "
        "scatters in rings (B < 0).",
    ),
    "PhantomTable.shape": ("voxels", "Along x, y, z."),
    "PhantomTable.seed": ("", "Of everything that is random in it."),
    "PhantomTable.sharpness": ("1", "Mean of |B| over the support, about."),
    "ScanTable.scheme": (
        "",
        "Tilts with their share of projections each (Liebi et al.); beams spread evenly over the zone that the tilts "
        "reach; equal steps about one axis, from which axes in 3-D are ambiguous.",
    ),
    "ScanTable.projections": ("", "In all."),
    "ScanTable.projections_at_zero": ("", 'Without tilt, of scheme `"liebi"`; the tilted ones follow from it.'),
    "ScanTable.projections_tilted": ("", "In all tilts; belongs to `projections_at_zero`."),
    "ScanTable.max_tilt_deg": ("°", "Of the inner axis about the outer one."),
    "ScanTable.tilts": ("", 'Of scheme `"liebi"`, zero left out.'),
    "ScanTable.span_deg": ("°", 'Of scheme `"single-axis"`.'),
    "ScanTable.segments": ("", "Azimuthal segments of the detector."),
    "ScanTable.full_circle": ("", "Segments over 360° in place of 180°, where opposite ones see the same."),
    "ScanTable.first_segment_deg": ("°", "Centre of the first segment; half of its width if not given."),
    "ScanTable.pixels": ("pixels", "[J, K] of a projection; as many as the volume needs if not given."),
    "ScanTable.two_theta_deg": ("°", "Scattering angle: of a curved Ewald sphere above 0."),
    "ScanTable.integration": ("", "A segment's intensity at its centre, or its mean over the segment."),
    "ScanTable.pixel_size": ("`length_unit`", "Written into the data file."),
    "ScanTable.length_unit": ("", "Of `pixel_size`."),
    "ScanTable.q": ("`q_unit`", "Written into the data file."),
    "ScanTable.q_unit": ("", "Of `q`."),
    "MeasureTable.scale": ("counts", "Per unit of A² and voxel edge."),
    "MeasureTable.noise": ("", "Counting, or none."),
    "MeasureTable.absorption": ("1/voxel edge", "Of the sample; T = exp(−absorption · path) is the file's diode."),
    "MeasureTable.offset_px": ("pixels", "Standard deviation of the projections' offsets that the file tells."),
    "MeasureTable.misalignment_px": ("pixels", "The same of those that it does not."),
    "MeasureTable.dead_segments": ("", "Numbers of segments, from 0, without weight."),
    "MeasureTable.bad_fraction": ("1", "Of single values without weight."),
    "MeasureTable.dropped_projections": ("", "Numbers of projections, from 0, without weight."),
    "MeasureTable.seed": ("", "Of noise, offsets and losses."),
}

MIDDLE = """\
# A reconstruction: `exactgrad tomography reconstruct DATA --out DIR --job JOB.toml`

Everything has a default, so that most data need no job. `--max-iterations`, `--max-seconds` and `--seed` replace the
keys of the same name in `[solve]`.
"""
RECONSTRUCT = (
    ("[data]", "DataTable", "Which part of the file."),
    ("[model]", "ModelTable", "How far a modelled intensity is from a measured one."),
    ("[mask]", "MaskTable", "Which voxels there are."),
    (
        "[regularisation]",
        "RegularisationTable",
        "Neighbours are alike. A weight of 1 counts a turn of a voxel's axis as much as all of the intensity that the "
        "voxel scatters. It counts less for voxels below a tenth of a bright one's intensity, and for neighbours of "
        "which one is much dimmer than the other.",
    ),
    ("[solve]", "SolveTable", "Budgets. The same data, job and seed give the same volume bit for bit."),
    ("[basin]", "BasinTable", "A needle and a ring are different basins of the cost."),
    ("[align]", "AlignTable", "Offsets of the projections that the file does not know."),
    ("[quality]", "QualityTable", "How good the result is."),
    ("[output]", "OutputTable", "What is written beside `result.h5`."),
)
RECONSTRUCT_MEANING = {
    "DataTable.q": (
        "",
        "Number of the q that is reconstructed, from 0, or all of them; needed where the file has several. Several "
        "share the geometry, each is started from its neighbour, and the results are in `q_000`, `q_001`, ...",
    ),
    "DataTable.q_range": ("as the file's q", "From and to: those of this range, in place of `q`."),
    "ModelTable.cost": (
        "",
        "The square-root cost of the seed note, 2 Σ w (√(Î + e0) − √(I + e0))²; the likelihood of counts; least "
        "squares.",
    ),
    "ModelTable.e0": (
        "as the data",
        'Added to both intensities; if not given 0, and for `"poisson"` a thousandth of the mean intensity.',
    ),
    "MaskTable.automatic": ("", "Leave out voxels that empty rays pass; `false` keeps the whole volume."),
    "MaskTable.threshold": ("1", "A pixel is empty if it is darker than this share of a bright one."),
    "RegularisationTable.weight": ("1", '`"auto"`: the one that predicts held-out pixels best.'),
    "RegularisationTable.axis": ("1", "Share of the weight for axes, which know that u and −u are the same."),
    "RegularisationTable.A": ("1", "Share for the amplitude A."),
    "RegularisationTable.B": ("1", "Share for B."),
    "RegularisationTable.delta_A": (
        "1",
        "Above this step between neighbours the cost of A grows no longer as its "
        "square, so that edges stay; in units of a typical A.",
    ),
    "RegularisationTable.delta_B": ("1", "The same for B."),
    "RegularisationTable.held_out": ("1", "Share of the pixels that are kept out while the weight is chosen."),
    "SolveTable.max_iterations": ("", "Of the last fit; exit code 3 when it is used up."),
    "SolveTable.path_iterations": ("", "Of each fit before it."),
    "SolveTable.max_seconds": ("s", "Budget of wall time, that of earlier processes (`resume`) included."),
    "SolveTable.tolerance": ("1", "Relative decrease of the loss below which a fit has converged."),
    "SolveTable.memory": ("", "Pairs that L-BFGS keeps."),
    "SolveTable.seed": ("", "Of what is held out, of the halves, and of the errors' samples."),
    "BasinTable.rounds": ("", "In each, voxels are offered the other sign of B and other axes; 0: never."),
    "AlignTable.rounds": ("", "Of refined offsets, each after a fit of smooth voxels; 0 trusts the file."),
    "AlignTable.most_pixels": ("pixels", "No offset goes further from the file's."),
    "QualityTable.samples": ("", "From which standard errors are estimated; 0: none are."),
    "QualityTable.split_half": ("", "Reconstruct two halves of the projections and compare them."),
    "OutputTable.figures": ("", "Draw the figures."),
    "OutputTable.residuals": ("", "Write measured minus modelled intensities."),
}


def page() -> str:
    """Return the page."""
    first = job_page.page(HEAD, simulate.Job, SIMULATE, SIMULATE_MEANING)
    return first + "\n" + job_page.page(MIDDLE, reconstruct_job.Job, RECONSTRUCT, RECONSTRUCT_MEANING)

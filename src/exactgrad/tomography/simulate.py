"""The simulator: a phantom, a tilt scheme and the flaws of a measurement make a data file whose truth is known.

The file is in mumott's format, with a group ``truth``: ``A``, ``B``, ``theta_op``, ``phi_op`` (x, y, z), the intensity
``I`` (n, J, K, S) without noise and absorption, ``rotation``, ``q_sample``, ``scale``, ``mu``, and the offsets
``j_offset``, ``k_offset`` that the data were made with. The data are ``scale`` T I, or Poisson counts of that mean; T,
the ``diode``, is exp(-mu path) with the path through the support.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from exactgrad import __version__
from exactgrad.errors import InputError
from exactgrad.tomography import phantoms, schemes
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.formats import mumott
from exactgrad.tomography.geometry import Geometry
from exactgrad.tomography.tables import Count, Flag, NotNegative, Positive, Seed, Table, Whole, read_job

MOST_VALUES = 1 << 31  # of the data: 8 GiB in float32
Side = Annotated[Whole, Field(ge=8, le=phantoms.LONGEST_SIDE)]
Degrees = Annotated[float, Field(ge=-360, le=360, allow_inf_nan=False)]


class PhantomTable(Table):
    """[phantom]: what is measured."""

    name: Literal["fibres", "trabecula", "woven", "rings"] = "fibres"
    shape: tuple[Side, Side, Side] = (24, 24, 24)
    seed: Seed = 0
    sharpness: Positive = 3.0


class ScanTable(Table):
    """[scan]: projections, pixels and segments."""

    scheme: Literal["liebi", "equal-area", "single-axis"] = "liebi"
    projections: Count | None = None
    projections_at_zero: Count | None = None
    projections_tilted: Count | None = None
    max_tilt_deg: Annotated[float, Field(gt=0, le=90, allow_inf_nan=False)] = 45.0
    tilts: Count | None = None
    span_deg: Annotated[float, Field(gt=0, le=360, allow_inf_nan=False)] = 180.0
    segments: Annotated[Count, Field(le=3600)] = 8
    full_circle: Flag = False
    first_segment_deg: Degrees | None = None
    pixels: tuple[Count, Count] | None = None
    two_theta_deg: Annotated[float, Field(ge=0, lt=90, allow_inf_nan=False)] = 0.0
    integration: Literal["midpoint", "mean"] = "midpoint"
    pixel_size: Positive | None = None
    length_unit: str = "um"
    q: Positive | None = None
    q_unit: str = "1/nm"

    @model_validator(mode="after")
    def _keys_fit_the_scheme(self) -> ScanTable:
        belongs = {
            "projections_at_zero": ("liebi",),
            "projections_tilted": ("liebi",),
            "tilts": ("liebi",),
            "max_tilt_deg": ("liebi", "equal-area"),
            "span_deg": ("single-axis",),
        }
        for key, kinds in belongs.items():
            if key in self.model_fields_set and self.scheme not in kinds:
                raise ValueError(f"{key} belongs to scheme = {' or '.join(repr(kind) for kind in kinds)}")
        if (self.projections is None) == (self.projections_at_zero is None):
            also = " or projections_at_zero" if self.scheme == "liebi" else ""
            raise ValueError(f"projections{also}: exactly one is needed")
        if self.projections is not None and self.projections_tilted is not None:
            raise ValueError("projections_tilted belongs to projections_at_zero, not to projections")
        return self

    def angles(self) -> schemes.Scheme:
        """Return the angles of the scheme; raises `InputError` if they cannot be made."""
        if self.scheme == "single-axis":
            return schemes.single_axis(int(self.projections or 0), self.span_deg)
        if self.scheme == "equal-area":
            return schemes.equal_area(int(self.projections or 0), self.max_tilt_deg)
        if self.projections_at_zero is not None:
            return schemes.liebi(self.projections_at_zero, self.max_tilt_deg, self.tilts, self.projections_tilted)
        return schemes.liebi_of(int(self.projections or 0), self.max_tilt_deg, self.tilts or 5)

    def detector_angles(self) -> np.ndarray:
        """Return the centres of the segments, rad."""
        width = (2 * np.pi if self.full_circle else np.pi) / self.segments
        first = width / 2 if self.first_segment_deg is None else np.deg2rad(self.first_segment_deg)
        return first + width * np.arange(self.segments)


class MeasureTable(Table):
    """[measure]: counts, and what goes wrong. Lengths in pixels, which are voxel edges."""

    scale: Positive = 50.0
    noise: Literal["poisson", "none"] = "poisson"
    absorption: NotNegative = 0.0
    offset_px: NotNegative = 0.0
    misalignment_px: NotNegative = 0.0
    dead_segments: tuple[Annotated[Whole, Field(ge=0)], ...] = ()
    bad_fraction: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    dropped_projections: tuple[Annotated[Whole, Field(ge=0)], ...] = ()
    seed: Seed = 0


class Job(Table):
    """A whole simulation.

    [phantom] name, shape, seed, sharpness. [scan] scheme with its keys, segments, full_circle, pixels, two_theta_deg.
    [measure] scale (counts per unit A^2 and voxel edge), noise, absorption (per voxel edge), offset_px (spread of the
    offsets that the file tells), misalignment_px (of those that it does not), dead_segments, bad_fraction (single
    values lost), dropped_projections.
    """

    phantom: PhantomTable = PhantomTable()
    scan: ScanTable
    measure: MeasureTable = MeasureTable()

    @model_validator(mode="after")
    def _within(self) -> Job:
        if any(s >= self.scan.segments for s in self.measure.dead_segments):
            raise ValueError(f"measure.dead_segments: must be from 0 to {self.scan.segments - 1}, of scan.segments")
        return self


@dataclass(frozen=True)
class Simulation:
    """Data as a beamline would give them, and the truth behind them.

    Attributes
    ----------
    data : Dataset
        Its geometry has the offsets that the file tells.
    angles : dict
        What `formats.mumott.write` takes.
    truth : dict of str to ndarray
        Names as in the group ``truth``.
    """

    data: Dataset
    angles: dict[str, np.ndarray]
    truth: dict[str, Any]


def simulate(job: Any, out: Any, threads: int | None = None) -> dict[str, Any]:
    """Simulate a job and write the data file.

    Parameters
    ----------
    job : path or dict
        A TOML file, or its tables.
    out : path
        The HDF5 file; must not exist.
    threads : int, optional
        Most threads; results do not depend on it.

    Returns
    -------
    dict
        What `--json` prints.

    Raises
    ------
    InputError
        One line: which key of the job is wrong, or why the file cannot be written.
    """
    from time import monotonic

    began = monotonic()
    out = Path(out)
    if out.exists():
        raise InputError(f"{out}: exists already and is not overwritten")
    checked, text = read_job(job, Job)
    made = make(checked, threads)
    truth = {f"truth/{name}": values for name, values in made.truth.items()}
    mumott.write(out, made.data, made.angles, truth | {"job": np.frombuffer(text.encode(), np.uint8)})
    shape, support = made.data.shape, made.truth["A"] > 0
    intensity = made.truth["scale"] * made.truth["I"]
    return {
        "system": "tomography",
        "command": "simulate",
        "version": __version__,
        "status": "written",
        "message": f"{checked.phantom.name}: {shape[0]} projections of {shape[1]} x {shape[2]} x {shape[3]} values",
        "file": str(out),
        "projections": shape[0],
        "pixels": list(shape[1:3]),
        "segments": shape[3],
        "volume_shape": list(support.shape),
        "voxels": int(support.sum()),
        "mean_counts": float(intensity[intensity > 0].mean()) if (intensity > 0).any() else 0.0,
        "seconds": monotonic() - began,
    }


def make(job: Job, threads: int | None = None) -> Simulation:
    """Simulate a job in memory; raises as `simulate`.

    Examples
    --------
    >>> job = Job.model_validate({"phantom": {"shape": [8, 8, 8]}, "scan": {"projections": 12, "segments": 4}})
    >>> make(job).data.shape[0]
    12
    """
    from exactgrad.tomography.problem import TomographyProblem
    from exactgrad.tomography.sphere import angles_from_axis

    phantom = phantoms.make(job.phantom.name, job.phantom.shape, job.phantom.seed, job.phantom.sharpness)
    scheme = job.scan.angles()
    _check_drops(job, len(scheme))
    random = np.random.default_rng(job.measure.seed)
    told = random.normal(0.0, 1.0, (len(scheme), 2)) * job.measure.offset_px
    untold = random.normal(0.0, 1.0, (len(scheme), 2)) * job.measure.misalignment_px
    true = _geometry(job, scheme, told + untold, phantom.support)
    blank = Dataset(true, np.zeros(_shape(true), np.float32))
    clean = TomographyProblem(blank, threads=threads).forward(A=phantom.A, B=phantom.B, axis=phantom.axis)
    through = np.exp(-job.measure.absorption * _path(true, phantom.support, threads))
    mean = job.measure.scale * through[..., None] * clean
    counts = random.poisson(mean).astype(np.float64) if job.measure.noise == "poisson" else mean
    theta, phi = angles_from_axis(phantom.axis)
    data = Dataset(
        true.with_offsets(told[:, 0], told[:, 1]),
        counts.astype(np.float32),
        _weights(job, counts.shape, random),
        through,
        q=job.scan.q,
        q_unit=job.scan.q_unit if job.scan.q is not None else "",
        pixel_size=job.scan.pixel_size,
        length_unit=job.scan.length_unit if job.scan.pixel_size is not None else "",
        name=job.phantom.name,
    )
    truth = {
        "A": phantom.A,
        "B": phantom.B,
        "theta_op": theta,
        "phi_op": phi,
        "I": clean.astype(np.float32),
        "rotation": true.rotation,
        "q_sample": true.q_vectors(),
        "scale": job.measure.scale,
        "mu": job.measure.absorption,
        "j_offset": true.j_offset,
        "k_offset": true.k_offset,
    }
    return Simulation(data, _written_angles(scheme), truth)


def _check_drops(job: Job, count: int) -> None:
    for number in job.measure.dropped_projections:
        if number >= count:
            raise InputError(f"measure.dropped_projections: {number}: must be from 0 to {count - 1}")


def _geometry(job: Job, scheme: schemes.Scheme, offsets: np.ndarray, support: np.ndarray) -> Geometry:
    outer, inner = np.array(mumott.OUTER_AXIS), np.array(mumott.INNER_AXIS)
    rotation = np.stack(
        [
            mumott.rotation_of(outer, tilt) @ mumott.rotation_of(inner, turn)
            for turn, tilt in zip(np.deg2rad(scheme.turn_deg), np.deg2rad(scheme.tilt_deg), strict=True)
        ]
    )
    pixels = job.scan.pixels or _pixels_for(rotation, support, offsets)
    if len(rotation) * pixels[0] * pixels[1] * job.scan.segments > MOST_VALUES:
        raise InputError(
            f"scan: {len(rotation)} projections of {pixels[0]} x {pixels[1]} pixels with {job.scan.segments} segments: "
            f"at most {MOST_VALUES} values are simulated"
        )
    return Geometry(
        rotation=rotation,
        projection_shape=pixels,
        volume_shape=job.phantom.shape,
        detector_angles=job.scan.detector_angles(),
        j_offset=offsets[:, 0],
        k_offset=offsets[:, 1],
        two_theta=float(np.deg2rad(job.scan.two_theta_deg)),
        integration=job.scan.integration,
    )


def _pixels_for(rotation: np.ndarray, support: np.ndarray, offsets: np.ndarray) -> tuple[int, int]:
    """Return the smallest scan that sees all of the support in every projection, with a pixel to spare."""
    at = np.argwhere(support) - (np.array(support.shape) - 1) / 2
    half = np.max([np.abs(at @ turn[[0, 2]].T).max(axis=0) for turn in rotation], axis=0)  # j is x, k is z in the lab
    half += np.abs(offsets).max(axis=0) + 1.5
    return (int(2 * np.ceil(half[0])), int(2 * np.ceil(half[1])))


def _shape(geometry: Geometry) -> tuple[int, int, int, int]:
    return (geometry.projections, *geometry.projection_shape, geometry.segments)


def _path(geometry: Geometry, support: np.ndarray, threads: int | None) -> np.ndarray:
    """Return how far each ray runs through the support, in voxel edges, shape (n, J, K)."""
    from dataclasses import replace

    from exactgrad.tomography.problem import TomographyProblem

    single = replace(geometry, detector_angles=np.zeros(1), integration="midpoint")
    blank = Dataset(single, np.zeros(_shape(single), np.float32))
    zero = np.zeros(support.shape)
    one = support.astype(float)
    return TomographyProblem(blank, threads=threads).forward(A=one, B=zero, theta_op=zero, phi_op=zero)[..., 0]


def _weights(job: Job, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray | None:
    measure = job.measure
    if not (measure.dead_segments or measure.bad_fraction or measure.dropped_projections):
        return None
    weights = (random.random(shape) >= measure.bad_fraction).astype(np.float32)
    weights[..., list(measure.dead_segments)] = 0.0
    weights[list(measure.dropped_projections)] = 0.0
    return weights


def _written_angles(scheme: schemes.Scheme) -> dict[str, np.ndarray]:
    return {
        "inner_angle": np.deg2rad(scheme.turn_deg),
        "outer_angle": np.deg2rad(scheme.tilt_deg),
        "inner_axis": np.array(mumott.INNER_AXIS),
        "outer_axis": np.array(mumott.OUTER_AXIS),
    }

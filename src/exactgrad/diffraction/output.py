"""The files of a simulation: images in the formats that were asked for, the table of spots, what a geometry says.

Integer formats (SMV, CBF, TIFF) hold the recorded counts; without noise, the expected photons times a scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.diffraction.formats import cbf, nanobragg, nexus, npy, pgm, png, raw_float, smv, tiff
from exactgrad.diffraction.formats.experiment import Experiment, Panel
from exactgrad.diffraction.job import Job
from exactgrad.diffraction.noise import UINT16_MAX, Readout, Recorded, record
from exactgrad.diffraction.scene import Scene
from exactgrad.diffraction.spots import Spots
from exactgrad.files import write_atomic

SUFFIXES = {
    "npy": ".npy",
    "float": ".bin",
    "smv": ".img",
    "cbf": ".cbf",
    "nexus": ".nxs",
    "tiff": ".tiff",
    "png": ".png",
    "pgm": ".pgm",
}
COLUMNS = (
    "h,k,l,slow_px,fast_px,first_slow_px,first_fast_px,last_slow_px,last_fast_px,d_A,"
    "excitation_error_per_A,excitation,partiality,intensity"
)


@dataclass
class ImageFiles:
    """What was written of an image: paths, the scale of integer files without noise, notes."""

    written: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def file_names(job: Job, names: Sequence[str]) -> list[str]:
    """Return the names of all files that a job asks for, of images of these names."""
    output, found = job.output, list[str]()
    for name in names:
        found += [name + SUFFIXES[kind] for kind in output.formats]
        if job.noise is not None and output.expected:
            found.append(f"{name}_expected.npy")
        if output.spots:
            found.append(f"{name}_spots.csv")
    return found


def recorded(job: Job, expected: np.ndarray, index: int, roi: Any) -> Recorded | None:
    """Return what the job's detector records of image number `index`, or None if there is no noise.

    The images' seeds follow each other.
    """
    noise = job.noise
    if noise is None:
        return None
    seed = noise.seed + index
    if noise.c_identical:
        return nanobragg.noise_image(expected, seed, noise.offset_adu, roi)
    return record(expected, Readout(**noise.model_dump(exclude={"seed", "c_identical"})), seed)


def write_image(
    folder: Path,
    name: str,
    job: Job,
    expected: np.ndarray,
    counts: np.ndarray | None,
    scene: Scene,
    header: dict[str, Any],
) -> ImageFiles:
    """Write an image in the job's formats.

    Parameters
    ----------
    folder, name : Path, str
        Where, and the files' name without suffix.
    job : Job
    expected : ndarray, shape (slow, fast)
        Photons.
    counts : ndarray of uint16, or None
        What was recorded of it.
    scene : Scene
        Whose geometry the headers tell.
    header : dict
        What `formats.nanobragg.smv_header` takes.
    """
    files, roi = ImageFiles(), scene.detector.roi
    if counts is None:
        integers, scale = nanobragg.integer_image(expected, job.output.scale, 0.0, roi)
        if {"smv", "cbf", "tiff"} & set(job.output.formats):
            files.notes.append(f"{name}: integer files hold the expected photons times {scale:.6g}, rounded")
            lost = int(np.count_nonzero(expected * scale > UINT16_MAX))
            if lost:
                files.notes.append(f"{name}: {lost} pixels beyond 65535 are cut; a smaller output.scale is needed")
    else:
        integers = counts
    saturation = None if job.noise is None else job.noise.saturation_adu
    numbers = expected if counts is None else counts
    for kind in job.output.formats:
        path = folder / (name + SUFFIXES[kind])
        files.written.append(path)
        if kind == "npy":
            npy.write(path, numbers, overwrite=True)
        elif kind == "float":
            raw_float.write(path, expected.astype(np.float32), overwrite=True)
        elif kind == "nexus":
            frames = numbers if counts is not None else expected.astype(np.float32)
            nexus.write(path, frames, experiment_of(scene), saturation, scene.detector.thickness_m, overwrite=True)
        elif kind in ("png", "pgm"):
            _write_preview(path, kind, numbers, roi)
        elif kind == "smv":
            smv.write(path, integers, nanobragg.smv_header(**header), overwrite=True)
        elif kind == "cbf":
            cbf.write(path, integers.astype(np.int32), cbf_comments(scene, saturation), overwrite=True)
        else:
            tiff.write(path, integers, overwrite=True)
    if counts is not None and job.output.expected:
        files.written.append(folder / f"{name}_expected.npy")
        npy.write(files.written[-1], expected, overwrite=True)
    return files


def _write_preview(path: Path, kind: str, numbers: np.ndarray, roi: Any) -> None:
    preview, scale = nanobragg.preview_image(numbers, None, roi)
    if kind == "png":
        png.write(path, preview, overwrite=True)
    else:
        pgm.write(path, preview, nanobragg.preview_comment(scale), overwrite=True)


def experiment_of(scene: Scene) -> Experiment:
    """Return the geometry of a scene: one panel, the mean wavelength, the crystal's axes at angle 0, the spindle."""
    detector, beam, crystal = scene.detector, scene.beam, scene.crystal
    size = (detector.pixel_m, detector.pixel_m)
    panel = Panel("0", detector.origin, detector.fast, detector.slow, size, detector.shape)
    return Experiment(
        panels=(panel,),
        beam_direction=detector.beam,
        wavelength_m=float(beam.wavelengths_m @ beam.weights),
        cell_matrix_m=crystal.lattice,
        rotation_axis=crystal.spindle,
        start_deg=float(np.degrees(crystal.phi0_rad)),
        step_deg=float(np.degrees(crystal.osc_rad)),
    )


def cbf_comments(scene: Scene, saturation_adu: float | None) -> tuple[str, ...]:
    """Return a scene's geometry as the lines of the PILATUS header convention, whose axes have no tilt."""
    detector, beam = scene.detector, scene.beam
    centre = detector.direct_beam_m() / detector.pixel_m
    lines = [
        "Detector: exactgrad, simulated",
        f"Pixel_size {detector.pixel_m:.6e} m x {detector.pixel_m:.6e} m",
        f"Wavelength {float(beam.wavelengths_m @ beam.weights) * 1e10:.8g} A",
        f"Detector_distance {detector.distance_m:.8g} m",
        f"Beam_xy ({centre[0]:.4f}, {centre[1]:.4f}) pixels",
        f"Start_angle {np.degrees(scene.crystal.phi0_rad):.6g} deg.",
        f"Angle_increment {np.degrees(scene.crystal.osc_rad):.6g} deg.",
    ]
    if detector.thickness_m:
        lines.append(f"Silicon sensor, thickness {detector.thickness_m:.6e} m")
    if beam.kahn is not None:
        lines.append(f"Polarization {0.5 * (1 + beam.kahn):.4f}")
    if saturation_adu is not None:
        lines.append(f"Count_cutoff {saturation_adu:.0f} counts")
    return tuple(lines)


def write_spots(path: Path, spots: Spots, overwrite: bool = False) -> None:
    """Write the table of predicted spots, the most intense first, as CSV; positions count pixel centres from 0."""
    numbers = np.column_stack(
        [
            spots.position_px,
            spots.first_px,
            spots.last_px,
            spots.d_A,
            spots.excitation_error_per_A,
            spots.excitation,
            spots.partiality,
            spots.intensity,
        ]
    )
    rows = [COLUMNS]
    for hkl, values in zip(spots.hkl.tolist(), numbers.tolist(), strict=True):
        rows.append(",".join([*map(str, hkl), *(f"{value:.8g}" for value in values)]))
    write_atomic(path, "\n".join(rows) + "\n", overwrite)

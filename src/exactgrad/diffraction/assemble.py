"""A command line as objects: crystal, beam, structure factors, scene, and what shall be written.

Every choice the C program makes for its user is made here. Values are in metres and radians already; `Given` knows
which option said what, so that messages can name it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.diffraction import beam as beams
from exactgrad.diffraction import crystal as crystals
from exactgrad.diffraction.assemble_detector import convention_of, detector_of, inherit
from exactgrad.diffraction.geometry import Convention
from exactgrad.diffraction.mosaic import Mosaic
from exactgrad.diffraction.options import Given
from exactgrad.diffraction.scene import FACTORS, Scene
from exactgrad.diffraction.settings import Settings
from exactgrad.diffraction.settings.beam import BeamSettings
from exactgrad.diffraction.settings.crystal import CrystalSettings, cell_and_setting
from exactgrad.diffraction.structure_factors import StructureFactors
from exactgrad.errors import FormatError, InputError, require_range
from exactgrad.files import read_text

DEFAULT_DOMAINS = 10
DEFAULT_MOSAIC_SEED = 12345678
DEFAULT_BEAMSIZE = 1e-4  # m
DEFAULT_ADC = 40.0  # ADU
MATRIX_LIMIT_BYTES = 100_000


@dataclass(frozen=True)
class Outputs:
    """What a command line wants written, and what it was warned of.

    Attributes
    ----------
    float_path, int_path : Path
    noise_path, pgm_path, dump_path : Path or None
        None is not written; the dump holds the structure factors.
    int_scale, pgm_scale : float or None
        None is chosen from the image.
    adc_offset_adu : float
    seed : int or None
        Of the noise; None is drawn.
    misset_seed : int or None
        Of the orientation, if that is random.
    header : dict
        What `formats.nanobragg.smv_header` takes.
    printout : tuple of int, or bool
        Whether pixels are printed, or (fast, slow) of the one that is.
    progress : bool
    warnings : tuple of str
    """

    float_path: Path
    int_path: Path
    noise_path: Path | None
    pgm_path: Path | None
    dump_path: Path | None
    int_scale: float | None
    pgm_scale: float | None
    adc_offset_adu: float
    seed: int | None
    misset_seed: int | None
    header: dict[str, Any]
    printout: tuple[int, int] | bool
    progress: bool
    warnings: tuple[str, ...]


def scene_of(given: Given) -> Scene:
    """Return the scene of a command line; raises `InputError` naming the option that is wrong."""
    return settings_of(given).scene()


def settings_of(given: Given) -> Settings:
    """Return what a command line states; its files are read here, and not again.

    Raises
    ------
    InputError
        With the option that is wrong, or the file.
    """
    inherit(given)
    convention = convention_of(given)
    wavelength = given.get("wavelength", crystals.ANGSTROM)
    require_range(given.spelled.get("wavelength", "-lambda"), wavelength / crystals.ANGSTROM, "A", low=1e-3, high=1e4)
    crystal = crystal_of(given, convention, wavelength)
    longest = float((np.array(crystal.cells) * _edges(crystal.crystal().lattice)).max())
    factors, unlisted = structure_factors_of(given, min(crystal.cells) <= 2)
    samples = [name for name in FACTORS if given.get(f"sample_{name.replace(' ', '_')}")]
    return Settings(
        crystal,
        beam_of(given, convention, wavelength),
        detector_of(given, convention, wavelength, longest),
        factors,
        unlisted,
        water_m=given.get("water", 0.0),
        d_min_m=given.get("d_min", 0.0),
        c_compat=given.c_compat,
        per_sample=tuple(samples) if given.c_compat else None,
    )


def crystal_of(given: Given, convention: Convention, wavelength: float) -> CrystalSettings:
    """Return the crystal: cell or matrix, orientation, size, shape, sweep, domains."""
    osc, steps = sweep(given)
    shape = given.get("shape", "square")
    if "fudge" in given and shape == "square":
        given.ineffective("fudge", "has no effect on square crystals")
    if "cell" not in given and "mat" not in given:
        raise InputError("-cell: missing; give -cell a b c alpha beta gamma, or -mat with a MOSFLM matrix")
    misset, drawn = _misset(given)
    cell, setting, rows = _lattice(given, wavelength)
    crystal = CrystalSettings(
        cell,
        setting if drawn is None else drawn @ setting,
        misset,
        shape=shape,
        metric="reciprocal" if given.c_compat else "hkl",
        fudge=given.get("fudge", 1.0),
        mosaic=_mosaic(given),
        spindle=convention.spindle,
        phi0_rad=given.get("phi", 0.0),
        osc_rad=osc,
        phi_steps=steps,
        c_lattice=given.c_compat and "cell" in given,
        rows=rows,
    )
    return replace(crystal, cells=_cells(given, _edges(crystal.crystal().lattice)))


def _lattice(given: Given, wavelength: float) -> tuple[tuple[float, ...], np.ndarray, np.ndarray | None]:
    """Return cell, setting matrix and, where the C program takes directions and lengths apart, the reciprocal rows."""
    if "mat" not in given:
        return tuple(_cell(given.get("cell"))), np.eye(3), None
    cell, setting = cell_and_setting(read_matrix(given.path("mat"), wavelength))
    if "cell" not in given:
        return cell, setting, None
    given.ineffective("cell", "contradicts -mat, which holds the cell")
    return tuple(_cell(given.get("cell"))), setting, crystals.reciprocal_of_cell(cell)[1]


def read_matrix(path: Path, wavelength: float) -> np.ndarray:
    """Read a MOSFLM matrix file: nine numbers, the columns of A are a*, b*, c* times the wavelength; rows in 1/m.

    Raises
    ------
    FormatError
        If the file does not begin with nine finite numbers.
    """
    words = read_text(path, MATRIX_LIMIT_BYTES).split()[:9]
    try:
        numbers = np.array([float(word) for word in words])
        if numbers.size != 9 or not np.isfinite(numbers).all():
            raise ValueError
    except ValueError:
        raise FormatError(f"{path}: a MOSFLM matrix begins with nine numbers, got {' '.join(words)[:80]!r}") from None
    return numbers.reshape(3, 3).T / wavelength


def sweep(given: Given) -> tuple[float, int]:
    """Return (range in rad, number of steps) of the spindle; the range is steps times what lies between them."""
    osc, step, steps = given.get("osc"), given.get("phistep"), given.get("phisteps")
    if given.c_compat:
        osc, step = (None if osc is None or osc < 0 else osc), (None if step is None or step <= 0 else step)
        if osc is None and step is not None:
            steps = 2  # whatever -phisteps says
    elif None not in (osc, step, steps) and abs(osc - step * steps) > 1e-9 * abs(osc):
        raise InputError(f"{given.spelled['phistep']}: contradicts -osc and -phisteps; give two of the three")
    if steps is None and step is not None:
        steps = 2 if osc is None else ceil(round(osc / step, 9)) if step else 1
    if steps is None:
        steps = 1 if osc is None else 2
    steps = max(steps, 1)
    if step is not None:
        return step * steps, steps
    if osc is None:
        osc = np.radians(1.0) if "phisteps" in given else 0.0
    return osc, steps


def beam_of(given: Given, convention: Convention, wavelength: float) -> BeamSettings:
    """Return the beam: a list of sources from a file, or a grid of directions, each with a spectrum."""
    direction, axis = np.array(convention.beam), np.array(convention.polarization)
    if "sourcefile" in given:
        for key in ("dispersion", "dispsteps", "hdivrange", "vdivrange", "hdivsteps", "vdivsteps"):
            if key in given:
                given.ineffective(key, "has no effect with -sourcefile")
        return replace(_listed_sources(given, wavelength), polarization_axis=axis, **_of_all_sources(given))
    horizontal, vertical = (_divergence_angles(given, name) for name in "hv")
    rays = beams.divergence(direction, axis, horizontal, vertical, given.get("round_div", True))
    width, steps = _dispersion(given)
    shares = np.arange(steps) / (steps - 1) - 0.5 if steps > 1 else np.zeros(1)
    return BeamSettings(
        wavelength,
        np.repeat(rays, steps, axis=0),
        shares=np.tile(shares, len(rays)),
        dispersion=width,
        polarization_axis=axis,
        **_of_all_sources(given),
    )


def _of_all_sources(given: Given) -> dict[str, Any]:
    return {"kahn": given.get("kahn", 0.0), "fluence": _fluence(given)}


def _listed_sources(given: Given, wavelength: float) -> BeamSettings:
    """Sources of a file; those without a wavelength of their own follow the beam's."""
    from exactgrad.diffraction.formats import sources

    path = given.path("sourcefile")
    listed = sources.read(path, wavelength)
    follows = listed.wavelength_m != sources.read(path, float(np.nextafter(wavelength, 0.0))).wavelength_m
    own = np.where(follows, 0.0, listed.wavelength_m)
    return BeamSettings(wavelength, -listed.position, own, follows, weights=listed.weight)


def structure_factors_of(given: Given, thin: bool) -> tuple[StructureFactors, np.ndarray | None]:
    """Return the structure factors, and where the table follows the default; interpolated if the crystal is thin."""
    from exactgrad.diffraction.formats import amplitudes, fdump

    default = given.get("default_F", 0.0)
    interpolate = given.get("interpolate", thin)
    if "hkl" in given:
        path = given.path("hkl")
        from_atoms = {".pdb", ".ent"} & {suffix.lower() for suffix in path.suffixes}
        d_min = given.get("d_min", 0.0) / crystals.ANGSTROM or None
        listed = amplitudes.read_amplitudes(path, d_min if from_atoms else None)
        unlisted = listed.structure_factors(0.0).table != listed.structure_factors(1.0).table
        return listed.structure_factors(default, interpolate), unlisted
    if "dump" in given:
        return fdump.read(given.path("dump"), default, interpolate), None
    if default == 0:
        raise InputError("-hkl: missing; give -hkl with a list of structure factors, or -default_F")
    if given.get("interpolate"):
        given.ineffective("interpolate", "has no effect without -hkl")
    return StructureFactors.constant(default), None


def outputs_of(given: Given, scene: Scene) -> Outputs:
    """Return what is to be written."""

    def path(key: str, default: str | None) -> Path | None:
        name = given.get(key, default)
        return None if name is None else given.folder / name

    detector = scene.detector
    beam_f, beam_s = 1e3 * detector.direct_beam_m()
    osc = scene.crystal.osc_rad
    if given.c_compat:  # the C program says what it was given, not what it swept
        osc = given.get("osc", given.get("phistep", osc))
    near = detector.near_point_m / detector.pixel_m + 0.5
    header = {
        "shape": detector.shape,
        "pixel_size_mm": 1e3 * detector.pixel_m,
        "distance_mm": 1e3 * detector.distance_m,
        "wavelength_angstrom": given.get("wavelength", crystals.ANGSTROM) / crystals.ANGSTROM,
        "beam_mm": tuple(1e3 * centre for centre in given.get("beam_centre")),
        "beam_fast_slow_mm": (float(beam_f), float(beam_s)),
        "dials_origin_mm": tuple(1e3 * float(v) for v in detector.origin[[2, 1, 0]] * (1, 1, -1)),
        "xds_origin_px": (float(near[0]), float(near[1])),
        "close_distance_mm": 1e3 * detector.close_distance_m,
        "phi_deg": float(np.degrees(given.get("phi", 0.0))),
        "oscillation_deg": float(np.degrees(osc)),
        "twotheta_deg": float(np.degrees(given.get("twotheta", 0.0))),
    }
    scale, pgm_scale = given.get("scale"), given.get("pgmscale")
    return Outputs(
        float_path=given.folder / given.get("floatfile", "floatimage.bin"),
        int_path=given.folder / given.get("intfile", "intimage.img"),
        noise_path=path("noisefile", "noiseimage.img"),
        pgm_path=path("pgmfile", "image.pgm"),
        dump_path=path("dump", "Fdump.bin" if given.c_compat else None) if "hkl" in given else None,
        int_scale=scale if scale and scale > 0 else None,
        pgm_scale=pgm_scale if pgm_scale and pgm_scale > 0 else None,
        adc_offset_adu=given.get("adc", DEFAULT_ADC),
        seed=given.get("seed"),
        misset_seed=given.get("misset_seed"),
        header=header,
        printout=tuple(given.get("printout_pixel", ())) or given.get("printout", False),
        progress=given.get("progress", True),
        warnings=tuple(given.warnings),
    )


def _cell(edges_and_angles: list[float]) -> list[float]:
    """Six numbers of one to six: edges like the first, right angles; the C program takes 0 for a missing one."""
    six = list(edges_and_angles) + [0.0] * (6 - len(edges_and_angles))
    return [value or (six[0] if i < 3 else 90.0) for i, value in enumerate(six)]


def _edges(lattice: np.ndarray) -> np.ndarray:
    return np.linalg.norm(lattice, axis=1)


def _misset(given: Given) -> tuple[tuple[float, ...], np.ndarray | None]:
    """Return the missetting angles in degrees, and the drawn orientation of ``-misset random``."""
    misset = given.get("misset")
    if misset != "random":
        if "misset_seed" in given:
            given.ineffective("misset_seed", "has no effect without -misset random")
        return (0.0, 0.0, 0.0) if misset is None else tuple(misset), None
    if "misset_seed" not in given:
        drawn = given.get("seed", int(np.random.default_rng().integers(1, 2**31 - 1)))
        given.set("misset_seed", drawn, "-misset_seed")
        given.warnings.append(f"-misset random: seed {drawn}; -misset_seed {drawn} gives this orientation again")
    draw = crystals.c_random_orientation if given.c_compat else crystals.random_orientation
    return (0.0, 0.0, 0.0), draw(given.get("misset_seed"))


def _mosaic(given: Given) -> Mosaic:
    spread = given.get("mosaic", 0.0)
    if spread <= 0:
        for key in ("mosaic_domains", "mosaic_seed"):
            if key in given and not (key == "mosaic_domains" and given.get(key) == 1):
                given.ineffective(key, "has no effect without a mosaic spread (-mosaic)")
        if spread < 0:
            given.ineffective("mosaic", "a spread cannot be negative")
        return Mosaic()
    count = given.get("mosaic_domains", DEFAULT_DOMAINS)
    if count <= 0:
        given.ineffective("mosaic_domains", f"{count} domains: at least 1 is needed")
        count = DEFAULT_DOMAINS
    return Mosaic.cap(spread, count, given.get("mosaic_seed", DEFAULT_MOSAIC_SEED), given.c_compat)


def _cells(given: Given, edges: np.ndarray) -> tuple[float, ...]:
    """Numbers of cells: as given, or as many as fill a sample; what sticks out of the beam along y and z is cut."""
    cells = np.array([float(given.get(key, 1)) for key in ("Na", "Nb", "Nc")])
    if given.c_compat and (cells != np.floor(cells)).any():
        given.warnings.append("-N: the C program cuts off the fraction of a number of cells")
        cells = np.floor(cells)
    beamsize = given.get("beamsize", DEFAULT_BEAMSIZE)
    for i, (axis, key) in enumerate(zip("xyz", ("Na", "Nb", "Nc"), strict=True)):
        size = given.get(f"sample_{axis}", 0.0)
        if size <= 0:
            continue
        if key in given:
            given.ineffective(key, f"contradicts {given.spelled[f'sample_{axis}']}")
        if axis != "x" and size > beamsize:
            given.warnings.append(f"{given.spelled[f'sample_{axis}']}: cut to the beam size, {beamsize * 1e3:g} mm")
            size = beamsize
        cells[i] = ceil(size / edges[i])
    if given.c_compat:
        cells = np.maximum(cells, 1.0)
    return tuple(float(n) for n in cells)


def _divergence_angles(given: Given, name: str) -> np.ndarray:
    """Angles of one direction of the divergence grid ("h" or "v"), with the C program's defaults."""
    keys = [f"{name}div{part}" for part in ("range", "step", "steps")]
    extent, step, count = (given.get(key) for key in keys)
    if extent is None and step is None and count is not None:
        given.ineffective(keys[2], f"needs -{keys[0]} (the C program takes one radian)")
        extent, step = 1.0, 1.0 / max(count, 1)
    elif extent is None and step is not None:
        count = 2 if given.c_compat or count is None else count
        extent = step * (count - 1)
    elif not given.c_compat and None not in (extent, step, count) and abs(step * (count - 1) - extent) > 1e-9 * extent:
        raise InputError(f"{given.spelled[keys[1]]}: contradicts -{keys[0]} and -{keys[2]}; give two of the three")
    if not extent or extent < 0 or (step is not None and step <= 0):
        return np.zeros(1)
    return beams.grid_angles(extent, step, count if count is None or count > 0 else None)


def _dispersion(given: Given) -> tuple[float, int]:
    width, steps = given.get("dispersion", 0.0), given.get("dispsteps", 2)
    if width <= 0:
        if width < 0 or "dispsteps" in given:
            given.ineffective("dispersion" if width < 0 else "dispsteps", "needs a -dispersion above 0")
        return 0.0, 1
    return width, max(steps, 2)


def _fluence(given: Given) -> float:
    flux, exposure = given.get("flux", 0.0), given.get("exposure", 1.0)
    if flux == 0:
        if "exposure" in given:
            given.ineffective("exposure", "has no effect without -flux")
        return given.get("fluence", beams.DEFAULT_FLUENCE)
    if "fluence" in given:
        given.ineffective("fluence", "contradicts -flux")
    beamsize = given.get("beamsize", DEFAULT_BEAMSIZE)
    if exposure <= 0 or beamsize <= 0:
        raise InputError(f"-exposure {exposure:g} s, -beamsize {beamsize * 1e3:g} mm: both must be > 0")
    return flux * exposure / beamsize**2

"""From the tables of a job to settings: the tables become the words of a command line, which `assemble` reads.

What a command line cannot say (mosaic kinds, spectra, amplitudes from MTZ or coordinates, geometry files, masks of any
format) is put into the settings afterwards. Every file is read once, however many images there are.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.diffraction import crystal as crystals
from exactgrad.diffraction.assemble import DEFAULT_DOMAINS, DEFAULT_MOSAIC_SEED, outputs_of, settings_of
from exactgrad.diffraction.background import Background, Fixed, flat, molecules_of, profile
from exactgrad.diffraction.formats.experiment import Experiment, Panel
from exactgrad.diffraction.formats.reflections import Reflections
from exactgrad.diffraction.job import TABLES, Job, image_names, image_tables
from exactgrad.diffraction.mosaic import Mosaic
from exactgrad.diffraction.option_table import find
from exactgrad.diffraction.options import Given, read
from exactgrad.diffraction.scene import Scene
from exactgrad.diffraction.settings import Settings
from exactgrad.diffraction.settings.crystal import cell_and_setting
from exactgrad.diffraction.structure_factors import StructureFactors
from exactgrad.errors import InputError

FLAGS = {  # key, value: word
    ("interpolate", True): "-interpolate",
    ("interpolate", False): "-nointerpolate",
    ("round_div", True): "-round_div",
    ("round_div", False): "-square_div",
}
CELL = ("cell_a", "cell_b", "cell_c", "cell_alpha", "cell_beta", "cell_gamma")
MISSET = ("misset_x", "misset_y", "misset_z")
AMPLITUDES = ("hkl", "mtz", "coordinates", "column", "resolution", "k_sol", "b_sol")
MOSAIC = ("mosaic", "mosaic_a", "mosaic_b", "mosaic_c", "mosaic_kind", "mosaic_domains", "mosaic_seed")
BEYOND_OPTIONS = {
    *AMPLITUDES,
    "anomalous",
    "mosaic_matrices",
    "metric",
    "wavelengths",
    "weights",
    "geometry",
    "panel",
    "mask",
}
BEYOND_OPTIONS |= {
    "whole",
    "experiment",
    "parameters",
    "flat",
    "stol",
    "molecules",
    "volume_mm3",
    "density_g_cm3",
    "molar_mass",
}
CENTRES = ("Xbeam", "Ybeam", "Xclose", "Yclose", "ORGX", "ORGY")
BY_VALUE = ("beam_f", "beam_s")  # parameters that no option names
FACING = 1e-3  # least cosine of beam and normal of a panel whose distance is taken along the beam


@dataclass(frozen=True)
class Shot:
    """One image of a job.

    Attributes
    ----------
    name : str
        Of its files.
    settings : Settings
    header : dict
        What `formats.nanobragg.smv_header` takes.
    background : dict
        Its table.
    folder : Path
        Where files of that table lie.
    warnings : tuple of str
    image, panel : int, int or None
        Which image of the job it is, and which panel of that, if the job asks for all panels of a geometry.
    """

    name: str
    settings: Settings
    header: dict[str, Any]
    background: dict[str, Any]
    folder: Path
    warnings: tuple[str, ...] = ()
    image: int = 0
    panel: int | None = None

    def backgrounds(self, scene: Scene) -> list[tuple[Background, np.ndarray]]:
        """Return what lies under the spots of a scene, each background with its coefficients."""
        from exactgrad.diffraction.formats import stol

        table = self.background
        found: list[tuple[Background, np.ndarray]] = []
        if table.get("flat"):
            found.append((flat(scene.detector.shape), np.array([table["flat"]])))
        if table.get("stol"):
            molecules = table.get("molecules")
            if molecules is None:
                volume_m3 = table["volume_mm3"] * 1e-9
                molecules = molecules_of(volume_m3, table["density_g_cm3"], table["molar_mass"])
            unit: Fixed = profile(scene, stol.read(self.folder / table["stol"]), molecules)
            found.append((unit, np.ones(1)))
        return found


@dataclass
class _Files:
    """What was read already, by what was asked for."""

    base: Path
    found: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: tuple[Any, ...], reading: Callable[[], Any]) -> Any:
        if key not in self.found:
            self.found[key] = reading()
        return self.found[key]


def shots(job: Job, base: Path) -> list[Shot]:
    """Return the images of a job, one if it has no ``[[image]]``.

    Parameters
    ----------
    job : Job
    base : Path
        What relative file names are relative to.

    Raises
    ------
    InputError
        If a number is out of its range, keys contradict each other, or a file is not what it should be; the line names
        the key as the job spells it.

    Examples
    --------
    >>> from exactgrad.diffraction.job import check_job
    >>> crystal = {"cell": [50, 60, 70], "default_F": 10, "N": 5, "mosaic_spread_rad": 0.01}
    >>> tables = {"crystal": crystal, "detector": {"detpixels": 8}, "image": [{}, {"misset_x": 30}]}
    >>> one, two = shots(check_job(tables, "job"), Path())
    >>> two.name, two.settings.value("misset_x"), round(one.settings.value("mosaic"), 9)
    ('image_001', 30.0, 0.572957795)
    """
    names, files = image_names(job), _Files(Path(base))
    made = list[Shot]()
    for index, name in enumerate(names):
        tables = image_tables(job, index)
        where = f"image.{index}: " if job.image else ""
        with _job_words(where):
            for panel in _panels(tables["detector"], files):
                settings, given = _settings(job, _with_panel(tables, panel), files)
                if panel:
                    settings = replace(made[-panel].settings, detector=settings.detector)  # one crystal, one beam
                header, shown = _header(given, settings), name if panel is None else f"{name}_panel{panel:03d}"
                warnings = tuple(given.warnings)
                made.append(Shot(shown, settings, header, tables["background"], files.base, warnings, index, panel))
    return made


def _panels(detector: dict[str, Any], files: _Files) -> list[int | None]:
    """Return the panels of an image, if it is of all of a geometry's."""
    experiment = _experiment(detector, files)
    if experiment is None or detector.get("panel") != "all":
        return [None]
    return list(range(len(experiment.panels)))


def _with_panel(tables: dict[str, dict[str, Any]], panel: int | None) -> dict[str, dict[str, Any]]:
    if panel is None:
        return tables
    return {**tables, "detector": {**tables["detector"], "panel": panel, "whole": True}}


def _settings(job: Job, tables: dict[str, dict[str, Any]], files: _Files) -> tuple[Settings, Given]:
    crystal, beam, detector = tables["crystal"], tables["beam"], tables["detector"]
    words = _split(job.options) + ["--c-compat"] * job.c_compat
    experiment = _experiment(detector, files)
    turned = None
    if experiment is not None:
        geometry, turned = _geometry_words(experiment, tables, words)
        words += geometry
    listed = _amplitudes(crystal, files)
    own_mosaic = any(key in crystal for key in ("mosaic_kind", "mosaic_a", "mosaic_b", "mosaic_c", "mosaic_matrices"))
    left_out = BEYOND_OPTIONS | (set(MOSAIC) if own_mosaic else set())
    if listed is not None:
        left_out |= {"interpolate", "default_F"}
        if not _has_cell(crystal, words):
            if listed.cell is None:
                raise InputError("crystal.cell: missing; the list of amplitudes has none")
            crystal = {**crystal, "cell": list(listed.cell)}
    if "wavelengths" in beam:
        words += ["-lambda", repr(_mean_wavelength(beam))]
    for name, table in {**tables, "crystal": crystal}.items():
        words += _words(name, table, left_out)
    if listed is not None:
        words += ["-default_F", "1"]  # until the list takes its place
    given = read(words, files.base)
    settings = settings_of(given)
    settings = _with_crystal(settings, crystal, turned, own_mosaic, files)
    if listed is not None:
        settings = _with_amplitudes(settings, listed, crystal, job, files)
    if "wavelengths" in beam:
        settings = _with_spectrum(settings, beam)
    if crystal.get("anomalous"):
        settings = _with_anomalous(settings, crystal, files)
    if "mask" in detector:
        from exactgrad.diffraction.formats import mask

        path, shape = files.base / detector["mask"], settings.detector.pixels
        seen = files.once(("mask", path, shape), lambda: mask.read(path, shape))
        settings = replace(settings, detector=replace(settings.detector, mask=seen))
    values = {key: detector[key] for key in BY_VALUE if key in detector}
    for table in tables.values():
        values |= table.get("parameters", {})
    return settings.replace(values), given


# -- words ------------------------------------------------------------------------------------------------------------


def _split(options: str) -> list[str]:
    try:
        return shlex.split(options)
    except ValueError as error:
        raise InputError(f"options: {error}") from None


def _words(name: str, table: dict[str, Any], left_out: set[str]) -> list[str]:
    """Return the command line that says what a table says, in its order: of what is repeated the last counts."""
    words: list[str] = []
    if name == "crystal":
        words += _cell_words(table) + _misset_words(table)
    for key, value in table.items():
        if key in left_out or key in BY_VALUE or key in (*CELL, "cell", *MISSET, "misset"):
            continue
        words += _word(key, value)
    return words


def _word(key: str, value: Any) -> list[str]:
    if isinstance(value, bool) and (key, value) in FLAGS:
        return [FLAGS[key, value]]
    if key == "shape":
        return [f"-{value}_{'spots' if value == 'tophat' else 'xtal'}"]
    if key == "convention":
        return [f"-{value}"]
    if key == "matrix":
        return ["-mat", value]
    if key == "N" and isinstance(value, list | tuple):
        return [word for axis, n in zip("abc", value, strict=True) for word in (f"-N{axis}", repr(n))]
    if key == "detpixels" and isinstance(value, list | tuple):
        return ["-detpixels_s", repr(value[0]), "-detpixels_f", repr(value[1])]
    option = find(f"-{key}")
    if option is not None and option.count == 0:
        return [f"-{key}"] if value else []
    values = value if isinstance(value, list | tuple) else [value]
    return [f"-{key}", *(one if isinstance(one, str) else repr(one) for one in values)]


def _cell_words(table: dict[str, Any]) -> list[str]:
    """Return six numbers of a list of up to six, of which single keys replace some; edges like a, right angles."""
    six: list[Any] = [None] * 6
    for key, value in table.items():
        if key == "cell":
            six = [*value, *[None] * (6 - len(value))]
        elif key in CELL:
            six[CELL.index(key)] = value
    if all(number is None for number in six):
        return []
    if six[0] is None:
        raise InputError("crystal.cell_a: missing (or give cell, a list)")
    whole = [(six[0] if i < 3 else 90.0) if number is None else number for i, number in enumerate(six)]
    return ["-cell", *map(repr, whole)]


def _misset_words(table: dict[str, Any]) -> list[str]:
    angles: Any = None
    for key, value in table.items():
        if key == "misset":
            angles = value if value == "random" else list(value)
        elif key in MISSET:
            if angles == "random":
                raise InputError(f"crystal.{key}: misset is random")
            angles = angles or [0.0, 0.0, 0.0]
            angles[MISSET.index(key)] = value
    return [] if angles is None else ["-misset", *(["random"] if angles == "random" else map(repr, angles))]


def _has_cell(crystal: dict[str, Any], words: list[str]) -> bool:
    return bool({"cell", "cell_a", "matrix"} & crystal.keys() or {"-cell", "-mat"} & set(words))


# -- geometry from a file ---------------------------------------------------------------------------------------------


def read_geometry(path: Path, experiment: int = 0) -> Experiment:
    """Read a geometry: DIALS (``.expt``, ``.json``), CrystFEL (``.geom``), NeXus (``.nxs``, ``.h5``), else XPARM.XDS.

    Raises
    ------
    InputError
        As the format's own reader.
    """
    from exactgrad.diffraction.formats import crystfel, dials, nexus, xds

    suffix = path.suffix.lower()
    if suffix in (".expt", ".json"):
        return dials.read(path, experiment)
    if experiment:
        raise InputError(f"detector.experiment = {experiment}: only a DIALS file has several")
    if suffix == ".geom":
        return crystfel.read(path)
    return nexus.read(path).experiment if suffix in (".nxs", ".h5", ".hdf5") else xds.read(path)


def _experiment(detector: dict[str, Any], files: _Files) -> Experiment | None:
    if "geometry" not in detector:
        return None
    path, number = files.base / detector["geometry"], detector.get("experiment", 0)
    found: Experiment = files.once(("geometry", path, number), lambda: read_geometry(path, number))
    return found


def _geometry_words(
    experiment: Experiment, tables: dict[str, dict[str, Any]], said: list[str]
) -> tuple[list[str], np.ndarray | None]:
    """Return the command line of a geometry, less what the job states itself, and the crystal's setting matrix."""
    crystal, beam, detector = (tables[name] for name in ("crystal", "beam", "detector"))
    index = detector.get("panel", 0)
    if index >= len(experiment.panels):
        raise InputError(f"detector.panel = {index}: the geometry has {len(experiment.panels)}, counted from 0")
    if "whole" in detector and "--c-compat" in said:
        raise InputError("detector.panel: all panels with c_compat; the C program has one detector")
    words = _panel_words(experiment, experiment.panels[index], detector)
    if experiment.wavelength_m is not None:
        words += ["-lambda", repr(experiment.wavelength_m / crystals.ANGSTROM)]
    elif not {"lambda", "energy", "wavelengths"} & beam.keys() and "-lambda" not in said:
        raise InputError("beam.lambda: missing (in A); the geometry leaves it to the images")
    if experiment.start_deg is not None:
        words += ["-phi", repr(experiment.start_deg)]
        if experiment.step_deg and not {"osc", "phistep"} & crystal.keys():
            words += ["-osc", repr(experiment.step_deg)]
    if experiment.cell_matrix_m is None or _has_cell(crystal, said):
        return words, None
    cell, setting = cell_and_setting(crystals.reciprocal_of(experiment.cell_matrix_m))
    return [*words, "-cell", *map(repr, cell)], setting


def _panel_words(experiment: Experiment, panel: Panel, detector: dict[str, Any]) -> list[str]:
    if abs(panel.pixel_size_m[0] - panel.pixel_size_m[1]) > 1e-6 * panel.pixel_size_m[0]:
        raise InputError(f"panel {panel.name[:40]}: pixels of {panel.pixel_size_m} m: square ones are needed")
    pixel, beam, normal = panel.pixel_size_m[0], experiment.beam_direction, panel.normal
    close = float(panel.origin_m @ normal)
    if close < 0:
        normal, close = -normal, -close
    cosine = float(beam @ normal)
    fast = panel.fast_axis
    slow = panel.slow_axis - (panel.slow_axis @ fast) * fast  # files have four digits or more
    spindle = experiment.rotation_axis
    words = ["-xds", *_vector("-beam_vector", beam), *_vector("-fdet_vector", fast), *_vector("-sdet_vector", slow)]
    words += _vector("-odet_vector", normal)
    across = fast if spindle is None else spindle
    across = across - (across @ beam) * beam
    if np.linalg.norm(across) > FACING:
        words += _vector("-polar_vector", across)
    if spindle is not None:
        words += _vector("-spindle_axis", spindle)
    words += ["-pixel", repr(pixel * 1e3), "-detpixels_s", repr(panel.shape[0]), "-detpixels_f", repr(panel.shape[1])]
    if "whole" in detector:  # one frame for all, turned about the crystal
        return [*words, *_vector("-pix0_vector", panel.origin_m)]
    if not set(CENTRES) & detector.keys():
        near = [-float(panel.origin_m @ axis) / pixel + 0.5 for axis in (fast, slow)]
        words += ["-ORGX", repr(near[0]), "-ORGY", repr(near[1])]
    if not {"distance", "close_distance"} & detector.keys():
        along = cosine > FACING
        words += ["-distance" if along else "-close_distance", repr(close / (cosine if along else 1.0) * 1e3)]
    return words


def _vector(word: str, vector: np.ndarray) -> list[str]:
    return [word, *(repr(float(v)) for v in vector)]


# -- what no command line says ----------------------------------------------------------------------------------------


def _with_crystal(
    settings: Settings, table: dict[str, Any], turned: np.ndarray | None, own_mosaic: bool, files: _Files
) -> Settings:
    crystal = settings.crystal
    if turned is not None:
        crystal = replace(crystal, setting=crystal.setting @ turned)
    if own_mosaic:
        crystal = replace(crystal, mosaic=_mosaic(table, files))
    if "metric" in table:
        crystal = replace(crystal, metric=table["metric"])
    return replace(settings, crystal=crystal)


def _mosaic(table: dict[str, Any], files: _Files) -> Mosaic:
    if "mosaic_matrices" in table:
        others = [key for key in MOSAIC if key in table]
        if others:
            raise InputError(f"crystal.mosaic_matrices: contradicts crystal.{others[0]}")
        from exactgrad.diffraction.formats import npy

        path = files.base / table["mosaic_matrices"]
        rows = files.once(("matrices", path), lambda: npy.read(path))
        if rows.shape[1] != 9:
            raise InputError(f"{path}: shape {rows.shape} where (domains, 9) is needed")
        return Mosaic(matrices=rows.reshape(-1, 3, 3))
    spread: Any = np.radians(table.get("mosaic", 0.0))
    axes = [f"mosaic_{axis}" for axis in "abc"]
    if set(axes) & table.keys():
        spread = np.radians([table.get(axis, table.get("mosaic", 0.0)) for axis in axes])
    draw = Mosaic.gaussian if table.get("mosaic_kind") == "gaussian" else Mosaic.cap
    count, seed = table.get("mosaic_domains", DEFAULT_DOMAINS), table.get("mosaic_seed", DEFAULT_MOSAIC_SEED)
    return draw(spread, count, seed)


def _amplitudes(table: dict[str, Any], files: _Files) -> Reflections | None:
    from exactgrad.diffraction.formats import amplitudes, coordinates, mtz

    asked = tuple((key, table[key]) for key in AMPLITUDES if key in table)

    def reading() -> Reflections | None:
        if "mtz" in table:
            return mtz.read(files.base / table["mtz"], table.get("column"))
        if "coordinates" in table:
            return coordinates.read(files.base / table["coordinates"], table["resolution"], **_solvent(table))
        if "hkl" in table:
            return amplitudes.read_amplitudes(files.base / table["hkl"], column=table.get("column"))
        return None

    found: Reflections | None = files.once(("F", asked), reading)
    return found


def _solvent(table: dict[str, Any]) -> dict[str, float]:
    return {name: table[key] for key, name in (("k_sol", "k_sol"), ("b_sol", "b_sol_a2")) if key in table}


def _with_anomalous(settings: Settings, table: dict[str, Any], files: _Files) -> Settings:
    """Return settings whose every source has the amplitudes of its own wavelength, f' and f'' in them."""
    from exactgrad.diffraction.formats import coordinates

    lengths, source = np.unique(settings.beam.beam().wavelengths_m / crystals.ANGSTROM, return_inverse=True)
    path, factors = files.base / table["coordinates"], settings.structure_factors

    def making() -> tuple[StructureFactors, np.ndarray]:
        lists = coordinates.read_anomalous(path, lengths.tolist(), table["resolution"], **_solvent(table))
        hkl, rows = lists[0].hkl, np.array([one.amplitude for one in lists])[source]
        absent = StructureFactors.from_list(hkl, np.zeros(len(hkl)), 1.0).table == 1.0
        return StructureFactors.from_lists(hkl, rows, factors.default, factors.interpolate), absent

    made, unlisted = files.once(("anomalous", tuple(lengths), tuple(source), factors.default), making)
    return replace(settings, structure_factors=made, unlisted=unlisted)


def _with_amplitudes(
    settings: Settings, listed: Reflections, table: dict[str, Any], job: Job, files: _Files
) -> Settings:
    said = read(_split(job.options), files.base, c_compat=True)
    default = float(table.get("default_F", said.get("default_F", 0.0)))
    interpolate = table.get("interpolate", said.get("interpolate", min(settings.crystal.cells) <= 2))

    def making() -> tuple[StructureFactors, np.ndarray]:
        absent = StructureFactors.from_list(listed.hkl, np.zeros(len(listed.hkl)), 1.0).table == 1.0
        return listed.structure_factors(default, interpolate), absent

    factors, unlisted = files.once(("table", id(listed), default, interpolate), making)
    return replace(settings, structure_factors=factors, unlisted=unlisted)


def _mean_wavelength(beam: dict[str, Any]) -> float:
    lengths = np.array(beam["wavelengths"])
    weights = np.array(beam.get("weights", np.ones(lengths.size)))
    if not weights.any():
        raise InputError("beam.weights: all are 0")
    return float(lengths @ weights / weights.sum())


def _with_spectrum(settings: Settings, table: dict[str, Any]) -> Settings:
    """Return settings whose every ray has all wavelengths; the whole spectrum goes with `lambda`, their mean."""
    beam = settings.beam
    lengths = np.array(table["wavelengths"]) * crystals.ANGSTROM
    weights = np.array(table.get("weights", np.ones(lengths.size)))
    rays = len(beam.directions)
    changed = replace(
        beam,
        directions=np.repeat(beam.directions, lengths.size, axis=0),
        own_m=np.zeros(rays * lengths.size),
        follows=np.tile(lengths / beam.wavelength_m, rays),
        shares=np.zeros(rays * lengths.size),
        weights=np.repeat(beam.weights, lengths.size) * np.tile(weights, rays),
    )
    return replace(settings, beam=changed)


def _header(given: Given, settings: Settings) -> dict[str, Any]:
    header = outputs_of(given, settings.scene()).header
    header["wavelength_angstrom"] = settings.beam.wavelength_m / crystals.ANGSTROM
    if settings.detector.placement.origin is None:
        header["beam_mm"] = tuple(1e3 * settings.detector.centre(key) for key in ("Xbeam", "Ybeam"))
    return header


# -- messages ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _job_words(where: str) -> Iterator[None]:
    """Put an error's options into the job's words: ``-pixel`` becomes ``detector.pixel``."""
    try:
        yield
    except InputError as error:
        raise type(error)(where + _translated(str(error))) from None


def _translated(message: str) -> str:
    """Return a message with options spelled as the job's keys.

    Examples
    --------
    >>> _translated("-pixel 0 mm: must be >= 1e-6, not -5; -mat is missing")
    'detector.pixel 0 mm: must be >= 1e-6, not -5; crystal.matrix is missing'
    """
    owners = dict(_keys_of_options())
    return re.sub(r"(?<![\w./-])-([A-Za-z_][\w]*)", lambda word: owners.get(word[1], word[0]), message)


def _keys_of_options() -> Iterator[tuple[str, str]]:
    for table, model in TABLES.items():
        for key in model.key_names():
            yield key, f"{table}.{key}"
    yield "mat", "crystal.matrix"

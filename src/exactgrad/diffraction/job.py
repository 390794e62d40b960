"""The job file: what a user may ask for, checked key by key. TOML.

Keys are the names of the options and of `parameters.table`, in their units; every alias of a parameter is taken, too
(``mosaic_spread_rad`` for ``mosaic``, ``lambda_A`` for ``lambda``). An indexed parameter is written in quotes:
``"weight[2]" = 0.5``. A table ``[[image]]`` overrides keys of the other tables for one image.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Strict, model_validator

from exactgrad.core import job_file
from exactgrad.core.job_file import Flag
from exactgrad.diffraction.parameters.table import INDEXED_NAME, NAMES
from exactgrad.errors import InputError

LARGEST = 1e45  # a fluence may be 1e29
MOST_IMAGES = 10_000
LEAST_MRAD = 1e-9  # squares of angles stay above zero

Number = Annotated[float, Strict(), Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Positive = Annotated[float, Strict(), Field(gt=0, le=LARGEST, allow_inf_nan=False)]
NotNegative = Annotated[float, Strict(), Field(ge=0, le=LARGEST, allow_inf_nan=False)]


def _not_tiny(value: float) -> float:
    if 0 < value < LEAST_MRAD:
        raise ValueError(f"must be 0 or at least {LEAST_MRAD:g} mrad")
    return value


Mrad = Annotated[float, Strict(), Field(ge=0, le=6300, allow_inf_nan=False), AfterValidator(_not_tiny)]
Degrees = Annotated[float, Strict(), Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Share = Annotated[float, Strict(), Field(ge=0, le=1, allow_inf_nan=False)]
Whole = Annotated[int, Strict(), Field(ge=-(2**31) + 1, le=2**31 - 1)]
Count = Annotated[int, Strict(), Field(ge=1, le=2**31 - 1)]
Vector = tuple[Number, Number, Number]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+-]{1,64}$")]
Format = Literal["npy", "float", "smv", "cbf", "nexus", "tiff", "png", "pgm"]
Formats = Annotated[list[Format], Field(min_length=1)]
INDEXED_OWNERS = {"lambda": "wavelengths", "weight": "weights", "F": "hkl"}  # the key in whose table they belong


class Table(job_file.Table):
    """Base of the job's tables: a parameter's other names are translated, an indexed one goes into `parameters`."""

    @classmethod
    def key_names(cls) -> list[str]:
        """Return the keys of the table as a file spells them."""
        return [name for name in super().key_names() if name != "parameters"]

    @classmethod
    def own(cls, key: str) -> bool:
        """Return whether the table takes a key, by any name."""
        indexed = INDEXED_NAME.fullmatch(key)
        if indexed:
            return INDEXED_OWNERS[indexed[1]] in cls.key_names()
        return key in cls.key_names() or (key in NAMES and NAMES[key][0].name in cls.key_names())

    @classmethod
    def canonical(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Return a table with every parameter under its first name, in that name's unit, in the order given."""
        found: dict[str, Any] = {}
        keys = cls.key_names()
        for key, value in given.items():
            name = key
            if value is None:  # null in a dict: not stated
                continue
            if key == "parameters" and not isinstance(value, dict):
                raise ValueError("parameters: a table is needed")
            if key not in keys and key in NAMES and NAMES[key][0].name in keys:
                entry, _, si = NAMES[key]
                name = entry.name
                if isinstance(value, int | float) and not isinstance(value, bool):
                    value = float(value) * (si / entry.si)
            elif INDEXED_NAME.fullmatch(key) and cls.own(key):
                found["parameters"] = {**found.get("parameters", {}), key: value}
                continue
            if name in found:
                raise ValueError(f"{key}: is {name} under another name, which is given too")
            found[name] = value
        return found

    @model_validator(mode="before")
    @classmethod
    def _translated(cls, given: Any) -> Any:
        return cls.canonical(given) if isinstance(given, dict) else given


class CrystalTable(Table):
    """[crystal]: cell, orientation, size, mosaicity, sweep, and its structure factors."""

    cell: Annotated[list[Positive], Field(min_length=1, max_length=6)] | None = None
    cell_a: Positive | None = None
    cell_b: Positive | None = None
    cell_c: Positive | None = None
    cell_alpha: Positive | None = None
    cell_beta: Positive | None = None
    cell_gamma: Positive | None = None
    matrix: str | None = None
    misset: Literal["random"] | tuple[Degrees, Degrees, Degrees] | None = None
    misset_x: Degrees | None = None
    misset_y: Degrees | None = None
    misset_z: Degrees | None = None
    misset_seed: Whole | None = None
    N: Number | Vector | None = None
    Na: Number | None = None
    Nb: Number | None = None
    Nc: Number | None = None
    samplesize: Number | None = None
    sample_x: Number | None = None
    sample_y: Number | None = None
    sample_z: Number | None = None
    shape: Literal["square", "round", "gauss", "tophat"] | None = None
    metric: Literal["hkl", "reciprocal"] | None = None
    fudge: Number | None = None
    mosaic: NotNegative | None = None
    mosaic_a: NotNegative | None = None
    mosaic_b: NotNegative | None = None
    mosaic_c: NotNegative | None = None
    mosaic_kind: Literal["cap", "gaussian"] | None = None
    mosaic_domains: Count | None = None
    mosaic_seed: Whole | None = None
    mosaic_matrices: str | None = None
    phi: Degrees | None = None
    osc: Degrees | None = None
    phistep: Degrees | None = None
    phisteps: Count | None = None
    hkl: str | None = None
    mtz: str | None = None
    coordinates: str | None = None
    anomalous: Flag | None = None
    column: str | None = None
    resolution: Positive | None = None
    k_sol: NotNegative | None = None
    b_sol: NotNegative | None = None
    default_F: Number | None = None
    interpolate: Flag | None = None
    dmin: NotNegative | None = None
    parameters: dict[str, Number] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source_of_f(self) -> CrystalTable:
        given = [key for key in ("hkl", "mtz", "coordinates") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of hkl, mtz and coordinates, not {' and '.join(given)}")
        if self.coordinates is not None and self.resolution is None:
            raise ValueError("resolution: missing (in A); amplitudes are calculated from coordinates to it")
        of_coordinates = ("resolution", "k_sol", "b_sol", "anomalous")
        belongs = {"column": ("mtz", "hkl"), **dict.fromkeys(of_coordinates, ("coordinates",))}
        for key, owners in belongs.items():
            if getattr(self, key) is not None and not set(owners) & set(given):
                raise ValueError(f"{key} belongs to {' or '.join(owners)}")
        if self.cell is not None and self.matrix is not None:
            raise ValueError("give cell or matrix, not both")
        return self


class BeamTable(Table):
    """[beam]: wavelength or spectrum, divergence, polarization, fluence."""

    lambda_: Annotated[Positive | None, Field(alias="lambda")] = None
    energy: Positive | None = None
    fluence: Number | None = None
    flux: Number | None = None
    exposure: Number | None = None
    beamsize: Number | None = None
    dispersion: Number | None = None
    dispsteps: Count | None = None
    wavelengths: Annotated[list[Positive], Field(min_length=1)] | None = None
    weights: Annotated[list[NotNegative], Field(min_length=1)] | None = None
    divergence: Mrad | None = None
    hdivrange: Mrad | None = None
    vdivrange: Mrad | None = None
    hdivstep: Mrad | None = None
    vdivstep: Mrad | None = None
    divsteps: Count | None = None
    hdivsteps: Count | None = None
    vdivsteps: Count | None = None
    round_div: Flag | None = None
    sourcefile: str | None = None
    polar: Number | None = None
    nopolar: Flag | None = None
    beam_vector: Vector | None = None
    polar_vector: Vector | None = None
    parameters: dict[str, Number] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_spectrum(self) -> BeamTable:
        others = [key for key in ("sourcefile", "dispersion", "energy") if getattr(self, key) is not None]
        if self.wavelengths is not None and (others or self.lambda_ is not None):
            raise ValueError(f"give wavelengths or {(others or ['lambda'])[0]}, not both")
        if self.weights is not None and self.wavelengths is None:
            raise ValueError('weights belong to wavelengths (or write "weight[0]" = ...)')
        if self.weights is not None and self.wavelengths is not None and len(self.weights) != len(self.wavelengths):
            raise ValueError(f"weights: {len(self.weights)} given for {len(self.wavelengths)} wavelengths")
        return self


class DetectorTable(Table):
    """[detector]: where it stands, its pixels, its sensor."""

    geometry: str | None = None
    panel: Annotated[int, Strict(), Field(ge=0, le=9999)] | Literal["all"] | None = None
    experiment: Annotated[int, Strict(), Field(ge=0)] | None = None
    convention: Literal["mosflm", "xds", "adxv", "denzo", "dials"] | None = None
    distance: Positive | None = None
    close_distance: Positive | None = None
    pixel: Positive | None = None
    detpixels: Count | tuple[Count, Count] | None = None
    detpixels_f: Count | None = None
    detpixels_s: Count | None = None
    detsize: Number | None = None
    detsize_f: Number | None = None
    detsize_s: Number | None = None
    Xbeam: Number | None = None
    Ybeam: Number | None = None
    Xclose: Number | None = None
    Yclose: Number | None = None
    ORGX: Number | None = None
    ORGY: Number | None = None
    beam_f: Number | None = None
    beam_s: Number | None = None
    pivot: Literal["sample", "beam"] | None = None
    detector_rotx: Degrees | None = None
    detector_roty: Degrees | None = None
    detector_rotz: Degrees | None = None
    twotheta: Degrees | None = None
    twotheta_axis: Vector | None = None
    fdet_vector: Vector | None = None
    sdet_vector: Vector | None = None
    odet_vector: Vector | None = None
    pix0_vector: Vector | None = None
    spindle_axis: Vector | None = None
    curved_det: Flag | None = None
    point_pixel: Flag | None = None
    detector_abs: Literal["inf"] | Number | None = None
    detector_thick: Number | None = None
    detector_thicksteps: Count | None = None
    oversample: Count | None = None
    roi: tuple[Whole, Whole, Whole, Whole] | None = None
    mask: str | None = None
    img: str | None = None
    parameters: dict[str, Number] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _geometry(self) -> DetectorTable:
        if self.geometry is None and (self.panel is not None or self.experiment is not None):
            raise ValueError("panel and experiment belong to geometry, a file")
        taken = ("convention", "pixel", "detpixels", "fdet_vector", "sdet_vector", "odet_vector", "pix0_vector")
        both = [key for key in taken if getattr(self, key) is not None]
        if self.geometry is not None and both:
            raise ValueError(f"give geometry, a file, or {both[0]}, not both")
        return self


class BackgroundTable(Table):
    """[background]: what lies under the spots: water, a level, a scattering profile times a number of molecules."""

    water: NotNegative | None = None
    flat: NotNegative | None = None
    stol: str | None = None
    molecules: NotNegative | None = None
    volume_mm3: Positive | None = None
    density_g_cm3: Positive | None = None
    molar_mass: Positive | None = None

    @model_validator(mode="after")
    def _profile(self) -> BackgroundTable:
        volume = ("volume_mm3", "density_g_cm3", "molar_mass")
        given = [key for key in volume if getattr(self, key) is not None]
        if self.stol is None and (self.molecules is not None or given):
            raise ValueError(f"{(given or ['molecules'])[0]} belongs to stol, a profile")
        if self.stol is not None and (self.molecules is None) == (len(given) < 3):
            raise ValueError(f"stol: give molecules, or all of {', '.join(volume)}")
        return self


class NoiseTable(Table):
    """[noise]: photon counting and read-out; without this table the expected photons are all there is."""

    seed: Annotated[int, Strict(), Field(ge=0, le=2**31 - 1)] = 0
    c_identical: Flag = False
    flicker: Share = 0.0
    calibration: Share = 0.0
    calibration_seed: Annotated[int, Strict(), Field(ge=0, le=2**31 - 1)] = 123456789
    spread: Literal["gaussian", "fiber"] | None = None
    spread_fwhm_px: Positive = 1.0
    gain_adu: Positive = 1.0
    offset_adu: NotNegative = 40.0
    readout_adu: NotNegative = 0.0
    saturation_adu: Positive = 65535.0

    @model_validator(mode="after")
    def _c_noise(self) -> NoiseTable:
        others = self.model_fields_set - {"seed", "c_identical", "offset_adu"}
        if self.c_identical and others:
            raise ValueError(f"{sorted(others)[0]}: the C program's noise (c_identical) has a seed and an offset only")
        return self


class OutputTable(Table):
    """[output]: which files."""

    formats: Formats = Field(default=["npy", "smv", "png"])
    name: Name = "image"
    scale: Positive | None = None
    expected: Flag = True
    spots: Flag = True
    least_excitation: Annotated[float, Strict(), Field(ge=1e-6, le=1)] = 0.05
    figures: Flag = True

    @model_validator(mode="after")
    def _formats_once(self) -> OutputTable:
        if len(set(self.formats)) != len(self.formats):
            raise ValueError(f"formats: {', '.join(self.formats)}: a format is named twice")
        return self


TABLES: dict[str, type[Table]] = {
    "crystal": CrystalTable,
    "beam": BeamTable,
    "detector": DetectorTable,
    "background": BackgroundTable,
}


class Job(Table):
    """A whole job.

    ``options`` is a command line of the C program that the tables build on; ``c_compat`` asks for its image.
    ``refine`` is checked by what refines (`refine_job`).
    """

    options: str = ""
    c_compat: Flag = False
    crystal: CrystalTable = CrystalTable()
    beam: BeamTable = BeamTable()
    detector: DetectorTable = DetectorTable()
    background: BackgroundTable = BackgroundTable()
    noise: NoiseTable | None = None
    output: OutputTable = OutputTable()
    image: list[dict[str, Any]] = Field(default_factory=list, max_length=MOST_IMAGES)
    refine: dict[str, Any] | None = None


def read_job(source: Any) -> tuple[Job, Path, str]:
    """Read and check a job.

    Parameters
    ----------
    source : path, or dict
        A TOML file, or the same tables as a dict.

    Returns
    -------
    job : Job
    folder : Path
        What relative file names in the job are relative to.
    text : str
        The TOML text (for a dict, its JSON).

    Raises
    ------
    InputError
        One line that names the file, the key, the value and what is allowed.
    """
    if isinstance(source, dict):
        return check_job(source, "job"), Path(), json.dumps(source, default=str)
    path = Path(source)
    tables, text = job_file.read_tables(path)
    return check_job(tables, str(path)), path.parent, text


def check_job(tables: dict[str, Any], name: str) -> Job:
    """Validate the tables of a job, those of its images too; raises `InputError` naming the first wrong key."""
    job = job_file.check_job(tables, name, Job)
    for index in range(len(job.image)):
        image_tables(job, index, name)
    return job


def input_files(tables: dict[str, Any], base: Path) -> list[str]:
    """Return the files that a job reads, by the names it gives them: every text of it that is a file's name."""
    names = {text for text in _texts(tables) if text and len(text) < 1000 and (base / text).is_file()}
    return sorted(names | {word for word in tables.get("options", "").split() if (base / word).is_file()})


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in _texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [value] if isinstance(value, str) else []


def image_tables(job: Job, index: int, name: str = "job") -> dict[str, dict[str, Any]]:
    """Return the scene's four tables for one image, what ``[[image]]`` overrides last, keys by their first names.

    Examples
    --------
    >>> job = check_job({"crystal": {"phi": 0, "osc": 1}, "image": [{}, {"phi0": 30, "distance_mm": 90}]}, "job")
    >>> image_tables(job, 1)["crystal"], image_tables(job, 1)["detector"]
    ({'osc': 1.0, 'phi': 30.0}, {'distance': 90.0})
    """
    tables = {}
    where = f"{name}: image.{index}"
    own: dict[str, dict[str, Any]] = {table: {} for table in TABLES}
    for key, value in (job.image[index] if job.image else {}).items():
        if key == "name":
            continue
        if key in TABLES and isinstance(value, dict):
            own[key].update(value)
            continue
        owner = next((table for table, model in TABLES.items() if model.own(key)), None)
        if owner is None:
            allowed = [key for model in TABLES.values() for key in model.key_names()]
            near = job_file.hint(key, allowed).partition("; there")[0]
            raise InputError(f"{where}.{key[:60]}: unknown key{near}; those of {', '.join(TABLES)} are allowed")
        own[owner][key] = value
    for table, model in TABLES.items():
        stated = getattr(job, table).model_dump(mode="json", by_alias=True, exclude_unset=True)
        if own[table]:
            try:
                over = model.canonical(own[table])
            except ValueError as error:
                raise InputError(f"{where}.{error}") from None
            if "parameters" in over:
                over["parameters"] = {**stated.get("parameters", {}), **over["parameters"]}
            stated = {key: value for key, value in stated.items() if key not in over} | over
            job_file.check_job(stated, where, model, ".")
        tables[table] = stated
    return tables


def image_names(job: Job) -> list[str]:
    """Return the name of every image's files: its own, or the output's with a number; raises if two are the same."""
    count = max(len(job.image), 1)
    names = [job.output.name if count == 1 else f"{job.output.name}_{i:03d}" for i in range(count)]
    for i, image in enumerate(job.image):
        if "name" in image:
            if not isinstance(image["name"], str) or not re.fullmatch(r"[A-Za-z0-9_.+-]{1,64}", image["name"]):
                raise InputError(
                    f"image.{i}.name = {str(image['name'])[:40]!r}: letters, digits and _ . + - are needed"
                )
            names[i] = image["name"]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"image.name = {twice[0]!r}: two images have this name")
    return names

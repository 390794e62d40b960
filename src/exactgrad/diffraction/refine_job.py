"""[refine] of a job: what was recorded, what is free, what is known, and how it is refined."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, Strict, model_validator

from exactgrad.core import job_file
from exactgrad.diffraction.formats.images import detect_format, read_image
from exactgrad.diffraction.from_job import Shot
from exactgrad.diffraction.job import Flag, Job, NotNegative, Number, Positive, Table
from exactgrad.diffraction.losses import Observed, observe
from exactgrad.diffraction.parameters.table import find
from exactgrad.diffraction.refinement.plan import AFTER_POSITIONS, FROM_PIXELS, GROUPS, Plan
from exactgrad.diffraction.refinement.restraints import CellRule, Restraint, cell_rule
from exactgrad.diffraction.refinement.unknowns import Free, shared_out
from exactgrad.diffraction.settings import Settings
from exactgrad.errors import InputError, require_shape

Pair = Annotated[list[Number], Field(min_length=2, max_length=2)]
Words = Annotated[tuple[str, ...], Field(min_length=1)]
Together = Annotated[list[Annotated[int, Strict(), Field(ge=0, le=9999)]], Field(min_length=1)]
TIE = re.compile(r"(?:\s*([0-9.eE+-]+)\s*\*?)?\s*([A-Za-z_]\w*(?:\[[-+0-9, ]*\])?)\s*")
Owners = dict[str, tuple[int, ...]]  # whose a number is: in words, and the places of its images
DEFAULT_FREE = ("orientation", "cell", "mosaicity", "scale")
CELL = GROUPS["cell"]


class RefineTable(Table):
    """[refine].

    `data` names the recorded images, one an image of the job, or one NeXus file of as many frames. `free`, `per_image`,
    `per_panel` and `fixed` take parameters and the groups of `plan.GROUPS`; `fixed` takes out what a group brought in.
    `image_groups` and `panel_groups` are those that have a number together. `tied` makes one follow another
    ("cell_b" = "cell_a", "Nc" = "2 Na"). `bounds` are [low, high], `restraints` [value, sigma]. `space_group`
    constrains the cell; by default that of the MTZ file. What read-out the images had is taken from [noise] where it
    is not stated here. `seed` begins from a random place about the stated one.
    """

    data: Words
    gain_adu: Positive | None = None
    offset_adu: Number | None = None
    readout_adu: NotNegative | None = None
    trusted_adu: Pair | None = None
    free: Words = DEFAULT_FREE
    per_image: tuple[str, ...] = ()
    image_groups: tuple[Together, ...] = ()
    per_panel: tuple[str, ...] = ()
    panel_groups: tuple[Together, ...] = ()
    fixed: tuple[str, ...] = ()
    tied: dict[str, str] = Field(default_factory=dict)
    bounds: dict[str, Pair] = Field(default_factory=dict)
    restraints: dict[str, Pair] = Field(default_factory=dict)
    space_group: str | Annotated[int, Strict(), Field(ge=1, le=230)] | None = None
    loss: Literal["poisson", "gaussian", "student", "huber"] = "poisson"
    background: Literal["planes", "flat", "none"] = "planes"
    positions: Flag = True
    stages: Annotated[list[Words], Field(min_length=1, max_length=50)] | None = None
    radius_px: Annotated[float, Strict(), Field(ge=1.0, le=200.0)] = 4.0
    least_excitation: Annotated[float, Strict(), Field(ge=1e-6, le=1.0)] = 0.02
    method: Literal["lm", "lbfgs"] = "lm"
    max_iterations: Annotated[int, Strict(), Field(ge=0, le=1_000_000)] = 100
    max_seconds: Positive | None = None
    tolerance: Annotated[float, Strict(), Field(gt=0, le=1.0)] = 1e-12
    seed: Annotated[int, Strict(), Field(ge=0, le=2**31 - 1)] | None = None
    figures: Flag = True

    @model_validator(mode="before")
    @classmethod
    def _translated(cls, given: Any) -> Any:
        return given  # keys here are not parameters

    @model_validator(mode="after")
    def _last_stage(self) -> RefineTable:
        if self.stages is not None and self.stages[-1] != ("all",):
            raise ValueError('stages: the last must be ["all"]')
        return self


def refine_table(job: Job, name: str) -> RefineTable:
    """Return the checked [refine] of a job; raises `InputError` if there is none or a key is wrong."""
    if job.refine is None:
        raise InputError(f"{name}: no [refine]; it names the recorded images (data) and what is free")
    return job_file.check_job(job.refine, f"{name}: refine", RefineTable)


def plan_of(table: RefineTable, todo: list[Shot], job: Job, base: Path) -> tuple[list[Settings], Plan]:
    """Return the settings where a refinement begins, the cell brought to its space group, and the plan.

    Raises
    ------
    InputError
        If a name is unknown, refined twice, or contradicts another key.
    """
    images = [shot.settings for shot in todo]
    if table.background == "none" and any(shot.background.get(key) for shot in todo for key in ("flat", "stol")):
        raise InputError("refine.background = none: [background] states one; a plane under every spot stands for it")
    rule = _rule(table, images[0], job, base)
    if rule is not None:
        forced = rule.fixed_deg | {name: images[0].value(other) for name, other in rule.ties.items()}
        images = [settings.replace(forced) for settings in images]
    names, owners = _free_names(table, images[0], rule, todo)
    ties = _ties(table, rule, names)
    members: list[Free] = []
    every = tuple(range(len(images)))
    for name in names:
        low, high = table.bounds.get(name, (-np.inf, np.inf))
        if not low < high:
            raise InputError(f"refine.bounds.{name} = [{low:g}, {high:g}]: the first must be below the second")
        shared = Free(name, every, low, high, tuple(ties.get(name, ())))
        members += shared_out(shared, owners[name]) if len(owners.get(name, ())) > 1 else [shared]
    for key in (*table.bounds, *table.restraints):
        if not any(find(key).entry is find(name).entry for name in _with_tied(names, ties)):
            raise InputError(f"refine: {key} has a bound or a restraint, but is not free")
    for key in table.bounds:
        if key not in names:
            raise InputError(f"refine.bounds.{key}: name it as in refine.free")
    plan = Plan(
        members=tuple(members),
        loss=table.loss,
        background=table.background,
        restraints=tuple(Restraint(key, *pair) for key, pair in table.restraints.items()),
        positions=table.positions,
        stages=_stages(table),
        radius_px=table.radius_px,
        least_excitation=table.least_excitation,
        method=table.method,
        max_iterations=table.max_iterations,
        tolerance=table.tolerance,
    )
    return images, plan


def recorded_images(table: RefineTable, todo: list[Shot], job: Job, base: Path) -> list[Observed]:
    """Read the recorded images and bring them to photons.

    Raises
    ------
    InputError
        If there are more or fewer than the job has images, or one has another shape; as the format's reader.
    """
    noise = job.noise
    gain = table.gain_adu or (noise.gain_adu if noise else 1.0)
    offset = table.offset_adu if table.offset_adu is not None else (noise.offset_adu if noise else 0.0)
    readout = table.readout_adu if table.readout_adu is not None else (noise.readout_adu if noise else 0.0)
    trusted = (-np.inf, np.nextafter(noise.saturation_adu, 0.0)) if noise else (-np.inf, np.inf)
    low, high = table.trusted_adu or trusted
    found = []
    for shot, pixels in zip(todo, _pixels(table, len(todo), base), strict=True):
        detector = shot.settings.detector
        seen = require_shape(f"refine.data: {shot.name}", pixels, detector.pixels)
        rendered = np.zeros(detector.pixels, dtype=bool)
        rendered[detector.detector().rendered()] = True
        try:
            found.append(observe(seen, gain, offset, readout, (low, high), rendered))
        except InputError as error:
            raise InputError(f"refine.data: {shot.name}: {error}") from None
    return found


def _pixels(table: RefineTable, count: int, base: Path) -> list[np.ndarray]:
    paths = [base / name for name in table.data]
    if len(paths) == 1 and count > 1 and detect_format(paths[0]) == "nexus":
        from exactgrad.diffraction.formats import nexus

        read = nexus.read(paths[0])
        panels = len(read.corners)
        if len(read.frames) * panels != count:
            held = f"{len(read.frames)} frames" + (f" of {panels} panels" if panels > 1 else "")
            raise InputError(f"{paths[0]}: {held} where the job has {count} images")
        return [read.of_panel(panel)[frame] for frame in range(len(read.frames)) for panel in range(panels)]
    if len(paths) != count:
        raise InputError(f"refine.data: {len(paths)} files for {count} images; there must be one for each [[image]]")
    return [read_image(path) for path in paths]


def _rule(table: RefineTable, first: Settings, job: Job, base: Path) -> CellRule | None:
    group = table.space_group
    if group is None and job.crystal.mtz is not None:
        from exactgrad.diffraction.formats import mtz

        group = mtz.read(base / job.crystal.mtz, job.crystal.column).space_group or None
    return None if group is None else cell_rule(str(group), first.crystal.cell)


def _free_names(
    table: RefineTable, first: Settings, rule: CellRule | None, todo: list[Shot]
) -> tuple[list[str], dict[str, Owners]]:
    """Return the free names in their order, and the owners of those that are not everyone's."""
    follow = set(rule.ties) | set(rule.fixed_deg) if rule is not None else set()
    tied = {find(name).entry.name for name in table.tied}
    fixed = {find(name).entry.name for word in table.fixed for name in _names(word, first, rule, follow)}
    names: list[str] = []
    for word in table.free:
        for name in _names(word, first, rule, follow):
            entry = find(name).entry.name
            if entry in follow and word not in GROUPS:
                raise InputError(f"refine.free: {name} is fixed or tied by the space group {table.space_group or ''}")
            if name not in names and entry not in fixed | tied:
                names.append(name)
    found: dict[str, Owners] = {}
    for key, words, owners in (
        ("per_image", table.per_image, _images(table, todo)),
        ("per_panel", table.per_panel, _panels(table, todo)),
    ):
        for name in (name for word in words for name in _names(word, first, rule, follow)):
            if name not in names:
                raise InputError(f"refine.{key}: {name} is not free")
            if name in found:
                raise InputError(f"refine.{key}: {name} is named twice")
            if key == "per_panel" and not _of_detector(first, name):
                raise InputError(f"refine.per_panel: {name} is not of the detector; panels share crystal and beam")
            found[name] = owners
    return names, found


def _images(table: RefineTable, todo: list[Shot]) -> Owners:
    """Return the images, or groups of them, each with its places among the shots."""
    if table.image_groups and not table.per_image:
        raise InputError("refine.image_groups: belongs to per_image, which says what they have together")
    return _grouped("image", table.image_groups, [shot.image + 1 for shot in todo])


def _panels(table: RefineTable, todo: list[Shot]) -> Owners:
    """Return the panels, or groups of them, each with its places among the shots."""
    if not table.per_panel:
        if table.panel_groups:
            raise InputError("refine.panel_groups: belongs to per_panel, which says what they have together")
        return {}
    panels = [shot.panel for shot in todo if shot.panel is not None]
    if len(panels) < len(todo):
        raise InputError('refine.per_panel: there is one panel; detector.panel = "all" takes all of a geometry')
    return _grouped("panel", table.panel_groups, panels)


def _grouped(what: str, groups: tuple[list[int], ...], numbers: list[int]) -> Owners:
    """Return the places of each group, and of each that is in none, by what it is called."""
    told = [number for group in groups for number in group]
    for number in told:
        if number not in numbers:
            raise InputError(f"refine.{what}_groups: no {what} {number}; there are {min(numbers)} to {max(numbers)}")
        if told.count(number) > 1:
            raise InputError(f"refine.{what}_groups: {what} {number} is named twice")
    every = sorted([*map(sorted, groups), *([number] for number in sorted(set(numbers) - set(told)))])
    return {
        f"{what}{'s' if len(group) > 1 else ''} {' '.join(map(str, group))}": tuple(
            place for place, number in enumerate(numbers) if number in group
        )
        for group in every
    }


def _of_detector(settings: Settings, name: str) -> bool:
    """Return whether a parameter moves the detector, and nothing else."""
    moved = settings.replace({name: settings.value(name)})
    shared = ("crystal", "beam", "structure_factors", "water_m")
    return all(getattr(moved, part) is getattr(settings, part) for part in shared)


def _names(word: str, first: Settings, rule: CellRule | None, follow: set[str]) -> list[str]:
    """Return what a word stands for in these settings: of a group, those members that the settings are stated by."""
    if word not in GROUPS:
        find(word)
        return [word]
    if word == "cell":
        return list(rule.free if rule is not None else CELL)
    if word == "orientation":
        return ["misset_x", "misset_y", "misset_z"]
    if word == "centre":
        return ["Xbeam", "Ybeam"]
    if word == "tilt":
        return ["detector_rotx", "detector_roty", "detector_rotz"]
    if word == "distance":
        return ["close_distance" if first.detector.placement.distance_is_close else "distance"]
    if word == "mosaicity":
        return ["mosaic_a", "mosaic_b", "mosaic_c"] if first.crystal.mosaic.anisotropic else ["mosaic"]
    if word == "size":
        return ["N"] if len(set(first.crystal.cells)) == 1 else ["Na", "Nb", "Nc"]
    return list(GROUPS[word])


def _ties(table: RefineTable, rule: CellRule | None, names: list[str]) -> dict[str, list[tuple[str, float]]]:
    found: dict[str, list[tuple[str, float]]] = {}
    for name, other in (rule.ties if rule is not None else {}).items():
        if other in names:
            found.setdefault(other, []).append((name, 1.0))
    for name, text in table.tied.items():
        matched = TIE.fullmatch(text)
        try:
            factor = float(matched[1]) if matched and matched[1] else 1.0
        except ValueError:
            matched = None
        if matched is None or not np.isfinite(factor) or factor == 0:
            raise InputError(f'refine.tied.{name} = {text[:40]!r}: a name, or a number and a name ("2 Na"), is needed')
        find(name)
        if matched[2] not in names:
            raise InputError(f"refine.tied.{name}: {matched[2]} is not free, so that nothing can follow it")
        found.setdefault(matched[2], []).append((name, factor))
    return found


def _with_tied(names: list[str], ties: dict[str, list[tuple[str, float]]]) -> list[str]:
    return [*names, *(name for follow in ties.values() for name, _ in follow)]


def _stages(table: RefineTable) -> tuple[tuple[str, ...], ...]:
    if table.stages is None:
        return AFTER_POSITIONS if table.positions else FROM_PIXELS
    for word in (word for stage in table.stages for word in stage if word != "all" and word not in GROUPS):
        find(word)
    return tuple(tuple(stage) for stage in table.stages)


def moved_start(images: list[Settings], plan: Plan, seed: int | None) -> list[Settings]:
    """Return where a refinement begins: as stated, or a random place about it."""
    if seed is None:
        return images
    from exactgrad.diffraction.refinement.unknowns import Unknowns

    unknowns = Unknowns(images, plan.members)
    x = np.random.default_rng(seed).uniform(-1.0, 1.0, unknowns.size)
    return unknowns.settings(x)

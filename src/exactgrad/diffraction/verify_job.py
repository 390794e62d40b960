"""`exactgrad verify --job`, of a simulation or a refinement: the derivatives of the user's own image and loss.

Some pixels of the first image are taken: half of them anywhere, half where photons are. Of a refinement, the loss is
looked at on pixels that no reflection's halfway point comes near: it has steps there by definition.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from exactgrad.core import verify
from exactgrad.core.run_folder import RUN, Description, read_object
from exactgrad.core.verify import Check, Verified, worst
from exactgrad.diffraction import render
from exactgrad.diffraction.configurations import Configuration
from exactgrad.diffraction.from_job import shots
from exactgrad.diffraction.job import Job, check_job, read_job
from exactgrad.diffraction.problem import DiffractionProblem
from exactgrad.diffraction.settings import Settings
from exactgrad.diffraction.verification import (
    check_derivatives,
    check_difference,
    check_image,
    check_model,
    check_transpose,
    clear_of_kinks,
    clearest_pixels,
    largest_step,
)
from exactgrad.errors import InputError

PIXELS = 12  # that slow references look at
REFERENCE_WORK = 20_000  # pixels x samples x lattices that these may come to
RENDER_WORK = 200_000_000  # of the image, for choosing the bright ones
LOSS_PIXELS, LOSS_WORK = 1000, 1_000_000  # of a refinement's loss; pixels x samples x lattices of an image


def checks(job: Path, cases: int, seed: int) -> Verified:
    """Check the derivatives of a job's first image by every parameter, and the gradient of its refinement.

    Parameters
    ----------
    job : Path
        A TOML file, a run folder, or a text file that holds a command line of the C program.
    cases : int
        Points of the refinement: its start, then random ones about it.
    seed : int
        Of the pixels that are taken and of the points.

    Raises
    ------
    InputError
        If the job is wrong, or a pixel has too many samples.
    """
    read = _read(job)
    settings = _settings(job) if read is None else shots(*read)[0].settings
    if settings.c_compat:
        raise InputError(f"{job}: c_compat takes factors once a pixel; the correct image is verified, leave it out")
    one, said = some_pixels(settings, job, seed)
    found = [
        replace(check_image(one), name="kernel", where=""),
        replace(check_model(one), name="model", where=""),
        *(replace(row, name=f"derivative: {row.name}", where="") for row in check_derivatives(one)),
        _differences(clear_of_kinks(one)),
        replace(check_transpose(one), name="reverse is the transpose of forward", where=""),
    ]
    if read is not None and read[0].refine is not None:
        problem, more = _refinement(*read, job, seed)
        found += [replace(row, name=f"refinement: {row.name}") for row in _of_problem(problem, cases, seed)]
        said = f"{said}; refinement of {more}, at its start and {cases - 1} points about it (seed {seed})"
    return Verified(said, found)


def _read(path: Path) -> tuple[Job, Path] | None:
    """Return a job and what its file names are relative to: of a TOML file or a run folder; None of a command line."""
    if path.is_dir():
        command = str(read_object(path / RUN).get("command"))
        description = Description.read(path, command)
        return check_job(description.job, str(path / RUN)), Path(description.base)
    return read_job(path)[:2] if path.suffix.lower() == ".toml" else None


def _settings(path: Path) -> Settings:
    from exactgrad.diffraction.trace import settings_of_job

    return settings_of_job(path)


def _differences(clear: Configuration) -> Check:
    """Return the worst parameter of a loss's gradient; those are left out that stand at a bound."""
    settings, pixels = clear.settings.smooth(), clear.pixels
    rows = [
        check_difference(clear, name, along)
        for name, along in clear.parameters.items()
        if largest_step(settings, pixels, name, along) > 0
    ]
    found, left_out = worst(rows), len(clear.parameters) - len(rows)
    note = f"{len(rows)} parameters" + (f"; {left_out} at a bound are left out" if left_out else "")
    return replace(found, name="gradient of a loss, differences", where=found.name, note=note)


def some_pixels(settings: Settings, job: Path, seed: int) -> tuple[Configuration, str]:
    """Return an image of a few of its pixels, and which these are in words.

    Raises
    ------
    InputError
        If a single pixel has more samples and lattices than the references can follow.
    """
    scene, rng = settings.scene(), np.random.default_rng(seed)
    slow, fast = scene.detector.rendered()
    work = scene.steps * scene.detector.layers
    count = min(PIXELS, slow.size, REFERENCE_WORK // work)
    if count == 0:
        raise InputError(
            f"{job}: one pixel has {work} samples x lattices; {REFERENCE_WORK} are verified: take fewer domains, phi "
            "steps, sources or sub-pixels"
        )
    seen = rng.choice(slow.size, min(slow.size, max(RENDER_WORK // work, count)), replace=False)
    photons = render.image(_only(settings, slow[seen], fast[seen]).scene())[slow[seen], fast[seen]]
    bright = np.flatnonzero(photons > 0)
    anywhere = rng.choice(seen.size, (count + 1) // 2, replace=False)
    weight = photons[bright] / photons.sum() if bright.size else None
    chosen = rng.choice(bright, min(count // 2, bright.size), replace=False, p=weight) if bright.size else bright
    kept = seen[np.union1d(anywhere, chosen)]
    said = f"{kept.size} of {slow.size} pixels, taken at random (seed {seed}), half of them where photons are"
    return Configuration(str(job), _only(settings, slow[kept], fast[kept])), said


def _only(settings: Settings, slow: np.ndarray, fast: np.ndarray) -> Settings:
    """Return settings that render these pixels only."""
    mask = np.zeros(settings.detector.pixels, dtype=bool)
    mask[slow, fast] = True
    return replace(settings, detector=replace(settings.detector, mask=mask, roi=None))


def _refinement(job: Job, folder: Path, path: Path, seed: int) -> tuple[DiffractionProblem, str]:
    """Return a job's refinement from its stated start, on some pixels that are clear of steps, and it in words."""
    from exactgrad.diffraction.problem import look_around_spots
    from exactgrad.diffraction.refine_job import moved_start, plan_of, recorded_images, refine_table

    table = refine_table(job, str(path))
    todo = shots(job, folder)
    images, plan = plan_of(table, todo, job, folder)
    images = moved_start(images, plan, table.seed)
    exposures, pixels = [], 0
    for shot, settings, seen in zip(todo, images, recorded_images(table, todo, job, folder), strict=True):
        exposure = look_around_spots(settings, seen, plan.radius_px, plan.least_excitation, shot.name)
        counted = np.zeros(seen.counted.shape, dtype=bool)
        slow, fast = np.nonzero(seen.counted & (exposure.regions.owner >= 0))
        scene = settings.scene()
        most = max(min(LOSS_PIXELS // len(todo), LOSS_WORK // (scene.steps * scene.detector.layers)), 1)
        chosen = np.random.default_rng(seed).permutation(slow.size)[: 2 * most]
        clear = clearest_pixels(settings, slow[chosen], fast[chosen])[:most]
        counted[slow[chosen][clear], fast[chosen][clear]] = True
        pixels += clear.size
        exposures.append(replace(exposure, observed=replace(seen, counted=counted)))
    background = "none" if plan.background == "none" else "flat"  # a plane needs all of its region
    problem = DiffractionProblem(exposures, plan.members, plan.loss, background, plan.restraints)
    return problem, f"{problem.size} parameters from {pixels} pixels of {len(todo)} images"


def _of_problem(problem: DiffractionProblem, cases: int, seed: int) -> Iterator[Check]:
    """Yield the rows of a refinement; its Hessian products are differences themselves, and are not judged."""
    points = [np.zeros(problem.size), *(problem.start(seed + i) for i in range(1, cases))]
    yield worst(verify.check_gradient(problem, x, "gradient, differences", seed) for x in points)
    yield worst(verify.check_taylor(problem, x, "Taylor slope", seed) for x in points)

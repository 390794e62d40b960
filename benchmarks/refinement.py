"""Refinement of a real structure from simulated noisy stills: does it arrive, how fast, and are its errors honest?

Five stills, 30 degrees apart, of 5e5z (P2_1; amplitudes of the deposited MTZ file), mosaic spread 0.3 degrees, 100 mm,
1 A, Poisson noise on spots and a flat background. Refined: orientation, monoclinic cell, distance, mosaicity, scale;
the wavelength is fixed; a plane under every spot.

starts: random starts off by up to 0.5 degrees in orientation, 1 % in every number of the cell, a factor of 2 in
mosaicity and in scale, 1 mm in distance; each is compared with the optimum found from the truth, in standard errors.
pulls: (found - truth)/esd over noise seeds, from the truth; its width, pooled and of each parameter.

    python benchmarks/refinement.py [--starts 20] [--pulls 200] [--threads 1] [--per-image]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from exactgrad.core.least_squares import covariance
from exactgrad.diffraction.losses import Observed, observe
from exactgrad.diffraction.refinement.plan import Plan
from exactgrad.diffraction.refinement.restraints import cell_rule
from exactgrad.diffraction.refinement.search import Found, refine_images
from exactgrad.diffraction.refinement.unknowns import Free, image_own
from exactgrad.diffraction.settings import Settings
from exactgrad.diffraction.simulator import Simulator

MTZ = Path(__file__).parents[1] / "tests" / "data" / "diffraction_files" / "5e5z.mtz"
WORDS = (
    "-cell 9.643 9.609 19.029 90 101.224 90 -misset 20 -35 50 -N 20 -mosaic 0.3 -mosaic_domains 40 -lambda 1 "
    "-distance 100 -pixel 0.35 -detpixels 420 -fluence 1e26 -nointerpolate"
)
PHI_DEG = (0.0, 30.0, 60.0, 90.0, 120.0)
BACKGROUND = 5.0  # photons a pixel
CELL_ERROR, ORIENTATION_ERROR_DEG, DISTANCE_ERROR_MM, FACTOR = 0.01, 0.5, 1.0, 2.0


def stills(oversample: int) -> list[Settings]:
    """Return the true settings of the images."""
    first = Simulator.from_nanobragg(f"-hkl {MTZ} {WORDS} -oversample {oversample}").settings
    return [first.replace(phi=angle) for angle in PHI_DEG]


def recorded(truth: list[Settings], seed: int) -> list[Observed]:
    """Return noisy images."""
    rng = np.random.default_rng(seed)
    return [observe(rng.poisson(Simulator(settings).image() + BACKGROUND)) for settings in truth]


def unknowns(truth: list[Settings], per_image: bool) -> tuple[Free, ...]:
    """Return what is refined; orientation and scale of every image for itself if asked for."""
    every = tuple(range(len(truth)))
    cell = cell_rule("P 21", truth[0].crystal.cell).free
    shared = [Free(name, every) for name in (*cell, "distance", "mosaic")]
    own = [Free(name, every) for name in ("misset_x", "misset_y", "misset_z", "fluence")]
    return (*(one for free in own for one in (image_own(free, len(truth)) if per_image else [free])), *shared)


def off(truth: list[Settings], seed: int, per_image: bool) -> list[Settings]:
    """Return a random start."""
    rng = np.random.default_rng(seed)
    first = truth[0]
    change = {
        name: first.value(name) * (1 + CELL_ERROR * rng.uniform(-1, 1))
        for name in cell_rule("P 21", first.crystal.cell).free
    }
    change["distance"] = first.value("distance") + DISTANCE_ERROR_MM * rng.uniform(-1, 1)
    change["mosaic"] = first.value("mosaic") * FACTOR ** rng.uniform(-1, 1)
    moved = []
    for place, settings in enumerate(truth):
        if place == 0 or per_image:
            axis = rng.normal(size=3)
            angle = ORIENTATION_ERROR_DEG * rng.uniform() * axis / np.linalg.norm(axis)
            own = {f"misset_{x}": settings.value(f"misset_{x}") + float(a) for x, a in zip("xyz", angle, strict=True)}
            own["fluence"] = settings.value("fluence") * FACTOR ** rng.uniform(-1, 1)
        moved.append(settings.replace({**change, **own}))
    return moved


def esd(found: Found) -> np.ndarray:
    """Return the standard errors."""
    return covariance(found.problem.information(found.x), found.problem.parameters(found.x)).esd


def starts(truth: list[Settings], count: int, per_image: bool, threads: int) -> None:
    """Print how random starts end."""
    images, plan = recorded(truth, 0), Plan(unknowns(truth, per_image))
    best = refine_images(truth, images, plan, threads=threads)
    errors, names = esd(best), [one.label for one in plan.members]
    print(f"from the truth: {best.problem.pixels} pixels, {best.status.name}, settled: {best.progress.settled}")
    for name, value, error, start in zip(names, best.values, errors, best.start, strict=True):
        print(f"  {name:22s} {value:14.8g} +- {error:.2g}   ({(value - start) / error:+.2f} esd from the truth)")
    arrived, seconds = 0, []
    for seed in range(count):
        begin, cpu = time.perf_counter(), time.process_time()
        found = refine_images(off(truth, 1000 + seed, per_image), images, plan, threads=threads)
        seconds.append(time.perf_counter() - begin)
        far = np.abs((found.values - best.values) / errors)
        first = np.abs((found.start - best.values) / errors).max()
        arrived += bool(far.max() <= 0.1)
        print(
            f"  start {seed:2d}: off by {first:6.0f} esd at first, {far.max():.1e} at last "
            f"({names[int(far.argmax())]}), "
            f"{found.status.name}, turns {found.progress.turn + 1}, {seconds[-1]:.1f} s "
            f"(CPU {time.process_time() - cpu:.1f} s)",
            flush=True,
        )
    print(f"{arrived} of {count} starts within 0.1 esd of the optimum; slowest {max(seconds):.1f} s")


def pulls(truth: list[Settings], count: int, per_image: bool, threads: int) -> None:
    """Print the widths of pulls."""
    members = unknowns(truth, per_image)
    plan = Plan(members, positions=False, stages=(("all",),))
    table = []
    for seed in range(count):
        found = refine_images(truth, recorded(truth, 5000 + seed), plan, threads=threads)
        table.append((found.values - found.start) / esd(found))
        if seed % 20 == 19:
            print(f"  after {seed + 1} seeds: pooled width {np.std(table, ddof=1):.3f}", flush=True)
    every = np.array(table)
    for name, column in zip((one.label for one in members), every.T, strict=True):
        print(f"  {name:22s} mean {column.mean():+.3f} width {column.std(ddof=1):.3f}")
    width, n = every.std(ddof=1), every.size
    print(f"pooled width {width:.3f} (mean {every.mean():+.3f}) of {n} pulls from {count} noise seeds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--pulls", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--oversample", type=int, default=2)
    parser.add_argument("--per-image", action="store_true")
    given = parser.parse_args()
    truth = stills(given.oversample)
    if given.starts:
        starts(truth, given.starts, given.per_image, given.threads)
    if given.pulls:
        pulls(truth, given.pulls, given.per_image, given.threads)


if __name__ == "__main__":
    main()

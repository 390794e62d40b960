"""`exactgrad verify diffraction`: what must be true of the image and of its derivative by every parameter.

References: the model stage by stage (`model`), the image from the stated numbers in complex numbers and in 50 digits
(`reference`), and differences of the fast image itself. Differences are taken of pixels and over steps that no
reflection's halfway point comes into: the nearest reflection's F, and L, have steps and kinks there by definition.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from exactgrad.core import verify
from exactgrad.core.verify import Check, judge, worst
from exactgrad.diffraction import derivative, model, render
from exactgrad.diffraction.configurations import SYSTEMATIC, Configuration, drawn, light, singular
from exactgrad.diffraction.parameters.table import find, names
from exactgrad.diffraction.reference import Arithmetic, ComplexStep, FiftyDigits, Reference
from exactgrad.diffraction.scene import Scene
from exactgrad.diffraction.settings import Settings
from exactgrad.diffraction.simulator import Simulator
from exactgrad.errors import InputError

KERNEL_TOLERANCE = 1e-12
EXACT_TOLERANCE = 1e-10  # of derivatives, against references without a step; rounding of h at 50 is 1e-12 of a slope
FLOAT32_TOLERANCE = 1e-3
SMALLEST = 1e-3  # of the photons per share of the value: derivatives below are compared as if they were as large
SLOW_SCENES = 2  # of each parameter, for references that take long
CLEAR = 0.8  # of the way to the nearest kink that a difference may step
SHARE = 0.05  # of its value that a parameter may step which moves no reflection
KINKS = "pixels and steps clear of the halfway points between reflections"
Push = Callable[[Scene, list], tuple[np.ndarray, np.ndarray]]
Pull = Callable[..., tuple[np.ndarray, Any]]


def checks(cases: int, seed: int) -> list[Check]:
    """Check the image and its derivatives by every parameter, and run the planted bugs.

    Parameters
    ----------
    cases : int
        Random configurations beyond the systematic ones, >= 1.
    seed : int
        Of all configurations.

    Returns
    -------
    list of Check
    """
    from exactgrad.diffraction.planted import planted_bugs

    systematic = [drawn(seed, index) for index in range(SYSTEMATIC)]
    every = systematic + [drawn(seed, SYSTEMATIC + index) for index in range(cases)]
    return [
        *image_checks(every),
        *gradient_checks(every, ComplexStep()),
        *_digits_checks(seed),
        *difference_checks(systematic),
        *transpose_checks(every),
        *(singular_check(configuration) for configuration in singular()),
        *_refinement_checks(seed),
        thread_check(),
        float32_check(),
        *planted_bugs(),
    ]


# -- images -----------------------------------------------------------------------------------------------------------


def image_checks(configurations: list[Configuration]) -> list[Check]:
    """Return a row for each shape and kind of physics: the fast image against the model, this against the reference."""
    by_kind: dict[str, list[Check]] = {}
    for one in configurations:
        settings = one.settings
        kind = f"{settings.crystal.shape}, {'--c-compat' if settings.c_compat else 'ours'}"
        by_kind.setdefault(f"kernel: {kind}", []).append(check_image(one))
        by_kind.setdefault("model: all of it", []).append(check_model(one))
    return [replace(worst(rows), name=name, note=f"{len(rows)} scenes") for name, rows in sorted(by_kind.items())]


def check_image(one: Configuration, image: Callable[[Scene], np.ndarray] = render.image) -> Check:
    """Compare the fast image with the model's; error relative to its maximum."""
    scene = one.settings.scene()
    wanted = model.image(scene)
    error = np.abs(image(scene) - wanted).max() / max(wanted.max(), 1e-300)
    return judge("kernel", "equation sheet (model.py)", error, KERNEL_TOLERANCE, one.name)


def check_model(one: Configuration) -> Check:
    """Compare the model's image with the reference's, from the stated numbers; error relative to its maximum."""
    settings = one.settings.smooth()
    wanted = Reference(settings, *one.pixels).photons()
    error = np.abs(model.image(settings.scene())[one.pixels] - wanted).max() / max(wanted.max(), 1e-300)
    return judge("model", "stated numbers anew (reference.py)", error, KERNEL_TOLERANCE, one.name)


# -- derivatives against references without a step --------------------------------------------------------------------


def gradient_checks(configurations: list[Configuration], numbers: Arithmetic, most: int = 1_000_000) -> list[Check]:
    """Return a row for every parameter of the table: its derivative images against the reference's, the worst of all.

    Each parameter is judged in the first `most` configurations that have it. One that no configuration has fails: there
    is no error to state.
    """
    found: dict[str, list[Check]] = {name: [] for name in names()}
    for one in configurations:
        wanted = _still_wanted(one, found, most)
        for row in check_derivatives(one, numbers, only=wanted) if wanted else ():
            found[row.name].append(row)
    return [_of_parameter(name, rows, numbers.name) for name, rows in found.items()]


def _still_wanted(one: Configuration, found: dict[str, list[Check]], most: int) -> tuple[str, ...]:
    return tuple(name for name in one.parameters if len(found[find(name).entry.name]) < most)


def _of_parameter(name: str, rows: list[Check], by: str, prefix: str = "gradient") -> Check:
    if not rows:
        return judge(f"{prefix}: {name}", by, np.nan, EXACT_TOLERANCE, note="no configuration has it")
    return replace(worst(rows), name=f"{prefix}: {name}", note=worst(rows).note or f"{len(rows)} scenes")


def check_derivatives(
    one: Configuration,
    numbers: Arithmetic | None = None,
    movement: Callable[[Settings, str, Any], Any] = Settings.movement_along,
    push: Push = derivative.push,
    only: tuple[str, ...] = (),
) -> Iterator[Check]:
    """Compare the derivative image by every parameter (or `only` some) with the reference; one row each.

    Errors are relative to the largest pixel of the derivative image. `movement` and `push` are where bugs are planted.
    """
    settings, pixels = one.settings, one.pixels
    reference = Reference(settings.smooth(), *pixels, numbers or ComplexStep())
    chosen = {name: along for name, along in one.parameters.items() if not only or name in only}
    photons, changes = push(settings.smooth().scene(), [movement(settings, *item) for item in chosen.items()])
    for (name, along), change in zip(chosen.items(), changes, strict=True):
        try:
            wanted = reference.derivative(name, along)
        except InputError as unknown:  # a parameter that the reference was not told of
            yield judge(find(name).entry.name, str(unknown), np.nan, EXACT_TOLERANCE, one.name)
            continue
        scale = max(np.abs(wanted).max(), smallest(settings, name, photons))
        error = np.abs(change[pixels] - wanted).max() / scale
        yield judge(find(name).entry.name, reference.numbers.name, error, EXACT_TOLERANCE, one.name)


def smallest(settings: Settings, name: str, photons: np.ndarray) -> float:
    """Return the size of a derivative that is next to nothing: a share of the photons for a change by the value."""
    value = float(np.abs(settings.value(name)).max(initial=0.0)) or 1.0
    return max(SMALLEST * float(photons.max()) / value, 1e-300)


def _digits_checks(seed: int) -> list[Check]:
    """Return a row for every parameter, against 50 digits; where mpmath is missing one that says so."""
    try:
        numbers = FiftyDigits()
    except ImportError:
        return [judge("gradient, all digits", "not run: mpmath is not installed; complex steps stand in", 0.0, 0.0)]
    found = gradient_checks([light(drawn(seed, index)) for index in range(SYSTEMATIC)], numbers, SLOW_SCENES)
    return [replace(row, name=row.name.replace("gradient", "gradient, all digits")) for row in found]


# -- derivatives against differences of the fast image ----------------------------------------------------------------


def difference_checks(configurations: list[Configuration]) -> list[Check]:
    """Return a row for every parameter: a loss's gradient against differences of the loss, through all of the product.

    Error relative to the gradient's largest term, beyond what the difference says of its own error.
    """
    found: dict[str, list[Check]] = {name: [] for name in names()}
    for one in configurations:
        clear = clear_of_kinks(one)
        for name in _still_wanted(clear, found, SLOW_SCENES):
            found[find(name).entry.name].append(check_difference(clear, name, clear.parameters[name]))
    rows = [_of_parameter(name, rows, "Richardson differences", "gradient of a loss") for name, rows in found.items()]
    return [replace(row, note=f"{row.note}; {KINKS}") for row in rows]


def check_difference(one: Configuration, name: str, along: Any) -> Check:
    """Compare a loss's gradient by one parameter with differences of the fast image's loss."""
    settings, pixels = one.settings.smooth(), one.pixels
    sim, start = Simulator(settings), settings.value(name)
    photons, pullback = sim.image_and_pullback([name])
    rng = np.random.default_rng(1)
    weight = rng.normal(size=photons.shape) / max(photons.max(), 1e-300)
    change = np.asarray(along) if isinstance(along, np.ndarray) else float(along)

    def loss(x: np.ndarray) -> float:
        return float((weight * sim.with_values({name: start + x[0] * change}).image())[pixels].sum())

    step = largest_step(settings, pixels, name, along)
    difference = verify.best_central_difference(loss, np.zeros(1), np.ones(1), step)
    gradient = float(np.sum(np.asarray(pullback(weight)[name]) * change))
    terms = np.abs(weight * sim.jvp({name: change})).max()
    scale = max(float(terms), smallest(settings, name, np.abs(weight * photons)))
    error = max(abs(gradient - float(difference.value)) - difference.error, 0.0) / scale
    return judge(find(name).entry.name, "Richardson differences", error, verify.GRADIENT_TOLERANCE, one.name)


def clear_of_kinks(one: Configuration) -> Configuration:
    """Return a configuration without d_min, looked at in the 4 pixels that are farthest from any kink."""
    settings, (slow, fast) = replace(one.settings, d_min_m=0.0), one.pixels
    best = clearest_pixels(settings, slow, fast)[:4]
    mask = np.zeros(settings.detector.pixels, dtype=bool)
    mask[slow[best], fast[best]] = True
    return Configuration(one.name, replace(settings, detector=replace(settings.detector, mask=mask)))


def clearest_pixels(settings: Settings, slow: np.ndarray, fast: np.ndarray) -> np.ndarray:
    """Return the places of the pixels, those farthest from any kink first."""
    room = _room(settings, Reference(settings.smooth(), slow, fast).miller_slope("fluence")[0])
    return np.argsort(-room.min(axis=(0, 1, 2, 4)), kind="stable")


def _room(settings: Settings, h: np.ndarray) -> np.ndarray:
    """Return how far every index is from the nearest step of the model: half of them, and where cubics join."""
    factors = settings.structure_factors
    spacing = 0.5 if factors.interpolate and factors.table.size else 1.0
    return np.abs(h - 0.5 - spacing * np.rint((h - 0.5) / spacing))


def largest_step(settings: Settings, pixels: tuple[np.ndarray, np.ndarray], name: str, along: Any) -> float:
    """Return how far a parameter may go so that no index meets a step of the model, and no bound is met."""
    h, slope = Reference(settings, *pixels).miller_slope(name, along)
    value, named = settings.value(name), find(name)
    size = float(np.abs(value).max(initial=0.0)) or 1.0
    far = SHARE * size / float(np.abs(along).max())
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(np.abs(slope) > 0, CLEAR * _room(settings, h) / np.abs(slope), np.inf)
    factor = named.si / named.entry.si
    rooms = [value * factor - named.entry.low, named.entry.high - value * factor]
    bound = min(float(np.min(room / factor / np.where(along == 0, np.inf, np.abs(along)))) for room in rooms)
    return float(min(far, reach.min(), CLEAR * bound))


# -- both modes, threads, precision -----------------------------------------------------------------------------------


def transpose_checks(configurations: list[Configuration]) -> list[Check]:
    """Return the worst dot test of reverse with forward mode, by all parameters together and by the table of F."""
    rows = [check_transpose(one) for one in configurations]
    return [replace(worst(rows), name="reverse is the transpose of forward", note=f"{len(rows)} scenes")]


def check_transpose(one: Configuration, pull: Pull = derivative.pull) -> Check:
    """Make a dot test of J and J^T, with parameters scaled to derivative images of length one."""
    from exactgrad.diffraction.numbers import tangents_of

    settings, scene = one.settings, one.settings.smooth().scene()
    movements = [settings.movement_along(name, along) for name, along in one.parameters.items()]
    jacobian = derivative.push(scene, movements)[1]
    tangents, lengths = tangents_of(scene, movements), np.sqrt((jacobian**2).sum(axis=(1, 2)))
    unit = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)

    def apply(u: np.ndarray) -> np.ndarray:
        return np.tensordot(u * unit, jacobian, 1)

    def transpose(weight: np.ndarray) -> np.ndarray:
        return unit * pull(scene, weight, None, True)[1].along(tangents)

    shapes = ((len(movements),), scene.detector.shape)
    return replace(verify.dot_test(apply, transpose, shapes, "transpose"), where=one.name)


def thread_check(pull: Pull = derivative.pull) -> Check:
    """Compare image and derivatives of a scene that is large enough for threads, on one and on several, bit by bit."""
    words = "-cell 40 50 60 80 95 100 -N 5 -default_F 10 -detpixels 200 -pixel 1 -oversample 1 -mosaic 0.5 -osc 1"
    scene = Simulator.from_nanobragg(f"{words} -mosaic_domains 5 -distance 100 -misset 10 20 30").scene
    weight = np.random.default_rng(0).normal(size=scene.detector.shape)
    first = _bits(scene, weight, 1, pull)
    for threads in (2, 4):
        for one, other in zip(first, _bits(scene, weight, threads, pull), strict=True):
            if one.tobytes() != other.tobytes():
                error = np.abs(one - other).max() or np.nan
                return judge("bit-equal", "the same call on one thread", error, 0.0, f"{threads} threads")
    return judge("bit-equal", "the same call on one thread", 0.0, 0.0, note="40 000 pixels on 1, 2 and 4 threads")


def _bits(scene: Scene, weight: np.ndarray, threads: int, pull: Pull) -> list[np.ndarray]:
    image, bars = pull(scene, weight, threads, True)
    return [render.image(scene, threads), image, *bars.kernel_arguments(), np.array([bars.photons])]


def float32_check() -> Check:
    """Compare gradients of a float32 image in PyTorch with those in float64, where PyTorch is installed."""
    name = "gradients of a float32 image"
    if importlib.util.find_spec("torch") is None:
        return judge(name, "not run: PyTorch is not installed", 0.0, FLOAT32_TOLERANCE)
    import torch

    from exactgrad.diffraction.torch import DiffractionImage

    words = "-default_F 100 -cell 70 80 90 90 100 90 -misset 5 3 2 -lambda 1.5 -distance 100 -fluence 1e28 -polar 0.5"
    words += " -detpixels 24 -pixel 4 -N 20 -oversample 1 -mosaic 0.8 -mosaic_domains 3"
    chosen = ["mosaic_spread_rad", "cell_a", "cell_beta", "misset_rot_x", "distance_mm", "lambda_A", "polar", "N"]
    sim, found = Simulator.from_nanobragg(words), []
    start = {key: float(np.float32(sim.value(key))) for key in chosen}  # both begin at what float32 can say
    for kind in (torch.float64, torch.float32):
        image = DiffractionImage(sim.with_values(start), chosen, dtype=kind)
        image().log1p().sum().backward()
        found.append(np.array([float(np.asarray(image.get_parameter(key).grad)) for key in chosen]))
    errors = np.abs(found[1] / found[0] - 1)
    return judge(name, "PyTorch in float64", errors.max(), FLOAT32_TOLERANCE, chosen[int(errors.argmax())])


# -- singular points --------------------------------------------------------------------------------------------------


def singular_check(one: Configuration) -> Check:
    """Return the worst of all derivatives at a point where angles, norms or 0/0 would spoil one."""
    rows = list(check_derivatives(one))
    found = worst(rows)
    return replace(found, name=f"singular: {one.name}", where=found.name, note=f"{len(rows)} parameters")


# -- refinements ------------------------------------------------------------------------------------------------------

_STILL = (
    "-cell 40 36 45 82 95 104 -default_F 40 -lambda 1 -pixel 0.25 -detpixels 56 -oversample 1 -fluence 1e28 "
    "-misset 11 21 31 -N 8"
)
_REFINEMENTS: dict[str, tuple[str, tuple[str, ...]]] = {  # options of the C program's, and what is unknown
    "cell": ("-distance 80", ("cell_a", "cell_b", "cell_c", "cell_alpha", "cell_beta", "cell_gamma")),
    "orientation": (
        "-xds -distance 80 -detector_roty 5 -mosaic 0.6 -mosaic_domains 4 -phi 2 -osc 1 -phisteps 2 -gauss_xtal",
        ("misset_x", "misset_y", "misset_z", "mosaic", "phi", "osc", "N", "detector_rotz", "Xclose", "Yclose"),
    ),
    "three spreads": (
        "-xds -close_distance 80 -twotheta 5 -round_xtal",
        ("mosaic_a", "mosaic_b", "mosaic_c", "Na", "Nb", "Nc", "close_distance", "ORGX", "ORGY", "twotheta"),
    ),
    "beam": (
        "-distance 80 -dispersion 1 -dispsteps 3 -polar 0.3 -water 0.01",
        ("lambda", "dispersion", "polar", "fluence", "water"),
    ),
    "sources": (
        "-pix0_vector 0.08 0.007 -0.007 -dispersion 1 -dispsteps 3",
        ("pix0_x", "pix0_y", "pix0_z", "weight[1]", "lambda[0]", "lambda[2]"),
    ),
    "detector": (
        "-distance 80 -detector_rotx 4 -detector_thick 400 -detector_abs 300 -detector_thicksteps 2",
        ("distance", "Xbeam", "Ybeam", "detector_rotx", "detector_roty", "detector_thick", "detector_abs"),
    ),
    "beam centre": (
        "-distance 80 -detector_rotx 3",
        ("beam_f", "beam_s", "detector_shift_x", "detector_shift_y", "detector_shift_z"),
    ),
    "panel": (
        "-distance 80",
        tuple(f"panel_{kind}_{axis}" for kind in ("shift", "rot") for axis in ("fast", "slow", "normal")),
    ),
    "structure factors": ("-distance 80", ("default_F", "F")),
}
IN_DEPTH = ("cell", "detector")


@cache
def example_problems() -> dict[str, Any]:
    """Return small refinements that together have every parameter that is one number as an unknown."""
    from exactgrad.diffraction.problem import problems

    return {name: _refinement(*what) for name, what in _REFINEMENTS.items()} | {"two images": problems()["two images"]}


def _refinement(words: str, unknown: tuple[str, ...]) -> Any:
    from exactgrad.diffraction.losses import observe
    from exactgrad.diffraction.mosaic import Mosaic
    from exactgrad.diffraction.problem import DiffractionProblem, look_around_spots
    from exactgrad.diffraction.refinement.unknowns import Free

    settings = Simulator.from_nanobragg(f"{_STILL} {words}").settings
    if "mosaic_a" in unknown:
        mosaic = Mosaic.gaussian(np.radians([0.5, 0.7, 0.9]), 4, 7)
        settings = replace(settings, crystal=replace(settings.crystal, mosaic=mosaic))
    moved = {name: 4.0 for name in unknown if "shift" in name} | {name: 2.0 for name in unknown if "panel_rot" in name}
    settings = settings.replace(moved)
    if "F" in unknown:
        settings, unknown = _with_listed(settings)
    photons = np.random.default_rng(5).poisson(Simulator(settings).image() + 20.0)
    exposure = look_around_spots(settings, observe(photons), 1.5)
    bounds = {name: (value - 9.0, value + 9.0) for name, value in moved.items()}
    members = [Free(name, (0,), *bounds.get(name, ())) for name in unknown]
    return DiffractionProblem([exposure], members, background="flat")


def _with_listed(settings: Settings) -> tuple[Settings, tuple[str, ...]]:
    """Return settings in which the two brightest reflections are listed, and the unknowns default_F and these."""
    from exactgrad.diffraction.spots import predict
    from exactgrad.diffraction.structure_factors import StructureFactors

    spots = predict(settings.scene(), 0.02)
    listed = np.asarray(spots.hkl[:2], dtype=int)
    factors = StructureFactors.from_list(listed, [30.0, 50.0], default=settings.structure_factors.default)
    unlisted = np.ones(factors.table.shape, dtype=bool)
    unlisted[tuple((listed - factors.lowest).T)] = False
    names_of = tuple(f"F[{','.join(map(str, hkl))}]" for hkl in listed.tolist())
    return replace(settings, structure_factors=factors, unlisted=unlisted), ("default_F", *names_of)


def _refinement_checks(seed: int) -> list[Check]:
    found: list[Check] = []
    for name in IN_DEPTH:
        problem = example_problems()[name]
        x = problem.start(seed)
        found.append(verify.check_gradient(problem, x, f"refinement: {name}", seed))
        found.append(verify.check_taylor(problem, x, f"Taylor slope: {name}", seed))
    return found

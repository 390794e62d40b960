"""Settings to verify on: every way to state a crystal, a beam and a detector, drawn at random; and singular ones.

Each sees some pixels of a small coarse detector, so that references that are slow can follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from exactgrad.diffraction.crystal import METRICS, SHAPES, random_orientation
from exactgrad.diffraction.mosaic import Mosaic
from exactgrad.diffraction.parameters.table import names
from exactgrad.diffraction.settings import Settings
from exactgrad.diffraction.structure_factors import StructureFactors
from exactgrad.errors import InputError

CONVENTIONS = ("mosflm", "denzo", "adxv", "xds", "dials", "vectors", "origin")
SPREADS = ("none", "cap", "gaussian", "three", "matrices")
SOURCES = ("one", "spectrum", "divergence", "list")
FACTORS = ("one", "table", "interpolated", "sparse")
DETECTORS = ("flat", "flat", "flat", "curved", "point pixels", "flat")
SYSTEMATIC = 16  # the first configurations go through every list; the rest is drawn
OF_THE_C_PROGRAM = (4, 7, 9, 14)  # one of each shape


@dataclass(frozen=True)
class Configuration:
    """Settings, where they come from, and the pixels that are looked at.

    Attributes
    ----------
    name : str
    settings : Settings
    """

    name: str
    settings: Settings

    @cached_property
    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Slow and fast indices, shape (n,), of the pixels."""
        return self.settings.scene().detector.rendered()

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """Every parameter by which this image has a derivative, with a direction: 1, or of an array an array.

        Of what takes an index, one is chosen.
        """
        settings, rng = self.settings, np.random.default_rng(len(self.name))
        found: dict[str, Any] = {}
        for name in names():
            spelled = name.replace("[i]", f"[{settings.scene().beam.sources - 1}]")
            if "[h,k,l]" in name:
                spelled = f"F[{','.join(map(str, _seen_reflection(settings)))}]"
            try:
                value = settings.value(spelled)
                direction = rng.normal(size=np.shape(value)) if isinstance(value, np.ndarray) else 1.0
                settings.movement_along(spelled, direction)
            except InputError:
                continue
            found[spelled] = direction
        return found


def drawn(seed: int, index: int) -> Configuration:
    """Return configuration `index` of a seed: the first `SYSTEMATIC` go through all kinds in turn."""
    rng, turn, row = np.random.default_rng([seed, index]), index, index // 4
    if index >= SYSTEMATIC:
        turn, row = (int(number) for number in rng.integers(0, 420, 2))
    shape = SHAPES[turn % 4]
    c_compat = index in OF_THE_C_PROGRAM if index < SYSTEMATIC else bool(rng.uniform() < 0.25)
    spread, sources = SPREADS[(2 * turn + row) % 5], SOURCES[(turn + row) % 4]
    factors, kind = FACTORS[(3 * turn + row) % 4], DETECTORS[(5 * turn + row) % 6]
    convention = CONVENTIONS[3 * turn % 7]
    if c_compat:  # what only ours has
        kind = "flat" if kind == "curved" else kind
        convention = "mosflm" if convention == "origin" else convention
    settings = _stated(rng, convention, c_compat)
    settings = replace(
        settings,
        crystal=_crystal(rng, settings, shape, spread),
        beam=_beam(rng, settings.beam, sources),
        detector=replace(
            settings.detector,
            curved=kind == "curved",
            point_pixel=kind == "point pixels",
            mask=_some_pixels(rng, settings.detector.pixels, 12),
        ),
    )
    settings = _with_factors(rng, settings, factors, own=row % 2 == 1)  # own: a table for each source
    if turn % 3 == 1:
        settings = _as_a_panel(rng, settings)
    if c_compat:
        samples = tuple(n for n in ("solid angle", "polarization", "capture") if rng.uniform() < 0.3)
        settings = replace(settings, per_sample=samples)
    who = "the C program's" if c_compat else "ours"
    words = (f"{shape} ({settings.crystal.metric})", f"mosaic {spread}", f"sources {sources}", f"F {factors}", kind)
    return Configuration(f"{index}: {', '.join((*words, convention, who))}", settings)


def _stated(rng: np.random.Generator, convention: str, c_compat: bool) -> Settings:
    """Return settings of a command line: cell, orientation, and a detector that stands askew."""
    from exactgrad.diffraction.assemble import settings_of
    from exactgrad.diffraction.options import read

    def some(low: float, high: float, count: int = 1) -> str:
        return " ".join(f"{value:.6f}" for value in rng.uniform(low, high, count))

    words = f"-cell {some(14, 30, 3)} {some(78, 103, 3)} -misset {some(-180, 180, 3)} -default_F {some(2, 20)} "
    words += f"-lambda {some(1, 1.5)} -fluence {some(1, 9)}e24 -detpixels_f 13 -detpixels_s 11 -pixel 6 "
    words += f"-detector_rotx {some(-12, 12)} -detector_roty {some(-12, 12)} -detector_rotz {some(-40, 40)} "
    words += f"-twotheta {some(-15, 15)} -oversample {rng.integers(1, 3)} -water {some(0.0, 0.02)} "
    words += "-nopolar " if rng.uniform() < 0.1 else f"-polar {some(-1, 1)} "
    words += f"-phi {some(-30, 30)} -osc {some(0.1, 2)} -phisteps {rng.integers(1, 4)} "
    if rng.uniform() < 0.6:
        words += f"-detector_thick {some(200, 600)} -detector_thicksteps {rng.integers(1, 4)} "
        words += f"-detector_abs {some(200, 600)} " if rng.uniform() < 0.7 else ""
    if rng.uniform() < 0.3:
        words += f"-dmin {some(1.2, 2.5)} "
    words += _placed(rng, convention, c_compat, some)
    if rng.uniform() < 0.4:
        words += f"-spindle_axis {some(-1, 1, 3)} "
    return settings_of(read(words.split(), c_compat=c_compat))


def _placed(rng: np.random.Generator, convention: str, c_compat: bool, some: Callable) -> str:
    if convention == "origin":
        return f"-pix0_vector {some(0.05, 0.09)} {some(0.02, 0.04)} {some(-0.05, -0.03)} "
    if convention == "vectors":
        words = "-fdet_vector 0 0.6 0.8 -sdet_vector 0.6 -0.64 0.48 -odet_vector 0.8 0.48 -0.36 "
    else:
        words = f"-{convention} "
    if not c_compat and rng.uniform() < 0.5:
        words += f"-pivot {rng.choice(['beam', 'sample'])} "
    distance = rng.choice(["distance", "close_distance"])
    words += f"-{distance} {some(50, 90)} "
    near = convention == "xds" if c_compat else rng.uniform() < 0.5
    if convention == "dials" and c_compat:
        return words + f"-ORGX {some(4, 9)} -ORGY {some(4, 8)} "
    pair = ("ORGX", "ORGY") if near and (c_compat or rng.uniform() < 0.5) else ("Xclose", "Yclose")
    if not near:
        return words + f"-Xbeam {some(25, 45)} -Ybeam {some(25, 45)} "
    scale = 1 if pair[0] == "ORGX" else 6
    return words + f"-{pair[0]} {some(4 * scale, 9 * scale)} -{pair[1]} {some(4 * scale, 8 * scale)} "


def _as_a_panel(rng: np.random.Generator, settings: Settings) -> Settings:
    """Return settings whose detector is shifted, and turned once more about a point of its own."""
    shifts, turn = rng.normal(0, 2e-3, (2, 3)), rng.normal(0, 0.1, 3)
    own: dict[str, Any] = {
        "shift_m": tuple(shifts[0]),
        "panel_shift_m": tuple(shifts[1]),
        "panel_turn_rad": tuple(turn),
    }
    placement = replace(settings.detector.placement, **own, middle_m=(0.03, 0.04))
    return replace(settings, detector=replace(settings.detector, placement=placement))


def _crystal(rng: np.random.Generator, settings: Settings, shape: str, spread: str) -> Any:
    crystal = settings.crystal
    cells = tuple(rng.uniform(1.5, 6, 3)) if rng.uniform() < 0.6 else (rng.uniform(1.5, 6),) * 3
    seed = int(rng.integers(1, 1 << 30))
    mosaic = {
        "none": Mosaic(),
        "cap": Mosaic.cap(0.03, 3, seed),
        "gaussian": Mosaic.gaussian(0.02, 2, seed),
        "three": Mosaic.gaussian(rng.uniform(0.01, 0.05, 3), 3, seed),
        "matrices": Mosaic(matrices=Mosaic.gaussian(0.02, 2, seed).rotations),
    }[spread]
    if spread == "three" and rng.uniform() < 0.4:
        mosaic = replace(mosaic, spread_rad=np.full(3, 0.02))
    metric = METRICS[int(rng.integers(2))]
    fudge = float(rng.uniform(0.3, 1.5)) if shape != "square" else 1.0
    if metric == "reciprocal" and shape in ("gauss", "tophat"):  # of widths like the other's
        fudge *= 0.01
    setting = random_orientation(seed) if rng.uniform() < 0.5 else np.eye(3)
    return replace(
        crystal, cells=cells, shape=shape, metric=metric, fudge=fudge, mosaic=mosaic, setting=setting @ crystal.setting
    )


def _beam(rng: np.random.Generator, beam: Any, kind: str) -> Any:
    if kind == "one":
        return beam
    count = 3 if kind == "spectrum" else 2
    rays = np.repeat(beam.directions[:1], count, axis=0)
    weights = rng.uniform(0.2, 2.0, count)
    if kind != "spectrum":
        rays = rays + 0.01 * rng.normal(size=rays.shape)
    shares = np.linspace(-0.5, 0.5, count) if kind == "spectrum" else np.zeros(count)
    own, follows = np.zeros(count), np.ones(count)
    if kind == "list":
        follows[0], own[0] = 0.0, beam.wavelength_m * 1.01
    width = 0.03 if kind == "spectrum" else 0.0
    return replace(beam, directions=rays, weights=weights, shares=shares, own_m=own, follows=follows, dispersion=width)


def _some_pixels(rng: np.random.Generator, shape: tuple[int, int], count: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask.flat[rng.choice(mask.size, count, replace=False)] = True
    return mask


def _with_factors(rng: np.random.Generator, settings: Settings, kind: str, own: bool) -> Settings:
    default = settings.structure_factors.default
    if kind == "one":
        return settings
    block = rng.uniform(1, 20, (11, 12, 10))
    factors = StructureFactors(block, (-5, -6, -4), default, interpolate=kind == "interpolated")
    if kind == "table" and own:
        block = np.stack([block * rng.uniform(0.5, 2.0) for _ in settings.beam.weights])
        factors = replace(factors, table=block)
    if kind != "sparse":
        return replace(settings, structure_factors=factors)
    unlisted = rng.uniform(size=block.shape) < 0.5
    factors = replace(factors, table=np.where(unlisted, default, block))
    return replace(settings, structure_factors=factors, unlisted=unlisted)


def _seen_reflection(settings: Settings) -> tuple[int, ...]:
    """Return the reflection of the table that the brightest spot of the pixels comes from, or the table's first."""
    from exactgrad.diffraction import model

    factors, scene = settings.structure_factors, settings.scene()
    if not factors.table.size:
        return (0, 0, 0)
    sides = factors.table.shape[-3:]
    slow, fast = scene.detector.rendered()
    d = model.direction(model.position(scene, slow, fast, 0, 0, 0))
    h = model.miller(
        scene.crystal.lattices()[0],
        model.scattering_vector(d, scene.beam.directions[-1], scene.beam.wavelengths_m[-1]),
    )
    place = model.nearest(h) - factors.lowest
    inside = ((place >= 0) & (place < sides)).all(axis=1)
    if not inside.any():
        return tuple(int(i) for i in factors.lowest)
    spots = np.where(inside, model.lattice_factor(scene.crystal, h - model.nearest(h)) ** 2, -1.0)
    return tuple(int(i) for i in model.nearest(h)[np.argmax(spots)])


def light(one: Configuration) -> Configuration:
    """Return a configuration with two of everything at most: for references of many digits."""
    settings = one.settings
    crystal, beam, detector = settings.crystal, settings.beam, settings.detector
    mosaic = crystal.mosaic
    if mosaic.matrices is not None:
        mosaic = replace(mosaic, matrices=mosaic.matrices[:2])
    else:
        mosaic = replace(mosaic, vectors=mosaic.vectors[-2:])
    ends = [0, -1] if len(beam.directions) > 1 else [0]
    parts = {name: getattr(beam, name)[ends] for name in ("directions", "own_m", "follows", "shares", "weights")}
    factors = settings.structure_factors
    if factors.table.ndim == 4:
        factors = replace(factors, table=factors.table[ends])
    mask = np.zeros(detector.pixels, dtype=bool)
    slow, fast = one.pixels
    mask[slow[:2], fast[:2]] = True
    settings = replace(
        settings,
        structure_factors=factors,
        crystal=replace(crystal, mosaic=mosaic, phi_steps=min(crystal.phi_steps, 2)),
        beam=replace(beam, **parts),
        detector=replace(detector, oversample=1, layers=min(detector.layers, 2), mask=mask),
    )
    return Configuration(one.name, settings)


PLAIN = (
    "-cell 20 25 30 90 90 90 -default_F 10 -N 4 -xds -ORGX 4 -ORGY 4 -distance 60 -detpixels 7 -pixel 5 -oversample 1 "
    "-polar 0.5 -fluence 1e25"
)
SINGULAR = {  # words, changes of named parameters, changes of the crystal, of the beam
    "every angle zero": ("-phi 0 -osc 0 -phisteps 2 -misset 0 0 0 -twotheta 0 -mosaic 1 -mosaic_domains 3", {}),
    "mosaic spread zero": ("-mosaic 1 -mosaic_domains 4 -misset 3 4 5", {"mosaic": 0.0}),
    "three mosaic spreads zero": ("-misset 3 4 5", {"mosaic_a": 0.0, "mosaic_b": 0.0, "mosaic_c": 0.0}),
    "misset by a quarter about y": ("-misset 20 90 30", {}),
    "misset by a half": ("-misset 180 0 180", {}),
    "at the direct beam, the reflection 0 0 0": ("-xds -ORGX 4 -ORGY 4 -roi 3 3 3 3", {}),
    "at the direct beam, round": ("-round_xtal -roi 3 3 3 3", {}),
    "at the direct beam, gauss": ("-gauss_xtal -roi 3 3 3 3", {}),
    "at the direct beam, interpolated": ("-roi 3 3 3 3", {}),
    "polar 0, its axis along the beam": ("-polar 0", {}),
    "the weight of a source zero": ("-dispersion 4 -dispsteps 3", {"weight[1]": 0.0}),
    "a spectrum of no width": ("-dispersion 4 -dispsteps 3", {"dispersion": 0.0}),
    "default F zero": ("-water 0.01", {"default_F": 0.0}),
    "F of a reflection zero": ("", {"F[1,1,0]": 0.0}),
    "one cell": ("-N 1 -misset 3 4 5", {}),
    "zeros of the grating": ("-misset 0 0 0", {}),
    "sensor of next to no thickness": ("-detector_thick 1e-6 -detector_abs 500 -detector_thicksteps 2", {}),
    "sensor that lets nothing through": ("-detector_thick 400 -detector_abs 1 -detector_thicksteps 2", {}),
    "fluence zero": ("-misset 3 4 5", {"fluence": 0.0}),
    "no water": ("-misset 3 4 5", {"water": 0.0}),
    "far out in a gauss spot's wings": ("-gauss_xtal -N 60 -misset 3 4 5", {}),
}


def singular() -> list[Configuration]:
    """Return settings at which angles, norms or 0/0 would spoil a derivative."""
    return [Configuration(name, _singular(name, *what)) for name, what in SINGULAR.items()]


def _singular(name: str, words: str, values: dict[str, float]) -> Settings:
    from exactgrad.diffraction.assemble import settings_of
    from exactgrad.diffraction.options import read

    settings = settings_of(read(f"{PLAIN} {words}".split()))
    rng = np.random.default_rng(len(name))
    if "three" in name:
        mosaic = Mosaic.gaussian(np.full(3, 0.02), 4, 7)
        settings = replace(settings, crystal=replace(settings.crystal, mosaic=mosaic))
    if "interpolated" in name or "F of" in name:
        table = rng.uniform(1, 20, (9, 9, 9))
        factors = StructureFactors(table, (-4, -4, -4), 3.0, interpolate="interpolated" in name)
        settings = replace(settings, structure_factors=factors)
    if "along" in name:
        settings = replace(settings, beam=replace(settings.beam, polarization_axis=settings.beam.directions[0]))
    if "default F" in name:
        settings = replace(settings, structure_factors=StructureFactors(np.full((2, 2, 2), 4.0), (0, 0, 0), 1.0))
    if "grating" in name:
        settings = _at_a_zero(settings)
    return settings.replace(values)


def _at_a_zero(settings: Settings) -> Settings:
    """Return settings with cell edges that put one pixel's indices at multiples of 1/N."""
    from exactgrad.diffraction import model

    scene = settings.scene()
    d = model.direction(model.position(scene, np.array([1]), np.array([5]), 0, 0, 0))
    h = model.miller(scene.crystal.lattice, model.scattering_vector(d, scene.beam.directions[0], 1e-10))[0]
    wanted = (np.rint(h * 4) + (np.rint(h * 4) % 4 == 0)) / 4
    return settings.replace(
        {
            f"cell_{axis}": edge * w / was
            for axis, edge, w, was in zip("abc", settings.crystal.cell, wanted, h, strict=False)
        }
    )

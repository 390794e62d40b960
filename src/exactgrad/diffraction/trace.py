"""The trace of a parameter of an image: from its value to the loss of the image, and back.

The loss is minus the log probability (Poisson, with a read-out noise of one photon) of data that other values made: of
the same settings with what `OTHERWISE` lists changed, without noise. So the gradient has something to say: which way
the data are.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from exactgrad.core.trace import Picture, Stage, Trace, correlations
from exactgrad.diffraction import render
from exactgrad.diffraction.losses import PixelLoss, Poisson, observe
from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.parameters import table as parameter_table
from exactgrad.diffraction.parameters.entry import Named
from exactgrad.diffraction.settings import Settings
from exactgrad.diffraction.simulator import Simulator
from exactgrad.diffraction.structure_factors import StructureFactors
from exactgrad.diffraction.trace_stages import StageMap, arrays_of, stages_of
from exactgrad.diffraction.trace_words import words_of
from exactgrad.errors import InputError

JOB_LIMIT_BYTES = 1_000_000
MOST_INDICES = 1_000_000  # of pixels x sub-pixels x layers x sources x lattices: what is held of a job
READOUT_PHOTONS = 1.0
LARGEST_LISTED = 20  # index of the example's list of F

PLAIN = (
    "-cell 90 100 110 85 95 100 -misset 9 10 7 -Na 5 -Nb 4 -Nc 4 -mosaic 0.6 -mosaic_domains 12 -mosaic_seed 2 "
    "-osc 3 -phisteps 2 -lambda 1.1 -dispersion 1 -dispsteps 2 -polar 0.9 -fluence 3e31 -water 0.004 "
    "-detpixels 24 -pixel 0.1 -oversample 1 -detector_rotx 3 -detector_roty -4 -twotheta 6 "
    "-detector_thick 320 -detector_abs 250 -detector_thicksteps 2"
)
CENTRE = "-Xbeam -9 -Ybeam 12"
PLAIN_EXAMPLE = "the embedded example"
EXAMPLES = {  # where a parameter is stated in another way, an example that states it so
    PLAIN_EXAMPLE: f"{PLAIN} {CENTRE} -distance 100",
    "the embedded example with equal cells": f"{PLAIN} {CENTRE} -distance 100 -N 4",
    "the embedded example with its close distance stated": f"{PLAIN} {CENTRE} -close_distance 100",
    "the embedded example with its first pixel stated": f"{PLAIN} -pix0_vector 0.1 -0.00895 -0.01205",
}
THREE_SPREADS = "the embedded example with three mosaic spreads"
INDICES = {"lambda[i]": "lambda[0]", "weight[i]": "weight[0]", "F[h,k,l]": "F[2,-11,-9]"}
OTHERWISE = {  # name: factor, addition; the values that made the data
    "mosaic": (1.3, 0.0),
    "mosaic_a": (1.3, 0.0),
    "cell_a": (1.003, 0.0),
    "misset_x": (1.0, 0.05),
    "distance": (1.002, 0.0),
    "close_distance": (1.002, 0.0),
    "fluence": (1.03, 0.0),
}
ALIKE = (  # what a refinement would free together; one name of what has several
    "cell_a", "cell_b", "cell_c", "cell_alpha", "cell_beta", "cell_gamma", "misset_x", "misset_y", "misset_z", "mosaic",
    "mosaic_a", "mosaic_b", "mosaic_c", "Na", "Nb", "Nc", "phi", "osc", "lambda", "dispersion", "fluence", "polar",
    "default_F", "distance", "close_distance", "beam_f", "beam_s", "pix0_x", "pix0_y", "pix0_z", "detector_rotx",
    "detector_roty", "detector_rotz", "detector_thick", "detector_abs", "water",
)  # fmt: skip
ALONG = {  # how an array changes
    "lambda[]": ", all changed alike",
    "weight[]": ", tilted: the first by -1/2, the last by +1/2",
    "F": ", all changed alike",
}
OWN_UNITS = {"mm": "m", "um": "m", "A": "m", "deg": "rad", "%": ""}  # where a parameter is not kept in its own unit
PARTS = {  # of a scene, by the names of `Movement`: what they are, how they are made, unit
    "lattices": ("a, b, c of every phi step and domain", "the cell, turned by misset, phi and domain", "m"),
    "reciprocal": ("a*, b*, c*", "reciprocal to a, b, c", "1/m"),
    "cells": ("Na, Nb, Nc", "", "cells"),
    "origin": ("detector's origin", "beam centre and distance, turned and shifted", "m"),
    "fast": ("detector's fast axis", "turned", ""),
    "slow": ("detector's slow axis", "turned", ""),
    "normal": ("detector's normal", "turned", ""),
    "layer_m": ("depth of a sensor layer", "thickness / layers", "m"),
    "attenuation_per_m": ("sensor's attenuation", "1 / attenuation depth", "1/m"),
    "wavelengths_m": ("wavelength of each source", "lambda (1 + dispersion share)", "m"),
    "shares": ("share of each source", "weight / sum of weights", ""),
    "kahn": ("Kahn's factor", "", ""),
    "fluence": ("fluence", "", "photons/m^2"),
    "water_m": ("side of the water", "", "m"),
    "table": ("table of F", "", "electrons"),
    "default": ("F of what is not listed", "", "electrons"),
}


@dataclass(frozen=True)
class Cut(Stage):
    """A stage, and what of the parameter's influence passes beside it.

    Attributes
    ----------
    beside : tuple of (str, ndarray, ndarray)
        Name, tangent and cotangent of each other array that the parameter moves and a later stage takes.
    largest : float
        The largest scale of all stages: where the parameter's parts cancel, their rounding stays.
    """

    beside: tuple[tuple[str, np.ndarray, np.ndarray], ...] = ()
    largest: float = 0.0

    @property
    def derivative(self) -> float:
        """The derivative of the loss, as this stage and what passes beside it have it."""
        return float(sum((np.vdot(bar, d) for _, d, bar in self.beside), np.vdot(self.cotangent, self.tangent)))

    @property
    def scale(self) -> float:
        """|cotangent| |tangent|, summed over the branches, or the largest of all stages."""
        pairs = [(self.tangent, self.cotangent), *((d, bar) for _, d, bar in self.beside)]
        return max(self.largest, float(sum(np.linalg.norm(d) * np.linalg.norm(bar) for d, bar in pairs)))


def names() -> tuple[str, ...]:
    """Return the names of all parameters, without aliases; of those that take an index, one of the example's."""
    return tuple(INDICES.get(name, name) for name in parameter_table.names())


def trace(parameter: str, job: Path | None = None) -> Trace:
    """Return the trace of a parameter, by any of its names, of a job's first image or of the embedded example.

    A job is a TOML file, or a text file that holds a command line of the C program. Of a large image the brightest
    pixels are traced. An array ("F", "lambda[]") is traced as one common change, the weights of sources ("weight[]") as
    a tilt.

    Raises
    ------
    InputError
        If there is no such parameter, it is not one of this job's, or the job is wrong.

    Examples
    --------
    >>> found = trace("distance_mm")
    >>> found.agrees, [stage.name for stage in found.stages][:4]
    (True, ['distance_mm', 'setting', "detector's origin", 'position'])
    """
    named = parameter_table.find(parameter)
    if job is not None:
        settings, cut = _within_limit(settings_of_job(Path(job)))
        return Walk(settings, f"{job}{cut}").trace(named)
    return embedded(named).trace(named)


def embedded(named: Named) -> Walk:
    """Return the walk of the first embedded example that states a parameter; of the plain one, if none does."""
    for label in (*EXAMPLES, THREE_SPREADS):
        walk = _walked(label)
        try:
            walk.movement(named)
        except InputError:
            continue
        return walk
    return _walked(PLAIN_EXAMPLE)


@cache
def _walked(label: str) -> Walk:
    return Walk(example(label), label)


def example(label: str = PLAIN_EXAMPLE) -> Settings:
    """Return the settings of an embedded example."""
    if label != THREE_SPREADS:
        return _with_factors(Simulator.from_nanobragg(f"{EXAMPLES[label]} -default_F 20").settings)
    from exactgrad.diffraction.mosaic import Mosaic

    plain = example()
    mosaic = Mosaic.gaussian(np.radians([0.8, 0.6, 1.0]), 12, seed=7)
    return replace(plain, crystal=replace(plain.crystal, mosaic=mosaic))


def _with_factors(settings: Settings) -> Settings:
    """Return settings with a list of F from 20 to 80 electrons, of every other reflection."""
    side = np.arange(-LARGEST_LISTED, LARGEST_LISTED + 1)
    hkl = np.stack(np.meshgrid(side, side, side, indexing="ij"), axis=-1).reshape(-1, 3)
    hkl = hkl[hkl.sum(axis=1) % 2 == 0]
    f = 50.0 + 30.0 * np.sin(hkl @ np.array([1.0, 2.3, 3.7]))
    factors = StructureFactors.from_list(hkl, f, default=20.0)
    unlisted = np.ones(factors.table.shape, bool)
    unlisted[tuple((hkl - factors.lowest).T)] = False
    return replace(settings, structure_factors=factors, unlisted=unlisted)


def settings_of_job(job: Path) -> Settings:
    """Return the settings of a job's first image: of a TOML file, or of a text file with a command line."""
    from exactgrad.diffraction.from_job import shots
    from exactgrad.diffraction.job import read_job
    from exactgrad.files import read_text

    if job.suffix.lower() == ".toml":
        checked, folder, _ = read_job(job)
        settings = shots(checked, folder)[0].settings
    else:
        try:
            words = shlex.split(read_text(job, JOB_LIMIT_BYTES), comments=True)
        except ValueError as error:
            raise InputError(f"{job}: not a command line: {error}") from None
        first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
        settings = Simulator.from_nanobragg(words[first:], job.parent).settings
    if settings.c_compat:
        raise InputError(f"{job}: c_compat takes factors once a pixel; a trace is of the correct image, leave it out")
    return settings


def _within_limit(settings: Settings) -> tuple[Settings, str]:
    """Return settings that render no more than can be held, the brightest pixels, and what was left out in words."""
    scene = settings.scene()
    slow, fast = scene.detector.rendered()
    per_pixel = scene.steps * scene.detector.layers
    most = MOST_INDICES // per_pixel
    if slow.size <= most:
        return settings, ""
    if most == 0:
        raise InputError(
            f"one pixel has {per_pixel} samples x lattices; a trace holds {MOST_INDICES}: take fewer domains, phi "
            "steps, sources or sub-pixels"
        )
    kept = np.argsort(-render.image(scene)[slow, fast], kind="stable")[:most]
    mask = np.zeros(scene.detector.shape, bool)
    mask[slow[kept], fast[kept]] = True
    text = f", its {most} brightest pixels of {slow.size}"
    return replace(settings, detector=replace(settings.detector, mask=mask)), text


class Walk:
    """The stages of an image and its loss, walked forwards and backwards once; then the tangents of any parameter."""

    def __init__(self, settings: Settings, example: str = ""):
        self.settings, self.example = settings.smooth(), example
        self.scene = self.settings.scene()
        self.data, self.otherwise = _data(self.settings)
        slow, fast = self.scene.detector.rendered()
        counted = np.zeros(self.scene.detector.shape, bool)
        counted[slow, fast] = True
        self.loss, self.observed = Poisson(), observe(self.data, readout_adu=READOUT_PHOTONS, mask=counted)
        self.maps = stages_of(self.scene, self.loss, self.observed)
        self.at = arrays_of(self.scene)
        self.inputs = tuple(self.at)
        for stage in self.maps:
            self.at[stage.out] = stage.value(self.at)
        self.bars = self._backwards()

    def trace(self, named: Named) -> Trace:
        """Return the trace of a parameter."""
        d = self.tangents(named)
        found = self.alike(named, d["photons"])
        return Trace(
            system="diffraction",
            parameter=named.name,
            unit=named.unit,
            meaning=named.entry.meaning + (ALONG.get(named.entry.name, "")),
            value=self.value(named),
            example=f"{self.example}; data made with {self.otherwise}",
            stages=self.stages(named, d),
            loss_of_kernel=self.loss.at(render.image(self.scene), self.observed).total,
            correlations=found,
            pictures=self.pictures(named, d["photons"]),
            words=words_of(self, named, d, found),
        )

    @cached_property
    def pixels(self) -> PixelLoss:
        """The loss of every pixel."""
        return self.loss.at(self.at["photons"], self.observed)

    def _backwards(self) -> list[dict[str, np.ndarray]]:
        """Return the cotangents of every array at every cut: [0] before the first stage, [-1] after the last."""
        bars: dict[str, np.ndarray] = {"loss": np.ones(())}
        cuts = [dict(bars)]
        for stage in reversed(self.maps):
            bar = bars.pop(stage.out)
            for name, more in stage.cotangent(self.at, bar).items():
                bars[name] = bars[name] + more if name in bars else more
            cuts.append(dict(bars))
        return cuts[::-1]

    def value(self, named: Named) -> float:
        """Return a parameter's value in its unit; of an array the mean."""
        return float(np.mean(self.settings.value(named.name)))

    def direction(self, named: Named) -> np.ndarray:
        """Return along what a parameter is traced: 1; every entry of an array alike, the weights of sources tilted.

        Only the ratios of weights count: a common change of theirs would move nothing.
        """
        shape = np.shape(self.settings.value(named.name))
        return np.linspace(-0.5, 0.5, *shape) if named.entry.name == "weight[]" else np.ones(shape)

    def movement(self, named: Named) -> Movement:
        """Return how the scene moves per unit of a parameter."""
        return self.settings.movement_along(named.name, self.direction(named))

    def tangents(self, named: Named) -> dict[str, np.ndarray]:
        """Return how every array moves per unit of a parameter."""
        movement = self.movement(named)
        d: dict[str, np.ndarray] = {}
        for name in self.inputs:
            moved = getattr(movement, name)
            d[name] = np.zeros_like(self.at[name]) if moved is None else np.asarray(moved, dtype=np.float64)
        for stage in self.maps:
            d[stage.out] = stage.tangent(self.at, d)
        return d

    def stages(self, named: Named, d: dict[str, np.ndarray]) -> tuple[Stage, ...]:
        """Return the stages from a parameter to the loss: those that it moves."""
        movement = self.movement(named)
        moved = {name for name in self.inputs if (part := getattr(movement, name)) is not None and np.shape(part)}
        moved |= {name for name in set(self.inputs) - moved if getattr(movement, name)}
        cuts = list(self._cuts(moved, d))
        backward, si = cuts[0].derivative, named.si
        own = named.unit if si == 1 else OWN_UNITS.get(named.entry.unit, named.entry.unit)
        value, one = self.value(named), np.ones(())
        given = Cut(named.name, "", named.unit, np.array(value), one, np.array(backward))
        formula = "as it is" if si == 1 else f"1 {named.unit} = {si:.6g} {own}".rstrip()
        kept = Cut("setting", formula, own, np.array(value * si), np.array(si), np.array(backward / si))
        largest = max(cut.scale for cut in cuts)
        return tuple(replace(cut, largest=largest) for cut in (given, kept, *cuts))

    def _cuts(self, moved: set[str], d: dict[str, np.ndarray]) -> Iterator[Cut]:
        """Yield the cuts through the chain: what is known and moves, and is taken by what comes."""
        yield self._cut(0, next((n for n in PARTS if n in moved), "lattices"), moved, d)
        for number, stage in enumerate(self.maps, 1):
            if not moved.isdisjoint(stage.takes):
                moved = moved | {stage.out}
                yield self._cut(number, stage.out, moved, d)

    def _cut(self, number: int, main: str, moved: set[str], d: dict[str, np.ndarray]) -> Cut:
        bars = self.bars[number]
        beside = sorted((moved & bars.keys()) - {main})
        name, formula, unit = PARTS[main] if number == 0 else _said(self.maps[number - 1])
        if beside:
            formula += f"{'; ' if formula else ''}beside it {', '.join(beside)}"
        bar = bars.get(main, np.zeros_like(d[main]))
        return Cut(name, formula, unit, self.at[main], d[main], bar, tuple((n, d[n], bars[n]) for n in beside))

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """The derivative images of what may be refined together, each pixel weighted as the loss does."""
        found = []
        for name in ALIKE:
            try:
                self.settings.movement(name)
            except InputError:
                continue
            found.append(name)
        images = np.sqrt(self.pixels.weight) * Simulator(self.settings).jacobian(found)
        return dict(zip(found, images, strict=True))

    def alike(self, named: Named, moved: np.ndarray) -> tuple[tuple[str, float], ...]:
        """Return how much alike the parameters move the image (Gauss-Newton)."""
        others = [name for name in self.columns if parameter_table.find(name).entry is not named.entry]
        mine = np.sqrt(self.pixels.weight) * moved
        return correlations((named.name, *others), [mine, *(self.columns[name] for name in others)], 0)

    def pictures(self, named: Named, moved: np.ndarray) -> tuple[Picture, ...]:
        """Return what the parameter does to the image, and what the data lack of the model."""
        slow, fast = self.scene.detector.shape
        axes = ("fast (pixel)", "slow (pixel)", (0.0, float(fast), 0.0, float(slow)))
        per = f"photons per {named.unit or 'unit'}"
        residual = np.where(self.observed.counted, self.data - self.at["photons"], 0.0)
        return (
            Picture(f"derivative of the image by {named.name}", per, moved, *axes),
            Picture("data less model", "photons", residual, *axes),
        )


def _said(stage: StageMap) -> tuple[str, str, str]:
    return stage.name, stage.formula, stage.unit


def _data(settings: Settings) -> tuple[np.ndarray, str]:
    """Return the image of other values, photons, and these in words."""
    changed, said = settings, []
    for name, (factor, addition) in OTHERWISE.items():
        try:
            value = settings.value(name)
            changed = changed.replace({name: factor * value + addition})
        except InputError:
            continue  # not stated so
        unit = parameter_table.find(name).unit
        said.append(f"{name} {factor * value + addition:.6g} {unit}".rstrip())
    return render.image(changed.scene()), ", ".join(said)

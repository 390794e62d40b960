"""Bugs put in on purpose, each through the checker that judges the real code: a row passes when its bug is caught.

They are the slips that programs of this field have made: transposes, signs, the first sub-pixel for all, a sensor
without parallax, one source for all, a normalisation forgotten, a turn of a finite angle taken for an infinitesimal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from exactgrad.core.verify import Check, plant, worst
from exactgrad.diffraction import derivative, kernel, model, numbers, render
from exactgrad.diffraction.beam import ELECTRON_RADIUS_SQUARED
from exactgrad.diffraction.configurations import Configuration
from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.numbers import Cotangents, Numbers
from exactgrad.diffraction.scene import Scene
from exactgrad.diffraction.settings import Settings
from exactgrad.diffraction.tangents import crystal as tangents_crystal
from exactgrad.diffraction.tangents import detector as tangents_detector
from exactgrad.rotations import maps

Rows = Iterator[Check]
Alter = Callable[[Settings, str, Movement], Movement]
WORDS = (
    "-cell 22 26 30 80 95 103 -misset 20 -30 50 -N 4 -lambda 1.2 -default_F 20 -fluence 1e25 -polar 0.7 -xds "
    "-detpixels 9 -pixel 6 -distance 60 -ORGX 4 -ORGY 6 -detector_rotx 8 -detector_roty -11 -twotheta 9 "
    "-oversample 2 -detector_thick 900 -detector_abs 500 -detector_thicksteps 3 -phi 10 -osc 9 -phisteps 3 "
    "-mosaic 3 -mosaic_domains 3 -dispersion 4 -dispsteps 3"
)


def planted_bugs() -> list[Check]:
    """Run every planted bug."""
    scenes = {
        "square": _stated(WORDS),
        "gauss": _stated(f"{WORDS} -gauss_xtal"),
        "round": _stated(f"{WORDS} -round_xtal"),
        "beam pivot": _stated(f"{WORDS.replace('-ORGX 4 -ORGY 6', '-Xbeam 20 -Ybeam 33')} -pivot beam"),
        "C": _stated(f"{WORDS.replace('-xds', '-xds --c-compat')} -water 0.02"),
        "factors": _with_table(_stated(WORDS), interpolate=False),
        "interpolated": _with_table(_stated(WORDS), interpolate=True),
    }
    makers = (_of_the_image, _of_movements, _of_the_forward_pass, _of_the_reverse_pass)
    return [check for maker in makers for check in maker(scenes)]


def _stated(words: str) -> Settings:
    from exactgrad.diffraction.simulator import Simulator

    settings = Simulator.from_nanobragg(words).settings.smooth()
    weights = np.array([0.3, 1.0, 2.2])
    return replace(settings, beam=replace(settings.beam, weights=weights))


def _with_table(settings: Settings, interpolate: bool) -> Settings:
    from exactgrad.diffraction.structure_factors import StructureFactors

    table = np.random.default_rng(3).uniform(1, 20, (15, 15, 15))
    factors = StructureFactors(table, (-7, -7, -7), 3.0, interpolate)
    return replace(settings, structure_factors=factors)


# -- a wrong image: the comparison of kernel and equation sheet sees it ------------------------------------------------


def image_of(scene: Scene, altered: Numbers) -> np.ndarray:
    """Return the image that the kernel makes of numbers, of our physics."""
    slow, fast = scene.detector.rendered()
    mean = np.empty(slow.size)
    samples = scene.detector.oversample, scene.detector.layers
    kernel.detector_image(slow, fast, *samples, altered.g, altered.sources, *altered.crystal(), mean)
    scale = ELECTRON_RADIUS_SQUARED * scene.beam.fluence / scene.detector.oversample**2
    return scene.detector.laid_out(scale * mean)


def _of_the_image(scenes: dict[str, Settings]) -> Rows:
    def g(**places: Any) -> Callable[[Numbers, Scene], Numbers]:
        def altered(given: Numbers, scene: Scene) -> Numbers:
            wrong = given.g.copy()
            for name, change in places.items():
                wrong[getattr(kernel, name)] = change(given.g)
            return replace(given, g=wrong)

        return altered

    def transposed(given: Numbers, scene: Scene) -> Numbers:
        turned = scene.crystal.lattice @ scene.crystal.orientations
        return replace(given, lattices=turned.reshape(-1, 9).copy())

    def mosaic_before_spindle(given: Numbers, scene: Scene) -> Numbers:
        other = replace(scene.crystal, domains_follow=True)
        return replace(given, lattices=other.lattices().reshape(-1, 9).copy())

    def middles(given: Numbers, scene: Scene) -> Numbers:
        crystal = scene.crystal
        other = replace(crystal, phi0_rad=crystal.phi0_rad + crystal.osc_rad / crystal.phi_steps / 2)
        return replace(given, lattices=other.lattices().reshape(-1, 9).copy())

    def sources(change: Callable[[np.ndarray, Scene], None]) -> Callable[[Numbers, Scene], Numbers]:
        def altered(given: Numbers, scene: Scene) -> Numbers:
            wrong = given.sources.copy()
            change(wrong, scene)
            return replace(given, sources=wrong)

        return altered

    def one_wavelength(table: np.ndarray, _: Scene) -> None:
        table[:, kernel.PER_WAVELENGTH] = table[0, kernel.PER_WAVELENGTH]

    def shares_as_stated(table: np.ndarray, _: Scene) -> None:
        table[:, kernel.SHARE] *= 3.5  # the sum of the weights

    def swapped_fields(table: np.ndarray, _: Scene) -> None:
        e, b = slice(kernel.FIELD_E, kernel.FIELD_E + 3), slice(kernel.FIELD_B, kernel.FIELD_B + 3)
        table[:, e], table[:, b] = table[:, b].copy(), table[:, e].copy()

    bugs: dict[str, tuple[str, Callable[[Numbers, Scene], Numbers]]] = {
        "transposed rotations of the crystal": ("square", transposed),
        "mosaic turned before the spindle": ("square", mosaic_before_spindle),
        "phi steps at their middles, not their edges": ("square", middles),
        "the first source's wavelength for all": ("square", sources(one_wavelength)),
        "shares of the sources not normalised": ("square", sources(shares_as_stated)),
        "sign of the polarization": ("square", g(KAHN=lambda g: -g[kernel.KAHN])),
        "electric and magnetic field swapped": ("round", sources(swapped_fields)),
        "solid angle without obliquity": (
            "square",
            g(FACING=lambda g: g[kernel.OBLIQUITY], OBLIQUITY=lambda g: 0.0),
        ),
        "sensor without parallax": ("square", g(LAYER=lambda g: 0.0)),
        "cells dropped in the peak of a round spot": ("round", g(SCALE=lambda g: g[kernel.SCALE] / 64.0**2)),
        "cells dropped in the peak of a gauss spot": ("gauss", g(SCALE=lambda g: g[kernel.SCALE] / 64.0**2)),
        "nearest F for interpolated ones": ("interpolated", lambda given, _: replace(given, interpolate=0)),
    }
    for name, (which, alter) in bugs.items():
        yield plant(name, _image_with(scenes[which], partial(_altered_image, alter=alter)))

    def first_sub_pixel(scene: Scene) -> np.ndarray:
        late = replace(scene, c_compat=True, per_sample=("polarization", "capture"))
        slow, fast = scene.detector.rendered()
        even = model.c_corrections(late, slow, fast)
        bare = numbers.numbers_of(scene, ("polarization", "capture"))
        return image_of(scene, bare) * scene.detector.laid_out(even)

    yield plant("solid angle of the first sub-pixel for all", _image_with(scenes["square"], first_sub_pixel))
    yield plant(
        "an image in single precision",
        _image_with(scenes["square"], lambda scene: render.image(scene).astype(np.float32).astype(float)),
    )


def _altered_image(scene: Scene, alter: Callable[[Numbers, Scene], Numbers]) -> np.ndarray:
    return image_of(scene, alter(numbers.numbers_of(scene, scene.per_sample), scene))


def _image_with(settings: Settings, image: Callable[[Scene], np.ndarray]) -> Check:
    from exactgrad.diffraction.verification import check_image

    return check_image(Configuration("planted", settings), image)


# -- a wrong tangent: the comparison with complex steps sees it --------------------------------------------------------


def _of_movements(scenes: dict[str, Settings]) -> Rows:
    def sign(_: Settings, name: str, right: Movement) -> Movement:
        return -1.0 * right

    def about_own_axis(settings: Settings, name: str, right: Movement) -> Movement:
        turning = maps.skew(np.radians(1.0) * np.eye(3)["xyz".index(name[-1])])
        lattice, _, reciprocal = tangents_crystal.unturned(settings.crystal)
        by_frame = turning @ settings.crystal.frame
        turned = tangents_crystal._turned(lattice, tangents_crystal.turns(settings.crystal, frame=by_frame))
        return Movement(lattices=turned, reciprocal=reciprocal @ by_frame.T)

    def per_radian(_: Settings, name: str, right: Movement) -> Movement:
        return np.degrees(1.0) * right

    def edge_alone(settings: Settings, name: str, right: Movement) -> Movement:
        lattices = right.lattices.copy()
        lattices[:, 1:] = 0.0
        lattices[:, 0] *= 1 + 1e-6
        return replace(right, lattices=lattices)

    def without_jacobian(settings: Settings, name: str, right: Movement) -> Movement:
        crystal = settings.crystal
        growth = crystal.mosaic.vectors * np.eye(3)[1]
        turn = tangents_crystal.turns(crystal, domains=maps.skew(growth) @ crystal.mosaic.rotations)
        return np.radians(1.0) * Movement(lattices=tangents_crystal._turned(_lattice(settings), turn))

    def right_edges(settings: Settings, name: str, right: Movement) -> Movement:
        crystal = settings.crystal
        by_angle = (1 + np.arange(crystal.phi_steps)) / crystal.phi_steps
        return np.radians(1.0) * tangents_crystal.phi(crystal, by_angle)

    def first_source(_: Settings, name: str, right: Movement) -> Movement:
        moved = np.array(right.wavelengths_m)
        moved[1:] = 0.0
        return replace(right, wavelengths_m=moved)

    def not_normalised(settings: Settings, name: str, right: Movement) -> Movement:
        beam = settings.beam
        return Movement(shares=np.eye(3)[2] / beam.weights.sum())

    def other_pivot(settings: Settings, name: str, right: Movement) -> Movement:
        place = settings.detector.placement
        other = replace(place, pivot="sample" if place.pivot == "beam" else "beam")
        changes = {
            "distance": tangents_detector.Change(distance_m=1e-3),
            "detector_rotx": tangents_detector.Change(rotation_rad=(np.radians(1.0), 0.0, 0.0)),
        }
        return tangents_detector.moved(other, changes[name])

    def axes_kept(_: Settings, name: str, right: Movement) -> Movement:
        return replace(right, fast=None, slow=None, normal=None)

    def swing_before_tilt(settings: Settings, name: str, right: Movement) -> Movement:
        place, turn = settings.detector.placement, np.radians(1.0) * np.eye(3)[0]
        axes = [place.swing @ place.tilt @ axis for axis in (place.fast, place.slow, place.normal)]
        fast, slow, normal = (np.cross(turn, axis) for axis in axes)
        return replace(right, fast=fast, slow=slow, normal=normal)

    def no_depth(_: Settings, name: str, right: Movement) -> Movement:
        return replace(right, layer_m=0.0)

    def fixed_cells(_: Settings, name: str, right: Movement) -> Movement:
        return Movement()

    def water_once(settings: Settings, name: str, right: Movement) -> Movement:
        return 0.5 * right

    bugs: dict[str, tuple[str, str, Alter]] = {
        "sign of a missetting angle": ("square", "misset_y", sign),
        "misset about the crystal's own axis": ("square", "misset_x", about_own_axis),
        "cell angle per radian": ("square", "cell_beta", per_radian),
        "a cell edge off by a millionth": ("square", "cell_a", edge_alone),
        "mosaic derivative without left Jacobian": ("anisotropic", "mosaic_b", without_jacobian),
        "sweep by the right edges of its steps": ("square", "osc", right_edges),
        "sign of the spindle": ("square", "phi", sign),
        "one source's wavelength moves alone": ("square", "lambda", first_source),
        "share of a source not normalised": ("square", "weight[2]", not_normalised),
        "distance as if the sample were the pivot": ("beam pivot", "distance", other_pivot),
        "tilt as if the beam were the pivot": ("square", "detector_rotx", other_pivot),
        "tilt that keeps the detector's axes": ("square", "detector_roty", axes_kept),
        "tilt after the swing": ("square", "detector_rotx", swing_before_tilt),
        "parallax left out of the thickness": ("square", "detector_thick", no_depth),
        "whole numbers of cells": ("square", "Na", fixed_cells),
        "water as of the fluence to the first power": ("C", "fluence", water_once),
        "sign of Kahn's factor": ("square", "polar", sign),
    }
    for name, (which, parameter, alter) in bugs.items():
        settings = _anisotropic(scenes["square"]) if which == "anisotropic" else scenes[which]
        yield plant(name, _gradient_with(settings, parameter, alter))


def _anisotropic(settings: Settings) -> Settings:
    from exactgrad.diffraction.mosaic import Mosaic

    mosaic = Mosaic.gaussian(np.radians([4.0, 9.0, 14.0]), 4, 7)
    return replace(settings, crystal=replace(settings.crystal, mosaic=mosaic))


def _lattice(settings: Settings) -> np.ndarray:
    return tangents_crystal.unturned(settings.crystal)[0]


def _gradient_with(settings: Settings, parameter: str, alter: Alter) -> Check:
    from exactgrad.diffraction.verification import check_derivatives

    def movement(given: Settings, name: str, along: Any) -> Movement:
        return alter(given, name, given.movement_along(name, along))

    one = Configuration("planted", settings)
    return worst(check_derivatives(one, movement=movement, only=(parameter,)))


# -- a wrong derivative kernel, forward -------------------------------------------------------------------------------


def _of_the_forward_pass(scenes: dict[str, Settings]) -> Rows:
    from exactgrad.diffraction.verification import check_derivatives

    Push = Callable[[np.ndarray, np.ndarray, Scene], np.ndarray]

    def with_push(change: Push, which: str, parameter: str) -> Check:
        def push(scene: Scene, movements: list[Movement]) -> tuple[np.ndarray, np.ndarray]:
            photons, changes = derivative.push(scene, movements)
            return photons, change(photons, changes, scene)

        one = Configuration("planted", scenes[which])
        return worst(check_derivatives(one, push=push, only=(parameter,)))

    def peak_forgotten(photons: np.ndarray, changes: np.ndarray, scene: Scene) -> np.ndarray:
        return changes - 2 * photons * (1 / scene.crystal.cells).sum()

    bugs: dict[str, tuple[str, str, Push]] = {
        "cells dropped in the slope of a gauss spot's peak": ("gauss", "N", peak_forgotten),
        "F for F squared": ("factors", "default_F", lambda photons, changes, scene: changes / 2),
        "derivatives in single precision": (
            "square",
            "cell_c",
            lambda photons, changes, scene: changes.astype(np.float32).astype(float),
        ),
        "rows and columns of the image swapped": (
            "square",
            "cell_b",
            lambda photons, changes, scene: changes.transpose(0, 2, 1),
        ),
    }
    for name, (which, parameter, change) in bugs.items():
        yield plant(name, with_push(change, which, parameter))


# -- a wrong derivative kernel, reverse -------------------------------------------------------------------------------


def _of_the_reverse_pass(scenes: dict[str, Settings]) -> Rows:
    from exactgrad.diffraction.verification import check_transpose, thread_check

    def pull_with(alter: Callable[[Cotangents], None]) -> Callable[..., tuple[np.ndarray, Cotangents]]:
        def pull(scene: Scene, weight: np.ndarray, threads: int | None = None, with_table: bool = False) -> Any:
            image, bars = derivative.pull(scene, weight, threads, with_table)
            alter(bars)
            return image, bars

        return pull

    def lost_share(bars: Cotangents) -> None:
        bars.sources[:, 1] = 0.0

    def lattice_transposed(bars: Cotangents) -> None:
        bars.lattices[:] = bars.lattices.reshape(-1, 3, 3).transpose(0, 2, 1).reshape(-1, 9)

    def last_lattice_lost(bars: Cotangents) -> None:
        bars.lattices[-1] = 0.0

    def no_depth(bars: Cotangents) -> None:
        bars.g[kernel.LAYER] = 0.0

    def diagonal_alone(bars: Cotangents) -> None:
        bars.metric[1] = 0.0

    def attenuation_sign(bars: Cotangents) -> None:
        bars.g[kernel.ATTENUATION] *= -1

    bugs = {
        "reverse: shares of the sources lost": ("square", lost_share),
        "reverse: lattices transposed": ("square", lattice_transposed),
        "reverse: the last phi step and domain left out": ("square", last_lattice_lost),
        "reverse: depth of the layers lost": ("square", no_depth),
        "reverse: one entry of the metric lost": ("gauss", diagonal_alone),
        "reverse: sign of the attenuation": ("square", attenuation_sign),
    }
    for name, (which, alter) in bugs.items():
        yield plant(name, check_transpose(Configuration("planted", scenes[which]), pull_with(alter)))

    def by_threads(scene: Scene, weight: np.ndarray, threads: int | None = None, with_table: bool = False) -> Any:
        image, bars = derivative.pull(scene, weight, threads, with_table)
        bars.g[0] *= 1 + 2.3e-16 * ((threads or 1) > 1)
        return image, bars

    yield plant("a sum that depends on the threads", thread_check(by_threads))

"""The simulator: an image, and its exact derivatives by named parameters, of settings that stay live.

Names, and the units of values and derivatives, are those of `parameters.table`, as the caller spells them.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.parameters.entry import Named
from exactgrad.diffraction.parameters.table import find
from exactgrad.diffraction.scene import Scene
from exactgrad.diffraction.settings import Settings
from exactgrad.errors import InputError, require_finite, require_shape

Pullback = Callable[[Any], dict[str, Any]]
OF_TABLE = ("F", "F[h,k,l]", "default_F")  # parameters that need a loss's derivative by the table of F
OF_SOURCES = ("lambda[]", "weight[]")  # and by the sources
LOG = logging.getLogger("exactgrad.diffraction")


class Simulator:
    """The image of settings, and its derivatives.

    Parameters
    ----------
    settings : Settings
    warnings : sequence of str
        What making the settings warned of.

    Examples
    --------
    >>> words = "-cell 50 60 70 90 90 90 -N 3 -default_F 9 -detpixels 4 -pixel 4 -oversample 1 -misset 1 2 3"
    >>> sim = Simulator.from_nanobragg(words)
    >>> image, pullback = sim.image_and_pullback(wrt=["cell_a", "mosaic_spread_rad", "lambda"])
    Traceback (most recent call last):
        ...
    exactgrad.errors.InputError: mosaic: no domain is turned; give -mosaic above 0 and at least two -mosaic_domains
    >>> image, pullback = sim.image_and_pullback(wrt=["cell_a", "fluence"])
    >>> gradient = pullback(np.ones(image.shape))
    >>> bool(abs(gradient["fluence"] * sim.value("fluence") - image.sum()) < 1e-12 * image.sum())
    True
    """

    def __init__(self, settings: Settings, warnings: Sequence[str] = ()) -> None:
        self._settings, self._scene = settings, settings.scene()
        self.warnings = tuple(warnings)

    @classmethod
    def from_nanobragg(cls, words: str | Sequence[str], folder: Path | str = Path()) -> Simulator:
        """Return the simulator of a command line of the C program, a string or its words.

        ``--c-compat`` among them asks for the C program's image. Files are found from `folder`.

        Raises
        ------
        InputError
            With the option that is wrong.
        """
        from exactgrad.diffraction.assemble import settings_of
        from exactgrad.diffraction.options import read

        given = read(shlex.split(words) if isinstance(words, str) else list(words), Path(folder))
        return cls(settings_of(given), given.warnings)

    @property
    def settings(self) -> Settings:
        """The numbers as stated."""
        return self._settings

    @property
    def scene(self) -> Scene:
        """The scene of the settings as they are now."""
        return self._scene

    @cached_property
    def smooth_scene(self) -> Scene:
        """The scene that derivatives are taken of (see `Settings.smooth`): the same, but for rounded mosaic angles."""
        smooth = self._settings.smooth()
        return self.scene if smooth is self._settings else smooth.scene()

    def value(self, name: str) -> Any:
        """Return a parameter's value, a float or an array, in the unit of the name."""
        return self._settings.value(name)

    def update(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        """Change parameters in place; nothing is read again.

        Parameters
        ----------
        values : mapping of str to float, optional
            New values in the units of their names, by any name of a parameter.
        **named : float
            The same, as keywords.

        Raises
        ------
        InputError
            If a name is unknown or a value is wrong; nothing is then changed.

        Examples
        --------
        >>> sim = Simulator.from_nanobragg("-cell 50 60 70 90 90 90 -default_F 9 -detpixels 4")
        >>> sim.update({"lambda": 1.2}, distance_mm=90.0)
        >>> sim.value("lambda_A"), sim.value("distance")
        (1.2, 90.0)
        """
        settings = self._settings.replace(values, **named)
        self._scene = settings.scene()
        self._settings = settings
        self.__dict__.pop("smooth_scene", None)

    def with_values(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> Simulator:
        """Return a simulator with other `values`, or `named` ones, as of `update`; this one stays as it is."""
        return Simulator(self._settings.replace(values, **named), self.warnings)

    def image(self, threads: int | None = None) -> np.ndarray:
        """Return the expected photons of every pixel, shape (slow, fast), float64, on at most so many threads."""
        from exactgrad.diffraction import render

        return render.image(self.scene, threads)

    def image_and_pullback(self, wrt: Iterable[str], threads: int | None = None) -> tuple[np.ndarray, Pullback]:
        """Return the image, and the function from dL/dimage to dL/dparameter.

        Parameters
        ----------
        wrt : iterable of str
            Parameters by any of their names.
        threads : int or None
            At most so many; results do not depend on it.

        Returns
        -------
        image : ndarray, shape (slow, fast)
            That of `smooth_scene`.
        pullback : callable
            Takes an array of the image's shape; returns by name a float, or an array where the name is an array's
            ("F", "lambda[]", "weight[]"), per unit of the name. It may be called any number of times; it stays that of
            the settings as they are now.

        Raises
        ------
        InputError
            If a name is unknown, or there is no derivative by it; the line says why.
        """
        from exactgrad.diffraction import render

        names, settings, scene = _listed(wrt), self._settings, self.smooth_scene
        found = [find(name) for name in names]
        for named in found:
            settings.require_derivative(named.name)
            named.entry.get(settings, named.index)
        if any(named.entry.moves_spots for named in found):
            for caution in settings.cautions():
                LOG.info(caution)
        movements = {named.name: settings.movement(named.name) for named in found if named.entry.pull is None}

        def pullback(by_image: Any) -> dict[str, Any]:
            weight = require_shape("dL/dimage", require_finite("dL/dimage", by_image), scene.detector.shape)
            return _pulled(settings, scene, found, movements, weight, threads)

        return render.image(scene, threads), pullback

    def jvp(self, direction: Mapping[str, Any], threads: int | None = None) -> np.ndarray:
        """Return the derivative of the image along a change of parameters, shape (slow, fast).

        Parameters
        ----------
        direction : mapping
            By name, how much the parameter changes, in the unit of the name; an array for an array.
        threads : int, optional
            At most so many; the result does not depend on it.

        Raises
        ------
        InputError
            If a name is unknown, or the image has no derivative by it.
        """
        from exactgrad.diffraction import derivative

        if not direction:
            return np.zeros(self.scene.detector.shape)
        total = Movement()
        for name, change in direction.items():
            total = total + self._settings.movement_along(name, change)
        return derivative.push(self.smooth_scene, [total], threads)[1][0]

    def jacobian(self, names: Iterable[str], threads: int | None = None) -> np.ndarray:
        """Return the derivative images, shape (K, slow, fast), per unit of each of the K names.

        Parameters
        ----------
        names : iterable of str
            By any name of a parameter, each once.
        threads : int, optional
            At most so many; the result does not depend on it.

        Raises
        ------
        InputError
            If a name is unknown or named twice, or the image has no derivative by it.
        """
        from exactgrad.diffraction import derivative

        movements = [self._settings.movement(name) for name in _listed(names)]
        if not movements:
            return np.zeros((0, *self.scene.detector.shape))
        return derivative.push(self.smooth_scene, movements, threads)[1]


def _listed(names: Iterable[str]) -> list[str]:
    listed = [names] if isinstance(names, str) else list(names)
    for name in listed:
        if listed.count(name) > 1:
            raise InputError(f"{name}: named twice")
    return listed


def _pulled(
    settings: Settings,
    scene: Scene,
    found: list[Named],
    movements: dict[str, Movement],
    weight: np.ndarray,
    threads: int | None,
) -> dict[str, Any]:
    from exactgrad.diffraction import derivative
    from exactgrad.diffraction.numbers import tangents_of

    moves_table = any(movement.table is not None for movement in movements.values())
    with_table = moves_table or any(named.entry.name in OF_TABLE for named in found)
    tangents = tangents_of(scene, list(movements.values()))
    with_rays = tangents.move_rays() or any(named.entry.name in OF_SOURCES for named in found)
    with_extent = tangents.move_extent()
    _, cotangents = derivative.pull(scene, weight, threads, with_table, with_rays, with_extent)
    by_name: dict[str, Any] = dict(zip(movements, cotangents.along(tangents).tolist(), strict=True))
    cotangent = Movement(table=cotangents.table, default=float(cotangents.default[0]))
    if with_rays:
        by_wavelength = -cotangents.sources[:, 0] / scene.beam.wavelengths_m**2
        cotangent += Movement(wavelengths_m=by_wavelength, shares=cotangents.sources[:, 1])
    for named in found:
        if named.entry.pull is not None:
            pulled = named.si * named.entry.pull(settings, named.index, cotangent)
            by_name[named.name] = pulled if named.entry.array else float(pulled)
    return {named.name: by_name[named.name] for named in found}

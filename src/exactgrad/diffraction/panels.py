"""Detectors of several flat panels: one crystal and one beam, an image a panel, and gradients of all of them together.

Every parameter of `parameters.table` is that of all panels (``detector_shift_z``, ``detector_rotx`` about the crystal,
``cell_a``). What belongs to one panel is named with its number, from 0: ``panel[3]_shift_fast`` (mm) along its own
axis, ``panel[3]_rot_normal`` (degrees) about it, its middle kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from exactgrad.diffraction.settings import Settings
from exactgrad.diffraction.simulator import Simulator
from exactgrad.errors import InputError

OF_ONE = re.compile(r"panel\[(\d{1,4})\]_(shift|rot)_(fast|slow|normal)")
Pullback = Callable[[Sequence[Any]], dict[str, Any]]


class Panels:
    """The images of a detector of panels, and their derivatives.

    Parameters
    ----------
    panels : sequence of Settings
        One a panel; they differ in their detector only.
    warnings : sequence of str

    Raises
    ------
    InputError
        If there is no panel, or two see another crystal, beam or structure factors.

    Examples
    --------
    >>> words = "-cell 50 60 70 90 90 90 -N 3 -default_F 9 -detpixels 4 -pixel 4 -oversample 1 -xds"
    >>> left = Simulator.from_nanobragg(words + " -pix0_vector -0.02 0 0.1").settings
    >>> right = replace(left, detector=Simulator.from_nanobragg(words + " -pix0_vector 0.01 0 0.1").settings.detector)
    >>> sim = Panels([left, right])
    >>> images, pullback = sim.image_and_pullback(["cell_a", "detector_shift_z", "panel[1]_shift_fast"])
    >>> [image.shape for image in images], sorted(pullback([np.ones((4, 4))] * 2))
    ([(4, 4), (4, 4)], ['cell_a', 'detector_shift_z', 'panel[1]_shift_fast'])
    """

    def __init__(self, panels: Sequence[Settings], warnings: Sequence[str] = ()) -> None:
        if not panels:
            raise InputError("panels: at least one is needed")
        first = panels[0]
        for index, settings in enumerate(panels):
            for part in ("crystal", "beam", "structure_factors"):
                if getattr(settings, part) is not getattr(first, part):
                    raise InputError(
                        f"panel {index}: its {part} is not that of panel 0; panels share all but detectors"
                    )
        self._simulators = tuple(Simulator(settings) for settings in panels)
        self.warnings = tuple(warnings)

    def __len__(self) -> int:
        return len(self._simulators)

    def __getitem__(self, index: int) -> Simulator:
        return self._simulators[index]

    def value(self, name: str) -> Any:
        """Return a parameter's value in the unit of the name; of all panels, that of the first."""
        panel, own = self._named(name)
        return self[0 if panel is None else panel].value(own)

    def update(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        """Change parameters in place; raises `InputError` and changes nothing if one is wrong."""
        given = {**(values or {}), **named}
        changed = list[Settings]()
        for index, simulator in enumerate(self._simulators):
            settings = simulator.settings.replace(self._of(index, given))
            changed.append(replace(changed[0], detector=settings.detector) if changed else settings)
        self._simulators = tuple(Simulator(settings) for settings in changed)

    def image(self, threads: int | None = None) -> list[np.ndarray]:
        """Return the expected photons of every panel, each of shape (slow, fast), float64."""
        return [simulator.image(threads) for simulator in self._simulators]

    def image_and_pullback(self, wrt: Iterable[str], threads: int | None = None) -> tuple[list[np.ndarray], Pullback]:
        """Return the images, and the function from the list of dL/dimage to dL/dparameter, by name.

        Raises
        ------
        InputError
            As `Simulator.image_and_pullback`, or if a panel is named that there is not.
        """
        names = [wrt] if isinstance(wrt, str) else list(wrt)
        wanted = dict.fromkeys(names, 1.0)
        images, pulls = [], []
        for index, simulator in enumerate(self._simulators):
            image, pull = simulator.image_and_pullback(self._of(index, wanted), threads)
            images.append(image)
            pulls.append(pull)

        def pullback(by_images: Sequence[Any]) -> dict[str, Any]:
            if len(by_images) != len(pulls):
                raise InputError(f"dL/dimage: {len(by_images)} given for {len(pulls)} panels")
            total: dict[str, Any] = {}
            for index, (pull, weight) in enumerate(zip(pulls, by_images, strict=True)):
                found = pull(weight)
                for name in names:
                    panel, own = self._named(name)
                    if panel is None or panel == index:
                        total[name] = total.get(name, 0.0) + found[own]
            return total

        return images, pullback

    def jvp(self, direction: Mapping[str, Any], threads: int | None = None) -> list[np.ndarray]:
        """Return the derivative of every panel's image along a change of parameters, in the units of the names."""
        return [sim.jvp(self._of(index, direction), threads) for index, sim in enumerate(self._simulators)]

    def _named(self, name: str) -> tuple[int | None, str]:
        """Return the panel that a name is of, None for all, and the parameter's name there."""
        matched = OF_ONE.fullmatch(name)
        if not matched:
            if name.startswith(("panel_", "panel[")):
                raise InputError(f"{name[:40]}: which panel? name panel[0]_shift_fast and so on, 0 to {len(self) - 1}")
            return None, name
        panel = int(matched[1])
        if panel >= len(self):
            raise InputError(f"{name}: there are {len(self)} panels, 0 to {len(self) - 1}")
        return panel, f"panel_{matched[2]}_{matched[3]}"

    def _of(self, index: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is given for one panel, under its names there."""
        named = [(*self._named(name), value) for name, value in given.items()]
        return {own: value for panel, own, value in named if panel is None or panel == index}

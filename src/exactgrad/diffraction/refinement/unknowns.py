"""What is refined: free numbers, each of one image or of several together, with what is tied to them.

The vector x is dimensionless, 0 where the refinement begins, and of order one: each entry goes through a map that
keeps its parameter within bounds. Values are in the units of the parameters' names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from exactgrad.core.parameters import Parameter, Parameters
from exactgrad.core.transforms import Exponential, Interval, Scale
from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.parameters.table import find
from exactgrad.diffraction.settings import Settings
from exactgrad.errors import InputError, require_finite, require_shape

STEPS = {  # what one unit of x stands for at the start: a change that moves spots by a small part of a pixel or so
    "cell_alpha": 0.1,
    "cell_beta": 0.1,
    "cell_gamma": 0.1,
    "misset_x": 0.1,
    "misset_y": 0.1,
    "misset_z": 0.1,
    "phi": 0.1,
    "osc": 0.1,
    "detector_rotx": 0.1,
    "detector_roty": 0.1,
    "detector_rotz": 0.1,
    "twotheta": 0.1,
    "Xbeam": 0.1,
    "Ybeam": 0.1,
    "beam_f": 0.1,
    "beam_s": 0.1,
    "Xclose": 0.1,
    "Yclose": 0.1,
    "polar": 0.1,
    **{f"detector_shift_{axis}": 0.05 for axis in "xyz"},
    **{f"panel_shift_{axis}": 0.05 for axis in ("fast", "slow", "normal")},
    **{f"panel_rot_{axis}": 0.1 for axis in ("fast", "slow", "normal")},
}
SHARES = {"mosaic": 0.2, "fluence": 0.1, "F": 0.1}  # of the value; 0.002 of any other
OTHER_SHARE = 0.002
UNBOUNDED = 1e5
FAR_STEPS = 1e5  # a lower bound so many steps away binds nothing, and would cost digits
FAR_BELOW = 0.01  # of the way between a table's bounds: the upper one does not matter there


@dataclass(frozen=True)
class Free:
    """One unknown.

    Attributes
    ----------
    name : str
        Of `parameters.table`, in any spelling; its unit holds.
    images : tuple of int
        Places of the images that share it.
    low, high : float
        Bounds asked for, in the unit of the name; the table's own always hold.
    ties : tuple of (str, float)
        Names that follow it in the same images, each as a multiple.
    owner : str
        Whose it is, for its label ("image 2", "panels 0 1"); "" if all images share it.
    """

    name: str
    images: tuple[int, ...] = (0,)
    low: float = -np.inf
    high: float = np.inf
    ties: tuple[tuple[str, float], ...] = ()
    owner: str = ""

    @property
    def label(self) -> str:
        """The name in tables, with its owner: "misset_x of image 2", counted from 1."""
        return f"{self.name} of {self.owner}" if self.owner else self.name


@dataclass(frozen=True)
class Map:
    """value = offset + factor t(shift + step x), with t an exponential, an interval's map, or nothing."""

    start: float
    step: float
    low: float
    high: float

    @cached_property
    def _kind(self) -> tuple[Scale | Exponential | Interval, float, float, float, float]:
        """Return t, shift, step of its argument, factor, offset."""
        if np.isfinite(self.high):
            t = Interval(self.low, self.high)
            shift = float(np.arctanh(2 * (self.start - self.low) / (self.high - self.low) - 1))
            return t, shift, self.step / float(t.push(np.array(shift), np.ones(()))), 1.0, 0.0
        if np.isfinite(self.low):  # the upper bound is the table's and far: beyond it there is no scene
            span = self.start - self.low
            return Exponential(), 0.0, self.step / span, span, self.low
        return Scale(1.0), 0.0, self.step, 1.0, self.start

    def apply(self, x: float) -> float:
        """Return the value."""
        t, shift, step, factor, offset = self._kind
        return offset + factor * float(t.apply(np.array(shift + step * x)))

    def slope(self, x: float) -> float:
        """Return dvalue/dx."""
        t, shift, step, factor, _ = self._kind
        return factor * step * float(t.pull(np.array(shift + step * x), np.ones(())))


class Unknowns:
    """The free numbers of some images.

    Parameters
    ----------
    images : sequence of Settings
        Where the refinement begins; what is shared takes the value of the first image that has it.
    members : sequence of Free

    Raises
    ------
    InputError
        If a name is unknown or has no derivative, is claimed twice, or starts at or outside its bounds.

    Examples
    --------
    >>> from exactgrad.diffraction.simulator import Simulator
    >>> start = Simulator.from_nanobragg("-cell 50 50 70 90 90 90 -N 9 -default_F 9 -detpixels 4").settings
    >>> unknowns = Unknowns([start], [Free("cell_a", ties=(("cell_b", 1.0),)), Free("misset_x", low=-1, high=1)])
    >>> moved = unknowns.settings(np.array([1.0, 0.0]))[0]
    >>> round(moved.value("cell_a"), 4), moved.value("cell_b") == moved.value("cell_a"), moved.value("misset_x")
    (50.1001, True, 0.0)
    """

    def __init__(self, images: Sequence[Settings], members: Sequence[Free]) -> None:
        self.images, self.members = [settings.smooth() for settings in images], tuple(members)
        self._check_claims()
        self.maps = [self._map(member) for member in self.members]
        self.size = len(self.members)

    def values(self, x: np.ndarray) -> np.ndarray:
        """Return the parameters' values, shape (size,), in their units."""
        return np.array([one.apply(float(entry)) for one, entry in zip(self.maps, self.vector(x), strict=True)])

    def slopes(self, x: np.ndarray) -> np.ndarray:
        """Return dvalue/dx of every entry, shape (size,)."""
        return np.array([one.slope(float(entry)) for one, entry in zip(self.maps, self.vector(x), strict=True)])

    def settings(self, x: np.ndarray) -> list[Settings]:
        """Return the images' settings; raises `InputError` where a value is none that the parameter can have."""
        return self.placed(self.values(x))

    def placed(self, values: np.ndarray) -> list[Settings]:
        """Return the images' settings at given values."""
        changes: list[dict[str, float]] = [{} for _ in self.images]
        for member, value in zip(self.members, values, strict=True):
            for image in member.images:
                changes[image] |= {member.name: float(value)}
                changes[image] |= {name: ratio * float(value) for name, ratio in member.ties}
        return [settings.replace(change) for settings, change in zip(self.images, changes, strict=True)]

    def of_image(self, image: int) -> list[int]:
        """Return the places of the unknowns that an image depends on."""
        return [place for place, member in enumerate(self.members) if image in member.images]

    def movements(self, settings: Settings, image: int) -> list[Movement]:
        """Return how an image's scene moves per unit of each of `of_image`, with what is tied to it."""
        found = []
        for place in self.of_image(image):
            member = self.members[place]
            moved = settings.movement(member.name)
            for name, ratio in member.ties:
                moved = moved + ratio * settings.movement(name)
            found.append(moved)
        return found

    def gradient(self, image: int, by_name: dict[str, float]) -> np.ndarray:
        """Return the derivative by all values, shape (size,), from that by the names of an image (`names`)."""
        total = np.zeros(self.size)
        for place in self.of_image(image):
            member = self.members[place]
            total[place] = by_name[member.name] + sum(ratio * by_name[name] for name, ratio in member.ties)
        return total

    def names(self, image: int) -> list[str]:
        """Return the names that change in an image."""
        members = [self.members[place] for place in self.of_image(image)]
        return [name for member in members for name in (member.name, *(tied for tied, _ in member.ties))]

    def parameters(self, x: np.ndarray) -> Parameters:
        """Return the unknowns by label with value, unit and bounds."""
        return Parameters(
            tuple(
                Parameter(
                    member.label,
                    np.array(float(np.clip(value, low, high))),
                    find(member.name).unit,
                    low,
                    high if _told(high) or np.isfinite(member.high) else np.inf,
                    meaning=find(member.name).entry.meaning,
                )
                for member, value, (low, high) in zip(
                    self.members, self.values(x), map(self.bounds, self.members), strict=True
                )
            )
        )

    def bounds(self, member: Free) -> tuple[float, float]:
        """Return the tighter of the bounds asked for and the table's, in the unit of the name."""
        named = find(member.name)
        factor = named.si / named.entry.si
        return max(member.low, named.entry.low / factor), min(member.high, named.entry.high / factor)

    def among(self, places: Sequence[int], images: Sequence[Settings]) -> Unknowns:
        """Return some of the unknowns, starting elsewhere."""
        return Unknowns(images, [self.members[place] for place in places])

    def vector(self, x: np.ndarray) -> np.ndarray:
        """Return x as float64, shape (size,), if it is one."""
        return require_shape("x", require_finite("x", x), (self.size,))

    def _check_claims(self) -> None:
        claimed: set[tuple[str, int]] = set()
        for member in self.members:
            for image in member.images:
                for name in (member.name, *(tied for tied, _ in member.ties)):
                    key = find(name).entry.name + str(find(name).index or ""), image
                    if key in claimed:
                        raise InputError(f"refine: {name} of image {image + 1} is free or tied twice")
                    claimed.add(key)
                    self.images[image].movement(name)
        for image in range(len(self.images)):
            self._check_independent(image)

    def _check_independent(self, image: int) -> None:
        """Refuse names that state one number: set one after the other, the last would undo the first."""
        settings, chosen = self.images[image], [self.members[i] for i in self.of_image(image)]
        names = [name for member in chosen for name in (member.name, *(tied for tied, _ in member.ties))]
        before = {name: settings.value(name) for name in names}
        for name in names:
            moved = settings.replace({name: before[name] * (1 + 1e-6) + 1e-9})
            for other in names:
                if other != name and abs(moved.value(other) - before[other]) > 1e-12 * abs(before[other]):
                    raise InputError(f"refine: {name} and {other} state the same number; free one of them")

    def _map(self, member: Free) -> Map:
        start = float(self.images[member.images[0]].value(member.name))
        named, (low, high) = find(member.name), self.bounds(member)
        if not low < start < high:
            raise InputError(
                f"refine: {member.label} starts at {start:g} {named.unit}: must lie between {low:g} and {high:g}, "
                "both excluded"
            )
        step = STEPS.get(named.entry.name, 0.0) * named.entry.si / named.si
        step = step or abs(start) * SHARES.get(named.entry.name, OTHER_SHARE) or 1.0
        if not np.isfinite(member.low) and start - low > FAR_STEPS * step:  # the table's; a stated one always binds
            low = -np.inf
        bounded = np.isfinite(member.high) or (_told(high) and start - low > FAR_BELOW * (high - low))
        return Map(start, step, low, high if np.isfinite(low) and bounded else np.inf)


def _told(high: float) -> bool:
    """Return whether an upper bound says something, and is not only a guard against nonsense."""
    return high < UNBOUNDED


def image_own(member: Free, count: int) -> list[Free]:
    """Return one unknown for each of `count` images instead of a shared one."""
    return shared_out(member, {f"image {image + 1}": (image,) for image in range(count)})


def shared_out(member: Free, owners: Mapping[str, Sequence[int]]) -> list[Free]:
    """Return one unknown for each owner, with the places of its images, instead of a shared one.

    Examples
    --------
    >>> [one.label for one in shared_out(Free("panel_rot_fast"), {"panels 0 1": (0, 1), "panel 2": (2,)})]
    ['panel_rot_fast of panels 0 1', 'panel_rot_fast of panel 2']
    """
    return [replace(member, images=tuple(images), owner=owner) for owner, images in owners.items()]

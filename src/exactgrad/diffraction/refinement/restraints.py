"""What is known beforehand: values with an error, and what a space group says of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exactgrad.diffraction.parameters.table import find
from exactgrad.diffraction.refinement.unknowns import Unknowns
from exactgrad.errors import InputError, require_finite, require_range

EDGES, ANGLES = ("cell_a", "cell_b", "cell_c"), ("cell_alpha", "cell_beta", "cell_gamma")


@dataclass(frozen=True)
class Restraint:
    """A parameter that is known: it costs ((value - target)/sigma)^2/2, in every unknown of that name.

    Attributes
    ----------
    name : str
    target, sigma : float
        In the unit of the name.
    """

    name: str
    target: float
    sigma: float

    def __post_init__(self) -> None:
        require_finite(f"restraint of {self.name}", self.target)
        require_range(f"restraint of {self.name}: sigma", self.sigma, low=0.0, open_low=True)


def restrained(
    restraints: Sequence[Restraint], unknowns: Unknowns, x: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return what restraints cost, its gradient by x, shape (n,), and its curvature, shape (n, n)."""
    value, gradient, curvature = 0.0, np.zeros(unknowns.size), np.zeros((unknowns.size, unknowns.size))
    values, slopes = unknowns.values(x), unknowns.slopes(x)
    for restraint in restraints:
        for place, factor in _held(restraint, unknowns):
            z = (factor * values[place] - restraint.target) / restraint.sigma
            by_x = factor * slopes[place] / restraint.sigma
            value += 0.5 * z * z
            gradient[place] += z * by_x
            curvature[place, place] += by_x**2
    return float(value), gradient, curvature


def _held(restraint: Restraint, unknowns: Unknowns) -> list[tuple[int, float]]:
    """Return the unknowns that a restraint holds, each with the factor from its unit to the restraint's."""
    wanted = find(restraint.name)
    found = []
    for place, member in enumerate(unknowns.members):
        for name, ratio in ((member.name, 1.0), *member.ties):
            named = find(name)
            if named.entry.name == wanted.entry.name and named.index == wanted.index:
                found.append((place, ratio * named.si / wanted.si))
    return found


@dataclass(frozen=True)
class CellRule:
    """What a crystal system leaves of a cell: free names, names that follow one of them, angles of a fixed value."""

    free: tuple[str, ...]
    ties: dict[str, str]
    fixed_deg: dict[str, float]


RIGHT = dict.fromkeys(ANGLES, 90.0)
RULES = {
    "triclinic": CellRule((*EDGES, *ANGLES), {}, {}),
    "monoclinic": CellRule((*EDGES, "cell_beta"), {}, {"cell_alpha": 90.0, "cell_gamma": 90.0}),
    "orthorhombic": CellRule(EDGES, {}, RIGHT),
    "tetragonal": CellRule(("cell_a", "cell_c"), {"cell_b": "cell_a"}, RIGHT),
    "hexagonal": CellRule(("cell_a", "cell_c"), {"cell_b": "cell_a"}, RIGHT | {"cell_gamma": 120.0}),
    "rhombohedral": CellRule(
        ("cell_a", "cell_alpha"),
        {"cell_b": "cell_a", "cell_c": "cell_a", "cell_beta": "cell_alpha", "cell_gamma": "cell_alpha"},
        {},
    ),
    "cubic": CellRule(("cell_a",), {"cell_b": "cell_a", "cell_c": "cell_a"}, RIGHT),
}


def cell_rule(space_group: str, cell: Sequence[float]) -> CellRule:
    """Return what a space group, by name or number, leaves free of a cell.

    A monoclinic cell's unique axis is the one that the symbol has; b where the number leaves it open. A trigonal group
    on rhombohedral axes (":R") has a cell of one edge and one angle.

    Raises
    ------
    InputError
        If there is no such space group, or the cell is not of it (edges 2 %, angles 1 degree).

    Examples
    --------
    >>> cell_rule("P 21", (9.6, 9.7, 19.0, 90, 101, 90)).free
    ('cell_a', 'cell_b', 'cell_c', 'cell_beta')
    >>> cell_rule("P61", (50, 60, 70, 90, 90, 120))
    Traceback (most recent call last):
        ...
    exactgrad.errors.InputError: refine.space_group = P61: cell_b = 60, but it must equal cell_a = 50 there
    """
    import gemmi

    text = str(space_group).strip()
    group = gemmi.find_spacegroup_by_number(int(text)) if text.isdigit() else gemmi.find_spacegroup_by_name(text)
    if group is None:
        raise InputError(f"refine.space_group = {text[:40]!r}: no such space group")
    system = group.crystal_system_str()
    if system == "trigonal":
        system = "rhombohedral" if group.ext == "R" else "hexagonal"
    rule = RULES[system]
    if system == "monoclinic":
        unique = ANGLES["abc".index(group.monoclinic_unique_axis())]
        rule = CellRule((*EDGES, unique), {}, {name: 90.0 for name in ANGLES if name != unique})
    _check(text, rule, dict(zip((*EDGES, *ANGLES), cell, strict=True)))
    return rule


def _check(text: str, rule: CellRule, cell: dict[str, float]) -> None:
    for name, value in rule.fixed_deg.items():
        if abs(cell[name] - value) > 1.0:
            raise InputError(f"refine.space_group = {text}: {name} = {cell[name]:g}, but it must be {value:g} there")
    for name, other in rule.ties.items():
        if abs(cell[name] - cell[other]) > (0.02 * cell[other] if name in EDGES else 1.0):
            raise InputError(
                f"refine.space_group = {text}: {name} = {cell[name]:g}, but it must equal {other} = {cell[other]:g} "
                "there"
            )

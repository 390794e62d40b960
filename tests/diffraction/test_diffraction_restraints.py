"""What a space group leaves of a cell, and restraints."""

import gemmi
import numpy as np
import pytest

from exactgrad.diffraction.refinement.restraints import ANGLES, EDGES, Restraint, cell_rule, restrained
from exactgrad.diffraction.refinement.unknowns import Free, Unknowns
from exactgrad.diffraction.simulator import Simulator
from exactgrad.errors import InputError

NAMES = (*EDGES, *ANGLES)
CELLS = {  # a cell of every system that nothing else is true of
    "triclinic": (10, 11, 12, 81, 82, 83),
    "monoclinic": (10, 11, 12, 90, 97, 90),
    "orthorhombic": (10, 11, 12, 90, 90, 90),
    "tetragonal": (10, 10, 12, 90, 90, 90),
    "trigonal": (10, 10, 12, 90, 90, 120),
    "hexagonal": (10, 10, 12, 90, 90, 120),
    "cubic": (10, 10, 10, 90, 90, 90),
}


@pytest.mark.parametrize("number", range(1, 231))
def test_every_space_group_keeps_its_cell(number):
    """A cell made by the rule from any free values has the group's metric: rotations leave its tensor as it is."""
    group = gemmi.find_spacegroup_by_number(number)
    system = group.crystal_system_str()
    cell = CELLS[system] if group.ext != "R" else (10, 10, 10, 81, 81, 81)
    rule = cell_rule(str(number), cell)
    values = dict(zip(NAMES, cell, strict=True))
    for i, name in enumerate(rule.free):
        values[name] *= 1 + 0.01 * (i + 1)
    values |= rule.fixed_deg
    values |= {name: values[other] for name, other in rule.ties.items()}
    assert {*rule.free, *rule.ties, *rule.fixed_deg} == set(NAMES)
    made = gemmi.UnitCell(*(values[name] for name in NAMES))
    metric = np.array(made.orth.mat.tolist())
    metric = metric.T @ metric
    for operation in group.operations():
        turn = np.array(operation.rot) / 24
        np.testing.assert_allclose(turn.T @ metric @ turn, metric, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("group", "cell", "free"),
    [
        ("P 1 1 21", (10, 11, 12, 90, 90, 97), (*EDGES, "cell_gamma")),
        ("P 21 1 1", (10, 11, 12, 97, 90, 90), (*EDGES, "cell_alpha")),
        ("R 3:R", (10, 10, 10, 81, 81, 81), ("cell_a", "cell_alpha")),
        ("R 3:H", (10, 10, 12, 90, 90, 120), ("cell_a", "cell_c")),
    ],
)
def test_settings_of_a_group(group, cell, free):
    assert cell_rule(group, cell).free == free


@pytest.mark.parametrize(
    ("group", "cell", "message"),
    [
        ("P 99", CELLS["triclinic"], "'P 99': no such space group"),
        ("P 21", CELLS["triclinic"], "P 21: cell_alpha = 81, but it must be 90 there"),
        ("P 4", CELLS["orthorhombic"], "cell_b = 11, but it must equal cell_a = 10 there"),
    ],
)
def test_what_does_not_fit_is_told(group, cell, message):
    with pytest.raises(InputError, match=message):
        cell_rule(group, cell)


def test_restraints_by_differences():
    start = Simulator.from_nanobragg("-cell 50 50 70 90 90 90 -N 9 -default_F 9 -detpixels 4").settings
    unknowns = Unknowns([start], [Free("cell_a", ties=(("cell_b", 1.0),)), Free("misset_x_rad")])
    known = [Restraint("cell_a", 50.2, 0.1), Restraint("cell_b_m", 49.9e-10, 2e-11), Restraint("misset_x", 0.5, 0.3)]
    x, step = np.array([0.4, -1.2]), 1e-6
    value, gradient, curvature = restrained(known, unknowns, x)
    a, angle = unknowns.values(x)
    z = (a - 50.2) / 0.1, (a - 49.9) / 0.2, (np.degrees(angle) - 0.5) / 0.3
    assert value == pytest.approx(0.5 * sum(one**2 for one in z))
    for place, axis in enumerate(np.eye(2)):
        up, down = (restrained(known, unknowns, x + sign * step * axis) for sign in (1, -1))
        assert (up[0] - down[0]) / (2 * step) == pytest.approx(gradient[place], rel=1e-6)
    assert np.linalg.eigvalsh(curvature).min() > 0
    with pytest.raises(InputError, match="sigma"):
        Restraint("cell_a", 1.0, 0.0)

"""Structure factors of each source's own: anomalous scattering at its wavelength, in images and their derivatives."""

from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

from exactgrad.diffraction import derivative, model, render
from exactgrad.diffraction.formats import coordinates
from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.options import parse
from exactgrad.diffraction.simulator import Simulator
from exactgrad.diffraction.structure_factors import StructureFactors
from exactgrad.errors import FormatError, InputError

DATA = Path(__file__).parents[1] / "data" / "diffraction_files"
WORDS = "-cell 60 70 80 85 95 105 -misset 5 3 2 -N 5 -default_F 30 -detpixels 20 -pixel 3 -lambda 1.5 -oversample 2"
SOURCES = 3


def factors(interpolate=False, seed=1):
    random = np.random.default_rng(seed)
    return StructureFactors(random.uniform(10, 200, (SOURCES, 9, 10, 11)), (-4, -5, -5), 30.0, interpolate)


def scene_of(extra="", c_compat=False, own=None, interpolate=False):
    scene, _ = parse(f"{WORDS} -dispersion 6 -dispsteps {SOURCES} {extra}".split(), ".", c_compat)
    return replace(scene, structure_factors=own or factors(interpolate))


def alone(scene, source):
    """One source's scene, with its own table as the only one."""
    beam = scene.beam
    lone = replace(beam, wavelengths_m=beam.wavelengths_m[[source]], directions=beam.directions[[source]], weights=None)
    return replace(scene, beam=lone, structure_factors=scene.structure_factors.of_source(source))


CASES = {
    "plain": ("", False, False),
    "interpolated": ("-N 2", False, True),
    "domains": ("-mosaic 0.5 -mosaic_dom 3 -phi 1 -osc 2 -phisteps 2 -round_xtal", False, False),
    "as in C": ("-polar 0.5 -detector_thick 450 -detector_abs 300 -dmin 3", True, False),
    "as in C, curved": ("-curved_det", True, False),
    "curved": ("-curved_det -gauss_xtal", False, False),
}


@pytest.mark.parametrize("case", CASES)
def test_kernel_and_model_agree(case):
    scene = scene_of(*CASES[case][:2], interpolate=CASES[case][2])
    wanted = model.image(scene)
    np.testing.assert_allclose(render.image(scene), wanted, atol=1e-12 * wanted.max())


@pytest.mark.parametrize("interpolate", [False, True])
def test_an_image_is_the_mean_of_its_sources_images(interpolate):
    scene = scene_of(interpolate=interpolate)
    scene = replace(scene, beam=replace(scene.beam, weights=(1.0, 3.0, 2.0)))
    parts = [render.image(alone(scene, source)) for source in range(SOURCES)]
    whole = render.image(scene)
    np.testing.assert_allclose(whole, np.tensordot(scene.beam.weights, parts, 1), atol=1e-13 * whole.max())
    mixed = replace(scene, structure_factors=factors(interpolate).of_source(0))
    assert np.abs(render.image(mixed) - whole).max() > 0.05 * whole.max()  # it matters whose table it is


def test_the_same_table_for_each_is_one_table_for_all():
    one = factors().of_source(1)
    same = replace(one, table=np.broadcast_to(one.table, (SOURCES, *one.table.shape)))
    np.testing.assert_array_equal(render.image(scene_of(own=same)), render.image(scene_of(own=one)))


@pytest.mark.parametrize("interpolate", [False, True])
@pytest.mark.parametrize("c_compat", [False, True])
def test_derivatives_by_every_source_s_factors(interpolate, c_compat):
    """An image is a quadratic form of F, so that central differences are exact."""
    scene = scene_of("-polar 0.5", c_compat, interpolate=interpolate)
    random = np.random.default_rng(2)
    weight = random.normal(size=scene.detector.shape)
    image, bars = derivative.pull(scene, weight, with_table=True)
    np.testing.assert_allclose(image, render.image(scene), rtol=1e-12)
    table = scene.structure_factors.table
    by_table = bars.table.reshape(table.shape)
    assert (np.abs(by_table).reshape(SOURCES, -1).max(axis=1) > 0).all()
    change = random.normal(size=table.shape)

    def loss(amount):
        moved = replace(scene.structure_factors, table=table + amount * change)
        return (weight * render.image(replace(scene, structure_factors=moved))).sum()

    wanted = (loss(1.0) - loss(-1.0)) / 2
    scale = np.abs(weight * image).sum()
    assert (by_table * change).sum() == pytest.approx(wanted, abs=1e-11 * scale)
    _, (pushed,) = derivative.push(scene, [Movement(table=change)])
    assert (weight * pushed).sum() == pytest.approx(wanted, abs=1e-11 * scale)
    for source in range(SOURCES):
        lone = alone(scene, source)
        _, its = derivative.pull(lone, weight, with_table=True)
        if not c_compat:  # the C program takes the polarization of the first source
            share = scene.beam.weights[source]
            np.testing.assert_allclose(
                by_table[source].ravel(), share * its.table, atol=1e-11 * np.abs(its.table).max()
            )


def test_other_derivatives_see_each_source_s_own_table():
    """By wavelength, cell and default, against the single sources' own."""
    scene = scene_of(interpolate=True)
    weight = np.random.default_rng(3).normal(size=scene.detector.shape)
    _, bars = derivative.pull(scene, weight)
    parts = [derivative.pull(alone(scene, source), weight)[1] for source in range(SOURCES)]
    by_lattice = sum(share * part.lattices for share, part in zip(scene.beam.weights, parts, strict=True))
    np.testing.assert_allclose(bars.lattices, by_lattice, atol=1e-12 * np.abs(by_lattice).max())
    by_default = sum(share * part.default for share, part in zip(scene.beam.weights, parts, strict=True))
    np.testing.assert_allclose(bars.default, by_default, rtol=1e-11)
    for source, part in enumerate(parts):
        wanted = scene.beam.weights[source] * part.sources[0, 0]
        assert bars.sources[source, 0] == pytest.approx(wanted, rel=1e-10)


def test_simulator_gives_and_takes_the_tables_of_all():
    sim = Simulator.from_nanobragg(f"{WORDS} -dispersion 6 -dispsteps {SOURCES}")
    sim = Simulator(replace(sim.settings, structure_factors=factors()))
    image, pullback = sim.image_and_pullback(wrt=["F", "cell_a", "default_F"])
    found = pullback(np.ones(image.shape))
    assert found["F"].shape == (SOURCES, 9, 10, 11) and np.isfinite(found["F"]).all()
    np.testing.assert_allclose(sim.jvp({"F": np.ones_like(found["F"])}).sum(), found["F"].sum(), rtol=1e-10)
    with pytest.raises(InputError, match="each source has its own structure factors"):
        sim.image_and_pullback(wrt=["F[1,1,1]"])[1](np.ones(image.shape))


def test_tables_that_do_not_fit_are_refused(monkeypatch):
    with pytest.raises(InputError, match="3 tables for 1 sources"):
        replace(parse(WORDS.split())[0], structure_factors=factors())
    with pytest.raises(InputError, match="shape"):
        StructureFactors(np.ones((1, 1, 1, 1, 1)))
    with pytest.raises(InputError, match="no sources"):
        StructureFactors.from_lists([[1, 2, 3]], np.ones((0, 1)))
    monkeypatch.setattr("exactgrad.diffraction.structure_factors.MOST_ENTRIES", 100)
    with pytest.raises(InputError, match="at most 100 entries"):
        StructureFactors(np.ones((4, 3, 3, 3)))
    with pytest.raises(InputError, match=r"one block for each source; at most 100"):
        StructureFactors.from_lists([[0, 0, 0], [2, 2, 2]], np.ones((4, 2)))
    made = StructureFactors.from_lists([[0, 0, 0], [1, 1, 1]], [[1.0, 2.0], [3.0, 4.0]], default=9.0)
    assert made.table[:, 1, 1, 1].tolist() == [2, 4] and made.table[0, 0, 1, 0] == 9 and made.tables == 2


# -- f' and f'' -------------------------------------------------------------------------------------------------------


def anomalous_sum(structure, hkl, wavelength):
    """F(hkl) as the sum over atoms and operations, of f0 + f' + i f''."""
    operations = gemmi.find_spacegroup_by_name(structure.spacegroup_hm).operations()
    stol2 = structure.cell.calculate_1_d2(hkl) / 4
    to_fractional, total = np.array(structure.cell.frac.mat.tolist()), 0
    for site in structure[0].all():
        atom = site.atom
        f1, f2 = gemmi.cromer_liberman(atom.element.atomic_number, 12398.42 / wavelength)
        f = atom.occ * (atom.element.it92.calculate_sf(stol2) + f1 + 1j * f2)
        x = np.array(atom.pos.tolist()) @ to_fractional.T
        for operation in operations:
            turned = np.array(hkl) @ (np.array(operation.rot) / 24)
            q = turned @ to_fractional
            damping = np.exp(-atom.b_iso * stol2)
            if atom.aniso.nonzero():
                damping = np.exp(-2 * np.pi**2 * q @ np.array(atom.aniso.as_mat33().tolist()) @ q)
            phase = turned @ x + np.array(hkl) @ (np.array(operation.tran) / 24)
            total += f * damping * np.exp(2j * np.pi * phase)
    return abs(total)


@pytest.fixture(scope="module")
def heavy(tmp_path_factory):
    """A peptide with selenium and an iron atom that is not on the axis."""
    structure = gemmi.read_structure(str(DATA / "5e5z.pdb"))
    atoms = [site.atom for site in structure[0].all()]
    atoms[3].element, atoms[11].element = gemmi.Element("Se"), gemmi.Element("Fe")
    path = tmp_path_factory.mktemp("heavy") / "heavy.pdb"
    structure.write_pdb(str(path))
    return path


WAVELENGTHS = (0.9, 0.975, 1.8)
HKL = [(0, 0, 0), (1, 0, 2), (2, 1, -3), (-2, -1, 3), (0, 2, 0), (-3, 2, 5), (3, -2, -5), (3, 2, -5), (-3, -2, 5)]


def test_anomalous_factors_against_a_direct_sum(heavy):
    structure = gemmi.read_structure(str(heavy))
    lists = coordinates.read_anomalous(heavy, WAVELENGTHS, 1.7)
    for wavelength, read in zip(WAVELENGTHS, lists, strict=True):
        known = {tuple(h): f for h, f in zip(read.hkl.tolist(), read.amplitude.tolist(), strict=True)}
        for hkl in HKL:
            assert known[hkl] == pytest.approx(anomalous_sum(structure, hkl, wavelength), rel=5e-4, abs=5e-3)
        assert abs(known[2, 1, -3] - known[-2, -1, 3]) > 0.1  # Friedel mates differ; a wrong sign of f'' is seen
        assert known[3, 2, -5] == pytest.approx(known[-3, 2, 5], abs=1e-9)  # the two-fold axis holds
    assert all(np.array_equal(lists[0].hkl, one.hkl) for one in lists)
    assert np.abs(lists[0].amplitude - lists[1].amplitude).max() > 1.0


def test_without_heavy_atoms_it_is_nearly_the_plain_one():
    plain = coordinates.read(DATA / "5e5z.pdb", 2.0)
    (soft,) = coordinates.read_anomalous(DATA / "5e5z.pdb", [0.5], 2.0)
    assert np.array_equal(plain.hkl, soft.hkl)
    np.testing.assert_allclose(soft.amplitude, plain.amplitude, atol=5e-3 * plain.amplitude.max())


def test_elements_beyond_the_tables_are_refused(tmp_path):
    structure = gemmi.read_structure(str(DATA / "5e5z.pdb"))
    structure[0][0][0][0].element = gemmi.Element("Am")
    structure.write_pdb(str(tmp_path / "a.pdb"))
    with pytest.raises(FormatError, match="element Am"):
        coordinates.read_anomalous(tmp_path / "a.pdb", [1.0], 2.0)


def test_a_spectrum_sees_its_anomalous_factors(heavy):
    lists = coordinates.read_anomalous(heavy, WAVELENGTHS, 2.0, k_sol=0.35)
    own = StructureFactors.from_lists(lists[0].hkl, [one.amplitude for one in lists])
    scene = scene_of(own=own)
    scene = replace(scene, beam=replace(scene.beam, wavelengths_m=np.array(WAVELENGTHS) * 1e-10))
    parts = [render.image(alone(scene, source)) for source in range(SOURCES)]
    np.testing.assert_allclose(render.image(scene), np.mean(parts, axis=0), atol=1e-12 * np.max(parts))


@pytest.mark.parametrize(
    ("wavelengths", "message"),
    [([], "from 1 to"), ([0.0], "wavelength"), ([np.nan], "wavelength"), ([60.0], "wavelength")],
)
def test_wavelengths_that_are_none(wavelengths, message):
    with pytest.raises(InputError, match=message):
        coordinates.read_anomalous(DATA / "5e5z.pdb", wavelengths, 2.0)

"""Amplitudes from MTZ, mmCIF and coordinates: against gemmi's own expansion and a direct sum over atoms."""

import gzip
from pathlib import Path

import gemmi
import numpy as np
import pytest

from exactgrad.diffraction.formats import cif, coordinates, mtz
from exactgrad.diffraction.formats.amplitudes import read_amplitudes
from exactgrad.errors import FormatError, InputError, RefusedFile

DATA = Path(__file__).parents[2] / "data" / "diffraction_files"
MTZ, PDB, CIF = DATA / "5e5z.mtz", DATA / "5e5z.pdb", DATA / "1pfe.cif.gz"


def table(reflections):
    return dict(zip(map(tuple, reflections.hkl.tolist()), reflections.amplitude.tolist(), strict=True))


def expanded_by_gemmi(path, label):
    """Return {hkl: value} with gemmi's expansion to P1, and Friedel mates."""
    file = gemmi.read_mtz_file(str(path))
    file.expand_to_p1()
    values = np.array(file.column_with_label(label).array)
    rows = zip(file.make_miller_array().tolist(), values.tolist(), strict=True)
    known = {tuple(h): f for h, f in rows if not np.isnan(f)}
    return known | {(-h, -k, -l): f for (h, k, l), f in known.items()}


def test_mtz_against_gemmis_expansion():
    read = mtz.read(MTZ)
    assert (read.label, read.space_group) == ("FP", "P 1 21 1")
    assert read.cell == pytest.approx((9.643, 9.609, 19.029, 90, 101.224, 90))
    assert table(read) == expanded_by_gemmi(MTZ, "FP")


def test_mtz_of_intensities():
    expected = {h: np.sqrt(max(i, 0)) for h, i in expanded_by_gemmi(MTZ, "I").items()}
    read = mtz.read(MTZ, "I")
    assert read.label == "sqrt(I)" and table(read) == pytest.approx(expected)


def test_mtz_names_its_columns():
    with pytest.raises(InputError, match=r"no amplitude or intensity column 'FC'; there are: FP \(F\), I \(J\)"):
        mtz.read(MTZ, "FC")


def made(path, columns, rows, group="P 63 2 2", batches=0):
    file = gemmi.Mtz(with_base=True)
    file.spacegroup = gemmi.SpaceGroup(group)
    file.set_cell_for_all(gemmi.UnitCell(39, 39, 80, 90, 90, 120))
    file.add_dataset("d")
    for label, kind in columns:
        file.add_column(label, kind)
    for _ in range(batches):
        file.batches.append(gemmi.Mtz.Batch())
    file.set_data(np.array(rows, np.float32))
    file.write_to_file(str(path))
    return path


def test_friedel_pairs_keep_their_own_amplitudes(tmp_path):
    columns = [("F(+)", "G"), ("SIGF(+)", "L"), ("F(-)", "G"), ("SIGF(-)", "L")]
    path = made(tmp_path / "a.mtz", columns, [[3, 1, 2, 50, 1, 40, 1], [4, 1, 1, np.nan, 1, 7, 1]], "P 6")
    read = table(mtz.read(path))
    assert len(read) == 24
    # a six-fold axis along c: h k l -> -k h+k l and so on; the mate is -h -k -l
    assert read[3, 1, 2] == read[-1, 4, 2] == read[-4, 3, 2] == read[-3, -1, 2] == 50
    assert read[-3, -1, -2] == read[1, -4, -2] == read[3, 1, -2] == 40
    assert read[4, 1, 1] == read[-4, -1, -1] == 7  # one of the pair is known: it stands for both


def test_anomalous_differences_are_halved(tmp_path):
    path = made(tmp_path / "a.mtz", [("F", "F"), ("DANO", "D")], [[3, 1, 2, 50, 4], [4, 1, 1, 9, np.nan]], "P 6")
    read = mtz.read(path)
    assert read.label == "F +- DANO/2"
    assert (table(read)[3, 1, 2], table(read)[-3, -1, -2], table(read)[4, 1, 1]) == (52, 48, 9)
    assert table(mtz.read(path, "F"))[3, 1, 2] == 50


@pytest.mark.parametrize("group", ["P 1", "P -1", "C 1 2 1", "P 21 21 21", "P 41 21 2", "R 3 :H", "P 63 2 2", "F 2 3"])
def test_expansion_in_many_groups(tmp_path, group):
    rng = np.random.default_rng(5)
    space_group = gemmi.SpaceGroup(group)
    operations, asu = space_group.operations(), gemmi.ReciprocalAsu(space_group)
    listed = [h for h in np.ndindex(6, 6, 6) if any(h) and not operations.is_systematically_absent(h) and asu.is_in(h)]
    path = made(tmp_path / "a.mtz", [("F", "F")], [[*h, rng.uniform(1, 9)] for h in listed], group)
    assert table(mtz.read(path)) == expanded_by_gemmi(path, "F")


def test_a_signalling_nan_is_a_missing_value_without_a_warning(tmp_path):
    """Found by fuzzing: turned into a double it warns."""
    path = made(tmp_path / "a.mtz", [("F", "F")], [[1, 0, 2, 5], [2, 1, 3, 7]])
    content = path.read_bytes()
    spoilt = content.replace(np.float32(7).tobytes(), b"\0\0\xa0\x7f", 1)
    assert spoilt != content
    path.write_bytes(spoilt)
    read = table(mtz.read(path))
    assert read[1, 0, 2] == 5 and (2, 1, 3) not in read


def test_unmerged_is_refused(tmp_path):
    path = made(tmp_path / "a.mtz", [("F", "F")], [[1, 0, 0, 5]], batches=2)
    with pytest.raises(FormatError, match="unmerged"):
        mtz.read(path)


def test_no_amplitudes(tmp_path):
    path = made(tmp_path / "a.mtz", [("PHI", "P")], [[1, 0, 0, 5]])
    with pytest.raises(FormatError, match="no amplitude or intensity column"):
        mtz.read(path)


def direct_sum(structure, hkl):
    """Return F(hkl) as the sum over atoms and operations, with the form factors of the International Tables."""
    operations = gemmi.find_spacegroup_by_name(structure.spacegroup_hm).operations()
    stol2 = structure.cell.calculate_1_d2(hkl) / 4
    to_fractional = np.array(structure.cell.frac.mat.tolist())
    total = 0
    for site in structure[0].all():
        atom = site.atom
        f = atom.occ * atom.element.it92.calculate_sf(stol2)
        x = np.array(atom.pos.tolist()) @ to_fractional.T
        for operation in operations:
            turned = np.array(hkl) @ (np.array(operation.rot) / 24)
            if atom.aniso.nonzero():
                q = turned @ to_fractional
                damping = np.exp(-2 * np.pi**2 * q @ np.array(atom.aniso.as_mat33().tolist()) @ q)
            else:
                damping = np.exp(-atom.b_iso * stol2)
            phase = turned @ x + np.array(hkl) @ (np.array(operation.tran) / 24)
            total += f * damping * np.exp(2j * np.pi * phase)
    return total


@pytest.mark.parametrize(
    "hkl", [(0, 0, 0), (1, 0, 2), (2, 1, -3), (0, 2, 0), (-3, 2, 5), (4, -3, 1), (0, 0, 10), (0, 3, 0)]
)
def test_coordinates_against_a_direct_sum(hkl):
    read = coordinates.read(PDB, 1.7)
    expected = abs(direct_sum(gemmi.read_structure(str(PDB)), hkl))
    assert table(read)[hkl] == pytest.approx(expected, rel=2e-4, abs=2e-3)


def test_coordinates_hold_all_reflections_to_the_resolution():
    read = coordinates.read(CIF, 3.0)
    cell = gemmi.read_structure(str(CIF)).cell
    assert read.space_group == "P 63 2 2"
    group = gemmi.SpaceGroup(read.space_group)
    listed = gemmi.make_miller_array(cell, gemmi.SpaceGroup("P 1"), 3.0, unique=False)
    everything = {tuple(h) for h in listed.tolist()} | {(0, 0, 0)}
    found = table(read)
    assert set(found) == everything
    absent = [found[h] for h in everything if group.operations().is_systematically_absent(h)]
    assert len(absent) > 10 and max(absent) < 1e-3 * np.mean(list(found.values()))
    assert all(found[h] == found[-h[0], -h[1], -h[2]] == found[-h[1], h[0] + h[1], h[2]] for h in everything)


def test_coordinates_look_like_the_measurement():
    measured = table(mtz.read(MTZ))
    for k_sol, least in ((0.0, 0.90), (0.35, 0.90)):
        calculated = table(coordinates.read(PDB, 1.7, k_sol=k_sol))
        common = sorted(set(measured) & set(calculated) - {(0, 0, 0)})
        assert len(common) > 1300
        assert np.corrcoef([measured[h] for h in common], [calculated[h] for h in common])[0, 1] > least


def test_solvent_adds_its_electrons():
    dry, wet = (table(coordinates.read(PDB, 2.0, k_sol=k))[0, 0, 0] for k in (0.0, 0.4))
    volume = gemmi.read_structure(str(PDB)).cell.volume
    assert 0 < wet - dry < 0.4 * volume * 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_min_angstrom": 0.0}, "d_min = 0 A"),
        ({"d_min_angstrom": float("nan")}, "d_min = nan"),
        ({"d_min_angstrom": 2.0, "k_sol": -1.0}, "k_sol = -1"),
        ({"d_min_angstrom": 2.0, "b_sol_a2": 1e9}, "b_sol"),
    ],
)
def test_numbers_that_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        coordinates.read(PDB, **options)


def test_grids_that_are_refused(tmp_path):
    text = PDB.read_text().replace("9.643    9.609   19.029", "9643.0 9609.0  19029.0", 1)
    (tmp_path / "a.pdb").write_text(text)
    with pytest.raises((RefusedFile, FormatError), match=r"grid points|cell"):
        coordinates.read(tmp_path / "a.pdb", 0.5)


def reflection_cif(tmp_path, source=MTZ):
    path = tmp_path / "a-sf.cif"
    path.write_text(gemmi.MtzToCif().write_cif_to_string(gemmi.read_mtz_file(str(source))))
    return path


def test_reflection_cif_against_the_mtz_it_came_from(tmp_path):
    path = reflection_cif(tmp_path)
    read = cif.read(path)
    assert read.space_group == "P 1 21 1" and read.label == "F_meas_au"
    assert table(read) == pytest.approx(table(mtz.read(MTZ)), rel=1e-5)
    (tmp_path / "b.cif.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert table(cif.read(tmp_path / "b.cif.gz")) == table(read)


def test_reflection_cif_names_its_columns(tmp_path):
    with pytest.raises(InputError, match="no column 'F_nonsense'; there are: index_h"):
        cif.read(reflection_cif(tmp_path), "F_nonsense")


def test_a_file_is_read_by_its_suffix(tmp_path):
    assert table(read_amplitudes(MTZ)) == table(mtz.read(MTZ))
    assert len(read_amplitudes(CIF, 4.0).hkl) > 1000
    assert table(read_amplitudes(DATA / "few.hkl")) == {(-2, 0, 1): 12.5, (0, -1, 2): 3.0, (1, 2, 3): 100.0}
    assert len(read_amplitudes(reflection_cif(tmp_path)).hkl) == 1424
    with pytest.raises(InputError, match="coordinates need a resolution"):
        read_amplitudes(PDB)
    with pytest.raises(FormatError, match="no _refln loop"):
        read_amplitudes(CIF)

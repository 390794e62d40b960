"""The trace: its derivative is the problem's, one entry by its index, and a user's own simulated scan."""

from __future__ import annotations

import numpy as np
import pytest
from tomography_cases import small_geometry

from exactgrad.errors import InputError
from exactgrad.tomography import model, reference
from exactgrad.tomography import trace as tracing


@pytest.fixture(scope="module")
def walk():
    """The walk of the embedded example, caught on its way."""
    caught = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "_traced", lambda walk, *_: caught.append(walk))
        tracing.trace("A")
    return caught[0]


def gradient_of(walk, name):
    problem = walk.problem
    if name in tracing.FIELDS:
        axis = problem.fields(walk.x)
        angles = {"theta_op": np.zeros(problem.mask.shape), "phi_op": np.zeros(problem.mask.shape)}
        angles["theta_op"][problem.mask], angles["phi_op"][problem.mask] = walk.theta, walk.phi
        return problem.loss_and_gradient(A=axis["A"], B=axis["B"], **angles)[1][name][problem.mask]
    found = problem.geometry_gradient(walk.x)[name]
    return found.reshape(len(found), -1) if name == "transmission" else found


@pytest.mark.parametrize("name", tracing.names())
def test_every_cotangent_is_the_kernels_gradient(walk, name):
    wanted = gradient_of(walk, name)
    assert np.abs(walk.cotangent(name) - wanted).max() <= 1e-12 * np.abs(wanted).max()


@pytest.mark.parametrize(("name", "entry"), [("A", 3), ("phi_op", 1), ("k_offset", 2), ("transmission", 40)])
def test_one_entry_has_its_own_trace(walk, name, entry):
    where = np.zeros(walk.values[name].size, bool)
    where[entry] = True
    stages = walk.stages(name, name, where.reshape(walk.values[name].shape))
    wanted = np.ravel(gradient_of(walk, name))[entry]
    for stage in stages:
        assert stage.derivative == pytest.approx(wanted, rel=1e-10, abs=1e-12 * stage.scale), stage.name


def test_indices_and_aliases_are_understood():
    assert tracing._named("A[3,4, 5]") == ("A", (3, 4, 5))
    assert tracing._named("Theta_op") == ("theta_op", None) and tracing._named("offset[2]") == ("j_offset", (2,))
    assert tracing._named("diode[1]") == ("transmission", (1,))


@pytest.mark.parametrize(
    "wrong", ["A[0,0,0]", "A[1]", "B[99,0,0]", "j_offset[99]", "j_offset[1,2]", "transmission[1,2]"]
)
def test_an_index_that_is_not_there_is_refused_in_a_line(wrong):
    with pytest.raises(InputError, match="an index is"):
        tracing.trace(wrong)


def test_a_scan_of_ones_own(tmp_path):
    job = tmp_path / "scan.toml"
    job.write_text(
        "[phantom]\nshape = [8, 8, 8]\n[scan]\nprojections = 12\nsegments = 4\nintegration = 'mean'\n"
        "[measure]\noffset_px = 0.3\nbad_fraction = 0.02\n"
    )
    for name in tracing.names():
        found = tracing.trace(name, job)
        assert found.agrees and str(job) in found.example, name


def test_the_matrix_moves_with_the_offsets_as_its_tangent_says():
    geometry = small_geometry(3)
    for n in range(4):
        at = geometry.j_offset[n], geometry.k_offset[n]
        for dj, dk in ((1.0, 0.0), (0.0, 1.0), (0.3, -0.8)):
            moved = reference.shares(geometry, n, at[0] + 1j * 1e-30 * dj, at[1] + 1j * 1e-30 * dk)
            found = model.joseph_matrix_tangent(geometry, n, dj, dk).toarray()
            assert np.abs(found - np.imag(moved) / 1e-30).max() <= 1e-13

"""Offsets that the file does not tell are found again; halves of the data and their correlation."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from tomography_cases import golden_mumott, golden_plain

from exactgrad.tomography import alignment, formats, resolution, starts
from exactgrad.tomography.compare import compare
from exactgrad.tomography.derived import mean_intensity
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.reconstruct import reconstruct, resume
from exactgrad.tomography.simulate import simulate


def problem_at_truth(golden):
    data, truth = golden
    problem = TomographyProblem(data, mask=truth["A"] > 0)
    A = truth["A"] * np.sqrt(truth.get("scale", 1.0))
    return problem, problem.vector(A=A, B=truth["B"], theta_op=truth["theta_op"], phi_op=truth["phi_op"])


@pytest.mark.parametrize("spread", [0.3, 2.0])
def test_offsets_are_found_again_from_exact_data(spread):
    problem, x = problem_at_truth(golden_plain("g1_seed_frame.h5"))
    rng = np.random.default_rng(0)
    true = np.stack([problem.geometry.j_offset, problem.geometry.k_offset], axis=1)
    wrong = true + rng.uniform(-spread, spread, true.shape)
    moved = problem.with_offsets(*wrong.T)
    found = np.stack(alignment.refine(moved, x, moved.geometry, 10.0), axis=1)
    assert np.median(np.abs(found - true)) < 1e-3
    assert np.abs(found - true).max() < 0.03  # untilted rays run through voxel centres, where interpolation has a kink


def test_offsets_are_found_again_from_noisy_data_with_gaps():
    problem, x = problem_at_truth(golden_mumott())
    true = np.stack([problem.geometry.j_offset, problem.geometry.k_offset], axis=1)
    wrong = true + np.random.default_rng(1).uniform(-0.7, 0.7, true.shape)
    moved = problem.with_offsets(*wrong.T)
    found = np.stack(alignment.refine(moved, x, moved.geometry, 10.0), axis=1)
    measured = np.array([problem.data.projection(n)[1].any() for n in range(len(true))])
    assert np.median(np.abs(found - true)[measured]) < 0.03
    np.testing.assert_array_equal(found[~measured], wrong[~measured])  # nothing is known of these


def test_no_offset_goes_further_than_allowed():
    problem, x = problem_at_truth(golden_plain("g1_seed_frame.h5"))
    moved = problem.with_offsets(problem.geometry.j_offset + 1.0, problem.geometry.k_offset)
    found = np.stack(alignment.refine(moved, x, moved.geometry, 0.25), axis=1)
    first = np.stack([moved.geometry.j_offset, moved.geometry.k_offset], axis=1)
    assert np.abs(found - first).max() <= 0.25


def test_a_common_shift_is_all_that_is_taken_out():
    geometry = golden_mumott()[0].geometry
    _, along_j, along_k = geometry.directions()
    told = np.array([geometry.j_offset, geometry.k_offset])
    shift = np.array([along_j @ [0.4, -1.0, 0.7], along_k @ [0.4, -1.0, 0.7]])
    free = alignment.without_common_shift(told + np.random.default_rng(0).normal(size=told.shape), geometry) - told
    assert np.abs(free).max() > 1.0
    np.testing.assert_allclose(alignment.without_common_shift(told + free + shift, geometry), told + free, atol=1e-12)


# Through a whole reconstruction --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def misplaced(tmp_path_factory):
    """A scan whose file tells offsets that are off by 1.2 pixels rms, less what moves the whole sample; the truth."""
    path = tmp_path_factory.mktemp("scan") / "data.h5"
    job = {
        "phantom": {"name": "fibres", "shape": [8, 8, 8], "seed": 2},
        "scan": {"projections": 24, "segments": 6},
        "measure": {"scale": 200.0},
    }
    simulate(job, path)
    geometry = formats.load(path).geometry
    true = np.array([geometry.j_offset, geometry.k_offset])
    wrong = true + 1.2 * np.random.default_rng(5).normal(size=true.shape)
    wrong = alignment.without_common_shift(wrong, geometry)
    with h5py.File(path, "a") as handle:
        for n in range(geometry.projections):
            for name, value in zip(("j_offset", "k_offset"), wrong[:, n], strict=True):
                handle[f"projections/{n}/{name}"][...] = value
    return path, geometry, true


def run(path, folder, rounds, **solve):
    job = {
        "align": {"rounds": rounds},
        "solve": {"path_iterations": 20, "tolerance": 1e-5, **solve},
        "quality": {"samples": 0, "split_half": False},
        "basin": {"rounds": 1},
        "output": {"figures": False, "residuals": False},
    }
    return reconstruct(path, folder, job)


def test_a_reconstruction_finds_the_offsets_and_then_the_axes(misplaced, tmp_path):
    """With the true offsets the median error of the axes is 0.9 degrees."""
    path, geometry, true = misplaced
    summary = run(path, tmp_path / "out", 4)
    with h5py.File(tmp_path / "out" / "result.h5") as handle:
        found = np.array([handle["offsets/j"][()], handle["offsets/k"][()]])
    apart = alignment.without_common_shift(found, geometry) - true
    assert np.median(np.abs(apart)) < 0.03 and np.sqrt(np.mean(apart**2)) < 0.1
    assert summary["offset_change_max_px"] > 2.0 and summary["warnings"] == []
    errors = compare(tmp_path / "out", path)
    assert errors["axis_error_median_deg"] < 2.0 and errors["lost_fraction"] == 0.0


def test_without_it_the_sample_is_lost(misplaced, tmp_path):
    """What the test before is worth: misplaced projections contradict most voxels."""
    path, _, _ = misplaced
    summary = run(path, tmp_path / "out", 0, max_iterations=5)
    assert "of the intensity lies on rays that meet no voxel" in summary["warnings"][-1]
    assert compare(tmp_path / "out", path)["lost_fraction"] > 0.2


def test_a_run_that_ends_while_it_places_leaves_a_result_and_goes_on(misplaced, tmp_path):
    path, _, _ = misplaced
    assert run(path, tmp_path / "out", 1, max_seconds=1e-3)["status"] == "budget"
    assert (tmp_path / "out" / "result.h5").exists()
    summary = resume(tmp_path / "out", overrides={"max_seconds": 1000.0, "max_iterations": 1})
    assert summary["offset_change_max_px"] > 1.0


def test_projections_that_lie_well_are_not_placed_anew():
    data, truth = golden_plain("g1_seed_frame.h5")
    problem, told = starts.mean_problem(TomographyProblem(data)), data.geometry
    mean = problem.vector(A=np.sqrt(mean_intensity(truth["A"], truth["B"])))
    kept = alignment.placed(problem, mean, told, 10.0)
    np.testing.assert_allclose(kept, [told.j_offset, told.k_offset], atol=1e-12)


# Halves of the data --------------------------------------------------------------------------------------------------


def test_shell_correlation_falls_where_noise_begins():
    rng = np.random.default_rng(0)
    shape = (24, 24, 24)
    radius = np.sqrt(sum(f**2 for f in np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")))
    signal = np.fft.ifftn(np.fft.fftn(rng.normal(size=shape)) * (radius < 0.2)).real
    one, other = (signal + 0.05 * rng.normal(size=shape) for _ in range(2))
    frequency, correlation, threshold = resolution.shell_correlation(one, other)
    halves = resolution.Halves(frequency, correlation, threshold, np.zeros(1), 1.0)
    assert (correlation[frequency < 0.15] > 0.9).all()
    assert halves.resolution() == pytest.approx(1 / 0.22, rel=0.25)

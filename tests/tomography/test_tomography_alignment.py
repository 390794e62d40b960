"""Offsets that the file does not tell are found again; halves of the data and their correlation."""

from __future__ import annotations

import numpy as np
import pytest
from tomography_cases import golden_mumott, golden_plain

from exactgrad.tomography import alignment, resolution
from exactgrad.tomography.problem import TomographyProblem


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

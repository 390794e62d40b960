"""The fused derivatives: reverse against forward, both against differences of the image, bit for bit on threads."""

from dataclasses import replace

import numpy as np
import pytest
from test_diffraction_kernel import random_scene

from exactgrad.core.verify import best_central_difference
from exactgrad.diffraction import derivative, derivative_kernel, kernel, render
from exactgrad.diffraction.crystal import METRICS, SHAPES
from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.numbers import PAIRS, numbers_of, tangents_of
from exactgrad.errors import InputError

DOT = 1e-12
DIFFERENCES = 1e-9  # of the largest, beyond what a difference says of its own error


def movements(scene, seed=0):
    """Return a random movement of everything that an image depends on, one kind a movement."""
    rng = np.random.default_rng(seed)
    steps, sources = scene.crystal.phi_steps * len(scene.crystal.domains), scene.beam.sources
    return [
        Movement(lattices=3e-11 * rng.normal(size=(steps, 3, 3))),
        Movement(cells=rng.normal(size=3)),
        Movement(reciprocal=1e6 * rng.normal(size=(3, 3))),
        Movement(origin=1e-5 * rng.normal(size=3)),
        Movement(fast=1e-3 * rng.normal(size=3)),
        Movement(slow=1e-3 * rng.normal(size=3)),
        Movement(normal=1e-3 * rng.normal(size=3)),
        Movement(layer_m=1e-5),
        Movement(attenuation_per_m=300.0),
        Movement(wavelengths_m=1e-13 * rng.normal(size=sources)),
        Movement(shares=rng.normal(size=sources)),
        Movement(kahn=1.0),
        Movement(fluence=0.3 * scene.beam.fluence),
        Movement(water_m=1e-7),
        Movement(table=rng.normal(size=scene.structure_factors.table.shape)),
        Movement(default=1.0),
    ]


def moved(scene, tangents, k, step):
    """Return the scene's numbers, moved along the k-th tangent."""
    numbers = numbers_of(scene, scene.per_sample)
    sources, form = numbers.sources.copy(), numbers.form
    sources[:, kernel.PER_WAVELENGTH] += step * tangents.sources[k, :, 0]
    sources[:, kernel.SHARE] += step * tangents.sources[k, :, 1]
    if tangents.metric[k].any():  # any root of the metric makes the same spots
        metric = form.reshape(3, 3) @ form.reshape(3, 3).T
        for entry, (i, j) in zip(tangents.metric[k], PAIRS, strict=True):
            metric[i, j] += step * entry / 2
            metric[j, i] += step * entry / 2
        form = np.linalg.cholesky(metric).ravel()
    lattice, table = tangents.lattice_of[k], tangents.table_of[k]
    return replace(
        numbers,
        g=numbers.g + step * tangents.g[k],
        sources=sources,
        lattices=numbers.lattices + (step * tangents.lattices[lattice] if lattice >= 0 else 0.0),
        cells=numbers.cells + step * tangents.cells[k],
        form=form,
        table=numbers.table + (step * tangents.table[table] if table >= 0 else 0.0),
        default=numbers.default + step * tangents.default[k],
    )


def scenes():
    for seed, (shape, metric) in enumerate((s, m) for s in SHAPES for m in METRICS):
        yield f"{shape}-{metric}", random_scene(seed, shape, metric)
    plain = random_scene(8)
    yield "c", random_scene(9, c_compat=True)
    yield "c, some factors by sample", random_scene(10, c_compat=True, per_sample=("capture",))
    yield "c, no d_min", random_scene(11, c_compat=True, d_min_m=0.0)
    yield "interpolated", random_scene(12, interpolate=True)
    yield "interpolated, round", random_scene(13, "round", interpolate=True)
    yield "curved", replace(plain, detector=replace(plain.detector, curved=True))
    yield "point pixels", replace(plain, detector=replace(plain.detector, point_pixel=True))
    yield "no sensor", replace(plain, detector=replace(plain.detector, thickness_m=0.0))
    yield "unpolarized", replace(plain, beam=replace(plain.beam, kahn=None))
    factors = replace(plain.structure_factors, default=7.0)
    yield "a default F beside the table", replace(plain, structure_factors=factors)
    yield "one F", replace(plain, structure_factors=replace(factors, table=np.empty((0, 0, 0))))


ALL = dict(scenes())


@pytest.mark.parametrize("name", ALL)
def test_reverse_is_the_transpose_of_forward(name):
    scene = ALL[name]
    weight = np.random.default_rng(1).normal(size=scene.detector.shape)
    image, bars = derivative.pull(scene, weight, with_table=True)
    same, changes = derivative.push(scene, movements(scene))
    wanted = render.image(scene)
    assert np.abs(image - wanted).max() <= 1e-13 * wanted.max() and np.abs(same - wanted).max() <= 1e-13 * wanted.max()
    found, expected = bars.along(tangents_of(scene, movements(scene))), (changes * weight).sum(axis=(1, 2))
    scale = np.sqrt((changes**2).sum(axis=(1, 2)) * (weight**2).sum())
    assert (np.abs(found - expected) <= DOT * scale).all()
    assert np.count_nonzero(scale) >= 7


@pytest.mark.parametrize("name", ALL)
def test_the_crystals_derivatives_are_the_same_alone(name):
    """Without those of detector and beam; what they move then cannot be asked for."""
    scene = ALL[name]
    weight = np.random.default_rng(3).normal(size=scene.detector.shape)
    image, every = derivative.pull(scene, weight, with_table=True)
    same, bars = derivative.pull(scene, weight, with_table=True, with_rays=False)
    np.testing.assert_allclose(same, image, rtol=1e-13, atol=1e-13 * image.max())
    for part in ("lattices", "cells", "metric", "table", "default", "photons"):
        found, wanted = getattr(bars, part), getattr(every, part)
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13 * np.abs(wanted).max(initial=0.0))
    assert bars.g.size == bars.sources.size == 0
    of_crystal = tangents_of(scene, movements(scene)[:1])
    np.testing.assert_allclose(bars.along(of_crystal), every.along(of_crystal), rtol=1e-11)
    with pytest.raises(ValueError, match="mismatch"):
        bars.along(tangents_of(scene, [Movement(origin=np.ones(3))]))


@pytest.mark.parametrize("with_rays", [True, False])
@pytest.mark.parametrize("name", ALL)
def test_the_lattices_derivatives_are_the_same_without_the_extents(name, with_rays):
    """Without those by the numbers of cells or the metric; what moves these then cannot be asked for."""
    scene = ALL[name]
    weight = np.random.default_rng(4).normal(size=scene.detector.shape)
    image, every = derivative.pull(scene, weight, with_table=True, with_rays=with_rays)
    same, bars = derivative.pull(scene, weight, with_table=True, with_rays=with_rays, with_extent=False)
    np.testing.assert_allclose(same, image, rtol=1e-13, atol=1e-13 * image.max())
    for part in ("g", "sources", "lattices", "table", "default", "photons"):
        found, wanted = getattr(bars, part), getattr(every, part)
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13 * np.abs(wanted).max(initial=0.0))
    assert bars.cells.size == bars.metric.size == 0
    with pytest.raises(ValueError, match="mismatch"):
        bars.along(tangents_of(scene, [Movement(cells=np.ones(3))]))


@pytest.mark.parametrize("name", ALL)
def test_forward_against_differences_of_the_fused_image(name):
    """Pixel by pixel, since each has its own largest step before its nearest reflection changes."""
    scene = replace(ALL[name], d_min_m=0.0)
    slow, fast = (indices[:: indices.size // 9].copy() for indices in scene.detector.rendered())
    tangents, numbers = tangents_of(scene, movements(scene)), numbers_of(scene, scene.per_sample)
    samples = scene.detector.oversample, scene.detector.layers
    mean, changes = np.empty(slow.size), np.empty((len(tangents.g), slow.size))
    arguments = numbers.g, numbers.sources, *numbers.crystal(), *tangents.kernel_arguments()
    derivative_kernel.forward(slow, fast, *samples, *arguments, mean, changes)

    first = 1e-4 if "interpolated" in name else 1e-2  # the slope of an interpolated F jumps at whole indices

    def pixel(i, k, step):
        image, shifted = np.empty(1), moved(scene, tangents, k, step)
        at = slow[i : i + 1], fast[i : i + 1]
        kernel.detector_image(*at, *samples, shifted.g, shifted.sources, *shifted.crystal(), image)
        return image[0]

    for k, i in np.ndindex(changes.shape):
        found = best_central_difference(lambda x, i=i, k=k: pixel(i, k, x[0]), np.zeros(1), np.ones(1), first)
        error = abs(found.value - changes[k, i])
        assert error <= 5 * found.error + DIFFERENCES * np.abs(changes[k]).max(), (k, i)


@pytest.mark.parametrize("threads", [2, 4])
def test_bit_equal_on_any_number_of_threads(threads, monkeypatch):
    monkeypatch.setattr(render, "BLOCK", 64)
    monkeypatch.setattr(derivative, "choose_threads", lambda work_s, limit: limit)
    scene = ALL["c"]
    weight = np.random.default_rng(2).normal(size=scene.detector.shape)
    one, many = (derivative.pull(scene, weight, n, with_table=True) for n in (1, threads))
    np.testing.assert_array_equal(one[0], many[0])
    for a, b in zip(one[1].kernel_arguments(), many[1].kernel_arguments(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(*(derivative.push(scene, movements(scene), n) for n in (1, threads)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_exact_where_a_formula_would_divide_by_zero():
    """At a reflection's centre, and at the zeros of the grating, slopes are finite and zero."""
    lane = np.zeros(kernel.LANES * derivative_kernel.ALL_ROWS)
    cells = np.array([5.0, 4.0, 3.0])
    h = np.array([[0, 0, 0], [0.2, 0.25, 1 / 3], [0.5, 0.5, 0.5], [1e-300, -1e-300, 1e-9]])
    for i, row in enumerate(h):
        lane[[kernel.Q1 + i, kernel.Q2 + i, kernel.Q3 + i]] = row
    kernel.phases(lane, tuple(np.eye(3).ravel()), tuple(cells))
    lane[derivative_kernel.F :][: kernel.LANES] = 1.0
    derivative_kernel.gratings(lane, tuple(cells), True)
    derivative_kernel.square_slopes(lane, True)
    rows = [derivative_kernel.E1, derivative_kernel.E2, derivative_kernel.E3]
    slopes = np.array([[lane[row + i] for row in rows] for i in range(len(h))])
    assert np.isfinite(slopes).all()
    assert np.abs(slopes[:2]).max() <= 1e-11 * cells.prod() ** 2 and np.abs(slopes[3]).max() <= 1e-4
    for u in (0.0, 1e-300, 0.025, 0.0249999):
        assert np.isclose(derivative_kernel.ball_slope(u), -(np.pi**2) / 10, rtol=0.05)


def test_the_c_programs_curved_detector_is_refused():
    scene = replace(ALL["c"], detector=replace(ALL["c"].detector, curved=True))
    with pytest.raises(InputError, match="curved"):
        derivative.push(scene, [])


# -- bugs that must be caught -----------------------------------------------------------------------------------------


def lost_share(bars):
    bars.sources[:, 1] = 0.0


def lattice_transposed(bars):
    bars.lattices[:] = bars.lattices.reshape(-1, 3, 3).transpose(0, 2, 1).reshape(-1, 9)


def no_depth(bars):
    bars.g[kernel.LAYER] = 0.0


def off_diagonal_once(bars):
    bars.metric[3:] /= 2


@pytest.mark.parametrize("bug", [lost_share, lattice_transposed, no_depth, off_diagonal_once])
def test_planted_bugs_are_caught(bug):
    scene = random_scene(5, "gauss", "reciprocal")
    weight = np.random.default_rng(1).normal(size=scene.detector.shape)
    _, bars = derivative.pull(scene, weight, with_table=True)
    changes = derivative.push(scene, movements(scene))[1]
    bug(bars)
    found, expected = bars.along(tangents_of(scene, movements(scene))), (changes * weight).sum(axis=(1, 2))
    scale = np.sqrt((changes**2).sum(axis=(1, 2)) * (weight**2).sum())
    assert (np.abs(found - expected) > 1e6 * DOT * scale).any()

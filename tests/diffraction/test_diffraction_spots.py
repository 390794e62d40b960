"""Predicted spots against the rendered image: nothing bright is missed, and each stands where it is said to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exactgrad.diffraction import model, spots
from exactgrad.diffraction.beam import Beam
from exactgrad.diffraction.crystal import Crystal
from exactgrad.diffraction.detector import Detector
from exactgrad.diffraction.options import parse
from exactgrad.diffraction.scene import Scene
from exactgrad.diffraction.spots import Spots, pixel_of, predict, regions
from exactgrad.diffraction.structure_factors import StructureFactors
from exactgrad.errors import InputError

WORDS = "-cell 60 70 80 90 100 95 -default_F 100 -N 8 -detpixels 128 -pixel 0.2 -lambda 1.5 -misset 5 3 2 -oversample 1"
WORDS += " -distance 60 -nopolar"
SCENES = {
    "square": "",
    "round": "-round_xtal",
    "gauss": "-gauss_xtal -N 9",
    "tophat": "-tophat_spots",
    "long cells": "-gauss_xtal -Na 5 -Nb 9 -Nc 14",
    "tilted": "-xds -detector_rotx 10 -detector_roty 5 -twotheta 20",
    "curved": "-curved_det -round_xtal -detector_rotz 4",
    "sensor": "-detector_thick 600 -detector_abs 500 -detector_thicksteps 4 -round_xtal -twotheta 20",
    "custom": "-fdet_vector 0 0 1 -sdet_vector 0 -1 0 -odet_vector 1 0 0 -beam_vector 1 0.05 0 -gauss_xtal",
    "d_min": "-dmin 4 -round_xtal -distance 40",
}
SPREAD = {
    "sweep": "-phi 3 -osc 2 -phistep 0.2 -round_xtal",
    "mosaic": "-mosaic 1.5 -mosaic_dom 7 -gauss_xtal",
    "spectrum": "-dispersion 4 -dispsteps 9 -round_xtal",
    "divergence": "-divergence 10 -divsteps 3 -round_xtal",
    "all": "-mosaic 1 -mosaic_dom 3 -dispersion 2 -dispsteps 3 -phi 3 -osc 1 -phisteps 3",
}


def scene_of(extra=""):
    return parse(f"{WORDS} {extra}".split())[0]


def maxima(image, least):
    """Return (slow, fast) of the local maxima above `least` of the largest, off the border."""
    wide = np.pad(image, 1)
    around = np.stack([wide[1 + i : wide.shape[0] - 1 + i, 1 + j : wide.shape[1] - 1 + j]
                       for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j])  # fmt: skip
    top = (image >= around.max(axis=0)) & (image > least * image.max())
    top[[0, -1]] = top[:, [0, -1]] = False
    return np.argwhere(top)


def wave(scene, x):
    """Return the scattering vectors of the first source at positions x."""
    return model.scattering_vector(model.direction(x), scene.beam.directions[0], scene.beam.wavelengths_m[0])


def without_beam(scene, image):
    """Return the image with the reflection (0, 0, 0) taken out."""
    slow, fast = np.indices(image.shape)
    centre = pixel_of(scene, scene.beam.directions)[0].mean(axis=0)
    return np.where(np.hypot(slow - centre[0], fast - centre[1]) < 7, 0.0, image)


# -- against the image ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENES)
def test_every_bright_maximum_is_a_spot_within_a_pixel(name):
    scene = scene_of(SCENES[name])
    bright = maxima(without_beam(scene, model.image(scene)), 0.1)
    slow, fast = bright.T  # a spot cut by d_min is brightest at the cut
    spacing = 1 / np.linalg.norm(wave(scene, model.position(scene, slow, fast, 0, 0, 0)), axis=1)
    bright = bright[spacing > 1.05 * scene.d_min_m]
    found = predict(scene)
    assert len(bright) > 10
    distance = np.abs(bright[:, None] - found.position_px).max(axis=-1).min(axis=1)
    assert distance.max() < 1.05, name
    assert np.median(distance) < 0.45  # half a pixel is what a maximum's place is known to
    planted = found.position_px + np.array([1.0, 0.0])
    assert np.median(np.abs(bright[:, None] - planted).max(axis=-1).min(axis=1)) > 0.5


@pytest.mark.parametrize("name", SPREAD)
def test_every_bright_maximum_lies_among_a_spots_samples(name):
    scene = scene_of(SPREAD[name])
    bright = maxima(without_beam(scene, model.image(scene)), 0.1)
    found = predict(scene)
    inside = (bright[:, None] > found.first_px - 1.05) & (bright[:, None] < found.last_px + 1.05)
    assert len(bright) > 10 and inside.all(axis=-1).any(axis=1).all()
    assert regions(found, scene.detector.shape, 1.5).mask[tuple(bright.T)].all()


@pytest.mark.parametrize("name", ["square", "round", "gauss", "long cells", "tilted"])
def test_excitation_is_the_largest_lattice_factor_on_the_detector(name):
    scene = scene_of(SCENES[name])
    found = predict(scene, 0.3)
    found = found.chosen(np.linspace(0, len(found) - 1, 12).astype(int))
    top = model.lattice_factor(scene.crystal, np.zeros((1, 3)))[0] ** 2
    detector = scene.detector
    for hkl, place, excitation in zip(found.hkl, found.position_px, found.excitation, strict=True):
        s, f = (0.5 + place + np.stack(np.meshgrid(*[np.linspace(-2, 2, 161)] * 2, indexing="ij"), -1).reshape(-1, 2)).T
        x = detector.origin + detector.pixel_m * (s[:, None] * detector.slow + f[:, None] * detector.fast)
        off = model.miller(scene.crystal.lattices()[0], wave(scene, x)) - hkl
        searched = np.where((np.abs(off) <= 0.5).all(axis=1), model.lattice_factor(scene.crystal, off), 0.0) ** 2 / top
        assert excitation == pytest.approx(searched.max(), rel=0.02)
        assert np.abs(np.stack([s, f])[:, searched.argmax()] - 0.5 - place).max() < 0.35


# -- closed forms -----------------------------------------------------------------------------------------------------


def exact(**rest):
    """A scene whose reflection (3, 2, 1) is in exact Bragg condition in the middle of pixel (20, 30)."""
    wavelength, hkl, ray = 1.3e-10, np.array([3.0, 2.0, 1.0]), np.array([0.9, 0.3, np.sqrt(0.1)])
    q = (ray - (1, 0, 0)) / wavelength
    across = np.cross(q, (0, 0, 1.0))
    along = 6e-9 * across / np.linalg.norm(across)
    other = 7e-9 * np.cross(q, across) / np.linalg.norm(np.cross(q, across))
    lattice = np.outer(hkl, q / (q @ q)) + np.stack([along, other, -along - other])
    slow = np.cross(ray, across) / np.linalg.norm(np.cross(ray, across))
    fast = np.cross(slow, ray)
    detector = Detector(1e-4, (40, 50), 0.2 * ray - 1e-4 * (30.5 * fast + 20.5 * slow), fast, slow, ray)
    crystal = Crystal(lattice, cells=(10, 11, 12))
    return Scene(crystal, Beam(wavelength, (1, 0, 0)), detector, StructureFactors.constant(7.0), **rest)


def only(scene, hkl=(3, 2, 1)):
    found = predict(scene, 1e-3)
    return found.chosen((found.hkl == hkl).all(axis=1))


def test_a_reflection_in_bragg_condition():
    scene = exact()
    spot = only(scene)
    assert len(spot) == 1
    np.testing.assert_allclose(spot.position_px, [[20, 30]], atol=1e-7)
    q = (np.array([0.9, 0.3, np.sqrt(0.1)]) - (1, 0, 0)) / 1.3
    assert spot.d_A[0] == pytest.approx(1 / np.linalg.norm(q), rel=1e-12)
    assert abs(spot.excitation_error_per_A[0]) < 1e-12
    assert spot.partiality[0] == pytest.approx(1.0) and spot.intensity[0] == pytest.approx(49.0)


def test_partiality_is_the_mean_over_samples():
    scene = exact()
    away = np.array([[np.cos(1), -np.sin(1), 0], [np.sin(1), np.cos(1), 0], [0, 0, 1.0]])
    domains = np.stack([np.eye(3), away, np.eye(3), np.eye(3)])
    spot = only(replace(scene, crystal=replace(scene.crystal, domains=domains)))
    assert spot.partiality[0] == pytest.approx(0.75) and spot.excitation[0] == pytest.approx(1.0)
    beam = Beam([1.3e-10, 3e-10], [(1, 0, 0), (1, 0, 0)], weights=[0.2, 0.8])
    assert only(replace(scene, beam=beam)).partiality[0] == pytest.approx(0.2, abs=1e-2)
    assert only(replace(scene, beam=beam, c_compat=True)).partiality[0] == pytest.approx(0.5, abs=1e-2)
    half = replace(scene.crystal, osc_rad=0.5, phi_steps=2)  # the second step is far off
    assert only(replace(scene, crystal=half)).partiality[0] == pytest.approx(0.5, abs=1e-2)


def test_a_source_that_does_not_shine_is_not_seen():
    scene = exact()
    beam = Beam([1.3e-10, 1.31e-10, 1.3e-10], [(1, 0, 0)] * 3, weights=[0.0, 1.0, 0.0])
    alone = replace(scene, beam=Beam(1.31e-10, (1, 0, 0)))
    for one, other in zip(vars(only(replace(scene, beam=beam))).values(), vars(only(alone)).values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_brightest_sample_counts_the_sources_weight():
    scene, off = exact(), exact().beam.wavelengths_m[0] * 1.0005
    for weights, error in (([0.5, 0.5], 0.0), ([0.01, 0.99], 1e-5)):
        beam = Beam([1.3e-10, off], [(1, 0, 0)] * 2, weights=weights)
        assert (abs(only(replace(scene, beam=beam)).excitation_error_per_A[0]) > error / 2) == (error > 0)


@pytest.mark.parametrize("extra", ["-N 1", "-fudge 0 -gauss_xtal -dmin 8", "-lambda 60", "-N 2 -tophat_spots"])
def test_extremes_are_finite(extra):
    found = predict(scene_of(extra))
    for column in vars(found).values():
        assert np.isfinite(column).all()


def test_excitation_error_of_a_longer_lattice_vector():
    scene = exact()
    for factor in (0.998, 1.003):
        crystal = replace(scene.crystal, lattice=scene.crystal.lattice / factor, reciprocal=None)
        spot = only(replace(scene, crystal=crystal))
        r, k = factor * (np.array([0.9, 0.3, np.sqrt(0.1)]) - (1, 0, 0)) / 1.3, np.array([1, 0, 0]) / 1.3
        assert spot.excitation_error_per_A[0] == pytest.approx(np.linalg.norm(k + r) - 1 / 1.3, rel=1e-6)
        assert 0.001 < spot.partiality[0] < 1.0


@pytest.mark.parametrize("extra", ["", "-curved_det", "-twotheta 40 -detector_rotx 8", "-xds -curved_det"])
def test_pixel_of_inverts_the_models_position(extra):
    scene = scene_of(extra)
    slow, fast = np.indices(scene.detector.shape).reshape(2, -1)
    places, caught = pixel_of(scene, model.direction(model.position(scene, slow, fast, 0, 0, 0)))
    assert caught.all()
    np.testing.assert_allclose(places, np.stack([slow, fast], axis=1), atol=1e-8)


def test_what_cannot_be_seen_is_not_predicted():
    hkl = [[h, k, l] for h in range(-9, 10) for k in range(-9, 10) for l in range(-9, 10)]
    f = [0.0 if h % 2 else 5.0 for h, _, _ in hkl]
    scene = replace(scene_of("-round_xtal"), structure_factors=StructureFactors.from_list(hkl, f))
    found = predict(scene)
    assert len(found) > 10 and not (found.hkl[:, 0] % 2).any() and np.abs(found.hkl).max() <= 9
    assert (np.diff(found.intensity) <= 0).all() and (found.partiality <= found.excitation + 1e-12).all()
    everything, far = predict(scene_of()), predict(scene_of("-dmin 7"))
    assert everything.hkl.any(axis=1).all()
    assert far.d_A.min() > 6.9 > everything.d_A.min()
    none = predict(replace(scene, structure_factors=StructureFactors.from_list([[50, 50, 50]], [1.0])))
    assert len(none) == 0
    with pytest.raises(InputError, match="no spot"):
        regions(none, (9, 9), 2)


def test_blocks_do_not_show(monkeypatch):
    scene = scene_of(SPREAD["all"])
    whole = predict(scene)
    monkeypatch.setattr(spots, "BLOCK", 701)
    for one, other in zip(vars(whole).values(), vars(predict(scene)).values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_too_many_indices_are_refused(monkeypatch):
    monkeypatch.setattr(spots, "MOST_INDICES", 100)
    with pytest.raises(InputError, match="d_min is needed"):
        predict(scene_of())
    monkeypatch.undo()
    monkeypatch.setattr(spots, "MOST_SPOTS", 10)
    with pytest.raises(InputError, match="more than 10"):
        predict(scene_of())
    with pytest.raises(InputError, match="least_excitation"):
        predict(scene_of(), 0.0)
    with pytest.raises(InputError, match="curved"):
        predict(replace(scene_of("-curved_det"), c_compat=True))


# -- regions ----------------------------------------------------------------------------------------------------------


def spots_at(*places):
    n, at = len(places), np.array(places, dtype=float)
    ones = np.ones(n)
    return Spots(np.ones((n, 3), dtype=int), at, at, at, ones, ones, ones, ones, ones)


def test_regions_are_boxes_and_every_pixel_has_one_owner():
    made = regions(spots_at((5, 5), (5, 9), (15.4, 15.6), (0, 19), (6, 6)), (20, 20), 2.0)
    assert made.boxes.tolist() == [[3, 8, 3, 8], [3, 7, 7, 11], [14, 17, 14, 17], [0, 2, 17, 19]]
    assert made.owner[5, 7] == made.owner[8, 8] == 0 and made.owner[5, 9] == 1 and made.owner[12, 12] == -1
    assert made.mask.sum() == 25 + 20 + 16 + 9 + 5  # the fifth lies in the first's box and adds to it
    for place, (s0, s1, f0, f1) in enumerate(made.boxes):
        slow, fast = np.nonzero(made.owner == place)
        assert slow.min() >= s0 and slow.max() <= s1 and fast.min() >= f0 and fast.max() <= f1
    with pytest.raises(InputError, match="radius"):
        regions(spots_at((5, 5)), (20, 20), 0.0)

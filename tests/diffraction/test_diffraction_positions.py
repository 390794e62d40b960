"""From spots to lattice: the finder, the exact derivatives, and how far off a start may be."""

from pathlib import Path

import numpy as np
import pytest

from exactgrad.diffraction.losses import Observed, observe
from exactgrad.diffraction.position_refinement import _index, _Positions, refine_positions
from exactgrad.diffraction.refinement.peaks import Peaks, find_peaks
from exactgrad.diffraction.refinement.unknowns import Free, Unknowns
from exactgrad.diffraction.simulator import Simulator
from exactgrad.diffraction.spots import predict
from exactgrad.errors import InputError

MTZ = Path(__file__).parents[1] / "data" / "diffraction_files" / "5e5z.mtz"
WORDS = (
    f"-hkl {MTZ} -cell 9.643 9.609 19.029 90 101.224 90 -misset 20 -35 50 -N 20 -lambda 1 -distance 100 "
    "-pixel 0.35 -detpixels 420 -fluence 1e26 -nointerpolate -oversample 1 -mosaic 0.3 -mosaic_domains 10"
)
NAMES = ("misset_x", "misset_y", "misset_z", "cell_a", "cell_b", "cell_c", "cell_beta", "distance")


@pytest.fixture(scope="module")
def truth():
    first = Simulator.from_nanobragg(WORDS).settings
    return [first.replace(phi=angle) for angle in (0.0, 40.0)]


@pytest.fixture(scope="module")
def peaks(truth):
    rng = np.random.default_rng(2)
    return [find_peaks(observe(rng.poisson(Simulator(one).image() + 5.0))) for one in truth]


def test_found_spots_are_predicted_ones(truth, peaks):
    for settings, seen in zip(truth, peaks, strict=True):
        expected = predict(settings.scene(), 0.01).position_px
        nearest = np.array([np.hypot(*(expected - place).T).min() for place in seen.position_px])
        assert len(seen) > 10
        assert np.quantile(nearest, 0.9) < 1.5


def test_a_planted_gaussian_spot_is_measured():
    slow, fast = np.mgrid[:60, :70]
    rng, found = np.random.default_rng(0), []
    for _ in range(60):
        at = 30 + rng.uniform(-0.5, 0.5, 2)
        light = 400 / (2 * np.pi) * np.exp(-0.5 * ((slow - at[0]) ** 2 + (fast - at[1]) ** 2))
        seen = find_peaks(observe(rng.poisson(light + 2.0)))
        assert len(seen) == 1
        found.append((seen.position_px[0] - at) / seen.sigma_px[0])
    assert 0.6 < np.std(found) < 1.6


def test_noise_alone_has_no_spots_and_masked_light_none():
    rng = np.random.default_rng(1)
    image = rng.poisson(3.0, (200, 200)).astype(float)
    assert len(find_peaks(observe(image))) == 0
    image[50:53, 60:63] += 500.0
    counted = np.ones(image.shape, bool)
    counted[45:58, 55:68] = False
    assert len(find_peaks(Observed(image, counted))) == 0
    assert len(find_peaks(observe(image))) == 1


@pytest.mark.parametrize("name", [*NAMES, "Xbeam", "Ybeam", "detector_rotx", "detector_roty", "lambda", "phi"])
def test_derivatives_by_differences(truth, peaks, name):
    unknowns = Unknowns(truth, [Free(name, (0, 1))])
    x, step = np.array([0.3]), 1e-5
    indexed = _index(unknowns, x, peaks, np.inf)
    positions = _Positions(unknowns, peaks, indexed, (), x)
    _, gradient, _ = positions.residual_products(x)
    up, down = (positions.residual_products(x + sign * step)[0] for sign in (1, -1))
    assert gradient[0] == pytest.approx((up - down) / (2 * step), rel=1e-6, abs=1e-5)
    for image in (0, 1):
        moved = (positions.residuals(x + step)[image].z - positions.residuals(x - step)[image].z) / (2 * step)
        expected = positions.residuals(x)[image].moved[0] * unknowns.slopes(x)[0]
        np.testing.assert_allclose(moved, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("seed", range(4))
def test_half_a_degree_and_a_percent_are_found_back(truth, peaks, seed):
    rng = np.random.default_rng(seed)
    change = {name: truth[0].value(name) * (1 + 0.01 * rng.uniform(-1, 1)) for name in NAMES[3:]}
    axis = rng.normal(size=3)
    angle = 0.5 * axis / np.linalg.norm(axis)
    change |= {f"misset_{x}": truth[0].value(f"misset_{x}") + float(a) for x, a in zip("xyz", angle, strict=True)}
    unknowns = Unknowns([one.replace(change) for one in truth], [Free(name, (0, 1)) for name in NAMES])
    fit = refine_positions(unknowns, peaks)
    assert fit.used > 0.9 * fit.found
    assert fit.rms_px < 0.6
    off = dict(zip(NAMES, unknowns.values(fit.x) - [truth[0].value(name) for name in NAMES], strict=True))
    assert max(abs(off[f"misset_{x}"]) for x in "xyz") < 0.15
    assert max(abs(off[f"cell_{x}"]) / truth[0].value(f"cell_{x}") for x in "abc") < 0.01
    assert abs(off["cell_beta"]) < 0.2


def test_false_spots_do_not_pull(truth, peaks):
    rng = np.random.default_rng(9)
    unknowns = Unknowns([one.replace(misset_x=20.3) for one in truth], [Free("misset_x", (0, 1))])
    clean = unknowns.values(refine_positions(unknowns, peaks).x)[0]
    false = [
        Peaks(
            np.concatenate([seen.position_px, rng.uniform(0, 420, (6, 2))]),
            np.append(seen.sigma_px, np.full(6, 0.1)),
            np.append(seen.photons, np.full(6, 100.0)),
        )
        for seen in peaks
    ]
    assert unknowns.values(refine_positions(unknowns, false).x)[0] == pytest.approx(clean, abs=0.02)


def test_too_few_spots_are_told(truth, peaks):
    none = [Peaks(np.zeros((0, 2)), np.zeros(0), np.zeros(0))] * 2
    unknowns = Unknowns(truth, [Free(name, (0, 1)) for name in NAMES])
    with pytest.raises(InputError, match="0 spots were found"):
        refine_positions(unknowns, none)

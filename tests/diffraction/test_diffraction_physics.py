"""Correct physics, proved: images converge to a slow reference that knows none of the model's formulas.

The reference takes a pixel for what it is, a box of sensor seen from the crystal. Its photons are an integral over the
box: of the dipoles' radiation into each ray, of every unit cell of the crystal summed as a phase, of the share of the
ray that is absorbed on its way in. Gauss-Legendre points along F, S and the depth; nothing is taken once a pixel.

    photons = r_e^2 fluence * sum over sources of weight * mean over domains and angles of
              int dF dS dO  mu exp(-mu O/cos) / R^2  (I(d) + water) P(d)          thick sensor
              int dF dS     cos / R^2                (I(d) + water) P(d)          thin sensor
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from exactgrad.diffraction import kernel, numbers
from exactgrad.diffraction.options import parse
from exactgrad.diffraction.render import image

RADIUS_SQUARED = 7.94079248018965e-30  # m^2
FLUENCE, WAVELENGTH = 3e28, 1.5e-10
CELL, N, MISSET, F = (60.0, 70.0, 80.0, 85.0, 95.0, 105.0), (5, 4, 3), (10.0, -20.0, 30.0), 100.0
PIXEL, PIXELS, DISTANCE, BEAM_CENTRE = 2e-3, 9, 0.06, (8e-3, 7e-3)
TILT = (8.0, -11.0, 5.0)
SEEN = np.array([[0, 0], [1, 6], [4, 4], [5, 2], [8, 8]])  # slow, fast
ALL_AT_ONCE = 2e-3  # of the brightest pixel
POINTS = 20  # along a pixel's side
WORDS = (
    f"-cell {' '.join(map(str, CELL))} -misset {' '.join(map(str, MISSET))} -Na {N[0]} -Nb {N[1]} -Nc {N[2]} "
    f"-default_F {F} -lambda {WAVELENGTH * 1e10} -fluence {FLUENCE} -distance {DISTANCE * 1e3} -pixel {PIXEL * 1e3} "
    f"-detpixels {PIXELS} -Xbeam {BEAM_CENTRE[0] * 1e3} -Ybeam {BEAM_CENTRE[1] * 1e3} "
    f"-detector_rotx {TILT[0]} -detector_roty {TILT[1]} -detector_rotz {TILT[2]}"
)


@dataclass(frozen=True)
class Truth:
    """What is in the way of the beam, in metres and radians; directions in the lab."""

    kahn: float | None = None
    thickness: float = 0.0
    depth: float = 1.0  # attenuation length
    sources: tuple = (((1.0, 0.0, 0.0), WAVELENGTH, 1.0),)  # direction, wavelength, share
    turns: tuple = (np.eye(3),)  # of the crystal
    water: float = 0.0
    fluence: float = FLUENCE
    cells: tuple = N
    intensity: object = None  # of fractional indices; None sums the cells

    def pixel(self, slow, fast, points=POINTS, depths=8):
        """Photons of one pixel."""
        at, weights = np.polynomial.legendre.leggauss(points)
        at, weights = (at + 1) / 2, weights / 2
        into, of_depth = np.polynomial.legendre.leggauss(depths)
        into, of_depth = (into + 1) / 2 * self.thickness, of_depth / 2 * self.thickness
        origin, f, s, normal = placed()
        ff, ss = np.meshgrid((fast + at) * PIXEL, (slow + at) * PIXEL)
        area = np.outer(weights, weights) * PIXEL**2
        plane = origin + ff[..., None] * f + ss[..., None] * s
        if self.thickness == 0:
            return self._photons(plane, area * (plane @ normal) / np.linalg.norm(plane, axis=-1))
        total = 0.0
        for o, share in zip(into, of_depth, strict=True):
            x = plane + o * normal
            path = o * np.linalg.norm(x, axis=-1) / (x @ normal)  # inside the sensor, along the ray
            total += self._photons(x, area * share * np.exp(-path / self.depth) / self.depth)
        return total

    def _photons(self, x, measure):
        distance = np.linalg.norm(x, axis=-1)
        d, total = x / distance[..., None], 0.0
        for ray, wavelength, share in self.sources:
            seen = np.mean([self._crystal(turn, (d - np.array(ray)) / wavelength) for turn in self.turns], axis=0)
            seen = seen + 2.57**2 * self.water**3 * 1e6 * 6.02214179e23 / 18.0
            total += share * (measure / distance**2 * seen * self._radiated(d, np.array(ray))).sum()
        return RADIUS_SQUARED * self.fluence * total

    def _crystal(self, turn, q):
        h = q @ (unturned_lattice() @ Rotation.from_euler("xyz", MISSET, degrees=True).as_matrix().T @ turn.T).T
        if self.intensity is not None:
            return self.intensity(h)
        waves = [
            np.exp(2j * np.pi * h[..., axis, None] * np.arange(cells)).sum(axis=-1)
            for axis, cells in enumerate(self.cells)
        ]
        return F**2 * np.abs(waves[0] * waves[1] * waves[2]) ** 2

    def _radiated(self, d, ray):
        """Two dipoles across the ray, the one along z (as far as it can be) with (1 + K)/2 of the beam."""
        if self.kahn is None:
            return 1.0
        b = np.cross((0, 0, 1.0), ray)
        e = np.cross(ray, b)
        parts = [(1 - (d @ (axis / np.linalg.norm(axis))) ** 2) / 2 for axis in (e, b)]
        return (1 + self.kahn) * parts[0] + (1 - self.kahn) * parts[1]

    def pixels(self, **quadrature):
        return np.array([self.pixel(*place, **quadrature) for place in SEEN])


def unturned_lattice():
    """Rows a, b, c with a* along x and b* in the xy plane, from the matrix of scalar products alone."""
    edges, cosines = np.array(CELL[:3]) * 1e-10, np.cos(np.radians(CELL[3:]))
    products = np.outer(edges, edges)
    for (i, j), cosine in zip(((1, 2), (0, 2), (0, 1)), cosines, strict=True):
        products[i, j] *= cosine
        products[j, i] = products[i, j]
    return np.linalg.inv(np.linalg.cholesky(np.linalg.inv(products))).T


def placed():
    """First pixel's outer corner, fast, slow and normal: MOSFLM's frame, turned about where the beam meets it."""
    turn = Rotation.from_euler("xyz", TILT, degrees=True).as_matrix()
    f, s, normal = turn @ (0, 0, 1), turn @ (0, -1, 0), turn @ (1, 0, 0)
    along_f, along_s = BEAM_CENTRE[1] + PIXEL / 2, BEAM_CENTRE[0] + PIXEL / 2
    return DISTANCE * np.array([1.0, 0, 0]) - along_f * f - along_s * s, f, s, normal


def scene_of(extra="", c_compat=False, folder="."):
    scene, _ = parse(f"{WORDS} {extra}".split(), folder, c_compat)
    mask = np.zeros((PIXELS, PIXELS), dtype=bool)
    mask[tuple(SEEN.T)] = True
    return replace(scene, detector=replace(scene.detector, mask=mask))


def seen(scene):
    return image(scene)[tuple(SEEN.T)]


def away(scene, truth):
    """Largest difference over the brightest pixel."""
    return np.abs(seen(scene) - truth).max() / truth.max()


def sources_file(folder, weights=(1.0, 3.0)):
    rays = ((-10.0, 0.2, 0.1), (-10.0, -0.3, 0.2))
    wavelengths = (1.45e-10, 1.6e-10)
    rows = zip(rays, weights, wavelengths, strict=True)
    lines = [f"{ray[0]} {ray[1]} {ray[2]} {weight} {wavelength}" for ray, weight, wavelength in rows]
    (folder / "sources.txt").write_text("\n".join(lines) + "\n")
    total = sum(weights)
    return tuple(
        (tuple(-np.array(ray) / np.linalg.norm(ray)), wavelength, weight / total)
        for ray, weight, wavelength in zip(rays, weights, wavelengths, strict=True)
    )


CONVERGING = {
    "plain": ("-nopolar", Truth()),
    "polarized": ("-polar 0.8", Truth(kahn=0.8)),
    "unpolarized": ("-polar 0", Truth(kahn=0.0)),
    "polarized across": ("-polar -0.6", Truth(kahn=-0.6)),
    "with water": ("-nopolar -water 0.04", Truth(water=4e-8)),
}


# -- the reference itself ---------------------------------------------------------------------------------------------


def test_the_reference_has_converged():
    truth = replace(CONVERGING["polarized"][1], thickness=4e-4, depth=3e-4)
    np.testing.assert_allclose(truth.pixels(), truth.pixels(points=28, depths=12), rtol=1e-7)


def test_the_reference_integrates_the_true_solid_angle():
    """The triangles' own formula (Van Oosterom and Strackee 1983) for a pixel that only water lights."""
    origin, f, s, _ = placed()
    per_steradian = RADIUS_SQUARED * FLUENCE * 2.57**2 * 1e-12 * 1e6 * 6.02214179e23 / 18.0
    for slow, fast in SEEN:
        corners = [origin + PIXEL * ((fast + i) * f + (slow + j) * s) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
        omega = sum(triangle(corners[0], corners[k], corners[k + 1]) for k in (1, 2))
        dark = Truth(water=1e-4, intensity=lambda h: np.zeros(h.shape[:-1]))
        assert dark.pixel(slow, fast) == pytest.approx(per_steradian * omega, rel=1e-10)


def triangle(a, b, c):
    lengths = [np.linalg.norm(v) for v in (a, b, c)]
    below = lengths[0] * lengths[1] * lengths[2] + a @ b * lengths[2] + a @ c * lengths[1] + b @ c * lengths[0]
    return 2 * np.arctan2(abs(a @ np.cross(b, c)), below)


def test_the_reference_keeps_what_a_thick_sensor_keeps():
    """All of a ray is caught in a deep sensor: the pixel then sees as much as a thin one, but for the parallax."""
    dark = {"water": 1e-4, "intensity": lambda h: np.zeros(h.shape[:-1])}
    thin = Truth(**dark).pixels()
    deep = Truth(**dark, thickness=2e-5, depth=1e-6).pixels(depths=40)
    np.testing.assert_allclose(deep, thin, rtol=3e-4)


# -- correct physics --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CONVERGING)
def test_image_converges_with_the_sub_pixels(case):
    """As the square of the sub-pixel's side, to the integral."""
    extra, truth = CONVERGING[case]
    wanted = truth.pixels()
    far = [away(scene_of(f"{extra} -oversample {n}"), wanted) for n in (15, 30, 60, 120)]
    assert all(3.8 < one / next_one < 4.3 for one, next_one in pairwise(far))
    assert 4e-4 < far[0] < 1e-2 and far[3] < 1e-4


def test_sensor_converges_with_the_layers():
    """A layer is taken at its front, so as its thickness; the parallax and all that is absorbed along the ray."""
    wanted = Truth(thickness=9e-4, depth=4e-4).pixels(depths=12)
    thin = Truth().pixels()
    assert np.abs(wanted / thin - 0.9).max() > 0.05  # the sensor matters here
    options = "-nopolar -detector_thick 900 -detector_abs 400 -oversample 48"
    found = [seen(scene_of(f"{options} -detector_thicksteps {n}")) for n in (4, 8, 16, 32)]
    far = [np.abs(image - wanted).max() / wanted.max() for image in found]
    assert all(1.8 < one / next_one < 2.2 for one, next_one in pairwise(far)) and far[-1] < 0.01
    extrapolated = 2 * found[3] - found[2]
    assert np.abs(extrapolated - wanted).max() < 2e-3 * wanted.max()


def test_weighted_sources_converge(tmp_path):
    truth = Truth(kahn=0.7, sources=sources_file(tmp_path))
    scene = scene_of("-polar 0.7 -oversample 48 -sourcefile sources.txt", folder=tmp_path)
    assert away(scene, truth.pixels()) < 1e-3


def test_domains_and_sweep_converge():
    """With the domains that were drawn; a sweep that passes phi = 0 exactly, where the C program kept stale vectors."""
    scene = scene_of("-nopolar -mosaic 2 -mosaic_dom 3 -phi -4 -osc 6 -phistep 2 -spindle_axis 0 0 1 -oversample 48")
    assert np.allclose(np.degrees(scene.crystal.phi_rad), [-4, -2, 0])
    domains = np.asarray(scene.crystal.domains)
    angles = [Rotation.from_matrix(domain).magnitude() for domain in domains]
    assert len(domains) == 3 and angles[0] == 0 and 0 < max(angles) <= np.radians(2)
    sweep = [Rotation.from_rotvec([0, 0, np.radians(phi)]).as_matrix() for phi in (-4, -2, 0)]
    turns = tuple(domain @ turn for turn in sweep for domain in domains)
    assert away(scene, Truth(turns=turns).pixels()) < 1e-3
    for place in SEEN:  # and no pixel knows of the one before
        mask = np.zeros((PIXELS, PIXELS), dtype=bool)
        mask[tuple(place)] = True
        alone = replace(scene, detector=replace(scene.detector, mask=mask))
        assert image(alone)[tuple(place)] == pytest.approx(image(scene)[tuple(place)], rel=1e-13)


def test_sweep_converges_to_the_turning_crystal():
    """Angles are taken at their steps' beginnings, so as the step."""
    at, weights = np.polynomial.legendre.leggauss(12)
    turning = [Truth(turns=(Rotation.from_rotvec([0, 0, np.radians(1 + t)]).as_matrix(),)).pixels() for t in at]
    wanted = np.tensordot(weights / 2, np.array(turning), 1)
    options = "-nopolar -phi 0 -osc 2 -oversample 48"
    far = [away(scene_of(f"{options} -phisteps {n}"), wanted) for n in (4, 8, 16, 32)]
    assert all(1.7 < one / next_one < 2.3 for one, next_one in pairwise(far)) and far[-1] < 0.01


def test_round_crystal_is_the_transform_of_a_ball():
    """Of diameter N, by quadrature over its slices; as bright in all as the parallelepiped (the C program's norm)."""
    t, weights = np.polynomial.legendre.leggauss(60)

    def ball(h):
        x = np.pi * np.sqrt((((h - np.rint(h)) * N) ** 2).sum(axis=-1))
        return (F * np.prod(N)) ** 2 * np.pi / 6 * (np.cos(x[..., None] * t) @ (0.75 * weights * (1 - t**2))) ** 2

    wanted = Truth(intensity=ball).pixels(points=60)
    assert away(scene_of("-nopolar -round_xtal -oversample 48"), wanted) < 2e-3


def test_gauss_crystal_is_measured_in_indices():
    def spot(h):
        squared = (((h - np.rint(h)) * N) ** 2).sum(axis=-1)
        return (F * np.prod(N)) ** 2 * np.exp(-2 * squared / 0.63)

    wanted = Truth(intensity=spot).pixels(points=60)
    assert away(scene_of("-nopolar -gauss_xtal -oversample 48"), wanted) < 1e-3
    assert away(scene_of("-nopolar -gauss_xtal -oversample 48", c_compat=True), wanted) > 0.1


def test_factors_of_listed_reflections(tmp_path):
    """Of the nearest reflection, the default beyond the list; no pixel switches it off for the next."""
    listed = [(h, k, l, 40 + 13 * h - 9 * k + 5 * l) for h in range(-2, 3) for k in range(-2, 2) for l in range(-1, 3)]
    (tmp_path / "some.hkl").write_text("".join(f"{h} {k} {l} {f}\n" for h, k, l, f in listed))
    known = {row[:3]: float(row[3]) for row in listed}

    def intensity(h):
        near = np.rint(h).astype(int)
        f = np.apply_along_axis(lambda hkl: known.get(tuple(hkl), F), -1, near)
        waves = [np.exp(2j * np.pi * h[..., i, None] * np.arange(n)).sum(axis=-1) for i, n in enumerate(N)]
        return f**2 * np.abs(waves[0] * waves[1] * waves[2]) ** 2

    wanted = Truth(intensity=intensity).pixels(points=60)
    assert away(scene_of("-nopolar -hkl some.hkl -nointerpolate -oversample 60", folder=tmp_path), wanted) < 5e-3
    assert np.abs(wanted - Truth().pixels()).max() > 0.05 * wanted.max()


# -- the C program's defects: absent, and present where asked for -----------------------------------------------------


def test_c_takes_solid_angle_and_polarization_of_the_first_sub_pixel():
    truth = Truth(kahn=0.8).pixels()
    fine = "-polar 0.8 -oversample 60"
    assert away(scene_of(fine), truth) < 1e-3 < 2e-3 < away(with_right_lattice(fine), truth)
    # What it has instead: the bare integral, with the factors of a point by the pixel's first corner.
    origin, f, s, normal = placed()
    for place, theirs in zip(SEEN, seen(with_right_lattice(fine)), strict=True):
        corner = origin + PIXEL * ((place[1] + 1 / 120) * f + (place[0] + 1 / 120) * s)
        distance = np.linalg.norm(corner)
        d = corner / distance
        factors = PIXEL**2 * (d @ normal) / distance**2 * (0.9 * (1 - d[2] ** 2) + 0.1 * (1 - d[1] ** 2))
        middle = (np.arange(60) + 0.5) / 60
        ff, ss = np.meshgrid((place[1] + middle) * PIXEL, (place[0] + middle) * PIXEL)
        x = origin + ff[..., None] * f + ss[..., None] * s
        bare = Truth()._crystal(np.eye(3), (x / np.linalg.norm(x, axis=-1)[..., None] - (1, 0, 0)) / WAVELENGTH)
        assert theirs == pytest.approx(RADIUS_SQUARED * FLUENCE * bare.mean() * factors, rel=1e-7)


def with_right_lattice(extra):
    """The C program's image, but for its lattice."""
    return replace(scene_of(extra, c_compat=True), crystal=scene_of(extra).crystal)


def test_c_lattice_of_a_triclinic_cell():
    """c* too long or short by V/(a b c sin gamma*)/(1/c): the angles of its lattice are not the cell's."""
    right, theirs = scene_of().crystal.lattice, scene_of(c_compat=True).crystal.lattice
    wanted = unturned_lattice() @ Rotation.from_euler("xyz", MISSET, degrees=True).as_matrix().T
    np.testing.assert_allclose(right, wanted, atol=1e-13 * np.abs(wanted).max())
    edges = np.linalg.norm(theirs, axis=1)
    np.testing.assert_allclose(edges * 1e10, CELL[:3], rtol=1e-12)
    found = [np.degrees(np.arccos(theirs[i] @ theirs[j] / edges[i] / edges[j])) for i, j in ((1, 2), (0, 2), (0, 1))]
    off = np.abs(np.array(found) - CELL[3:])
    assert 1e-3 < off.max() < 0.1


def test_c_layers_are_not_the_sensor():
    """n layers of thick/(n-1), and the sum of their intensities times what the last one captures."""
    words = "-nopolar -detector_thick 900 -detector_abs 400 -detector_thicksteps 4 -water 100 -default_F 1e-9"
    right, theirs = seen(scene_of(f"{words} -oversample 24")), scene_of(words, c_compat=True)
    dark = Truth(thickness=9e-4, depth=4e-4, water=1e-4, intensity=lambda h: np.zeros(h.shape[:-1]))
    np.testing.assert_allclose(right, dark.pixels(), rtol=0.02)
    assert scene_of(words).detector.layer_m * 4 == pytest.approx(9e-4)
    assert theirs.detector.layer_m * 3 == pytest.approx(9e-4)
    spots = scene_of("-nopolar -detector_thick 900 -detector_abs 400 -detector_thicksteps 4 -oversample 1", True)
    layers = [
        seen(replace(spots, detector=replace(spots.detector, layers=1, thickness_m=0.0, origin=front)))
        for front in (spots.detector.origin + k * spots.detector.layer_m * spots.detector.normal for k in range(4))
    ]
    origin, f, s, normal = placed()
    for place, photons, of_layers in zip(SEEN, seen(spots), np.array(layers).T, strict=True):
        fronts = [origin + k * 3e-4 * normal + PIXEL * ((place[1] + 0.5) * f + (place[0] + 0.5) * s) for k in range(4)]
        lengths = np.array([np.linalg.norm(x) for x in fronts])
        cosines = np.array([x @ normal for x in fronts]) / lengths
        omega = cosines / lengths**2
        u = 3e-4 / 4e-4 / cosines[3]
        last = np.exp(-3 * u) - np.exp(-4 * u)
        assert photons == pytest.approx((of_layers / omega).sum() * omega[0] * last, rel=1e-9)


def test_c_ignores_weights(tmp_path):
    sources_file(tmp_path)
    options = "-nopolar -oversample 8 -sourcefile sources.txt"
    theirs = seen(scene_of(options, True, tmp_path))
    sources_file(tmp_path, weights=(1.0, 1.0))
    np.testing.assert_array_equal(seen(scene_of(options, True, tmp_path)), theirs)
    equal = seen(scene_of(options, folder=tmp_path))
    sources_file(tmp_path)
    assert np.abs(seen(scene_of(options, folder=tmp_path)) - equal).max() > 0.05 * equal.max()


def test_c_water_goes_with_the_square_of_the_fluence():
    """r_e^2 fluence twice, and divided by the steps."""
    words = "-nopolar -water 100 -default_F 1e-9 -oversample 2"
    theirs, right = seen(scene_of(words, c_compat=True)), seen(scene_of(words))
    dark = Truth(water=1e-4, intensity=lambda h: np.zeros(h.shape[:-1])).pixels()
    np.testing.assert_allclose(right, dark, rtol=2e-4)
    np.testing.assert_allclose(theirs, dark * RADIUS_SQUARED * FLUENCE / 4, rtol=0.05)
    assert np.abs(right / dark - 1).max() < 1e-3 < 0.5 < np.abs(theirs / dark - 1).min()


def test_no_stale_vectors_in_either_image():
    """A sweep through phi = 0 is the mean of its steps, as the C program's repaired."""
    for c_compat in (False, True):
        whole = seen(scene_of("-nopolar -phi -2 -osc 4 -phisteps 4 -oversample 2", c_compat))
        parts = [seen(scene_of(f"-nopolar -phi {phi} -oversample 2", c_compat)) for phi in (-2, -1, 0, 1)]
        np.testing.assert_allclose(whole, np.mean(parts, axis=0), rtol=1e-10)


# -- planted bugs -----------------------------------------------------------------------------------------------------


PLANTED = {
    "no obliquity": {"g": {kernel.OBLIQUITY: lambda g: 0.0, kernel.FACING: lambda g: PIXEL**2}},
    "polarization turned": {"g": {kernel.KAHN: lambda g: -g[kernel.KAHN]}},
    "half the polarization": {"g": {kernel.POLARIZATION: lambda g: 0.25}},
    "sub-pixels a little small": {"g": {kernel.STEP: lambda g: g[kernel.STEP] * 0.999}},
    "the corner for the middle": {"g": {kernel.ORIGIN: lambda g: g[kernel.ORIGIN] + 0.02 * PIXEL}},
    "layers a tenth too far apart": {"g": {kernel.LAYER: lambda g: g[kernel.LAYER] * 1.1}},
    "no absorption": {"g": {kernel.CAPTURES: lambda g: 0.0}},
    "half the absorption": {"g": {kernel.ATTENUATION: lambda g: 0.5 * g[kernel.ATTENUATION]}},
    "weights ignored": {"shares": True},
    "the C program's cell": {"crystal": lambda crystal, theirs: theirs},
    "turned the other way": {"crystal": lambda c, _: replace(c, lattice=c.lattice @ turn_by(0.02), reciprocal=None)},
    "a cell more": {"crystal": lambda c, _: replace(c, cells=np.add(c.cells, (0, 0, 1)))},
}


def turn_by(angle):
    return Rotation.from_rotvec([0, angle, 0]).as_matrix()


def everything(folder, c_compat=False):
    """The scene with all of it, at so many layers and twice as many."""
    extra = "-polar 0.7 -oversample 40 -sourcefile sources.txt -detector_thick 900 -detector_abs 400"
    return [scene_of(f"{extra} -detector_thicksteps {n}", c_compat, folder) for n in (10, 20)]


def far_from(truth, scenes):
    """As `away`, extrapolated to infinitely many layers."""
    few, many = (seen(scene) for scene in scenes)
    return np.abs(2 * many - few - truth).max() / truth.max()


@pytest.fixture(scope="module")
def whole_truth(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    truth = Truth(kahn=0.7, thickness=9e-4, depth=4e-4, sources=sources_file(folder))
    return folder, truth.pixels(depths=12)


def test_all_at_once(whole_truth):
    folder, truth = whole_truth
    assert far_from(truth, everything(folder)) < ALL_AT_ONCE


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_caught(bug, whole_truth, monkeypatch):
    folder, truth = whole_truth
    scenes, planted = everything(folder), PLANTED[bug]
    if "crystal" in planted:
        theirs = everything(folder, True)[0].crystal
        scenes = [replace(scene, crystal=planted["crystal"](scene.crystal, theirs)) for scene in scenes]
    if "shares" in planted:
        monkeypatch.setattr(numbers, "shares_of", lambda scene: np.full(scene.beam.sources, 1 / scene.beam.sources))
    whole = numbers.detector_numbers

    def with_bug(scene, names):
        g = whole(scene, names)
        for place, value in planted.get("g", {}).items():
            g[place] = value(g)
        return g

    monkeypatch.setattr(numbers, "detector_numbers", with_bug)
    found = far_from(truth, scenes)
    assert found > 1.3 * ALL_AT_ONCE, f"a planted bug went by: {found:.2e}"

"""The trace of an image's parameters: its stages against the kernel, its derivatives against the kernel's and against
differences, on the example and on configurations of every kind; what it says; what it refuses.
"""

import numpy as np
import pytest

from exactgrad.core.verify import best_central_difference
from exactgrad.diffraction import configurations, render, trace, trace_stages
from exactgrad.diffraction.parameters import table as parameter_table
from exactgrad.diffraction.simulator import Simulator
from exactgrad.errors import InputError

SEED_NAMES = {  # those of the seed document, and ours of another unit
    "mosaic_spread_rad": ("mosaic", 180 / np.pi),
    "misset_rot_x": ("misset_x", 1.0),
    "distance_mm": ("distance", 1.0),
    "distance_m": ("distance", 1000.0),
    "lambda_A": ("lambda", 1.0),
    "osc_rad": ("osc", 180 / np.pi),
    "cell_a_m": ("cell_a", 1e10),
}


@pytest.fixture(scope="module")
def walk():
    return trace._walked(trace.PLAIN_EXAMPLE)


def test_the_stages_make_the_kernels_image(walk):
    image = render.image(walk.scene)
    assert image.shape == (24, 24) and image.max() > 100
    assert np.abs(walk.at["photons"] - image).max() <= 1e-12 * image.max()


@pytest.mark.parametrize("name", trace.names())
def test_the_derivative_is_the_simulators(name):
    named = parameter_table.find(name)
    walk, found = trace.embedded(named), trace.trace(name)
    sim, direction = Simulator(walk.settings), walk.direction(named)
    pulled = np.vdot(sim.image_and_pullback([name])[1](walk.pixels.derivative)[name], direction)
    assert abs(found.derivative - pulled) <= 1e-12 * max(stage.scale for stage in found.stages)
    moved = sim.jvp({name: direction})
    assert np.abs(found.pictures[0].values - moved).max() <= 1e-10 * np.abs(moved).max()


@pytest.mark.parametrize("index", range(configurations.SYSTEMATIC))
def test_every_kind_of_crystal_beam_and_detector(index):
    one = configurations.drawn(5, index)
    if one.settings.c_compat:
        return
    walk, sim = trace.Walk(one.settings), Simulator(one.settings)
    image = render.image(walk.scene)
    assert np.abs(walk.at["photons"] - image).max() <= 1e-12 * image.max()
    for name in one.parameters:
        named = parameter_table.find(name)
        moved = sim.jvp({name: walk.direction(named)})
        found = walk.trace(named)
        assert found.disagreement <= 1e-10 and found.off_kernel <= 1e-12, name
        rounding = 1e-15 * image.max()  # the weight of a single source moves nothing
        assert np.abs(found.pictures[0].values - moved).max() <= 1e-9 * np.abs(moved).max() + rounding, name


@pytest.mark.parametrize(
    ("name", "step"),
    {
        "mosaic": 0.1,
        "cell_b": 0.3,
        "misset_x": 0.1,
        "distance": 0.5,
        "lambda": 0.005,
        "fluence": 1e30,
        "polar": 0.1,
        "Nb": 0.1,
        "twotheta": 0.1,
        "detector_abs": 20.0,
        "water": 1e-3,
        "beam_f": 0.05,
    }.items(),
)
def test_against_differences(walk, name, step):
    settings = walk.settings

    def loss(x):
        image = render.image(settings.replace({name: settings.value(name) + step * x[0]}).scene())
        return walk.loss.at(image, walk.observed).total

    wanted = best_central_difference(loss, np.zeros(1), np.ones(1))
    found = trace.trace(name)
    assert abs(step * found.derivative - wanted.value) <= 1e-7 * max(abs(wanted.value), 1e-2)


@pytest.mark.parametrize("alias", SEED_NAMES)
def test_an_alias_has_its_own_unit(alias):
    name, ratio = SEED_NAMES[alias]
    found, plain = trace.trace(alias), trace.trace(name)
    assert found.parameter == alias and found.agrees
    assert found.derivative == pytest.approx(ratio * plain.derivative, rel=1e-12)
    assert found.value == pytest.approx(plain.value / ratio, rel=1e-12)


def test_a_trace_begins_where_the_parameter_enters():
    def stages(name):
        return [stage.name for stage in trace.trace(name).stages]

    end = ["corrected", "photons", "loss"]
    bragg = ["fractional hkl", "off the reflection", "lattice factor", "intensity per sample", *end]
    assert stages("cell_a")[3:] == bragg
    assert stages("misset_rot_x")[2] == "a, b, c of every phi step and domain"
    assert stages("distance")[3:] == ["position", "direction", "scattering vector", *bragg]
    assert stages("lambda")[3:] == ["scattering vector", *bragg]
    assert stages("polar")[2:] == ["Kahn's factor", *end]
    assert stages("fluence") == ["fluence", "setting", "fluence", "photons", "loss"]
    assert "x" in trace.trace("distance").stages[5].formula  # the branch of the solid angle passes beside q


@pytest.mark.parametrize(
    "stage", ["Position", "Direction", "Scattering", "Miller", "Offset", "Lattice", "Intensity", "Corrected", "Photons"]
)
def test_a_stage_with_a_wrong_cotangent_is_told(monkeypatch, stage):
    kind = getattr(trace_stages, stage)
    right = kind.cotangent
    monkeypatch.setattr(
        kind, "cotangent", lambda self, at, bar: {k: (1 + 1e-6) * v for k, v in right(self, at, bar).items()}
    )
    assert not trace.Walk(trace.example()).trace(parameter_table.find("distance")).agrees


def test_a_stage_with_a_wrong_value_is_told(monkeypatch):
    right = trace_stages.Lattice.value
    monkeypatch.setattr(trace_stages.Lattice, "value", lambda self, at: (1 + 1e-9) * right(self, at))
    assert trace.Walk(trace.example()).trace(parameter_table.find("mosaic")).off_kernel > 1e-12


@pytest.mark.parametrize(("factor", "says"), [(1.4, ("too sharp", "increase")), (0.6, ("too broad", "decrease"))])
def test_the_words_follow_the_data(monkeypatch, factor, says):
    monkeypatch.setattr(trace, "OTHERWISE", {"mosaic": (factor, 0.0)})
    words = " ".join(trace.Walk(trace.example()).trace(parameter_table.find("mosaic")).words)
    assert all(word in words for word in says)


def test_the_wavelength_is_like_the_distance():
    found = trace.trace("lambda_A")
    assert dict(found.correlations)["distance"] > 0.99
    assert any("confuse" in sentence and "distance" in sentence for sentence in found.words)
    assert any("direct beam" in sentence for sentence in found.words)


WORDS = "-cell 90 100 110 85 95 100 -misset 9 10 7 -N 4 -default_F 50 -fluence 1e31 -detpixels 12 -distance 100"


def test_jobs(tmp_path):
    command, job = tmp_path / "command.txt", tmp_path / "job.toml"
    command.write_text(f"./nanoBragg {WORDS} # as typed\n")
    job.write_text(f'options = "{WORDS}"\n[detector]\ndistance = 90.0\n')
    found = trace.trace("distance", command)
    assert found.agrees and found.value == 100.0 and found.example.startswith(str(command))
    assert trace.trace("distance", job).value == 90.0
    with pytest.raises(InputError, match="no domain is turned"):
        trace.trace("mosaic", command)
    command.write_text(f"nanoBragg {WORDS} --c-compat")
    with pytest.raises(InputError, match="c_compat"):
        trace.trace("distance", command)
    command.write_text("nanoBragg 'unclosed")
    with pytest.raises(InputError, match="not a command line"):
        trace.trace("distance", command)
    for missing in ("nothing.txt", "nothing.toml"):
        with pytest.raises(InputError):
            trace.trace("distance", tmp_path / missing)


def test_of_a_large_image_the_brightest_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(trace, "MOST_INDICES", 30)
    command = tmp_path / "command.txt"
    command.write_text(f"{WORDS} -oversample 1")
    found = trace.trace("cell_a", command)
    assert found.agrees and "its 30 brightest pixels of 144" in found.example
    assert np.count_nonzero(found.pictures[0].values) <= 30
    command.write_text(f"{WORDS} -oversample 8")
    with pytest.raises(InputError, match="one pixel has 64"):
        trace.trace("cell_a", command)


@pytest.mark.parametrize("name", ["omega", "", "lambda[7]", "F[99,0,0]", "F[1,2]", "pix0_w"])
def test_wrong_names_are_told_in_one_line(name):
    with pytest.raises(InputError) as told:
        trace.trace(name)
    assert "\n" not in str(told.value)


def test_slopes_of_spots_against_differences():
    x = np.array([0.0, 1e-9, 1e-3, 0.11, 0.25, 0.4999])
    for n in (1.0, 4.0, 12.3):
        by_x, by_n = trace_stages.grating_slopes(x, n)
        step = 1e-5

        def grating(x, n):
            return n * np.sinc(n * x) / np.sinc(x)

        assert np.abs(by_x - (grating(x + step, n) - grating(x - step, n)) / (2 * step)).max() < 1e-5 * n**3
        assert np.abs(by_n - (grating(x, n + step) - grating(x, n - step)) / (2 * step)).max() < 1e-8 * n**3
    y = np.array([1e-12, 0.1, 0.2499999, 0.2500001, 3.0, 60.0])
    step = 1e-4 * y
    sloped = (trace_stages.model.sphere(y + step) - trace_stages.model.sphere(y - step)) / (2 * step)
    assert np.allclose(trace_stages.sphere_slope(y)[1:], sloped[1:], rtol=1e-5, atol=1e-9)
    assert abs(np.diff(trace_stages.sphere_slope(y)[2:4])[0]) < 1e-8
    assert trace_stages.sphere_slope(y)[0] == pytest.approx(-0.1, abs=1e-12)

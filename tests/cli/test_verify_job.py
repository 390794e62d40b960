"""`exactgrad verify --job` on jobs of every system: found, verified, cut to a part, and failed where a bug is."""

from pathlib import Path

import numpy as np
import pytest

from exactgrad.cli.main import main
from exactgrad.core.system import find_systems, system_of_job
from exactgrad.errors import InputError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PULSE = """
[pulse]
duration_us = 60.0
step_us = 10.0
[target]
[[target.band]]
transfer = ["z", "x"]
offset_hz = [-3000.0, 3000.0]
[[target.band]]
rotation = { axis = "y", angle_deg = 90.0 }
offset_hz = [6000.0, 9000.0]
[ensemble]
bandwidth_hz = 18000.0
offsets = 13
b1_spread = 0.1
b1_points = 3
[limits]
peak_hz = 9000.0
"""
CRYSTAL = """
[crystal]
cell = [32.0, 41.0, 47.0, 90.0, 101.0, 90.0]
misset = [20.0, -35.0, 50.0]
N = 8
mosaic = 0.5
mosaic_domains = 2
default_F = 120.0
[beam]
lambda = 1.0
fluence = 3e26
[detector]
distance = 60.0
pixel = 0.8
detpixels = 40
oversample = 1
[background]
flat = 4.0
"""
REFINE = """
[noise]
seed = 3
[output]
formats = ["npy"]
[refine]
data = ["recorded/image.npy"]
free = ["misset_x", "mosaic"]
"""
SCAN = """
[phantom]
name = "fibres"
shape = [8, 10, 9]
[scan]
scheme = "liebi"
projections = 12
segments = 4
[measure]
absorption = 0.05
offset_px = 0.7
"""


@pytest.fixture
def job(tmp_path):
    def write(text, name="job.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def verified(path, cases=1, seed=0):
    return system_of_job(path).load("verify_job")(path, cases, seed)


@pytest.mark.parametrize(("text", "name"), [(PULSE, "pulses"), (CRYSTAL, "diffraction"), (SCAN, "tomography")])
def test_a_job_is_told_by_its_tables(job, text, name):
    assert system_of_job(job(text)).name == name


def test_the_examples_are_jobs_of_their_systems():
    for path in sorted(EXAMPLES.glob("*.toml")):
        assert system_of_job(path).name.startswith(path.stem.split("_")[0]), path.name


@pytest.mark.parametrize("text", [PULSE, CRYSTAL, SCAN], ids=["pulses", "diffraction", "tomography"])
def test_a_users_problem_passes_and_says_what_was_looked_at(job, text):
    found = verified(job(text))
    assert [check for check in found.checks if not check.passed] == []
    assert "(seed 0)" in found.subject
    by = {check.reference for check in found.checks}
    assert by & {"50-digit arithmetic", "complex step", "complex step of the stated formulas"}
    assert any("<Au, w>" in reference or "tangents of all stages" in reference for reference in by)
    assert any("difference" in reference for reference in by)


def test_a_refinement_is_verified_from_its_own_data(job, tmp_path):
    from exactgrad.diffraction.simulate import simulate

    simulate(job(CRYSTAL + REFINE.split("[refine]")[0]), tmp_path / "recorded")
    found = verified(job(CRYSTAL + REFINE, "refine.toml"))
    assert [check for check in found.checks if not check.passed] == []
    names = [check.name for check in found.checks]
    assert "refinement: gradient, differences" in names and "refinement of 2 parameters" in found.subject
    broken = job(CRYSTAL + REFINE.replace("recorded/image.npy", "recorded/none.npy"), "broken.toml")
    with pytest.raises(InputError, match="none"):
        verified(broken)


def test_a_run_folder_stands_for_its_job(job, tmp_path):
    from exactgrad.diffraction.simulate import simulate
    from exactgrad.pulses.design import design

    design(job(PULSE + "[output]\nfigures = false\n"), tmp_path / "design", {"max_iterations": 2, "starts": 1})
    simulate(job(CRYSTAL), tmp_path / "image")
    for folder, system in (("design", "pulses"), ("image", "diffraction")):
        path = tmp_path / folder
        assert system_of_job(path).name == system
        found = verified(path)
        assert found.checks and [check for check in found.checks if not check.passed] == []
        assert found.subject == verified(job(PULSE if folder == "design" else CRYSTAL)).subject
    with pytest.raises(InputError, match="not a run folder"):
        system_of_job(tmp_path)


def test_a_job_without_data_says_what_to_give(job):
    path = job("[regularisation]\nweight = 0.1\n[basin]\nrounds = 1\n")
    assert system_of_job(path).name == "tomography"
    with pytest.raises(InputError, match="give the run folder"):
        verified(path)


def test_the_command_exits_1_on_a_wrong_gradient_and_2_on_a_broken_job(job, capsys, monkeypatch):
    from exactgrad.pulses.problem import PulseProblem

    path = job(PULSE)
    assert main(["verify", "--job", str(path), "--cases", "1"]) == 0
    right = PulseProblem.value_and_gradient

    def wrong(problem, x):
        value, gradient = right(problem, x)
        return value, 1.0001 * gradient

    monkeypatch.setattr(PulseProblem, "value_and_gradient", wrong)
    assert main(["verify", "--job", str(path), "--cases", "1"]) == 1
    capsys.readouterr()
    assert main(["verify", "--job", str(job(PULSE.replace("step_us = 10.0", "step_us = -10.0")))]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "pulse.step_us = -10.0 us" in err


def test_some_spins_are_a_part_of_the_same_problem(job):
    from exactgrad.pulses.problem import PulseProblem
    from exactgrad.pulses.verify_job import some_spins

    whole = PulseProblem.from_job(job(PULSE))
    assert some_spins(whole, 39, 0)[0] is whole
    part, said = some_spins(whole, 7, 1)
    assert part.ensemble.spins == part.weight.size == 7 and "7 of 39 spins" in said
    assert abs(part.weight.sum() - 1) < 1e-15 and whole.ensemble.spins == 39
    x = whole.start(0)
    spins = list(zip(whole.ensemble.offset_hz, whole.ensemble.b1, strict=True))
    chosen = [spins.index(pair) for pair in zip(part.ensemble.offset_hz, part.ensemble.b1, strict=True)]
    assert np.abs(part.qualities(x) - whole.qualities(x)[chosen]).max() < 1e-14
    again = some_spins(whole, 7, 1)[0].ensemble.offset_hz
    assert np.array_equal(again, part.ensemble.offset_hz)
    assert not np.array_equal(some_spins(whole, 7, 2)[0].ensemble.offset_hz, again)


def test_a_block_of_a_scan_scatters_as_it_does_in_the_whole(job):
    from exactgrad.tomography import simulate
    from exactgrad.tomography.problem import TomographyProblem
    from exactgrad.tomography.tables import read_job
    from exactgrad.tomography.verify_job import _cut

    made = simulate.make(read_job(job(SCAN), simulate.Job)[0])
    low, size = np.array([2, 3, 1]), np.array([4, 3, 4])
    part = _cut(made.data, low, size, np.array([9, 9]))
    inside = tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))
    rng, shape = np.random.default_rng(0), made.data.geometry.volume_shape
    fields = {"A": np.zeros(shape), "B": np.zeros(shape), "axis": np.broadcast_to([0.6, 0.0, 0.8], (*shape, 3))}
    fields["A"][inside], fields["B"][inside] = rng.random(size), rng.normal(size=size)
    whole = TomographyProblem(made.data).forward(**fields)
    seen = TomographyProblem(part).forward(**{name: values[inside] for name, values in fields.items()})
    for n in range(len(whole)):  # the window is the part of the image that is not dark
        bright = np.argwhere(whole[n].sum(axis=2) > 1e-12)
        (j0, k0), (j1, k1) = bright.min(axis=0), bright.max(axis=0) + 1
        found = np.argwhere(seen[n].sum(axis=2) > 1e-12).min(axis=0)
        here = seen[n, found[0] : found[0] + j1 - j0, found[1] : found[1] + k1 - k0]
        assert np.abs(here - whole[n, j0:j1, k0:k1]).max() < 1e-12
        assert abs(seen[n].sum() - whole[n].sum()) < 1e-9


def test_pixels_with_too_many_samples_are_refused_in_one_line(job):
    with pytest.raises(InputError, match="take fewer domains"):
        verified(job(CRYSTAL.replace("mosaic_domains = 2", "mosaic_domains = 50000")))


def test_every_system_says_what_its_jobs_are():
    for system in find_systems().values():
        assert system.jobs and all(system.job_tables()), system.name

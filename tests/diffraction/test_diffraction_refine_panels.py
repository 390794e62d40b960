"""Refinement of a detector of panels: shared and own numbers, panels that move together, their figure."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from exactgrad.core import verify
from exactgrad.diffraction.formats import dials, nexus
from exactgrad.diffraction.from_job import shots
from exactgrad.diffraction.job import check_job
from exactgrad.diffraction.losses import observe
from exactgrad.diffraction.problem import DiffractionProblem, look_around_spots
from exactgrad.diffraction.redraw import redraw
from exactgrad.diffraction.refine import refine
from exactgrad.diffraction.refine_job import plan_of, recorded_images, refine_table
from exactgrad.diffraction.simulator import Simulator
from exactgrad.errors import InputError

CRYSTAL = {"cell": [40, 45, 50, 90, 95, 90], "misset": [5, 6, 7], "default_F": 120, "N": 12, "shape": "gauss"}
CRYSTAL |= {"mosaic": 0.3, "mosaic_domains": 4}
SHIFT_MM = {"fast": 0.11, "slow": -0.07}  # of panels 0 and 1 together
FREE = ["panel_shift_fast", "panel_shift_slow", "scale", "misset_z"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four panels of 60 x 50 pixels about the beam, the first one turned; two images were recorded."""
    base = tmp_path_factory.mktemp("panels")
    panels = []
    for number, (x, y) in enumerate([(-22.0, -18.0), (2.0, -18.0), (-22.0, 2.0), (2.0, 2.0)]):
        angle = np.radians(6.0 if number == 0 else 0.0)
        panels.append(
            {
                "origin": [x, y, 80.0],
                "fast_axis": [np.cos(angle), np.sin(angle), 0.0],
                "slow_axis": [-np.sin(angle), np.cos(angle), 0.0],
                "image_size": [60, 50],
                "pixel_size": [0.35, 0.35],
            }
        )
    tables = {
        "__id__": "ExperimentList",
        "experiment": [{"beam": 0, "detector": 0}],
        "beam": [{"direction": [0.0, 0.0, -1.0], "wavelength": 1.0}],
        "detector": [{"panels": panels}],
    }
    (base / "panels.expt").write_text(json.dumps(tables))
    scene = job(base, image=[{}, {"phi": 25.0, "fluence": 4e27}])
    truth = shots(check_job(scene, "job"), base)
    rng = np.random.default_rng(4)
    for place, shot in enumerate(truth):
        settings = shot.settings
        if shot.panel in (0, 1):
            settings = settings.replace({f"panel_shift_{axis}": by for axis, by in SHIFT_MM.items()})
        np.save(base / f"seen_{place}.npy", rng.poisson(Simulator(settings).image() + 2.0))
    return base


def job(base, **more):
    detector = {"geometry": str(base / "panels.expt"), "panel": "all", "oversample": 1}
    return {"crystal": CRYSTAL, "beam": {"fluence": 2e27}, "detector": detector, "output": {"figures": False}} | more


def task(base, images=2, **refine_keys):
    table = {"data": [str(base / f"seen_{place}.npy") for place in range(4 * images)], "free": FREE, "positions": False}
    table |= {"per_panel": ["panel_shift_fast", "panel_shift_slow"], "panel_groups": [[1, 0], [2, 3]]}
    table |= {"stages": [["panels"], ["all"]], "figures": False}
    image = [{}, {"phi": 25.0, "fluence": 4e27}][:images]
    return job(
        base, image=image, refine={key: value for key, value in (table | refine_keys).items() if value is not None}
    )


def plan(base, **refine_keys):
    checked = check_job(task(base, **refine_keys), "job")
    todo = shots(checked, base)
    return plan_of(refine_table(checked, "job"), todo, checked, base)


def labels(base, **refine_keys):
    return [member.label for member in plan(base, **refine_keys)[1].members]


def test_a_known_shift_of_two_tied_panels_is_found(folder, tmp_path):
    summary = refine(task(folder, per_image=["scale"], figures=True), tmp_path / "run")
    rows = {row["name"]: row for row in summary["parameters"]}
    assert summary["status"] == "converged" and 0.9 < summary["chi2"] < 1.1
    assert len(rows) == 7  # two shifts of two groups, two fluences, one angle
    for axis, by in SHIFT_MM.items():
        for owner, truth in (("panels 0 1", by), ("panels 2 3", 0.0)):
            row = rows[f"panel_shift_{axis} of {owner}"]
            assert abs(row["value"] - truth) < 4.5 * row["esd"], row
            assert row["esd"] < 0.02
    for number, truth in ((1, 2e27), (2, 4e27)):
        row = rows[f"fluence of image {number}"]
        assert abs(row["value"] - truth) < 4.5 * row["esd"], row


def test_all_panels_are_drawn_where_they_lie(folder, tmp_path):
    refine(task(folder, images=1, figures=True, max_iterations=1), tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "All 4 panels" in page and (tmp_path / "run" / "figure_panels.png").exists()
    pictures, again = redraw(tmp_path / "run")
    assert "figure_panels" in pictures and "All 4 panels" in again
    with h5py.File(tmp_path / "run" / "result.h5") as handle:
        frames = np.array([handle[f"images/{place}/frame"][:] for place in range(4)])
    np.testing.assert_allclose(frames[1:, 1:3] / 0.35e-3, [np.eye(3)[:2]] * 3, atol=1e-9)
    assert frames[0, 1] @ [0, 1, 0] == pytest.approx(0.35e-3 * np.sin(np.radians(6.0)))
    np.testing.assert_allclose(frames[:, 3], [[0, 0, 1]] * 4, atol=1e-12)


def test_a_panel_lies_in_the_figure_where_it_lies_in_space(folder):
    """A bright pixel of a turned panel: its place in the figure, by matplotlib, is that of the ray, by hand."""
    from exactgrad.diffraction.refinement import figures
    from exactgrad.diffraction.refinement.shown import Compared, Shown
    from exactgrad.diffraction.spots import Regions

    angle = np.radians(30.0)
    axes = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0]])
    flat = np.array([[-0.02, -0.01, 0.1], [1e-3, 0, 0], [0, 1e-3, 0], [0, 0, 1]])
    turned = np.array([[0.01, 0.0, 0.1], *(1e-3 * axes), [0, 0, 1]])
    one = Compared(np.array([2, 3]), np.array([1, 4]), *np.array([[9.0, 1.0]] * 3))
    regions = Regions(np.array([[0, 9, 0, 7]]), np.zeros((10, 8), dtype=np.int32))
    shown = Shown([one] * 2, [np.zeros(2)] * 2, [regions] * 2, [flat, turned], [0, 0], ["a"], np.eye(1), [])
    fig = figures.panels_plot(shown, [0, 1])
    drawn = fig.axes[0].images[1]
    to_mm = drawn.get_transform() - fig.axes[0].transData
    found = to_mm.transform([4.5, 3.5])  # the middle of pixel (3, 4)
    np.testing.assert_allclose(found, 1e3 * (turned[0] + 4.5e-3 * axes[0] + 3.5e-3 * axes[1])[:2], atol=1e-9)
    (left, right), (bottom, top) = fig.axes[0].get_xlim(), fig.axes[0].get_ylim()
    assert (
        left < -20 and right > 10 + 8 * np.cos(angle) and top < -10 and bottom > 8 * np.sin(angle) + 10 * np.cos(angle)
    )


def test_owners_of_numbers(folder):
    assert labels(folder)[:2] == ["panel_shift_fast of panels 0 1", "panel_shift_fast of panels 2 3"]
    members = plan(folder)[1].members
    assert [member.images for member in members[:2]] == [(0, 1, 4, 5), (2, 3, 6, 7)]
    assert members[-1].images == tuple(range(8)) and members[-1].label == "misset_z"
    own = labels(folder, panel_groups=[[2, 0]])
    assert [label[17:] for label in own[:3]] == ["of panels 0 2", "of panel 1", "of panel 3"]
    of_images = plan(folder, per_image=["orientation", "scale"], free=["orientation", *FREE[:3]])[1].members
    angles = {member.label: member.images for member in of_images if member.name == "misset_x"}
    assert angles == {"misset_x of image 1": (0, 1, 2, 3), "misset_x of image 2": (4, 5, 6, 7)}
    together = labels(folder, per_image=["scale"], image_groups=[[1, 2]])
    assert "fluence" in together


def test_one_nexus_file_has_all_panels_of_all_images(folder, tmp_path):
    seen = [np.load(folder / f"seen_{place}.npy").astype(np.int32) for place in range(8)]
    nexus.write(
        tmp_path / "all.nxs", [np.stack([seen[i], seen[i + 4]]) for i in range(4)], dials.read(folder / "panels.expt")
    )
    tables = task(folder, data=[str(tmp_path / "all.nxs")])
    checked = check_job(tables, "job")
    todo = shots(checked, folder)
    read = recorded_images(refine_table(checked, "job"), todo, checked, folder)
    for one, image in zip(read, seen, strict=True):
        np.testing.assert_array_equal(one.photons, image)
    checked = check_job(tables | {"image": [{}]}, "job")
    with pytest.raises(InputError, match="2 frames of 4 panels where the job has 4 images"):
        recorded_images(refine_table(checked, "job"), shots(checked, folder), checked, folder)
    tables["detector"] |= {"geometry": str(tmp_path / "all.nxs")}  # the same detector, turned into McStas' frame
    for one, other in zip(shots(check_job(tables, "job"), folder), todo, strict=True):
        ours, theirs = (settings.detector.detector() for settings in (one.settings, other.settings))
        assert ours.close_distance_m == pytest.approx(theirs.close_distance_m)
        assert np.linalg.norm(ours.origin) == pytest.approx(np.linalg.norm(theirs.origin))


def test_exact_gradient_with_panels_that_move_together(folder):
    images, chosen = plan(folder, per_image=["scale"], free=["panels", "scale"], per_panel=["panels"])
    exposures = []
    for place, settings in enumerate(images):
        seen = observe(np.load(folder / f"seen_{place}.npy"))
        exposures.append(look_around_spots(settings, seen, 3.0))
    problem = DiffractionProblem(exposures, chosen.members)
    assert problem.size == 2 * 6 + 2
    x = problem.start(1)
    check = verify.check_gradient(problem, x, directions=1)
    assert check.passed, check
    value, gradient = problem.value_and_gradient(x)
    total, forward, _ = problem.residual_products(x)
    assert total == pytest.approx(value * problem.pixels, rel=1e-13)
    np.testing.assert_allclose(forward, gradient * problem.pixels, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"per_panel": ["misset_z"]}, "refine.per_panel: misset_z is not of the detector"),
        ({"per_panel": ["scale"]}, "refine.per_panel: fluence is not of the detector"),
        ({"per_panel": ["panel_rot_fast"]}, "refine.per_panel: panel_rot_fast is not free"),
        ({"per_image": ["panel_shift_fast"]}, "refine.per_panel: panel_shift_fast is named twice"),
        ({"panel_groups": [[0, 4]]}, "refine.panel_groups: no panel 4; there are 0 to 3"),
        ({"panel_groups": [[0, 1], [1]]}, "refine.panel_groups: panel 1 is named twice"),
        ({"panel_groups": [[-1]]}, "panel_groups"),
        ({"panel_groups": [[]]}, "panel_groups"),
        ({"per_panel": None}, "refine.panel_groups: belongs to per_panel"),
        ({"image_groups": [[1, 2]]}, "refine.image_groups: belongs to per_image"),
        ({"image_groups": [[0, 1]], "per_image": ["scale"]}, "refine.image_groups: no image 0; there are 1 to 2"),
    ],
)
def test_what_cannot_be_shared_out_is_told(folder, keys, says):
    with pytest.raises(InputError) as caught:
        plan(folder, **keys)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_one_panel_has_no_panels_of_its_own(folder):
    tables = task(folder, images=1)
    tables["detector"] |= {"panel": 2}
    tables["refine"] |= {"data": ["a.npy"]}
    checked = check_job(tables, "job")
    with pytest.raises(InputError, match=r"there is one panel; detector\.panel = "):
        plan_of(refine_table(checked, "job"), shots(checked, Path()), checked, Path())

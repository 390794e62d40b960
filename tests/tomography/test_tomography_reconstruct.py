"""The fits of a reconstruction: starts, weights, basins; a whole run, its interruption and its refusals."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import h5py
import numpy as np
import pytest
from tomography_cases import golden_mumott, golden_plain

from exactgrad.core import checkpoint
from exactgrad.core.lbfgs import Status
from exactgrad.core.solve import Budget, Search, Stage, exit_code, run
from exactgrad.errors import FolderInUse, InputError
from exactgrad.tomography import basin, choose_weight, curvature, formats, run_folder, starts, uniaxial
from exactgrad.tomography.compare import axis_error_deg, compare
from exactgrad.tomography.formats.result import read_truth
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.reconstruct import reconstruct, resume
from exactgrad.tomography.reconstruct_job import Job, RegularisationTable
from exactgrad.tomography.scaling import InUnits, steps_of
from exactgrad.tomography.simulate import simulate
from exactgrad.tomography.stages import Fit, Journal, Plan
from exactgrad.tomography.tensor import ENTRIES

SCAN = {
    "phantom": {"name": "fibres", "shape": [9, 9, 8], "seed": 2},
    "scan": {"projections": 24, "segments": 6},
    "measure": {"scale": 100.0},
}
QUICK = {
    "solve": {"path_iterations": 12, "tolerance": 1e-5},
    "quality": {"samples": 2, "split_half": True},
    "output": {"figures": False},
    "basin": {"rounds": 1},
}
RESULT_KEYS = (
    "A", "B", "axis", "mask", "mean_intensity", "anisotropy", "sigma/A", "sigma/B", "sigma/axis_deg", "theta_op",
    "phi_op", "residual/pixel", "residual/segment", "halves/correlation",
)  # fmt: skip


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "data.h5"
    simulate(SCAN, path)
    return path


@pytest.fixture(scope="module")
def finished(data_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    return folder, reconstruct(data_file, folder, QUICK)


def test_a_run_finds_axes_and_signs_from_the_data_alone(finished, data_file):
    folder, summary = finished
    assert summary["status"] == "converged"
    assert exit_code(summary) == 0
    errors = compare(folder, data_file)
    assert errors["axis_error_median_deg"] < 5.0
    assert errors["wrong_sign_fraction"] <= 0.03
    assert errors["lost_fraction"] == 0.0


def test_a_run_takes_no_more_threads_than_it_was_given(data_file, tmp_path, monkeypatch):
    """Fits, replicas and halves: a neighbour on a shared machine was promised the other cores."""
    asked, real = [], TomographyProblem.limit_threads
    monkeypatch.setattr(TomographyProblem, "limit_threads", lambda own, most: asked.append(most) or real(own, most))
    reconstruct(data_file, tmp_path / "out", QUICK, threads=1)
    assert set(asked) == {1}


def test_a_run_leaves_what_the_contract_names_and_no_checkpoint(finished):
    folder, summary = finished
    with h5py.File(folder / "result.h5") as result:
        for key in RESULT_KEYS:
            assert key in result, key
        mask = result["mask"][()].astype(bool)
        assert np.isfinite(result["sigma/axis_deg"][()][mask]).all()
        assert (result["A"][()][mask] > 0).all()
        np.testing.assert_allclose(np.linalg.norm(result["axis"][()][mask], axis=-1), 1.0, rtol=1e-12)
    assert json.loads((folder / "summary.json").read_text()) == json.loads(json.dumps(summary))
    assert {entry.name for entry in folder.iterdir()} >= {"report.html", "run.json", "summary.json", "result.h5"}
    assert not (folder / checkpoint.NAME).exists() and not (folder / run_folder.JOURNAL).exists()


@pytest.mark.parametrize("after", [3, 130])
def test_an_interrupted_run_goes_on_bit_for_bit(finished, data_file, tmp_path, after):
    seen = []

    def interrupt(event):
        seen.append(event)
        if len(seen) == after:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = reconstruct(data_file, tmp_path / "out", QUICK, on_event=interrupt)
    assert stopped["status"] == "interrupted" and exit_code(stopped) == 130
    summary = resume(tmp_path / "out")
    assert summary["status"] == "converged"
    with h5py.File(finished[0] / "result.h5") as whole, h5py.File(tmp_path / "out" / "result.h5") as parts:
        for key in ("A", "B", "axis", "sigma/B"):
            np.testing.assert_array_equal(whole[key][()], parts[key][()], err_msg=key)


def test_a_budget_ends_a_run_and_a_larger_one_carries_it_on(data_file, tmp_path):
    summary = reconstruct(data_file, tmp_path / "out", QUICK, overrides={"max_iterations": 3}, threads=1)
    assert summary["status"] == "budget" and exit_code(summary) == 3
    assert (tmp_path / "out" / "result.h5").exists()
    with pytest.raises(FolderInUse, match="results of a run"):
        reconstruct(data_file, tmp_path / "out", QUICK)
    assert resume(tmp_path / "out", overrides={"max_iterations": 1000})["status"] == "converged"
    with pytest.raises(InputError, match="finished"):
        resume(tmp_path / "out")


def test_bad_input_is_told_in_one_line_and_nothing_is_written(data_file, tmp_path):
    with pytest.raises(InputError, match=r"solve\.steps: unknown key"):
        reconstruct(data_file, tmp_path / "out", {"solve": {"steps": 3}})
    with pytest.raises(InputError, match="no such file"):
        reconstruct(tmp_path / "none.h5", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_changed_data_stop_a_resume(data_file, tmp_path):
    copy = tmp_path / "data.h5"
    copy.write_bytes(data_file.read_bytes())
    reconstruct(copy, tmp_path / "out", QUICK, overrides={"max_iterations": 1})
    with h5py.File(copy, "a") as handle:
        handle["projections/0/data"][0, 0, 0] += 1.0
    with pytest.raises(InputError, match="has changed"):
        resume(tmp_path / "out")


def test_a_journal_of_another_job_is_refused_and_a_damaged_one_told(tmp_path):
    journal = Journal()
    journal.add("mean", {"mask": np.ones(3)}, np.array([2.0, 1.0]), np.array([1.0, 2.0, 0.5]))
    journal.add("all", {"x": np.zeros(2)}, np.array([1.0]), np.array([1.0, 1.0, 0.5]))
    run_folder.save_journal(tmp_path, journal, "one")
    assert list(run_folder.load_journal(tmp_path, "one").arrays) == list(journal.arrays)
    assert run_folder.load_journal(tmp_path, "one").spent().tolist() == [2.0, 3.0, 1.0]
    with pytest.raises(InputError, match="another job"):
        run_folder.load_journal(tmp_path, "two")


# Starts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("golden", [lambda: golden_plain("g1_seed_frame.h5"), golden_mumott])
def test_the_hull_loses_no_voxel_of_the_sample(golden):
    data, truth = golden()
    hull = starts.hull_of(TomographyProblem(data), 1e-3)
    support = truth["A"] > 0
    assert not (support & ~hull).any()
    assert hull.sum() < 2.2 * support.sum()


def test_a_scan_without_empty_rays_keeps_all_voxels():
    data, _ = golden_plain("g3_needles.h5")
    lit = TomographyProblem(data).with_data(type(data)(data.geometry, np.asarray(data.data) + 1.0))
    assert starts.hull_of(lit, 1e-3).all()


def test_the_tensor_tells_axis_and_sign_of_one_voxel():
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(50, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    B = np.where(np.arange(50) % 2, 1.5, -1.5)
    q = rng.normal(size=(4000, 3))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    density = uniaxial.Uniaxial().density(np.column_stack([np.ones(50), B, axes]), q)
    products = np.stack([q[:, i] * q[:, k] * (1 if i == k else 2) for i, k in ENTRIES], axis=1)
    T = np.linalg.lstsq(products, density.T, rcond=None)[0].T
    start = starts.uniaxial_from_tensor(T, 1.0)
    assert (np.sign(start["B"]) == np.sign(B)).all()
    assert axis_error_deg(start["axis"], axes).max() < 2.0


# The weight ----------------------------------------------------------------------------------------------------------


def test_held_out_pixels_are_not_fitted_and_all_others_are():
    data, _ = golden_mumott()
    fitted, held = choose_weight.hold_out(data, 0.1, 3)
    for n in (0, 5):
        one, other, whole = (part.projection(n)[1] for part in (fitted, held, data))
        np.testing.assert_array_equal(one + other, whole)
        assert not ((one > 0) & (other > 0)).any()
        assert 0.02 < (other > 0).any(axis=2).mean() < 0.2


def test_the_weight_that_predicts_best_is_chosen_once_two_smaller_ones_were_tried():
    base = np.random.default_rng(0).uniform(5, 6, 40)
    costs = [base + 1.0, base + 0.002, base, base + 0.1, base + 0.2]
    assert choose_weight.choose(costs) == (2, True)
    assert choose_weight.choose(costs[:4]) == (2, False)
    assert choose_weight.choose([*costs, base - 0.1]) == (5, False)


def test_the_unit_makes_a_weight_independent_of_the_datas_unit():
    data, _ = golden_plain("g1_seed_frame.h5")
    table = RegularisationTable()
    for cost, power in (("sqrt", 1), ("gaussian", 2)):
        weights = []
        for factor in (1.0, 1e4):
            problem = TomographyProblem(type(data)(data.geometry, factor * np.asarray(data.data)), cost=cost)
            unit = choose_weight.unit_of(problem)
            weights.append(choose_weight.regularisation_of(table, 0.1, unit).smooth["axis"])
        assert weights[1] / weights[0] == pytest.approx(1e4**power, rel=1e-9)


# Basins --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trapped():
    """G2's truth with voxels put into the other basin, and a fit that cannot leave it."""
    data, truth = golden_mumott()
    support = truth["A"] > 0
    problem = TomographyProblem(data, mask=support)
    from exactgrad.tomography.sphere import axis_from_angles

    axis = axis_from_angles(truth["theta_op"], truth["phi_op"])
    A, B = truth["A"] * np.sqrt(truth["scale"]), truth["B"].copy()
    voxels = np.argwhere(support & (np.abs(B) > 1.5))[::29]
    for at in map(tuple, voxels):
        across = np.cross(axis[at], np.eye(3)[np.argmin(np.abs(axis[at]))])
        A[at], B[at], axis[at] = A[at] * np.exp(-0.5 * B[at]), -0.5 * B[at], across
    x = problem.vector(A=A, B=B, axis=np.where(support[..., None], axis, [0.0, 0.0, 1.0]))
    return problem, fit(problem, x), truth, voxels


def fit(problem, x, iterations=40):
    units = InUnits(problem, choose_weight.unit_of(problem))
    return run([Stage(units, iterations)], Search.begin([x]), Budget(tolerance=1e-7, memory=12)).x


def test_swaps_find_the_voxels_in_the_wrong_basin(trapped):
    problem, x, truth, voxels = trapped
    wrong = [at for at in map(tuple, voxels) if np.sign(problem.fields(x)["B"][at]) != np.sign(truth["B"][at])]
    assert len(wrong) >= 3  # a gradient does not lead out of the basin
    for turn in range(3):
        moved = basin.swapped(problem, x, turn)
        if moved is None:
            break
        y = fit(problem, moved[0])
        if problem.value_and_gradient(y)[0] >= problem.value_and_gradient(x)[0]:
            break
        x = y
    still = [at for at in wrong if np.sign(problem.fields(x)["B"][at]) != np.sign(truth["B"][at])]
    assert len(still) <= len(wrong) // 3


def test_the_predicted_change_is_that_of_the_cost():
    data, truth = golden_plain("g3_needles.h5")  # needles alone on their rays: footprints are whole pixels
    problem = TomographyProblem(data, mask=truth["A"] > 0, cost="gaussian")
    x = problem.vector(A=1.1 * truth["A"], B=truth["B"] + 0.2, theta_op=truth["theta_op"], phi_op=truth["phi_op"])
    rows = problem.rows(x)
    offers = basin.offers_of(rows)
    change, amplitude = basin.changes(problem, x, offers)
    for c in (0, 3):
        moved = rows.copy()
        moved[0, 0], moved[0, 1], moved[0, 2:] = amplitude[c, 0], offers.B[c, 0], offers.axis[c, 0]
        y = problem.vector(x, **problem.volumes(moved))
        at = problem.value_and_gradient(x)[0]
        exact = problem.value_and_gradient(y)[0] - at
        linear = change[c, 0]
        assert np.sign(exact) == np.sign(linear) or abs(exact) < 0.1 * at
        assert exact <= linear * 3 + at


def test_no_swap_is_offered_where_the_model_is_exact():
    data, truth = golden_plain("g1_seed_frame.h5")
    problem = TomographyProblem(data, mask=truth["A"] > 0)
    x = problem.vector(**{name: truth[name] for name in ("A", "B", "theta_op", "phi_op")})
    assert basin.swapped(problem, x) is None


# Steps ---------------------------------------------------------------------------------------------------------------


def test_steps_take_lengths_and_nearly_all_that_A_and_B_share_out_of_the_curvature():
    data, truth = golden_plain("g3_needles.h5")  # needles alone on their rays: footprints are whole pixels
    problem = TomographyProblem(data, mask=truth["A"] > 0)
    x = problem.vector(A=truth["A"], B=-truth["B"], theta_op=truth["theta_op"], phi_op=truth["phi_op"])
    x[2 * problem.voxels :] *= 1.7  # an axis of any length
    steps, V = steps_of(problem, x, 3.0), problem.voxels
    pushed = [steps.back(problem.gauss_newton_product(x, steps.out(one))) / 3.0 for one in np.eye(x.size)]
    bare = np.array([problem.gauss_newton_product(x, one) for one in np.eye(x.size)])
    stepped, bare = (np.array(m).reshape(5, V, 5, V)[:, range(V), :, range(V)] for m in (pushed, bare))
    np.testing.assert_allclose(curvature.FOOTPRINT * stepped[:, 0, 0], 1.0, rtol=1e-2)
    turns = curvature.FOOTPRINT * np.trace(stepped[:, 2:, 2:], axis1=1, axis2=2)
    np.testing.assert_allclose(turns[truth["B"][problem.mask] != 0], 2.0, rtol=2e-2)
    alike = [m[:, 0, 1] / np.sqrt(m[:, 0, 0] * m[:, 1, 1]) for m in (bare, stepped)]
    stretch = [(1 + np.abs(c)) / (1 - np.abs(c)) for c in alike]
    assert stretch[0].max() > 100.0 and stretch[1].max() < 0.2 * stretch[0].max()


def test_steps_are_a_linear_change_and_its_transpose():
    data, truth = golden_plain("g3_needles.h5")
    problem = TomographyProblem(data, mask=truth["A"] > 0)
    x = problem.vector(A=truth["A"], B=truth["B"], theta_op=truth["theta_op"], phi_op=truth["phi_op"])
    steps = steps_of(problem, x, 3.0)
    rng = np.random.default_rng(0)
    y, g = rng.normal(size=(2, x.size))
    np.testing.assert_allclose(steps.into(steps.out(y)), y, rtol=1e-12)
    assert steps.out(y) @ g == pytest.approx(y @ steps.back(g), rel=1e-12)
    assert np.any(np.abs(steps.c) > 0.5 * steps.a)  # A goes along with B


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_steps_make_fits_short(sign):
    from exactgrad.tomography.sphere import axis_from_angles

    data, truth = golden_mumott()
    problem = TomographyProblem(data, mask=truth["A"] > 0)
    B = sign * np.abs(truth["B"])
    axis = axis_from_angles(truth["theta_op"] + 0.3, truth["phi_op"])
    A = np.sqrt(truth["scale"]) * truth["A"]
    seen = problem.forward(A=A, B=B, theta_op=truth["theta_op"], phi_op=truth["phi_op"])
    problem = problem.with_data(replace(problem.data, data=seen))
    x = problem.vector(A=1.2 * A, B=0.7 * B, axis=axis)
    unit = choose_weight.unit_of(problem)
    steps = steps_of(problem, x, unit)
    plain = run([Stage(InUnits(problem, unit), 60)], Search.begin([x]), Budget(tolerance=0.0, memory=12))
    units = InUnits(problem, unit, steps)
    short = run([Stage(units, 30)], Search.begin([steps.into(x)]), Budget(tolerance=0.0, memory=12))
    assert short.loss < plain.loss


# The plan ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rounds", "before", "still"), [(3, [0], True), (3, [0, 5], True), (3, [0, 5, 1], False), (0, [0], False)]
)
def test_voxels_are_swapped_on_the_way_until_few_are(rounds: int, before: list[int], still: bool):
    data, _ = golden_plain("g1_seed_frame.h5")
    plan = Plan(data, Job.model_validate({"basin": {"rounds": rounds}}))
    journal = Journal({f"weight {n + 1}/swapped": np.array(count) for n, count in enumerate(before)})
    assert plan._still_swaps(journal, "weight", 2000) is still


def costs_of(totals):
    """Costs of five projections, which tell weights apart well."""
    return [np.full(5, total / 5) for total in totals]


@pytest.mark.parametrize(
    ("first", "second", "descent", "is_over"),
    [
        ([5.0, 4.0], [], "weight", False),
        ([5.0, 4.0, 3.0, 3.1, 3.2], [], "weight", True),  # chosen above where the second would begin
        ([9, 8, 7, 6, 5, 4, 3, 2.8, 2.5, 2.6, 2.7], [], "again", False),
        ([9, 8, 7, 6, 5, 4, 3, 2.8, 2.5, 2.6, 2.7], [3.5], "again", False),
        ([9, 8, 7, 6, 5, 4, 3, 2.8, 2.5, 2.6, 2.7], [3.5, 2.5], "again", True),  # no better at the same weight
        ([9, 8, 7, 6, 5, 4, 3, 2.5, 2.6, 2.7], [], "weight", True),  # the second would begin at the best
        ([9, 8, 7, 6, 5, 4, 3, 2.8, 2.5, 2.6, 2.7], [3.5, 2.4], "again", False),
        ([9, 8, 7, 6, 5, 4, 3, 2.8, 2.5, 2.6, 2.7], [3.5, 2.4, 2.5, 2.6], "again", True),
    ],
)
def test_a_small_weight_is_looked_for_twice(first, second, descent, is_over):
    data, _ = golden_plain("g1_seed_frame.h5")
    plan = Plan(data, Job())
    held = {f"weight {n + 1}/held": costs for n, costs in enumerate(costs_of(first))}
    held |= {f"again {n + 1}/held": costs for n, costs in enumerate(costs_of(second))}
    journal = Journal(held)
    assert plan._descent(journal) == descent
    assert plan._is_over(journal, descent) is is_over


@pytest.mark.parametrize(("second", "weight"), [([3.5, 2.4, 2.2, 2.5, 2.6], -3.25), ([3.5, 2.6], -3.0)])
def test_the_better_way_down_is_kept(second, weight):
    data, truth = golden_plain("g1_seed_frame.h5")
    plan = Plan(data, Job())
    volumes = {name: truth[name] for name in ("A", "B", "theta_op", "phi_op")}
    found = {"mean/mask": (truth["A"] > 0).astype(np.uint8)}
    x = plan.whole.with_mask(truth["A"] > 0).vector(**volumes)
    for name, totals in (("weight", [9, 8, 7, 6, 5, 4, 3, 2.8, 2.5, 2.6, 2.7]), ("again", second)):
        for n, costs in enumerate(costs_of(totals), 1):
            found |= {f"{name} {n}/held": costs, f"{name} {n}/x": x * (1.0 + 0.01 * n * (name == "again"))}
    journal = Journal(found)
    plan.after(Fit(f"again {len(second)}", "", None, x, 1, 0.0, dict), journal)
    assert plan.weight(journal) == pytest.approx(10.0**weight)
    grown = journal.arrays["chosen/x"][0] / x[0]  # an amplitude
    assert grown == pytest.approx(1.03 if len(second) == 5 else 1.0)
    assert not [name for name in journal.arrays if name.startswith(("weight ", "again ")) and name.endswith("/x")]


def test_bright_rings_do_not_tell_dim_needles_their_sign(tmp_path):
    """Needles in the core, 50 times dimmer than the rings around them, at the largest weight of the path."""
    scan = {
        "phantom": {"name": "rings", "shape": [14, 14, 14], "seed": 1},
        "scan": {"projections": 40, "segments": 8},
        "measure": {"scale": 50.0},
    }
    simulate(scan, tmp_path / "rings.h5")
    truth = read_truth(tmp_path / "rings.h5")
    plan, journal = Plan(formats.load(tmp_path / "rings.h5"), Job()), Journal()
    for _ in range(2):
        done(plan, journal, plan.next(journal))
    needles = truth.B[plan.mask(journal) & (truth.A > 0)] > 0
    wrong = []
    for is_told in (False, True):
        fit_now = plan.next(journal)
        scaled = fit_now.problem
        problem = scaled.problem
        if is_told:
            problem = problem.with_regularisation(replace(problem.regularisation, light=None))
        x = run([Stage(InUnits(problem, scaled.unit, scaled.steps), 60)], Search.begin([fit_now.x]), Budget()).x
        B = problem.fields(scaled.steps.out(x))["B"][plan.mask(journal) & (truth.A > 0)]
        wrong.append(float(np.mean(B[needles] < 0)))
    assert wrong[0] <= 0.15 and wrong[1] >= 0.9


def test_voxels_that_came_out_empty_leave_the_last_fits_and_the_weight_means_the_same():
    data, truth = golden_plain("g1_seed_frame.h5")
    plan = Plan(data, Job())
    first = np.ones(data.geometry.volume_shape, bool)
    problem = plan.whole.with_mask(first)
    axis = np.broadcast_to([0.0, 0.6, 0.8], (*first.shape, 3))
    bright = truth["A"] > 0
    A = np.where(bright, 1.0, 1e-4)  # 1e-8 of a bright voxel's mean intensity
    A[0, 0, 0] = 0.02  # 4e-4 of it: dim, and there
    x = problem.vector(A=A, B=2.0, axis=axis)
    journal = Journal({"mean/mask": first, "mean/mean": A, "weight": np.array(0.01)})
    before = plan.problem(journal).regularisation
    journal.arrays |= plan._without_empty(journal, x)
    after = plan.problem(journal)
    bright[0, 0, 0] = True
    assert np.array_equal(after.mask, bright) and after.voxels < problem.voxels
    kept = after.fields(journal.arrays["chosen/x"])
    np.testing.assert_allclose(kept["A"], np.where(bright, A, 0.0), rtol=1e-14)
    np.testing.assert_allclose(kept["axis"][bright], axis[bright], rtol=1e-14)
    assert after.regularisation.smooth == before.smooth


def done(plan, journal, fit_now):
    search, budget = Search.begin([fit_now.x]), Budget(tolerance=fit_now.tolerance)
    x = run([Stage(fit_now.problem, fit_now.iterations)], search, budget).x
    journal.add(fit_now.name, fit_now.keep(x), np.zeros(1), np.zeros(3))


@pytest.mark.parametrize(
    ("counts", "is_needed"),
    [([], False), ([[1, 2.0, 1.9]], False), ([[40, 2.0, 1.9]], True), ([[40, 2.0, 2.1]], False)],
)
def test_a_last_fit_follows_swaps_of_more_than_a_few_voxels(counts, is_needed):
    data, _ = golden_mumott()
    plan, mask = Plan(data, Job()), np.ones(data.geometry.volume_shape, np.uint8)
    problem = plan.whole.with_mask(mask.astype(bool))
    journal = Journal({"mean/mask": mask, "mean/mean": mask.astype(float), "weight": np.array(1e-2)})
    journal.arrays |= {"all/x": problem.start(0)}
    journal.arrays |= {f"swap {n + 1}/counts": np.array(values) for n, values in enumerate(counts)}
    found = plan._last(journal)
    assert (found is not None) is is_needed
    assert found is None or (found.name == "last" and found.is_final)


def test_a_stopped_plan_gives_a_vector_at_every_stage():
    data, _ = golden_plain("g1_seed_frame.h5")
    plan, journal = Plan(data, Job()), Journal()
    for expected in ("mean", "tensor", "weight 1"):
        fit_now = plan.next(journal)
        assert fit_now.name == expected
        problem, x = plan.lifted(journal, fit_now, fit_now.x)
        assert np.isfinite(problem.value_and_gradient(x)[0])
        journal.add(fit_now.name, fit_now.keep(fit_now.x), np.zeros(1), np.zeros(3))
        plan.after(fit_now, journal)
    assert Status.PLATEAU.converged

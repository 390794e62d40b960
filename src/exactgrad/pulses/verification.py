"""`exactgrad verify pulse`: small problems of every kind, and everything that must be true of their gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.core import verify
from exactgrad.core.solve import total_loss
from exactgrad.core.verify import Check, check_against, judge, worst
from exactgrad.pulses import bloch, model
from exactgrad.pulses.planted import by_reference, check_kernel, planted_bugs
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.sweep import Sweep
from exactgrad.pulses.targets import turn
from exactgrad.pulses.trace import OF_SPINS, Walk, names

DATA = Path(__file__).parent / "data"
DIGITS_TOLERANCE = 1e-11  # of max |g|, against 50-digit arithmetic
MOST_SWEPT = 2  # points of a problem that are also checked by sweeps of differences by each quantity
GRAPE_TOLERANCE = 0.1  # on the order of convergence
UNEVEN_US = [4.0, 9.0, 6.0, 12.0, 5.0, 8.0, 11.0, 7.0]

_GRID: dict[str, Any] = {"bandwidth_hz": 16000.0, "offsets": 5, "b1_spread": 0.15, "b1_points": 3}
_JOBS: dict[str, dict[str, Any]] = {
    "excitation": {
        "pulse": {"duration_us": 120.0, "step_us": 10.0},
        "target": {"transfer": ["z", "x"], "phase_slope": 0.3},
        "ensemble": _GRID,
        "limits": {"peak_hz": 9000.0},
    },
    "inversion": {
        "pulse": {"duration_us": 140.0, "step_us": 10.0, "controls": "phase"},
        "target": {"transfer": ["z", "-z"]},
        "ensemble": _GRID,
        "limits": {"peak_hz": 8000.0},
    },
    "universal rotation": {
        "pulse": {"steps_us": UNEVEN_US, "controls": "polar"},
        "target": {"rotation": {"axis": "x", "angle_deg": 90.0}},
        "ensemble": _GRID,
        "limits": {"rms_hz": 7000.0},
    },
    "universal rotation, sign free": {
        "pulse": {"steps_us": UNEVEN_US, "controls": "reduced"},
        "target": {"rotation": {"axis": [1.0, 1.0, 0.5], "angle_deg": 180.0, "sign_free": True}},
        "ensemble": _GRID,
        "limits": {"rms_hz": 9000.0},
    },
    "saturation": {
        "pulse": {"duration_us": 80.0, "step_us": 8.0, "controls": "xyz"},
        "target": {"saturation": "z"},
        "ensemble": _GRID,
        "limits": {"energy_hz2_s": 4000.0},
    },
    "transverse": {
        "pulse": {"duration_us": 80.0, "step_us": 10.0, "controls": "polar-z"},
        "target": {"transverse": "z"},
        "ensemble": _GRID,
        "limits": {"peak_hz": [2000.0, 6000.0, 9000.0, 9000.0, 9000.0, 9000.0, 6000.0, 2000.0], "rms_hz": 4000.0},
    },
    "worst case": {
        "pulse": {"duration_us": 100.0, "step_us": 10.0, "controls": "reduced-z"},
        "target": {"transfer": ["z", "y"]},
        "ensemble": {**_GRID, "objective": "worst", "sharpness": 12.0},
        "limits": {"peak_hz": 9000.0},
    },
    "symmetric": {
        "pulse": {
            "duration_us": 110.0,
            "step_us": 10.0,
            "controls": "xyz",
            "symmetry": {"x": "even", "y": "odd", "z": "odd"},
        },
        "target": {"transfer": ["y", "-y"]},
        "ensemble": _GRID,
    },
    "held": {
        "pulse": {
            "steps_us": UNEVEN_US,
            "hold": [{"from_us": 0.0, "to_us": 5.0}, {"from_us": 30.0, "to_us": 46.0, "ux_hz": 3000.0, "uz_hz": 500.0}],
        },
        "target": {"transfer": ["z", "x"]},
        "ensemble": _GRID,
        "limits": {"rms_hz": 5000.0, "power_map": "tanh"},
    },
    "response": {
        "pulse": {"duration_us": 60.0, "step_us": 5.0},
        "target": {"transfer": ["z", "-y"]},
        "ensemble": _GRID,
        "limits": {"peak_hz": 12000.0},
        "response": {"file": str(DATA / "response.csv")},
    },
    "penalties": {
        "pulse": {"steps_us": UNEVEN_US, "controls": "xyz"},
        "target": {"transfer": ["z", "x"]},
        "ensemble": _GRID,
        "limits": {"peak_hz": 8000.0, "rms_hz": 6000.0, "enforce": "penalty", "penalty_weight": 0.7},
        "penalties": {"smoothness": 0.05},
    },
    "bands": {
        "pulse": {"duration_us": 120.0, "step_us": 10.0},
        "target": {
            "band": [
                {"transfer": ["z", "x"], "offset_hz": [-3000.0, 3000.0], "weight": 2.0},
                {"transfer": ["z", "z"], "offset_hz": [-9000.0, -6000.0]},
                {"rotation": {"axis": "y", "angle_deg": 90.0}, "offset_hz": [6000.0, 9000.0], "b1": [0.9, 2.0]},
            ]
        },
        "ensemble": {**_GRID, "b1_weights": [1.0, 3.0, 2.0]},
    },
    "target map": {
        "pulse": {"duration_us": 100.0, "step_us": 10.0, "controls": "polar"},
        "target": {"map": str(DATA / "target_map.csv"), "start": "z"},
        "ensemble": {},
        "limits": {"peak_hz": 9000.0, "rms_hz": 6000.0, "power_map": "tanh"},
    },
}


def example_problems() -> dict[str, PulseProblem]:
    """Return small problems that together use every kind of control, target, limit, objective and symmetry.

    Examples
    --------
    >>> sorted(example_problems())[:3]
    ['bands', 'excitation', 'held']
    """
    return {name: PulseProblem.from_job(job) for name, job in _JOBS.items()}


def checks(cases: int, seed: int) -> list[Check]:
    """Check the gradients of all example problems, at `cases` random points each, and run the planted bugs.

    Parameters
    ----------
    cases : int
        Random points of each problem, >= 1.
    seed : int
        Of the first point.

    Returns
    -------
    list of Check
    """
    problems = example_problems()
    points = {name: [point(p, seed + i, loud=i % 2 == 0) for i in range(cases)] for name, p in problems.items()}
    found: list[Check] = []
    for name, problem in problems.items():
        found += _problem_checks(name, problem, points[name], seed)
    found += [
        worst(check_quantity(name, problems["bands"], x) for x in points["bands"][:MOST_SWEPT]) for name in names()
    ]
    found += _paper_checks(problems, points)
    found += _simulation_checks(problems, points)
    found += [_adversarial_check(seed), *_singular_checks(), _sweep_check(seed), *_thread_checks()]
    return found + planted_bugs(problems, {name: some[0] for name, some in points.items()})


def point(problem: PulseProblem, seed: int, loud: bool) -> np.ndarray:
    """Return a random point: the start of this seed, or with `loud` one at 4 times its size, so that limits bind."""
    return problem.start(seed) * (4.0 if loud else 1.0)


def _problem_checks(name: str, problem: PulseProblem, points: list[np.ndarray], seed: int) -> list[Check]:
    """Return a row of each kind for one problem: the worst over its points."""
    small = smaller_problem(name)
    hessian = [verify.check_hessian(problem, x, f"Hessian: {name}", seed) for x in points]
    return [
        worst(verify.check_gradient(problem, x, f"gradient: {name}", seed) for x in points),
        digits_check(f"gradient, all digits: {name}", small, point(small, 1, loud=True)),
        worst(verify.check_taylor(problem, x, f"Taylor slope: {name}", seed) for x in points),
        worst(check_kernel(problem, x, f"kernel: {name}") for x in points),
        worst(check_forward(f"forward mode: {name}", problem, x, seed) for x in points),
        worst(pair[0] for pair in hessian),
        worst(pair[1] for pair in hessian),
        worst(verify.check_determinism(problem, x, f"bit-equal: {name}") for x in points),
    ]


def smaller_problem(name: str) -> PulseProblem:
    """Return an example with three spins, or those of its map: small enough for 50 digits."""
    job = dict(_JOBS[name])
    if job["ensemble"]:
        job["ensemble"] = {**job["ensemble"], "offsets": 3, "b1_points": 1, "b1_weights": None}
    return PulseProblem.from_job(job)


def digits_check(name: str, problem: PulseProblem, x: np.ndarray) -> Check:
    """Compare every entry of the gradient with 50-digit arithmetic, or with differences where mpmath is missing."""
    try:
        from exactgrad.pulses.reference.fifty_digits import loss_and_gradient

        reference = loss_and_gradient(problem, x)[1]
    except ImportError:
        loss = total_loss(problem)
        reference = np.array(
            [verify.best_central_difference(lambda y: loss(y)[0], x, v).value for v in np.eye(problem.size)]
        )
        return check_against(
            problem, x, reference, "central differences (mpmath is not installed)", name, verify.GRADIENT_TOLERANCE
        )
    return check_against(problem, x, reference, "50-digit arithmetic", name, DIGITS_TOLERANCE)


def check_forward(name: str, problem: PulseProblem, x: np.ndarray, seed: int) -> Check:
    """Compare g.v of the kernel with the derivative by the tangents of all stages."""
    v = np.random.default_rng(seed).normal(size=x.size)
    _, gradient = problem.value_and_gradient(x)
    scale = max(float(np.linalg.norm(gradient) * np.linalg.norm(v)), 1e-300)
    error = abs(float(gradient @ v) - model.value_tangent(problem, x, v)) / scale
    return judge(name, "tangents of all stages", error, 1e-12)


def check_quantity(name: str, problem: PulseProblem, x: np.ndarray) -> Check:
    """Compare the derivative by a quantity of `trace`, of all steps or spins and of single ones, with differences.

    The derivative is that of the equation sheet; the differences are of the kernel's loss of moved waveforms and spins.
    """
    walk, rows = Walk(problem, x), []
    steps = [None] if name in OF_SPINS else [None, 0, problem.steps - 1]
    for step in steps:
        du, dt = walk.tangents(name, step)
        derivative = float(np.vdot(walk.by_t, dt))
        scale = max(float(np.linalg.norm(walk.by_t) * np.linalg.norm(dt)), 1e-300)

        def loss(h: np.ndarray, du: np.ndarray | None = du) -> float:
            ensemble = problem.ensemble
            offset = ensemble.offset_hz + (h[0] if name == "offset" else 0.0)
            b1 = ensemble.b1 + (h[0] if name == "b1" else 0.0)
            angle = 2 * np.pi * problem.step_s
            waves = walk.u if du is None else _moved(walk.u, du, name, h[0])
            turns = Sweep(offset, b1).turns(np.vstack((angle * waves, angle)))
            return 1.0 - problem.objective.evaluate(problem.cost.evaluate(turns)[0], problem.weight)[0]

        first = {"b1": 0.02, "phase": 20.0}.get(name, 2000.0)  # of a relative field, degrees, Hz
        difference = verify.best_central_difference(loss, np.zeros(1), np.ones(1), first)
        where = "all together" if step is None else f"step {step}"
        error = abs(float(difference.value) - derivative) / scale
        rows.append(judge(f"gradient: {name}", "best central difference", error, verify.GRADIENT_TOLERANCE, where))
    return worst(rows)


def _moved(u: np.ndarray, du: np.ndarray, name: str, h: float) -> np.ndarray:
    """Return waveforms moved by h: along du, or turned by h degrees where du is of a phase."""
    if name != "phase":
        return u + h * du
    turned = np.radians(h) * np.any(du != 0, axis=0)
    cos, sin = np.cos(turned), np.sin(turned)
    return np.stack((cos * u[0] - sin * u[1], sin * u[0] + cos * u[1], u[2]))


def _paper_checks(problems: dict[str, PulseProblem], points: dict[str, list[np.ndarray]]) -> list[Check]:
    """Compare with the paper's own methods by name; first-order GRAPE must differ, and at first order."""
    found = []
    methods = {"tables": 1e-12, "augmented": 1e-12, "finite-difference": 1e-6, "finite-difference-cost": 1e-8}
    words = {
        "tables": "Tables 1, 2, 5 of the paper",
        "augmented": "augmented exponentials (Eqs. 53-56, corrected)",
        "finite-difference": "differences of each step",
        "finite-difference-cost": "differences of the cost",
    }
    for which in ("excitation", "universal rotation"):
        problem, x = problems[which], points[which][0]
        for method, tolerance in methods.items():
            expected = by_reference(method, problem, x)
            found.append(check_against(problem, x, expected, words[method], f"paper: {which}", tolerance))
        found.append(_grape_check(which, problem, x))
    return found


def _grape_check(which: str, problem: PulseProblem, x: np.ndarray) -> Check:
    """Show that the paper's GRAPE gradient is off by an amount that halves with the step."""
    u = problem.chain.apply(x)
    errors = []
    for pieces in (1, 8, 16):
        job = {
            "pulse": {"steps_us": list(np.repeat(problem.step_s * 1e6 / pieces, pieces)), "controls": "xyz"},
            "target": problem.job.target.model_dump(exclude_defaults=True),
            "ensemble": _JOBS[which]["ensemble"],
        }
        fine = PulseProblem.from_job(job)
        y = (np.repeat(u, pieces, axis=1) / fine.scale_hz).ravel()
        summed = [
            g.reshape(3, problem.steps, pieces).sum(axis=-1)
            for g in (by_reference("grape", fine, y), fine.value_and_gradient(y)[1])
        ]
        errors.append(np.abs(summed[0] - summed[1]).max() / np.abs(summed[1]).max())
    order = float(np.log2(errors[1] / errors[2]))
    return judge(
        f"paper: {which}, GRAPE is of first order",
        "GRAPE (Eqs. 6, 14, corrected) at 1/8 and 1/16 of the step",
        abs(order - 1.0),
        GRAPE_TOLERANCE,
        note=f"GRAPE itself is off by {errors[0]:.1e} here; order {order:.2f}",
    )


def _simulation_checks(problems: dict[str, PulseProblem], points: dict[str, list[np.ndarray]]) -> list[Check]:
    """Compare total rotations with the independent simulation (SU(2) products)."""
    found = []
    for name in ("excitation", "saturation", "universal rotation"):
        problem, x = problems[name], points[name][0]
        expected = bloch.propagators(problem.pulse(x), problem.ensemble.offset_hz, problem.ensemble.b1).T
        quality = problem.cost.evaluate(np.ascontiguousarray(expected))[0]
        error = np.abs(problem.qualities(x) - quality).max()
        found.append(judge(f"qualities: {name}", "independent simulation (bloch.py)", error, 1e-12))
    return found


def adversarial_problems(seed: int) -> dict[str, tuple[PulseProblem, np.ndarray]]:
    """Return hard cases for the kernel: angles of zero, of 2 pi and of 20 rad, blocks that are not full, odd B1.

    Each is a problem in free Cartesian controls and a point; x = 1 is 1 kHz.
    """
    rng = np.random.default_rng(seed)
    found = {}
    for spins in (1, 2, 31, 33, 64, 65):
        found[f"{spins} spins"] = _free(rng.normal(0, 9e3, spins), [1.0], [7.0] * 6, rng.normal(0, 8.0, (3, 6)))
    short = rng.normal(0, 5.0, (3, 1))
    found["1 step"] = _free([-2e3, 0.0, 3e3], [0.8, 1.2], [10.0], short)
    found["B1 zero and negative"] = _free(
        [-2e3, 0.0, 3e3], [-1.0, 0.0, 1.0], [5.0, 8.0, 3.0], rng.normal(0, 9.0, (3, 3))
    )
    found["no pulse on resonance"] = _free([0.0, 500.0], [1.0], [5.0] * 4, np.zeros((3, 4)))
    found["1e-300 rad"] = _free([0.0], [1.0], [1e3 / (2 * np.pi)] * 3, np.full((3, 3), 1e-300))
    for name, turns in (("pi", 0.5), ("2 pi", 1.0), ("20 rad", 20 / (2 * np.pi)), ("200 rad", 200 / (2 * np.pi))):
        waves = np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
        found[f"{name} per step"] = _free([0.0, 1.0], [1.0], [1e3 * turns] * 3, waves)
    found["steps of many lengths"] = _free(
        rng.normal(0, 4e3, 9), [0.9, 1.1], list(10.0 ** rng.uniform(-2, 2, 12)), rng.normal(0, 6.0, (3, 12))
    )
    found["400 steps"] = _free(rng.normal(0, 9e3, 5), [0.9, 1.1], [2.0] * 400, rng.normal(0, 6.0, (3, 400)))
    return found


def _free(offsets_hz: Any, b1: list, steps_us: list, waves_khz: np.ndarray) -> tuple[PulseProblem, np.ndarray]:
    job = {
        "pulse": {"steps_us": steps_us, "controls": "xyz"},
        "target": {"rotation": {"axis": [0.3, -0.5, 0.7], "angle_deg": 110.0}},
        "ensemble": {"offsets_hz": [float(offset) for offset in offsets_hz], "b1": b1},
    }
    problem = PulseProblem.from_job(job)
    return problem, (waves_khz * 1e3 / problem.scale_hz).ravel()


def _adversarial_check(seed: int) -> Check:
    cases = adversarial_problems(seed)
    found = worst(check_kernel(problem, x, name) for name, (problem, x) in cases.items())
    return judge("kernel: hard cases", found.reference, found.error, found.tolerance, found.name, f"{len(cases)} cases")


def singular_points() -> dict[str, tuple[PulseProblem, np.ndarray]]:
    """Return points where Euler angles, norms or 0/0 would spoil a gradient."""
    pulse = {"duration_us": 30.0, "step_us": 10.0}
    transfer, rotation = {"transfer": ["z", "x"]}, {"rotation": {"axis": "x", "angle_deg": 90.0}}

    def build(target: dict, controls: str, limits: dict, x: Any, offsets: Any = (0.0, 1700.0)) -> tuple:
        job = {
            "pulse": {**pulse, "controls": controls},
            "target": target,
            "ensemble": {"offsets_hz": list(offsets), "b1": [1.05]},
            "limits": limits,
        }
        problem = PulseProblem.from_job(job)
        return problem, np.broadcast_to(np.asarray(x, dtype=float), (problem.size,)).copy()

    return {
        "t = 0, transfer": build(transfer, "xyz", {"peak_hz": 9000.0}, 0.0),
        "t = 0, rotation": build(rotation, "xy", {"rms_hz": 5000.0}, 0.0),
        "t = 0, rotation, sign free": build(
            {"rotation": {"axis": "x", "angle_deg": 180.0, "sign_free": True}}, "xy", {}, 0.0
        ),
        "amplitude 0, polar": build(transfer, "polar-z", {"peak_hz": 9000.0}, [0.0] * 3 + [0.3, -1.0, 2.0] + [0.0] * 3),
        "amplitude 0, power tanh": build(transfer, "reduced", {"rms_hz": 5000.0}, [0.0] * 3 + [0.3, -1.0, 2.0]),
        "one blanked step": build(transfer, "polar", {"peak_hz": 9000.0}, [0.5, 0.0, -0.7, 0.3, -1.0, 2.0]),
        "saturation reached (Mz = 0)": build(
            {"saturation": "z"}, "xy", {}, [0.25 / 1.05] * 3 + [0.0] * 3, offsets=[0.0]
        ),
        "saturation, no pulse (Mz = 1)": build({"saturation": "z"}, "xy", {}, 0.0),
        "|Mxy| = 0, the cusp": build({"transverse": "z"}, "xy", {"peak_hz": 9000.0}, 0.0, offsets=[0.0]),
        "transfer reached (gradient 0)": build({"transfer": ["z", "z"]}, "xy", {"peak_hz": 9000.0}, 0.0),
        "equal qualities, worst case": _equal_qualities(),
        "a full turn in one step": build(rotation, "xy", {}, [100e3 / 1.05 * 30e-6, 0, 0, 0, 0, 0], offsets=[0.0]),
    }


def _equal_qualities() -> tuple[PulseProblem, np.ndarray]:
    job = {
        "pulse": {"duration_us": 30.0, "step_us": 10.0},
        "target": {"transfer": ["z", "x"]},
        "ensemble": {"offsets_hz": [-800.0, 0.0, 800.0], "objective": "worst", "sharpness": 50.0},
    }
    problem = PulseProblem.from_job(job)
    return problem, np.zeros(problem.size)


def _singular_checks() -> list[Check]:
    return [digits_check(f"singular: {name}", problem, x) for name, (problem, x) in singular_points().items()]


def _sweep_check(seed: int, steps: int = 100_000) -> Check:
    """Compare m_0 of the reversed sweep over 10^5 steps with R_total^T m_N: round-off must not build up.

    A step of no rotation put in front has m_0 as its gradient, since J(0) = 1.
    """
    rng = np.random.default_rng(seed)
    offset, b1 = np.array([-3e3, 0.0, 8e3]), np.array([0.9, 1.0, 1.1])
    table = np.vstack((rng.normal(0, 0.3, (3, steps + 1)), np.full(steps + 1, 2 * np.pi * 1e-6)))
    table[:, 0] = 0.0
    m_end = rng.normal(size=(3, 3))
    m_end /= np.linalg.norm(m_end, axis=0)
    errors = []
    for s in range(3):
        sweep = Sweep(offset[s : s + 1], b1[s : s + 1])
        total = sweep.turns(table)
        found = sweep.gradient(table, m_end[:, s : s + 1])[:, 0] / [b1[s], b1[s], 1.0]
        expected = turn(total * [[1], [-1], [-1], [-1]], m_end[:, s : s + 1])[:, 0]
        errors.append(np.abs(found - expected).max())
    return judge("reversed sweep over 100 000 steps", "R_total^T m_N", max(errors), 1e-11)


def _thread_checks() -> list[Check]:
    """Check a problem that is large enough to be spread over threads."""
    job = {
        "pulse": {"duration_us": 400.0, "step_us": 4.0},
        "target": {"transfer": ["z", "x"]},
        "ensemble": {"bandwidth_hz": 20000.0, "offsets": 1001, "b1_spread": 0.1, "b1_points": 5},
        "limits": {"peak_hz": 10000.0},
    }
    problem = PulseProblem.from_job(job)
    return [verify.check_determinism(problem, problem.start(0), "bit-equal: 5005 spins on threads")]

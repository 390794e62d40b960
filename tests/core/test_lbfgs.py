"""The solver: against SciPy's, its conditions at every step, its state as arrays, and every reason to stop."""

from __future__ import annotations

import itertools
import signal
import time

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der, rosen_hess_prod

from exactgrad.core import checkpoint, lbfgs
from exactgrad.core.lbfgs import State, Status
from exactgrad.core.newton import newton
from exactgrad.core.parameters import Parameter, Parameters
from exactgrad.core.solve import Budget, Search, Stage, Stop, interruptible, run, total_loss
from exactgrad.errors import FormatError, InputError


class Plain:
    """A problem made of a value, a gradient and, where needed, a Hessian product."""

    def __init__(self, size: int, value, gradient, product=None, penalty: float = 0.0):
        self.size, self.value, self.gradient, self.product, self.penalty = size, value, gradient, product, penalty
        self.calls = itertools.count()

    def parameters(self, x: np.ndarray) -> Parameters:
        return Parameters((Parameter("x", x),))

    def limit_threads(self, threads: int | None) -> None:
        pass

    def start(self, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=self.size)

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        next(self.calls)
        return float(self.value(x)), np.asarray(self.gradient(x), dtype=float)

    def penalty_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        return self.penalty * float(x @ x), 2 * self.penalty * x

    def off_kink(self, x: np.ndarray) -> np.ndarray | None:
        return None

    def hessian_product(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        return self.product(x, v) + 2 * self.penalty * v


def quadratic(size: int = 30, condition: float = 1e4) -> Plain:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    matrix = (basis * np.geomspace(1.0, condition, size)) @ basis.T
    centre = rng.normal(size=size)
    return Plain(
        size,
        lambda x: 0.5 * (x - centre) @ matrix @ (x - centre) - 7.0,
        lambda x: matrix @ (x - centre),
        lambda x, v: matrix @ v,
    )


def rosenbrock(size: int = 10) -> Plain:
    return Plain(size, rosen, rosen_der, rosen_hess_prod)


def search(
    problem: Plain, starts: int = 1, most: int = 2000, stop: Stop | None = None, on_event=lambda e: None, **budget
):
    vectors = [problem.start(seed) for seed in range(starts)]
    options = Budget(**{"threads": 1, "tolerance": 1e-15, **budget})
    return run([Stage(problem, most)], Search.begin(vectors), options, stop, on_event)


def test_a_search_comes_back_from_where_there_is_no_model() -> None:
    """The loss falls towards 3, where the model ends: trial steps lead beyond."""

    def refused(x: np.ndarray) -> None:
        if x[0] >= 3.0:
            raise InputError("x: no model beyond 3")

    def value(x: np.ndarray) -> float:
        refused(x)
        return -x[0] - 1e-3 * np.log(3.0 - x[0])

    problem = Plain(1, value, lambda x: np.array([-1.0 + 1e-3 / (3.0 - x[0])]))
    result = run([Stage(problem, 200)], Search.begin([np.zeros(1)]), Budget(tolerance=1e-15, threads=1))
    assert result.x[0] == pytest.approx(3.0 - 1e-3, abs=1e-9)
    with pytest.raises(InputError, match="beyond 3"):
        lbfgs.begin(total_loss(problem), np.array([4.0]), 5)
    known = lbfgs.infinite_outside(total_loss(problem))
    assert known(np.array([4.0]))[0] == np.inf
    assert known(np.array([4.0]))[1] == np.zeros(1)


@pytest.mark.parametrize(
    "problem", [quadratic(), rosenbrock(), rosenbrock(2)], ids=["quadratic", "rosen 10", "rosen 2"]
)
@pytest.mark.parametrize("seed", range(3))
def test_it_gets_as_low_as_scipy(problem: Plain, seed: int) -> None:
    x0 = problem.start(seed)
    oracle = minimize(
        problem.value_and_gradient, x0, jac=True, method="L-BFGS-B",
        options={"maxcor": 20, "maxiter": 2000, "maxfun": 10_000, "ftol": 1e-15, "gtol": 1e-10},
    )  # fmt: skip
    found = run([Stage(problem, 2000)], Search.begin([x0]), Budget(threads=1, tolerance=1e-15))
    assert found.status.converged
    assert found.loss <= oracle.fun + 1e-9 * max(1.0, abs(oracle.fun))
    assert found.evaluations <= 3 * oracle.nfev
    assert np.abs(problem.value_and_gradient(found.x)[1]).max() < 1e-3


def test_a_quadratic_is_solved_to_rounding() -> None:
    found = search(quadratic(condition=100.0))
    assert found.loss == pytest.approx(-7.0, abs=1e-14)


def test_every_step_satisfies_the_wolfe_conditions() -> None:
    problem = rosenbrock()
    loss = total_loss(problem)
    state = lbfgs.begin(loss, problem.start(3), 5)
    for _ in range(60):
        after = lbfgs.advance(loss, state, 1e-15)
        move = after.x - state.x
        slope, slope_after = state.gradient @ move, after.gradient @ move
        assert slope < 0
        assert after.value <= state.value + lbfgs.SUFFICIENT * slope + 1e-15
        strong = abs(slope_after) <= lbfgs.CURVATURE * abs(slope) + 1e-15
        approximate = lbfgs.CURVATURE * slope <= slope_after <= (2 * lbfgs.SUFFICIENT - 1) * slope
        assert strong or approximate
        value, gradient = loss(after.x)
        assert after.value == value
        assert np.array_equal(after.gradient, gradient)
        state = after


def test_history_falls_and_counts() -> None:
    problem = rosenbrock()
    found = search(problem)
    (history,) = found.histories
    assert (np.diff(history) <= 0).all()
    assert history.size == found.iterations + 1
    assert history[-1] == found.loss
    assert found.evaluations == next(problem.calls)


def test_the_direction_is_that_of_the_dense_formula() -> None:
    """Two loops against the BFGS update of a whole matrix."""
    problem = quadratic(8, 50.0)
    loss = total_loss(problem)
    state = lbfgs.begin(loss, problem.start(1), 20)
    for _ in range(5):
        state = lbfgs.advance(loss, state, 1e-15)
    rows = [(state.newest - k) % state.moves.shape[0] for k in range(state.pairs)][::-1]
    s, y = state.moves[rows[-1]], state.yields[rows[-1]]
    inverse = np.eye(8) * (s @ y) / (y @ y)
    for row in rows:
        s, y = state.moves[row], state.yields[row]
        left = np.eye(8) - np.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + np.outer(s, s) / (s @ y)
    direction, slope, _ = lbfgs._direction(state)
    assert np.allclose(direction, -inverse @ state.gradient, rtol=1e-10, atol=1e-14)
    assert slope == pytest.approx(direction @ state.gradient)


@pytest.mark.parametrize("memory", [1, 2, 7])
def test_the_ring_of_pairs_forgets_the_oldest(memory: int) -> None:
    problem = rosenbrock()
    loss = total_loss(problem)
    state = lbfgs.begin(loss, problem.start(0), memory)
    for _ in range(12):
        state = lbfgs.advance(loss, state, 1e-15)
    assert state.pairs == memory
    assert state.moves.shape == (memory + 1, 10)
    assert np.allclose((state.moves * state.yields).sum(axis=1), state.curvatures)
    assert search(problem, memory=memory).status.converged


def test_penalties_are_part_of_what_falls() -> None:
    problem = quadratic(6, 10.0)
    problem.penalty = 3.0
    found = search(problem)
    value, gradient = total_loss(problem)(found.x)
    assert found.loss == value
    assert np.abs(gradient).max() < 1e-6
    assert np.abs(problem.value_and_gradient(found.x)[1]).max() > 0.1


def test_a_state_survives_the_trip_through_arrays() -> None:
    problem = rosenbrock()
    loss = total_loss(problem)
    state = lbfgs.begin(loss, problem.start(0), 4)
    for _ in range(9):
        state = lbfgs.advance(loss, state, 1e-15)
    again = State.from_arrays(state.to_arrays())
    ahead, ahead_again = (lbfgs.advance(loss, s, 1e-15) for s in (again, State.from_arrays(state.to_arrays())))
    for name, values in ahead.to_arrays().items():
        assert values.tobytes() == ahead_again.to_arrays()[name].tobytes(), name
    for status in Status:
        assert State.from_arrays(lbfgs.replace(state, status=status).to_arrays()).status is status


def interrupted(problem: Plain, after: int, starts: int, most: int, **budget) -> Search:
    stop, events = Stop(), itertools.count(1)
    found = search(problem, starts, most, stop, lambda e: stop.set() if next(events) == after else None, **budget)
    assert found.status is Status.INTERRUPTED
    return found.search


@pytest.mark.parametrize("after", [1, 7, 30, 55, 120])
def test_checkpoint_and_resume_change_no_bit(after: int, tmp_path) -> None:
    problem = rosenbrock()
    whole = search(problem, 4, 60)
    assert checkpoint.load(tmp_path, "job", Search.from_arrays) is None
    checkpoint.save(tmp_path, interrupted(problem, after, 4, 60), "job")
    resumed = run(
        [Stage(problem, 60)], checkpoint.load(tmp_path, "job", Search.from_arrays), Budget(threads=1, tolerance=1e-15)
    )
    assert resumed.x.tobytes() == whole.x.tobytes()
    assert [h.tobytes() for h in resumed.histories] == [h.tobytes() for h in whole.histories]
    assert (resumed.iterations, resumed.evaluations, resumed.start) == (
        whole.iterations,
        whole.evaluations,
        whole.start,
    )
    checkpoint.discard(tmp_path)
    assert checkpoint.load(tmp_path, "job", Search.from_arrays) is None


def test_checkpoints_belong_to_their_job_and_fall_back_when_damaged(tmp_path) -> None:
    problem = rosenbrock()
    first, second = (interrupted(problem, after, 2, 60) for after in (5, 20))
    checkpoint.save(tmp_path, first, "job")
    checkpoint.save(tmp_path, second, "job")
    with pytest.raises(InputError, match="belongs to another job"):
        checkpoint.load(tmp_path, "another", Search.from_arrays)
    newest = tmp_path / checkpoint.NAME
    newest.write_bytes(newest.read_bytes()[:500])
    fallen_back = checkpoint.load(tmp_path, "job", Search.from_arrays)
    assert [s and s.iteration for s in fallen_back.states] == [s and s.iteration for s in first.states]
    (tmp_path / checkpoint.PREVIOUS).write_bytes(b"nothing")
    with pytest.raises(FormatError):
        checkpoint.load(tmp_path, "job", Search.from_arrays)


def test_threads_do_not_change_the_result() -> None:
    one, many = (search(rosenbrock(), 5, 60, threads=threads) for threads in (1, 3))
    assert one.x.tobytes() == many.x.tobytes()
    assert [h.tobytes() for h in one.histories] == [h.tobytes() for h in many.histories]


def test_halving_drops_the_worse_half_each_round() -> None:
    problem, seen = rosenbrock(40), []
    found = search(problem, 8, 400, on_event=lambda e: seen.append((e.start, e.starts)), tolerance=0.0)
    assert [alive for alive, _ in itertools.groupby(seen)] == [(8, 8), (4, 8), (2, 8), (1, 8)]
    done = np.array([h.size - 1 for h in found.histories])
    assert sorted(done)[:7] == [50, 50, 50, 50, 100, 100, 200]  # 400 in the end, halved each round before
    for goal in (50, 100, 200):
        running = [i for i in range(8) if done[i] >= goal]
        kept = sorted(running, key=lambda i, goal=goal: found.histories[i][goal])[: len(running) // 2]
        assert sorted(kept) == [i for i in range(8) if done[i] > goal]
    assert found.search.alive == [found.start]
    together = search(problem, 8, 400, halving=False, tolerance=0.0)
    assert found.iterations < 0.5 * together.iterations


def test_a_dropped_start_that_is_better_in_the_end_does_not_count() -> None:
    found = search(rosenbrock(4), 4, 100)
    assert found.start in found.search.alive


@pytest.mark.parametrize(
    "options, status",
    [
        ({"most": 7}, Status.ITERATIONS),
        ({"most": 0}, Status.ITERATIONS),
        ({"max_seconds": 0.0}, Status.SECONDS),
        ({"tolerance": 1e-2}, Status.PLATEAU),
    ],
)
def test_reasons_to_stop(options: dict, status: Status) -> None:
    problem = rosenbrock()
    found = search(problem, **options)
    assert found.status is status
    assert np.isfinite(found.loss)
    assert found.loss <= problem.value_and_gradient(problem.start(0))[0]
    if options.get("most") is not None:
        assert found.iterations == options["most"]


def test_a_zero_gradient_is_convergence() -> None:
    found = run([Stage(rosenbrock(), 50)], Search.begin([np.ones(10)]), Budget(threads=1))
    assert found.status is Status.GRADIENT
    assert found.iterations == 0


def test_the_precision_limit_is_convergence() -> None:
    problem = Plain(3, lambda x: 1e8 + (x @ x) ** 2, lambda x: 4 * (x @ x) * x)
    found = search(problem, tolerance=0.0)
    assert found.status.converged
    assert found.loss == 1e8


def test_sentences() -> None:
    assert "budget" in Status.ITERATIONS.value
    assert "budget" in Status.SECONDS.value
    assert {s for s in Status if s.converged} == {Status.GRADIENT, Status.PLATEAU, Status.PRECISION}
    for status in Status:
        assert status.value.split()[0] in ("converged:", "the", "interrupted;", "given", "still")
        assert status.converged == status.value.startswith("converged")


def test_the_time_budget_counts_earlier_processes() -> None:
    slow = rosenbrock()
    plain = slow.value
    slow.value = lambda x: (time.sleep(0.002), plain(x))[1]
    found = search(slow, max_seconds=0.1, most=10**6)
    assert found.status is Status.SECONDS
    assert found.seconds >= 0.1
    assert 0 < found.iterations < 200
    again = run([Stage(slow, 10**6)], found.search, Budget(threads=1, max_seconds=0.1))
    assert again.iterations == found.iterations
    assert again.status is Status.SECONDS


def test_a_stop_before_the_first_evaluation_still_gives_a_result() -> None:
    stop = Stop()
    stop.set()
    problem = rosenbrock()
    found = search(problem, 3, stop=stop)
    assert found.status is Status.INTERRUPTED
    assert found.loss == problem.value_and_gradient(problem.start(0))[0]


def test_a_signal_stops_and_is_remembered() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interruptible() as stop:
        events = itertools.count()
        found = search(
            rosenbrock(),
            stop=stop,
            on_event=lambda e: signal.raise_signal(signal.SIGTERM) if next(events) == 4 else None,
        )
        assert found.status is Status.INTERRUPTED
        assert stop.signal == signal.SIGTERM
        assert found.iterations == 5
    assert signal.getsignal(signal.SIGTERM) is before


def test_stages_lift_and_only_the_last_one_halves() -> None:
    coarse, fine = quadratic(4, 10.0), quadratic(8, 10.0)
    stages = [Stage(coarse, 40), Stage(fine, 200, lambda x: np.repeat(x, 2))]
    whole = run(stages, Search.begin([coarse.start(s) for s in range(3)]), Budget(threads=1))
    assert whole.x.size == 8
    assert whole.loss == pytest.approx(-7.0, abs=1e-10)
    assert len(whole.histories) == 3
    stop, events = Stop(), itertools.count()
    early = run(
        stages,
        Search.begin([coarse.start(0)]),
        Budget(threads=1),
        stop,
        lambda e: stop.set() if next(events) == 2 else None,
    )
    assert early.x.size == 8  # lifted, though the search stopped in the first stage
    assert early.loss == fine.value_and_gradient(early.x)[0]
    resumed = run(stages, Search.from_arrays(early.search.to_arrays()), Budget(threads=1))
    straight = run(stages, Search.begin([coarse.start(0)]), Budget(threads=1))
    assert resumed.x.tobytes() == straight.x.tobytes()


class Held(Plain):
    """|x - c|^2 with x scaled back into a ball: a limit that is exact, with a kink where it begins to bind."""

    def __init__(self, centre: np.ndarray, limit: float):
        self.centre, self.limit = centre, limit
        super().__init__(centre.size, None, None)

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        next(self.calls)
        length = np.linalg.norm(x)
        factor = 1.0 if length <= self.limit else self.limit / length
        g = 2 * (factor * x - self.centre)
        pulled = g if factor == 1.0 else factor * (g - (x @ g) / length**2 * x)
        return float(np.sum((factor * x - self.centre) ** 2)), pulled


def test_the_kink_of_an_exact_limit_does_not_hold_the_solver_up() -> None:
    rng = np.random.default_rng(2)
    centre = rng.normal(size=12)
    centre *= 3 / np.linalg.norm(centre)
    problem = Held(centre, 1.0)
    best = (3 - 1.0) ** 2
    for seed in range(5):
        x0 = 0.3 * np.random.default_rng(seed).normal(size=12)
        found = run([Stage(problem, 300)], Search.begin([x0]), Budget(threads=1))
        assert found.status.converged
        assert found.loss == pytest.approx(best, abs=1e-8)


def test_a_loss_that_is_not_a_number_somewhere_is_stepped_back_from() -> None:
    problem = Plain(
        2,
        lambda x: -np.log(1 - x @ x) - x[0] if x @ x < 1 else np.nan,
        lambda x: 2 * x / (1 - x @ x) - [1, 0] if x @ x < 1 else np.full(2, np.nan),
    )
    found = run([Stage(problem, 100)], Search.begin([np.array([0.9, 0.3])]), Budget(threads=1))
    assert np.isfinite(found.loss)
    assert found.x == pytest.approx([np.sqrt(2) - 1, 0], abs=1e-6)


def test_newton_finishes_what_lbfgs_began() -> None:
    problem = rosenbrock()
    rough = search(problem, most=25)
    x, value, status, iterations = newton(problem, rough.x, 100)
    assert value < 1e-15
    assert value <= rough.loss
    assert status.converged
    assert 0 < iterations < 60
    assert np.allclose(x, 1.0, atol=1e-8)
    same = newton(problem, rough.x, 100, halted=lambda: True)
    assert same[2] is Status.INTERRUPTED
    assert same[1] <= rough.loss

"""How fast the pulse system is, beside its peers: every ratio from one run, repeats interleaved.

    python benchmarks/pulses.py [kernel] [peers] [threads] [memory] [solver] [hessian] [start]

Times are wall clock. "ns" is nanoseconds per time step and spin, for the cost and its full gradient unless said
otherwise, through `PulseProblem.value_and_gradient`: Python, limits and control maps included. Peers that store
what they need for every step and spin run on fewer of them and are compared per step and spin. torch and JAX take
part where they are installed.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import numpy as np

from exactgrad.core import lbfgs
from exactgrad.core.solve import total_loss
from exactgrad.kernels.threads import available_threads
from exactgrad.pulses import paper
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.pulse import Pulse
from exactgrad.pulses.reference.gradients import gradient as reference_gradient
from exactgrad.report.console import say, table

SLOT_S = 0.02
# One thread in NumPy, SciPy and JAX too; read when they are loaded, so the script starts itself anew.
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}

Call = Callable[[], object]


def race(calls: dict[str, Call], seconds: float, least: int = 3) -> dict[str, np.ndarray]:
    """Call each in turn, at least `SLOT_S` long, round after round, for so many seconds; return the times of each."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    end, rounds = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or rounds < least:
        rounds += 1
        for name, call in calls.items():
            slot_end = time.perf_counter() + SLOT_S
            while len(times[name]) < rounds or time.perf_counter() < slot_end:
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    return {name: np.array(row) for name, row in times.items()}


def paper_job(name: str, pulse: str, controls: str, step_us: float) -> dict:
    """The job of a row of the paper's tables."""
    return next(
        row.job for row in paper.rows_of(name) if (row.pulse, row.controls, row.step_us) == (pulse, controls, step_us)
    )


def grid_job(offsets: int, b1_points: int, steps: int, **tables) -> dict:
    """Excitation over 10 kHz by 1 us steps of free Cartesian controls: waveforms are what the solver sees."""
    return {
        "pulse": {"duration_us": float(steps), "step_us": 1.0, "controls": "xyz"},
        "target": {"transfer": ["z", "x"]},
        "ensemble": {"bandwidth_hz": 10000.0, "offsets": offsets, "b1_spread": 0.1, "b1_points": b1_points},
        **tables,
    }


def largest_row() -> dict:
    """Table 9, excitation, 1.4 ms: 1505 spins, 700 steps, rms limit."""
    return paper_job("table9", "excitation", "reduced", 2.0)


def per_step_spin(problem: PulseProblem) -> float:
    """Nanoseconds per second of one evaluation."""
    return 1e9 / (problem.steps * problem.ensemble.spins)


def kernel() -> None:
    """ns per step and spin, one thread, from the paper's largest row to a small one."""
    rotation = {"rotation": {"axis": "y", "angle_deg": 90.0}}
    jobs = {
        "Table 9 excitation": largest_row(),
        "Table 9's size, universal rotation": {**largest_row(), "target": rotation},
        "Table 9's size, 8 us steps (angles to 3 rad)": {
            **largest_row(),
            "pulse": {"duration_us": 5600.0, "step_us": 8.0, "controls": "reduced"},
        },
        "Table 7 excitation, 1 us": paper_job("table7", "excitation", "xy", 1.0),
        "Table 7's size, universal rotation": {**paper_job("table7", "excitation", "xy", 1.0), "target": rotation},
        "Table 7 excitation, 10 us": paper_job("table7", "excitation", "xy", 10.0),
    }
    rows = []
    for name, job in jobs.items():
        problem = PulseProblem.from_job(job, threads=1)
        x = problem.start(0)
        steps, sweep = problem._steps(problem.chain.apply(x)), problem._sweep
        m = np.ones((3, problem.ensemble.spins))
        times = race(
            {
                "all": lambda p=problem, x=x: p.value_and_gradient(x),
                "forward": lambda s=sweep, t=steps: s.turns(t),
                "backward": lambda s=sweep, t=steps, m=m: s.gradient(t, m),
            },
            1.5,
            20,
        )
        ns = {key: row * per_step_spin(problem) for key, row in times.items()}
        size = f"{problem.ensemble.spins} x {problem.steps}"
        us = 1e6 * times["all"].min()
        sweeps = [f"{ns[key].min():.2f}" for key in ("forward", "backward")]
        rows.append((name, size, *sweeps, f"{ns['all'].min():.2f}", f"{median(ns['all']):.2f}", f"{us:.0f}"))
    headings = ("problem", "spins x steps", "forward sweep", "backward", "all, min", "all, median", "all, min (us)")
    table("Cost and gradient, one thread, ns per step and spin", headings, rows)


def peers() -> None:
    """The same cost and gradient by other means, one thread, as ratios to ours on the same problem."""
    for title, job, names, seconds in (
        (
            "33 spins x 500 steps (Table 7's size)",
            grid_job(11, 3, 500),
            tuple(n for n in PEERS if n != "cost difference"),
            12.0,
        ),
        ("33 spins x 50 steps", grid_job(11, 3, 50), tuple(PEERS), 5.0),
        ("1505 spins x 700 steps (Table 9's size)", grid_job(301, 5, 700), ("tables",), 8.0),
        ("1505 spins x 70 steps", grid_job(301, 5, 70), ("tables", "augmented", "torch tree", "jax scan"), 10.0),
    ):
        problem = PulseProblem.from_job(job, threads=1)
        x = problem.start(0)
        calls: dict[str, Call] = {"ours": lambda p=problem, x=x: p.value_and_gradient(x)}
        rows_missing = []
        for name in names:
            label, needs, make = PEERS[name]
            if needs is not None and importlib.util.find_spec(needs) is None:
                rows_missing.append((label, "not installed", "", "", "", ""))
            else:
                calls[label] = make(problem, x)
        value, gradient = problem.value_and_gradient(x)
        times = race(calls, seconds)
        rows = []
        for label, call in calls.items():
            other_value, other = call()
            off = np.abs(other - gradient).max() / np.abs(gradient).max()
            ns = times[label] * per_step_spin(problem)
            ratio = times[label].min() / times["ours"].min()
            middle = median(times[label]) / median(times["ours"])
            agreement = f"{max(off, abs(other_value - value)):.0e}" if label != "ours" else ""
            rows.append((label, f"{ns.min():.1f}", f"{median(ns):.1f}", f"{ratio:.3g}", f"{middle:.3g}", agreement))
        headings = ("method", "ns, min", "ns, median", "times ours, min", "median", "differs from ours")
        table(f"Peers, one thread: {title}", headings, [*rows, *rows_missing])


def _reference(method: str) -> Callable[[PulseProblem, np.ndarray], Call]:
    """One of `pulses.reference`: the paper's methods in whole-array NumPy."""

    def make(problem: PulseProblem, x: np.ndarray) -> Call:
        pulse, spins = problem.pulse(x), problem.ensemble
        played = Pulse(pulse.step_s, pulse.ux_hz, pulse.uy_hz, pulse.uz_hz)

        def call() -> tuple[float, np.ndarray]:
            value, gradient = reference_gradient(
                method, played, spins.offset_hz, spins.b1, problem.weight, ("transfer", [0, 0, 1], [1, 0, 0])
            )
            return 1.0 - value, -problem.scale_hz * gradient.ravel()

        return call

    return make


def _angles(problem: PulseProblem) -> tuple[np.ndarray, np.ndarray]:
    """What turns x into rotation vectors: t = rad * ((B1, B1, 1) u + (0, 0, offset)); shapes (N, 1), (S, 3)."""
    rad = 2 * np.pi * problem.step_s[:, None]
    b1 = problem.ensemble.b1
    return rad, np.stack((b1, b1, np.ones_like(b1)), axis=-1)


def _torch_tree(problem: PulseProblem, x: np.ndarray) -> Call:
    """Autograd through a tree of batched 3 x 3 products."""
    import torch

    torch.set_num_threads(1)
    rad, scale = (torch.from_numpy(part) for part in _angles(problem))
    offset, weight = torch.from_numpy(problem.ensemble.offset_hz), torch.from_numpy(problem.weight)
    generators = torch.zeros(3, 3, 3, dtype=torch.float64)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        generators[i, k, j], generators[i, j, k] = 1.0, -1.0

    def call() -> tuple[float, np.ndarray]:
        free = torch.tensor(x.reshape(3, -1), requires_grad=True)
        hz = problem.scale_hz * free.T[:, None, :] * scale
        hz = hz + torch.nn.functional.pad(offset[:, None], (2, 0))
        t = rad[:, :, None] * hz
        angle = torch.linalg.vector_norm(t, dim=-1)[..., None, None]
        k = torch.einsum("nsi,ijk->nsjk", t / angle[..., 0], generators)
        r = torch.eye(3, dtype=torch.float64) + torch.sin(angle) * k + (1 - torch.cos(angle)) * (k @ k)
        while r.shape[0] > 1:
            odd = r[-1:] if r.shape[0] % 2 else r[:0]
            r = torch.cat((r[1::2] @ r[: r.shape[0] - odd.shape[0] : 2], odd))
        loss = 1 - (weight * r[0, :, 0, 2]).sum()
        loss.backward()
        return loss.item(), free.grad.numpy().ravel()

    return call


def _torch_loop(problem: PulseProblem, x: np.ndarray) -> Call:
    """Autograd through a loop over the steps that turns the spins' vectors."""
    import torch

    torch.set_num_threads(1)
    rad, scale = (torch.from_numpy(part) for part in _angles(problem))
    offset, weight = torch.from_numpy(problem.ensemble.offset_hz), torch.from_numpy(problem.weight)

    def call() -> tuple[float, np.ndarray]:
        free = torch.tensor(x.reshape(3, -1), requires_grad=True)
        hz = problem.scale_hz * free.T[:, None, :] * scale
        hz = hz + torch.nn.functional.pad(offset[:, None], (2, 0))
        t = rad[:, :, None] * hz
        angle = torch.linalg.vector_norm(t, dim=-1, keepdim=True)
        axis, sin, cos = t / angle, torch.sin(angle), torch.cos(angle)
        v = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64).expand(weight.numel(), 3)
        for j in range(t.shape[0]):
            along = torch.linalg.cross(axis[j], v)
            v = v + sin[j] * along + (1 - cos[j]) * torch.linalg.cross(axis[j], along)
        loss = 1 - (weight * v[:, 0]).sum()
        loss.backward()
        return loss.item(), free.grad.numpy().ravel()

    return call


def _jax_scan(problem: PulseProblem, x: np.ndarray) -> Call:
    """jit of value_and_grad of a scan over the steps."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    rad, scale = _angles(problem)
    offset = np.pad(problem.ensemble.offset_hz[:, None], ((0, 0), (2, 0)))

    def loss(free):
        def step(v, inputs):
            u, dt = inputs
            t = dt * (problem.scale_hz * u * scale + offset)
            angle = jnp.sqrt((t * t).sum(-1, keepdims=True))
            axis = t / angle
            along = jnp.cross(axis, v)
            return v + jnp.sin(angle) * along + (1 - jnp.cos(angle)) * jnp.cross(axis, along), None

        start = jnp.tile(jnp.array([0.0, 0.0, 1.0]), (scale.shape[0], 1))
        end, _ = jax.lax.scan(step, start, (free.reshape(3, -1).T, rad))
        return 1 - (problem.weight * end[:, 0]).sum()

    both = jax.jit(jax.value_and_grad(loss))

    def call() -> tuple[float, np.ndarray]:
        value, gradient = both(x)
        return float(value), np.asarray(gradient)

    return call


PEERS = {  # name: (label, what it needs, how to make the call)
    "tables": ("paper's Tables 1-2, NumPy whole-array", None, _reference("tables")),
    "difference": ("finite differences of R (paper's FD), NumPy", None, _reference("finite-difference")),
    "grape": ("GRAPE, first order, NumPy", None, _reference("grape")),
    "augmented": ("augmented 6 x 6 exponential, SciPy batched", None, _reference("augmented")),
    "cost difference": ("finite differences of the cost, NumPy", None, _reference("finite-difference-cost")),
    "torch tree": ("torch autograd, tree of 3 x 3 products", "torch", _torch_tree),
    "torch loop": ("torch autograd, loop over steps", "torch", _torch_loop),
    "jax scan": ("JAX, jit of a scan", "jax", _jax_scan),
}


@contextmanager
def busy_core(seconds: float) -> Iterator[None]:
    """Another process that keeps one core busy, for at most so many seconds."""
    script = f"import time\nend = time.time() + {seconds}\nwhile time.time() < end: pass"
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait()


def threads() -> None:
    """More threads against one: on large and small work, on an idle machine and beside a busy process."""
    counts = sorted({1, 2, available_threads()})
    rows = []
    for busy in (False, True):
        for size in ((301, 5, 700), (301, 5, 100), (101, 3, 100), (11, 3, 500)):
            problems = {n: PulseProblem.from_job(grid_job(*size), threads=n) for n in counts}
            x = problems[1].start(0)
            calls = {str(n): lambda p=p, x=x: p.value_and_gradient(x) for n, p in problems.items()}
            if busy:
                with busy_core(30):
                    times = race(calls, 4.0, 50)
            else:
                times = race(calls, 4.0, 50)
            for n in counts[1:]:
                one, more = times["1"], times[str(n)]
                best, middle = one.min() / more.min(), median(one) / median(more)
                ms = (f"{1e3 * median(one):.2f}", f"{1e3 * median(more):.2f}")
                spins = size[0] * size[1]
                machine = "one core busy" if busy else "as it is"
                rows.append((machine, f"{spins} x {size[2]}", n, *ms, f"{middle:.2f}", f"{best:.2f}"))
    headings = ("machine", "spins x steps", "threads", "one, median (ms)", "more (ms)", "speed-up, median", "of minima")
    table(f"Threads; load average {os.getloadavg()[0]:.1f} at the end", headings, rows)


def memory() -> None:
    """The largest amount of memory that a cost and gradient takes beyond its input."""
    rows = []
    for steps in (700, 7000, 70000):
        problem = PulseProblem.from_job(grid_job(301, 5, steps), threads=1)
        x = problem.start(0)
        tracemalloc.start()
        problem.value_and_gradient(x)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        stored = 8 * 3 * steps * problem.ensemble.spins
        rows.append(("1505", steps, f"{peak / 1e6:.1f}", f"{peak / steps:.0f}", f"{stored / 1e6:.0f}"))
    headings = ("spins", "steps", "peak (MB)", "bytes per step", "one stored trajectory would take (MB)")
    table("Memory of a cost and gradient", headings, rows)


def solver(iterations: int = 150, corrections: int = 20) -> None:
    """One iteration of our L-BFGS against SciPy's L-BFGS-B, same problem, same start, one thread."""
    from scipy.optimize import minimize

    rows = []
    for step_us in (10.0, 1.0):
        problem = PulseProblem.from_job(paper_job("table7", "excitation", "xy", step_us), threads=1)
        x, loss = problem.start(0), total_loss(problem)
        ends: dict[str, tuple[int, int, float]] = {}

        def ours(x=x, loss=loss, ends=ends) -> None:
            state = lbfgs.begin(loss, x, corrections)
            while state.iteration < iterations and state.status is lbfgs.Status.RUNNING:
                state = lbfgs.advance(loss, state, 0.0)
            ends["ours"] = (state.iteration, state.evaluations, state.value)

        def scipy(x=x, loss=loss, ends=ends) -> None:
            options = {"maxcor": corrections, "maxiter": iterations, "ftol": 0.0, "gtol": 0.0}
            found = minimize(loss, x, jac=True, method="L-BFGS-B", options=options)
            ends["SciPy L-BFGS-B"] = (found.nit, found.nfev, found.fun)

        evaluation = race({"evaluation": lambda x=x, loss=loss: loss(x)}, 0.5)["evaluation"].min()
        times = race({"ours": ours, "SciPy L-BFGS-B": scipy}, 4.0)
        for name, (done, evaluations, value) in ends.items():
            per = 1e6 * times[name].min() / done
            beside = 1e6 * (times[name].min() - evaluations * evaluation) / done
            counts = (done, evaluations, f"{per:.0f}", f"{beside:.0f}", f"{1 - value:.5f}")
            rows.append((f"33 x {problem.steps}", name, *counts))
    headings = (
        "spins x steps",
        "solver",
        "iterations",
        "evaluations",
        "us an iteration",
        "beside evaluations",
        "quality",
    )
    table("Solvers on Table 7's excitation, one thread", headings, rows)


def hessian() -> None:
    """An exact Hessian-vector product in units of a gradient."""
    rows = []
    for size in ((301, 5, 700), (11, 3, 500), (11, 3, 50)):
        problem = PulseProblem.from_job(grid_job(*size), threads=1)
        x, v = problem.start(0), problem.start(1)
        times = race(
            {
                "gradient": lambda p=problem, x=x: p.value_and_gradient(x),
                "product": lambda p=problem, x=x, v=v: p.hessian_product(x, v),
            },
            2.0,
        )
        ns = {key: row.min() * per_step_spin(problem) for key, row in times.items()}
        ratio = median(times["product"]) / median(times["gradient"])
        cells = (f"{ns['gradient']:.1f}", f"{ns['product']:.1f}", f"{ratio:.2f}")
        rows.append((f"{problem.ensemble.spins} x {problem.steps}", *cells))
    headings = ("spins x steps", "gradient (ns)", "Hessian product (ns)", "ratio of medians")
    table("Hessian-vector product, one thread", headings, rows)


def start() -> None:
    """The first start compiles the kernels; later ones load them."""
    script = (
        "import time; t = time.perf_counter(); import exactgrad; a = time.perf_counter();"
        "import exactgrad.pulses.problem, exactgrad.core.kernel; print(a - t, time.perf_counter() - t)"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first start, kernels compiled", "later start, kernels loaded", "the same again"):
            output = subprocess.run(
                [sys.executable, "-c", script],
                env={**os.environ, "EXACTGRAD_CACHE_DIR": folder},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            bare, full = (float(part) for part in output.split())
            rows.append((name, f"{1e3 * bare:.0f}", f"{full:.2f}"))
    table("Start", ("", "import exactgrad (ms)", "ready to evaluate (s)"), rows)


SECTIONS = {
    "kernel": kernel,
    "peers": peers,
    "threads": threads,
    "memory": memory,
    "solver": solver,
    "hessian": hessian,
    "start": start,
}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main(names: list[str]) -> None:
    """Run the sections named, or all."""
    for name in names:
        if name not in SECTIONS:
            sys.exit(f"{name}: must be one of {', '.join(SECTIONS)}")
    if any(name not in os.environ for name in ONE_THREAD):
        os.execve(sys.executable, [sys.executable, __file__, *names], {**os.environ, **ONE_THREAD})  # noqa: S606
    say(f"{_processor()}, {available_threads()} cores, load average {os.getloadavg()[0]:.1f}, NumPy {np.__version__}")
    for name in names or SECTIONS:
        SECTIONS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])

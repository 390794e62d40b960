"""How fast cost and gradient of a tomography are, and what they take in memory, beside mumott's in one run.

    python benchmarks/tomography.py [--mumott PYTHON] [--projections N] [--side N] [--bone]

Times are wall clock, the least of some interleaved rounds, after a first call that compiles; "ns" is nanoseconds per
projection, voxel and segment. "memory" is the most that is held beside the data while cost and gradient are evaluated,
regularisation included: the problem, the vector x and the gradient, too, in volumes of one float64 a voxel (x and the
gradient are 5 each for the uniaxial model); not counted is a slice for each thread inside the kernels. PYTHON is a
Python that can import mumott (2.3): it reads the same file and evaluates its own loss and gradient (spherical harmonics
to degree 6, squared loss with weights, its numba CPU projector) on as many threads, also after an offset was changed.
--bone takes the size of trabecular_bone_9, with fewer projections.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from exactgrad.kernels.threads import available_threads
from exactgrad.report.console import say, table
from exactgrad.tomography import formats, simulate
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.problem import MODELS, TomographyProblem
from exactgrad.tomography.regularisation import Regularisation

ROUNDS = 4
MUMOTT = """
import logging, resource, sys, time
logging.disable(logging.CRITICAL)
import numba
import numpy as np
from mumott.data_handling import DataContainer
from mumott.methods.basis_sets import SphericalHarmonics
from mumott.methods.projectors import SAXSProjector
from mumott.methods.residual_calculators import GradientResidualCalculator
from mumott.optimization.loss_functions import SquaredLoss

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

numba.set_num_threads(int(sys.argv[2]))
data = DataContainer(sys.argv[1])
before = peak()
basis = SphericalHarmonics(probed_coordinates=data.geometry.probed_coordinates, ell_max=6)
loss = SquaredLoss(GradientResidualCalculator(data, basis, SAXSProjector(data.geometry)), use_weights=True)
x = np.random.default_rng(0).normal(size=(*data.geometry.volume_shape, len(basis)))

def once():
    start = time.perf_counter()
    loss.get_loss(x, get_gradient=True)
    return time.perf_counter() - start

once()
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "move":
        data.projections[0].j_offset += 0.1
    if line.strip() == "memory":
        print(peak() - before, flush=True)
    else:
        print(once(), flush=True)
"""


class Rival:
    """mumott in its own process, which evaluates when it is asked."""

    def __init__(self, python: str, path: Path, threads: int):
        keys = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(keys, str(threads))}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [python, "-c", MUMOTT, str(path), str(threads)], stdin=pipe, stdout=pipe, text=True, env=environment
        )
        while (line := self.process.stdout.readline()) and line != "ready\n":
            pass
        if not line:
            raise SystemExit(f"{python}: mumott could not be run")

    def ask(self, what: str = "again") -> float:
        """Return seconds of an evaluation, or bytes."""
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def clocked(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peak_volumes(data: Dataset, model: str, threads: int) -> float:
    """Return the most memory that is held beside the data in an evaluation, in volumes; kernels are compiled."""
    tracemalloc.start()
    try:
        smooth = {field.name: 1.0 for field in MODELS[model]().fields}
        problem = TomographyProblem(data, model, regularisation=Regularisation(smooth), threads=threads)
        x = problem.start(0)
        tracemalloc.reset_peak()
        problem.add_penalty(x, problem.value_and_gradient(x)[1])
        return tracemalloc.get_traced_memory()[1] / (8 * np.prod(problem.mask.shape))
    finally:
        tracemalloc.stop()


def race(path: Path, python: str | None) -> list[tuple[str, ...]]:
    """Return a row for each contender."""
    data = formats.load(path)
    units = data.shape[0] * data.shape[3] * np.prod(data.geometry.volume_shape)
    contenders: dict[str, Callable[[], float]] = {}
    memory: dict[str, float] = {}
    rivals = []
    for threads in (1, 2):
        for model in MODELS:
            problem = TomographyProblem(data, model=model, threads=threads)
            x = problem.start(0)
            moved = problem.with_offsets(problem.geometry.j_offset + 0.1, problem.geometry.k_offset)
            name = f"{model}, {threads} thread{'s' * (threads > 1)}"
            problem.value_and_gradient(x)
            memory[name] = peak_volumes(data, model, threads)
            contenders[name] = lambda p=problem, x=x: clocked(lambda: p.value_and_gradient(x))
            if model == "uniaxial":
                contenders[f"{name}, offsets changed"] = lambda p=moved, x=x: clocked(lambda: p.value_and_gradient(x))
        if python:
            rivals.append(Rival(python, path, threads))
            name = f"mumott, {threads} thread{'s' * (threads > 1)}"
            contenders[name] = rivals[-1].ask
            contenders[f"{name}, offsets changed"] = lambda rival=rivals[-1]: rival.ask("move")
    best = dict.fromkeys(contenders, np.inf)
    for _ in range(ROUNDS):
        for name, call in contenders.items():
            best[name] = min(best[name], call())
    for threads, rival in enumerate(rivals, 1):
        volumes = rival.ask("memory") / (8 * np.prod(data.geometry.volume_shape))
        memory[f"mumott, {threads} thread{'s' * (threads > 1)}"] = volumes
        rival.close()
    rows = []
    for name, took in best.items():
        same = "mumott, " + name.split(", ", 1)[1]
        ratio = f"{best[same] / took:.1f}" if same in best else ""
        held = f"{memory[name]:.1f}" if name in memory else ""
        rows.append((name, f"{took:.3f}", f"{1e9 * took / units:.2f}", ratio, held))
    return rows


def main() -> None:
    """Simulate a scan and race on it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mumott", metavar="PYTHON", help="a Python that can import mumott, to race against")
    parser.add_argument("--projections", type=int, default=60, help="how many (60)")
    parser.add_argument("--side", type=int, default=40, help="of the cubic volume, voxels (40)")
    parser.add_argument("--bone", action="store_true", help="55 x 65 x 65 voxels, 65 x 55 pixels")
    asked = parser.parse_args()
    shape = [55, 65, 65] if asked.bone else [asked.side] * 3
    scan = {"scheme": "liebi", "projections": asked.projections, "segments": 8}
    if asked.bone:
        scan["pixels"] = [65, 55]
    job = {"phantom": {"name": "trabecula", "shape": shape}, "scan": scan, "measure": {"offset_px": 0.3}}
    say(f"{available_threads()} processors")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "scan.h5"
        simulate.simulate(job, path)
        columns = ("cost and gradient", "s", "ns", "times faster than mumott", "memory (volumes)")
        table(
            f"{asked.projections} projections, {' x '.join(map(str, shape))} voxels", columns, race(path, asked.mumott)
        )


if __name__ == "__main__":
    main()

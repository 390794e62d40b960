"""How far reconstructed axes are from the truth, beside mumott's MITRA and SIGTT on the same files.

    python benchmarks/tomography_accuracy.py [--mumott-python PYTHON] [--data g1 g2 fibres] [--side N] [--projections N]

The golden sets (one without noise, one with Poisson noise, gaps and absorption, needles and rings) and a simulated
fibre phantom of N^3 voxels with 50 counts per unit A^2 and voxel edge. Ours is `exactgrad tomography reconstruct` with
no job at all. PYTHON is a Python that can import mumott (2.3); it reads the same files, divided by the transmission:
MITRA with Gaussian kernels (grid scale 4), 60 iterations, and SIGTT with spherical harmonics to degree 6, 100
evaluations, of which the better of two weights of its Laplacian is shown. mumott gives no axis and no sign of B: it is
told the true sign, and its axis is the principal axis of the second moments for needles, their least for rings. Times
are wall clock, compiling included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from exactgrad.report.console import say, table
from exactgrad.tomography import formats
from exactgrad.tomography.compare import LEAST_B, axis_error_deg, compare
from exactgrad.tomography.formats import mumott, result
from exactgrad.tomography.reconstruct import reconstruct
from exactgrad.tomography.simulate import simulate

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "data" / "golden_tomography"
LIMIT_GIB = 12  # of mumott's memory: some segment layouts make it take all there is
MUMOTT = """
import logging, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[3]) << 30,) * 2)
logging.disable(logging.CRITICAL)
import numpy as np
from mumott.data_handling import DataContainer
from mumott.pipelines import run_mitra, run_sigtt

def data():
    container = DataContainer(sys.argv[1])
    if np.any(container.diode != 1.0):
        container.correct_for_transmission()
    return container

def kept(name, run):
    began = time.perf_counter()
    found = run()
    moments = found["basis_set"].get_output(found["result"]["x"])
    out[name + "/needle"], out[name + "/ring"] = moments.eigenvector_3, moments.eigenvector_1
    out[name + "/seconds"] = time.perf_counter() - began

out = {}
kept("MITRA", lambda: run_mitra(
    data(), use_absorbances=False, maxiter=60, basis_set_kwargs=dict(grid_scale=4)))
for weight in (1e-4, 1e-2):
    options = dict(maxiter=100, maxfun=100, ftol=1e-6)
    kept(f"SIGTT {weight:g}", lambda: run_sigtt(
        data(), regularization_weight=weight, basis_set_kwargs=dict(ell_max=6),
        loss_function_kwargs=dict(use_weights=True), optimizer_kwargs=options))
np.savez(sys.argv[2], **out)
"""

NAMES = {"g1": "golden set 1", "g2": "golden set 2", "fibres": "fibres"}

Row = tuple[str, ...]


def file_of(kind: str, folder: Path, side: int, projections: int) -> Path:
    """Return a data set as a mumott file with its truth inside."""
    if kind == "g2":
        return GOLDEN / "g2_mumott_frame.h5"
    path = folder / f"{kind}.h5"
    if kind == "g1":
        plain = GOLDEN / "g1_seed_frame.h5"
        truth = result.read_truth(plain)
        extra = {"truth/A": truth.A, "truth/B": truth.B, "truth/axis": truth.axis}
        mumott.write(path, formats.load(plain), extra=extra)
        return path
    job = {
        "phantom": {"name": "fibres", "shape": [side] * 3, "seed": 1},
        "scan": {"projections": projections, "segments": 8},
        "measure": {"scale": 50.0},
    }
    simulate(job, path)
    return path


def ours(path: Path, folder: Path) -> Row:
    """Return the row of our reconstruction."""
    began = time.perf_counter()
    reconstruct(path, folder, {"output": {"figures": False, "residuals": False}})
    took = time.perf_counter() - began
    found = compare(folder, path)
    degrees = [found[f"axis_error_{name}_deg"] for name in ("median", "mean", "p95")]
    return ("exactgrad", *(f"{value:.3g}" for value in degrees), f"{found['wrong_sign_fraction']:.1%}", f"{took:.0f}")


def theirs(path: Path, python: str, folder: Path) -> list[Row]:
    """Return the rows of mumott's reconstructions."""
    out = folder / "mumott.npz"
    subprocess.run(
        [python, "-c", MUMOTT, str(path), str(out), str(LIMIT_GIB)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "TQDM_DISABLE": "1"},
    )
    truth = result.read_truth(path)
    judged = (truth.A > 0) & (np.abs(truth.B) >= LEAST_B)
    best: dict[str, tuple[np.ndarray, float]] = {}
    with np.load(out) as found:
        for name in sorted({key.split("/")[0] for key in found}):
            is_needle = (truth.B > 0)[..., None]
            axis = np.where(is_needle, found[f"{name}/needle"], found[f"{name}/ring"])
            errors = axis_error_deg(axis[judged], truth.axis[judged])
            method = name.split(" ")[0]
            if method not in best or np.median(errors) < np.median(best[method][0]):
                best[method] = (errors, float(found[f"{name}/seconds"]))
    out.unlink()
    return [
        (f"mumott {method}", *(f"{f(errors):.3g}" for f in (np.median, np.mean, _p95)), "told", f"{took:.0f}")
        for method, (errors, took) in best.items()
    ]


def _p95(errors: np.ndarray) -> float:
    return float(np.percentile(errors, 95))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mumott-python", help="a Python that can import mumott 2.3")
    parser.add_argument("--data", nargs="+", choices=NAMES, default=list(NAMES), help="which (all)")
    parser.add_argument("--side", type=int, default=20, help="of the fibre phantom, voxels")
    parser.add_argument("--projections", type=int, default=120, help="of the fibre phantom")
    given = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in given.data:
            path = file_of(kind, folder, given.side, given.projections)
            found = [ours(path, folder / f"run {kind}")]
            if given.mumott_python:
                found += theirs(path, given.mumott_python, folder)
            rows += [(f"{NAMES[kind]}{f' {given.side}^3' if kind == 'fibres' else ''}", *row) for row in found]
    headings = ("data", "method", "median (deg)", "mean (deg)", "95th percentile (deg)", "wrong sign of B", "time (s)")
    table("Error of the axis", headings, rows)
    if not given.mumott_python:
        say("mumott was not run: name a Python that can import it, --mumott-python PYTHON")


if __name__ == "__main__":
    main()

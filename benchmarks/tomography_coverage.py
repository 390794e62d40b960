"""Whether the standard errors of a reconstruction are right: how often the truth of a simulation lies within them.

    python benchmarks/tomography_coverage.py [--side N] [--projections N] [--counts N ...] [--seeds N]
                                             [--phantom NAME ...]

Each simulated sample is reconstructed with the defaults, from the data alone. Of the voxels of the true support whose
|B| is above 1, a share is within one standard error of the truth: 68 % where the errors are right, give or take about
5 % for a single sample, whose neighbouring errors are alike. A is compared in the data's unit. Voxels of the wrong sign
of B count as they are: no error of a voxel tells that it is in a wrong basin.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from exactgrad.report.console import table
from exactgrad.tomography import simulate
from exactgrad.tomography.compare import axis_error_deg
from exactgrad.tomography.formats import result
from exactgrad.tomography.formats.result import Volume
from exactgrad.tomography.phantoms import NAMES
from exactgrad.tomography.reconstruct import reconstruct

SHARP = 1.0
JOB = {"quality": {"split_half": False}, "output": {"figures": False, "residuals": False}}
COLUMNS = ("sample", "voxels", "A %", "B %", "axis %", "axis error", "of it told", "wrong sign %", "s")


def shares(found: Volume, truth: Volume, scale: float) -> tuple[np.ndarray, dict[str, float]]:
    """Return the shares of A, B and axis within one standard error, in %, and what else there is to know."""
    judged = (truth.A > 0) & (np.abs(truth.B) > SHARP) & found.mask
    angle = axis_error_deg(found.axis[judged], truth.axis[judged])
    errors = {
        "A": np.abs(found.A - np.sqrt(scale) * truth.A)[judged],
        "B": np.abs(found.B - truth.B)[judged],
        "axis_deg": angle,
    }
    within = np.array([100.0 * np.mean(error <= found.sigma[name][judged]) for name, error in errors.items()])
    return within, {
        "voxels": int(judged.sum()),
        "error": float(np.median(angle)),
        "told": float(np.median(found.sigma["axis_deg"][judged])),
        "wrong": 100.0 * float(np.mean(np.sign(found.B) != np.sign(truth.B), where=judged)),
    }


def row(job: dict, folder: Path) -> tuple[np.ndarray, list[str]]:
    """Simulate a job and reconstruct it; return the shares and the table's other columns."""
    scan = folder / "scan.h5"
    simulate.simulate(job, scan)
    start = time.perf_counter()
    reconstruct(scan, folder / "run", JOB)
    took = time.perf_counter() - start
    found, truth = result.read(folder / "run"), result.read_truth(scan)
    within, more = shares(found, truth, job["measure"]["scale"])
    return within, [
        f"{more['error']:.2f}°",
        f"{more['told']:.2f}°",
        f"{more['wrong']:.1f}",
        f"{took:.0f}",
        more["voxels"],
    ]


def main() -> None:
    """Print the shares for each phantom, number of counts and seed, and their means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=12, help="of the cubic volume, voxels (12)")
    parser.add_argument("--projections", type=int, default=40, help="how many (40)")
    parser.add_argument("--counts", type=float, nargs="+", default=[20.0, 50.0, 200.0], help="per A^2 and voxel edge")
    parser.add_argument("--seeds", type=int, default=1, help="samples of each kind (1)")
    parser.add_argument("--phantom", nargs="+", default=list(NAMES), choices=NAMES)
    asked = parser.parse_args()
    rows, all_shares = [], []
    for name in asked.phantom:
        for counts in asked.counts:
            for seed in range(asked.seeds):
                job = {
                    "phantom": {"name": name, "shape": [asked.side] * 3, "seed": seed},
                    "scan": {"scheme": "liebi", "projections": asked.projections, "segments": 8},
                    "measure": {"scale": counts, "seed": seed},
                }
                with tempfile.TemporaryDirectory() as folder:
                    within, others = row(job, Path(folder))
                label = f"{name}, {counts:g} counts" + (f", seed {seed}" if asked.seeds > 1 else "")
                rows.append((label, str(others.pop()), *(f"{share:.0f}" for share in within), *others))
                all_shares.append(within)
    rows.append(("mean", "", *(f"{share:.0f}" for share in np.mean(all_shares, axis=0)), "", "", "", ""))
    table(f"{asked.projections} projections, {asked.side}^3 voxels", COLUMNS, rows)


if __name__ == "__main__":
    main()

"""How long a step is worth trying, for every number of the solver's vector.

A bright voxel's numbers move the cost far more than a dim one's, and A more than B. Where each is counted in such
steps, L-BFGS needs a third of the iterations.
"""

from __future__ import annotations

import numpy as np

from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.projection import Scan, fields_of
from exactgrad.tomography.scaling_kernel import KERNELS

FOOTPRINT = 4.0 / 9.0  # mean of a ray's squared bilinear weight, of its mean: (2/3)^2
FACES = 6  # neighbours of a voxel
LEAST = 1e-5  # of the mean curvature: what no data determine may move far, but not for ever


def steps_of(problem: TomographyProblem, x: np.ndarray, unit: float) -> np.ndarray:
    """Return the steps that raise a cost counted in `unit` by a half, each voxel alone, shape (size,).

    Parameters
    ----------
    problem : TomographyProblem
        Of the uniaxial model, all fields free.
    x : ndarray, shape (size,)
    unit : float
        In the cost's unit.
    """
    rows = problem.rows(x)
    fields = fields_of(rows)

    def add(scan: Scan, slope: np.ndarray, bend: np.ndarray, sums: np.ndarray) -> None:
        KERNELS.backward(fields, *scan, bend, sums)

    bend = FOOTPRINT * problem.sum_of_slopes(rows, add, len(fields[0]))
    bend[0] *= problem.scale
    share = 1.0 if problem.regularisation.share is None else problem.regularisation.share
    for row, name in zip(bend, ("A", "B", "axis", "axis", "axis"), strict=True):
        row += FACES * problem.regularisation.terms(name)[0] * share + LEAST * row.mean()
    steps = np.sqrt(unit / np.maximum(bend, np.finfo(float).tiny))
    steps[2:] *= np.linalg.norm(x[2 * problem.voxels :].reshape(3, -1), axis=0)
    return steps.ravel()

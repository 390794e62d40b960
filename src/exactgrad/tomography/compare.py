"""How far a reconstruction is from a known truth.

All numbers are over the truth's support (A > 0), not over the reconstruction's mask: a voxel that was lost counts, with
an axis error of 90 degrees and a wrong sign of B. The axis error is the angle between two lines, from 0 to 90 degrees.
A voxel whose B has the wrong sign keeps the angle that it has (near 90 degrees: the best ring across a needle lies
square to it), so that the error of the axis does not look better the more signs are wrong. Where |B| of the truth is
below `LEAST_B` the density hardly depends on the axis: such voxels count for A only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from exactgrad import __version__
from exactgrad.errors import InputError
from exactgrad.tomography.formats import result
from exactgrad.tomography.formats.result import Volume

LEAST_B = 0.1  # exp(-B sin^2) then varies by at most a tenth


def compare(folder: Any, truth_file: Any) -> dict[str, Any]:
    """Compare a run folder (or its result.h5) with the truth in an HDF5 file.

    Parameters
    ----------
    folder : path
    truth_file : path
        Holds ``A``, ``B`` and ``theta_op``, ``phi_op`` (or ``axis``) at the root or in ``truth``.

    Returns
    -------
    dict
        What `--json` prints: the keys of `measure`, and the command's own.

    Raises
    ------
    InputError
        If a file cannot be read, or the volumes have different shapes.
    """
    found, truth = result.read(Path(folder)), result.read_truth(Path(truth_file))
    if found.shape != truth.shape:
        raise InputError(f"{folder}: the volume is {found.shape}, that of {truth_file} is {truth.shape}")
    if not (truth.A > 0).any():
        raise InputError(f"{truth_file}: A is nowhere above 0, so there is nothing to compare with")
    return {
        "system": "tomography",
        "command": "compare",
        "version": __version__,
        "status": "compared",
        **measure(found, truth),
    }


def measure(found: Volume, truth: Volume) -> dict[str, Any]:
    """Return the distances of `found` from `truth`, two volumes of one shape.

    Returns
    -------
    dict
        ``axis_error_median_deg``, ``axis_error_mean_deg``, ``axis_error_p95_deg``, ``wrong_sign_fraction``,
        ``relative_error_A`` (2-norm, after the best common scale ``scale_A``), ``B_error_median``, ``lost_fraction``
        (voxels of the support outside the mask), ``extra_fraction`` (voxels of the mask outside the support),
        ``voxels``. None where no voxel has a sharp enough B.

    Examples
    --------
    >>> one, up = np.ones((1, 1, 2)), np.zeros((1, 1, 2, 3)) + [0.0, 0.0, 1.0]
    >>> volume = Volume(one, 2 * one, up, one > 0)
    >>> measure(volume, volume)["axis_error_median_deg"]
    0.0
    """
    support = truth.A > 0
    has_axis = support & (np.abs(truth.B) >= LEAST_B)
    errors = axis_error_deg(found.axis[has_axis], truth.axis[has_axis])
    errors = np.where(found.mask[has_axis], errors, 90.0)
    amplitude, wanted = np.abs(found.A[support]) * found.mask[support], truth.A[support]
    square = float(amplitude @ amplitude)
    scale = float(amplitude @ wanted) / square if square > 0 else 0.0
    is_wrong = (np.sign(found.B[has_axis]) != np.sign(truth.B[has_axis])) | ~found.mask[has_axis]
    any_axis = bool(has_axis.any())
    return {
        "axis_error_median_deg": float(np.median(errors)) if any_axis else None,
        "axis_error_mean_deg": float(errors.mean()) if any_axis else None,
        "axis_error_p95_deg": float(np.percentile(errors, 95)) if any_axis else None,
        "wrong_sign_fraction": float(is_wrong.mean()) if any_axis else None,
        "relative_error_A": float(np.linalg.norm(scale * amplitude - wanted) / np.linalg.norm(wanted)),
        "scale_A": scale,
        "B_error_median": float(np.median(np.abs(found.B[has_axis] - truth.B[has_axis]))) if any_axis else None,
        "lost_fraction": float((support & ~found.mask).sum() / support.sum()),
        "extra_fraction": float((found.mask & ~support).sum() / support.sum()),
        "voxels": int(support.sum()),
    }


def axis_error_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the angles between lines along `a` and `b`, shape (..., 3) and of any length; 90 degrees for no line.

    Examples
    --------
    >>> axis_error_deg(np.array([[1.0, 0.0, 0.0]]), np.array([[-2.0, 0.0, 0.0]])).tolist()
    [0.0]
    """
    dot = np.abs((a * b).sum(axis=-1))
    cross = np.linalg.norm(np.cross(a, b), axis=-1)  # arccos alone would lose half the digits of a small angle
    return np.where(dot + cross > 0, np.rad2deg(np.arctan2(cross, dot)), 90.0)

"""The golden sets, and small scans that the package verifies itself with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from exactgrad.tomography.configurations import small_geometry, small_problem
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.geometry import Geometry

__all__ = ["FIELDS", "fields_of", "golden_mumott", "golden_plain", "small_geometry", "small_problem"]

GOLDEN = Path(__file__).parent.parent / "data" / "golden_tomography"
FIELDS = ("A", "B", "theta_op", "phi_op")
FRAME = ("p_direction_0", "j_direction_0", "k_direction_0", "detector_direction_origin")


def golden_plain(name: str) -> tuple[Dataset, dict[str, np.ndarray]]:
    """A golden set in the plain layout, and everything in its file."""
    with h5py.File(GOLDEN / name) as file:
        held = {key: file[key][()] for key in file}
    return Dataset(_geometry(held, held["I"].shape[1:3], held), held["I"]), held


def golden_mumott() -> tuple[Dataset, dict[str, np.ndarray]]:
    """The golden set with noise, gaps and transmission, and its truth."""
    with h5py.File(GOLDEN / "g2_mumott_frame.h5") as file:
        held = {key: file[key][()] for key in file if key not in ("projections", "truth")}
        truth = {key: item[()] for key, item in file["truth"].items()}
        scans = [file["projections"][str(n)] for n in range(len(file["projections"]))]
        stacks = {key: np.stack([scan[key][()] for scan in scans]) for key in ("data", "weights", "diode")}
        offsets = {key: np.array([scan[key][()] for scan in scans]) for key in ("j_offset", "k_offset")}
    geometry = _geometry({**held, **offsets, **truth}, stacks["data"].shape[1:3], held)
    return Dataset(geometry, stacks["data"], stacks["weights"], stacks["diode"]), truth


def _geometry(held: dict[str, Any], projection_shape: tuple[int, ...], frame: dict[str, Any]) -> Geometry:
    return Geometry(
        held["rotation"], projection_shape, frame["volume_shape"], frame["detector_angles"], held["j_offset"],
        held["k_offset"], *(frame[key] for key in FRAME), frame["detector_direction_positive_90"],
    )  # fmt: skip


def fields_of(held: dict[str, np.ndarray], prefix: str = "") -> dict[str, np.ndarray]:
    """The four volumes of a golden set."""
    return {name: held[prefix + name] for name in FIELDS}

"""Small scans that the tests share, and the golden sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.spatial.transform import Rotation

from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.geometry import Geometry
from exactgrad.tomography.problem import TomographyProblem

GOLDEN = Path(__file__).parent.parent / "data" / "golden_tomography"
FIELDS = ("A", "B", "theta_op", "phi_op")
FRAME = ("p_direction_0", "j_direction_0", "k_direction_0", "detector_direction_origin")


def small_geometry(seed: int = 0, n: int = 4, **options: Any) -> Geometry:
    """Random rotations and offsets so large that rays run past, half outside and through the volume."""
    rng = np.random.default_rng(seed)
    given = {
        "rotation": Rotation.random(n, random_state=seed).as_matrix(),
        "projection_shape": (6, 5),
        "volume_shape": (4, 5, 3),
        "detector_angles": (np.arange(5) + 0.5) * np.pi / 5,
        "j_offset": rng.uniform(-1.5, 1.5, n),
        "k_offset": rng.uniform(-1.5, 1.5, n),
    }
    return Geometry(**{**given, **options})


def small_problem(seed: int = 0, **options: Any) -> TomographyProblem:
    """Noisy float32 data with a NaN, weights with zeros, transmission and a ragged mask."""
    names = ("integration", "two_theta", "detector_angles", "rotation", "n", "projection_shape", "volume_shape")
    geometry = small_geometry(seed, **{name: options.pop(name) for name in names if name in options})
    rng = np.random.default_rng(seed)
    empty = Dataset(geometry, np.zeros((geometry.projections, *geometry.projection_shape, geometry.segments)))
    whole = TomographyProblem(empty)
    truth = whole.predict(whole.start(99))
    through = rng.uniform(0.3, 1.0, truth.shape[:3])
    data = (rng.poisson(truth * 20) / 20 * through[..., None]).astype(np.float32)
    data[0, 0, 0, 0] = np.nan
    weights = rng.uniform(0, 2, truth.shape) * (rng.random(truth.shape) > 0.1)
    mask = options.pop("mask", rng.random(geometry.volume_shape) > 0.15)
    return TomographyProblem(Dataset(geometry, data, weights, through), mask=mask, **options)


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

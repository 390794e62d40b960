"""What was measured at one q: intensities with weights and transmission, and the geometry they were measured in.

Several q are several data sets: each q has its own scattering angle, hence its own geometry; arrays may be shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from exactgrad.errors import InputError, require_range
from exactgrad.tomography.geometry import Geometry

STORED = ("float32", "float64")


@dataclass(frozen=True)
class Dataset:
    """Measured intensities of n projections, J x K pixels and S segments.

    Attributes
    ----------
    geometry : Geometry
    data : ndarray, shape (n, J, K, S)
        Intensity, never divided by the transmission; float32 or float64, converted when read. Anything that has `shape`
        and `dtype` and gives a projection by ``data[n]`` will do: an HDF5 data set is read projection by projection.
    weights : ndarray or None, shape (n, J, K, S) or (n, J, K, 1)
        1/variance or a mask, >= 0; None is 1 everywhere. What is not finite in `data` or `weights` counts as weight 0.
    transmission : ndarray or None, shape (n, J, K)
        Part of the beam that leaves the sample, >= 0: it multiplies the model. None is 1. Not finite: weight 0.
    q : float or None
        Modulus of the scattering vector, in `q_unit`.
    q_unit, length_unit, name : str
        "1/nm", "um", the sample's name.
    pixel_size : float or None
        Edge of a pixel and of a voxel, in `length_unit`.

    Raises
    ------
    InputError
        If shapes do not belong together, or a weight, a transmission or a size is negative.

    Examples
    --------
    >>> g = Geometry(np.eye(3)[None], (2, 2), (2, 2, 2), [0.0])
    >>> intensity, weight, _ = Dataset(g, np.array([[[[1.0], [np.nan]], [[3.0], [4.0]]]])).projection(0)
    >>> intensity[..., 0].tolist(), weight[..., 0].tolist()
    ([[1.0, 0.0], [3.0, 4.0]], [[1.0, 0.0], [1.0, 1.0]])
    """

    geometry: Geometry
    data: Any
    weights: Any = None
    transmission: Any = None
    q: float | None = None
    q_unit: str = ""
    pixel_size: float | None = None
    length_unit: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        for name in ("data", "weights", "transmission"):
            given = getattr(self, name)
            if given is not None and not (hasattr(given, "shape") and str(given.dtype) in STORED):
                object.__setattr__(self, name, _as_real(name, given))
        shape = self.shape
        allowed = {"data": (shape,), "weights": (shape, (*shape[:3], 1)), "transmission": (shape[:3],)}
        for name, shapes in allowed.items():
            given = getattr(self, name)
            if given is not None and tuple(given.shape) not in shapes:
                raise InputError(f"{name}: shape {tuple(given.shape)} where {' or '.join(map(str, shapes))} is needed")
        for name in ("weights", "transmission"):
            given = getattr(self, name)
            if isinstance(given, np.ndarray) and (given < 0).any():
                at = tuple(int(i) for i in np.argwhere(given < 0)[0])
                raise InputError(f"{name}{list(at)} = {given[at]:g}: must be >= 0")
        for name, unit in (("q", self.q_unit), ("pixel_size", self.length_unit)):
            if getattr(self, name) is not None:
                require_range(name, getattr(self, name), unit, low=0.0, open_low=True)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, J, K, S)."""
        return (self.geometry.projections, *self.geometry.projection_shape, self.geometry.segments)

    def projection(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what was measured in projection number `n`, from 0.

        Returns
        -------
        intensity, weight : ndarray, shape (J, K, S), float64
        transmission : ndarray, shape (J, K), float64
            All contiguous and finite: what is not finite in the data has weight 0 and reads as 0 (a transmission as
            1).

        Raises
        ------
        InputError
            If a weight or a transmission is negative.
        """
        shape = self.shape[1:]
        intensity = np.array(self.data[n], dtype=np.float64)
        weight = np.ones(shape)
        if self.weights is not None:
            weight *= self.weights[n]
        through = np.ones(shape[:2])
        if self.transmission is not None:
            through *= self.transmission[n]
        if not np.isfinite(intensity.sum() + weight.sum() + through.sum()):
            dark = ~np.isfinite(through)
            through[dark] = 1.0
            lost = ~(np.isfinite(intensity) & np.isfinite(weight)) | dark[..., None]
            intensity[~np.isfinite(intensity)] = 0.0
            weight[lost] = 0.0
        if weight.min() < 0 or through.min() < 0:
            raise InputError(f"projection {n}: a negative weight or transmission: both must be >= 0")
        return intensity, weight, through

    def with_geometry(self, geometry: Geometry) -> Dataset:
        """Return the same data seen in another geometry."""
        return replace(self, geometry=geometry)

    def subset(self, projections: Sequence[int] | np.ndarray) -> Dataset:
        """Return the data of these projections, held in memory."""
        kept = [int(n) for n in projections]

        def take(array: Any) -> Any:
            return None if array is None else np.stack([np.asarray(array[n]) for n in kept])

        return replace(
            self,
            geometry=self.geometry.subset(kept),
            data=take(self.data),
            weights=take(self.weights),
            transmission=take(self.transmission),
        )


def _as_real(name: str, given: Any) -> np.ndarray:
    array = np.asarray(given)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name}: real numbers expected, got {array.dtype}")
    return array.astype(np.float64)

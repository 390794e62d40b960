"""What comes back to each voxel from an image, before a model sums it over the segments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from exactgrad.tomography.kernel import Kernels
from exactgrad.tomography.projection import Field, Model, Projector

Cotangent = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class _Listener:
    """A model of which only the cotangent is asked."""

    density_cotangent: Cotangent
    name: str = "listener"
    fields: tuple[Field, ...] = ()
    kernels: Kernels | None = None


def add_back(
    projector: Projector, rows: np.ndarray, n: int, values: np.ndarray, cotangent: Cotangent, sums: np.ndarray
) -> None:
    """Back-project an image of projection n, shape (J, K, S), and add what `cotangent` makes of it to `sums`, (V, P).

    ``cotangent(rows, q, g)`` gets the voxels' rows, the unit q vectors (S, 3), and the image brought back, g (V, S).
    """
    image = projector.image()
    projector.segments(image)[...] = values
    projector.backward(cast(Model, _Listener(cotangent)), rows, n, image, sums)

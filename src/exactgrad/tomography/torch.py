"""The projections of the uniaxial model as a PyTorch layer, with exact gradients by its fields.

Volumes are [x, y, z], projections [n, j, k, s]; lengths in voxel edges, angles in radians.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from exactgrad.core.torch import Pullback, call, torch
from exactgrad.errors import InputError
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.geometry import Geometry
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.sphere import UnitVectors, angles_from_axis

CHARTS = {"axis": ("A", "B", "axis"), "angles": ("A", "B", "theta_op", "phi_op")}
DIRECTION = UnitVectors()


class UniaxialProjection(torch.nn.Module):
    """The modelled intensities T P (A^2 exp(-B sin^2(Theta))), a tensor of shape (n, J, K, S).

    Its parameters are ``A``, ``B``, shape (X, Y, Z), and ``axis``, shape (X, Y, Z, 3), of any length but 0, or
    ``theta_op`` and ``phi_op``. They begin at the start of seed 0. A call may put other tensors in place of any of
    them, those a network gives, say.

    Parameters
    ----------
    data : Dataset or Geometry
        What is projected where; of a data set also the transmission.
    mask : ndarray of bool, shape (X, Y, Z), or None
        Voxels outside scatter nothing.
    chart : str
        "axis", or "angles" for theta_op and phi_op (whose gradient vanishes at their poles).
    dtype : torch.dtype
        Of the parameters; computation is in float64 whichever it is.
    threads : int or None
        At most so many.

    Raises
    ------
    InputError
        If the mask or the chart is wrong, or (when called) a tensor has another shape or is not finite.

    Examples
    --------
    >>> geometry = Geometry.from_seed_angles([0.0, 0.4], [0.0, 1.0], (3, 3), (3, 3, 3), [0.0, 1.0, 2.0])
    >>> layer = UniaxialProjection(geometry)
    >>> layer().sqrt().sum().backward()
    >>> layer().shape, layer.axis.grad.shape
    (torch.Size([2, 3, 3, 3]), torch.Size([3, 3, 3, 3]))
    """

    def __init__(
        self,
        data: Dataset | Geometry,
        mask: Any = None,
        chart: str = "axis",
        dtype: torch.dtype = torch.float64,
        threads: int | None = None,
    ) -> None:
        super().__init__()
        if chart not in CHARTS:
            raise InputError(f"chart = {chart!r}: must be one of {', '.join(CHARTS)}")
        if isinstance(data, Geometry):
            shape = (data.projections, *data.projection_shape, data.segments)
            data = Dataset(data, np.broadcast_to(np.ones(()), shape))
        self.problem = TomographyProblem(data, mask=mask, threads=threads)
        self.names = CHARTS[chart]
        start = self.problem.fields(self.problem.start(0))
        start["theta_op"], start["phi_op"] = angles_from_axis(start["axis"])
        for name in self.names:
            self.register_parameter(name, torch.nn.Parameter(torch.tensor(start[name], dtype=dtype)))

    def forward(self, **fields: torch.Tensor) -> torch.Tensor:
        """Return the intensities of the parameters as they are now, or of tensors of their names."""
        for name in fields:
            if name not in self.names:
                raise InputError(f"{name!r}: no such field; there are: {', '.join(self.names)}")
        return call(self._evaluate, *(fields.get(name, getattr(self, name)) for name in self.names))

    def _evaluate(self, values: list[np.ndarray]) -> tuple[np.ndarray, Pullback]:
        given = dict(zip(self.names, values, strict=True))
        for name, value in given.items():
            wanted = (*self.problem.mask.shape, 3) if name == "axis" else self.problem.mask.shape
            if value.shape != wanted:
                raise InputError(f"{name}: shape {value.shape} where {wanted} is needed")
        image, pullback = self.problem.forward_and_pullback(**given)

        def by_values(cotangent: np.ndarray) -> list[np.ndarray]:
            found = pullback(cotangent)
            if "axis" in found:  # from the unit vector to one of any length
                m, by_u = (np.moveaxis(given["axis"], -1, 0), np.moveaxis(found["axis"], -1, 0))
                found["axis"] = np.moveaxis(DIRECTION.pull(m, by_u), 0, -1)
            return [found[name] for name in self.names]

        return image, by_values

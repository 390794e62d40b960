"""The image as a PyTorch module, with exact gradients by named parameters.

Units are those of each name: `cell_a` in Angstrom, `mosaic_spread_rad` in radians, `distance_mm`, ...
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from exactgrad.core.torch import Pullback, call, torch
from exactgrad.diffraction.simulator import Simulator
from exactgrad.errors import InputError


class DiffractionImage(torch.nn.Module):
    """The expected photons of every pixel, a tensor of shape (slow, fast).

    Parameters
    ----------
    sim : Simulator
        It is kept as it is; what is not free may be changed by `sim.update`, and the next call sees it.
    free : iterable of str
        Any names of `Simulator`; each becomes a `torch.nn.Parameter` of that name. A name of several numbers ("F",
        "lambda[]") becomes a parameter of their shape.
    dtype : torch.dtype
        Of the parameters and the image; computation is in float64 whichever it is.
    threads : int or None
        At most so many.

    Raises
    ------
    InputError
        If a name is unknown or there is no derivative by it, or (when called) a value is out of its range.

    Examples
    --------
    >>> words = "-cell 50 60 70 90 90 90 -N 3 -default_F 9 -detpixels 8 -pixel 2 -oversample 1 -misset 1 2 3"
    >>> model = DiffractionImage(Simulator.from_nanobragg(words), free=["cell_a", "misset_rot_x", "lambda_A"])
    >>> model().log1p().sum().backward()
    >>> sorted(name for name, p in model.named_parameters() if p.grad.abs() > 0)
    ['cell_a', 'lambda_A', 'misset_rot_x']
    """

    def __init__(
        self,
        sim: Simulator,
        free: Iterable[str],
        dtype: torch.dtype = torch.float64,
        threads: int | None = None,
    ) -> None:
        super().__init__()
        self.sim, self.names, self.threads = sim, tuple(free), threads
        if not self.names:
            raise InputError("free: at least one name is needed")
        sim.image_and_pullback(self.names, threads)  # refuses what has no derivative before it is asked for
        for name in self.names:
            value = torch.tensor(np.asarray(sim.value(name), dtype=float), dtype=dtype)
            self.register_parameter(name, torch.nn.Parameter(value))

    def forward(self) -> torch.Tensor:
        """Return the image at the parameters as they are now."""
        return call(self._evaluate, *(self.get_parameter(name) for name in self.names))

    def _evaluate(self, values: list[np.ndarray]) -> tuple[np.ndarray, Pullback]:
        named = {name: value if value.ndim else float(value) for name, value in zip(self.names, values, strict=True)}
        image, pullback = self.sim.with_values(named).image_and_pullback(self.names, self.threads)

        def by_values(cotangent: np.ndarray) -> list[np.ndarray]:
            found = pullback(cotangent)
            return [np.asarray(found[name]) for name in self.names]

        return image, by_values

"""A refinement as a problem for a solver: unknowns -> settings -> images -> loss in the regions, and back.

The loss is minus the log likelihood of what was recorded, minimised over the background under the spots
(`refinement.profile`). A solver of `core.solve` sees it per pixel, so that it is of order one; `residual_products` is
that of the likelihood itself, as standard errors need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exactgrad.core.parameters import Parameters
from exactgrad.diffraction import derivative
from exactgrad.diffraction.losses import Loss, Observed, observe
from exactgrad.diffraction.refinement.likelihood import loss_for
from exactgrad.diffraction.refinement.profile import Backdrop
from exactgrad.diffraction.refinement.restraints import Restraint, restrained
from exactgrad.diffraction.refinement.unknowns import Free, Unknowns
from exactgrad.diffraction.settings import Settings
from exactgrad.diffraction.simulator import Simulator
from exactgrad.diffraction.spots import Regions, predict, regions
from exactgrad.errors import InputError

START_SPREAD = 1.0  # of x in random starts


@dataclass(frozen=True)
class Exposure:
    """One image: what its scene is taken to be, what was recorded, and where it is looked at.

    Attributes
    ----------
    settings : Settings
    observed : Observed
        Of the detector's shape.
    regions : Regions
    name : str
    """

    settings: Settings
    observed: Observed
    regions: Regions
    name: str = ""


@dataclass(frozen=True)
class Fitted:
    """An image's compared pixels at some parameters.

    Attributes
    ----------
    settings : Settings
    slow, fast : ndarray of int, shape (n,)
    recorded, spots, background : ndarray, shape (n,)
        Photons; the model is spots + background.
    coefficients : ndarray
        Of the background.
    """

    settings: Settings
    slow: np.ndarray
    fast: np.ndarray
    recorded: np.ndarray
    spots: np.ndarray
    coefficients: np.ndarray
    background: np.ndarray

    def z(self, readout_photons: float) -> np.ndarray:
        """Return (recorded - model)/sigma, sigma that of the model's photons and the read-out, shape (n,)."""
        model = self.spots + self.background
        return (self.recorded - model) / np.sqrt(np.maximum(model, 1e-3) + readout_photons**2)


def look_around_spots(
    settings: Settings, observed: Observed, radius_px: float, least_excitation: float = 0.02, name: str = ""
) -> Exposure:
    """Return an image looked at in boxes around the spots that its settings predict; raises if there is none."""
    spots = predict(settings.scene(), least_excitation)
    if len(spots) == 0:
        raise InputError(f"{name or 'image'}: no spot is predicted on the detector; check cell, orientation, distance")
    return Exposure(settings, observed, regions(spots, observed.photons.shape, radius_px), name)


class DiffractionProblem:
    """The refinement of some unknowns against recorded images.

    Parameters
    ----------
    exposures : sequence of Exposure
    members : sequence of Free
        Unknowns; they start where the exposures' settings are.
    loss : str or Loss
        "poisson", "gaussian", "student", "huber" (`refinement.likelihood`), or any other.
    background : str
        "planes" (one in every region), "flat" (one level an image), "none".
    restraints : sequence of Restraint
    threads : int or None

    Raises
    ------
    InputError
        If there is nothing to refine, or an unknown cannot be.

    Examples
    --------
    >>> problem = problems()["still"]
    >>> value, gradient = problem.value_and_gradient(problem.start(0))
    >>> gradient.shape == (problem.size,), problem.parameters(np.zeros(problem.size)).labels()[0]
    (True, 'misset_x')
    """

    def __init__(
        self,
        exposures: Sequence[Exposure],
        members: Sequence[Free],
        loss: Loss | str = "poisson",
        background: str = "planes",
        restraints: Sequence[Restraint] = (),
        threads: int | None = None,
    ) -> None:
        if not members:
            raise InputError("refine.free: nothing to refine; name at least one parameter")
        self.exposures, self.threads = tuple(exposures), threads
        self.backdrops = [Backdrop.of(seen.observed, seen.regions, background) for seen in self.exposures]
        self.losses = [loss_for(loss, seen.observed, drop) for seen, drop in self._pairs()]
        images = [_masked(seen, drop) for seen, drop in self._pairs()]
        self.unknowns = Unknowns(images, members)
        self.restraints = tuple(restraints)
        self.size, self.pixels = self.unknowns.size, sum(drop.size for drop in self.backdrops)
        self._hessian: tuple[bytes, np.ndarray] | None = None

    def limit_threads(self, threads: int | None) -> None:
        """Use at most so many threads; results do not depend on it."""
        self.threads = threads

    def parameters(self, x: np.ndarray) -> Parameters:
        """Return the unknowns with values, units and bounds."""
        return self.unknowns.parameters(x)

    def start(self, seed: int) -> np.ndarray:
        """Return a random vector about the stated start, which is 0; the same seed gives the same."""
        return START_SPREAD * np.random.default_rng(seed).uniform(-1.0, 1.0, self.size)

    def off_kink(self, x: np.ndarray) -> np.ndarray | None:
        """Return None: nothing here begins to bind."""
        return None

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return minus the log likelihood per pixel and its exact gradient."""
        total, gradient = 0.0, np.zeros(self.size)
        for image, settings in enumerate(self.unknowns.settings(x)):
            drop = self.backdrops[image]
            spots, pullback = Simulator(settings).image_and_pullback(self.unknowns.names(image), self.threads)
            _, at = drop.fitted(self.losses[image], drop.picked(spots))
            total += at.total
            by_name = pullback(drop.laid_out(at.derivative, spots.shape))
            gradient += self.unknowns.gradient(image, by_name)
        return total / self.pixels, gradient * self.unknowns.slopes(x) / self.pixels

    def penalty_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return what the restraints cost, in the unit of the value, and its gradient."""
        value, gradient, _ = restrained(self.restraints, self.unknowns, x)
        return value / self.pixels, gradient / self.pixels

    def residual_products(self, x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Return minus the log likelihood with restraints, its gradient, and J^T W J of the profile.

        W is the expected second derivative of the loss by the photons, J that of the photons by x in forward mode.
        Where x makes no scene, a cell that does not close say, the loss is infinite.
        """
        try:
            images = self.unknowns.settings(x)
            scenes = [settings.scene() for settings in images]
        except InputError:
            if not np.isfinite(x).all():
                raise
            return np.inf, np.zeros(self.size), np.zeros((self.size, self.size))
        total, gradient, curvature = restrained(self.restraints, self.unknowns, x)
        slopes = self.unknowns.slopes(x)
        for image, (settings, scene, drop) in enumerate(zip(images, scenes, self.backdrops, strict=True)):
            own = self.unknowns.of_image(image)
            spots, moved = derivative.push(scene, self.unknowns.movements(settings, image), self.threads)
            _, at = drop.fitted(self.losses[image], drop.picked(spots))
            rows = drop.picked(moved) * slopes[own, None, None]
            total += at.total
            gradient[own] += rows[:, 0] @ at.derivative[0]
            curvature[np.ix_(own, own)] += drop.curvature(at, rows)
        return float(total), gradient, curvature

    def information(self, x: np.ndarray) -> np.ndarray:
        """Return J^T W J by the parameters' values, in their units: the inverse of their covariance."""
        slopes = self.unknowns.slopes(x)
        return self.residual_products(x)[2] / slopes[:, None] / slopes

    def hessian_product(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the second derivative of value + penalty at x, times v.

        By extrapolated differences of the exact gradient along every unknown, some 1e-10 of the largest entry: an image
        has exact first derivatives only. J^T W J, which refinement goes by, is `residual_products`.
        """
        key = self.unknowns.vector(x).tobytes()
        if self._hessian is None or self._hessian[0] != key:
            columns = np.stack([self._gradient_along(x, axis) for axis in np.eye(self.size)])
            self._hessian = key, 0.5 * (columns + columns.T)
        return self._hessian[1] @ self.unknowns.vector(v)

    def fitted(self, x: np.ndarray) -> list[Fitted]:
        """Return spots and background of every image at x."""
        found = []
        for image, settings in enumerate(self.unknowns.settings(x)):
            drop = self.backdrops[image]
            spots = drop.picked(Simulator(settings).image(self.threads))
            coefficients, _ = drop.fitted(self.losses[image], spots)
            rest = coefficients, drop.planes.image(coefficients)[0]
            found.append(Fitted(settings, drop.slow, drop.fast, drop.observed.photons[0], spots[0], *rest))
        return found

    def _pairs(self) -> list[tuple[Exposure, Backdrop]]:
        return list(zip(self.exposures, self.backdrops, strict=True))

    def _gradient_along(self, x: np.ndarray, v: np.ndarray) -> np.ndarray:
        from exactgrad.core.solve import total_loss
        from exactgrad.core.verify import best_central_difference

        loss = total_loss(self)
        return best_central_difference(lambda y: loss(y)[1], x, v).value


def _masked(seen: Exposure, drop: Backdrop) -> Settings:
    """Return settings that render the compared pixels only."""
    from exactgrad.diffraction.parameters.entry import with_field

    mask = np.zeros(seen.observed.photons.shape, dtype=bool)
    mask[drop.slow, drop.fast] = True
    return with_field(with_field(seen.settings, ["detector", "mask"], mask), ["detector", "roi"], None)


def problems() -> dict[str, Any]:
    """Return small problems of this system, on which every promise of `core.problem.Problem` is tested."""
    words = "-cell 20 25 30 90 100 90 -N 6 -default_F 100 -lambda 1 -distance 70 -pixel 1 -detpixels 36 -oversample 1"
    truth = Simulator.from_nanobragg(f"{words} -mosaic 0.8 -mosaic_domains 6 -misset 10 20 30 -fluence 3e26").settings
    along = [truth.replace(phi=angle) for angle in (0.0, 20.0)]
    rng = np.random.default_rng(5)
    seen = [observe(rng.poisson(Simulator(settings).image() + 4.0)) for settings in along]
    exposures = [look_around_spots(one, image, 2.5, 0.2) for one, image in zip(along, seen, strict=True)]
    shared = [Free(name, (0, 1)) for name in ("misset_x", "cell_beta", "mosaic")]
    own = [Free("fluence", (i,), owner=f"image {i + 1}") for i in (0, 1)]
    still = [Free(name) for name in ("misset_x", "cell_b", "distance", "fluence")]
    return {
        "still": DiffractionProblem(exposures[:1], still, restraints=[Restraint("cell_b", 25.0, 0.01)]),
        "two images": DiffractionProblem(exposures, [*shared, *own], background="flat"),
    }

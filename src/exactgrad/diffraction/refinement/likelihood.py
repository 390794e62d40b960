"""Which loss an image's pixels get."""

from __future__ import annotations

import numpy as np

from exactgrad.diffraction.losses import Gaussian, Huber, Loss, Observed, Poisson, StudentT, sigma_of
from exactgrad.diffraction.refinement.profile import Backdrop
from exactgrad.errors import InputError

KINDS = {"gaussian": Gaussian, "student": StudentT, "huber": Huber}
AROUND_PX = 3


def loss_for(kind: str | Loss, observed: Observed, drop: Backdrop) -> Loss:
    """Return a loss for the compared pixels of an image.

    "poisson" (counting with read-out), or one of `KINDS`: their sigma is that of the mean photons of 3 x 3 pixels, not
    of a pixel's own, which would favour pixels that fluctuated down.

    Raises
    ------
    InputError
        If the kind is unknown.
    """
    from scipy.ndimage import uniform_filter

    if not isinstance(kind, str):
        return kind
    if kind == "poisson":
        return Poisson()
    if kind not in KINDS:
        raise InputError(f"refine.loss = {kind[:40]!r}: must be poisson, {', '.join(KINDS)}")
    share = uniform_filter(observed.counted.astype(np.float64), AROUND_PX, mode="constant")
    total = uniform_filter(np.where(observed.counted, observed.photons, 0.0), AROUND_PX, mode="constant")
    mean = np.divide(total, share, out=np.zeros(total.shape), where=share > 0)
    return KINDS[kind](sigma_of(drop.picked(mean), observed.readout_photons))

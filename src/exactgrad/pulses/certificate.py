"""How good a pulse is, found without the kernel: independent Bloch simulation, dense grids, and the written file.

Units: Hz, seconds. A quality is a spin's own (see `targets.py`); the mean is plain or weighted as the ensemble says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exactgrad.pulses.assemble import target_of
from exactgrad.pulses.bloch import propagators
from exactgrad.pulses.ensemble import Ensemble
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.pulse import Pulse
from exactgrad.pulses.response import Response
from exactgrad.pulses.targets import Bands, Cost

DENSE_OFFSETS, DENSE_B1 = 401, 11
MOST_STEP_ANGLE_DEG = 60.0


def seen_by_spins(pulse: Pulse, response: Response | None) -> Pulse:
    """Return what reaches the spins: the pulse itself, or after the transmitter's response, ring-down included."""
    if response is None:
        return pulse
    ux, uy, uz = response.apply(np.stack((pulse.ux_hz, pulse.uy_hz, pulse.uz_hz)))
    return Pulse(np.full(ux.size, pulse.step_s[0]), ux, uy, uz)


def qualities(pulse: Pulse, ensemble: Ensemble, cost: Cost, response: Response | None = None) -> np.ndarray:
    """Return the quality of every spin by independent simulation, shape (S,)."""
    turns = propagators(seen_by_spins(pulse, response), ensemble.offset_hz, ensemble.b1)
    return cost.evaluate(np.ascontiguousarray(turns.T))[0]


@dataclass(frozen=True)
class Dense:
    """Qualities on a dense grid that is not the training grid.

    Attributes
    ----------
    offset_hz, b1 : ndarray, shapes (M,), (K,)
    quality : ndarray, shape (M, K); NaN where the target judges nothing (between bands)
    mean, least, percentile_1 : float
        Over the judged points, equal weights.
    """

    offset_hz: np.ndarray
    b1: np.ndarray
    quality: np.ndarray

    @property
    def _judged(self) -> np.ndarray:
        return self.quality[np.isfinite(self.quality)]

    @property
    def mean(self) -> float:
        """Mean quality."""
        return float(self._judged.mean())

    @property
    def least(self) -> float:
        """Worst quality."""
        return float(self._judged.min())

    @property
    def percentile_1(self) -> float:
        """1st percentile of the quality."""
        return float(np.percentile(self._judged, 1))


def dense_grid(problem: PulseProblem, pulse: Pulse) -> Dense:
    """Evaluate a pulse on 401 offsets x 11 B1 over the range of the training ensemble, between its points too."""
    training = problem.ensemble
    low, high = float(training.offset_hz.min()), float(training.offset_hz.max())
    weak, strong = float(training.b1.min()), float(training.b1.max())
    offsets = np.linspace(low, high, DENSE_OFFSETS) if high > low else np.array([low])
    fields = np.linspace(weak, strong, DENSE_B1) if strong > weak else np.array([weak])
    if isinstance(problem.cost, Bands):  # a narrow band may lie between the points: it gets one of its spins
        first = [spins[0] for spins, _ in problem.cost.members]
        offsets = np.union1d(offsets, training.offset_hz[first])
        fields = np.union1d(fields, training.b1[first])
    ensemble = Ensemble.from_grid(offsets, fields)
    cost, weight = target_of(problem.job, ensemble, float(problem.step_s.sum()), problem.folder)
    quality = qualities(pulse, ensemble, cost, problem.response)
    quality = np.where(weight > 0, quality, np.nan)
    return Dense(offsets, fields, quality.reshape(offsets.size, fields.size))


def grid_warnings(problem: PulseProblem, pulse: Pulse) -> list[str]:
    """Return what a user should know before trusting the numbers: coarse offset grid, coarse steps, idle keys."""
    found = []
    table = problem.job.ensemble
    if table.b1_spread > 0 and table.b1_points == 1:
        found.append(f"ensemble.b1_spread = {table.b1_spread:g} does nothing with b1_points = 1")
    duration = float(problem.step_s.sum())
    spacing, widest = problem.ensemble.spacing_hz(), 1 / (2 * duration)
    if spacing > widest * (1 + 1e-9):
        found.append(
            f"the offset grid is coarse: {spacing:.4g} Hz between points, more than 1/(2T) = {widest:.4g} Hz; between "
            "them the quality may drop (see the dense-grid minimum)"
        )
    angle = np.rad2deg(2 * np.pi * float(np.max(pulse.amplitude_hz * pulse.step_s)))
    if angle > MOST_STEP_ANGLE_DEG:
        found.append(
            f"the rf turns spins by up to {angle:.0f} degrees in one step, more than {MOST_STEP_ANGLE_DEG:.0f}: a "
            "console that smooths between steps plays another pulse; use shorter steps"
        )
    return found


def fold_z(pulse: Pulse, parts: int) -> Pulse:
    """Return the pulse in the frame that turns with its offset control: uz becomes accumulated phase.

    Each step is cut into `parts`; the phase of a part is that of its middle, so the fold is exact in the limit of
    many parts. The whole pulse is turned by the total angle, so that a start along z ends as with uz.
    """
    step = np.repeat(pulse.step_s / parts, parts)
    uz = np.repeat(pulse.uz_hz, parts)
    turned = 2 * np.pi * np.cumsum(uz * step)
    middle = turned - np.pi * uz * step
    phase = np.repeat(pulse.phase_rad, parts) - middle + turned[-1]
    return Pulse.from_polar(step, np.repeat(pulse.amplitude_hz, parts), phase)

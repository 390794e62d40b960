"""Tilt schemes: at which turns of the sample its projections are taken. Angles in degrees here, radians in data files.

A projection's rotation is R = R_outer(tilt) R_inner(turn): the sample turns about its own (inner) axis, which is tilted
about the outer axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from exactgrad.errors import InputError, require_range

MOST_PROJECTIONS = 100_000
GOLDEN_TURN = (3.0 - np.sqrt(5.0)) / 2.0  # of a full turn


@dataclass(frozen=True)
class Scheme:
    """Angles of the projections in the order in which they are measured.

    Attributes
    ----------
    turn_deg : ndarray, shape (n,), float64
        About the inner axis.
    tilt_deg : ndarray, shape (n,), float64
        About the outer axis.
    """

    turn_deg: np.ndarray
    tilt_deg: np.ndarray

    def __len__(self) -> int:
        return len(self.turn_deg)


def single_axis(projections: int, span_deg: float = 180.0) -> Scheme:
    """Return equal steps over `span_deg` about one axis; the 3-D axis of a voxel is ambiguous from such data.

    Raises
    ------
    InputError
        If a number is out of range.

    Examples
    --------
    >>> single_axis(4).turn_deg.tolist()
    [0.0, 45.0, 90.0, 135.0]
    """
    _check_count("projections", projections)
    require_range("span_deg", span_deg, "degrees", low=0.0, high=360.0, open_low=True)
    return Scheme(np.arange(projections) * span_deg / projections, np.zeros(projections))


def equal_area(projections: int, max_tilt_deg: float = 45.0) -> Scheme:
    """Return beams spread evenly over the zone of the sphere that tilts up to `max_tilt_deg` reach.

    They lie on a Fibonacci spiral; the share of projections at a tilt goes with its cosine, as the area of the zone.

    Raises
    ------
    InputError
        If a number is out of range.

    Examples
    --------
    >>> scheme = equal_area(200, 45.0)
    >>> len(scheme), bool(scheme.tilt_deg.max() < 45.0), bool(scheme.tilt_deg.min() > 0.0)
    (200, True, True)
    """
    _check_count("projections", projections)
    require_range("max_tilt_deg", max_tilt_deg, "degrees", low=0.0, high=90.0, open_low=True)
    i = np.arange(projections)
    sine = (i + 0.5) / projections * np.sin(np.deg2rad(max_tilt_deg))
    return Scheme(360.0 * (i * GOLDEN_TURN % 1.0), np.rad2deg(np.arcsin(sine)))


def liebi(
    projections_at_zero: int,
    max_tilt_deg: float = 45.0,
    tilts: int | None = None,
    projections_tilted: int | None = None,
) -> Scheme:
    """Return the sampling rule of tensor tomography at cSAXS (Liebi et al.; as the PSI scripts state it).

    N0 projections over 180 degrees without tilt, in steps of 180 / N0; tilts in the same step up to `max_tilt_deg`;
    at a tilt b, 2 N cos(b) projections (rounded) over 360 degrees, with N = N0.

    Parameters
    ----------
    projections_at_zero : int
        N0; Crowther's rule asks for the sample's diameter over the step of the scan.
    max_tilt_deg : float
        The largest tilt.
    tilts : int, optional
        How many tilts, evenly up to `max_tilt_deg`; by default as many as the rule's step gives.
    projections_tilted : int, optional
        N at the tilts, where fewer than N0 are wanted.

    Raises
    ------
    InputError
        If a number is out of range.

    Examples
    --------
    A sample of 1.5 mm, scanned in steps of 45 um, and its reduced scheme:

    >>> len(liebi(33)), len(liebi(33, tilts=5, projections_tilted=20))
    (503, 207)
    """
    _check_count("projections_at_zero", projections_at_zero)
    require_range("max_tilt_deg", max_tilt_deg, "degrees", low=0.0, high=89.0, open_low=True)
    step = 180.0 / projections_at_zero
    if tilts is None:
        at_tilts = np.arange(1, int(max_tilt_deg / step + 1e-9) + 1) * step
    else:
        require_range("tilts", tilts, low=0, high=1000)
        at_tilts = np.arange(1, tilts + 1) * max_tilt_deg / max(tilts, 1)
    tilted = projections_at_zero if projections_tilted is None else projections_tilted
    _check_count("projections_tilted", tilted)
    counts = np.rint(2 * tilted * np.cos(np.deg2rad(at_tilts))).astype(int)
    return _rows(projections_at_zero, at_tilts, np.maximum(counts, 1))


def liebi_of(projections: int, max_tilt_deg: float = 45.0, tilts: int = 5) -> Scheme:
    """Return Liebi's scheme with this many projections in all: N0 is a sixth (six parameters a voxel), the rest tilted
    to `tilts` tilts of up to `max_tilt_deg`.

    Raises
    ------
    InputError
        If a number is out of range.

    Examples
    --------
    >>> scheme = liebi_of(200)
    >>> len(scheme), int((scheme.tilt_deg == 0).sum())
    (200, 33)
    """
    require_range("tilts", tilts, low=1, high=1000)
    require_range("max_tilt_deg", max_tilt_deg, "degrees", low=0.0, high=89.0, open_low=True)
    _check_count("projections", projections)
    if projections < 2 * (tilts + 1):
        raise InputError(
            f"projections = {projections}: must be >= {2 * (tilts + 1)}, two for each of {tilts} tilts and 0"
        )
    at_zero = round(projections / 6)
    at_tilts = np.arange(1, tilts + 1) * max_tilt_deg / tilts
    share = np.cos(np.deg2rad(at_tilts))
    bounds = np.rint(np.cumsum(share) / share.sum() * (projections - at_zero)).astype(int)
    return _rows(at_zero, at_tilts, np.diff(bounds, prepend=0))


def _rows(at_zero: int, tilts: np.ndarray, counts: np.ndarray) -> Scheme:
    if at_zero + int(counts.sum()) > MOST_PROJECTIONS:
        raise InputError(f"{at_zero + int(counts.sum())} projections: must be <= {MOST_PROJECTIONS}")
    turns = [np.arange(at_zero) * 180.0 / at_zero] + [np.arange(n) * 360.0 / n for n in counts]
    heights = [np.zeros(at_zero)] + [np.full(n, tilt) for n, tilt in zip(counts, tilts, strict=True)]
    return Scheme(np.concatenate(turns), np.concatenate(heights))


def _check_count(name: str, count: int) -> None:
    require_range(name, count, low=1, high=MOST_PROJECTIONS)

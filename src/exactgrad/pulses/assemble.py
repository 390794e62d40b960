"""A job as objects: its spins, its cost, the way from the solver's vector to the waveform, its penalties."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exactgrad.core.transforms import EnergyScaling, EnergyTanh, Hold, Mirror, RadialTanh, Transform
from exactgrad.errors import InputError
from exactgrad.pulses import controls
from exactgrad.pulses.controls import CHANNELS
from exactgrad.pulses.ensemble import Ensemble, read_columns
from exactgrad.pulses.job import Aim, Job
from exactgrad.pulses.penalties import EnergyExcess, PeakExcess, Penalty, Smoothness
from exactgrad.pulses.targets import (
    Bands,
    Cost,
    Rotation,
    Saturation,
    Transfer,
    Transverse,
    parse_axis,
    rotation_quaternion,
)

INSIDE = 1.0 - 1e-14  # limits are aimed at from inside, so that rounding does not pass them


def ensemble_of(job: Job, folder: Path) -> Ensemble:
    """Return the spins of a job: a grid, or a measured distribution from a file in `folder`."""
    table = job.ensemble
    if job.target.map is not None:
        if {"bandwidth_hz", "offsets", "offsets_hz", "b1", "distribution"} & table.model_fields_set:
            raise InputError("ensemble: target.map says the offsets and B1; give only an objective here")
        return read_map(folder / job.target.map)[0]
    if table.distribution is not None:
        return Ensemble.from_csv(folder / table.distribution)
    if table.offsets_hz is not None:
        offsets = np.array(table.offsets_hz)
    else:
        if table.bandwidth_hz is None or table.offsets is None:
            key = "bandwidth_hz" if table.bandwidth_hz is None else "offsets"
            raise InputError(f"ensemble.{key}: missing (or give ensemble.offsets_hz, a list)")
        half = table.bandwidth_hz / 2
        offsets = table.centre_hz + (np.linspace(-half, half, table.offsets) if table.offsets > 1 else np.zeros(1))
    if table.b1 is not None:
        b1 = np.array(table.b1)
    else:
        spread = table.b1_spread
        b1 = np.linspace(1 - spread, 1 + spread, table.b1_points) if table.b1_points > 1 else np.ones(1)
    return Ensemble.from_grid(offsets, b1, table.offset_weights, table.b1_weights)


def read_map(path: Path) -> tuple[Ensemble, np.ndarray]:
    """Read a target map: CSV columns offset_hz, b1, x, y, z (the wanted end state) and, optionally, weight.

    Returns
    -------
    Ensemble, ndarray of shape (3, S)

    Raises
    ------
    FormatError, InputError
        If the table is not such a one, or an end state is longer than 1.
    """
    columns = read_columns(path, required=("offset_hz", "b1", "x", "y", "z"), optional=("weight",))
    wanted = np.stack([columns[name] for name in "xyz"])
    length = np.sqrt(np.sum(wanted**2, axis=0))
    if (length > 1 + 1e-6).any():
        row = int(np.argmax(length))
        raise InputError(f"{path}: row {row + 1}: the end state has length {length[row]:g}; at most 1 can be reached")
    return Ensemble.from_spins(columns["offset_hz"], columns["b1"], columns.get("weight")), wanted


def _map_cost(job: Job, path: Path, ensemble: Ensemble) -> Cost:
    """Return the transfer to the map's end states; a spin that is not in the map takes its nearest neighbour's."""
    from scipy.spatial import cKDTree

    spins, wanted = read_map(path)
    scale = [max(float(np.ptp(values)), 1e-12) for values in (spins.offset_hz, spins.b1)]
    points = np.column_stack((spins.offset_hz / scale[0], spins.b1 / scale[1]))
    asked = np.column_stack((ensemble.offset_hz / scale[0], ensemble.b1 / scale[1]))
    nearest = cKDTree(points).query(asked)[1]
    return Transfer(parse_axis("target.start", job.target.start)[:, None], wanted[:, nearest])


def target_of(job: Job, ensemble: Ensemble, duration_s: float, folder: Path = Path()) -> tuple[Cost, np.ndarray]:
    """Return the cost of all spins, and their weights (a band's weight multiplies those of its spins)."""
    table = job.target
    if table.map is not None:
        return _map_cost(job, folder / table.map, ensemble), ensemble.weight
    if not table.band:
        return _cost("target", table, ensemble.offset_hz, duration_s), ensemble.weight
    left = np.ones(ensemble.spins, dtype=bool)
    weight, members = np.zeros(ensemble.spins), []
    for i, band in enumerate(table.band):
        low, high = sorted(band.offset_hz)
        inside = left & (ensemble.offset_hz >= low) & (ensemble.offset_hz <= high)
        if band.b1 is not None:
            inside &= (ensemble.b1 >= min(band.b1)) & (ensemble.b1 <= max(band.b1))
        spins = np.flatnonzero(inside)
        if spins.size == 0:
            raise InputError(f"target.band.{i}: no spin of the ensemble lies in it (and in no band before it)")
        left &= ~inside
        weight[spins] = band.weight * ensemble.weight[spins]
        members.append((spins, _cost(f"target.band.{i}", band, ensemble.offset_hz[spins], duration_s)))
    if weight.sum() <= 0:
        raise InputError("target.band: all weights are zero")
    rest = np.flatnonzero(left)  # transition regions: judged by nothing
    if rest.size:
        members.append((rest, Transfer(np.array([[0.0], [0.0], [1.0]]), np.zeros((3, 1)))))
    return Bands(tuple(members)), weight / weight.sum()


def _cost(key: str, aim: Aim, offset_hz: np.ndarray, duration_s: float) -> Cost:
    if aim.transfer is not None:
        initial = parse_axis(f"{key}.transfer.0", aim.transfer[0])[:, None]
        target = parse_axis(f"{key}.transfer.1", aim.transfer[1])[:, None]
        if aim.phase_slope:
            angle = 2 * np.pi * aim.phase_slope * duration_s * offset_hz
            cos, sin = np.cos(angle), np.sin(angle)
            turned = (cos * target[0] - sin * target[1], sin * target[0] + cos * target[1])
            target = np.stack((*turned, np.broadcast_to(target[2], angle.shape)))
        return Transfer(initial, target)
    if aim.rotation is not None:
        axis = parse_axis(f"{key}.rotation.axis", aim.rotation.axis)
        quaternion = rotation_quaternion(axis, np.deg2rad(aim.rotation.angle_deg))
        return Rotation(quaternion[:, None], aim.rotation.sign_free)
    if aim.saturation is not None:
        axis = parse_axis(f"{key}.saturation", aim.saturation)[:, None]
        return Saturation(axis, axis)
    axis = parse_axis(f"{key}.transverse", aim.transverse)[:, None]
    return Transverse(axis, axis)


def natural_scale(job: Job, step_s: np.ndarray) -> float:
    """Return the amplitude that suits x = 1: a limit, else what half the bandwidth or a turn needs."""
    limits, duration = job.limits, float(step_s.sum())
    if limits.peak_hz is not None:
        return float(np.max(limits.peak_hz))
    energy = _energy_limit(job, step_s)
    if energy is not None:
        return float(np.sqrt(energy / duration))
    return max((job.ensemble.bandwidth_hz or 0.0) / 2, 1.0 / duration)


def _energy_limit(job: Job, step_s: np.ndarray) -> float | None:
    """Return the energy, Hz^2 s, that the rms and the energy limit allow together."""
    limits = job.limits
    bounds = []
    if limits.rms_hz is not None:
        bounds.append(limits.rms_hz**2 * float(step_s.sum()))
    if limits.energy_hz2_s is not None:
        bounds.append(limits.energy_hz2_s)
    return min(bounds) if bounds else None


def _peak(job: Job, steps: int) -> np.ndarray | None:
    if job.limits.peak_hz is None:
        return None
    peak = np.asarray(job.limits.peak_hz, dtype=float)
    if peak.ndim and peak.size != steps:
        raise InputError(f"limits.peak_hz: {peak.size} values for {steps} steps")
    return np.broadcast_to(peak, (steps,))


def links_of(job: Job, step_s: np.ndarray, scale_hz: float) -> list[Transform]:
    """Return the way from x to the waveform: channels, symmetry, controls, peak, energy, held segments."""
    kind, limits, steps = job.pulse.controls, job.limits, step_s.size
    names = CHANNELS[kind]
    peak = _peak(job, steps)
    links: list[Transform] = [controls.Channels(len(names))]
    if job.pulse.symmetry is not None:
        links.append(Mirror(_signs(job, step_s), steps))
    if kind == "phase" and peak is not None:
        links.append(controls.PhaseOnly(peak))
    elif names[0] == "amplitude":
        links.append(controls.Polar(scale_hz))
    else:
        links.append(controls.Cartesian(scale_hz))
    held, values = _held(job, step_s)
    if limits.enforce == "map":
        if peak is not None and kind != "phase":
            links.append(RadialTanh(peak * INSIDE))
        energy = _energy_limit(job, step_s)
        if energy is not None:
            taken = float(np.sum(step_s * held * (values[0] ** 2 + values[1] ** 2)))
            if taken >= energy:
                raise InputError(
                    f"pulse.hold: the held segments alone take {taken:g} Hz^2 s of {energy:g} Hz^2 s allowed"
                )
            tanh = limits.power_map == "tanh" or (
                limits.power_map is None and kind.startswith("reduced") and limits.peak_hz is None
            )
            links.append(
                (EnergyTanh if tanh else EnergyScaling)(np.where(held, 0.0, step_s), (energy - taken) * INSIDE)
            )
    if held.any():
        links.append(Hold(held, values))
    return links


def _signs(job: Job, step_s: np.ndarray) -> tuple[int, ...]:
    names, given = CHANNELS[job.pulse.controls], job.pulse.symmetry
    if np.abs(step_s - step_s[::-1]).max() > 1e-9 * step_s.max():
        raise InputError("pulse.symmetry: the step lengths themselves are not symmetric in time")
    wish = dict.fromkeys(names, given) if isinstance(given, str) else {str(key): p for key, p in (given or {}).items()}
    for name in (*wish, *names):
        if name not in names or name not in wish:
            raise InputError(
                f"pulse.symmetry.{name}: a parity for each of {', '.join(names)} is needed, and for nothing else"
            )
    return tuple(1 if wish[name] == "even" else -1 for name in names)


def _held(job: Job, step_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ends_us = np.cumsum(step_s) * 1e6
    middles_us = ends_us - step_s * 5e5
    held, values = np.zeros(step_s.size, dtype=bool), np.zeros((3, step_s.size))
    for i, segment in enumerate(job.pulse.hold):
        inside = (middles_us >= segment.from_us) & (middles_us <= segment.to_us)
        if not inside.any() or segment.to_us > ends_us[-1] * (1 + 1e-9):
            raise InputError(
                f"pulse.hold.{i}: {segment.from_us:g} to {segment.to_us:g} us holds no step of 0 to {ends_us[-1]:g} us"
            )
        values[:, inside] = np.array([[segment.ux_hz], [segment.uy_hz], [segment.uz_hz]])
        held |= inside
    if held.all():
        raise InputError("pulse.hold: every step is held, nothing is left to design")
    return held, values


def clip(job: Job, step_s: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return waveforms, shape (3, N), cut at the peak and then scaled to the energy; held steps stay."""
    held, _ = _held(job, step_s)
    peak, energy = _peak(job, step_s.size), _energy_limit(job, step_s)
    limited = u.copy()
    if peak is not None:
        limited[:2] *= np.minimum(1.0, INSIDE * peak / np.maximum(np.hypot(u[0], u[1]), 1e-300))
    if energy is not None:
        taken = float(np.sum(step_s * held * np.sum(u[:2] ** 2, axis=0)))
        limited = EnergyScaling(np.where(held, 0.0, step_s), (energy - taken) * INSIDE).apply(limited)
    return np.where(held, u, limited)


def penalties_of(job: Job, step_s: np.ndarray, scale_hz: float) -> list[Penalty]:
    """Return the costs on the waveform that a job asks for."""
    penalties: list[Penalty] = []
    if job.penalties.smoothness:
        penalties.append(Smoothness(job.penalties.smoothness, scale_hz))
    if job.limits.enforce == "penalty":
        peak, energy = _peak(job, step_s.size), _energy_limit(job, step_s)
        if peak is not None and job.pulse.controls != "phase":
            penalties.append(PeakExcess(job.limits.penalty_weight, peak, step_s / step_s.sum()))
        if energy is not None:
            penalties.append(EnergyExcess(job.limits.penalty_weight, step_s, energy))
    return penalties

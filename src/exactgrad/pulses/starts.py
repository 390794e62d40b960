"""Where to start: random, smooth random, chirp, or a shape file. Each returns the solver's vector.

Starts matter more than optimisers: for inversion and universal 180 degree rotations a chirp, for excitation random.
Coarse-to-fine is not a start but a way to refine one; `design.py` does it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from exactgrad.errors import InputError
from exactgrad.pulses.controls import CHANNELS, channels_of
from exactgrad.pulses.ensemble import Ensemble
from exactgrad.pulses.job import Job
from exactgrad.pulses.pulse import Pulse

KINDS = ("random", "smooth", "chirp", "coarse")


class Canvas(Protocol):
    """What a start needs to know of the problem."""

    job: Job
    folder: Path
    step_s: np.ndarray
    ensemble: Ensemble
    scale_hz: float
    columns: int


def start_vector(problem: Canvas, seed: int) -> np.ndarray:
    """Return the start of the job's kind for `seed`, shape (problem.size,).

    Raises
    ------
    InputError
        If the kind is none of random, smooth, chirp, coarse and no readable shape file.
    """
    solve = problem.job.solve
    rng = np.random.default_rng(seed)
    if solve.start in ("random", "coarse"):
        return _random(problem, rng)
    if solve.start == "smooth":
        return _smooth(problem, rng)
    if solve.start == "chirp":
        return vector_of(problem, _chirp(problem, rng))
    return _from_file(problem, rng, first=seed == solve.seed)


def _random(problem: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Phases uniform over the circle; amplitudes normal, half of the scale wide."""
    rows = [
        rng.uniform(0, 2 * np.pi, problem.columns) if name == "phase" else rng.normal(0.0, 0.5, problem.columns)
        for name in CHANNELS[problem.job.pulse.controls]
    ]
    return np.concatenate(rows)


def _smooth(problem: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Band-limited random waveforms: complex noise smoothed to a few features per 1/bandwidth."""
    names, columns = CHANNELS[problem.job.pulse.controls], problem.columns
    offsets = problem.ensemble.offset_hz
    features = max(8.0, 0.25 * float(np.ptp(offsets)) * float(problem.step_s.sum()))
    keep = int(np.clip(features, 2, max(2, columns)))
    rows = []
    for name in names:
        spectrum = np.zeros(columns, dtype=complex)
        count = min(keep, columns)
        spectrum[:count] = rng.normal(size=count) + 1j * rng.normal(size=count)
        wave = np.fft.ifft(spectrum).real
        wave /= max(float(np.sqrt(np.mean(wave**2))), 1e-300)
        rows.append(wave * (np.pi if name == "phase" else 0.5))
    return np.concatenate(rows)


def _chirp(problem: Canvas, rng: np.random.Generator) -> np.ndarray:
    """A linear frequency sweep over 1.0 to 1.7 times the ensemble's bandwidth, up or down, at random overall phase."""
    offsets = problem.ensemble.offset_hz
    width = problem.job.solve.chirp_bandwidth_hz or rng.uniform(1.0, 1.7) * max(float(np.ptp(offsets)), 1.0)
    centre = 0.5 * (offsets.max() + offsets.min())
    duration = float(problem.step_s.sum())
    t = np.cumsum(problem.step_s) - 0.5 * problem.step_s - 0.5 * duration
    direction, phase = rng.choice([-1.0, 1.0]), rng.uniform(0, 2 * np.pi)
    angle = phase + 2 * np.pi * (centre * t + 0.5 * direction * width / duration * t**2)
    amplitude = problem.scale_hz * np.minimum(1.0, 8.0 * (0.5 - np.abs(t) / duration) + 0.05)
    return np.stack((amplitude * np.cos(angle), amplitude * np.sin(angle), np.zeros_like(t)))


def _from_file(problem: Canvas, rng: np.random.Generator, first: bool) -> np.ndarray:
    """The shape file's pulse on this problem's steps; the starts after the first get 2 % of noise."""
    from exactgrad.pulses.formats import detect_format, get_format, read_shape

    solve = problem.job.solve
    path = problem.folder / solve.start
    try:
        found = path.is_file()
    except OSError:  # a name that no file can have
        found = False
    if not found:
        raise InputError(f"solve.start = {solve.start!r}: neither one of {', '.join(KINDS)} nor a file ({path})")
    name = detect_format(path)
    content = get_format(name).read(path)
    scaled = content.in_hz or content.rf_max_hz is not None
    shape = read_shape(
        path,
        name,
        duration_us=float(problem.step_s.sum()) * 1e6,
        rf_max_hz=None if scaled else problem.scale_hz,  # 100 % of a file that does not say is the limit
    )
    x = vector_of(problem, resample(shape.pulse, problem.step_s))
    return x if first else x + rng.normal(0.0, 0.02, x.size)


def resample(pulse: Pulse, step_s: np.ndarray) -> np.ndarray:
    """Return the waveforms of `pulse`, stretched to the same total length, on other steps, shape (3, M)."""
    ends = np.cumsum(pulse.step_s) / pulse.duration_s
    middles = (np.cumsum(step_s) - 0.5 * step_s) / float(step_s.sum())
    index = np.minimum(np.searchsorted(ends, middles), pulse.steps - 1)
    return np.stack((pulse.ux_hz[index], pulse.uy_hz[index], pulse.uz_hz[index]))


def vector_of(problem: Canvas, u: np.ndarray) -> np.ndarray:
    """Return the solver's vector that plays the waveform u, shape (3, N), Hz.

    A peak limit's tanh is undone up to 95 % of the limit: further out its slope is too small to start from.
    """
    peak = problem.job.limits.peak_hz
    if peak is not None and problem.job.limits.enforce == "map" and problem.job.pulse.controls != "phase":
        amplitude = np.hypot(u[0], u[1])
        share = np.minimum(amplitude / np.asarray(peak, dtype=float), 0.95)
        stretch = np.divide(np.arctanh(share), share, out=np.ones_like(share), where=share > 1e-12)
        shrink = np.divide(share * np.asarray(peak), amplitude, out=np.ones_like(share), where=amplitude > 0)
        u = u.copy()
        u[:2] *= stretch * shrink
    return channels_of(problem.job.pulse.controls, u, problem.scale_hz)[:, : problem.columns].ravel()

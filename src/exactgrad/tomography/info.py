"""What a data file holds, and what looks wrong in it: geometry, coverage, transmission, weights; numbers in degrees."""

from __future__ import annotations

from typing import Any

import numpy as np

from exactgrad import __version__
from exactgrad.tomography import formats
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.geometry import Geometry

COPLANAR_DEG = 3.0  # beams that leave one plane by less do not tell the three components of an axis apart
NOT_NORMALISED = 1.05  # transmission above 1 by more than noise
LEAST_TURN = 1e-3  # twice the sine of a turn whose axis can be told
MOST_TURNS = 2000
SPHERE_POINTS = 2000  # directions of a hemisphere at which coverage is asked
NOTABLE_NEGATIVE = 0.01
NOTABLE_OUTSIDE = 0.02  # share of the intensity that no voxel can explain
NOTABLE_EDGE = 0.1  # intensity at the edge of a scan, of a bright pixel's; air and noise are below
BRIGHT = 0.9  # quantile of a projection's pixels
EDGES = ("low j", "high j", "low k", "high k")


def describe(path: Any, q: int | None = None, memory_bytes: int | None = None) -> dict[str, Any]:
    """Return what a data file holds; ``warnings`` are sentences with their evidence.

    Parameters
    ----------
    path : path
        Any data file that `formats.load` reads.
    q : int, optional
        Which q is described, where there are several; the first by default.
    memory_bytes : int, optional
        As of `formats.load`.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    found = formats.read(path, memory_bytes)
    data = formats.one_of(path, found, q if q is not None or len(found.datasets) == 1 else 0)
    geometry = data.geometry
    values, is_measured = _values(data)
    seen = {**_beams(geometry), **coverage(geometry, is_measured)}
    return {
        "system": "tomography",
        "command": "info",
        "version": __version__,
        "status": "read",
        "file": str(path),
        "format": found.format,
        "projections": geometry.projections,
        "pixels": list(geometry.projection_shape),
        "segments": geometry.segments,
        "volume_shape": list(geometry.volume_shape),
        "full_circle": bool(geometry.full_circle_covered),
        "two_theta_deg": float(np.rad2deg(geometry.two_theta)),
        "q": [part.q for part in found.datasets],
        "q_unit": data.q_unit,
        "pixel_size": data.pixel_size,
        "length_unit": data.length_unit,
        "offset_j": _range(geometry.j_offset),
        "offset_k": _range(geometry.k_offset),
        **seen,
        **values,
        "data_bytes": int(np.prod(data.data.shape, dtype=object)) * data.data.dtype.itemsize,
        "warnings": [*found.warnings, *_geometry_warnings(geometry, seen), *_value_warnings(geometry, values)],
    }


def _range(values: Any) -> list[float]:
    return [float(np.min(values)), float(np.max(values))]


def _beams(geometry: Geometry) -> dict[str, Any]:
    """Describe where the beams go in the sample: the axis that they turn about, tilts, gaps."""
    beams = geometry.directions()[0]
    axis = _turn_axis(geometry)
    tilts = np.rad2deg(np.arcsin(np.clip(np.abs(beams @ axis), 0.0, 1.0)))
    flat = beams - np.outer(beams @ axis, axis)
    first = np.linalg.svd(axis[None])[2][1]
    second = np.cross(axis, first)
    turns = np.sort(np.rad2deg(np.arctan2(flat @ second, flat @ first)) % 180.0)
    gaps = np.diff(np.append(turns, turns[0] + 180.0))
    return {
        "rotation_axis": axis.tolist(),
        "tilt_deg": _range(tilts),
        "tilts": len(np.unique(tilts.round(1))),
        "largest_turn_gap_deg": float(gaps.max()),
        "missing_cone_deg": float(90.0 - tilts.max()),
    }


def _turn_axis(geometry: Geometry) -> np.ndarray:
    """Return the axis, in the sample, about which most projections turn from the one before.

    R_n^T R_(n+1) is the turn about the inner axis as long as the tilt stays; where no axis is common, it is the
    direction that the beams avoid most.
    """
    turn = np.swapaxes(geometry.rotation[:-1], 1, 2) @ geometry.rotation[1:]
    sine = np.stack([turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]], -1)
    size = np.linalg.norm(sine, axis=-1)
    axes = (sine[size > LEAST_TURN] / size[size > LEAST_TURN, None])[:MOST_TURNS]
    shared = (np.abs(axes @ axes.T) > np.cos(np.deg2rad(1.0))).sum(axis=1) if len(axes) else np.zeros(1)
    if shared.max() > len(axes) / 2 and len(axes):
        axis = axes[int(np.argmax(shared))]
    else:
        beams = geometry.directions()[0]
        axis = np.linalg.eigh(beams.T @ beams)[1][:, 0]
    return axis * (np.sign(axis[np.argmax(np.abs(axis))]) or 1.0) + 0.0  # no -0


def coverage(geometry: Geometry, is_measured: np.ndarray | None = None) -> dict[str, Any]:
    """Return how much of the sphere of scattering directions is measured.

    Parameters
    ----------
    geometry : Geometry
    is_measured : ndarray, shape (n, S), bool, optional
        Which segments of which projections have any weight; all by default.

    Returns
    -------
    dict
        ``coverage``, the share of directions with a measured one within half the diagonal of a square as wide as a
        segment (180 or 360 degrees over their number), and ``largest_hole_deg``, the angle from the worst direction to
        the nearest measured one.
    """
    from scipy.spatial import cKDTree

    vectors = geometry.q_vectors()
    measured = vectors.reshape(-1, 3) if is_measured is None else vectors[is_measured]
    if not len(measured):
        return {"coverage": 0.0, "largest_hole_deg": 90.0}
    i = np.arange(SPHERE_POINTS)
    z = (i + 0.5) / SPHERE_POINTS  # a hemisphere: -q has the intensity of q
    turn = i * np.pi * (3.0 - np.sqrt(5.0))
    asked = np.stack([np.sqrt(1 - z * z) * np.cos(turn), np.sqrt(1 - z * z) * np.sin(turn), z], axis=-1)
    chord = cKDTree(np.concatenate([measured, -measured])).query(asked)[0]
    apart = np.rad2deg(2 * np.arcsin(np.clip(chord / 2, 0.0, 1.0)))
    width = (360.0 if geometry.full_circle_covered else 180.0) / geometry.segments
    return {"coverage": float((apart <= width / np.sqrt(2)).mean()), "largest_hole_deg": float(apart.max())}


def _values(data: Dataset) -> tuple[dict[str, Any], np.ndarray]:
    """Describe intensities, weights and transmission, one projection at a time; and which (n, S) have any weight."""
    geometry = data.geometry
    live = np.zeros((geometry.projections, geometry.segments), bool)
    used, negative, bad, total = 0, 0, 0, 0
    low, high, sum_all, sum_outside, sum_used = np.inf, -np.inf, 0.0, 0.0, 0.0
    weights, through = [np.inf, -np.inf], [np.inf, -np.inf]
    edges = np.zeros((geometry.projections, len(EDGES)))
    for n in range(geometry.projections):
        bad += int((~np.isfinite(np.asarray(data.data[n]))).sum())
        intensity, weight, transmission = data.projection(n)
        is_used = weight > 0
        live[n] = is_used.any(axis=(0, 1))
        total += weight.size
        through = [min(through[0], float(transmission.min())), max(through[1], float(transmission.max()))]
        if not is_used.any():
            continue
        kept = intensity[is_used]
        used += kept.size
        negative += int((kept < 0).sum())
        low, high = min(low, float(kept.min())), max(high, float(kept.max()))
        weights = [min(weights[0], float(weight[is_used].min())), max(weights[1], float(weight[is_used].max()))]
        sum_used += float(kept.sum())
        edges[n] = _edge_brightness(intensity, is_used)
        inside = _sees_volume(geometry, n)
        sum_all += float(np.abs(intensity * is_used).sum())
        sum_outside += float(np.abs(intensity * is_used)[~inside].sum())
    found = {
        "intensity": [low, high] if used else [0.0, 0.0],
        "intensity_mean": sum_used / used if used else 0.0,
        "negative_fraction": negative / used if used else 0.0,
        "non_finite_fraction": bad / total,
        "used_fraction": used / total,
        "weights": weights if used else [0.0, 0.0],
        "dead_segments": np.flatnonzero(~live.any(axis=0)).tolist(),
        "dead_projections": int((~live.any(axis=1)).sum()),
        "transmission": None if data.transmission is None else through,
        "outside_fraction": sum_outside / sum_all if sum_all > 0 else 0.0,
        "cut_projections": int((edges > NOTABLE_EDGE).any(axis=1).sum()),
        "edge_brightness": dict(zip(EDGES, edges.max(axis=0).tolist(), strict=True)),
    }
    return found, live


def _edge_brightness(intensity: np.ndarray, is_used: np.ndarray) -> np.ndarray:
    """Return the mean intensity along the four edges of a projection, of that of a bright pixel, shape (4,).

    An edge is the outermost line that has a weight; 0 where there are fewer than three, or nothing is bright.
    """
    count = is_used.sum(axis=2)
    seen = count > 0
    mean = np.where(is_used, intensity, 0.0).sum(axis=2) / np.maximum(count, 1)
    bright = float(np.quantile(mean[seen], BRIGHT))
    found = np.zeros(len(EDGES))
    for side in range(2):
        lines = np.flatnonzero(seen.any(axis=1 - side))
        if bright <= 0 or len(lines) < 3:
            continue
        for end, line in enumerate((lines[0], lines[-1])):
            along = np.take(seen, line, axis=side)
            found[2 * side + end] = float(np.take(mean, line, axis=side)[along].mean()) / bright
    return found


def _sees_volume(geometry: Geometry, n: int) -> np.ndarray:
    """Return which pixels of a projection lie within the shadow of the volume's box, shape (J, K), bool."""
    _, along_j, along_k = geometry.directions()
    rows, columns = geometry.projection_shape
    half_volume = np.array(geometry.volume_shape) / 2
    inside = []
    for way, count, offset in ((along_j[n], rows, geometry.j_offset[n]), (along_k[n], columns, geometry.k_offset[n])):
        at = np.arange(count) + 0.5 - count / 2 + offset
        inside.append(np.abs(at) <= np.abs(way) @ half_volume + 0.5)
    return inside[0][:, None] & inside[1][None, :]


def _geometry_warnings(geometry: Geometry, seen: dict[str, Any]) -> list[str]:
    warnings = []
    if geometry.projections == 1:
        warnings.append("one single projection: it shows the sum along the beam, and no volume follows from it")
    elif seen["tilt_deg"][1] < COPLANAR_DEG:
        axis = ", ".join(f"{v:.2f}" for v in seen["rotation_axis"])
        warnings.append(
            f"no tilt: all beams lie within {seen['tilt_deg'][1]:.2g} degrees of the plane square to ({axis}), so "
            "the 3-D axis of a voxel is ambiguous where several voxels share a ray; tilt the sample too"
        )
    if geometry.projections > 1 and seen["largest_turn_gap_deg"] > 45.0:
        warnings.append(
            f"missing wedge: no projection within {seen['largest_turn_gap_deg']:.0f} of the 180 degrees about the "
            "rotation axis"
        )
    if geometry.segments < 3:
        warnings.append(f"{geometry.segments} segments: an axis and B need at least 3 directions a projection")
    if len(np.unique(np.round(np.remainder(geometry.detector_angles, 2 * np.pi), 6))) < geometry.segments:
        warnings.append("detector_angles holds the same angle twice")
    warnings.extend(_size_warnings(geometry))
    return warnings


def _size_warnings(geometry: Geometry) -> list[str]:
    """Say where the scan is wider than the volume can be seen from anywhere."""
    _, along_j, along_k = geometry.directions()
    texts = []
    for name, way, count in zip("JK", (along_j, along_k), geometry.projection_shape, strict=True):
        widest = float(np.max(2 * np.abs(way) @ (np.array(geometry.volume_shape) / 2)))
        if count > widest + 2 and count > 2:
            texts.append(
                f"the volume is smaller than the projections: {tuple(geometry.volume_shape)} voxels are at most "
                f"{widest:.1f} pixels wide along {name}, where the scan has {count}; rays beyond the volume see nothing"
            )
    return texts


def _value_warnings(geometry: Geometry, values: dict[str, Any]) -> list[str]:
    warnings = []
    if values["used_fraction"] == 0.0:
        return ["no value has a weight above 0: nothing is left to reconstruct from"]
    if values["intensity"][1] <= 0:
        warnings.append(f"no intensity is above 0 (the largest is {values['intensity'][1]:g})")
    if values["negative_fraction"] > NOTABLE_NEGATIVE:
        warnings.append(
            f"{values['negative_fraction']:.1%} of the intensities are negative (down to {values['intensity'][0]:g}): "
            "was too much background subtracted?"
        )
    if values["outside_fraction"] > NOTABLE_OUTSIDE:
        warnings.append(
            f"{values['outside_fraction']:.1%} of the intensity lies on rays that miss the volume "
            f"{tuple(geometry.volume_shape)}: the volume is too small, or offsets or rotations are wrong"
        )
    if values["cut_projections"]:
        edge, share = max(values["edge_brightness"].items(), key=lambda item: item[1])
        warnings.append(
            f"the sample is cut off by the edge of the scan in {values['cut_projections']} of {geometry.projections} "
            f"projections: its edge at {edge} is up to {share:.0%} as bright as the sample; voxels near it take up "
            "what lies beyond (or was a background not subtracted?)"
        )
    if values["non_finite_fraction"] > 0:
        warnings.append(f"{values['non_finite_fraction']:.2%} of the data are NaN or infinite: they get weight 0")
    if values["dead_segments"]:
        dead = ", ".join(map(str, values["dead_segments"]))
        warnings.append(f"segments {dead} have weight 0 in all projections (detector gap or beamstop)")
    if values["dead_projections"]:
        warnings.append(f"{values['dead_projections']} of {geometry.projections} projections have weight 0 everywhere")
    through = values["transmission"]
    if through is not None and through[1] > NOT_NORMALISED:
        warnings.append(
            f"the diode runs from {through[0]:g} to {through[1]:g}: a transmission is at most 1; divide it "
            "by its value beside the sample (A is scaled by the square root otherwise)"
        )
    return warnings


def rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of the table that the command prints."""
    low, high = found["tilt_deg"]
    axis = ", ".join(f"{v:.3f}" for v in found["rotation_axis"])
    lines = [
        ("format", found["format"]),
        ("projections", f"{found['projections']} of {found['pixels'][0]} x {found['pixels'][1]} pixels"),
        ("segments", f"{found['segments']} over {360 if found['full_circle'] else 180} degrees"),
        ("volume", " x ".join(map(str, found["volume_shape"])) + " voxels"),
        ("rotation axis in the sample", f"({axis})"),
        ("tilts", f"{found['tilts']}, from {low:.1f} to {high:.1f} degrees"),
        ("largest gap about the axis", f"{found['largest_turn_gap_deg']:.1f} degrees"),
        ("cone of directions without a beam", f"{found['missing_cone_deg']:.1f} degrees about the axis"),
        ("scattering directions measured", f"{found['coverage']:.0%}, hole of {found['largest_hole_deg']:.1f} degrees"),
        ("offsets j, k", f"{_span(found['offset_j'])}, {_span(found['offset_k'])} pixels"),
        ("intensity", f"{_span(found['intensity'])}, mean {found['intensity_mean']:.4g}"),
        ("values used", f"{found['used_fraction']:.1%} (weights {_span(found['weights'])})"),
        ("transmission", "none" if found["transmission"] is None else _span(found["transmission"])),
        ("data", f"{found['data_bytes'] / 1e6:.1f} MB"),
    ]
    if found["two_theta_deg"]:
        lines.append(("two theta", f"{found['two_theta_deg']:.4g} degrees"))
    if any(value is not None for value in found["q"]):
        lines.append(("q", ", ".join(f"{value:g}" for value in found["q"]) + f" {found['q_unit']}"))
    if found["pixel_size"] is not None:
        lines.append(("pixel size", f"{found['pixel_size']:g} {found['length_unit']}"))
    return lines


def _span(limits: list[float]) -> str:
    return f"{limits[0]:.4g} to {limits[1]:.4g}"

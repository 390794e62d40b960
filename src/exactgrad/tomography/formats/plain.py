"""Our plain layout: one HDF5 file, one array of everything, no groups needed.

========================================  =====================  =====================================================
data set                                  shape                  meaning
========================================  =====================  =====================================================
``I``                                     (n, J, K, S)           intensity, never divided by the transmission; NaN
                                                                 where nothing was measured
``rotation``                              (n, 3, 3)              r_lab = R r_sample
``alpha``, ``beta``                       (n,)                   rad, where there is no ``rotation``: R = R_x(alpha)
                                                                 R_y(beta), the seed note's corrected R_exp transposed
``detector_angles``                       (S,)                   rad, centres of the segments
``volume_shape``                          (3,)                   voxels x, y, z; default (J, J, K)
``j_offset``, ``k_offset``                (n,) or ()             pixels; default 0
``p_direction_0``, ``j_direction_0``,     (3,)                   the frame, as mumott names it; default: mumott's
``k_direction_0``, ``detector_direction_
origin``, ``detector_direction_
positive_90``
``weights``                               (n, J, K[, 1 or S])    1/variance or mask; default 1
``transmission``                          (n, J, K)              part of the beam that passes; default 1
``two_theta``                             ()                     rad; default 0
``q``, ``pixel_size``                     ()                     with an attribute ``units``
========================================  =====================  =====================================================

Several q: ``I`` is (T, n, J, K, S), and ``two_theta`` and ``q`` are (T,). A known truth may stand at the root or in a
group ``truth``: ``A``, ``B``, ``theta_op``, ``phi_op``, each (x, y, z). Anything else in the file is not read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.errors import FormatError
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.formats.reading import (
    MOST_PIXELS,
    MOST_PROJECTIONS,
    MOST_VALUES,
    Loaded,
    Node,
    Stack,
    damage_told,
    frame,
    looks_backward,
    looks_like_degrees,
    naming,
    volume_shape,
)
from exactgrad.tomography.geometry import Geometry, seed_rotation

MOST_TURN_RAD = 2.2 * np.pi


def recognised(root: Node) -> bool:
    """Say whether an open HDF5 file is of this layout."""
    return hasattr(root.entry("I"), "dtype")


def read(root: Node, memory_bytes: int, keep: Any = None) -> Loaded:
    """Read an open file; the parameters are those of `formats.mumott.read`.

    Raises
    ------
    FormatError
        If a data set is missing or wrong; the message names it.
    """
    path = root.path
    intensity = root.find("I")
    angles = root.required("detector_angles", shape=(None,), unit="rad")
    if intensity is None or intensity.dtype.kind not in "biuf" or intensity.ndim not in (4, 5) or not intensity.size:
        raise FormatError(f"{path}: I: numbers of shape (n, J, K, S) or (T, n, J, K, S) are needed")
    count, rows, columns, segments = intensity.shape[-4:]
    if count > MOST_PROJECTIONS or rows * columns > MOST_PIXELS or rows * columns * segments > MOST_VALUES:
        raise FormatError(f"{path}: I: shape {intensity.shape} is more than is read")
    if segments != len(angles):
        raise FormatError(f"{path}: I: {segments} segments where detector_angles has {len(angles)}")
    rotation, given = _rotation(root, count)
    transmission, is_dead = _transmission(root, intensity.shape[-4:-1])
    warnings = [looks_like_degrees(name, values, MOST_TURN_RAD) for name, values in given.items()]
    warnings.append(looks_like_degrees("detector_angles", angles, MOST_TURN_RAD))
    if is_dead.any():
        n, j, k = (int(i) for i in np.argwhere(is_dead)[0])
        warnings.append(
            f"transmission is zero, negative or not finite in {int(is_dead.sum())} pixels "
            f"(first: transmission[{n}, {j}, {k}]): they get weight 0"
        )
    weights: Any = _weights(root, intensity.shape[-4:], is_dead, keep)
    several = intensity.shape[0] if intensity.ndim == 5 else 1
    two_theta, q = (_one_each(root, name, several) for name in ("two_theta", "q"))
    stacks = [_data(path, intensity, t if intensity.ndim == 5 else None, keep) for t in range(several)]
    warnings.append("" if two_theta is None else looks_backward(two_theta))
    in_memory = sum(part.nbytes for part in stacks) + (0 if weights is None else weights.nbytes) <= memory_bytes
    if in_memory and weights is not None:
        weights = weights.whole()
    pixel = root.numbers("pixel_size", shape=())
    made = []
    with naming(path):
        for t in range(several):
            geometry = Geometry(
                rotation=rotation,
                projection_shape=(rows, columns),
                volume_shape=volume_shape(root, (rows, rows, columns)),
                detector_angles=angles,
                j_offset=_offset(root, "j_offset", count),
                k_offset=_offset(root, "k_offset", count),
                two_theta=0.0 if two_theta is None else float(two_theta[t]),
                **frame(root),
            )
            made.append(
                Dataset(
                    geometry,
                    stacks[t].whole() if in_memory else stacks[t],
                    weights,
                    transmission,
                    q=None if q is None else float(q[t]),
                    q_unit=root.unit("q"),
                    pixel_size=None if pixel is None else float(pixel),
                    length_unit=root.unit("pixel_size"),
                    name=path.stem,
                )
            )
    return Loaded(tuple(made), "plain", tuple(text for text in warnings if text), given)


def _rotation(root: Node, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    alpha, beta = (root.numbers(name, shape=(count,), unit="rad") for name in ("alpha", "beta"))
    given = {name: values for name, values in (("alpha", alpha), ("beta", beta)) if values is not None}
    rotation = root.numbers("rotation", shape=(count, 3, 3))
    if rotation is not None:
        return rotation, given
    if not given:
        raise FormatError(f"{root.path}: rotation: missing (or alpha and beta, rad)")
    none = np.zeros(count)
    return seed_rotation(none if alpha is None else alpha, none if beta is None else beta), given


def _offset(root: Node, name: str, count: int) -> np.ndarray:
    item = root.find(name)
    if item is not None and item.ndim == 0:
        return np.full(count, root.scalar(name, default=0.0, unit="pixels"))
    values = root.numbers(name, shape=(count,), unit="pixels")
    return np.zeros(count) if values is None else values


def _one_each(root: Node, name: str, several: int) -> np.ndarray | None:
    values = root.list(name)
    if values is not None and len(values) != several:
        raise FormatError(f"{root.path}: {name}: {len(values)} values where {several} is needed, one for each q of I")
    return values


def _transmission(root: Node, shape: tuple[int, ...]) -> tuple[np.ndarray | None, np.ndarray]:
    item = root.find("transmission")
    if item is None:
        return None, np.zeros(shape, bool)
    if item.dtype.kind not in "biuf" or item.shape != shape:
        raise FormatError(f"{root.path}: transmission: shape {item.shape} of {item.dtype} where {shape} is needed")
    with damage_told(root.path):
        values = np.asarray(item[()], np.float64)
    is_dead = ~(np.isfinite(values) & (values > 0))
    return np.where(is_dead, 1.0, values), is_dead


def _data(path: Path, item: Any, which: int | None, keep: Any) -> Stack:
    is_exact = item.dtype.itemsize <= (4 if item.dtype.kind == "f" else 2)
    dtype = np.dtype(np.float32 if is_exact else np.float64)

    def one(i: int) -> np.ndarray:
        with damage_told(path):
            return np.asarray(item[i] if which is None else item[which, i], dtype)

    return Stack(one, item.shape[-4:], dtype, keep)


def _weights(root: Node, shape: tuple[int, ...], is_dead: np.ndarray, keep: Any) -> Stack | None:
    item = root.find("weights")
    if item is None and not is_dead.any():
        return None
    if item is not None and item.shape not in (shape, (*shape[:3], 1), shape[:3]):
        raise FormatError(f"{root.path}: weights: shape {item.shape} where {shape} or {shape[:3]} is needed")
    channels = shape[3] if item is not None and item.shape == shape else 1

    def one(i: int) -> np.ndarray:
        values = np.ones((*shape[1:3], channels), np.float32)
        if item is not None:
            with damage_told(root.path):
                given = np.asarray(item[i], np.float64).reshape(values.shape)
            if np.any(given < 0):
                raise FormatError(f"{root.path}: weights[{i}]: {given.min():g} is below 0")
            values[...] = np.nan_to_num(given, nan=0.0, posinf=0.0)
        values[is_dead[i]] = 0.0
        return values

    return Stack(one, (*shape[:3], channels), np.float32, keep)

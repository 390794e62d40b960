"""Where each ray and each scattering vector of a scan lies in the sample: rotations, offsets, detector segments.

Conventions (mumott's, confirmed by impulses): r_lab = R_n r_sample. Lengths in voxel edges, angles in radians. Voxel
(x, y, z) is centred at index - (shape - 1)/2. Pixel (j, k) of projection n sees the ray through
(j + 1/2 - J/2 + j_offset) j + (k + 1/2 - K/2 + k_offset) k along the beam p, so that a larger j_offset moves the image
towards smaller j. A segment at azimuth f probes q = cos(tt/2) (cos f d0 + sin f d90) - sin(tt/2) p in the laboratory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from exactgrad.errors import InputError, require_finite, require_range, require_shape

ORTHOGONAL_WITHIN = 1e-3  # rotations printed with a few digits pass and are made exact
EXACT = 1e-14
ARC_POINTS = 5  # Gauss-Legendre points of a segment: exact to 1e-9 for |B| = 5 over an eighth of a half circle
MOST_ELEMENTS = 2**34  # of the volume or one projection: beyond, the shape is a mistake
INTEGRATIONS = ("midpoint", "mean")


@dataclass(frozen=True)
class Geometry:
    """The geometry of a scan with one rotation and one offset for each projection.

    Attributes
    ----------
    rotation : ndarray, shape (n, 3, 3)
        r_lab = R r_sample; given to `ORTHOGONAL_WITHIN`, kept as the nearest rotation.
    projection_shape : (J, K)
        Pixels of a projection.
    volume_shape : (X, Y, Z)
        Voxels.
    detector_angles : ndarray, shape (S,)
        Centres of the azimuthal segments, rad, from `detector_direction_origin` towards the +90 degrees direction.
    j_offset, k_offset : ndarray, shape (n,)
        Pixels.
    p_direction_0, j_direction_0, k_direction_0 : ndarray, shape (3,)
        Beam and pixel directions in the laboratory.
    detector_direction_origin, detector_direction_positive_90 : ndarray, shape (3,)
        Azimuth 0 and 90 degrees in the laboratory.
    two_theta : float
        Scattering angle, rad; 0 is a flat Ewald sphere.
    integration : str
        "midpoint": a segment measures at its centre. "mean": it measures the mean over its arc.

    Raises
    ------
    InputError
        One line: what is not finite, misshapen, not orthogonal or out of range.

    Examples
    --------
    >>> g = Geometry(np.eye(3)[None], (4, 5), (4, 4, 5), [0.0, np.pi / 2])
    >>> g.q_vectors()[0].round(12).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """

    rotation: np.ndarray
    projection_shape: tuple[int, int]
    volume_shape: tuple[int, int, int]
    detector_angles: np.ndarray
    j_offset: Any = 0.0
    k_offset: Any = 0.0
    p_direction_0: Any = (0.0, 1.0, 0.0)
    j_direction_0: Any = (1.0, 0.0, 0.0)
    k_direction_0: Any = (0.0, 0.0, 1.0)
    detector_direction_origin: Any = (1.0, 0.0, 0.0)
    detector_direction_positive_90: Any = (0.0, 0.0, 1.0)
    two_theta: float = 0.0
    integration: str = "midpoint"

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
            object.__setattr__(self, name, value)

        put("rotation", _rotations(self.rotation))
        put("projection_shape", _shape("projection_shape", self.projection_shape, 2))
        put("volume_shape", _shape("volume_shape", self.volume_shape, 3))
        angles = np.atleast_1d(require_finite("detector_angles", self.detector_angles, "rad")).copy()
        if not require_shape("detector_angles", angles, (None,)).size:
            raise InputError("detector_angles: at least one segment is needed")
        put("detector_angles", angles)
        for name in ("j_offset", "k_offset"):
            put(name, _one_each(name, getattr(self, name), self.projections))
        _put_frame(self, put)
        put("two_theta", require_range("two_theta", self.two_theta, "rad", low=0.0, high=np.pi))
        if self.integration not in INTEGRATIONS:
            raise InputError(f"integration = {self.integration!r}: must be one of {', '.join(INTEGRATIONS)}")

    @classmethod
    def from_seed_angles(
        cls,
        alpha: Any,
        beta: Any,
        projection_shape: tuple[int, int],
        volume_shape: tuple[int, int, int],
        detector_angles: Any,
        j_offset: Any = 0.0,
        k_offset: Any = 0.0,
    ) -> Geometry:
        """Build the geometry of the seed note: beam along z, pixels and azimuth along x and y, tilts alpha and beta.

        Parameters
        ----------
        alpha, beta : array_like, shape (n,)
            Tilt about x and rotation about y, rad.
        projection_shape, volume_shape, detector_angles, j_offset, k_offset
            As the class takes them.
        """
        x, y, z = np.eye(3)
        rotation = seed_rotation(alpha, beta)
        return cls(rotation, projection_shape, volume_shape, detector_angles, j_offset, k_offset, z, x, y, x, y)

    @property
    def projections(self) -> int:
        """Number of projections n."""
        return self.rotation.shape[0]

    @property
    def segments(self) -> int:
        """Number of segments S."""
        return self.detector_angles.size

    @property
    def full_circle_covered(self) -> bool:
        """Whether the segments span 360 degrees and not 180: mumott's rule, from the first and the last centre."""
        apart = abs(self.detector_angles[0] - self.detector_angles[-1] % (2 * np.pi))
        return not abs(apart - np.pi) < min(apart, abs(apart - 2 * np.pi))

    def directions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the beam, j and k directions of every projection in the sample, each shape (n, 3)."""
        p, j, k = (v @ self.rotation for v in (self.p_direction_0, self.j_direction_0, self.k_direction_0))
        return p, j, k

    def q_vectors(self) -> np.ndarray:
        """Return the unit scattering vectors at the segments' centres in the sample, shape (n, S, 3)."""
        return self._q_at(self.detector_angles) @ self.rotation

    def segment_edges(self) -> np.ndarray:
        """Return the ends of each segment, rad, shape (S, 2): midway to its neighbours, around the (half) circle."""
        angles = self.detector_angles
        turn = (2 * np.pi if self.full_circle_covered else np.pi) * (1.0 if angles[-1] >= angles[0] else -1.0)
        before, after = np.roll(angles, 1), np.roll(angles, -1)
        before[0] -= turn
        after[-1] += turn
        return np.stack((angles + before, angles + after), axis=1) / 2

    def probed(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what each segment measures: unit vectors in the sample, shape (n, G, S, 3), and weights, shape (G,).

        The measured value is the weighted sum over the G points: the centre, or points on the segment's arc (on a
        curved Ewald sphere the small circle that the detector sees).
        """
        if self.integration == "midpoint":
            return self.q_vectors()[:, None], np.ones(1)
        nodes, weights = np.polynomial.legendre.leggauss(ARC_POINTS)
        low, high = self.segment_edges().T
        angles = (low + high) / 2 + nodes[:, None] * (high - low) / 2
        q = self._q_at(angles.ravel()) @ self.rotation
        return q.reshape(self.projections, ARC_POINTS, self.segments, 3), weights / 2

    def with_offsets(self, j_offset: Any, k_offset: Any) -> Geometry:
        """Return the same scan with other offsets, pixels."""
        return replace(self, j_offset=j_offset, k_offset=k_offset)

    def subset(self, projections: Sequence[int] | np.ndarray) -> Geometry:
        """Return the scan of these projections only."""
        kept = np.asarray(projections, dtype=int)
        return replace(self, rotation=self.rotation[kept], j_offset=self.j_offset[kept], k_offset=self.k_offset[kept])

    def _q_at(self, angles: np.ndarray) -> np.ndarray:
        in_plane = np.outer(np.cos(angles), self.detector_direction_origin)
        in_plane += np.outer(np.sin(angles), self.detector_direction_positive_90)
        return np.cos(self.two_theta / 2) * in_plane - np.sin(self.two_theta / 2) * self.p_direction_0


def seed_rotation(alpha: Any, beta: Any) -> np.ndarray:
    """Return R_x(alpha) R_y(beta), shape (n, 3, 3): the transpose of the seed note's R_exp.

    The note prints sin(alpha) cos(beta) in entry (1,2) of R_exp; sin(alpha) sin(beta) is the one value that makes it a
    rotation. Its inverse is its transpose, and not R_exp(-alpha, -beta).

    Examples
    --------
    >>> bool(abs(np.linalg.det(seed_rotation(0.5, 0.3)[0]) - 1) < 1e-15)
    True
    """
    alpha, beta = np.broadcast_arrays(
        np.atleast_1d(require_finite("alpha", alpha, "rad")), np.atleast_1d(require_finite("beta", beta, "rad"))
    )
    ca, sa, cb, sb, zero = np.cos(alpha), np.sin(alpha), np.cos(beta), np.sin(beta), np.zeros(alpha.shape)
    rows = ((cb, zero, sb), (sa * sb, ca, -sa * cb), (-ca * sb, sa, ca * cb))
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _rotations(given: Any) -> np.ndarray:
    rotation = require_shape("rotation", require_finite("rotation", given), (None, 3, 3)).copy()
    if not len(rotation):
        raise InputError("rotation: at least one projection is needed")
    error = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    worst = int(np.argmax(error))
    if error[worst] > ORTHOGONAL_WITHIN:
        raise InputError(
            f"rotation[{worst}]: not orthogonal, |R R^T - 1| = {error[worst]:.2g}: must be <= {ORTHOGONAL_WITHIN:g}"
        )
    mirrored = np.flatnonzero(np.linalg.det(rotation) < 0)
    if mirrored.size:
        raise InputError(f"rotation[{mirrored[0]}]: its determinant is -1: must be +1, a rotation and not a mirror")
    rough = error > EXACT
    left, _, right = np.linalg.svd(rotation[rough])
    rotation[rough] = left @ right
    return rotation


def _put_frame(geometry: Geometry, put: Any) -> None:
    """Check and normalise the five laboratory directions."""
    names = ("p_direction_0", "j_direction_0", "k_direction_0")
    detector = ("detector_direction_origin", "detector_direction_positive_90")
    for name in (*names, *detector):
        v = require_shape(name, require_finite(name, getattr(geometry, name)), (3,))
        length = float(np.linalg.norm(v))
        if abs(length - 1) > ORTHOGONAL_WITHIN:
            raise InputError(f"{name}: its length is {length:.4g}: must be 1")
        put(name, v / length)
    for frame in (names, ("p_direction_0", *detector)):
        for a, b in ((0, 1), (0, 2), (1, 2)):
            cosine = float(getattr(geometry, frame[a]) @ getattr(geometry, frame[b]))
            if abs(cosine) > ORTHOGONAL_WITHIN:
                raise InputError(f"{frame[a]} and {frame[b]}: not perpendicular, their cosine is {cosine:.3g}")


def _shape(name: str, given: Any, rank: int) -> tuple[int, ...]:
    shape = require_shape(name, np.atleast_1d(require_finite(name, given)), (rank,))
    if (shape != np.round(shape)).any() or (shape < 1).any() or np.prod(shape) > MOST_ELEMENTS:
        listed = ", ".join(f"{length:g}" for length in shape)
        raise InputError(f"{name} = ({listed}): whole numbers >= 1 are needed, at most {MOST_ELEMENTS:.1e} in all")
    return tuple(int(length) for length in shape)


def _one_each(name: str, given: Any, projections: int) -> np.ndarray:
    values = require_finite(name, given, "pixels")
    if values.ndim == 0:
        return np.full(projections, float(values))
    return require_shape(name, values, (projections,)).copy()

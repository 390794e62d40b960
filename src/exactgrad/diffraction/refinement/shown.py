"""What a refinement's figures show: of the run itself, or as `result.h5` holds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from exactgrad.diffraction.settings import Settings
from exactgrad.diffraction.spots import Regions

if TYPE_CHECKING:
    from exactgrad.diffraction.refinement.output import Result

PIXELS = ("slow", "fast", "recorded", "spots", "background")


@dataclass(frozen=True)
class Compared:
    """The compared pixels of an image.

    Attributes
    ----------
    slow, fast : ndarray of int, shape (n,)
    recorded, spots, background : ndarray, shape (n,)
        Photons; the model is spots + background.
    """

    slow: np.ndarray
    fast: np.ndarray
    recorded: np.ndarray
    spots: np.ndarray
    background: np.ndarray


@dataclass(frozen=True)
class Shown:
    """All that the figures need.

    Attributes
    ----------
    compared, z, regions : sequences, one entry an image
        Pixels, (recorded - model)/sigma there, and boxes (whose owners are told of the compared pixels only).
    frames : sequence of ndarray, shape (4, 3)
        Where each image was taken: first pixel's outer corner, one pixel along fast and along slow (m), the beam.
    shots : sequence of int
        Which image of the job each is of; panels of one have the same.
    labels : sequence of str
    correlation : ndarray, shape (size, size)
    histories : sequence of ndarray
    """

    compared: Sequence[Compared]
    z: Sequence[np.ndarray]
    regions: Sequence[Regions]
    frames: Sequence[np.ndarray]
    shots: Sequence[int]
    labels: Sequence[str]
    correlation: np.ndarray
    histories: Sequence[np.ndarray]

    @classmethod
    def of(cls, result: Result, shots: Sequence[int], histories: Sequence[np.ndarray]) -> Shown:
        """Return what is shown of a refinement."""
        compared = [Compared(*(getattr(one, name) for name in PIXELS)) for one in result.fitted]
        regions = [seen.regions for seen in result.found.problem.exposures]
        errors = result.covariance
        frames = [_frame(one.settings) for one in result.fitted]
        return cls(compared, result.z, regions, frames, shots, errors.labels, errors.correlation, histories)

    def to_arrays(self) -> dict[str, Any]:
        """Return it as named arrays.

        Examples
        --------
        >>> seen = Compared(*np.ones((5, 2), int))
        >>> regions = Regions(np.array([[0, 2, 0, 2]]), np.zeros((3, 3), np.int32))
        >>> one = Shown([seen], [np.zeros(2)], [regions], [np.eye(4, 3)], [0], ["cell_a"], np.eye(1), [np.ones(4)])
        >>> again = Shown.from_arrays(one.to_arrays())
        >>> again.labels, again.regions[0].owner.tolist()
        (['cell_a'], [[-1, -1, -1], [-1, 0, -1], [-1, -1, -1]])
        """
        held: dict[str, Any] = {"parameters/names": "\n".join(self.labels), "parameters/correlation": self.correlation}
        for i, (one, z, regions) in enumerate(zip(self.compared, self.z, self.regions, strict=True)):
            parts = {name: getattr(one, name) for name in PIXELS} | {"z": z, "boxes": regions.boxes}
            parts |= {"region": regions.owner[one.slow, one.fast], "shape": np.array(regions.owner.shape)}
            parts |= {"frame": self.frames[i], "shot": np.array(self.shots[i])}
            held |= {f"images/{i}/{name}": values for name, values in parts.items()}
        return held | {f"histories/{i}": history for i, history in enumerate(self.histories)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Shown:
        """Return what `to_arrays` described; raises `KeyError`, `TypeError` or `ValueError` if it did not."""
        names = arrays["parameters/names"]
        count = sum(name.endswith("/slow") for name in arrays)
        compared, regions = [], []
        for i in range(count):
            one = {name: np.asarray(arrays[f"images/{i}/{name}"]) for name in (*PIXELS, "region", "boxes", "shape")}
            compared.append(Compared(*(one[name] for name in PIXELS)))
            owner = np.full(tuple(one["shape"].tolist()), -1, dtype=np.int32)
            owner[one["slow"], one["fast"]] = one["region"]
            regions.append(Regions(one["boxes"], owner))
        return cls(
            compared,
            [np.asarray(arrays[f"images/{i}/z"]) for i in range(count)],
            regions,
            [np.asarray(arrays[f"images/{i}/frame"]) for i in range(count)],
            [int(arrays[f"images/{i}/shot"]) for i in range(count)],
            (names if isinstance(names, str) else bytes(names).decode()).splitlines(),
            np.asarray(arrays["parameters/correlation"]),
            [np.asarray(arrays[f"histories/{i}"]) for i in range(sum(n.startswith("histories/") for n in arrays))],
        )


def _frame(settings: Settings) -> np.ndarray:
    detector, beam = settings.detector.detector(), settings.beam.beam()
    steps = detector.pixel_m * detector.fast, detector.pixel_m * detector.slow
    return np.stack([detector.origin, *steps, beam.weights @ beam.directions])

"""What a refinement does, apart from the images: unknowns, loss, background, regions, stages, limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exactgrad.diffraction.losses import Loss
from exactgrad.diffraction.parameters.table import find
from exactgrad.diffraction.refinement.restraints import Restraint
from exactgrad.diffraction.refinement.unknowns import Free

PANEL_AXES = ("fast", "slow", "normal")
GROUPS = {  # what a word in the job stands for; those of `cell` are the space group's
    "orientation": ("misset_x", "misset_y", "misset_z", "phi"),
    "cell": ("cell_a", "cell_b", "cell_c", "cell_alpha", "cell_beta", "cell_gamma"),
    "distance": ("distance", "close_distance"),
    "centre": ("Xbeam", "Ybeam", "beam_f", "beam_s", "Xclose", "Yclose", "ORGX", "ORGY"),
    "tilt": ("detector_rotx", "detector_roty", "detector_rotz", "twotheta"),
    "panels": (*(f"panel_shift_{x}" for x in PANEL_AXES), *(f"panel_rot_{x}" for x in PANEL_AXES)),
    "mosaicity": ("mosaic", "mosaic_a", "mosaic_b", "mosaic_c"),
    "size": ("N", "Na", "Nb", "Nc"),
    "scale": ("fluence",),
    "wavelength": ("lambda",),
}
FROM_POSITIONS = {  # parameters that spots' positions determine
    *GROUPS["orientation"],
    *GROUPS["cell"],
    *GROUPS["distance"],
    *GROUPS["centre"],
    *GROUPS["tilt"],
    *GROUPS["panels"],
    "lambda",
    "pix0_x",
    "pix0_y",
    "pix0_z",
    "detector_shift_x",
    "detector_shift_y",
    "detector_shift_z",
}
AFTER_POSITIONS = (("scale",), ("scale", "mosaicity", "size"), ("all",))
FROM_PIXELS = (
    ("scale",),
    ("orientation", "scale"),
    ("orientation", "cell", "distance", "centre", "tilt", "panels", "scale"),
    ("mosaicity", "size", "scale"),
    ("all",),
)


@dataclass(frozen=True)
class Plan:
    """How images are refined.

    Attributes
    ----------
    members : tuple of Free
    loss, background, restraints
        As those of `DiffractionProblem`.
    positions : bool
        Whether to begin from the positions of spots.
    stages : tuple of tuples of str
        Groups, names, or "all"; each stage refines those of its words that are free, the last ends the refinement.
    radius_px, least_excitation
        Boxes reach so far beyond spots that are excited so much.
    method : str
        "lm" (Levenberg-Marquardt on J^T W J), or "lbfgs".
    max_iterations, tolerance
        Of the last stage, each time that it is begun.
    """

    members: tuple[Free, ...]
    loss: Loss | str = "poisson"
    background: str = "planes"
    restraints: tuple[Restraint, ...] = ()
    positions: bool = True
    stages: tuple[tuple[str, ...], ...] = AFTER_POSITIONS
    radius_px: float = 4.0
    least_excitation: float = 0.02
    method: str = "lm"
    max_iterations: int = 100
    tolerance: float = 1e-12

    def chosen(self, words: Sequence[str]) -> list[int]:
        """Return the places of the unknowns that a stage's words name.

        Examples
        --------
        >>> plan = Plan((Free("misset_x"), Free("cell_a"), Free("fluence")))
        >>> plan.chosen(["orientation", "fluence"]), plan.chosen(["all"])
        ([0, 2], [0, 1, 2])
        """
        if "all" in words:
            return list(range(len(self.members)))
        names = {name for word in words for name in (GROUPS.get(word) or (find(word).entry.name,))}
        return [place for place, one in enumerate(self.members) if find(one.name).entry.name in names]

    def from_positions(self) -> list[int]:
        """Return the places of the unknowns that positions determine."""
        return [place for place, one in enumerate(self.members) if find(one.name).entry.name in FROM_POSITIONS]

"""What a simulation shows: its figures and its report page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from exactgrad.diffraction import figures as draw
from exactgrad.diffraction.crystal import ANGSTROM
from exactgrad.diffraction.from_job import Shot
from exactgrad.report.page import Page
from exactgrad.report.style import png_bytes

if TYPE_CHECKING:
    from exactgrad.diffraction.simulate import Taken

FIGURES = ("figure_image", "figure_spots", "figure_images")
MOST_SHOWN = draw.MOST_IMAGES
MOST_ROWS = 200


def figures(taken: Sequence[Taken]) -> dict[str, tuple[str, bytes, str]]:
    """Return the figures of simulated images: file name to (title, PNG bytes, caption)."""
    first, found = taken[0], {}
    of = f" of {first.shot.name}" if len(taken) > 1 else ""
    fig = draw.image_plot(first.shown, first.spots, first.unit, first.shot.name)
    caption = "Logarithmic scale, the first row on top; rings are predicted spots, the most intense ones."
    found["figure_image"] = (f"The image{of}", png_bytes(fig), caption)
    if first.spots is not None and len(first.spots):
        fig = draw.spots_plot(first.shown, first.spots, first.unit)
        caption = "The most intense spots and their predicted positions (crosses); each on its own linear scale."
        found["figure_spots"] = (f"Spots{of}", png_bytes(fig), caption)
    if len(taken) > 1:
        fig = draw.images_plot([one.shown for one in taken], [one.shot.name for one in taken])
        found["figure_images"] = ("All images", png_bytes(fig), "On one logarithmic scale.")
    return found


def describe(shot: Shot) -> str:
    """Return the experiment in one line."""
    settings = shot.settings
    crystal, beam, detector = settings.crystal, settings.beam, settings.detector
    cell = " ".join(f"{number:g}" for number in crystal.cell)
    size = " x ".join(f"{number:g}" for number in crystal.cells)
    slow, fast = detector.pixels
    return (
        f"cell {cell}, {size} cells ({crystal.shape}), {len(crystal.mosaic.rotations)} mosaic domains, "
        f"{beam.wavelength_m / ANGSTROM:.6g} A, {slow} x {fast} pixels of {detector.pixel_m * 1e3:g} mm at "
        f"{detector.placement.distance_m * 1e3:g} mm"
    )


def report_html(shot: Shot, summary: dict[str, Any], text: str, pictures: dict[str, tuple[str, bytes, str]]) -> str:
    """Return the self-contained report page of a simulation; `shot` is its first image."""
    images = summary["images"]
    page = Page("Diffraction image", f"{describe(shot)}: {summary['message']}")
    scene = shot.settings.scene()
    page.numbers(
        [
            ("Brightest pixel", max(row["brightest"] for row in images), images[0]["unit"], "of all images"),
            ("Photons", sum(row["photons"] for row in images), "", "of all images"),
            ("Spots", sum(row["spots"] or 0 for row in images), "", "predicted"),
            ("Overloads", sum(row["overloads"] for row in images), "", "pixels beyond the trusted range"),
            ("Steps", scene.steps, "", "samples averaged in a pixel"),
            ("Fluence", float(shot.settings.beam.fluence), "photons/m²", ""),
            ("Time", summary["seconds"], "s", summary["engine"]),
        ]
    )
    page.warnings(summary["warnings"])
    for title, png, caption in pictures.values():
        page.figure(title, png, caption)
    columns = ("image", "slow x fast", "brightest", "at slow", "at fast", "mean", "photons", "overloads", "spots")
    rows = [
        (
            row["name"],
            " x ".join(map(str, row["shape"])),
            row["brightest"],
            *row["brightest_at_px"],
            row["mean"],
            row["photons"],
            row["overloads"],
            row["spots"],
        )
        for row in images[:MOST_ROWS]
    ]
    page.table("Images", columns, rows, f"Brightest and mean in {images[0]['unit']}.")
    page.table("Files", ("file",), [(Path(name).name,) for name in summary["files"][:MOST_ROWS]])
    if summary["notes"]:
        page.text("Notes", summary["notes"][:MOST_ROWS])
    page.table("Geometry", ("quantity", "x or slow", "y or fast", "z"), _geometry(scene), "Laboratory frame, metres.")
    page.code("The job", text)
    page.code("The command that repeats it", "exactgrad diffraction simulate job.toml --out DIR")
    page.summary(summary)
    return page.html()


def _geometry(scene: Any) -> list[tuple[Any, ...]]:
    detector, crystal = scene.detector, scene.crystal
    centre = np.flip(detector.direct_beam_m()) / detector.pixel_m
    vectors = [
        ("beam", detector.beam),
        ("fast axis", detector.fast),
        ("slow axis", detector.slow),
        ("detector normal", detector.normal),
        ("first pixel's outer corner", detector.origin),
        ("spindle", crystal.spindle),
        *((f"lattice {name}", row) for name, row in zip("abc", crystal.lattice, strict=True)),
    ]
    return [*((name, *map(float, vector)) for name, vector in vectors), ("direct beam (px)", *map(float, centre), None)]

"""What a refinement shows: its figures and its report page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from exactgrad.diffraction.refinement import figures as draw
from exactgrad.diffraction.refinement.shown import Shown
from exactgrad.report.page import Page
from exactgrad.report.style import png_bytes

Pictures = dict[str, tuple[str, bytes, str]]


def figures(shown: Shown, names: Sequence[str]) -> Pictures:
    """Return the figures of a refinement: file name to (title, PNG bytes, caption)."""
    first, shape = shown.compared[0], shown.regions[0].owner.shape
    of = f" of {names[0]}" if len(names) > 1 else ""
    made = {
        "figure_fit": (
            f"Recorded, model, residual{of}",
            draw.fit_plot(first, shown.z[0], shape),
            "Photons in the compared regions on one logarithmic scale; the residual is (recorded - model)/sigma.",
        ),
        **_panels(shown),
        "figure_spots": (
            "The brightest spots",
            draw.spots_plot(shown.compared, shown.z, shown.regions),
            "Recorded, model and residual of the regions with the most light, of all images.",
        ),
        "figure_convergence": (
            "Convergence",
            draw.convergence_plot(shown.histories),
            "Loss above the least of each stage, per pixel; a stage begins where the one before ended, in new regions.",
        ),
        "figure_residuals": (
            "Residuals",
            draw.residuals_plot(np.concatenate(shown.z)),
            "Of all compared pixels, beside the normal law that they follow where photons are many.",
        ),
    }
    if len(shown.labels) > 1:
        made["figure_correlations"] = (
            "Correlations",
            draw.correlations_plot(shown.correlation, shown.labels),
            "Between the refined parameters, from the curvature at the optimum.",
        )
    return {name: (title, png_bytes(fig), caption) for name, (title, fig, caption) in made.items()}


def _panels(shown: Shown) -> dict[str, tuple[str, Any, str]]:
    """Return the figure of an image's panels, if the first image has several."""
    panels = [place for place, shot in enumerate(shown.shots) if shot == shown.shots[0]]
    if len(panels) < 2:
        return {}
    several = len(set(shown.shots)) > 1
    caption = "Where they are, seen from the crystal along the beam; each as in the figure before."
    title = f"All {len(panels)} panels{' of the first image' if several else ''}"
    return {"figure_panels": (title, draw.panels_plot(shown, panels), caption)}


def report_html(summary: dict[str, Any], text: str, pictures: Pictures) -> str:
    """Return the self-contained report page of a refinement."""
    page = Page("Diffraction refinement", f"{summary['headline']}; {summary['message']}")
    page.numbers(
        [
            ("Parameters", sum(not row["follows"] for row in summary["parameters"]), "", "refined"),
            ("Chi²", round(summary["chi2"], 4), "", "per compared pixel; 1 if the model is right"),
            ("Pixels", summary["pixels"], "", f"in regions of {len(summary['images'])} images"),
            ("Iterations", summary["iterations"], "", f"{summary['evaluations']} evaluations"),
            ("Time", summary["seconds"], "s", summary["engine"]),
        ]
    )
    page.warnings(summary["warnings"])
    columns = ("parameter", "value", "esd", "unit", "start", "(value - start)/esd", "follows")
    rows = [
        (
            row["name"],
            row["value"],
            row["esd"],
            row["unit"],
            row["start"],
            (row["value"] - row["start"]) / row["esd"] if row["esd"] else None,
            row["follows"],
        )
        for row in summary["parameters"]
    ]
    note = "Standard errors from the curvature of the likelihood at the optimum, the background's freedom included."
    page.table("Parameters", columns, rows, note)
    if summary["correlations"]:
        page.text("Strong correlations", summary["correlations"])
    for title, png, caption in pictures.values():
        page.figure(title, png, caption)
    keys = ("name", "regions", "pixels", "photons", "chi2")
    images = [tuple(row[key] for key in keys) for row in summary["images"]]
    page.table("Images", ("image", "regions", "pixels", "photons", "chi²"), images)
    if summary["spots_found"] is not None:
        line = (
            f"{summary['spots_found']} spots were found, {summary['spots_indexed']} indexed; after refinement from "
            f"positions they lay {summary['spots_rms_px']:.2f} pixels from where they were expected."
        )
        page.text("The beginning", [line])
    page.code("The job", text)
    page.code("The command that repeats it", "exactgrad diffraction refine job.toml --out DIR")
    page.summary(summary)
    return page.html()

"""The embedded example: a phantom is measured in the simulator, reconstructed, and shown beside its truth."""

from __future__ import annotations

import json
import tomllib
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from exactgrad.files import write_atomic
from exactgrad.tomography.reconstruct import reconstruct

DATA, PICTURE = "data.h5", "beside_truth.png"


def run(folder: Path) -> dict[str, Any]:
    """Simulate and reconstruct the embedded jobs in `folder`; return the summary, with the errors against the truth."""
    from exactgrad.core.run_folder import SUMMARY, write_report
    from exactgrad.tomography.compare import compare
    from exactgrad.tomography.redraw import redraw
    from exactgrad.tomography.simulate import simulate

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    package = files("exactgrad.tomography")
    simulate(tomllib.loads(package.joinpath("demo.toml").read_text(encoding="utf-8")), folder / DATA)
    with as_file(package / "demo_reconstruct.toml") as job:
        summary = reconstruct(folder / DATA, folder, job)
    if summary["status"] != "converged":
        return summary
    errors = compare(folder, folder / DATA)
    keys = ("axis_error_median_deg", "axis_error_p95_deg", "wrong_sign_fraction", "relative_error_A")
    summary |= {key: errors[key] for key in keys}
    summary["headline"] = (
        f"axis to {errors['axis_error_median_deg']:.2f} degrees (median, against the truth), "
        f"wrong sign of B in {100 * errors['wrong_sign_fraction']:.1f} % of {summary['voxels']} voxels"
    )
    write_atomic(folder / PICTURE, picture(folder), overwrite=True)
    write_atomic(folder / SUMMARY, json.dumps(summary, indent=1), overwrite=True)
    write_report(folder, *redraw(folder))  # which tells of the errors, too
    return summary | {"picture": PICTURE}


def picture(folder: Path) -> bytes:
    """Return the reconstruction beside its truth, as PNG."""
    from exactgrad.report.style import png_bytes
    from exactgrad.tomography import derived, figures
    from exactgrad.tomography.formats import result

    volumes = (result.read(folder), result.read_truth(folder / DATA))
    shown = [(v.axis, derived.mean_intensity(v.A, v.B) * v.mask, v.B, v.mask) for v in volumes]
    return png_bytes(figures.beside_truth(*shown))

"""How exact the diffraction gradients are: every parameter, on random configurations, against complex steps.

    python benchmarks/gradients.py [configurations] [seed]

Each configuration draws its shape, metric, convention, tilts, pivot, sources, mosaicity, sensor, sampling, structure
factors and physics (ours or the C program's). A row is one parameter: how many configurations have it, and the worst
error of its derivative image (forward mode, relative to the image's largest pixel) and of a loss's gradient (reverse
mode, relative to the sum of the loss's terms). The reference is written anew from the stated numbers, in complex
numbers whose step is 1e-30: its own error is rounding. The target is 1e-8.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict

import numpy as np

from exactgrad.diffraction import derivative
from exactgrad.diffraction.configurations import Configuration, drawn
from exactgrad.diffraction.numbers import tangents_of
from exactgrad.diffraction.parameters.table import find
from exactgrad.diffraction.reference import Reference
from exactgrad.diffraction.verification import smallest
from exactgrad.report.console import say, table

TARGET = 1e-8


def errors(one: Configuration) -> dict[str, tuple[float, float]]:
    """Return the error of the derivative image and of a loss's gradient by every parameter of a configuration."""
    settings, pixels = one.settings.smooth(), one.pixels
    scene, reference = settings.scene(), Reference(settings, *pixels)
    movements = [settings.movement_along(name, along) for name, along in one.parameters.items()]
    photons, changes = derivative.push(scene, movements)
    weight = 1 / (1 + photons) * np.sin(1 + np.arange(photons.size)).reshape(photons.shape)
    gradients = derivative.pull(scene, weight, with_table=True)[1].along(tangents_of(scene, movements))
    found = {}
    for (name, along), change, gradient in zip(one.parameters.items(), changes, gradients, strict=True):
        wanted, least = reference.derivative(name, along), smallest(settings, name, photons)
        forward = np.abs(change[pixels] - wanted).max() / max(np.abs(wanted).max(), least)
        terms = weight[pixels] * wanted
        reverse = abs(gradient - terms.sum()) / max(np.abs(terms).sum(), least * np.abs(weight).max())
        found[find(name).entry.name] = float(forward), float(reverse)
    return found


def main(configurations: int = 200, seed: int = 0) -> int:
    """Print the table; return 1 if the target is missed."""
    began, worst = time.perf_counter(), defaultdict(list)
    for index in range(configurations):
        for name, pair in errors(drawn(seed, index)).items():
            worst[name].append((*pair, index))
    rows = []
    for name, found in worst.items():
        forward, reverse = (max(found, key=lambda row: row[place]) for place in (0, 1))
        rows.append((name, len(found), f"{forward[0]:.1e}", f"{reverse[1]:.1e}", reverse[2]))
    columns = ("parameter", "configurations", "image, forward", "loss, reverse", "worst in")
    table(f"gradients: {configurations} random configurations, seed {seed}", columns, rows)
    largest = max(max(row[0], row[1]) for found in worst.values() for row in found)
    seconds = time.perf_counter() - began
    say(f"{len(rows)} parameters; largest error {largest:.1e}, target {TARGET:g}; {seconds:.0f} s")
    return int(not largest <= TARGET)


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in sys.argv[1:3])))

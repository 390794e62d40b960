"""How fast images of crystals are, beside the C program: every ratio from one run, repeats interleaved.

    python benchmarks/diffraction.py [--nanobragg PATH]

Times are wall clock, the least of some rounds; "ns" is nanoseconds per pixel and step (sub-pixels x sources x spindle
angles x mosaic domains), for the whole image from a `Scene`. The C program is given the same words on one thread; what
it takes for a single pixel (start-up, reading, writing) is taken off, and its image is compared with ours.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from exactgrad.diffraction import model, render
from exactgrad.diffraction.options import parse
from exactgrad.diffraction.scene import Scene
from exactgrad.kernels.threads import available_threads
from exactgrad.report.console import say, table

ROUNDS = 5
COMMON = "-cell 70 80 90 90 90 90 -N 10 -lambda 1 -distance 100 -misset 10 20 30 -fluence 1e28 -nonoise -noprogress"
JOBS = {
    "512 x 512, 2 x 2 sub-pixels": "-default_F 100 -detpixels 512 -pixel 0.2 -oversample 2",
    "256 x 256, 10 domains x 5 phi": "-default_F 100 -detpixels 256 -pixel 0.4 -oversample 1 -mosaic 0.5 "
    "-mosaic_dom 10 -phi 1 -osc 1 -phisteps 5",
    "256 x 256, F table, 5 wavelengths x 10 domains": "-hkl list.hkl -detpixels 256 -pixel 0.4 -oversample 1 "
    "-mosaic 0.5 -mosaic_dom 10 -dispersion 1 -dispsteps 5",
    "the same, round crystal": "-hkl list.hkl -detpixels 256 -pixel 0.4 -oversample 1 -mosaic 0.5 -mosaic_dom 10 "
    "-dispersion 1 -dispsteps 5 -round_xtal",
    "the same, Gaussian spots": "-hkl list.hkl -detpixels 256 -pixel 0.4 -oversample 1 -mosaic 0.5 -mosaic_dom 10 "
    "-dispersion 1 -dispsteps 5 -gauss_xtal",
}


def write_list(path: Path) -> None:
    """Write 132 651 reflections of random F."""
    indices = np.stack(np.meshgrid(*[np.arange(-25, 26)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    f = np.random.default_rng(0).uniform(10, 200, len(indices))
    np.savetxt(path, np.column_stack([indices, f]), fmt="%d %d %d %.3f")


def run_c(program: str, words: str, folder: Path) -> None:
    """Run the C program on one thread; its image is then in float.bin."""
    argv = [program, *words.split(), "-floatfile", "float.bin", "-intfile", "int.img"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(argv, cwd=folder, env=environment, check=True, capture_output=True)


def seconds(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Call each in turn, round after round; return the least time of each."""
    best = dict.fromkeys(calls, np.inf)
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def contenders(scene: Scene, program: str | None, words: str, folder: Path) -> dict[str, Callable[[], object]]:
    """What takes part in a race."""
    calls: dict[str, Callable[[], object]] = {
        "kernel, 1 thread": lambda: render.image(scene, 1),
        "kernel, 2 threads": lambda: render.image(scene, 2),
        "model": lambda: model.image(scene),
    }
    if program:
        calls["C, one pixel"] = lambda: run_c(program, f"{words} -roi 0 0 0 0", folder)
        calls["C, 1 thread"] = lambda: run_c(program, words, folder)
    return calls


def race(name: str, words: str, program: str | None, folder: Path) -> list[tuple[str, ...]]:
    """Return the rows of a job."""
    scene, _ = parse(words.split(), folder, c_compat=True)
    times = seconds(contenders(scene, program, words, folder))
    if program:
        times["C, 1 thread"] -= times.pop("C, one pixel")
    images = {"kernel, 1 thread": render.image(scene, 1), "model": model.image(scene)}
    images["kernel, 2 threads"] = render.image(scene, 2)
    if program:
        images["C, 1 thread"] = np.fromfile(folder / "float.bin", dtype="<f4").reshape(scene.detector.shape)
    ours, per_step = images["kernel, 1 thread"], 1e9 / (scene.detector.rendered()[0].size * scene.steps)
    rows = []
    for contender, took in times.items():
        off = np.abs(images[contender] - ours).max() / ours.max()
        ratio = took / times["kernel, 1 thread"]
        rows.append((name, contender, f"{took * per_step:.1f}", f"{ratio:.2f}", f"{off:.0e}"))
    return rows


def main() -> None:
    """Race every job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nanobragg", metavar="PATH", help="the C program's binary, to race against")
    program = parser.parse_args().nanobragg
    say(f"{available_threads()} processors")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_list(folder / "list.hkl")
        rows = [row for job, words in JOBS.items() for row in race(job, f"{COMMON} {words}", program, folder)]
    table("Images", ("job", "by", "ns per pixel-step", "times kernel's", "differs by (of max)"), rows)


if __name__ == "__main__":
    main()

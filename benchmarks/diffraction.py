"""How fast images of crystals and their derivatives are, beside the C program and its PyTorch port, in one run.

    python benchmarks/diffraction.py [--nanobragg PATH] [--torch-port FOLDER] [--memory]

Times are wall clock, the least of some interleaved rounds; "ns" is nanoseconds per pixel and step (sub-pixels x sources
x spindle angles x mosaic domains), for the whole image from a `Scene`. "image and derivatives" is one pass with the
loss's derivative by the image at hand: the image, and the loss's derivative by every number of the scene. The C program
is given the same words on one thread; what it takes for a single pixel (start-up, reading, writing) is taken off, and
its image is compared with ours. The port (FOLDER holds the package nanobrag_torch) runs on one thread in float64
without compilation, its backward pass to the cell's edges alone; beside it ours to the nine numbers of every lattice
and F, of which the edges, the orientation and the mosaicity follow, and to all numbers. --memory measures what a large
image with its derivatives takes beyond a small one.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from exactgrad.diffraction import derivative, render
from exactgrad.diffraction.options import parse
from exactgrad.diffraction.scene import Scene
from exactgrad.kernels.threads import available_threads
from exactgrad.report.console import say, table

ROUNDS = 15
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


def seconds(calls: dict[str, Callable[[], object]], clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Call each twice in turn, round after round; return the least time of each.

    The second call comes to caches and to a second processor that the one before it, another program's, left cold.
    """
    best = dict.fromkeys(calls, np.inf)
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            for _ in range(2):
                start = clock()
                call()
                best[name] = min(best[name], clock() - start)
    return best


def contenders(scene: Scene, program: str | None, words: str, folder: Path) -> dict[str, Callable[[], object]]:
    """What takes part in a race."""
    weight = np.ones(scene.detector.shape)
    calls: dict[str, Callable[[], object]] = {
        "image, 1 thread": lambda: render.image(scene, 1),
        "image, 2 threads": lambda: render.image(scene, 2),
        "image and derivatives, 1 thread": lambda: derivative.pull(scene, weight, 1)[0],
        "image and derivatives, 2 threads": lambda: derivative.pull(scene, weight, 2)[0],
    }
    if program:
        calls["C, one pixel"] = lambda: run_c(program, f"{words} -roi 0 0 0 0", folder)
        calls["C, 1 thread"] = lambda: run_c(program, words, folder)
    return calls


def race(name: str, words: str, program: str | None, folder: Path) -> list[tuple[str, ...]]:
    """Return the rows of a job."""
    scene, _ = parse(words.split(), folder, c_compat=True)
    calls = contenders(scene, program, words, folder)
    times = seconds(calls)
    if program:
        times["C, 1 thread"] -= times.pop("C, one pixel")
    reference, per_step = render.image(scene, 1), 1e9 / (scene.detector.rendered()[0].size * scene.steps)
    rows = []
    for contender, took in times.items():
        image = calls[contender]()
        if contender.startswith("C"):
            image = np.fromfile(folder / "float.bin", dtype="<f4").reshape(scene.detector.shape)
        off = np.abs(np.asarray(image) - reference).max() / reference.max()
        ratio = f"{times['C, 1 thread'] / took:.1f}" if program else "C was not run"
        rows.append((name, contender, f"{took * per_step:.1f}", ratio, f"{off:.0e}"))
    return rows


PORT_JOBS = {
    "512 x 512, 2 x 2 sub-pixels": ({}, {"spixels": 512, "fpixels": 512, "pixel_size_mm": 0.2, "oversample": 2}),
    "256 x 256, 10 domains x 5 phi": (
        {
            "mosaic_spread_deg": 0.5,
            "mosaic_domains": 10,
            "phi_start_deg": 1.0,
            "osc_range_deg": 1.0,
            "phi_steps": 5,
        },
        {"spixels": 256, "fpixels": 256, "pixel_size_mm": 0.4, "oversample": 1},
    ),
    "256 x 256, F table, 5 wavelengths x 10 domains": (
        {"mosaic_spread_deg": 0.5, "mosaic_domains": 10},
        {"spixels": 256, "fpixels": 256, "pixel_size_mm": 0.4, "oversample": 1},
    ),
}


def race_port(package: str, folder: Path) -> list[tuple[str, ...]]:
    """Return the rows of the PyTorch port's forward and backward pass, and ours of the same job, in CPU time."""
    rows = []
    for name in PORT_JOBS:
        scene, _ = parse(f"{COMMON} {JOBS[name]}".split(), folder, c_compat=True)
        weight = np.ones(scene.detector.shape)
        calls: dict[str, Callable[[], object]] = {
            "port, edges": port_call(package, name, scene, folder),
            "ours, lattices": lambda s=scene, w=weight: derivative.pull(s, w, 1, with_rays=False, with_extent=False),
            "ours, all": lambda s=scene, w=weight: derivative.pull(s, w, 1),
        }
        times, per_step = seconds(calls, clock=time.process_time), 1e9 / (weight.size * scene.steps)
        ours = (times["ours, lattices"], times["ours, all"])
        numbers = [f"{took * per_step:.1f}" for took in ours] + [f"{times['port, edges'] / took:.1f}" for took in ours]
        image = render.image(scene, 1)
        off = np.abs(np.asarray(calls["port, edges"]()) - image).max() / image.max()
        rows.append((name, f"{times['port, edges'] * per_step:.0f}", *numbers, f"{off:.0e}"))
    return rows


def port_call(package: str, name: str, scene: Scene, folder: Path) -> Callable[[], np.ndarray]:
    """Return what makes the port's image of a job, goes back to the edges of the cell, and returns it."""
    os.environ["NANOBRAGG_DISABLE_COMPILE"] = "1"
    sys.path.insert(0, package)
    import torch
    from nanobrag_torch.config import BeamConfig, CrystalConfig, DetectorConfig
    from nanobrag_torch.models.crystal import Crystal
    from nanobrag_torch.models.detector import Detector
    from nanobrag_torch.simulator import Simulator

    torch.set_num_threads(1)
    kind, (of_crystal, of_detector), sources = torch.float64, PORT_JOBS[name], {}
    edges = [torch.tensor(edge, dtype=kind, requires_grad=True) for edge in (70.0, 80.0, 90.0)]
    cell = dict(zip(("cell_a", "cell_b", "cell_c"), edges, strict=True))
    same = {"misset_deg": (10.0, 20.0, 30.0), "N_cells": (10, 10, 10), "default_F": 100.0}
    crystal = CrystalConfig(**cell, **same, **of_crystal)
    if scene.beam.sources > 1:
        sources["source_directions"] = torch.tensor(-scene.beam.directions)
        sources["source_wavelengths"] = torch.tensor(scene.beam.wavelengths_m)
    beam = BeamConfig(wavelength_A=1.0, fluence=1e28, **sources)

    def port() -> np.ndarray:
        with contextlib.redirect_stdout(io.StringIO()):
            detector = Detector(DetectorConfig(distance_mm=100.0, **of_detector), dtype=kind)
            model = Crystal(crystal, beam_config=beam, dtype=kind)
            model.hkl_data, model.hkl_metadata = listed
            image = Simulator(model, detector, crystal, beam, dtype=kind).run()
            image.sum().backward()
        return image.detach().numpy()

    listed = (None, None)
    if "-hkl" in JOBS[name]:
        reader = Crystal(crystal, beam_config=beam, dtype=kind)
        with contextlib.redirect_stdout(io.StringIO()):
            reader.load_hkl(str(folder / "list.hkl"), write_cache=False)
        listed = reader.hkl_data, reader.hkl_metadata
    return port


LARGE = "-mosaic 0.5 -mosaic_dom 100 -phi 1 -osc 1 -phisteps 10 -default_F 100 -oversample 1"
PEAK = """
import resource, sys
import numpy as np
from exactgrad.diffraction import Simulator
sim = Simulator.from_nanobragg(sys.argv[1])
names = ["cell_a", "cell_b", "cell_c", "misset_x", "misset_y", "misset_z", "mosaic", "lambda", "distance", "N", "phi"]
image, pullback = sim.image_and_pullback(names)
pullback(np.ones(image.shape))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def memory_rows() -> list[tuple[str, ...]]:
    """Return the peak memory of a process that makes an image with 100 domains x 10 phi and its derivatives."""
    rows = []
    for pixels in (16, 1024):
        words = f"{COMMON} {LARGE} -detpixels {pixels} -pixel {102.4 / pixels}".replace("-nonoise -noprogress", "")
        done = subprocess.run([sys.executable, "-c", PEAK, words], check=True, capture_output=True, text=True)
        rows.append((f"{pixels} x {pixels}", f"{float(done.stdout):.0f}"))
    return rows


def main() -> None:
    """Race every job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nanobragg", metavar="PATH", help="the C program's binary, to race against")
    parser.add_argument("--torch-port", metavar="FOLDER", help="the folder of the PyTorch port's package")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too (about a minute)")
    asked = parser.parse_args()
    say(f"{available_threads()} processors")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_list(folder / "list.hkl")
        rows = [row for job, words in JOBS.items() for row in race(job, f"{COMMON} {words}", asked.nanobragg, folder)]
        table("Images", ("job", "by", "ns per pixel-step", "times faster than C", "differs by (of max)"), rows)
        if asked.torch_port:
            columns = (
                "job",
                "port, ns",
                "ours by the lattices, ns",
                "by all, ns",
                "times faster",
                "by all",
                "differs by (of max)",
            )
            table("Image and derivatives, float64", columns, race_port(asked.torch_port, folder))
    if asked.memory:
        table("100 domains x 10 phi, with derivatives", ("pixels", "peak MB"), memory_rows())


if __name__ == "__main__":
    main()

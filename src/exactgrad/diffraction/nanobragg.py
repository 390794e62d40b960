"""The `nanobragg` command: the C program's options in, the C program's files out.

Correct physics by default; ``--c-compat`` computes the C program's image (see `scene.Scene`) and takes its silence:
what it ignores is then a warning instead of an error. Like the C program it overwrites its output files.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from exactgrad import __version__
from exactgrad.errors import InputError, explain
from exactgrad.report import console

USAGE = """usage: nanobragg -cell a b c alpha beta gamma -N n -default_F F [options]
Simulates the X-ray image of a mosaic nanocrystal. The options are those of the C program nanoBragg; also:
  --c-compat    the C program's image, its approximations included; ignored options become warnings
  -threads N    most threads; the image does not depend on it
  -version      print the version"""
MOST_SEED = 2**31 - 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, or 2 for bad input, told in one line."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "-help", "--help"):
        console.say(USAGE)
        return 0 if words else 2
    if words[0] in ("-version", "--version"):
        console.say(f"nanobragg (exactgrad {__version__})")
        return 0
    try:
        simulate(words)
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        console.print_error(told[1])
        return told[0]
    return 0


def simulate(words: Sequence[str], folder: Path = Path()) -> np.ndarray:
    """Compute the image of a command line and write its files below `folder`; return the image, photons, (slow, fast).

    Parameters
    ----------
    words : sequence of str
        As a shell gives them.
    folder : Path
        What relative file names are relative to.

    Raises
    ------
    InputError
        If an option or an input file is wrong, or a file cannot be written.
    """
    from exactgrad.diffraction import options
    from exactgrad.diffraction.formats import fdump, nanobragg, pgm, raw_float, smv
    from exactgrad.diffraction.render import engine_of, image

    words, threads = _threads(words)
    scene, outputs = options.parse(words, folder)
    for warning in outputs.warnings:
        console.warn(warning)
    began = time.perf_counter()
    photons = image(scene, threads)
    seconds = time.perf_counter() - began
    pixels = np.asarray(photons, dtype=np.float32)  # what the C program holds, and makes its other files from
    console.say(f"{pixels.shape[1]} x {pixels.shape[0]} pixels, engine: {engine_of(scene)}, {seconds:.2f} s")
    console.say(f"max_I = {pixels.max():g}, mean = {pixels.mean(dtype=float):g} photons per pixel")

    region = scene.detector.roi
    raw_float.write(outputs.float_path, pixels, overwrite=True)
    header = nanobragg.smv_header(**outputs.header)
    counts, scale = nanobragg.integer_image(pixels, outputs.int_scale, outputs.adc_offset_adu, region)
    smv.write(outputs.int_path, counts, header, c_layout=True, overwrite=True)
    console.say(f"{outputs.float_path}, {outputs.int_path} (scale {scale:g})")
    if outputs.pgm_path is not None:
        preview, scale = nanobragg.preview_image(pixels, outputs.pgm_scale, region)
        pgm.write(outputs.pgm_path, preview, nanobragg.preview_comment(scale), overwrite=True)
        console.say(f"{outputs.pgm_path} (scale {scale:g})")
    if outputs.noise_path is not None:
        seed = outputs.seed if outputs.seed is not None else int(time.time()) % MOST_SEED
        noise = nanobragg.noise_image(pixels, seed, outputs.adc_offset_adu, region)
        smv.write(outputs.noise_path, noise.counts, header, c_layout=True, overwrite=True)
        console.say(f"{outputs.noise_path} (seed {seed}, {noise.overloads} overloads)")
    if outputs.dump_path is not None:
        fdump.write(outputs.dump_path, scene.structure_factors, overwrite=True)
    return photons


def _threads(words: Sequence[str]) -> tuple[list[str], int | None]:
    """Take ``-threads N`` out of the words; the last one counts."""
    rest, threads = [], None
    place = 0
    while place < len(words):
        if words[place] == "-threads":
            text = words[place + 1] if place + 1 < len(words) else ""
            if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 4096):
                raise InputError(f"-threads {text[:20]}: a whole number from 1 to 4096 is needed")
            threads = int(text)
            place += 2
        else:
            rest.append(words[place])
            place += 1
    return rest, threads


if __name__ == "__main__":
    sys.exit(main())

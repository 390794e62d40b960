"""docs/reference/nanobragg.md: every option, from the program's own table; meanings are the job keys' where alike."""

from __future__ import annotations

from exactgrad.diffraction import option_table
from exactgrad.diffraction.job import TABLES
from exactgrad.diffraction.nanobragg import USAGE
from exactgrad.diffraction.option_table import Option
from generators.diffraction_job import meaning_of

HEAD = f"""\
# nanobragg

<!-- Written by docs/generate.py from src/exactgrad/diffraction/option_table.py: do not edit by hand. -->

The options are those of the C program nanoBragg, by all of their spellings; `*` stands for any ending, as there. The
physics is corrected unless `--c-compat` asks for the C program's image. An option that would have no effect, or that
contradicts another, is an error; with `--c-compat` it is a warning. Output files are overwritten, as the C program
does. Exit codes: 0, or 2 for bad input, told in one line.

```text
{USAGE}
```
"""
SECTIONS = (
    ("Crystal", option_table.CRYSTAL),
    ("Beam", option_table.BEAM),
    ("Detector", option_table.DETECTOR),
    ("Background, noise, output", option_table.OUTPUT),
)
MEANING = {  # what a job does not have, or says otherwise: unit, meaning
    "-hkl": ("file", "Amplitudes: h, k, l, F a line; also MTZ, mmCIF and, with `-dmin`, PDB."),
    "-dump": ("file", "The structure factors in the C program's binary form: written with `-hkl`, read without."),
    "-cell": ("Å, °", "a, b, c, α, β, γ; edges left out are like a, angles 90°."),
    "-mat": ("file", "MOSFLM matrix (nine numbers): cell and orientation."),
    "-misset": ("°", "Turns about the fixed x, y, z, in this order; or `random`."),
    "-N": ("1", "Unit cells along every edge; 1 if not given."),
    "-square_xtal": ("", "A parallelepiped, the default."),
    "-round_xtal": ("", "A ball."),
    "-gauss_xtal": ("", "A Gaussian."),
    "-binary_spots": ("", "Spots are lit fully or not at all."),
    "-interpolate": ("", "Structure factors between lattice points by cubic interpolation."),
    "-nointerpolate": ("", "Those of the nearest lattice point."),
    "-density": ("", ""),
    "-MW": ("", ""),
    "-round_div*": ("", "Leave out the corners of the grid of rays, the default."),
    "-square_div*": ("", "Keep them."),
    "-lambda": ("Å", "Wavelength; 1 if not given."),
    "-coherent": ("", ""),
    "-mosflm": ("", "MOSFLM's axes and beam centre, the default."),
    "-xds": ("", "XDS's axes; the sample is the pivot."),
    "-adxv": ("", "ADXV's beam centre."),
    "-denzo": ("", "DENZO's beam centre."),
    "-dials": ("", "DIALS's axes; the sample is the pivot."),
    "-detpixels": ("1", "Pixels along both sides."),
    "-pivot": ("", "`sample` or `beam`: what stays in place when the detector turns."),
    "-oversample_thick": ("", "With `--c-compat`: absorption of every layer and sub-pixel, not of the pixel."),
    "-oversample_polar": ("", "With `--c-compat`: polarization of every sub-pixel and source."),
    "-oversample_omega": ("", "With `--c-compat`: solid angle of every sub-pixel."),
    "-mask": ("file", "SMV image; pixels that are 0 in it stay 0, and its header says what no option does."),
    "-img": ("file", "SMV image whose header says what no option does."),
    "-stol": ("file", ""),
    "-4stol": ("file", ""),
    "-Q": ("file", ""),
    "-stolout*": ("file", ""),
    "-seed": ("", "Of the noise; drawn and told if not given."),
    "-floatfile": ("file", "Photons as raw float32; `floatimage.bin` if not given."),
    "-intfile": ("file", "Scaled photons as SMV; `intimage.img` if not given."),
    "-noisefile": ("file", "With counting noise, as SMV; `noiseimage.img` if not given."),
    "-nonoise": ("", "Write no image with noise."),
    "-pgmfile": ("file", "A preview; `image.pgm` if not given."),
    "-nopgm": ("", "Write no preview."),
    "-pgmscale": ("1", "Of the preview; chosen if not given."),
    "-scale": ("1", "Of the integer image; chosen if not given."),
    "-adc*": ("ADU", "Added to every pixel of integer images; 40 if not given."),
    "-printout": ("", "The C program prints every pixel; here it has no effect."),
    "-printout_pixel": ("px", "The same for one pixel, fast and slow; no effect here."),
    "-progress": ("", "No effect here."),
    "-noprogress": ("", "No effect here."),
    "--c-compat": ("", "The C program's image, its approximations included; ignored options become warnings."),
}
TAKES = {0: "", 1: "one", 2: "two", 3: "three", 4: "four", 6: "up to six"}


def page() -> str:
    """Return the page."""
    parts, used = [HEAD], set()
    for title, options in SECTIONS:
        rows = ["| option | takes | unit | meaning |", "|---|---|---|---|"]
        for option in options:
            used.add(option.names[0])
            rows.append(_row(option))
        parts.append(f"## {title}\n\n" + "\n".join(rows) + "\n")
    if not set(MEANING) <= used:
        raise SystemExit(f"docs/generators: no such options: {', '.join(sorted(set(MEANING) - used))}")
    return "\n".join(parts)


def _row(option: Option) -> str:
    unit, text = _meaning(option)
    if option.unused:
        text = f"No effect: {option.unused}."
    names = ", ".join(f"`{name}`" for name in option.names)
    takes = TAKES[option.count]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in (names, takes, unit, text)) + " |"


def _meaning(option: Option) -> tuple[str, str]:
    first = option.names[0]
    if first in MEANING:
        return MEANING[first]
    for model in TABLES.values():
        for key in model.key_names():
            if option_table.find(f"-{key}") is option:
                unit, text = meaning_of(key)
                return ("file" if option.read is str else unit), text
    raise SystemExit(f"docs/generators: no meaning for {first}")
